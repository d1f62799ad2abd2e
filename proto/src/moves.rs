//! Moves of shards: what clients are told of them, and what the leader and the agents say to each other. `docs/moves.md` is the
//! protocol.
//!
//! An order is level-triggered: an agent that did it already says so and does nothing. Each carries the number of the catalog entry that
//! began the move's phase; an agent that has seen a higher one refuses.

use crate::agent::{DesiredCollection, PostgresAddress, shard_schema};
use crate::{CatalogVersion, Generation, MoveId, ShardId};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Path on an agent: `PUT` [`MoveOrder`] gives [`MoveReport`].
pub const MOVE_PATH: &str = "/agent/v1/move";

/// Longest pause of writes, in milliseconds, that a move is allowed unless it says otherwise.
pub const WRITE_PAUSE_MS: u32 = 500;
/// Bounds of `max_write_pause_ms`. Writers wait longer than the longest.
pub const WRITE_PAUSE_MS_RANGE: std::ops::RangeInclusive<u32> = 50..=4_000;

/// Where a move stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum MovePhase {
    /// Nothing is done yet.
    Planned,
    /// What replication needs is made on both sides.
    Preparing,
    /// Tables are copied.
    Copying,
    /// Indexes are built on the copy.
    Indexing,
    /// The copy follows until it is close behind.
    CatchingUp,
    /// Both sides are compared.
    Verifying,
    /// Writes are stopped, the last changes go over, names change.
    Fencing,
    /// The target owns the shard.
    Switching,
    /// What the move needed goes.
    Cleaning,
    /// It is over, the shard has moved.
    Done,
    /// Everything goes back to what it was.
    Cancelling,
    /// It is over, because somebody asked for that.
    Cancelled,
    /// It is over, because of an error.
    Failed,
}

impl MovePhase {
    /// Whether nothing more happens to the shard.
    pub fn is_over(self) -> bool {
        match self {
            Self::Done | Self::Cancelled | Self::Failed => true,
            Self::Planned
            | Self::Preparing
            | Self::Copying
            | Self::Indexing
            | Self::CatchingUp
            | Self::Verifying
            | Self::Fencing
            | Self::Switching
            | Self::Cleaning
            | Self::Cancelling => false,
        }
    }

    /// Whether the source still owns the shard, and the move may yet be cancelled.
    pub fn may_be_cancelled(self) -> bool {
        match self {
            Self::Planned
            | Self::Preparing
            | Self::Copying
            | Self::Indexing
            | Self::CatchingUp
            | Self::Verifying
            | Self::Fencing => true,
            Self::Switching | Self::Cleaning | Self::Done | Self::Cancelling | Self::Cancelled | Self::Failed => false,
        }
    }
}

impl fmt::Display for MovePhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Planned => "planned",
            Self::Preparing => "preparing",
            Self::Copying => "copying",
            Self::Indexing => "indexing",
            Self::CatchingUp => "catching-up",
            Self::Verifying => "verifying",
            Self::Fencing => "fencing",
            Self::Switching => "switching",
            Self::Cleaning => "cleaning",
            Self::Done => "done",
            Self::Cancelling => "cancelling",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
        })
    }
}

/// `POST /v1/admin/moves`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct StartMove {
    /// The shard.
    pub shard: ShardId,
    /// Name of the group that shall own it.
    pub to: String,
    /// Longest pause of writes, in milliseconds, 50 to 4000; a try that would take longer is given up and tried again.
    #[serde(default = "write_pause_ms")]
    pub max_write_pause_ms: u32,
}

fn write_pause_ms() -> u32 {
    WRITE_PAUSE_MS
}

/// A move, as clients see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct MoveInfo {
    /// Its id.
    pub id: MoveId,
    /// The shard.
    pub shard: ShardId,
    /// Name of the group that owned it.
    pub from: String,
    /// Name of the group that shall own it.
    pub to: String,
    /// Where it stands.
    pub phase: MovePhase,
    /// Rows on the target.
    pub rows_done: u64,
    /// Rows of the shard, as its agent last counted them.
    pub rows_total: u64,
    /// Bytes on the target, indexes included.
    pub bytes_done: u64,
    /// Bytes of the shard on the source, indexes included.
    pub bytes_total: u64,
    /// How far the copy's indexes are; null before they are built, and after the move.
    pub indexes: Option<IndexProgress>,
    /// Bytes of the source's log that the target has not confirmed; null before the copy.
    pub lag_bytes: Option<u64>,
    /// How long writes to the shard had to wait; null before the cut-over.
    pub write_pause_ms: Option<u32>,
    /// Tries of the cut-over that were given up.
    pub attempts: u32,
    /// Why it failed, or what keeps it.
    pub error: Option<String>,
}

/// How far the indexes of a copy are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct IndexProgress {
    /// Indexes that are there.
    pub done: u32,
    /// Indexes that are wanted, primary keys aside.
    pub total: u32,
    /// Of all rows that go into vector indexes, the share that is in them, 0 to 100; of the indexes, where none is a vector index.
    pub percent: u8,
}

/// `GET /v1/admin/moves`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct MoveList {
    /// Moves under way and the last ones that are over, the newest first.
    pub moves: Vec<MoveInfo>,
}

/// An order of the leader to one of a move's two agents.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MoveOrder {
    /// The cluster it speaks for.
    pub cluster_id: String,
    /// The entry of the catalog that began the move's phase.
    pub ordered_at: CatalogVersion,
    /// What moves.
    pub subject: MoveSubject,
    /// What to do.
    pub work: MoveWork,
}

/// What moves, and how everything is named.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MoveSubject {
    /// The move.
    pub id: MoveId,
    /// The shard.
    pub shard: ShardId,
    /// The placement's generation on the source.
    pub source_generation: Generation,
    /// That on the target.
    pub target_generation: Generation,
    /// Collections with a table in the shard.
    pub collections: Vec<DesiredCollection>,
    /// Where the target reaches the source's server.
    pub source: PostgresAddress,
    /// PostgreSQL's identity of the target's data: in the names of slots that copy single tables.
    pub target_system: String,
    /// PostgreSQL's number of the subscription, in those names too; none before it is known.
    #[serde(default)]
    pub subscription: Option<u32>,
}

impl MoveSubject {
    /// The shard's schema on the source, and the copy's until the cut-over.
    pub fn source_schema(&self) -> String {
        shard_schema(self.shard, self.source_generation)
    }

    /// The copy's schema from the cut-over on.
    pub fn target_schema(&self) -> String {
        shard_schema(self.shard, self.target_generation)
    }

    /// The source's schema from the fence on.
    pub fn retired_schema(&self) -> String {
        format!("retired_{}_{}", self.id, self.source_schema())
    }

    /// Publication, slot and subscription; sessions that work for the move call themselves so too.
    pub fn channel(&self) -> String {
        format!("atoll_move_{}", self.id)
    }

    /// The table of markers, in the schema `atoll`.
    pub fn markers(&self) -> String {
        format!("move_{}", self.id)
    }
}

/// What an agent is to do. Each can be ordered again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum MoveWork {
    /// Source: publication, markers, rights and slot.
    Feed,
    /// Target: schema, bare tables, markers and subscription.
    Receive,
    /// Target: say whether all tables are copied.
    Copied,
    /// Target: build every index that is missing. Answers when they are there.
    Index,
    /// Target: walk the copy's graphs, so that they are in memory. Answers after a minute at the latest; that it fell short is no failure.
    Warm,
    /// Source: write a marker.
    Mark,
    /// Target: wait a little for a marker.
    Await {
        /// Which.
        marker: u64,
    },
    /// Target: stop at the next marker, sum up by a snapshot there, and go on. Answers when it is ready to stop.
    Hold,
    /// Source: write a marker, and sum up as of it. Answers with both.
    Sum,
    /// Target: tell the sum at this marker.
    SumAt {
        /// Which.
        marker: u64,
    },
    /// Source: lock out writes and write a marker. Holds the lock until told to retire, but no longer than this.
    Fence {
        /// In milliseconds.
        pause_ms: u32,
    },
    /// Source: rename the locked schema, and let go.
    Retire,
    /// Target: see that everything up to the marker is there, take the own name, flush.
    TakeOver {
        /// Which.
        marker: u64,
    },
    /// Source: take back the name that was retired.
    Restore,
    /// Target: take the source's name again.
    StepBack,
    /// Target: the subscription and the markers go.
    RemoveSubscription,
    /// Target: the copy goes.
    DropCopy,
    /// Source: publication, slot, markers and rights go.
    RemoveFeed,
    /// Source: the retired schema goes.
    DropRetired,
}

/// What became of an order.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MoveReport {
    /// Whether it is done. If not, ask again.
    pub done: bool,
    /// The marker that was written.
    #[serde(default)]
    pub marker: Option<u64>,
    /// Rows and sums of all tables, by name.
    #[serde(default)]
    pub sums: Option<Vec<TableSum>>,
    /// What keeps it, for people.
    #[serde(default)]
    pub waits: Option<String>,
    /// For how long writes have waited for the lock that is held, in milliseconds.
    #[serde(default)]
    pub held_ms: Option<u64>,
    /// PostgreSQL's number of the subscription.
    #[serde(default)]
    pub subscription: Option<u32>,
}

impl MoveReport {
    /// It is done, and that is all.
    pub fn done() -> Self {
        Self { done: true, ..Self::default() }
    }

    /// It is not done yet.
    pub fn not_yet(waits: Option<String>) -> Self {
        Self { waits, ..Self::default() }
    }
}

/// Count and order-independent sum of a table's rows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TableSum {
    /// The table.
    pub table: String,
    /// Rows.
    pub rows: u64,
    /// Sum of the rows' hashes, in decimals.
    pub sum: String,
}

/// How far a move is, as an agent that takes part sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoveSeen {
    /// The move.
    pub id: MoveId,
    /// Rows on the target; null on the source.
    pub rows: Option<u64>,
    /// Bytes on the target; null on the source.
    pub bytes: Option<u64>,
    /// How far the target's indexes are; null on the source, and before they are built.
    #[serde(default)]
    pub indexes: Option<IndexProgress>,
    /// Bytes of the log that the target has not confirmed; null on the target.
    pub lag_bytes: Option<u64>,
}
