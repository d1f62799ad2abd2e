//! How the in-sync set grows and shrinks: what the primary says of its standbys, against the record.
//!
//! PostgreSQL never counts whom the catalog does not. So a member joins in the catalog first, and leaves PostgreSQL first; and before one
//! leaves the catalog, all that was acknowledged has to be on enough of those who stay, for it may have been acknowledged by the one who goes.

use super::change::Change;
use atoll_proto::group::{Disk, GroupRecord, Report};
use std::collections::{BTreeMap, BTreeSet};

/// A voter that has not been streaming for so long leaves, in milliseconds.
const GONE_MS: u64 = 1_500;

/// How the record's sets should change, by the report of its primary, which serves at the record's generation; none if they are right, or
/// nothing can be done yet. `absent_ms` says for how long a voter has not been streaming, `following` which disks say themselves that they
/// follow the primary: it may take others for standbys, such as a disk whose worker has another one now, which nobody could fence.
pub(super) fn reform(
    record: &GroupRecord,
    report: &Report,
    absent_ms: &BTreeMap<Disk, u64>,
    following: &BTreeSet<Disk>,
) -> Option<Change> {
    let is_gone = |disk: &Disk| {
        let absent = absent_ms.get(disk).is_some_and(|ms| *ms >= GONE_MS);
        *disk != record.primary && absent && !report.streaming.contains(disk)
    };
    // What PostgreSQL counts is known only once it has this very list.
    let held_by = match report.listed_at == Some(record.changed_at) {
        true => with(&report.caught_up, record.primary),
        false => BTreeSet::new(),
    };
    let staying: BTreeSet<Disk> = record.voters.iter().copied().filter(|disk| !is_gone(disk)).collect();
    let mut voters = staying.clone();
    for disk in held_by.iter().filter(|disk| following.contains(*disk)) {
        if voters.iter().all(|voter| voter.worker != disk.worker) {
            voters.insert(*disk);
        }
    }
    if voters == record.voters {
        let listed = record.voters.clone();
        return (record.listed != listed).then_some(Change::List { listed });
    }
    // With fewer nothing could be acknowledged; so whoever is gone stays until another has come.
    if voters.len() < record.copies as usize {
        return None;
    }
    if !record.listed.is_subset(&staying) {
        return Some(Change::List { listed: record.listed.intersection(&staying).copied().collect() });
    }
    let enough_hold_all = voters.intersection(&held_by).count() >= record.copies as usize;
    enough_hold_all.then_some(Change::Vote { voters, held_by })
}

fn with(disks: &BTreeSet<Disk>, another: Disk) -> BTreeSet<Disk> {
    disks.iter().copied().chain([another]).collect()
}
