//! Logs of a cluster: what nobody expected is told. A story lists the warnings and errors that it provokes.

use serde_json::Value;
use std::path::Path;

/// The code of requests that met a bug.
const INTERNAL: &str = r#""code":"internal""#;

/// A line that says more than it should in a healthy cluster.
#[derive(Debug, Clone)]
pub struct Finding {
    /// The process.
    pub name: String,
    /// The line.
    pub line: String,
}

/// Lines of level WARN and ERROR, and lines that are no log lines at all (panics), unless they contain one of `allowed`. Whatever is
/// allowed, an internal error is not: it is a bug.
pub fn unlisted(folder: &Path, allowed: &[&str]) -> Vec<Finding> {
    let mut found = Vec::new();
    for (name, text) in texts(folder) {
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let excused = allowed.iter().any(|allowed| line.contains(allowed)) && !line.contains(INTERNAL);
            if is_alarming(line) && !excused {
                found.push(Finding { name: name.clone(), line: line.to_owned() });
            }
        }
    }
    found
}

/// The last lines of each log.
pub fn tails(folder: &Path, lines: usize) -> String {
    let mut told = String::new();
    for (name, text) in texts(folder) {
        told.push_str(&format!("--- {name}\n"));
        let all: Vec<&str> = text.lines().collect();
        for line in &all[all.len().saturating_sub(lines)..] {
            told.push_str(&format!("{}\n", line.chars().take(600).collect::<String>()));
        }
    }
    told
}

fn is_alarming(line: &str) -> bool {
    match serde_json::from_str::<Value>(line) {
        Ok(line) => matches!(line["level"].as_str(), Some("WARN" | "ERROR")),
        Err(_) => true,
    }
}

fn texts(folder: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let text = std::fs::read(entry.path()).unwrap_or_default();
        found.push((entry.file_name().to_string_lossy().into_owned(), String::from_utf8_lossy(&text).into_owned()));
    }
    found.sort();
    found
}

/// Lines that tell of a panic.
pub fn panics(folder: &Path) -> Vec<Finding> {
    let mut found = Vec::new();
    for (name, text) in texts(folder) {
        let lines = text.lines().filter(|line| line.contains("panicked at"));
        found.extend(lines.map(|line| Finding { name: name.clone(), line: line.to_owned() }));
    }
    found
}

/// What is said, as it should be, of a worker that is killed and comes back, besides the requests that failed for it.
pub const WORKER_LOSS: [&str; 5] = [
    "the agent does not answer",
    "PostgreSQL died, starting it again",
    "desired state not applied",
    "the agent could not apply the desired state; will retry",
    "PostgreSQL does not serve",
];
