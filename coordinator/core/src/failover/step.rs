//! What the leader's driver does next about a group, by its record and by what it has heard. All of it may be forgotten: whoever
//! leads next goes on from the record. There is nothing to order: members are sent the record, and act by it.

use super::alone;
use super::change::Change;
use super::in_sync::reform;
use super::suspicion::{Evidence, Suspicion, suspicion};
use atoll_proto::WorkerId;
use atoll_proto::group::{Disk, GroupRecord, Phase, Report, Server, Stamp};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// A member that said something within this time can be reached, in milliseconds.
const REACHABLE_MS: u64 = 2_000;
/// A primary that stops for another has so long, in milliseconds.
const HAND_OVER_MS: u64 = 2_000;
/// Others than the old primary are waited for so long while they are fenced, where one of them shall take over, in milliseconds.
const WISH_MS: u64 = 3_000;
/// A candidate that says nothing for so long is given up, in milliseconds.
const CANDIDATE_SILENT_MS: u64 = 1_500;
/// So is one that is not the primary after so long, in milliseconds.
const PROMOTING_MS: u64 = 10_000;

/// A report, and how old it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// What was said.
    pub report: Report,
    /// How long ago, in milliseconds.
    pub age_ms: u64,
}

/// What a driver knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// What each worker said last.
    pub heard: BTreeMap<WorkerId, Heard>,
    /// How long this driver has known the record as it is, in milliseconds.
    pub phase_ms: u64,
    /// What is known of the primary.
    pub evidence: Evidence,
    /// For how long voters have not been streaming, by what the primary said, in milliseconds.
    pub absent_ms: BTreeMap<Disk, u64>,
    /// For how long standbys have had no connection to the primary, by what they said; only of those that had one at the record's
    /// generation and have been heard ever since.
    pub cut_ms: BTreeMap<Disk, u64>,
    /// Whether voters' stamps were recorded long enough ago.
    pub stamp_is_due: bool,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Propose this change, as decided on the record.
    Record(Change),
    /// Look again when something was heard, or a moment later.
    Wait,
}

/// What to do next about a group.
pub fn next_step(record: &GroupRecord, seen: &Observed) -> Step {
    match record.phase {
        Phase::Steady => steady(record, seen).map_or(Step::Wait, Step::Record),
        Phase::HandingOver { to } => match (has_all(record, seen, to), seen.phase_ms >= HAND_OVER_MS) {
            (true, _) => Step::Record(Change::Fence { wish: Some(to) }),
            // Without a wish: what only the old primary has is not given up for a switchover.
            (false, true) => Step::Record(Change::Fence { wish: None }),
            (false, false) => Step::Wait,
        },
        Phase::Fencing { wish } => match most_advanced(record, seen, wish) {
            // Others may be as far and quicker to say so, the old primary among them.
            Some(candidate) if wish.is_some_and(|wish| wish != candidate) && others_are_awaited(record, seen) => {
                Step::Wait
            }
            Some(candidate) => Step::Record(Change::Promote { candidate }),
            None => Step::Wait,
        },
        Phase::Promoting { candidate } => promoting(record, seen, candidate),
    }
}

fn steady(record: &GroupRecord, seen: &Observed) -> Option<Change> {
    if let Some(suspicion) = suspicion(&seen.evidence) {
        // One that nobody reaches is there, has the longest log, and would be out of reach again: others have to do without it.
        let wish = (suspicion == Suspicion::Unreachable).then(|| alone::most_advanced(record, seen)).flatten();
        // To fence too few would stop a primary that may be well, and put none in its place. It counts as one that can be reached if its
        // agent can, but where others have to do without it.
        let without = wish.map(|_| record.primary);
        return (answering(record, seen, without) >= record.answers_needed()).then_some(Change::Fence { wish });
    }
    if let Some(instead) = alone::instead(record, seen) {
        return Some(Change::Fence { wish: Some(instead) });
    }
    let report = serving(record, seen)?;
    leave(record, seen, report)
        .or_else(|| reform(record, report, &seen.absent_ms, &following(record, seen)))
        .or_else(|| mend(record, seen, report))
        .or_else(|| stamp(record, seen))
}

/// What the primary says, if it serves at the record's generation.
pub(super) fn serving<'a>(record: &GroupRecord, seen: &'a Observed) -> Option<&'a Report> {
    let Heard { report, age_ms } = seen.heard.get(&record.primary.worker)?;
    let serves = *age_ms < REACHABLE_MS && report.disk == record.primary && is_primary(record, report);
    serves.then_some(report)
}

/// Whether one says that it is the primary of the record's generation.
pub(super) fn is_primary(record: &GroupRecord, report: &Report) -> bool {
    let at_generation = report.position.is_some_and(|at| at.generation == record.generation);
    report.server == Server::Primary && at_generation && !report.restored
}

/// Disks that said lately that they follow the primary.
pub(super) fn following(record: &GroupRecord, seen: &Observed) -> BTreeSet<Disk> {
    let follow = seen.heard.values().filter(|heard| is_following(record, heard));
    follow.map(|heard| heard.report.disk).collect()
}

/// Whether one said lately that it follows the primary.
fn is_following(record: &GroupRecord, heard: &Heard) -> bool {
    heard.report.server == Server::Following { worker: record.primary.worker } && is_fresh(heard)
}

/// The same, and that it does so at the record's generation.
pub(super) fn says_that_it_follows(record: &GroupRecord, heard: &Heard) -> bool {
    is_following(record, heard) && heard.report.generation == record.generation
}

/// Whether it tells of a moment ago. An agent whose server hangs answers, and has nothing new to tell.
pub(super) fn is_fresh(Heard { report, age_ms }: &Heard) -> bool {
    age_ms.saturating_add(report.age_ms) < REACHABLE_MS
}

/// How many voters would answer, without that one.
fn answering(record: &GroupRecord, seen: &Observed, without: Option<Disk>) -> usize {
    record.voters.iter().filter(|disk| Some(**disk) != without && would_answer(seen, **disk)).count()
}

fn would_answer(seen: &Observed, disk: Disk) -> bool {
    seen.heard.get(&disk.worker).is_some_and(|heard| {
        let usable = match heard.report.server {
            Server::Stopped { .. } | Server::Detached | Server::Following { .. } | Server::Primary => true,
            Server::Unusable { .. } => false,
        };
        usable && !heard.report.restored && is_fresh(heard) && heard.report.disk == disk
    })
}

/// Who takes over from a primary whose agent was told to stop: the most advanced of those that follow it and stay.
fn leave(record: &GroupRecord, seen: &Observed, primary: &Report) -> Option<Change> {
    let follows = Server::Following { worker: record.primary.worker };
    let stays = |disk: &Disk| {
        let Heard { report, age_ms } = seen.heard.get(&disk.worker)?;
        let is_able = report.disk == *disk && report.server == follows && primary.streaming.contains(disk);
        (is_able && !report.leaving && *age_ms < REACHABLE_MS).then_some((report.position?, *disk))
    };
    let best = record.voters.iter().filter_map(stays).max_by_key(|(position, disk)| (*position, Reverse(*disk)));
    best.filter(|_| primary.leaving).map(|(_, to)| Change::HandOver { to })
}

/// Which voter may mend its data now. One that can leave the in-sync set does so first, and needs no leave to mend.
fn mend(record: &GroupRecord, seen: &Observed, primary: &Report) -> Option<Change> {
    if let Some(disk) = record.mending {
        // Where it could not be mended there is another disk in its place.
        let is_lost = seen.heard.get(&disk.worker).is_some_and(|heard| heard.report.disk != disk);
        return (is_lost || primary.streaming.contains(&disk)).then_some(Change::Mend { disk: None });
    }
    let asks = |disk: &Disk| {
        let heard = seen.heard.get(&disk.worker).filter(|heard| heard.report.disk == *disk);
        let diverged = heard.is_some_and(|Heard { report, .. }| report.diverged && report.server == Server::Detached);
        diverged && answering(record, seen, Some(*disk)) >= record.answers_needed()
    };
    record.voting_standbys().find(asks).map(|disk| Change::Mend { disk: Some(disk) })
}

/// Records which stamps voters keep, where these are others than those that are recorded.
fn stamp(record: &GroupRecord, seen: &Observed) -> Option<Change> {
    let report =
        |disk: &Disk| seen.heard.get(&disk.worker).map(|heard| &heard.report).filter(|said| said.disk == *disk);
    let new = |disk: &Disk| {
        let stamp = report(disk).filter(|report| !report.restored)?.stamp?;
        record.lacks(*disk, stamp).then_some((disk.worker, stamp))
    };
    let stamps: Vec<(WorkerId, Stamp)> = record.voters.iter().filter_map(new).collect();
    (seen.stamp_is_due && !stamps.is_empty()).then_some(Change::Stamp { stamps })
}

/// Whether the primary has stopped and this standby has all of its log.
fn has_all(record: &GroupRecord, seen: &Observed, to: Disk) -> bool {
    let position = |disk: Disk| {
        let report = &seen.heard.get(&disk.worker).filter(|heard| heard.report.disk == disk)?.report;
        Some((report.server, report.position?))
    };
    match (position(record.primary), position(to)) {
        (Some((Server::Detached, all)), Some((_, has))) => has >= all,
        (Some(_) | None, Some(_) | None) => false,
    }
}

/// The most advanced of the voters that are fenced, if these are enough. Among equals the one wished for, then the lowest.
///
/// Any voters that are enough will do: one of them has each acknowledged write. So where another than the old primary is wished for and
/// others are enough, they decide without it, and what only it has is given up: nobody confirmed that.
fn most_advanced(record: &GroupRecord, seen: &Observed, wish: Option<Disk>) -> Option<Disk> {
    let mut fenced = BTreeMap::new();
    for Heard { report, age_ms: _ } in seen.heard.values() {
        let promised = report.generation == record.generation && report.server == Server::Detached;
        if let Some(position) =
            report.position.filter(|_| promised && !report.restored && record.voters.contains(&report.disk))
        {
            fenced.insert(report.disk, position);
        }
    }
    let others = fenced.keys().filter(|disk| **disk != record.primary).count();
    if wish.is_some_and(|wish| wish != record.primary) && others >= record.answers_needed() {
        fenced.remove(&record.primary);
    }
    let best = *fenced.values().max()?;
    let mut equals = fenced.iter().filter(|(_, position)| **position == best).map(|(disk, _)| *disk);
    let wished = wish.filter(|wish| fenced.get(wish) == Some(&best));
    wished.or_else(|| equals.next()).filter(|_| fenced.len() >= record.answers_needed())
}

/// Whether another than the old primary may yet say how far it is: nobody waits long for that.
fn others_are_awaited(record: &GroupRecord, seen: &Observed) -> bool {
    let has_said =
        |heard: &Heard| heard.report.generation == record.generation && heard.report.server == Server::Detached;
    let is_awaited = |disk: Disk| would_answer(seen, disk) && !seen.heard.get(&disk.worker).is_some_and(has_said);
    seen.phase_ms < WISH_MS && record.voting_standbys().any(is_awaited)
}

/// The generation belongs to the candidate. If it does not become the primary, the next generation goes to whom it may.
fn promoting(record: &GroupRecord, seen: &Observed, candidate: Disk) -> Step {
    let heard = seen.heard.get(&candidate.worker).filter(|heard| heard.report.disk == candidate);
    if heard.is_some_and(|heard| is_primary(record, &heard.report)) {
        return Step::Record(Change::Activate);
    }
    let silent_ms = heard.map_or(seen.phase_ms, |heard| heard.age_ms.min(seen.phase_ms));
    match silent_ms >= CANDIDATE_SILENT_MS || seen.phase_ms >= PROMOTING_MS {
        true => Step::Record(Change::Fence { wish: None }),
        false => Step::Wait,
    }
}

#[cfg(test)]
#[path = "step_tests.rs"]
mod tests;
