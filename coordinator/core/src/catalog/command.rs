//! Changes of the catalog, as they stand in the Raft log, and what becomes of them.

use super::ScheduledPlan;
use crate::moves::{Advance, Cleanup};
use crate::rebalance::{ShardMove, Wish};
use atoll_proto::admin::GroupState;
use atoll_proto::agent::RegisterWorker;
use atoll_proto::moves::MovePhase;
use atoll_proto::rebalance::RebalancePolicy;
use atoll_proto::{
    CatalogVersion, CollectionId, CollectionName, CollectionSettings, CoordinatorId, GroupId, MoveId, ShardId, WorkerId,
};
use serde::{Deserialize, Serialize};

/// A command with the number of its format: a program that meets a higher one must stop, not skip.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CommandEnvelope {
    /// The least [`super::FORMAT`] that knows it: a program of an earlier version goes on as long as nobody uses what is new.
    pub format: u32,
    /// The change.
    pub command: Command,
}

impl CommandEnvelope {
    /// Wraps a command.
    pub fn new(command: Command) -> Self {
        Self { format: command.format(), command }
    }
}

/// A change of the catalog. Whatever depends on time or chance is chosen before, and stands in the command.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Command {
    /// Chooses what never changes. The first one wins.
    InitCluster {
        /// Random identity.
        cluster_id: String,
        /// Slots of the ring.
        shard_count: u32,
        /// Groups to wait for before the first placement.
        initial_groups: u32,
        /// The coordinator that did it, and where it listens.
        coordinator: CoordinatorId,
        /// Its base URL for clients.
        http: String,
        /// Its base URL for coordinators and agents.
        internal: String,
    },
    /// Hands out an id for a new coordinator. Asked again from the same address before it became a member, it gets the
    /// same one: a newcomer that crashed before it wrote its id down leaves nothing behind.
    AddCoordinator {
        /// Its base URL for clients.
        http: String,
        /// Its base URL for coordinators and agents.
        internal: String,
    },
    /// Forgets a coordinator that is no Raft member any more.
    RemoveCoordinator {
        /// Which.
        id: CoordinatorId,
    },
    /// A worker is there, or its address or server has changed.
    RegisterWorker(RegisterWorker),
    /// Makes a collection, or changes of it what may change.
    PutCollection {
        /// Its name.
        name: CollectionName,
        /// Its settings.
        settings: CollectionSettings,
    },
    /// Starts the drop of a collection. Named by its id: asked again, it must not hit another one made since under the name.
    DropCollection {
        /// Which.
        id: CollectionId,
    },
    /// Every server matches the collection as of `changed_at`. Made active, or forgotten if it was being dropped; without
    /// effect if it changed again since.
    SettleCollection {
        /// Which.
        id: CollectionId,
        /// The change that was carried out.
        changed_at: CatalogVersion,
    },
    /// Begins a move of a shard. Asked twice with one token, it is one move.
    StartMove {
        /// Chosen by who asks.
        token: String,
        /// The shard.
        shard: ShardId,
        /// The group that shall own it.
        to: GroupId,
        /// Longest pause of writes, in milliseconds.
        max_write_pause_ms: u32,
    },
    /// Begins a move's next phase; without effect if the move has changed since that was decided. The phase `switching` makes the
    /// target the owner.
    AdvanceMove {
        /// Which.
        id: MoveId,
        /// The entry that began the phase in which it was decided.
        decided_at: CatalogVersion,
        /// The phase.
        to: MovePhase,
        /// What the phase that ends brought.
        brings: Advance,
    },
    /// Gives a move up, if its target does not own the shard yet.
    CancelMove {
        /// Which.
        id: MoveId,
    },
    /// Something that a move left is gone; without effect if the move has changed since that was seen.
    NoteCleaned {
        /// Which.
        id: MoveId,
        /// The entry that began the phase in which it was seen.
        decided_at: CatalogVersion,
        /// What is gone.
        cleanup: Cleanup,
    },
    /// Begins to carry a plan out. Asked twice with one plan, it is one run.
    ApplyPlan {
        /// The plan.
        plan_id: String,
        /// The catalog it was made from.
        planned_at: CatalogVersion,
        /// Moves that may be under way at a time.
        parallel: u32,
        /// Its moves, in their order.
        moves: Vec<ShardMove>,
    },
    /// Begins a planned move, or notes why it can't be; without effect if it is not its turn.
    BeginPlannedMove {
        /// The entry that began the run.
        run_began_at: CatalogVersion,
        /// Its place in the plan, from 0.
        place: usize,
    },
    /// Lets the run go on, begin nothing more for now, or nothing more at all.
    SteerRebalance {
        /// Which.
        wish: Wish,
    },
    /// Lets a group take shards, or has it emptied.
    SetGroupState {
        /// Which.
        id: GroupId,
        /// What it shall be.
        state: GroupState,
    },
    /// Takes a drained group and its workers out of the cluster. Named by its id: asked again, it must not hit another one that
    /// has come since under the name.
    RemoveGroup {
        /// Which.
        id: GroupId,
        /// Whether its servers will never answer again: what moves that are over left on them is not waited for.
        #[serde(default)]
        lost: bool,
    },
    /// Says when plans are made and carried out by themselves.
    SetRebalancePolicy {
        /// When, and what is evened out.
        policy: RebalancePolicy,
        /// Now, in seconds since 1970: times before it are none of the schedule's.
        now_s: i64,
    },
    /// A time of the schedule has come: a run that waits for it goes on, or else a plan is begun; without effect if the time was
    /// seen already.
    FollowSchedule {
        /// The time, in seconds since 1970.
        due_s: i64,
        /// Now: other times up to it are passed over.
        now_s: i64,
        /// The plan; none if nothing is to do, or if a run is open.
        plan: Option<ScheduledPlan>,
    },
    /// The time for which a run that the schedule began may begin moves is over: it waits for the next one.
    HoldScheduledRun {
        /// The entry that began it.
        run_began_at: CatalogVersion,
        /// The end of that time, in seconds since 1970.
        until_s: i64,
    },
    /// Changes nothing. Who proposed it has seen everything before it.
    CatchUp,
}

impl Command {
    /// The least [`super::FORMAT`] that knows it.
    pub fn format(&self) -> u32 {
        match self {
            Self::InitCluster { .. }
            | Self::AddCoordinator { .. }
            | Self::RemoveCoordinator { .. }
            | Self::RegisterWorker(_)
            | Self::PutCollection { .. }
            | Self::DropCollection { .. }
            | Self::SettleCollection { .. }
            | Self::CatchUp => 1,
            // What follows of these is not what it was in formats 2 and 3, which had them first.
            Self::StartMove { .. }
            | Self::AdvanceMove { .. }
            | Self::CancelMove { .. }
            | Self::NoteCleaned { .. }
            | Self::ApplyPlan { .. }
            | Self::BeginPlannedMove { .. }
            | Self::SteerRebalance { .. }
            | Self::SetGroupState { .. }
            | Self::RemoveGroup { .. }
            | Self::SetRebalancePolicy { .. }
            | Self::FollowSchedule { .. }
            | Self::HoldScheduledRun { .. } => 4,
        }
    }
}

/// What became of a command.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It changed the catalog.
    Done,
    /// The catalog already was as asked: of what should go, it is gone.
    Unchanged,
    /// The coordinator's id.
    CoordinatorAdded {
        /// Its id.
        id: CoordinatorId,
    },
    /// The worker's and its group's id.
    WorkerRegistered {
        /// Its id.
        worker: WorkerId,
        /// Its group's id.
        group: GroupId,
    },
    /// The collection's id, and the change to wait for.
    CollectionPut {
        /// Its id.
        id: CollectionId,
        /// The change that servers have to match.
        changed_at: CatalogVersion,
    },
    /// The move's id.
    MoveStarted {
        /// Its id.
        id: MoveId,
    },
    /// It was not done.
    Refused(Refusal),
}

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
    /// A group takes one worker.
    #[error("group {group} already has the worker {member}; choose another group")]
    GroupTaken {
        /// The group.
        group: String,
        /// Its worker.
        member: String,
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
}
