//! What the catalog keeps of a group's replication, and its members act by.
//!
//! Everything rests on one relation: whom the primary's PostgreSQL may count for an acknowledgement is a subset of `voters`. Then `copies`
//! voters hold each acknowledged write, and any `voters - copies + 1` of them include one that does.

use super::stamp::Stamp;
use crate::{CatalogVersion, Generation, Lsn, WorkerId};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Number of a data directory of one worker: a new one whenever data was lost or copied anew. Starts at 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Incarnation(pub u64);

/// A worker's data. A worker whose disk was wiped has another one, which has promised nothing and holds nothing.
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

impl Phase {
    /// Its name, as it is written and shown.
    pub fn name(self) -> &'static str {
        match self {
            Self::Steady => "steady",
            Self::HandingOver { .. } => "handing_over",
            Self::Fencing { .. } => "fencing",
            Self::Promoting { .. } => "promoting",
        }
    }
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
    /// The stamps of voters, as they were recorded last.
    #[serde(default)]
    pub stamps: BTreeMap<WorkerId, Stamp>,
    /// The entry that last changed the record, its stamps aside.
    pub changed_at: CatalogVersion,
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
            stamps: BTreeMap::new(),
            changed_at: at,
        }
    }

    /// The voters but the primary.
    pub fn voting_standbys(&self) -> impl Iterator<Item = Disk> + '_ {
        self.voters.iter().copied().filter(|disk| *disk != self.primary)
    }

    /// How many voters have to be fenced, so that every acknowledged write is on one of them and none can be acknowledged any more.
    /// A set that has fewer than `copies` acknowledges nothing, and all of it counts.
    pub fn answers_needed(&self) -> usize {
        let (voters, copies) = (self.voters.len(), self.copies as usize);
        if voters < copies { voters } else { voters - copies + 1 }
    }
}
