//! Which change of a group's record may follow which.

use atoll_proto::group::{Disk, GroupRecord, Phase, Stamp};
use atoll_proto::{CatalogVersion, Generation, WorkerId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// A change of the record. It names the entry that it was decided on, and is refused if the record has changed since.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum Change {
    /// Look for a primary, at a new generation.
    Fence {
        /// Whom to prefer among equals.
        wish: Option<Disk>,
    },
    /// Begin a planned switchover.
    HandOver {
        /// Who shall take over.
        to: Disk,
    },
    /// Enough voters are fenced, and this is the most advanced of them.
    Promote {
        /// Who.
        candidate: Disk,
    },
    /// The candidate has recorded the generation in its log.
    Activate,
    /// Let PostgreSQL count these voters only, or all of them again.
    List {
        /// Whom.
        listed: BTreeSet<Disk>,
    },
    /// Change the in-sync set.
    Vote {
        /// The new set.
        voters: BTreeSet<Disk>,
        /// Who holds all that was acknowledged before PostgreSQL had the list of the record this was decided on.
        held_by: BTreeSet<Disk>,
    },
    /// Let a voter mend its data, or say that this is over.
    Mend {
        /// Which.
        disk: Option<Disk>,
    },
    /// Record what voters' stamps are.
    Stamp {
        /// Of these workers' data. (A map would not be read: its keys are text in JSON, and nested tags leave them so.)
        stamps: Vec<(WorkerId, Stamp)>,
    },
    /// An operator goes on with this disk alone, whatever it lacks.
    AcceptLoss {
        /// Whose data shall count.
        survivor: Disk,
    },
}

/// The record after the change, which is the entry `at`; none where it may not follow.
pub fn changed(
    record: &GroupRecord,
    decided_at: CatalogVersion,
    change: Change,
    at: CatalogVersion,
) -> Option<GroupRecord> {
    if decided_at != record.changed_at {
        return None;
    }
    let mut next = GroupRecord { changed_at: at, ..record.clone() };
    match (record.phase, change) {
        (_, Change::Fence { wish }) => begin(&mut next, Phase::Fencing { wish }),
        (Phase::Steady, Change::HandOver { to }) if to != record.primary && record.voters.contains(&to) => {
            next.phase = Phase::HandingOver { to };
        }
        (Phase::Fencing { .. }, Change::Promote { candidate }) if record.voters.contains(&candidate) => {
            next.phase = Phase::Promoting { candidate };
        }
        (Phase::Promoting { candidate }, Change::Activate) => {
            (next.primary, next.phase) = (candidate, Phase::Steady);
            // It had leave to mend, and was found to be the most advanced before it began.
            next.mending = record.mending.filter(|disk| *disk != candidate);
        }
        (Phase::Steady, Change::List { listed })
            if listed.is_subset(&record.voters) && listed.contains(&record.primary) && listed != record.listed =>
        {
            next.listed = listed;
        }
        (Phase::Steady, Change::Vote { voters, held_by }) if may_vote(record, &voters, &held_by) => {
            (next.listed, next.voters) = (voters.clone(), voters);
            next.mending = record.mending.filter(|disk| next.voters.contains(disk));
        }
        (Phase::Steady, Change::Mend { disk: Some(disk) })
            if record.mending.is_none() && record.voters.contains(&disk) && disk != record.primary =>
        {
            next.mending = Some(disk);
        }
        (Phase::Steady, Change::Mend { disk: None }) if record.mending.is_some() => next.mending = None,
        (Phase::Steady, Change::Stamp { stamps }) => {
            // What was said late may be of before.
            let is_new = |(worker, stamp): &(WorkerId, Stamp)| {
                let disk = Disk { worker: *worker, incarnation: stamp.incarnation };
                record.voters.contains(&disk) && record.lacks(disk, *stamp)
            };
            next.stamps.extend(stamps.into_iter().filter(is_new));
            // Nothing that members act by.
            next.changed_at = record.changed_at;
            if next.stamps == record.stamps {
                return None;
            }
        }
        (_, Change::AcceptLoss { survivor }) if record.workers.contains(&survivor.worker) => {
            (next.voters, next.mending) = (BTreeSet::from([survivor]), None);
            // It is taken as it is, also where it was put back.
            next.stamps.remove(&survivor.worker);
            begin(&mut next, Phase::Promoting { candidate: survivor });
        }
        (
            Phase::Steady | Phase::HandingOver { .. } | Phase::Fencing { .. } | Phase::Promoting { .. },
            Change::HandOver { .. }
            | Change::Promote { .. }
            | Change::Activate
            | Change::List { .. }
            | Change::Vote { .. }
            | Change::Mend { .. }
            | Change::Stamp { .. }
            | Change::AcceptLoss { .. },
        ) => return None,
    }
    Some(next)
}

fn begin(record: &mut GroupRecord, phase: Phase) {
    record.generation = Generation(record.generation.0 + 1);
    record.phase = phase;
    record.listed = record.voters.clone();
}

/// Whether the in-sync set may become this one.
fn may_vote(record: &GroupRecord, voters: &BTreeSet<Disk>, held_by: &BTreeSet<Disk>) -> bool {
    let workers: BTreeSet<WorkerId> = voters.iter().map(|disk| disk.worker).collect();
    let is_proper = workers.len() == voters.len() && workers.is_subset(&record.workers) && *voters != record.voters;
    // What is acknowledged from now on has its copies in the new set.
    let counts_whom_postgres_counts = record.listed.is_subset(voters) && voters.contains(&record.primary);
    // What was acknowledged before has them there too.
    let only_grows = record.voters.is_subset(voters) && record.voters.len() >= record.copies as usize;
    let is_held = voters.intersection(held_by).count() >= record.copies as usize;
    is_proper && counts_whom_postgres_counts && (only_grows || is_held)
}

#[cfg(test)]
#[path = "change_tests.rs"]
mod tests;
