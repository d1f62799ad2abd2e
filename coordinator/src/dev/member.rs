//! One process of the cluster: how it is started and how it is stopped.

use super::folder::Folder;
use super::ports::{postmaster, serves};
use super::supervisor::Stage;
use super::topology::{coordinator_name, worker_name};
use crate::cli::CommandError;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::{Child, Command};
use tokio::sync::watch;

/// How long a process may take to stop. An agent has another take over for 17 s, and gives its parts 5 s and then its server 35 s.
pub(super) const STOP_PATIENCE: Duration = Duration::from_secs(60);
/// How long a server without an agent may take to stop.
const SERVER_STOP_PATIENCE: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(100);
const LAST_WORDS_BYTES: u64 = 4_096;

/// The programs that a cluster is made of.
#[derive(Debug, Clone)]
pub(super) struct Programs {
    /// `atoll`: this one.
    pub(super) coordinator: PathBuf,
    /// `atoll-agent`.
    pub(super) agent: PathBuf,
}

/// A coordinator or an agent.
#[derive(Debug, Clone)]
pub(super) struct Member {
    /// Its name.
    pub(super) name: String,
    program: PathBuf,
    arguments: Vec<PathBuf>,
    log: PathBuf,
    log_filter: Option<String>,
    /// Data directory of the server that an agent looks after.
    pub(super) server: Option<PathBuf>,
}

impl Programs {
    /// Finds them: the agent lies beside this program, or on the PATH.
    pub(super) fn find() -> Result<Self, CommandError> {
        let coordinator = std::env::current_exe()
            .map_err(|error| CommandError::Failed(format!("cannot find the program that runs here: {error}")))?;
        let name = "atoll-agent";
        let beside = coordinator.with_file_name(name);
        if beside.is_file() {
            return Ok(Self { coordinator, agent: beside });
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        let found = std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file());
        match found {
            Some(agent) => Ok(Self { coordinator, agent }),
            None => Err(CommandError::Failed(format!(
                "{name} is neither beside {} nor on the PATH; build it: cargo build --workspace",
                coordinator.display()
            ))),
        }
    }
}

impl Member {
    /// A coordinator.
    pub(super) fn coordinator(folder: &Folder, programs: &Programs, number: u16, log_filter: Option<&str>) -> Self {
        let name = coordinator_name(number);
        let arguments = vec!["serve".into(), "--config".into(), folder.config_of(&name), "--stop-on-stdin-eof".into()];
        Self::new(folder, name, &programs.coordinator, arguments, log_filter)
    }

    /// A worker's agent.
    pub(super) fn agent(folder: &Folder, programs: &Programs, number: u16, log_filter: Option<&str>) -> Self {
        let name = worker_name(number);
        let arguments = vec!["--config".into(), folder.config_of(&name), "--stop-on-stdin-eof".into()];
        let server = Some(folder.postgres_data(number));
        Self { server, ..Self::new(folder, name, &programs.agent, arguments, log_filter) }
    }

    fn new(folder: &Folder, name: String, program: &Path, arguments: Vec<PathBuf>, log_filter: Option<&str>) -> Self {
        let log = folder.log_of(&name);
        let log_filter = log_filter.map(str::to_owned);
        Self { name, program: program.to_owned(), arguments, log, log_filter, server: None }
    }

    /// Starts it. It stops when its standard input ends, so also when we are killed.
    pub(super) fn start(&self) -> io::Result<Child> {
        let log = OpenOptions::new().create(true).append(true).open(&self.log)?;
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).stdin(Stdio::piped()).stdout(log.try_clone()?).stderr(log);
        if let Some(filter) = &self.log_filter {
            command.env("RUST_LOG", filter);
        }
        // In a group of its own, so that a Ctrl-C at our terminal reaches us alone and we stop all in order.
        command.process_group(0).kill_on_drop(false).spawn()
    }

    /// Stops it in an orderly way; at once when that takes too long or when `stage` says so.
    pub(super) async fn stop(&self, child: &mut Child, stage: &mut watch::Receiver<Stage>) {
        let Some(pid) = child.id().and_then(as_pid) else {
            return;
        };
        if *stage.borrow() != Stage::Kill {
            // Not delivered means gone already: then the wait below ends at once.
            let _ = kill_process(pid, Signal::TERM);
            tokio::select! {
                _ = child.wait() => return,
                () = killed(stage) => {}
                () = tokio::time::sleep(STOP_PATIENCE) => eprintln!("{} does not stop: killing it", self.name),
            }
        }
        let _ = kill_process_group(pid, Signal::KILL);
        let _ = child.wait().await;
    }

    /// Stops a server whose agent is gone. Nothing to do where the agent stopped it.
    pub(super) async fn stop_server(&self, stage: &mut watch::Receiver<Stage>) {
        let Some(data_dir) = &self.server else {
            return;
        };
        let running = || postmaster(data_dir).filter(|pid| serves(*pid, data_dir));
        let Some(pid) = running().and_then(as_pid) else {
            return;
        };
        let gone = async {
            while running().is_some() {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        if *stage.borrow() != Stage::Kill {
            let _ = kill_process(pid, Signal::INT);
            tokio::select! {
                () = gone => return,
                () = killed(stage) => {}
                () = tokio::time::sleep(SERVER_STOP_PATIENCE) => {}
            }
        }
        // PostgreSQL's immediate shutdown: it recovers at the next start.
        let _ = kill_process(pid, Signal::QUIT);
    }

    /// The last lines of its log.
    pub(super) fn last_words(&self) -> String {
        let text = end_of(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().rev().take(8).collect();
        lines.into_iter().rev().map(|line| format!("\n  {line}")).collect()
    }

    /// Its log.
    pub(super) fn log(&self) -> &Path {
        &self.log
    }
}

/// The last few KiB: a log may be larger than memory.
fn end_of(log: &Path) -> io::Result<String> {
    let mut file = File::open(log)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LAST_WORDS_BYTES)))?;
    let mut bytes = Vec::new();
    file.take(LAST_WORDS_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn as_pid(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}

/// Completes when everything is to end at once.
async fn killed(stage: &mut watch::Receiver<Stage>) {
    if stage.wait_for(|stage| *stage == Stage::Kill).await.is_err() {
        // Nobody can say so any more.
        std::future::pending::<()>().await;
    }
}
