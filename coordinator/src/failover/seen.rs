//! What this leader has heard of a group's members, and what that is at a moment. Nothing of it outlives the leader.

use super::knock::Knock;
use atoll_core::failover::{CutOff, Evidence, Heard, Observed, Word, serves};
use atoll_proto::group::{Disk, GroupRecord, Phase, Report, Server, Stamp};
use atoll_proto::{CatalogVersion, Generation, WorkerId};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::time::Instant;

/// Who did not look for so long has not listened either: the machine was busy, or the process stopped. The silence is its own then.
const DEAF_AFTER: Duration = Duration::from_millis(1_000);
/// A standby that said something within this time says anything.
const LATELY: Duration = Duration::from_millis(2_000);
/// Who says that it does not serve is suspected by then, or serves again.
const DECIDED_WITHIN: Duration = Duration::from_millis(1_000);
/// Another primary that is not found by then is missing members.
const LOOKED_FOR_WITHIN: Duration = Duration::from_secs(5);
/// A primary whose agent has not seen it for so long is asked itself.
const MISSED_AFTER: Duration = Duration::from_millis(300);

/// What was heard of a group.
#[derive(Debug)]
pub(super) struct Seen {
    heard: BTreeMap<WorkerId, Said>,
    /// Who gave no answer when asked last.
    unanswering: BTreeSet<WorkerId>,
    /// Since when this leader has listened without a break.
    listens_since: Instant,
    looked_at: Instant,
    /// The record that was looked at last, and when it was first.
    record: Option<(CatalogVersion, Instant)>,
    /// Whom those below are about.
    about: Option<(Disk, Generation)>,
    /// Since when the primary has said that it does not serve.
    down_since: Option<Instant>,
    /// Since when it has not answered the leader itself, and since when its host has refused.
    failing_since: Option<Instant>,
    refused_since: Option<Instant>,
    /// Since when voters have not been streaming, by what the primary said.
    absent_since: BTreeMap<Disk, Instant>,
    cut_off: CutOff,
    /// The stamps that are recorded, since when this leader has seen them, and for how long they are left.
    stamps: BTreeMap<WorkerId, Stamp>,
    stamped_at: Instant,
    stamp_every: Duration,
    /// When this began: the clock of the above.
    began: Instant,
}

/// A report, when it was asked for, and since when what it says can be no older.
#[derive(Debug)]
struct Said {
    report: Report,
    at: Instant,
    seen_at: Instant,
}

impl Seen {
    /// Nothing yet. Stamps are recorded once in `stamp_every`.
    pub(super) fn new(now: Instant, stamp_every: Duration) -> Self {
        Self {
            heard: BTreeMap::new(),
            unanswering: BTreeSet::new(),
            listens_since: now,
            looked_at: now,
            record: None,
            about: None,
            down_since: None,
            failing_since: None,
            refused_since: None,
            absent_since: BTreeMap::new(),
            cut_off: CutOff::default(),
            stamps: BTreeMap::new(),
            stamped_at: now,
            stamp_every,
            began: now,
        }
    }

    /// A worker's answer to a question that was sent at `at`. Answers may overtake each other.
    pub(super) fn note(&mut self, worker: WorkerId, report: Report, at: Instant) {
        self.unanswering.remove(&worker);
        if self.heard.get(&worker).is_none_or(|before| before.at <= at) {
            let seen_at = at.checked_sub(Duration::from_millis(report.age_ms)).unwrap_or(at);
            self.heard.insert(worker, Said { report, at, seen_at });
        }
    }

    /// A worker gave no answer. Says whether it did before.
    pub(super) fn note_silence(&mut self, worker: WorkerId) -> bool {
        self.unanswering.insert(worker)
    }

    /// Whether the primary itself should be asked: its agent does not answer or has not seen it for a moment, or no standby has a
    /// connection to it.
    pub(super) fn misses(&self, record: &GroupRecord, now: Instant) -> bool {
        let primary = self.heard.get(&record.primary.worker);
        let (cut, standbys) = self.standbys(record, now);
        let is_old = |said: &Said| now.saturating_duration_since(said.seen_at) >= MISSED_AFTER;
        let is_unseen = primary.is_none_or(is_old) || self.unanswering.contains(&record.primary.worker);
        is_unseen || (standbys > 0 && cut == standbys)
    }

    /// Whether what members say next decides: the primary said a moment ago for the first time that it does not serve, or another one is being
    /// looked for, and not in vain already.
    pub(super) fn is_deciding(&self, record: &GroupRecord, now: Instant) -> bool {
        let lately = |since: Instant, within| now.saturating_duration_since(since) < within;
        let is_looked_for = record.phase != Phase::Steady;
        self.down_since.is_some_and(|since| lately(since, DECIDED_WITHIN))
            || is_looked_for && self.record.is_none_or(|(_, since)| lately(since, LOOKED_FOR_WITHIN))
    }

    /// What came of asking the server of this disk itself, at `at`.
    pub(super) fn knocked(&mut self, disk: Disk, knock: Knock, at: Instant) {
        if self.about.is_none_or(|(about, _)| about != disk) {
            return;
        }
        let since = |is_so: bool, since: Option<Instant>| is_so.then(|| since.unwrap_or(at));
        self.failing_since = since(knock != Knock::Answered, self.failing_since);
        self.refused_since = since(knock == Knock::Refused, self.refused_since);
    }

    /// Takes the record in, and what its primary said last. Says whether the record is another one than before, stamps aside.
    pub(super) fn look(&mut self, record: &GroupRecord, now: Instant) -> bool {
        if now.duration_since(self.looked_at) >= DEAF_AFTER {
            self.listens_since = now;
        }
        self.looked_at = now;
        self.heard.retain(|worker, _| record.workers.contains(worker));
        let about = Some((record.primary, record.generation));
        if self.about != about {
            (self.about, self.down_since) = (about, None);
            (self.failing_since, self.refused_since) = (None, None);
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
        // It is not asked while all see it, so what it said before is out of date.
        if !self.misses(record, now) {
            (self.failing_since, self.refused_since) = (None, None);
        }
        self.cut_off.look(record, &self.heard(now), millis(now.saturating_duration_since(self.began)));
        if self.stamps != record.stamps {
            (self.stamps, self.stamped_at) = (record.stamps.clone(), now);
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
        Observed {
            heard: self.heard(now),
            phase_ms: self.record.map_or(0, |(_, since)| millis(now.saturating_duration_since(since))),
            evidence: self.evidence(record, now),
            absent_ms: self.absent_since.iter().map(|(disk, since)| (*disk, by_its_word(since))).collect(),
            cut_ms: self.cut_off.ms(),
            stamp_is_due: now.saturating_duration_since(self.stamped_at) >= self.stamp_every,
        }
    }

    fn heard(&self, now: Instant) -> BTreeMap<WorkerId, Heard> {
        let heard = self.heard.iter().map(|(worker, said)| {
            let age_ms = millis(now.saturating_duration_since(said.at));
            (*worker, Heard { report: said.report.clone(), age_ms })
        });
        heard.collect()
    }

    fn evidence(&self, record: &GroupRecord, now: Instant) -> Evidence {
        let primary = self.heard.get(&record.primary.worker);
        let word = primary.map(|said| match self.down_since {
            Some(since) => Word::Down { for_ms: millis(said.at.saturating_duration_since(since)) },
            None => Word::Serves,
        });
        let listened = primary.map_or(self.listens_since, |said| said.seen_at.max(self.listens_since));
        let since = |since: Option<Instant>| since.map_or(0, |since| millis(now.saturating_duration_since(since)));
        let (standbys_cut, standbys_heard) = self.standbys(record, now);
        Evidence {
            word,
            silent_ms: millis(now.saturating_duration_since(listened)),
            failing_ms: since(self.failing_since),
            refused_ms: since(self.refused_since),
            standbys_cut,
            standbys_heard,
        }
    }

    /// How many standbys that say anything have no connection to the primary, by its word, and how many there are.
    fn standbys(&self, record: &GroupRecord, now: Instant) -> (u32, u32) {
        let primary = self.heard.get(&record.primary.worker);
        let follows = Server::Following { worker: record.primary.worker };
        let is_heard = |said: &&Said| said.report.server == follows && now.saturating_duration_since(said.at) < LATELY;
        let standbys: Vec<Disk> = self.heard.values().filter(is_heard).map(|said| said.report.disk).collect();
        let is_cut = |disk: &&Disk| primary.is_some_and(|said| !said.report.streaming.contains(disk));
        (standbys.iter().filter(is_cut).count() as u32, standbys.len() as u32)
    }
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
