//! The rules of the house that a machine can check: who may import whom, how long a file may be, what does not ship.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

const LINES_MAX: usize = 500;

struct Source {
    /// Path from the root of the workspace.
    path: String,
    /// The text before the first `#[cfg(test)]`, without comments.
    code: String,
    lines: usize,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().canonicalize().unwrap()
}

fn sources(under: &str) -> Vec<Source> {
    let mut found = Vec::new();
    collect(&root().join(under), &mut found);
    assert!(!found.is_empty(), "{under} holds no sources: the rules would hold for nothing");
    found
}

fn collect(folder: &Path, found: &mut Vec<Source>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        let name = entry.file_name();
        if path.is_dir() && name != "target" && !name.to_string_lossy().starts_with('.') {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let path = path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
            found.push(Source { path, code: product_code(&text), lines: text.lines().count() });
        }
    }
}

/// Tests stand last in a file. Comments may name what code may not.
fn product_code(text: &str) -> String {
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<&str>>().join("\n")
}

fn is_test(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    path.starts_with("tests/") || path.contains("/tests/") || path.contains("/benches/") || name.ends_with("tests.rs")
}

/// Files that use one of `words` although they don't lie where they may.
fn uses_outside(under: &str, words: &[&str], allowed: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources(under) {
        if is_test(&source.path) || allowed.iter().any(|allowed| source.path.starts_with(allowed)) {
            continue;
        }
        for word in words {
            if let Some(line) = source.code.lines().find(|line| has_word(line, word)) {
                found.push(format!("{}: {word}: {}", source.path, line.trim()));
            }
        }
    }
    found
}

/// Whether the line has the word with no letter before it: `axum` is not in `taxum`.
fn has_word(line: &str, word: &str) -> bool {
    let mut from = 0;
    while let Some(at) = line[from..].find(word) {
        let at = from + at;
        let before = line[..at].chars().next_back();
        if !before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
            return true;
        }
        from = at + word.len();
    }
    false
}

fn dependencies(manifest: &str) -> Vec<String> {
    let text = std::fs::read_to_string(root().join(manifest)).unwrap();
    let section = text.split("[dependencies]").nth(1).unwrap();
    let section = section.split("\n[").next().unwrap();
    let name = |line: &str| {
        let name: String = line.chars().take_while(|c| c.is_alphanumeric() || *c == '-' || *c == '_').collect();
        (!name.is_empty()).then_some(name)
    };
    section.lines().filter_map(name).collect()
}

#[test]
fn words_are_found_where_they_begin() {
    assert!(has_word("use axum::Router;", "axum::"));
    assert!(!has_word("use taxum::Router;", "axum::"));
    assert_eq!(product_code("a\n// b\n#[cfg(test)]\nmod tests {\nx.unwrap()"), "a");
}

#[test]
fn crates_depend_one_way() {
    let ours = |manifest| {
        let mut names = dependencies(manifest);
        names.retain(|name| name.starts_with("atoll"));
        names
    };
    assert_eq!(ours("proto/Cargo.toml"), Vec::<String>::new());
    assert_eq!(ours("coordinator/core/Cargo.toml"), ["atoll-proto"]);
    assert_eq!(ours("trust/Cargo.toml"), ["atoll-proto"]);
    assert_eq!(ours("coordinator/Cargo.toml"), ["atoll-core", "atoll-proto", "atoll-trust"]);
    assert_eq!(ours("worker-agent/Cargo.toml"), ["atoll-proto", "atoll-trust"]);
}

#[test]
fn the_core_only_decides() {
    let words = [
        "tokio",
        "std::time::SystemTime",
        "SystemTime",
        "Instant",
        "rand::",
        "std::fs",
        "std::net",
        "std::env",
        "std::thread",
    ];
    assert_eq!(uses_outside("coordinator/core/src", &words, &[]), Vec::<String>::new());
    let forbidden = ["tokio", "rand", "reqwest", "hyper", "axum", "tokio-postgres"];
    let found: Vec<String> = dependencies("coordinator/core/Cargo.toml")
        .into_iter()
        .filter(|name| forbidden.contains(&name.as_str()))
        .collect();
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn names_stay_in_their_folders() {
    let in_coordinator = |words: &[&str], allowed: &[&str]| {
        let allowed: Vec<String> = allowed.iter().map(|folder| format!("coordinator/src/{folder}")).collect();
        let allowed: Vec<&str> = allowed.iter().map(String::as_str).collect();
        uses_outside("coordinator/src", words, &allowed)
    };
    assert_eq!(in_coordinator(&["axum::", "axum_"], &["http/"]), Vec::<String>::new());
    assert_eq!(in_coordinator(&["openraft::"], &["raft/"]), Vec::<String>::new());
    assert_eq!(
        in_coordinator(
            &["tokio_postgres", "deadpool_postgres", "deadpool::", "postgres_types", "pgvector::"],
            &["workers/"]
        ),
        Vec::<String>::new()
    );
    assert_eq!(in_coordinator(&["crate::http"], &["http/", "serve.rs"]), Vec::<String>::new());
    let agent = "worker-agent/src";
    assert_eq!(
        uses_outside(agent, &["tokio_postgres", "postgres_types"], &["worker-agent/src/pg/"]),
        Vec::<String>::new()
    );
    assert_eq!(uses_outside(agent, &["axum"], &["worker-agent/src/http.rs"]), Vec::<String>::new());
}

/// Who may use whom inside the coordinator, beyond itself. `serve` knows all parts; `cli` and `dev` belong to the program.
const MAY_USE: [(&str, &[&str]); 24] = [
    ("access", &[]),
    ("agents", &["freshness", "internal_client"]),
    // Workers for the floor of benchmarks alone: `commands_go_through_the_coordinator` keeps it there.
    ("cli", &["config", "dev", "serve", "workers"]),
    ("config", &["search", "write"]),
    ("credentials", &["config", "workers"]),
    // Of Raft no more than how a coordinator is asked who it is.
    ("dev", &["cli", "raft"]),
    ("error", &["workers"]),
    ("failover", &["agents", "internal_client", "raft", "telemetry"]),
    ("findings", &["agents", "raft", "search", "targets"]),
    ("freshness", &[]),
    (
        "http",
        &[
            "access",
            "agents",
            "config",
            "error",
            "findings",
            "internal_client",
            "raft",
            "read",
            "rebalance",
            "search",
            "settle",
            "targets",
            "telemetry",
            "workers",
            "write",
        ],
    ),
    ("internal_client", &[]),
    ("moves", &["agents", "internal_client", "raft"]),
    ("next_primary", &["targets", "workers"]),
    ("raft", &["internal_client", "telemetry"]),
    ("read", &["error", "next_primary", "targets", "telemetry", "vectors", "workers"]),
    ("rebalance", &["agents", "raft"]),
    ("search", &["error", "freshness", "next_primary", "targets", "telemetry", "vectors", "workers"]),
    ("settle", &["agents", "internal_client", "raft"]),
    ("targets", &["error", "workers"]),
    ("telemetry", &[]),
    ("vectors", &[]),
    ("workers", &[]),
    ("write", &["agents", "error", "freshness", "next_primary", "targets", "telemetry", "vectors", "workers"]),
];
const KNOW_ALL: [&str; 3] = ["lib", "main", "serve"];

#[test]
fn parts_of_the_coordinator_use_only_what_they_may() {
    let under = "coordinator/src/";
    let mut parts = std::collections::BTreeSet::new();
    let mut found = Vec::new();
    for source in sources(under) {
        let part = source.path[under.len()..].split(['/', '.']).next().unwrap().to_owned();
        if KNOW_ALL.contains(&part.as_str()) || is_test(&source.path) {
            continue;
        }
        assert!(!source.code.contains("crate::{"), "{}: one `use` a part, so that this test sees it", source.path);
        let allowed = MAY_USE.iter().find(|(name, _)| *name == part).map_or(&[][..], |(_, allowed)| allowed);
        for used in ["crate::", "atoll::"].iter().flat_map(|root| named_after(&source.code, root)) {
            if used != part && !allowed.contains(&used.as_str()) {
                found.push(format!("{}: {used}", source.path));
            }
        }
        parts.insert(part);
    }
    assert_eq!(found, Vec::<String>::new());
    assert_eq!(parts.iter().map(String::as_str).collect::<Vec<_>>(), MAY_USE.map(|(name, _)| name));
}

/// Commands talk HTTP to a coordinator. A benchmark has to say what PostgreSQL alone would do, so it may ask workers too.
#[test]
fn commands_go_through_the_coordinator() {
    let allowed = ["coordinator/src/cli/bench/floor.rs", "coordinator/src/cli/bench/operation.rs"];
    assert_eq!(uses_outside("coordinator/src/cli", &["atoll::workers"], &allowed), Vec::<String>::new());
}

/// A request touches tables by the routes of `Target`, which ask its grant. What goes past that is listed here, and does nothing for a
/// request that was not let in to it.
#[test]
fn requests_touch_what_their_keys_are_for() {
    let everything = [
        "coordinator/src/access/",
        // Where a request's table is now that was somewhere else.
        "coordinator/src/targets.rs",
        // What a coordinator does of its own accord.
        "coordinator/src/findings.rs",
        "coordinator/src/search/recall/calibrate.rs",
    ];
    assert_eq!(uses_outside("coordinator/src", &["Grant::everything"], &everything), Vec::<String>::new());
    let routes = ["view.route(", "view.reference(", "view.copies(", "view.shards("];
    let past = [
        "coordinator/src/targets.rs",
        // Every copy, after the first one was reached by its route.
        "coordinator/src/write/reference.rs",
        // What findings and operators are told of shards.
        "coordinator/src/findings.rs",
        "coordinator/src/http/admin.rs",
        "coordinator/src/http/groups.rs",
        "coordinator/src/http/service.rs",
    ];
    assert_eq!(uses_outside("coordinator/src", &routes, &past), Vec::<String>::new());
}

/// The names that follow a root of paths, if they are names of modules.
fn named_after(code: &str, root: &str) -> Vec<String> {
    let lines = code.lines().filter(|line| has_word(line, root));
    let after = lines.flat_map(|line| line.split(root).skip(1));
    let name = |rest: &str| rest.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect::<String>();
    after.map(name).filter(|name| !name.is_empty()).collect()
}

/// SQL is told by the words that begin its statements inside a text.
#[test]
fn sql_stays_with_those_who_speak_to_postgresql() {
    let begins = [
        "\"select ",
        "\"insert into ",
        "\"update ",
        "\"delete from ",
        "\"create ",
        "\"drop ",
        "\"alter ",
        "\"begin;",
        "\"begin ",
        "\"with ",
        "\"copy ",
        "\"set ",
        "\"lock ",
        "\"truncate ",
    ];
    for (under, allowed) in
        [("coordinator/src", "coordinator/src/workers/"), ("worker-agent/src", "worker-agent/src/pg/")]
    {
        let mut found = Vec::new();
        for source in sources(under) {
            if is_test(&source.path) || source.path.starts_with(allowed) {
                continue;
            }
            let line = source.code.lines().find(|line| begins.iter().any(|begin| line.contains(begin)));
            found.extend(line.map(|line| format!("{}: {}", source.path, line.trim())));
        }
        assert_eq!(found, Vec::<String>::new());
    }
}

#[test]
fn files_can_be_read_in_one_sitting() {
    let mut found = Vec::new();
    for under in ["proto", "trust", "coordinator", "worker-agent", "tests"] {
        let long = sources(under).into_iter().filter(|source| source.lines > LINES_MAX);
        found.extend(long.map(|source| format!("{}: {} lines", source.path, source.lines)));
    }
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn what_ships_neither_unwraps_nor_postpones() {
    let mut found = Vec::new();
    for under in ["proto/src", "trust/src", "coordinator/src", "coordinator/core/src", "worker-agent/src"] {
        for source in sources(under) {
            if is_test(&source.path) || source.path.ends_with("/testing.rs") {
                continue;
            }
            let words = [".unwrap()", ".unwrap_err()", "todo!(", "unimplemented!(", "dbg!("];
            let line = source.code.lines().find(|line| words.iter().any(|word| line.contains(word)));
            found.extend(line.map(|line| format!("{}: {}", source.path, line.trim())));
        }
    }
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn source_files_say_what_they_are_for() {
    let mut found = Vec::new();
    for under in [
        "proto/src",
        "trust/src",
        "coordinator/src",
        "coordinator/core/src",
        "worker-agent/src",
        "tests/src",
        "tests/tests",
    ] {
        for source in sources(under) {
            let text = std::fs::read_to_string(root().join(&source.path)).unwrap();
            if !text.starts_with("//!") && !source.path.ends_with("_tests.rs") {
                found.push(source.path);
            }
        }
    }
    assert_eq!(found, Vec::<String>::new());
}
