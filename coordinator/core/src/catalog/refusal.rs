//! Why commands are refused.

use atoll_proto::key::KeyId;
use atoll_proto::moves::MovePhase;
use atoll_proto::{CatalogVersion, CollectionName, MoveId, ShardId};
use serde::{Deserialize, Serialize};

/// Why a command was not done: something the one who asked can act on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// Only one init.
    #[error("the cluster is initialised already, as {cluster_id}")]
    AlreadyInitialised {
        /// Its identity.
        cluster_id: String,
    },
    /// Nothing can be done before init.
    #[error("the cluster is not initialised yet")]
    NotInitialised,
    /// Another worker has the name.
    #[error(
        "the name {name} belongs to another worker; give this one a name of its own, or bring back its data directory"
    )]
    NameTaken {
        /// The name.
        name: String,
    },
    /// Another agent took its place while it was lost.
    #[error(
        "another agent has taken the place of {name}, so this one's data does not count any more; take it out of service, or empty its data \
         directory and give it a name of its own"
    )]
    Replaced {
        /// The name.
        name: String,
    },
    /// A group takes one worker.
    #[error("group {group} already has the worker {member}; choose another group")]
    GroupTaken {
        /// The group.
        group: String,
        /// Its worker.
        member: String,
    },
    /// A group has all its workers.
    #[error("group {group} has all its {replicas} workers; choose another group")]
    GroupFull {
        /// The group.
        group: String,
        /// How many a group has.
        replicas: u32,
    },
    /// The agent can't replicate.
    #[error(
        "groups of this cluster have {replicas} workers, and the agent of {name} knows nothing of that: upgrade it, or let it manage its server"
    )]
    KnowsNoGroups {
        /// The worker.
        name: String,
        /// How many workers a group has.
        replicas: u32,
    },
    /// The data directory is another one than before.
    #[error("worker {name} came back with another PostgreSQL data directory (system identifier {now}, was {before})")]
    OtherData {
        /// The worker.
        name: String,
        /// Identifier in the catalog.
        before: String,
        /// Identifier now.
        now: String,
    },
    /// A worker does not change its group.
    #[error("worker {name} belongs to group {group}")]
    OtherGroup {
        /// The worker.
        name: String,
        /// Its group.
        group: String,
    },
    /// The worker was taken out of the cluster with its group.
    #[error(
        "worker {name} was removed from the cluster with group {group} and does not come back: stop its agent; to take the machine \
         in again, start an agent with an empty data directory (of an external server: with a new database and a new identity file)"
    )]
    WorkerRemoved {
        /// The worker.
        name: String,
        /// The group that it belonged to.
        group: String,
    },
    /// Settings that can't change differ.
    #[error("collection {name} exists with another {field}, which can't change")]
    SettingsConflict {
        /// The collection.
        name: CollectionName,
        /// The first field that differs.
        field: String,
    },
    /// The name is not free yet.
    #[error("collection {name} is being dropped; try again when it is gone")]
    BeingDropped {
        /// The collection.
        name: CollectionName,
    },
    /// There is no such shard.
    #[error("there is no shard {shard}; GET /v1/admin/shards lists them")]
    NoSuchShard {
        /// The shard.
        shard: ShardId,
    },
    /// There is no such group.
    #[error("there is no group {group}; GET /v1/admin/groups lists them")]
    NoSuchGroup {
        /// The group.
        group: String,
    },
    /// The shard is there.
    #[error("shard {shard} belongs to group {group} already")]
    OwnsAlready {
        /// The shard.
        shard: ShardId,
        /// The group.
        group: String,
    },
    /// The group takes no shards.
    #[error("group {group} is draining and takes no shards; choose another group, or: atoll group activate {group}")]
    GroupDraining {
        /// The group.
        group: String,
    },
    /// Nobody could take what the group holds.
    #[error("group {group} is the only one that is active: no other could take its shards; add or activate one first")]
    LastActiveGroup {
        /// The group.
        group: String,
    },
    /// Only what was drained goes.
    #[error("group {group} is active; empty it first: atoll group drain {group}")]
    GroupNotDraining {
        /// The group.
        group: String,
    },
    /// Its shards would be lost.
    #[error("group {group} still holds {shards} shards; wait until they have moved, or: atoll group drain {group}")]
    GroupHoldsShards {
        /// The group.
        group: String,
        /// How many.
        shards: u32,
    },
    /// A move is not over, or has left something.
    #[error(
        "move {id} of shard {shard} still concerns group {group}: wait until it is over and nothing is left of it; \
         atoll move show {id} tells how far it is. If a server of it is gone for good: atoll group remove {group} --lost"
    )]
    GroupHasMove {
        /// The group.
        group: String,
        /// The move.
        id: MoveId,
        /// Its shard.
        shard: ShardId,
    },
    /// The copy of a reference collection that would be read then lacks what was written before its group came.
    #[error(
        "group {group} holds the copy of reference collection {name} that is read, and group {next}, whose copy would be read \
         then, came after the collection was made and lacks what was written before: export the collection, drop it, make it \
         anew and import it; then remove the group"
    )]
    OnlyWholeCopy {
        /// The group.
        group: String,
        /// The reference collection.
        name: CollectionName,
        /// The group that would be read from.
        next: String,
    },
    /// A move is in the way.
    #[error("move {id} of shard {shard} is under way; wait for it, or cancel it")]
    MoveInProgress {
        /// The move.
        id: MoveId,
        /// Its shard.
        shard: ShardId,
    },
    /// A move is over, but a server that does not answer still holds what it made.
    #[error(
        "move {id} of shard {shard} left something on a server that does not answer; it goes when the server is back"
    )]
    MoveLeftThings {
        /// The move.
        id: MoveId,
        /// Its shard.
        shard: ShardId,
    },
    /// PostgreSQL does not replicate its tables.
    #[error(
        "collection {name} is ephemeral, and shards with such a collection cannot move; change its durability or drop it"
    )]
    Ephemeral {
        /// The collection.
        name: CollectionName,
    },
    /// There is no such move.
    #[error("there is no move {id}; GET /v1/admin/moves lists them")]
    NoSuchMove {
        /// The id.
        id: MoveId,
    },
    /// The target owns the shard, or the move is over.
    #[error("move {id} is {phase} and can't be cancelled any more; move the shard back instead")]
    TooLateToCancel {
        /// The move.
        id: MoveId,
        /// Its phase.
        phase: MovePhase,
    },
    /// Another plan is being carried out.
    #[error("plan {plan_id} is being carried out; wait for it, or cancel it")]
    RebalanceInProgress {
        /// That plan.
        plan_id: String,
    },
    /// What the plan was made from has changed.
    #[error(
        "the plan was made from catalog version {planned_at}, and groups or moves have changed since, at {changed_at}; make it anew"
    )]
    StalePlan {
        /// The catalog it was made from.
        planned_at: CatalogVersion,
        /// The last change.
        changed_at: CatalogVersion,
    },
    /// No run is there to be steered.
    #[error("no plan is being carried out; GET /v1/admin/rebalance/status shows the last one")]
    NoRebalance,
    /// The request was let in before there was a key, or by one that is gone.
    #[error(
        "keys are asked for since the request came, or its key is not valid any more: send it again with one that is"
    )]
    KeyNotValid,
    /// Nobody could make or remove keys.
    #[error("the first key must have access admin and never expire: from then on every request needs a key")]
    FirstKeyNotAdmin,
    /// Nobody could make or remove keys.
    #[error("key {id} is the last with access admin that never expires; make another one first: atoll key create")]
    LastAdminKey {
        /// The key.
        id: KeyId,
    },
    /// Nobody would be asked for a key.
    #[error(
        "key {id} is the last one: without it nobody is asked for a key any more. If that is meant: atoll key remove {id} --open"
    )]
    LastKey {
        /// The key.
        id: KeyId,
    },
    /// There is no such key.
    #[error("there is no key {id}; GET /v1/admin/keys lists them")]
    NoSuchKey {
        /// The id.
        id: KeyId,
    },
    /// Another key has the id.
    #[error("there is a key {id} already; try again")]
    KeyTaken {
        /// The id.
        id: KeyId,
    },
    /// There are as many as there may be.
    #[error("the cluster has as many keys as it may have; remove those that have expired: atoll key list")]
    TooManyKeys,
}
