//! Processes of a cluster: found, killed, stopped, continued. A PostgreSQL server is its postmaster and all its children: stopping
//! the postmaster alone leaves backends that go on writing.

use rustix::process::{Pid, Signal, kill_process};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The folder that holds the binaries under test, beside the test executables.
pub fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a running program has a path");
    let profile = test.parent().and_then(Path::parent).expect("test executables lie in target/<profile>/deps");
    let path = profile.join(name);
    assert!(path.is_file(), "{} is missing: run `cargo build --workspace` first", path.display());
    path
}

/// Sends a signal. A process that is gone does not mind.
pub fn signal(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a process id");
    let _ = kill_process(pid, signal);
}

/// Sends a signal to a process and all its descendants.
pub fn signal_tree(pid: u32, what: Signal) {
    // A parent first: it can't start children that would be missed.
    signal(pid, what);
    for child in children(pid) {
        signal_tree(child, what);
    }
}

/// Whether a process runs; one that has ended and was not waited for does not.
pub fn runs(pid: u32) -> bool {
    stat(pid).is_some_and(|stat| stat.state != 'Z')
}

/// Waits until none of the processes runs.
pub async fn wait_gone(pids: &[u32]) {
    crate::poll::until("processes to end", Duration::from_secs(60), async || {
        let left: Vec<u32> = pids.iter().copied().filter(|pid| runs(*pid)).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?} run")) }
    })
    .await;
}

/// A process and all its descendants.
pub fn tree(pid: u32) -> Vec<u32> {
    let mut found = vec![pid];
    for child in children(pid) {
        found.extend(tree(child));
    }
    found
}

struct Stat {
    state: char,
    parent: u32,
}

fn stat(pid: u32) -> Option<Stat> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The program's name stands in parentheses and may hold anything.
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some(Stat { state, parent: fields.next()?.parse().ok()? })
}

fn children(pid: u32) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").expect("stories need /proc");
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|child| stat(*child).is_some_and(|stat| stat.parent == pid)).collect()
}
