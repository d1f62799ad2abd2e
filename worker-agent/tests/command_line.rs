//! The command line: configuration in effect, and what is refused.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const GOOD: &str = "name = \"w1\"\nmode = \"managed\"\nlisten = \"127.0.0.1:7801\"\n\
    coordinators = [\"http://127.0.0.1:7750\"]\ncluster_secret_file = \"/x/s\"\npostgres_password_file = \"/x/p\"\n\
    [postgres]\ndata_dir = \"/x/w1\"\nport = 7900\n";

fn agent(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_atoll-agent"));
    command.args(arguments).envs(environment.iter().copied()).output().unwrap()
}

fn file(folder: &Path, text: &str) -> PathBuf {
    let path = folder.join("agent.toml");
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn environment_wins_over_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(folder.path(), GOOD);
    let arguments = ["config", "--config", path.to_str().unwrap(), "--stop-on-stdin-eof"];
    let environment = [
        ("ATOLL_AGENT__POSTGRES__SHARED_BUFFERS_MB", "32"),
        ("ATOLL_AGENT__NAME", "w2"),
        ("ATOLL_AGENT__COORDINATORS", "http://127.0.0.1:1,http://127.0.0.1:2"),
    ];
    let output = agent(&arguments, &environment);
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for line in ["name = \"w2\"", "shared_buffers_mb = 32", "port = 7900", "stop_on_stdin_eof = true", ":1\", \"http"] {
        assert!(printed.contains(line), "{line}\n{printed}");
    }
}

#[test]
fn unknown_and_unsafe_settings_are_refused_with_their_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(folder.path(), GOOD);
    let arguments = ["config", "--config", path.to_str().unwrap()];
    for (environment, named) in [
        (("ATOLL_AGENT__POSTGRES__COLOUR", "red"), "colour"),
        (("ATOLL_AGENT__LISTEN", "0.0.0.0:7801"), "insecure"),
        (("ATOLL_AGENT__POSTGRES__PORT", "x"), "port"),
    ] {
        let output = agent(&arguments, &[environment]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && said.contains(named), "{named}: {said}");
    }
}

#[test]
fn data_of_one_major_version_is_not_given_to_another() {
    let found = agent(&["--log", "warn", "pg"], &[]);
    assert!(found.status.success(), "{}", String::from_utf8_lossy(&found.stderr));
    let bin = String::from_utf8(found.stdout).unwrap();
    let output = agent(&["--log", "warn", "pg", "--major", "99", "--pg-bin", bin.trim()], &[]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains("cannot serve data made by 99"), "{said}");
}

#[test]
fn a_chosen_postgres_that_is_none_is_named() {
    let output = agent(&["--log", "warn", "pg", "--no-fetch", "--pg-bin", "/nonexistent/bin"], &[]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains("/nonexistent/bin"), "{said}");
}
