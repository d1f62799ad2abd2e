//! Who takes part: coordinators, workers, groups.

use atoll_proto::admin::GroupState;
use atoll_proto::agent::{PostgresAddress, PostgresFacts, WorkerMode};
use atoll_proto::group::GroupRecord;
use atoll_proto::{CatalogVersion, Generation, GroupId, GroupName, WorkerId, WorkerName};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// A front end and Raft member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coordinator {
    /// Base URL for clients.
    pub http: String,
    /// Base URL for coordinators and agents.
    pub internal: String,
}

/// A PostgreSQL server and its agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Worker {
    /// Its agent's own identity: another one under the same name is another worker.
    pub uid: String,
    /// Its name.
    pub name: WorkerName,
    /// The group it belongs to.
    pub group: GroupId,
    /// Who looks after its server.
    pub mode: WorkerMode,
    /// Base URL of its agent.
    pub agent_url: String,
    /// Where its server listens.
    pub postgres: PostgresAddress,
    /// What its server is.
    pub facts: PostgresFacts,
    /// Relative capacity for placement.
    pub capacity: u32,
    /// Agents that had the name before this one took their place: they do not come back.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub replaced: BTreeSet<String>,
}

/// Workers that hold the same data by streaming replication.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Its name.
    pub name: GroupName,
    /// The worker that takes writes.
    pub primary: WorkerId,
    /// Grows with each change of primary.
    pub generation: Generation,
    /// All its workers.
    pub members: Vec<WorkerId>,
    /// Members that hold every acknowledged write.
    pub in_sync: Vec<WorkerId>,
    /// Whether it takes shards, or is being emptied.
    #[serde(default)]
    pub state: GroupState,
    /// The entry that last changed the state; 0 while none has.
    #[serde(default = "unset")]
    pub state_changed_at: CatalogVersion,
    /// Its replication, which `primary`, `generation` and `in_sync` follow; none where groups have one worker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<GroupRecord>,
}

fn unset() -> CatalogVersion {
    CatalogVersion(0)
}

/// A group that was removed: its workers may not come back, and what moved from it or to it still has its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemovedGroup {
    /// Its name, which another group may have by now.
    pub name: GroupName,
    /// Its workers.
    pub workers: Vec<RemovedWorker>,
    /// The entry that removed it.
    pub removed_at: CatalogVersion,
}

/// What a worker is known by that was removed: its agent's identity, and its data, whatever agent comes with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemovedWorker {
    /// Its agent's identity.
    pub uid: String,
    /// PostgreSQL's own identity of its data directory.
    pub system_identifier: String,
    /// The database.
    pub database: String,
}
