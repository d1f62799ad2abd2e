//! Plans that even out what groups hold: what is asked for, what would be moved and why, and why the rest stays; and how far their
//! carrying out is.

use crate::moves::MoveInfo;
use crate::{CatalogVersion, MoveId, ShardId};
use serde::{Deserialize, Serialize};
use std::fmt;

crate::object::only_objects!(ApplyRequest, RebalancePolicy, RebalanceRequest);

/// Body of `POST /v1/admin/rebalance/plan`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct RebalanceRequest {
    /// What is evened out.
    #[serde(default)]
    pub by: BalanceBy,
    /// How far from the mean a group may be, as a share of it: 0.01 to 1.
    #[serde(default = "RebalanceRequest::default_threshold")]
    #[cfg_attr(feature = "openapi", schema(minimum = 0.01, maximum = 1.0))]
    pub threshold: f64,
}

impl RebalanceRequest {
    fn default_threshold() -> f64 {
        0.2
    }
}

/// What groups are weighed by, each in proportion to its capacity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum BalanceBy {
    /// Bytes of tables, TOAST and indexes.
    #[default]
    Bytes,
    /// Rows of tables.
    Rows,
    /// Number of shards.
    Count,
}

/// Answer of `POST /v1/admin/rebalance/plan`: what would be moved. Nothing has been.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RebalancePlan {
    /// Names the plan on the coordinator that made it.
    pub plan_id: String,
    /// The catalog it was made from: it is stale once that has changed.
    pub catalog_version: CatalogVersion,
    /// Why the plan is as it is.
    pub report: RebalanceReport,
}

/// What a plan does, in which order and why; what it leaves, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RebalanceReport {
    /// What was weighed.
    pub by: BalanceBy,
    /// How far from the mean a group may be, as a share of it.
    pub threshold: f64,
    /// How far the group that is furthest from the mean is from it, as a share of it; 0 if nothing is held at all.
    pub imbalance_before: f64,
    /// The same after all moves.
    pub imbalance_after: f64,
    /// Every group, by name.
    pub groups: Vec<GroupBalance>,
    /// The moves, in their order: draining groups are emptied first, and each of the others makes the balance better.
    pub moves: Vec<PlannedMove>,
    /// Why the other shards stay, by group and reason.
    pub stays: Vec<StayingShards>,
    /// What the moves would cost.
    pub cost: MoveCost,
}

/// What a group holds, before and after a plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct GroupBalance {
    /// The group.
    pub group: String,
    /// Whether it takes part.
    pub state: GroupPart,
    /// Relative capacity.
    pub capacity: u32,
    /// What it holds now.
    pub before: GroupLoad,
    /// What it would hold.
    pub after: GroupLoad,
    /// Why it would still be too full or too empty; null if it would not.
    pub obstacle: Option<String>,
}

/// Whether a group takes part in a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum GroupPart {
    /// It gives and takes.
    Active,
    /// It gives everything and takes nothing.
    Draining,
    /// Its primary does not answer: nothing can be copied from or to it.
    Unreachable,
    /// Its agent has not told how large its shards are: what it should give or take is not known.
    Uncounted,
}

/// What a group holds at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct GroupLoad {
    /// Shards.
    pub shards: u32,
    /// Rows of their tables, as last counted.
    pub rows: u64,
    /// Bytes of their tables.
    pub bytes: u64,
    /// How full it is: 1 is the mean of all active groups by capacity, 1.2 a fifth above it. Null for a group that takes no part,
    /// and where nothing is held at all.
    pub of_mean: Option<f64>,
}

/// One move of a plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PlannedMove {
    /// The shard.
    pub shard: ShardId,
    /// The group that owns it.
    pub from: String,
    /// The group that would own it.
    pub to: String,
    /// Its rows, as last counted; 0 if they were not.
    pub rows: u64,
    /// Its bytes.
    pub bytes: u64,
    /// Why it moves.
    pub reason: MoveReason,
    /// The same for people, with figures.
    pub detail: String,
    /// How full the group that gives is before this move, as in [`GroupLoad::of_mean`].
    pub from_before: f64,
    /// The same after it.
    pub from_after: f64,
    /// How full the group that takes is before this move.
    pub to_before: f64,
    /// The same after it: less than `from_before`, except where a group is drained.
    pub to_after: f64,
}

/// Why a shard moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum MoveReason {
    /// Its group is being drained.
    Drain,
    /// Its group is too full.
    TooFull,
    /// The group that gets it is too empty.
    TooEmpty,
}

/// Shards of one group that stay for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StayingShards {
    /// The group.
    pub group: String,
    /// Why they stay.
    pub reason: StayReason,
    /// How many they are.
    pub shards: u32,
    /// The first few of them.
    pub examples: Vec<ShardId>,
    /// Why they stay, for people.
    pub detail: String,
}

/// Why shards stay where they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum StayReason {
    /// Their group is as full as it should be.
    Balanced,
    /// Their group is too empty already.
    TooEmpty,
    /// Their group is too full, and any of them would make the group that takes it about as full.
    TooLarge,
    /// They weigh nothing, so that moving them evens nothing out.
    NoLoad,
    /// They are on the move already.
    Moving,
    /// Their group's primary does not answer.
    Unreachable,
    /// Their group's shards are not counted yet.
    Uncounted,
    /// Their group is being drained, and no other group is there to take them.
    NoTarget,
}

/// What moves would cost, as far as it can be told before.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct MoveCost {
    /// Moves.
    pub moves: u32,
    /// Rows to copy.
    pub rows: u64,
    /// Bytes to copy, or to build anew as indexes.
    pub bytes: u64,
    /// Estimated minutes, one move after the other.
    pub minutes: f64,
    /// Milliseconds that writes to one shard are expected to wait, once, at the end of its move.
    pub write_pause_ms: u32,
    /// The most that they may wait: a move that would take longer tries again later.
    pub write_pause_ms_max: u32,
}

/// Body of `POST /v1/admin/rebalance/apply`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct ApplyRequest {
    /// A plan that the asked coordinator made.
    pub plan_id: String,
    /// Moves that may be under way at a time, 1 or 2.
    #[serde(default = "ApplyRequest::one")]
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 2))]
    pub max_parallel_moves: u32,
}

impl ApplyRequest {
    fn one() -> u32 {
        1
    }
}

/// Body of `PUT /v1/admin/rebalance/policy`: when plans are made and carried out by themselves. What is left out is as it was at
/// first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(remote = "Self", default, deny_unknown_fields)]
pub struct RebalancePolicy {
    /// Whether it is done at all.
    pub enabled: bool,
    /// What is evened out.
    pub by: BalanceBy,
    /// How far from the mean a group may be, as a share of it: 0.01 to 1.
    #[cfg_attr(feature = "openapi", schema(minimum = 0.01, maximum = 1.0))]
    pub threshold: f64,
    /// When, in UTC: minute, hour, day of the month, month, day of the week, as cron has them.
    #[cfg_attr(feature = "openapi", schema(example = "0 2 * * 0"))]
    pub schedule: String,
    /// Moves that may be under way at a time, 1 or 2.
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 2))]
    pub max_parallel_moves: u32,
    /// Minutes for which moves may be begun: what is left then waits for the next time. Null to go on to the end.
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 10080))]
    pub window_minutes: Option<u32>,
}

impl Default for RebalancePolicy {
    fn default() -> Self {
        Self {
            enabled: false,
            by: BalanceBy::default(),
            threshold: RebalanceRequest::default_threshold(),
            schedule: "0 2 * * 0".to_owned(),
            max_parallel_moves: ApplyRequest::one(),
            window_minutes: None,
        }
    }
}

/// Answer of `GET` and `PUT /v1/admin/rebalance/policy`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RebalancePolicyInfo {
    /// The policy.
    #[serde(flatten)]
    pub policy: RebalancePolicy,
    /// When it is due next, in UTC; null while it is not enabled.
    pub next_at: Option<String>,
}

/// Answer of `GET /v1/admin/rebalance/status`: how far the plan is that is being carried out, or was last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RebalanceStatus {
    /// The plan; null if none was ever carried out.
    pub plan_id: Option<String>,
    /// Where it stands.
    pub state: RunState,
    /// Moves that may be under way at a time.
    pub max_parallel_moves: u32,
    /// Moves by what became of them.
    pub counts: RunCounts,
    /// Why it paused by itself; null if it did not.
    pub note: Option<String>,
    /// The plan's moves, in their order.
    pub moves: Vec<RunMoveInfo>,
}

/// Where the carrying out of a plan stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum RunState {
    /// No plan was ever carried out.
    None,
    /// Moves are begun as others end.
    Running,
    /// Moves that are under way go on, none is begun.
    Paused,
    /// Moves that are under way go back, none is begun.
    Cancelling,
    /// It was cancelled.
    Cancelled,
    /// Every move has ended, one way or another.
    Done,
}

/// Moves by what became of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RunCounts {
    /// All.
    pub total: u32,
    /// Not begun.
    pub waiting: u32,
    /// Under way.
    pub under_way: u32,
    /// Shards that have moved.
    pub moved: u32,
    /// Shards that are where they were, because somebody wanted that.
    pub cancelled: u32,
    /// Shards that are where they were, because of an error.
    pub failed: u32,
    /// Moves that could not be begun.
    pub skipped: u32,
}

/// One move of a plan that is carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RunMoveInfo {
    /// The shard.
    pub shard: ShardId,
    /// Name of the group that owned it when the plan was made.
    pub from: String,
    /// Name of the group that shall own it.
    pub to: String,
    /// What became of it.
    pub state: RunMoveState,
    /// The move; null before it was begun. Beyond the last ones that are kept, `GET /v1/admin/moves/{id}` does not know it.
    pub id: Option<MoveId>,
    /// How far it is; null unless it is under way.
    pub progress: Option<MoveInfo>,
    /// Why it failed or was skipped.
    pub error: Option<String>,
}

/// What became of a planned move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum RunMoveState {
    /// It is not begun.
    Waiting,
    /// It is under way.
    UnderWay,
    /// The shard has moved.
    Moved,
    /// The shard is where it was, because somebody wanted that.
    Cancelled,
    /// The shard is where it was, because of an error.
    Failed,
    /// It could not be begun.
    Skipped,
}

/// Why a planned move could not be begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SkipReason {
    /// Its shard is not where it was when the plan was made.
    Elsewhere,
    /// Another move of its shard is under way, or has left something.
    OtherMove,
    /// A collection is ephemeral.
    Ephemeral,
    /// The group that should get it is draining, or gone.
    NoTaker,
}

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Elsewhere => "the shard is not where it was when the plan was made",
            Self::OtherMove => "another move of the shard was under way, or had left something",
            Self::Ephemeral => "shards with an ephemeral collection cannot move",
            Self::NoTaker => "the group that should get it is draining by now, or gone",
        })
    }
}
