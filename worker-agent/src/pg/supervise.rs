//! Keeps a managed server running: starts it, starts it again when it dies, stops it at the end.

use super::backoff::Backoff;
use crate::pg::account::Account;
use crate::pg::find::Install;
use crate::pg::layout::Layout;
use crate::pg::process::Postmaster;
use crate::pg::steer::{Run, Steering};
use crate::stop::Stop;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::sync::watch;

const LAST_WORDS_BYTES: u64 = 16 * 1_024;

/// What is supervised.
#[derive(Debug, Clone)]
pub struct Supervised {
    /// Its files.
    pub layout: Layout,
    /// Its programs.
    pub install: Install,
    /// Who runs it, if not we.
    pub account: Option<Account>,
    /// The port it must listen on.
    pub port: u16,
    /// Whether it is to run.
    pub steering: Steering,
}

impl Supervised {
    /// Keeps the server running until `stop` is told, then stops it. The postmaster's process id goes to `pid`.
    pub async fn run(self, pid: watch::Sender<Option<u32>>, mut stop: Stop) {
        let mut backoff = Backoff::default();
        let mut running = self.adopt().await;
        if running.is_none() {
            self.steering.died();
        }
        loop {
            if stop.is_told() {
                if let Some(postmaster) = running {
                    stop_one(postmaster).await;
                }
                return;
            }
            if running.is_none() && self.steering.settle() == Run::Stopped {
                tokio::select! {
                    () = self.steering.wanted() => {}
                    () = stop.told() => {}
                }
                continue;
            }
            let started_at = Instant::now();
            let mut postmaster = match running.take() {
                Some(adopted) => adopted,
                None => match Postmaster::start(&self.layout, &self.install, self.account.as_ref()) {
                    Ok(started) => {
                        tracing::info!(pid = started.pid(), port = self.port, "PostgreSQL started");
                        started
                    }
                    Err(error) => {
                        tracing::error!(%error, bin = %self.install.bin.display(), "PostgreSQL cannot be started");
                        self.steering.died();
                        wait(backoff.after(Duration::ZERO, Instant::now()), &mut stop).await;
                        continue;
                    }
                },
            };
            pid.send_replace(Some(postmaster.pid()));
            let how = tokio::select! {
                how = postmaster.ended() => how,
                () = self.steering.unwanted() => {
                    stop_one(postmaster).await;
                    pid.send_replace(None);
                    continue;
                }
                () = stop.told() => {
                    stop_one(postmaster).await;
                    pid.send_replace(None);
                    return;
                }
            };
            pid.send_replace(None);
            self.steering.died();
            let again_in = backoff.after(started_at.elapsed(), Instant::now());
            tracing::error!(
                pid = postmaster.pid(),
                how,
                lived_ms = started_at.elapsed().as_millis(),
                again_in_ms = again_in.as_millis(),
                said = self.last_words(),
                "PostgreSQL died, starting it again"
            );
            wait(again_in, &mut stop).await;
        }
    }

    /// A server that an agent before us left running. One on another port is stopped: its settings are not ours.
    async fn adopt(&self) -> Option<Postmaster> {
        let (postmaster, port) = Postmaster::find_running(&self.layout)?;
        if port != self.port {
            tracing::warn!(pid = postmaster.pid(), port, wanted = self.port, "stopping a server of another port");
            postmaster.stop().await;
            return None;
        }
        tracing::info!(pid = postmaster.pid(), port, "adopting the server that runs on the data directory");
        postmaster.reload();
        Some(postmaster)
    }

    /// Why the server died, by what it logged last.
    fn last_words(&self) -> String {
        let own_logs = std::fs::read_dir(self.layout.logs()).into_iter().flatten().flatten().map(|entry| entry.path());
        let newest = own_logs
            .chain([self.layout.start_log()])
            .max_by_key(|path| path.metadata().and_then(|metadata| metadata.modified()).ok());
        let text = newest.and_then(|path| end_of(&path).ok()).unwrap_or_default();
        last_words(&text)
    }
}

/// What a log says of a death: the last failure of the server itself, and its last lines.
fn last_words(log: &str) -> String {
    // What it tells clients that come meanwhile is no reason.
    let is_own = |line: &&str| {
        let fatal = line.contains("PANIC:") || line.contains("FATAL:");
        fatal && !["the database system is", "terminating connection"].iter().any(|told| line.contains(told))
    };
    let lines: Vec<&str> = log.lines().collect();
    let end = &lines[lines.len().saturating_sub(3)..];
    let failure = lines.iter().rev().copied().find(is_own).filter(|line| !end.contains(line));
    failure.into_iter().chain(end.iter().copied()).collect::<Vec<_>>().join(" | ")
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

async fn stop_one(postmaster: Postmaster) {
    let (pid, begun) = (postmaster.pid(), Instant::now());
    postmaster.stop().await;
    tracing::info!(pid, took_ms = begun.elapsed().as_millis(), "PostgreSQL stopped");
}

async fn wait(how_long: Duration, stop: &mut Stop) {
    // Either way the loop looks at `stop` next.
    let _ = tokio::time::timeout(how_long, stop.told()).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_of_a_death_is_told_though_others_talk_after_it() {
        let log = "LOG:  checkpoint starting\n\
                   PANIC:  could not write to file \"pg_wal/x\": No space left on device\n\
                   LOG:  server process (PID 7) was terminated by signal 6\n\
                   FATAL:  the database system is in recovery mode\n\
                   LOG:  shutting down\n\
                   LOG:  database system is shut down";
        assert!(last_words(log).starts_with("PANIC:  could not write"), "{}", last_words(log));
        assert!(last_words(log).ends_with("database system is shut down"));
        assert_eq!(last_words("FATAL:  bad setting\nLOG:  shut down"), "FATAL:  bad setting | LOG:  shut down");
        assert_eq!(last_words(""), "");
    }
}
