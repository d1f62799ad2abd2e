//! The catalog: what all coordinators agree on. Raft replicates [`Command`]s; [`Catalog::apply`] turns each into a new state
//! and an [`Outcome`]. `apply` never fails (a refusal is an outcome), never asks the time and holds ordered maps only, so
//! that every coordinator that applied the same log holds the same bytes.

mod apply;
mod command;
mod group_record;
mod groups;
mod keys;
mod member;
mod moves;
mod rebalance;
mod refusal;
mod schedule;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod view;

pub use command::{Command, CommandEnvelope, Outcome};
pub use keys::{ApiKey, KeyDigest};
pub use member::{Coordinator, Group, RemovedGroup, RemovedWorker, Worker};
pub use refusal::Refusal;
pub use schedule::{KeptSchedule, ScheduledPlan};

use crate::moves::MoveJob;
use crate::rebalance::RebalanceRun;
use atoll_proto::collection::CollectionState;
use atoll_proto::key::KeyId;
use atoll_proto::{
    CatalogVersion, CollectionId, CollectionName, CollectionSettings, CoordinatorId, Generation, GroupId, MoveId,
    ShardId, WorkerId,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The highest format of snapshots and commands that this program knows. A coordinator that reads a higher one stops: it can't
/// know what the newer program meant. Each is written in the least format that has all of it.
/// 4 knows moves, plans that are carried out, also by a schedule, and groups that drain and go; 2 and 3 knew some of it, otherwise. 5 knows
/// API keys, 6 keys for some namespaces, 8 groups with standbys; 7 knew these, and let moves go on over a change of primary. 9 knows
/// workers that follow a primary which others choose, 10 stamps of groups.
pub const FORMAT: u32 = 10;

/// Everything that the cluster agrees on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Catalog {
    /// [`FORMAT`] of the program that wrote this.
    pub format: u32,
    /// Index of the log entry that last changed anything; 0 before the first.
    pub version: CatalogVersion,
    /// What was chosen at init; none before.
    pub cluster: Option<Cluster>,
    /// Everyone who may vote or learn.
    pub coordinators: BTreeMap<CoordinatorId, Coordinator>,
    /// Every PostgreSQL server.
    pub workers: BTreeMap<WorkerId, Worker>,
    /// Workers that hold the same data.
    pub groups: BTreeMap<GroupId, Group>,
    /// Every collection, dropped ones until their tables are gone.
    pub collections: BTreeMap<CollectionId, Collection>,
    /// Owner of each shard; empty until the first groups have registered.
    pub placements: BTreeMap<ShardId, Placement>,
    /// Moves under way, those that left something, and the last ones that are over.
    #[serde(default)]
    pub moves: BTreeMap<MoveId, MoveJob>,
    /// The plan that is being carried out, or was last.
    #[serde(default)]
    pub rebalance: Option<RebalanceRun>,
    /// When plans are made and carried out by themselves; none before that was ever set.
    #[serde(default)]
    pub schedule: Option<KeptSchedule>,
    /// Groups that are gone. They are kept: an agent may come back after any time.
    #[serde(default)]
    pub removed_groups: BTreeMap<GroupId, RemovedGroup>,
    /// API keys; while there is none, nobody is asked for one.
    #[serde(default)]
    pub keys: BTreeMap<KeyId, ApiKey>,
}

/// What was chosen at init and never changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// Random, tells this cluster from any other.
    pub id: String,
    /// How namespaces are hashed onto shards, see [`crate::routing::HASH_FUNCTION`].
    pub hash: String,
    /// Slots of the ring.
    pub shard_count: u32,
    /// Groups to wait for before shards are placed for the first time.
    pub initial_groups: u32,
    /// Workers that a group has.
    #[serde(default = "one")]
    pub replicas: u32,
}

fn one() -> u32 {
    1
}

/// A distributed table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Collection {
    /// Its name.
    pub name: CollectionName,
    /// Its settings.
    pub settings: CollectionSettings,
    /// Where it stands.
    pub state: CollectionState,
    /// The version that last changed it: once every group's servers match a catalog at least this new, it is settled.
    pub changed_at: CatalogVersion,
    /// Whether every server matches it.
    pub settled: bool,
}

/// Owner of a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// The group that owns it.
    pub group: GroupId,
    /// Grows with each change of owner; part of the schema's name.
    pub generation: Generation,
}

impl Default for Catalog {
    fn default() -> Self {
        Self {
            format: FORMAT,
            version: CatalogVersion(0),
            cluster: None,
            coordinators: BTreeMap::new(),
            workers: BTreeMap::new(),
            groups: BTreeMap::new(),
            collections: BTreeMap::new(),
            placements: BTreeMap::new(),
            moves: BTreeMap::new(),
            rebalance: None,
            schedule: None,
            removed_groups: BTreeMap::new(),
            keys: BTreeMap::new(),
        }
    }
}
