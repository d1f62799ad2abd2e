//! What the catalog keeps of a move, and which phase may follow which.

use atoll_proto::moves::MovePhase;
use atoll_proto::{CatalogVersion, Generation, GroupId, ShardId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// A move of one shard from the group that owns it to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoveJob {
    /// Chosen by who asked: asked twice, it is one move.
    pub token: String,
    /// The shard.
    pub shard: ShardId,
    /// The group that owned it when the move began.
    pub from: GroupId,
    /// The group that shall own it.
    pub to: GroupId,
    /// Generation of the placement on the source.
    pub source_generation: Generation,
    /// Generation of the placement on the target.
    pub target_generation: Generation,
    /// Where it stands.
    pub phase: MovePhase,
    /// The entry that began the phase: the number of its orders.
    pub changed_at: CatalogVersion,
    /// Longest pause of writes, in milliseconds.
    pub max_write_pause_ms: u32,
    /// Whether both sides were compared and found equal.
    pub verified: bool,
    /// Verifications that were given up; once one held, fences that were.
    pub attempts: u32,
    /// How long writes had to wait, in milliseconds, once it is known.
    pub write_pause_ms: Option<u32>,
    /// Rows that were compared, once they were.
    pub rows: Option<u64>,
    /// PostgreSQL's number of the subscription on the target, once it is known.
    #[serde(default)]
    pub subscription: Option<u32>,
    /// Why it failed.
    pub error: Option<String>,
    /// What may exist on the servers because of this move, and has to go.
    pub cleanups: BTreeSet<Cleanup>,
}

/// Something that a move may leave on a server, written down before it is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cleanup {
    /// Source: the schema may bear its retired name. Before the switch it has to come back, after it to go.
    Retired,
    /// Source: publication, slot, markers and rights.
    Feed,
    /// Target: subscription and markers.
    Subscription,
    /// Target: the copy, under either name. From the switch on it is the shard and no cleanup any more.
    Copy,
}

/// What a phase's end brings to the record, besides the next phase.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Advance {
    /// How long writes had to wait, in milliseconds.
    #[serde(default)]
    pub write_pause_ms: Option<u32>,
    /// Rows that were compared and found equal.
    #[serde(default)]
    pub rows: Option<u64>,
    /// PostgreSQL's number of the subscription.
    #[serde(default)]
    pub subscription: Option<u32>,
    /// Why the move is given up.
    #[serde(default)]
    pub error: Option<String>,
}

impl MoveJob {
    /// The job in its next phase, begun by the entry `at`; none where this phase may not follow.
    pub fn advanced(&self, to: MovePhase, at: CatalogVersion, brings: Advance) -> Option<Self> {
        let Advance { write_pause_ms, rows, subscription, error } = brings;
        let mut next = self.clone();
        next.phase = to;
        next.changed_at = at;
        next.write_pause_ms = write_pause_ms.or(self.write_pause_ms);
        next.rows = rows.or(self.rows);
        next.subscription = subscription.or(self.subscription);
        next.error = error.or(next.error);
        match (self.phase, to) {
            (MovePhase::Planned, MovePhase::Preparing) => {
                next.cleanups = BTreeSet::from([Cleanup::Feed, Cleanup::Subscription, Cleanup::Copy]);
            }
            (MovePhase::Preparing, MovePhase::Copying)
            | (MovePhase::Copying, MovePhase::Indexing)
            | (MovePhase::Indexing, MovePhase::CatchingUp)
            | (MovePhase::CatchingUp, MovePhase::Verifying)
            | (MovePhase::Switching, MovePhase::Cleaning) => {}
            (MovePhase::CatchingUp, MovePhase::Fencing) if self.verified && !self.may_be_retired() => {
                next.cleanups.insert(Cleanup::Retired);
            }
            (MovePhase::Verifying, MovePhase::Fencing) if !self.may_be_retired() => {
                next.verified = true;
                // Tries of the cut-over are counted by themselves.
                next.attempts = 0;
                next.cleanups.insert(Cleanup::Retired);
            }
            (MovePhase::Verifying | MovePhase::Fencing, MovePhase::CatchingUp) => next.attempts += 1,
            (MovePhase::Fencing, MovePhase::Switching) => {
                next.cleanups.remove(&Cleanup::Copy);
            }
            (phase, MovePhase::Cancelling) if phase.may_be_cancelled() => {}
            // What is left then stays on the record.
            (MovePhase::Cleaning, MovePhase::Done) => {}
            // Not before the shard has its tables again.
            (MovePhase::Cancelling, MovePhase::Cancelled) if !self.may_be_retired() && self.error.is_none() => {}
            (MovePhase::Cancelling, MovePhase::Failed) if !self.may_be_retired() && self.error.is_some() => {}
            _ => return None,
        }
        Some(next)
    }

    /// Whether the source's schema may bear its retired name.
    pub fn may_be_retired(&self) -> bool {
        self.cleanups.contains(&Cleanup::Retired)
    }

    /// Whether it is to be driven on: it is under way, or has left something.
    pub fn is_open(&self) -> bool {
        !self.phase.is_over() || !self.cleanups.is_empty()
    }

    /// Whether collections have to stay as they are: between the making of the copy and the switch, and on the way back until the
    /// source has its tables under their own name.
    pub fn holds_collections(&self) -> bool {
        match self.phase {
            MovePhase::Cancelling => self.may_be_retired(),
            MovePhase::Preparing
            | MovePhase::Copying
            | MovePhase::Indexing
            | MovePhase::CatchingUp
            | MovePhase::Verifying
            | MovePhase::Fencing => true,
            MovePhase::Planned
            | MovePhase::Switching
            | MovePhase::Cleaning
            | MovePhase::Done
            | MovePhase::Cancelled
            | MovePhase::Failed => false,
        }
    }

    /// Whether writes may find no table just now.
    pub fn may_fence(&self) -> bool {
        self.may_be_retired()
            && match self.phase {
                MovePhase::CatchingUp | MovePhase::Verifying | MovePhase::Fencing | MovePhase::Cancelling => true,
                MovePhase::Planned
                | MovePhase::Preparing
                | MovePhase::Copying
                | MovePhase::Indexing
                | MovePhase::Switching
                | MovePhase::Cleaning
                | MovePhase::Done
                | MovePhase::Cancelled
                | MovePhase::Failed => false,
            }
    }
}
