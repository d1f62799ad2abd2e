//! A primary that only its standbys have lost: it runs, its agent and the leader reach it, and nothing can be acknowledged there, because
//! too few standbys get to it. Another member takes its place, for the standbys may reach each other.
//!
//! Its own log is the longest then, by what nobody confirmed, and it would be found to be the most advanced again and again. So it is fenced
//! with a wish for another, by which the logs of the others decide if these are enough (see `step.rs`). What is lost is what was never
//! acknowledged, and `local` writes of these seconds.
//!
//! Standbys that come back after a while are no sign of that: they may have to catch up, or to be copied anew, and the primary has taken
//! `local` writes meanwhile. So one counts as cut off only if it was connected at this generation and has been heard ever since
//! (`Observed::cut_ms`). For the same reason a new primary that nobody reaches either is left where it is: moving on would help nobody.

use super::step::{Observed, following, is_fresh, serving};
use atoll_proto::WorkerId;
use atoll_proto::group::{Disk, GroupRecord};
use std::cmp::Reverse;

/// Standbys that were cut off for so long will not connect again in a moment, in milliseconds.
const CUT_MS: u64 = 600;

/// Whom to prefer to a primary that serves and is alone; none if it is not, or those who have lost it are too few to do without its log.
pub(super) fn instead(record: &GroupRecord, seen: &Observed) -> Option<Disk> {
    let report = serving(record, seen)?;
    let is_fresh = |worker: &WorkerId| seen.heard.get(worker).is_some_and(is_fresh);
    // Elsewhere nothing could be acknowledged either.
    let workers = record.workers.iter().filter(|worker| **worker != record.primary.worker && is_fresh(worker)).count();
    if !is_fresh(&record.primary.worker) || workers < record.copies as usize {
        return None;
    }
    let is_cut = |disk: &Disk| seen.cut_ms.get(disk).is_some_and(|ms| *ms >= CUT_MS);
    let confirm = record.voting_standbys().filter(|disk| report.streaming.contains(disk) && !is_cut(disk)).count();
    let cut = record.voting_standbys().filter(is_cut).count();
    if confirm + 1 >= record.copies as usize || cut < record.answers_needed() {
        return None;
    }
    most_advanced(record, seen)
}

/// The most advanced of those who say that they follow the primary.
pub(super) fn most_advanced(record: &GroupRecord, seen: &Observed) -> Option<Disk> {
    let follow = following(record, seen);
    let position = |disk: Disk| Some((seen.heard.get(&disk.worker)?.report.position?, Reverse(disk)));
    let able = record.voting_standbys().filter(|disk| follow.contains(disk));
    able.filter_map(position).max().map(|(_, Reverse(disk))| disk)
}

#[cfg(test)]
#[path = "alone_tests.rs"]
mod tests;
