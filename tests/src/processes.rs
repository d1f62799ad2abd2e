//! Processes of a cluster: found, killed, stopped, continued. A PostgreSQL server is its postmaster and all its children: stopping
//! the postmaster alone leaves backends that go on writing.

use rustix::process::{Pid, Signal, kill_process};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A binary under test: beside this program, or in the folder above, where this is a test's executable.
pub fn program(name: &str) -> PathBuf {
    let this = std::env::current_exe().expect("a running program has a path");
    let found = this.ancestors().skip(1).take(2).map(|folder| folder.join(name)).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("no {name} near {}: run `cargo build --workspace` first", this.display()))
}

/// Sends a signal. A process that is gone does not mind.
pub fn signal(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a process id");
    let _ = kill_process(pid, signal);
}

/// Sends a signal that nobody dies of to a process and all its descendants.
pub fn signal_tree(pid: u32, what: Signal) {
    // A parent first: it can't start children that would be missed.
    signal(pid, what);
    for child in children(pid) {
        signal_tree(child, what);
    }
}

/// Kills a process and all its descendants; gives their ids. They are stopped before: the children of one that is killed are nobody's
/// descendants any more, and would be missed.
pub fn kill_tree(pid: u32) -> Vec<u32> {
    signal_tree(pid, Signal::STOP);
    let pids = tree(pid);
    for pid in &pids {
        signal(*pid, Signal::KILL);
    }
    pids
}

/// Processes that go by one of these names and have the folder, or something in it, in their arguments.
pub fn with_arguments_in(folder: &Path, names: &[&str]) -> Vec<u32> {
    let named = |pid: &u32| stat(*pid).is_some_and(|stat| names.contains(&stat.name.as_str()));
    let arguments = |pid: &u32| std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let inside = |argument: &[u8]| Path::new(OsStr::from_bytes(argument)).starts_with(folder);
    all().filter(|pid| named(pid) && arguments(pid).split(|byte| *byte == 0).any(inside)).collect()
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
    name: String,
    state: char,
    parent: u32,
}

fn stat(pid: u32) -> Option<Stat> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The program's name stands in parentheses and may hold anything.
    let (name, rest) = text.split_once('(')?.1.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some(Stat { name: name.to_owned(), state, parent: fields.next()?.parse().ok()? })
}

fn children(pid: u32) -> Vec<u32> {
    all().filter(|child| stat(*child).is_some_and(|stat| stat.parent == pid)).collect()
}

fn all() -> impl Iterator<Item = u32> {
    let entries = std::fs::read_dir("/proc").expect("stories need /proc");
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::process::CommandExt;
    use std::process::{Child, Command};

    /// A shell that goes by the name of a server, with a child that it waits for.
    fn server(folder: &Path, name: &str) -> Child {
        let program = folder.join(name);
        if !program.exists() {
            std::os::unix::fs::symlink("/bin/sh", &program).unwrap();
        }
        let script = "sleep 1000 & wait";
        Command::new(program).arg0("sh").args(["-c", script]).arg(folder.join("data")).spawn().unwrap()
    }

    #[tokio::test]
    async fn what_belongs_to_a_folder_is_found_and_killed_though_it_is_stopped() {
        let root = std::env::temp_dir().join(format!("processes-{}", std::process::id()));
        let (own, others) = (root.join("own"), root.join("own-not"));
        for folder in [&own, &others] {
            std::fs::create_dir_all(folder).unwrap();
        }
        let (mut found, mut tail, mut other) =
            (server(&own, "postgres"), server(&own, "tail"), server(&others, "postgres"));
        crate::poll::until("children to be started", Duration::from_secs(10), async || {
            let all = [&found, &tail, &other].iter().all(|child| tree(child.id()).len() == 2);
            if all { Ok(()) } else { Err("not all are".to_owned()) }
        })
        .await;
        signal_tree(found.id(), Signal::STOP);
        assert_eq!(with_arguments_in(&own, &["postgres"]), [found.id()]);
        let killed = kill_tree(found.id());
        assert_eq!(killed.len(), 2);
        found.wait().unwrap();
        wait_gone(&killed).await;
        for spared in [&mut tail, &mut other] {
            assert!(tree(spared.id()).into_iter().all(runs));
            kill_tree(spared.id());
            spared.wait().unwrap();
        }
        std::fs::remove_dir_all(root).unwrap();
    }
}
