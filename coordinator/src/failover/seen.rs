//! What this leader has heard of a group's members, and what that is at a moment. Nothing of it outlives the leader.

use atoll_core::failover::{Evidence, Heard, Observed, Word};
use atoll_proto::group::{Disk, GroupRecord, Report, Server};
use atoll_proto::{CatalogVersion, Generation, WorkerId};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

/// Who did not look for so long has not listened either: the machine was busy, or the process stopped. The silence is its own then.
const DEAF_AFTER: Duration = Duration::from_millis(1_000);
/// A standby that said something within this time says anything.
const LATELY: Duration = Duration::from_millis(2_000);

/// What was heard of a group.
#[derive(Debug)]
pub(super) struct Seen {
    heard: BTreeMap<WorkerId, Said>,
    /// Since when this leader has listened without a break.
    listens_since: Instant,
    looked_at: Instant,
    /// The record that was looked at last, and when it was first.
    record: Option<(CatalogVersion, Instant)>,
    /// Whom the two below are about.
    about: Option<(Disk, Generation)>,
    /// Since when the primary has said that it does not serve.
    down_since: Option<Instant>,
    /// Since when voters have not been streaming, by what the primary said.
    absent_since: BTreeMap<Disk, Instant>,
}

/// A report, and when it was asked for: it is not older.
#[derive(Debug)]
struct Said {
    report: Report,
    at: Instant,
}

impl Seen {
    /// Nothing yet.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            heard: BTreeMap::new(),
            listens_since: now,
            looked_at: now,
            record: None,
            about: None,
            down_since: None,
            absent_since: BTreeMap::new(),
        }
    }

    /// A worker's answer to a question that was sent at `at`. Answers may overtake each other.
    pub(super) fn note(&mut self, worker: WorkerId, report: Report, at: Instant) {
        if self.heard.get(&worker).is_none_or(|before| before.at <= at) {
            self.heard.insert(worker, Said { report, at });
        }
    }

    /// Takes the record in, and what its primary said last. Says whether the record is another one than before.
    pub(super) fn look(&mut self, record: &GroupRecord, now: Instant) -> bool {
        if now.duration_since(self.looked_at) >= DEAF_AFTER {
            self.listens_since = now;
        }
        self.looked_at = now;
        self.heard.retain(|worker, _| record.workers.contains(worker));
        let about = Some((record.primary, record.generation));
        if self.about != about {
            (self.about, self.down_since) = (about, None);
            self.absent_since.clear();
        }
        if let Some(said) = self.heard.get(&record.primary.worker) {
            match serves(record, &said.report) {
                true => {
                    self.down_since = None;
                    note_absent(&mut self.absent_since, record, said);
                }
                false => self.down_since = self.down_since.or(Some(said.at)),
            }
        }
        let is_new = self.record.is_none_or(|(at, _)| at != record.changed_at);
        if is_new {
            self.record = Some((record.changed_at, now));
        }
        is_new
    }

    /// What is known now of the record that was looked at last.
    pub(super) fn observed(&self, record: &GroupRecord, now: Instant) -> Observed {
        let said_at = self.heard.get(&record.primary.worker).map(|said| said.at);
        // What the primary said last is not stretched by its silence, which is held against it elsewhere.
        let by_its_word = |since: &Instant| said_at.map_or(0, |at| millis(at.saturating_duration_since(*since)));
        let heard = self.heard.iter().map(|(worker, said)| {
            let age_ms = millis(now.saturating_duration_since(said.at));
            (*worker, Heard { report: said.report.clone(), age_ms })
        });
        Observed {
            heard: heard.collect(),
            phase_ms: self.record.map_or(0, |(_, since)| millis(now.saturating_duration_since(since))),
            evidence: self.evidence(record, now),
            absent_ms: self.absent_since.iter().map(|(disk, since)| (*disk, by_its_word(since))).collect(),
        }
    }

    fn evidence(&self, record: &GroupRecord, now: Instant) -> Evidence {
        let primary = self.heard.get(&record.primary.worker);
        let word = primary.map(|said| match self.down_since {
            Some(since) => Word::Down { for_ms: millis(said.at.saturating_duration_since(since)) },
            None => Word::Serves,
        });
        let listened = primary.map_or(self.listens_since, |said| said.at.max(self.listens_since));
        let follows = Server::Following { worker: record.primary.worker };
        let is_heard = |said: &&Said| said.report.server == follows && now.saturating_duration_since(said.at) < LATELY;
        let standbys: Vec<Disk> = self.heard.values().filter(is_heard).map(|said| said.report.disk).collect();
        let is_cut = |disk: &&Disk| primary.is_some_and(|said| !said.report.streaming.contains(disk));
        Evidence {
            word,
            silent_ms: millis(now.saturating_duration_since(listened)),
            // Nobody keeps account of coordinators' connections yet. Silence alone is enough, later.
            failing_ms: 0,
            standbys_cut: standbys.iter().filter(is_cut).count() as u32,
            standbys_heard: standbys.len() as u32,
        }
    }
}

/// Whether this is the primary, and it serves at the record's generation.
fn serves(record: &GroupRecord, report: &Report) -> bool {
    let at_generation = report.position.is_some_and(|at| at.generation == record.generation);
    report.disk == record.primary && report.server == Server::Primary && at_generation
}

fn note_absent(absent: &mut BTreeMap<Disk, Instant>, record: &GroupRecord, primary: &Said) {
    let is_absent = |disk: &Disk| *disk != record.primary && !primary.report.streaming.contains(disk);
    absent.retain(|disk, _| record.voters.contains(disk) && is_absent(disk));
    for disk in record.voters.iter().filter(|disk| is_absent(disk)) {
        absent.entry(*disk).or_insert(primary.at);
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[path = "seen_tests.rs"]
mod tests;
