//! `docs/metrics.md` names what the programs register, neither more nor less. The sources are read: what a program prints depends on what
//! it has counted so far.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::Path;

/// Type and labels by name.
type Metrics = BTreeMap<String, (String, Vec<String>)>;

/// What registers a metric, in the files that do, and its type.
const REGISTERS: [(&str, &str); 6] = [
    ("histogram", "histogram"),
    ("counter", "counter"),
    ("plain_counter", "counter"),
    ("gauge", "gauge"),
    ("real_gauge", "gauge"),
    ("plain_gauge", "gauge"),
];

/// What declares a metric that is read from PostgreSQL, and its type.
const KINDS: [(&str, &str); 3] = [("counter", "counter"), ("gauge", "gauge"), ("largest", "gauge")];

fn text_of(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    std::fs::read_to_string(root.join(path)).unwrap()
}

/// The values between pairs of a mark: `"a", "b"`.
fn between(text: &str, mark: char) -> Vec<String> {
    text.split(mark).skip(1).step_by(2).map(str::to_owned).collect()
}

/// `pub const NAME: &str = "name";` and `kind(names::NAME, "Help.", &["label"])`.
fn registered(source: &str) -> Metrics {
    let constants = source.lines().filter_map(|line| line.trim().strip_prefix("pub const ")?.split_once(": &str = "));
    let mut names: BTreeMap<&str, String> =
        constants.map(|(key, value)| (key, between(value, '"').remove(0))).collect();
    let mut found = Metrics::new();
    for (kind, type_) in REGISTERS {
        let begins = format!(" {kind}(");
        for call in source.split(&begins).skip(1).filter_map(|rest| rest.trim_start().strip_prefix("names::")) {
            let (key, rest) = call.split_once(',').unwrap();
            let labels = rest.split(')').next().unwrap().split_once("&[").map_or("", |(_, labels)| labels);
            let name = names.remove(key).unwrap_or_else(|| panic!("{key} is no constant, or registered twice"));
            found.insert(name, (type_.to_owned(), between(labels, '"')));
        }
    }
    assert!(names.is_empty(), "named and not registered, or not by one of {REGISTERS:?}: {names:?}");
    found
}

/// `pub(crate) const NAME: PgMetric = kind("name", "Help.", &["label"]);`
fn read_from_postgresql(source: &str) -> Metrics {
    let mut found = Metrics::new();
    for declared in source.split(": PgMetric =").skip(1) {
        let (kind, call) = declared.split_once('(').unwrap();
        let (_, type_) = KINDS.iter().find(|(known, _)| *known == kind.trim()).unwrap_or_else(|| panic!("{kind}"));
        let (name_and_help, labels) = call.split_once("&[").unwrap();
        let name = between(name_and_help, '"').remove(0);
        let labels = between(labels.split(']').next().unwrap(), '"');
        assert!(found.insert(name.clone(), ((*type_).to_owned(), labels)).is_none(), "{name} is there twice");
    }
    found
}

/// The rows under a heading: `| name | type | labels | …`.
fn documented(page: &str, heading: &str) -> Metrics {
    let section = page.split("\n## ").find(|section| section.lines().next() == Some(heading)).unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| `")).map(|line| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        assert!(cells.len() == 7 && !cells[5].is_empty(), "five cells, the last with a meaning: {line}");
        (between(cells[1], '`').remove(0), (cells[2].to_owned(), between(cells[3], '`')))
    });
    let rows: Vec<_> = rows.collect();
    let found: Metrics = rows.iter().cloned().collect();
    assert_eq!(found.len(), rows.len(), "a metric is there twice under {heading}");
    found
}

#[test]
fn the_page_names_what_is_registered() {
    let page = text_of("docs/metrics.md");
    for (heading, source) in
        [("Coordinator", "coordinator/src/telemetry.rs"), ("Agent", "worker-agent/src/telemetry.rs")]
    {
        let (known, told) = (registered(&text_of(source)), documented(&page, heading));
        assert!(!known.is_empty(), "{source} registers nothing: the test would hold for nothing");
        assert_eq!(told, known, "docs/metrics.md and {source}");
    }
    let known = read_from_postgresql(&text_of("worker-agent/src/telemetry.rs"));
    assert!(!known.is_empty(), "nothing is read from PostgreSQL: the test would hold for nothing");
    assert_eq!(documented(&page, "PostgreSQL"), known, "docs/metrics.md and what agents read from PostgreSQL");
}

/// What this test cannot see would not be documented.
#[test]
fn metrics_are_registered_in_one_file_of_each_program() {
    let mut found = Vec::new();
    let mut folders = vec!["coordinator/src".to_owned(), "worker-agent/src".to_owned()];
    while let Some(folder) = folders.pop() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        for entry in std::fs::read_dir(root.join(&folder)).unwrap().flatten() {
            let path = format!("{folder}/{}", entry.file_name().to_string_lossy());
            if entry.path().is_dir() {
                folders.push(path);
            } else if !path.ends_with("/telemetry.rs") && text_of(&path).contains("prometheus::") {
                found.push(path);
            }
        }
    }
    assert_eq!(found, Vec::<String>::new());
}
