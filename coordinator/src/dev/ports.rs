//! Ports must be free, and what an earlier run left behind must be gone, before anything is started.

use super::folder::Folder;
use super::member::STOP_PATIENCE;
use super::topology::{Topology, coordinator_name, worker_name};
use crate::cli::CommandError;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::time::Duration;
use tokio::time::Instant;

/// How long processes of an earlier run may take to stop.
const PATIENCE: Duration = STOP_PATIENCE;
/// How long ports may stay busy when no process of an earlier run is seen: then somebody else has them.
const STRANGER_PATIENCE: Duration = Duration::from_secs(3);
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Waits until the ports are free, if an earlier run on this folder may still be stopping; else they must be free now.
pub(super) async fn wait_until_free(folder: &Folder, topology: &Topology, again: bool) -> Result<(), CommandError> {
    let deadline = Instant::now() + PATIENCE;
    let mut last_seen = Instant::now();
    let mut told = false;
    loop {
        let busy = busy_ports(folder, topology);
        let left = if again { processes_of(&folder.config()) } else { Vec::new() };
        if busy.is_empty() && left.is_empty() {
            return Ok(());
        }
        let now = Instant::now();
        if !left.is_empty() || !processes_can_be_seen() {
            last_seen = now;
        }
        if !again || now >= deadline || now >= last_seen + STRANGER_PATIENCE {
            return Err(CommandError::Failed(complaint(&busy, &left)));
        }
        if !told {
            eprintln!("waiting: an earlier run on this folder may still be stopping");
            told = true;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn processes_can_be_seen() -> bool {
    Path::new("/proc/self/cmdline").exists()
}

/// The postmaster that runs on a data directory.
pub(super) fn postmaster(data_dir: &Path) -> Option<u32> {
    let text = std::fs::read_to_string(data_dir.join("postmaster.pid")).ok()?;
    text.lines().next()?.trim().parse().ok()
}

/// Whether the process of this id is the postmaster of `data_dir`, as an agent starts it: a process id can be used again.
/// The command line may be read whoever runs it; a dead process that nobody waited for has none.
pub(super) fn serves(pid: u32, data_dir: &Path) -> bool {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let mut arguments = line.split(|byte| *byte == 0);
    let data_dir = data_dir.as_os_str().as_encoded_bytes();
    arguments.any(|argument| argument == b"-D") && arguments.next() == Some(data_dir)
}

fn busy_ports(folder: &Folder, topology: &Topology) -> Vec<(u16, String)> {
    let mut busy = Vec::new();
    let mut check = |port: u16, whose: String| {
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_err() {
            busy.push((port, whose));
        }
    };
    for coordinator in topology.coordinators() {
        check(topology.client_port(coordinator), coordinator_name(coordinator));
        check(topology.internal_port(coordinator), format!("{} (internal)", coordinator_name(coordinator)));
    }
    for worker in topology.workers() {
        check(topology.agent_port(worker), format!("the agent of {}", worker_name(worker)));
        // A server whose agent was killed goes on: the next agent takes it over.
        let data_dir = folder.postgres_data(worker);
        if !postmaster(&data_dir).is_some_and(|pid| serves(pid, &data_dir)) {
            check(topology.postgres_port(worker), format!("PostgreSQL of {}", worker_name(worker)));
        }
    }
    busy
}

/// Processes whose command line names a file of our configurations. None where there is no /proc: then the ports tell.
fn processes_of(config: &Path) -> Vec<u32> {
    let mut found = Vec::new();
    let mut start = config.as_os_str().as_encoded_bytes().to_vec();
    start.push(b'/');
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let Ok(line) = std::fs::read(entry.path().join("cmdline")) else {
            continue;
        };
        // Exactly what `dev` starts: a program, `--config` and a file of ours. Somebody's editor is not meant.
        let mut arguments = line.split(|byte| *byte == 0);
        if arguments.any(|argument| argument == b"--config")
            && arguments.next().is_some_and(|file| file.starts_with(&start))
        {
            found.push(pid);
        }
    }
    found
}

fn complaint(busy: &[(u16, String)], left: &[u32]) -> String {
    let mut parts = Vec::new();
    if !left.is_empty() {
        let pids: Vec<String> = left.iter().map(u32::to_string).collect();
        parts.push(format!("processes of an earlier run do not stop: end them with kill {}", pids.join(" ")));
    }
    if !busy.is_empty() {
        let ports: Vec<String> = busy.iter().map(|(port, whose)| format!("{port} ({whose})")).collect();
        let are = if busy.len() == 1 { "is" } else { "are" };
        parts.push(format!(
            "port {} {are} in use: stop what listens there (see ss -ltnp), or make a cluster on other ports with --port \
             and another --data-dir",
            ports.join(", ")
        ));
    }
    parts.join("; ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::dev::topology::Wanted;
    use std::os::unix::fs::PermissionsExt;
    use std::process::{Command, Stdio};

    #[tokio::test]
    async fn a_port_in_use_is_named() {
        let parent = tempfile::tempdir().unwrap();
        std::fs::set_permissions(parent.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let folder = Folder::open(parent.path()).unwrap();
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let wanted = Wanted { port: Some(port), ..Wanted::default() };
        let error = wait_until_free(&folder, &Topology::new(&wanted, "/pg".into()), false).await.unwrap_err();
        assert!(error.to_string().contains(&format!("{port} (coordinator-1)")), "{error}");
    }

    #[test]
    fn a_postmaster_is_known_by_its_data_directory() {
        let data_dir = tempfile::tempdir().unwrap();
        let mut child = Command::new("/bin/sh")
            .args(["-c", "read line", "-D"])
            .arg(data_dir.path())
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let deadline = std::time::Instant::now() + PATIENCE;
        let until = |wanted: bool, pid: u32| {
            while processes_can_be_seen() && serves(pid, data_dir.path()) != wanted {
                assert!(std::time::Instant::now() < deadline, "not seen: {wanted}");
            }
        };
        until(true, child.id());
        assert!(!serves(child.id(), Path::new("/elsewhere")));
        // Dead, but nobody waited for it yet.
        drop(child.stdin.take());
        until(false, child.id());
        child.wait().unwrap();
    }

    #[test]
    fn only_processes_with_our_configuration_are_ours() {
        let parent = tempfile::tempdir().unwrap();
        let config = parent.path().join("config");
        let file = config.join("w1.toml");
        let mut child = Command::new("/bin/sh")
            .args(["-c", "read line", "--config"])
            .arg(&file)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        // Its command line can be seen a moment after it was started.
        let deadline = std::time::Instant::now() + PATIENCE;
        let mut found = processes_of(&config);
        while found.is_empty() && processes_can_be_seen() && std::time::Instant::now() < deadline {
            found = processes_of(&config);
        }
        let elsewhere = processes_of(&parent.path().join("other"));
        drop(child.stdin.take());
        child.wait().unwrap();
        if processes_can_be_seen() {
            assert_eq!(found, [child.id()]);
        }
        assert!(elsewhere.is_empty());
    }

    #[test]
    fn complaints_say_what_to_do() {
        assert!(complaint(&[(7700, "coordinator-1".to_owned())], &[]).contains("--port"));
        assert!(complaint(&[], &[12, 13]).contains("kill 12 13"));
    }
}
