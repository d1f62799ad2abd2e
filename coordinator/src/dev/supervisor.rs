//! Keeps the processes of the cluster running: starts again what dies, and stops all in order.

use super::member::Member;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

const BACKOFF_MIN: Duration = Duration::from_millis(500);
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// A process that lived this long was well: its next death starts with the shortest wait again.
const WELL_AFTER: Duration = Duration::from_secs(30);

/// What the processes should do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Run.
    Run,
    /// End in an orderly way.
    Stop,
    /// End at once.
    Kill,
}

/// A process ended without being told to.
#[derive(Debug)]
pub(super) struct Died {
    /// Which.
    pub(super) name: String,
    /// How.
    pub(super) how: String,
    /// When it is started again, if at all.
    pub(super) again_in: Option<Duration>,
}

/// All processes of the cluster.
pub(super) struct Supervisor {
    restart: bool,
    coordinators: Ward,
    agents: Ward,
    pids: BTreeMap<String, watch::Receiver<Option<u32>>>,
    died: mpsc::UnboundedSender<Died>,
    deaths: mpsc::UnboundedReceiver<Died>,
}

/// Processes that are stopped together.
struct Ward {
    stage: watch::Sender<Stage>,
    tasks: JoinSet<()>,
}

impl Ward {
    fn new() -> Self {
        Self { stage: watch::Sender::new(Stage::Run), tasks: JoinSet::new() }
    }

    /// Cancel-safe: what was not waited for can be waited for again.
    async fn end(&mut self, stage: Stage) {
        self.stage.send_replace(stage);
        while self.tasks.join_next().await.is_some() {}
    }
}

impl Supervisor {
    /// Nothing runs yet.
    pub(super) fn new(restart: bool) -> Self {
        let (died, deaths) = mpsc::unbounded_channel();
        Self { restart, coordinators: Ward::new(), agents: Ward::new(), pids: BTreeMap::new(), died, deaths }
    }

    /// Starts a process and keeps it running.
    pub(super) fn start(&mut self, member: Member) {
        let ward = if member.server.is_some() { &mut self.agents } else { &mut self.coordinators };
        let pid = watch::Sender::new(None);
        self.pids.insert(member.name.clone(), pid.subscribe());
        ward.tasks.spawn(keep_running(member, self.restart, ward.stage.subscribe(), pid, self.died.clone()));
    }

    /// The process id of a process that runs.
    pub(super) fn pid(&self, name: &str) -> Option<u32> {
        *self.pids.get(name)?.borrow()
    }

    /// The next process that ends without being told to. Cancel-safe.
    pub(super) async fn death(&mut self) -> Died {
        match self.deaths.recv().await {
            Some(died) => died,
            None => std::future::pending().await,
        }
    }

    /// Stops all: coordinators first, so that they finish what they do while the workers are still there.
    pub(super) async fn stop(&mut self) {
        self.coordinators.end(Stage::Stop).await;
        self.agents.end(Stage::Stop).await;
    }

    /// Ends all at once.
    pub(super) async fn kill(&mut self) {
        self.agents.stage.send_replace(Stage::Kill);
        self.coordinators.end(Stage::Kill).await;
        self.agents.end(Stage::Kill).await;
    }
}

async fn keep_running(
    member: Member,
    restart: bool,
    mut stage: watch::Receiver<Stage>,
    pid: watch::Sender<Option<u32>>,
    died: mpsc::UnboundedSender<Died>,
) {
    let mut backoff = BACKOFF_MIN;
    loop {
        let started = Instant::now();
        let how = match member.start() {
            Ok(mut child) => {
                // Held here while the process runs: when it closes, the process stops.
                let stdin = child.stdin.take();
                pid.send_replace(child.id());
                let ended = tokio::select! {
                    ended = child.wait() => ended,
                    () = told_to_end(&mut stage) => {
                        member.stop(&mut child, &mut stage).await;
                        member.stop_server(&mut stage).await;
                        return;
                    }
                };
                drop(stdin);
                match ended {
                    Ok(status) => format!("ended ({status})"),
                    Err(error) => format!("cannot be waited for: {error}"),
                }
            }
            Err(error) => format!("cannot be started: {error}"),
        };
        pid.send_replace(None);
        if started.elapsed() >= WELL_AFTER {
            backoff = BACKOFF_MIN;
        }
        // Whoever listens may be gone when everything ends.
        let _ = died.send(Died { name: member.name.clone(), how, again_in: restart.then_some(backoff) });
        let wait = async { if restart { tokio::time::sleep(backoff).await } else { std::future::pending().await } };
        tokio::select! {
            () = wait => {}
            () = told_to_end(&mut stage) => {
                member.stop_server(&mut stage).await;
                return;
            }
        }
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
}

/// Completes when the process is to end.
async fn told_to_end(stage: &mut watch::Receiver<Stage>) {
    // An error means that the supervisor is gone: an end as well.
    let _ = stage.wait_for(|stage| *stage != Stage::Run).await;
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::dev::folder::Folder;
    use crate::dev::member::Programs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    const PATIENCE: Duration = Duration::from_secs(20);

    /// A folder and a program in place of `atoll`: it runs `script`.
    fn set_up(parent: &Path, script: &str) -> (Folder, Programs) {
        std::fs::set_permissions(parent, PermissionsExt::from_mode(0o755)).unwrap();
        let folder = Folder::open(&parent.join("dev")).unwrap();
        let program = parent.join("program");
        std::fs::write(&program, format!("#!/bin/sh\n[ \"$1\" = probe ] && exit 0\n{script}\n")).unwrap();
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
        // A child that another test forked just now may hold the file open for writing until it runs its own program;
        // until then ours can't be run.
        let deadline = Instant::now() + PATIENCE;
        while std::process::Command::new(&program).arg("probe").status().is_err() {
            assert!(Instant::now() < deadline);
        }
        (folder, Programs { coordinator: program.clone(), agent: program })
    }

    async fn pid(supervisor: &Supervisor, not: Option<u32>) -> u32 {
        let mut watched = supervisor.pids["coordinator-1"].clone();
        let pid = watched.wait_for(|pid| pid.is_some() && *pid != not);
        tokio::time::timeout(PATIENCE, pid).await.expect("in time").unwrap().unwrap()
    }

    #[tokio::test]
    async fn what_dies_is_started_again_and_stops_when_told() {
        let parent = tempfile::tempdir().unwrap();
        let (folder, programs) = set_up(parent.path(), "echo started $1; read line");
        let mut supervisor = Supervisor::new(true);
        supervisor.start(Member::coordinator(&folder, &programs, 1, None));
        let first = pid(&supervisor, None).await;
        let raw = rustix::process::Pid::from_raw(first as i32).unwrap();
        rustix::process::kill_process(raw, rustix::process::Signal::KILL).unwrap();
        let died = tokio::time::timeout(PATIENCE, supervisor.death()).await.unwrap();
        assert_eq!((died.name.as_str(), died.again_in), ("coordinator-1", Some(BACKOFF_MIN)));
        assert!(died.how.contains("9"), "{}", died.how);
        let second = pid(&supervisor, Some(first)).await;
        assert_ne!(first, second);
        tokio::time::timeout(PATIENCE, supervisor.stop()).await.unwrap();
        assert!(!Path::new(&format!("/proc/{second}")).exists());
    }

    #[tokio::test]
    async fn without_restart_the_dead_stay_dead_and_the_stubborn_are_killed() {
        let parent = tempfile::tempdir().unwrap();
        let (folder, programs) = set_up(parent.path(), "exit 3");
        let mut supervisor = Supervisor::new(false);
        supervisor.start(Member::coordinator(&folder, &programs, 1, None));
        let died = tokio::time::timeout(PATIENCE, supervisor.death()).await.unwrap();
        assert!(died.again_in.is_none() && died.how.contains("3"), "{died:?}");
        tokio::time::timeout(PATIENCE, supervisor.stop()).await.unwrap();

        let parent = tempfile::tempdir().unwrap();
        let (folder, programs) = set_up(parent.path(), "trap '' TERM; echo deaf; while true; do sleep 1; done");
        let mut supervisor = Supervisor::new(true);
        let member = Member::coordinator(&folder, &programs, 1, None);
        supervisor.start(member.clone());
        let deaf = async {
            while !member.last_words().contains("deaf") {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, deaf).await.expect("in time");
        tokio::select! {
            () = supervisor.stop() => panic!("it does not stop by itself"),
            () = tokio::task::yield_now() => {}
        }
        tokio::time::timeout(PATIENCE, supervisor.kill()).await.expect("in time");
    }
}
