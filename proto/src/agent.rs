//! What coordinators and agents say to each other. JSON over HTTP with `Authorization: Bearer <cluster secret>`.
//!
//! The protocol is level-triggered: a coordinator tells an agent the whole desired state of its server, with the catalog
//! version it comes from, and the agent makes it so. Telling it twice does nothing; an older version is refused, so a late
//! message cannot bring back what was dropped. An agent registers again every few seconds, and the answer carries the
//! desired state: a lost push is repaired by the next registration.

use crate::build::GraphBuild;
use crate::group::{Incarnation, MemberSeen};
use crate::moves::MoveSeen;
use crate::problem::Problem;
use crate::{
    CatalogVersion, CollectionId, CollectionName, CollectionSettings, Generation, GroupId, GroupName, Lsn, MoveId,
    ShardId, WorkerId, WorkerName,
};
use serde::{Deserialize, Serialize};

/// Path on an agent: `GET` gives [`AgentStatus`].
pub const STATUS_PATH: &str = "/agent/v1/status";
/// Path on an agent: `PUT` [`DesiredState`] gives [`Applied`].
pub const DESIRED_PATH: &str = "/agent/v1/desired";
/// Path on a coordinator's internal listener: `POST` [`RegisterWorker`] gives [`Registered`].
pub const REGISTER_PATH: &str = "/internal/v1/workers/register";

/// Who looks after the PostgreSQL server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum WorkerMode {
    /// The agent initialises, configures, starts and stops it.
    Managed,
    /// Somebody else does; the agent only connects.
    External,
}

/// Where coordinators reach the server. The password is not here: it comes from their own configuration.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PostgresAddress {
    /// Host name or IP address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Database, usually `atoll`.
    pub database: String,
}

/// Versions and capacity of a PostgreSQL server, as its agent found them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PostgresFacts {
    /// For people, such as `18.4`.
    pub version: String,
    /// `server_version_num`, such as 180004.
    pub version_num: u32,
    /// Version of the `vector` extension, such as `0.8.5`.
    pub pgvector: String,
    /// PostgreSQL's own identity of the data directory.
    pub system_identifier: String,
    /// `max_connections`.
    pub max_connections: u32,
    /// Processor cores of the agent's machine; an external server may have others.
    pub cores: u32,
}

/// An agent asks to be a worker of the cluster, or says that it still is one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisterWorker {
    /// Random, made once and kept with the agent's data: tells the same worker from another one of its name.
    pub uid: String,
    /// Its name.
    pub name: WorkerName,
    /// The group it belongs to; null for a group of its own, named like the worker.
    pub group: Option<GroupName>,
    /// Who looks after its server.
    pub mode: WorkerMode,
    /// Base URL of the agent, such as `http://127.0.0.1:7801`.
    pub agent_url: String,
    /// Where its server listens.
    pub postgres: PostgresAddress,
    /// What its server is.
    pub facts: PostgresFacts,
    /// Relative capacity for placement; 100 is usual.
    pub capacity: u32,
    /// Which of all data that it had its server has now; none of an agent that can't be a member of a group with standbys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incarnation: Option<Incarnation>,
    /// Whether its server is the one of several that takes writes: at another address it is another primary.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub follows: bool,
}

/// The coordinator's answer to a registration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Registered {
    /// The cluster it belongs to now. An agent keeps this and refuses another cluster.
    pub cluster_id: String,
    /// The worker's id.
    pub worker: WorkerId,
    /// The group's id.
    pub group: GroupId,
    /// What its server should look like.
    pub desired: DesiredState,
}

/// Everything that should exist on a group's servers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DesiredState {
    /// The cluster it speaks for; an agent of another cluster refuses.
    pub cluster_id: String,
    /// The catalog it was read from. An agent that applied a later one refuses.
    pub catalog_version: CatalogVersion,
    /// The group it speaks of.
    pub group: GroupId,
    /// Shards that the group owns.
    pub shards: Vec<DesiredShard>,
    /// Collections that should have a table in each shard (or one copy on the group, for reference collections).
    pub collections: Vec<DesiredCollection>,
    /// Collections whose tables should go. A table is dropped only when it is named here.
    pub dropping: Vec<DesiredCollection>,
    /// Moves that the group takes part in and that are not over, or have left something.
    #[serde(default)]
    pub moves: Vec<MoveId>,
}

/// A shard that a group owns. Its schema is `s{shard:04}_g{generation}`, see [`shard_schema`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DesiredShard {
    /// The shard.
    pub shard: ShardId,
    /// The placement's generation.
    pub generation: Generation,
}

/// A collection that should have tables.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DesiredCollection {
    /// Its id.
    pub id: CollectionId,
    /// Its name, and its tables' name.
    pub name: CollectionName,
    /// Its settings.
    pub settings: CollectionSettings,
}

/// The agent made the desired state so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// The catalog version that the server now matches: the one asked for.
    pub catalog_version: CatalogVersion,
}

/// What an agent knows of its server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AgentStatus {
    /// The worker's name.
    pub name: WorkerName,
    /// Its id, once registered.
    pub worker: Option<WorkerId>,
    /// Whether PostgreSQL answers.
    pub postgres_up: bool,
    /// What the server is; null until it answered once.
    pub facts: Option<PostgresFacts>,
    /// Process id of the managed server's postmaster.
    pub postgres_pid: Option<u32>,
    /// Data directory of the managed server.
    pub data_dir: Option<String>,
    /// The catalog version that the server matches; null before the first.
    pub applied: Option<CatalogVersion>,
    /// Why the last desired state could not be applied.
    pub apply_error: Option<String>,
    /// Bytes of the database.
    pub bytes: u64,
    /// Rows and bytes of each table.
    pub tables: Vec<TableStats>,
    /// Seconds since rows and bytes were counted; null before the first count.
    pub stats_age_seconds: Option<u64>,
    /// Graphs that are not there yet.
    #[serde(default)]
    pub builds: Vec<GraphBuild>,
    /// Whether an import ended and what it wrote was not counted yet: more graphs may be to build than `builds` says.
    #[serde(default)]
    pub counting: bool,
    /// Every write whose position is below this one is seen by reads that begin now; null while that is not known, as of a standby.
    #[serde(default)]
    pub settled: Option<Lsn>,
    /// How far the moves are that the server takes part in.
    #[serde(default)]
    pub moves: Vec<MoveSeen>,
    /// How it stands in its group; null where it has no standbys, or nobody has looked yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<MemberSeen>,
}

/// Size of one collection's table in one shard.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TableStats {
    /// The shard; null for a reference collection.
    pub shard: Option<ShardId>,
    /// The collection.
    pub collection: CollectionName,
    /// Rows, as counted last; above a million, by PostgreSQL's statistics.
    pub rows: u64,
    /// Bytes of table, TOAST and indexes.
    pub bytes: u64,
    /// Bytes of the vector index.
    pub vector_index_bytes: u64,
    /// Namespaces with at least [`LARGE_NAMESPACE_ROWS`] rows, largest first, 1,000 at most. Above a million rows of the table
    /// they are those that PostgreSQL's statistics know: there a namespace that is not here need not be small.
    pub large_namespaces: Vec<NamespaceRows>,
    /// Namespaces with a graph of their own that searches may walk. One that is to go is named no more a while before.
    #[serde(default)]
    pub graphs: Vec<String>,
    /// Whether there is a graph over the whole table that searches may walk.
    #[serde(default)]
    pub shard_graph: bool,
}

/// Rows of one namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamespaceRows {
    /// The namespace.
    pub namespace: String,
    /// Its rows.
    pub rows: u64,
}

/// From this many rows on, a namespace is named in [`TableStats::large_namespaces`].
pub const LARGE_NAMESPACE_ROWS: u64 = 500;

/// From this many rows on, a namespace gets a graph of its own: about here a walk begins to cost less than a scan.
pub const GRAPH_FROM_ROWS: u64 = 1_000;

/// Most graphs of a table: each index costs every write to the table a little, and every statement that is planned anew.
pub const GRAPHS_MAX: usize = 32;

/// What an agent answers when it can't do as asked.
pub type AgentProblem = Problem;

/// Name of the schema that holds a shard's tables at a generation.
pub fn shard_schema(shard: ShardId, generation: Generation) -> String {
    format!("s{:04}_g{}", shard.0, generation.0)
}

/// Schema of the reference collections.
pub const REFERENCE_SCHEMA: &str = "atoll_reference";
/// Table in each shard's schema that remembers outcomes under an `Idempotency-Key`.
pub const IDEMPOTENCY_TABLE: &str = "_idempotency";
/// Role that coordinators connect as: reads and writes rows, owns nothing.
pub const COORDINATOR_ROLE: &str = "atoll_rw";
/// Role that the target of a move connects to its source as: may replicate, and read the tables of moves under way.
pub const MOVE_ROLE: &str = "atoll_move";
/// Oldest pgvector a worker may have: older ones corrupt HNSW indexes on vacuum.
pub const PGVECTOR_MIN: (u32, u32, u32) = (0, 8, 4);
