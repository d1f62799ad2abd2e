//! Changes of the catalog, as they stand in the Raft log, and what becomes of them.

use super::{ApiKey, Refusal, ScheduledPlan};
use crate::failover::Change;
use crate::moves::{Advance, Cleanup};
use crate::rebalance::{ShardMove, Wish};
use atoll_proto::admin::GroupState;
use atoll_proto::agent::RegisterWorker;
use atoll_proto::key::KeyId;
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
        /// Workers that a group has.
        #[serde(default = "super::one")]
        replicas: u32,
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
    /// Changes the record of a group with standbys; without effect if the record has changed since, or the change may not follow.
    ChangeGroup {
        /// Which.
        id: GroupId,
        /// The entry that made the record on which it was decided.
        decided_at: CatalogVersion,
        /// How.
        change: Change,
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
    /// Makes an API key.
    CreateKey {
        /// Whose request it is; none while nobody is asked for a key. Decided again here: a key may have come or gone since the request did.
        by: Option<KeyId>,
        /// Its id, chosen by who asks.
        id: KeyId,
        /// What is kept of it.
        key: ApiKey,
    },
    /// Takes an API key away.
    RemoveKey {
        /// Whose request it is.
        by: KeyId,
        /// Which.
        id: KeyId,
        /// Whether the last one may go: then nobody is asked for a key any more.
        open: bool,
    },
    /// Makes an API key for who has the cluster secret, whichever keys there are.
    RecoverKey {
        /// Its id, chosen by who asks.
        id: KeyId,
        /// What is kept of it.
        key: ApiKey,
    },
    /// Changes nothing. Who proposed it has seen everything before it.
    CatchUp,
}

impl Command {
    /// The least [`super::FORMAT`] that knows it.
    pub fn format(&self) -> u32 {
        match self {
            // It raises the group's generation, which it did not before.
            Self::RegisterWorker(worker) if worker.follows => 9,
            Self::ChangeGroup { change: Change::Stamp { .. } | Change::AcceptLoss { .. }, .. } => 10,
            Self::InitCluster { replicas: 2.., .. } | Self::ChangeGroup { .. } => 8,
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
            Self::CreateKey { key, .. } => key.least_format(),
            Self::RemoveKey { .. } => 5,
            Self::RecoverKey { .. } => 6,
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
