//! Answers of the admin and service endpoints.

use crate::agent::WorkerMode;
use crate::build::GraphBuild;
use crate::{CatalogVersion, CoordinatorId, Generation, ShardId};
use serde::{Deserialize, Serialize};
use std::fmt;

/// `GET /v1/admin/cluster`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ClusterInfo {
    /// The cluster's identity, made at init.
    pub cluster_id: Option<String>,
    /// The leader that the answering coordinator knows.
    pub leader: Option<CoordinatorId>,
    /// Raft's term.
    pub term: u64,
    /// Last log entry applied by the answering coordinator.
    pub applied_index: u64,
    /// Number of the catalog's last change that the answering coordinator knows.
    pub catalog_version: CatalogVersion,
    /// Slots of the hash ring.
    pub shard_count: u32,
    /// Groups to register before shards are placed for the first time.
    pub initial_groups: u32,
    /// The answering coordinator.
    pub answered_by: CoordinatorId,
    /// Version of the answering coordinator's program.
    pub build: String,
    /// All coordinators.
    pub coordinators: Vec<CoordinatorInfo>,
}

/// One coordinator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CoordinatorInfo {
    /// Its id.
    pub id: CoordinatorId,
    /// Base URL for clients.
    pub http: String,
    /// Base URL for coordinators and agents.
    pub internal: String,
    /// `voter` or `learner`.
    pub role: String,
    /// Whether the answering coordinator reached it lately.
    pub up: bool,
}

/// `POST /v1/admin/coordinators`: make a coordinator that has asked to join a voter (again).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct AddCoordinator {
    /// Its id.
    pub id: CoordinatorId,
}

/// `GET /v1/admin/workers`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WorkerList {
    /// Every worker.
    pub workers: Vec<WorkerInfo>,
}

/// One worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WorkerInfo {
    /// Its name.
    pub worker: String,
    /// Its group.
    pub group: String,
    /// `primary` or `standby`.
    pub role: String,
    /// Who looks after its server.
    pub mode: WorkerMode,
    /// Whether agent and PostgreSQL answered lately.
    pub up: bool,
    /// PostgreSQL's version.
    pub postgres: String,
    /// pgvector's version.
    pub pgvector: String,
    /// Bytes of its database.
    pub bytes: u64,
}

/// `GET /v1/admin/groups`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct GroupList {
    /// Every group.
    pub groups: Vec<GroupInfo>,
}

/// One group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct GroupInfo {
    /// Its name.
    pub group: String,
    /// Whether it takes shards, or is being emptied.
    pub state: GroupState,
    /// Fencing number: which member is primary.
    pub generation: Generation,
    /// The primary's name.
    pub primary: String,
    /// Where it stands: `steady`, `handing_over`, `fencing` or `promoting`; none where groups have one worker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// Members that hold every acknowledged write.
    pub in_sync: Vec<String>,
    /// All members.
    pub members: Vec<MemberInfo>,
    /// Shards it owns.
    pub shards: u32,
    /// Bytes of them.
    pub bytes: u64,
}

/// What an operator wants of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum GroupState {
    /// It owns shards and takes more.
    #[default]
    Active,
    /// It takes no shards, and gives away those that it owns.
    Draining,
}

impl fmt::Display for GroupState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Active => "active",
            Self::Draining => "draining",
        })
    }
}

/// One member of a group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct MemberInfo {
    /// The worker.
    pub worker: String,
    /// `primary` or `standby`.
    pub role: String,
    /// Whether it answered lately.
    pub up: bool,
    /// How much of the primary's log it has not replayed; null while the primary's agent cannot tell.
    pub lag_bytes: Option<u64>,
    /// For how long the oldest of that has been there; null likewise.
    #[serde(default)]
    pub lag_seconds: Option<f64>,
    /// How far its own log went when its agent last told; null where that is not known, and where groups have one worker.
    #[serde(default)]
    pub position: Option<PositionInfo>,
    /// How long ago its agent last told anything, as far as the answering coordinator has heard.
    #[serde(default)]
    pub heard_seconds_ago: Option<u64>,
    /// Whether its data was put back to an earlier state: it is not used, and copied anew when a primary serves.
    #[serde(default)]
    pub restored: bool,
}

/// How far a log goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PositionInfo {
    /// The newest generation of the group that is recorded in it; of two logs that with the higher one goes further.
    pub generation: Generation,
    /// PostgreSQL's position (LSN).
    pub lsn: String,
}

/// `POST /v1/admin/groups/{group}/failover`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SwitchOver {
    /// The worker that shall be primary; null for the standby that has the least to replay.
    #[serde(default)]
    pub to: Option<String>,
}

/// `POST /v1/admin/groups/{group}/accept-loss`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct AcceptLoss {
    /// The worker whose data shall count, whatever it lacks.
    pub survivor: String,
}

/// `GET /v1/admin/shards`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ShardList {
    /// Every placed shard.
    pub shards: Vec<ShardInfo>,
}

/// One shard.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ShardInfo {
    /// The shard.
    pub shard: ShardId,
    /// The group that owns it.
    pub group: String,
    /// Fencing number of the placement.
    pub generation: Generation,
    /// Schema of its tables.
    pub schema: String,
    /// Rows of all its tables, by PostgreSQL's statistics.
    pub rows: u64,
    /// Bytes of all its tables.
    pub bytes: u64,
    /// The move under way.
    #[serde(rename = "move")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<u64>))]
    pub moving: Option<u64>,
}

/// `GET /v1/admin/builds`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BuildList {
    /// Graphs that are not there yet, those under way first.
    pub builds: Vec<GraphBuild>,
    /// Whether an import has ended whose rows are not counted yet: more graphs may be to build than `builds` says.
    pub counting: bool,
    /// How old the oldest agent's word is that this rests on, in milliseconds; null if none has answered.
    pub asked_ms_ago: Option<u64>,
    /// Workers whose agents do not answer: what they build is not known.
    pub silent: Vec<String>,
}

/// `GET /version`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct VersionInfo {
    /// The program.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// `GET /readyz`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Readiness {
    /// Whether requests will be served.
    pub ready: bool,
    /// What is missing.
    pub reasons: Vec<String>,
}
