//! Coordinators come and go. Done by the leader, one change at a time; a follower that is asked passes the request on, once.
//!
//! A newcomer first gets an id (`join`), and when its Raft listens (`ready`) it becomes a learner, and a voter once it has
//! caught up, up to five voters: more would make every change slower and protect against nothing likely. The rest stay
//! learners, which serve requests all the same. One that leaves is first made a learner, so that it does not campaign for
//! a cluster it no longer belongs to, then forgotten by the catalog, then by Raft: the other way round from how it came. So
//! an id in the catalog that Raft does not know was never a member, and may be given out again; any other never is.

use super::node::{CatalogNode, Leader};
use super::propose::ProposeError;
use super::types::RaftMember;
use crate::internal_client::CallError;
use atoll_core::catalog::{Command, Outcome, Refusal};
use atoll_proto::CoordinatorId;
use atoll_proto::join::{JOIN_PATH, JoinCluster, JoinReady, Joined, READY_PATH};
use atoll_proto::problem::{Problem, ProblemCode};
use openraft::ChangeMembers;
use openraft::error::{ClientWriteError, RaftError};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use tokio::time::{Instant, timeout_at};

/// Path on the internal listener: `POST` [`RemoveCoordinator`].
pub const REMOVE_PATH: &str = "/internal/v1/coordinators/remove";

/// Coordinators that vote, at most.
const VOTERS_MAX: usize = 5;

/// A coordinator should be forgotten.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoveCoordinator {
    /// Which.
    pub id: CoordinatorId,
}

/// How a request came here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hop {
    /// From the one who wants it: pass it on to the leader if need be.
    First,
    /// From a follower: answer, or say that this is not the leader.
    Forwarded,
}

/// Why the coordinators were not changed.
#[derive(Debug, thiserror::Error)]
pub enum MembershipError {
    /// No leader until the deadline. Try again.
    #[error("the catalog has no leader just now; try again in a moment")]
    NoLeader,
    /// It may be half done; asking again finishes it.
    #[error("the coordinators did not agree in time; it may be half done: ask again to finish it")]
    Deadline,
    /// Nobody of that id has ever joined, or it is gone already.
    #[error("there is no coordinator {id}; GET /v1/admin/cluster lists them")]
    NotFound {
        /// The id asked for.
        id: CoordinatorId,
    },
    /// Without a voter nothing can ever be decided again.
    #[error("coordinator {id} is the last voter, and nothing could be decided without it; let another one join first")]
    LastVoter {
        /// The id asked for.
        id: CoordinatorId,
    },
    /// A member has lost its data, or two are configured alike.
    #[error(
        "{internal} belongs to coordinator {id}, which is a member already; if its data is lost, remove it first: an id \
         must not vote again without its log"
    )]
    AlreadyMember {
        /// Who it is.
        id: CoordinatorId,
        /// The address asked for.
        internal: String,
    },
    /// The catalog says no.
    #[error("the catalog refused")]
    Refused(#[source] Refusal),
    /// This coordinator is going down.
    #[error("this coordinator is stopping; ask another one")]
    Stopped,
    /// The leader's own answer.
    #[error("the leader refused")]
    Leader(#[source] Box<Problem>),
}

impl CatalogNode {
    /// A newcomer asks for its id.
    pub async fn join(&self, asked: JoinCluster, hop: Hop, deadline: Instant) -> Result<Joined, MembershipError> {
        match self.leader_for(hop, deadline).await? {
            Leader::There(leader) => self.pass_on(&leader, JOIN_PATH, &asked, deadline).await,
            Leader::Here => self.join_here(asked, deadline).await,
        }
    }

    /// Makes a coordinator that joined a learner, and a voter while there are fewer than five.
    pub async fn add_coordinator(&self, id: CoordinatorId, hop: Hop, deadline: Instant) -> Result<(), MembershipError> {
        match self.leader_for(hop, deadline).await? {
            Leader::There(leader) => self.pass_on(&leader, READY_PATH, &JoinReady { id }, deadline).await,
            Leader::Here => self.add_here(id, deadline).await,
        }
    }

    /// Forgets a coordinator, running or not. The leader can remove itself.
    pub async fn remove_coordinator(
        &self,
        id: CoordinatorId,
        hop: Hop,
        deadline: Instant,
    ) -> Result<(), MembershipError> {
        match self.leader_for(hop, deadline).await? {
            Leader::There(leader) => self.pass_on(&leader, REMOVE_PATH, &RemoveCoordinator { id }, deadline).await,
            Leader::Here => self.remove_here(id, deadline).await,
        }
    }

    async fn join_here(&self, asked: JoinCluster, deadline: Instant) -> Result<Joined, MembershipError> {
        let _one_at_a_time = self.shared().membership_change.lock().await;
        let view = self.view();
        let known = view.catalog.coordinators.iter().find(|(_, known)| known.internal == asked.internal);
        if let Some((id, _)) = known
            && self.members().contains_key(&id.0)
        {
            return Err(MembershipError::AlreadyMember { id: *id, internal: asked.internal });
        }
        let command = Command::AddCoordinator { http: asked.http, internal: asked.internal };
        match self.propose(command, deadline).await?.outcome {
            Outcome::CoordinatorAdded { id } => Ok(Joined { cluster_id: self.cluster_id().to_owned(), id }),
            Outcome::Refused(refusal) => Err(MembershipError::Refused(refusal)),
            outcome @ (Outcome::Done
            | Outcome::Unchanged
            | Outcome::WorkerRegistered { .. }
            | Outcome::MoveStarted { .. }
            | Outcome::CollectionPut { .. }) => {
                unreachable!("adding a coordinator gives an id or a refusal, not {outcome:?}")
            }
        }
    }

    async fn add_here(&self, id: CoordinatorId, deadline: Instant) -> Result<(), MembershipError> {
        let _one_at_a_time = self.shared().membership_change.lock().await;
        let view = self.view();
        let Some(coordinator) = view.catalog.coordinators.get(&id) else {
            return Err(MembershipError::NotFound { id });
        };
        let member = RaftMember { http: coordinator.http.clone(), internal: coordinator.internal.clone() };
        let voters = self.voters();
        if voters.contains(&id.0) {
            return Ok(());
        }
        // Returns when it has caught up: a voter that lies far behind would hold up every change.
        within(deadline, self.raft().add_learner(id.0, member, true)).await?;
        if voters.len() < VOTERS_MAX {
            let voter = ChangeMembers::AddVoterIds(BTreeSet::from([id.0]));
            within(deadline, self.raft().change_membership(voter, true)).await?;
            tracing::info!(%id, "the coordinator votes");
        } else {
            tracing::info!(%id, voters = voters.len(), "the coordinator learns; there are voters enough");
        }
        Ok(())
    }

    async fn remove_here(&self, id: CoordinatorId, deadline: Instant) -> Result<(), MembershipError> {
        let one_at_a_time = self.shared().membership_change.lock().await;
        let is_member = self.members().contains_key(&id.0);
        if !is_member && !self.view().catalog.coordinators.contains_key(&id) {
            return Err(MembershipError::NotFound { id });
        }
        let voters = self.voters();
        if voters == BTreeSet::from([id.0]) {
            return Err(MembershipError::LastVoter { id });
        }
        if voters.contains(&id.0) {
            let demoted = ChangeMembers::RemoveVoters(BTreeSet::from([id.0]));
            within(deadline, self.raft().change_membership(demoted, true)).await?;
        }
        if id == self.id() {
            // A leader that is no voter leads on until somebody else wants to. Silent, it makes the voters want to; and as
            // a learner it hears who leads then. That one does the rest.
            drop(one_at_a_time);
            let _silence = Silence::begin(self);
            let elsewhere = |leader: &Leader| matches!(leader, Leader::There(_));
            let Some(Leader::There(leader)) = self.leader_by(deadline, elsewhere).await else {
                return Err(MembershipError::NoLeader);
            };
            return self.pass_on(&leader, REMOVE_PATH, &RemoveCoordinator { id }, deadline).await;
        }
        self.propose(Command::RemoveCoordinator { id }, deadline).await?;
        if is_member {
            let forgotten = ChangeMembers::RemoveNodes(BTreeSet::from([id.0]));
            within(deadline, self.raft().change_membership(forgotten, false)).await?;
        }
        tracing::info!(%id, "the coordinator was removed");
        Ok(())
    }

    fn voters(&self) -> BTreeSet<u64> {
        self.metrics().membership_config.membership().voter_ids().collect()
    }

    fn members(&self) -> BTreeMap<u64, RaftMember> {
        let metrics = self.metrics();
        metrics.membership_config.membership().nodes().map(|(id, member)| (*id, member.clone())).collect()
    }

    async fn leader_for(&self, hop: Hop, deadline: Instant) -> Result<Leader, MembershipError> {
        let acceptable = |leader: &Leader| hop == Hop::First || *leader == Leader::Here;
        // A forwarded request is answered at once: who sent it knows better than this coordinator what to try next.
        let deadline = if hop == Hop::First { deadline } else { Instant::now() };
        self.leader_by(deadline, acceptable).await.ok_or(MembershipError::NoLeader)
    }

    async fn pass_on<T: serde::de::DeserializeOwned>(
        &self,
        leader: &RaftMember,
        path: &str,
        body: &impl Serialize,
        deadline: Instant,
    ) -> Result<T, MembershipError> {
        match self.client().forward(&leader.internal, path, body, deadline).await {
            Ok(answer) => Ok(answer),
            Err(CallError::Refused { problem, .. }) if problem.code == ProblemCode::NoLeader => {
                Err(MembershipError::NoLeader)
            }
            Err(CallError::Refused { problem, .. }) => Err(MembershipError::Leader(problem)),
            Err(error) if error.may_have_arrived() => Err(MembershipError::Deadline),
            Err(_) => Err(MembershipError::NoLeader),
        }
    }
}

/// While it lives, this coordinator sends no heartbeats.
struct Silence<'a>(&'a CatalogNode);

impl<'a> Silence<'a> {
    fn begin(node: &'a CatalogNode) -> Self {
        node.raft().runtime_config().heartbeat(false);
        Self(node)
    }
}

impl Drop for Silence<'_> {
    fn drop(&mut self) {
        self.0.raft().runtime_config().heartbeat(true);
    }
}

impl From<ProposeError> for MembershipError {
    fn from(error: ProposeError) -> Self {
        match error {
            ProposeError::NoLeader => Self::NoLeader,
            ProposeError::Deadline => Self::Deadline,
            ProposeError::Stopped => Self::Stopped,
            ProposeError::Refused(problem) => Self::Leader(problem),
        }
    }
}

async fn within<T>(
    deadline: Instant,
    change: impl Future<Output = Result<T, RaftError<u64, ClientWriteError<u64, RaftMember>>>>,
) -> Result<(), MembershipError> {
    match timeout_at(deadline, change).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_)))) => Err(MembershipError::NoLeader),
        // Another change is not committed yet, of an earlier leader perhaps: as with a deadline, ask again.
        Ok(Err(RaftError::APIError(ClientWriteError::ChangeMembershipError(error)))) => {
            tracing::warn!(%error, "the coordinators can't be changed just now");
            Err(MembershipError::Deadline)
        }
        // Raft stopped, perhaps after the entry was on its way.
        Ok(Err(RaftError::Fatal(_))) => Err(MembershipError::Deadline),
        Err(_) => Err(MembershipError::Deadline),
    }
}
