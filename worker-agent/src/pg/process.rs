//! A running postmaster: one that we started, or one that an agent before us left running.

use crate::pg::account::Account;
use crate::pg::find::Install;
use crate::pg::init::clean_environment;
use crate::pg::layout::Layout;
use rustix::process::{Pid, Signal};
use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

/// How often a postmaster that is not our child is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// A start log larger than this is set aside at the next start.
const START_LOG_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// How long a fast stop may take before the server is told to stop at once.
const FAST_STOP_LIMIT: Duration = Duration::from_secs(30);
const IMMEDIATE_STOP_LIMIT: Duration = Duration::from_secs(5);

/// The postmaster of a data directory.
#[derive(Debug)]
pub enum Postmaster {
    /// Our child.
    Started {
        /// The process.
        child: tokio::process::Child,
        /// Its id.
        pid: u32,
    },
    /// Was running on our data directory when we came.
    Adopted {
        /// Its id.
        pid: u32,
        /// Where its data is.
        layout: Layout,
    },
}

impl Postmaster {
    /// Starts one, in a process group of its own so that a Ctrl-C at our terminal does not reach it.
    pub fn start(layout: &Layout, install: &Install, account: Option<&Account>) -> io::Result<Self> {
        let log_path = layout.start_log();
        if std::fs::metadata(&log_path).is_ok_and(|metadata| metadata.len() > START_LOG_BYTES_MAX) {
            std::fs::rename(&log_path, log_path.with_extension("log.1"))?;
        }
        let log = OpenOptions::new().create(true).append(true).open(&log_path)?;
        let mut command = std::process::Command::new(install.bin.join("postgres"));
        command.arg("-D").arg(layout.data_dir());
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        clean_environment(&mut command);
        if let Some(account) = account {
            account.take_on(&mut command);
        }
        let mut command = tokio::process::Command::from(command);
        // It outlives an agent that is killed; the next agent adopts it.
        let child = command.process_group(0).kill_on_drop(false).spawn()?;
        let pid = child.id().ok_or_else(|| io::Error::other("the server ended at once"))?;
        Ok(Self::Started { child, pid })
    }

    /// The postmaster that runs on our data directory already, with the port it listens on.
    pub fn find_running(layout: &Layout) -> Option<(Self, u16)> {
        let running = PidFile::read(layout)?;
        is_postmaster_of(running.pid, layout.data_dir())
            .then(|| (Self::Adopted { pid: running.pid, layout: layout.clone() }, running.port))
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        match self {
            Self::Started { pid, .. } | Self::Adopted { pid, .. } => *pid,
        }
    }

    /// Waits for its end; says how it ended. Cancel-safe.
    pub async fn ended(&mut self) -> String {
        match self {
            Self::Started { child, .. } => match child.wait().await {
                Ok(status) => status.to_string(),
                Err(error) => format!("cannot be waited for: {error}"),
            },
            Self::Adopted { pid, layout } => {
                while is_postmaster_of(*pid, layout.data_dir()) {
                    tokio::time::sleep(LOOK_EVERY).await;
                }
                "gone".to_owned()
            }
        }
    }

    /// Makes it read its settings again.
    pub fn reload(&self) {
        self.signal(Signal::HUP);
    }

    /// Stops it: fast, and at once when that takes too long.
    pub async fn stop(mut self) {
        for (signal, limit) in [(Signal::INT, FAST_STOP_LIMIT), (Signal::QUIT, IMMEDIATE_STOP_LIMIT)] {
            self.signal(signal);
            if tokio::time::timeout(limit, self.ended()).await.is_ok() {
                return;
            }
            tracing::warn!(pid = self.pid(), waited_seconds = limit.as_secs(), "PostgreSQL has not stopped yet");
        }
        self.signal(Signal::KILL);
    }

    fn signal(&self, signal: Signal) {
        let Some(pid) = i32::try_from(self.pid()).ok().and_then(Pid::from_raw) else {
            return;
        };
        if let Err(error) = rustix::process::kill_process(pid, signal) {
            tracing::debug!(pid = self.pid(), %error, "signal not delivered");
        }
    }
}

/// The lines of `postmaster.pid` that matter here.
#[derive(Debug, PartialEq, Eq)]
struct PidFile {
    pid: u32,
    port: u16,
}

impl PidFile {
    fn read(layout: &Layout) -> Option<Self> {
        Self::parse(&std::fs::read_to_string(layout.pid_file()).ok()?)
    }

    /// Lines: process id, data directory, start time, port, …
    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let pid = lines.next()?.trim().parse().ok()?;
        let port = lines.nth(2)?.trim().parse().ok()?;
        Some(Self { pid, port })
    }
}

/// Whether `pid` lives and is the postmaster of `data_dir`: a process id may have been taken by another program since. Linux
/// shows the command line of everybody's processes, and that of a dead one, which nobody waited for yet, as empty.
/// Elsewhere the login with our password must prove it.
fn is_postmaster_of(pid: u32, data_dir: &Path) -> bool {
    let Some(process) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
        return false;
    };
    if !Path::new("/proc/self/cmdline").exists() {
        return rustix::process::test_kill_process(process).is_ok();
    }
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let mut arguments = line.split(|byte| *byte == 0);
    let Some(served) = arguments.find(|argument| *argument == b"-D").and_then(|_| arguments.next()) else {
        return false;
    };
    let served = Path::new(OsStr::from_bytes(served));
    served == data_dir || matches!((served.canonicalize(), data_dir.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn pid_files_are_read_whole_or_not_at_all() {
        let text = "4711\n/x/w1\n1790000000\n7900\n\n127.0.0.1\n  123 456\nready   \n";
        assert_eq!(PidFile::parse(text), Some(PidFile { pid: 4711, port: 7900 }));
        assert_eq!(PidFile::parse("4711\n/x/w1\n"), None);
        assert_eq!(PidFile::parse(""), None);
    }

    #[test]
    fn another_program_is_no_postmaster() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!is_postmaster_of(std::process::id(), folder.path()));
        assert!(!is_postmaster_of(0, folder.path()));
    }

    #[test]
    fn a_postmaster_is_known_by_its_data_directory_until_it_is_dead() {
        let folder = tempfile::tempdir().unwrap();
        let mut child = std::process::Command::new("/bin/sh")
            .args(["-c", "read line", "-D"])
            .arg(folder.path())
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let pid = child.id();
        let until = |wanted: bool| {
            let begun = std::time::Instant::now();
            while is_postmaster_of(pid, folder.path()) != wanted {
                assert!(begun.elapsed() < FAST_STOP_LIMIT, "not seen: {wanted}");
            }
        };
        until(true);
        assert!(!is_postmaster_of(pid, Path::new("/elsewhere")));
        drop(child.stdin.take());
        // Nobody waited for it: it is still in the table of processes.
        if Path::new("/proc/self/cmdline").exists() {
            until(false);
        }
        child.wait().unwrap();
    }
}
