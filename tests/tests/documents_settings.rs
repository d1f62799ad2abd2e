//! `docs/configuration.md` says of every setting what the programs' own types say: `config --schema` prints those. Between its marks the page is
//! made by this test, where `ATOLL_WRITE_DOCS` is set.

#![allow(clippy::unwrap_used)]

use cluster_tests::processes::program;
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};
use std::process::Command;

const WRITE: &str = "ATOLL_WRITE_DOCS";
const REGENERATE: &str =
    "cargo build -p atoll -p atoll-agent && ATOLL_WRITE_DOCS=1 cargo test -p cluster-tests --test documents_settings";

fn page() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("docs/configuration.md")
}

/// The programs must have been built: `cargo build --workspace`, as for all stories.
fn schema_of(name: &str) -> Value {
    let run = Command::new(program(name)).args(["config", "--schema"]).output().unwrap();
    assert!(run.status.success(), "{name} config --schema: {}", String::from_utf8_lossy(&run.stderr));
    serde_json::from_slice(&run.stdout).unwrap()
}

/// The settings of a section as rows, then those of the sections in it.
fn rows(schema: &Value, section: &Value, prefix: &str) -> String {
    let needed: Vec<&str> = section["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let mut rows = String::new();
    let mut sections = String::new();
    for (key, setting) in section["properties"].as_object().unwrap() {
        let path = format!("{prefix}{key}");
        let definition = reference_in(setting).map(|reference| definition(schema, reference));
        if let Some(inner) = definition.filter(|definition| definition.get("properties").is_some()) {
            sections.push_str(&self::rows(schema, inner, &format!("{path}.")));
            continue;
        }
        let meaning =
            setting["description"].as_str().unwrap_or_else(|| panic!("{path} has no comment")).replace('\n', " ");
        let type_ = match definition {
            // One of several words.
            Some(_) => "string".to_owned(),
            None => type_of(setting.as_object().unwrap()),
        };
        let default = match setting.get("default") {
            _ if needed.contains(&key.as_str()) => "needed".to_owned(),
            None | Some(Value::Null) => String::new(),
            Some(default) => format!("`{default}`"),
        };
        rows.push_str(&format!("| `{path}` | {type_} | {default} | {meaning} |\n"));
    }
    rows + &sections
}

/// The type that a setting names; one that may be left out names it among others.
fn reference_in(setting: &Value) -> Option<&Value> {
    let mut others = setting.get("anyOf").and_then(Value::as_array).into_iter().flatten();
    setting.get("$ref").or_else(|| others.find_map(|other| other.get("$ref")))
}

fn definition<'a>(schema: &'a Value, reference: &Value) -> &'a Value {
    let pointer = reference.as_str().and_then(|reference| reference.strip_prefix('#')).unwrap();
    schema.pointer(pointer).unwrap_or_else(|| panic!("{pointer} is not there"))
}

/// In TOML's own words.
fn type_of(setting: &Map<String, Value>) -> String {
    // Several with null among them: it may be left out.
    let types = setting["type"].as_array().cloned().unwrap_or_else(|| vec![setting["type"].clone()]);
    match types.iter().filter_map(Value::as_str).find(|type_| *type_ != "null").unwrap() {
        "array" => format!("array of {}s", type_of(setting["items"].as_object().unwrap())),
        "number" => "float".to_owned(),
        other => other.to_owned(),
    }
}

/// The page with its part between the marks of `name` made anew.
fn with_table(page: &str, name: &str, table: &str) -> String {
    let (begin, end) = (format!("<!-- {name} config --schema -->\n"), format!("<!-- {name}: end -->"));
    let (before, rest) = page.split_once(&begin).unwrap_or_else(|| panic!("{begin} is not there"));
    let (_, after) = rest.split_once(&end).unwrap_or_else(|| panic!("{end} is not there"));
    format!("{before}{begin}{table}{end}{after}")
}

#[test]
fn the_page_says_what_the_types_say() {
    let written = std::fs::read_to_string(page()).unwrap();
    let mut made = written.clone();
    for name in ["atoll", "atoll-agent"] {
        let schema = schema_of(name);
        let rows = rows(&schema, &schema, "");
        assert!(rows.lines().count() > 20, "{name} has hardly any settings: {rows}");
        made =
            with_table(&made, name, &format!("| key | type | default | meaning |\n| --- | --- | --- | --- |\n{rows}"));
    }
    if made != written && std::env::var_os(WRITE).is_some() {
        std::fs::write(page(), &made).unwrap();
        return;
    }
    let differs = made.lines().zip(written.lines()).find(|(made, written)| made != written);
    assert!(
        made == written,
        "docs/configuration.md is not what the code says: run\n  {REGENERATE}\nfirst: {differs:#?}"
    );
}
