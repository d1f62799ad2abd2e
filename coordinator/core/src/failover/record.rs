//! What the catalog keeps of a group's replication, and which change may follow which.
//!
//! Everything rests on one relation: whom the primary's PostgreSQL may count for an acknowledgement is a subset of `voters`. Then `copies`
//! voters hold each acknowledged write, and any `voters - copies + 1` of them include one that does.

use atoll_proto::{CatalogVersion, Generation, Lsn, WorkerId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Number of a data directory of one worker: a new one whenever data was lost, restored, or copied anew. Starts at 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Incarnation(pub u64);

/// A worker's data. A worker whose disk was wiped or restored has another one, which has promised nothing and holds nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Disk {
    /// Whose.
    pub worker: WorkerId,
    /// Which of all that it had.
    pub incarnation: Incarnation,
}

/// How far a log goes. The generation comes first: PostgreSQL's own numbers of timelines are given by each server for itself, so
/// two servers that were promoted apart from each other can use the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Position {
    /// The newest generation that is recorded in the log itself.
    pub generation: Generation,
    /// Up to where it is flushed.
    pub lsn: Lsn,
}

/// Where a group stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "snake_case")]
pub enum Phase {
    /// The primary serves at the record's generation, the others follow it.
    Steady,
    /// The primary stops, so that another can take over with all of its log. The others follow to the end.
    HandingOver {
        /// Who shall take over.
        to: Disk,
    },
    /// All members stop receiving and say how far their logs go.
    Fencing {
        /// Whom to prefer among equals.
        wish: Option<Disk>,
    },
    /// The candidate becomes the primary, the others wait.
    Promoting {
        /// The one that may serve at the record's generation. No other ever will.
        candidate: Disk,
    },
}

/// What the catalog knows of a group's replication.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupRecord {
    /// How many disks hold a write before it is acknowledged, the primary's among them. Never changes.
    pub copies: u32,
    /// All workers of the group.
    pub workers: BTreeSet<WorkerId>,
    /// Grows with each attempt to find a primary.
    pub generation: Generation,
    /// The primary that was active last.
    pub primary: Disk,
    /// Where the group stands.
    pub phase: Phase,
    /// The in-sync set: each acknowledged write is on `copies` of these.
    pub voters: BTreeSet<Disk>,
    /// Whom the primary's PostgreSQL shall count: voters, without those that are about to leave.
    pub listed: BTreeSet<Disk>,
    /// The voter that may give up its data to have it mended. One at a time, so that the others are always enough to be fenced.
    pub mending: Option<Disk>,
    /// The entry that last changed the record.
    pub changed_at: CatalogVersion,
}

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
    /// An operator goes on with this disk alone, whatever it lacks.
    AcceptLoss {
        /// Whose data shall count.
        survivor: Disk,
    },
}

impl GroupRecord {
    /// A group that begins, with one disk.
    pub fn founded(primary: Disk, workers: BTreeSet<WorkerId>, copies: u32, at: CatalogVersion) -> Self {
        let alone = BTreeSet::from([primary]);
        Self {
            copies,
            workers,
            generation: Generation(1),
            primary,
            phase: Phase::Steady,
            voters: alone.clone(),
            listed: alone,
            mending: None,
            changed_at: at,
        }
    }

    /// How many voters have to be fenced, so that every acknowledged write is on one of them and none can be acknowledged any more.
    /// A set that has fewer than `copies` acknowledges nothing, and all of it counts.
    pub fn answers_needed(&self) -> usize {
        let (voters, copies) = (self.voters.len(), self.copies as usize);
        if voters < copies { voters } else { voters - copies + 1 }
    }

    /// The record after the change, which is the entry `at`; none where it may not follow.
    pub fn changed(&self, decided_at: CatalogVersion, change: Change, at: CatalogVersion) -> Option<Self> {
        if decided_at != self.changed_at {
            return None;
        }
        let mut next = Self { changed_at: at, ..self.clone() };
        match (self.phase, change) {
            (_, Change::Fence { wish }) => next.begin(Phase::Fencing { wish }),
            (Phase::Steady, Change::HandOver { to }) if to != self.primary && self.voters.contains(&to) => {
                next.phase = Phase::HandingOver { to };
            }
            (Phase::Fencing { .. }, Change::Promote { candidate }) if self.voters.contains(&candidate) => {
                next.phase = Phase::Promoting { candidate };
            }
            (Phase::Promoting { candidate }, Change::Activate) => {
                (next.primary, next.phase) = (candidate, Phase::Steady);
                // It had leave to mend, and was found to be the most advanced before it began.
                next.mending = self.mending.filter(|disk| *disk != candidate);
            }
            (Phase::Steady, Change::List { listed })
                if listed.is_subset(&self.voters) && listed.contains(&self.primary) && listed != self.listed =>
            {
                next.listed = listed;
            }
            (Phase::Steady, Change::Vote { voters, held_by }) if self.may_vote(&voters, &held_by) => {
                (next.listed, next.voters) = (voters.clone(), voters);
                next.mending = self.mending.filter(|disk| next.voters.contains(disk));
            }
            (Phase::Steady, Change::Mend { disk: Some(disk) })
                if self.mending.is_none() && self.voters.contains(&disk) && disk != self.primary =>
            {
                next.mending = Some(disk);
            }
            (Phase::Steady, Change::Mend { disk: None }) if self.mending.is_some() => next.mending = None,
            (_, Change::AcceptLoss { survivor }) if self.workers.contains(&survivor.worker) => {
                (next.voters, next.mending) = (BTreeSet::from([survivor]), None);
                next.begin(Phase::Promoting { candidate: survivor });
            }
            (
                Phase::Steady | Phase::HandingOver { .. } | Phase::Fencing { .. } | Phase::Promoting { .. },
                Change::HandOver { .. }
                | Change::Promote { .. }
                | Change::Activate
                | Change::List { .. }
                | Change::Vote { .. }
                | Change::Mend { .. }
                | Change::AcceptLoss { .. },
            ) => return None,
        }
        Some(next)
    }

    fn begin(&mut self, phase: Phase) {
        self.generation = Generation(self.generation.0 + 1);
        self.phase = phase;
        self.listed = self.voters.clone();
    }

    /// Whether the in-sync set may become this one.
    fn may_vote(&self, voters: &BTreeSet<Disk>, held_by: &BTreeSet<Disk>) -> bool {
        let workers: BTreeSet<WorkerId> = voters.iter().map(|disk| disk.worker).collect();
        let is_proper = workers.len() == voters.len() && workers.is_subset(&self.workers) && *voters != self.voters;
        // What is acknowledged from now on has its copies in the new set.
        let counts_whom_postgres_counts = self.listed.is_subset(voters) && voters.contains(&self.primary);
        // What was acknowledged before has them there too.
        let only_grows = self.voters.is_subset(voters) && self.voters.len() >= self.copies as usize;
        let is_held = voters.intersection(held_by).count() >= self.copies as usize;
        is_proper && counts_whom_postgres_counts && (only_grows || is_held)
    }
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
