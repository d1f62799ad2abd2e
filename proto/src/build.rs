//! Graphs (HNSW indexes) on their way: what an agent builds, will build, or holds back, and for whom it waits.

use crate::{CollectionName, ShardId};
use serde::{Deserialize, Serialize};

/// A graph that is not there yet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct GraphBuild {
    /// The shard; null for a reference collection.
    pub shard: Option<ShardId>,
    /// The collection.
    pub collection: CollectionName,
    /// The namespace.
    pub namespace: String,
    /// Its rows, as counted last.
    pub rows: u64,
    /// How far it is.
    pub state: BuildState,
    /// What PostgreSQL does for it at the moment, in PostgreSQL's words; null unless it is being built.
    pub phase: Option<String>,
    /// The share of its rows that the graph holds, 0 to 1; null unless it is being built.
    pub progress: Option<f64>,
    /// How long it has been building, in seconds; null unless it is being built.
    pub seconds: Option<u64>,
    /// Whose end the build waits for; null if it works, or is not being built.
    pub waits_for: Option<WaitsFor>,
}

/// How far a graph is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum BuildState {
    /// PostgreSQL is at it.
    Building,
    /// Others come first.
    Waiting,
    /// An import adds rows to the namespace: the graph is built over all of them afterwards.
    Loading,
    /// The namespace grows fast without an import: it is built when it does no longer.
    Growing,
    /// The last try failed, for a reason that the agent logged; it is tried again later.
    Failed,
}

/// A transaction whose end somebody waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WaitsFor {
    /// PostgreSQL's process of it.
    pub pid: u32,
    /// Age of the transaction in seconds; null where PostgreSQL does not tell.
    pub seconds: Option<u64>,
    /// What the program that holds it calls itself.
    pub application: String,
}
