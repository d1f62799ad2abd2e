//! The task that settles collections while this coordinator leads.

use super::decide::{SettlePlan, decide};
use crate::agents::{AgentBoard, AgentClient};
use crate::internal_client::CallError;
use crate::raft::CatalogNode;
use atoll_core::catalog::{Catalog, Command, Outcome, Placement};
use atoll_proto::agent::{Applied, DesiredState};
use atoll_proto::problem::ProblemCode;
use atoll_proto::{CatalogVersion, GroupId, ShardId, WorkerId};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;
use tokio::task::{self, JoinError, JoinHandle, JoinSet};
use tokio::time::{Instant, sleep};

/// While something is unsettled, look again this often: agents come back without the catalog noticing.
const RETRY_EVERY: Duration = Duration::from_millis(500);
/// While everything is settled, look again this often for agents that fell back.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// For an agent to make tables in all of its shards.
const APPLY_WITHIN: Duration = Duration::from_secs(30);
/// For the catalog to take note.
const PROPOSE_WITHIN: Duration = Duration::from_secs(5);

/// The running task; dropping it ends it. Cancelled anywhere, nothing is lost: the next leader looks at the same catalog
/// and tells the agents again.
pub struct Settler(JoinHandle<()>);

impl Settler {
    /// Starts it. It sleeps unless this coordinator leads.
    pub fn start(node: CatalogNode, board: AgentBoard) -> Self {
        Self(tokio::spawn(async move { node.while_leading(|| settle_all(&node, &board)).await }))
    }
}

impl Drop for Settler {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// An agent's answer, and which it is.
type Told = (GroupId, WorkerId, Result<Applied, CallError>);

/// What this leader knows beyond the catalog.
struct Term {
    board: AgentBoard,
    agents: AgentClient,
    /// What agents answered to this leader, and when.
    answers: BTreeMap<WorkerId, (CatalogVersion, Instant)>,
    /// Groups whose agent is being told something, one thing at a time each, by the call that does it.
    telling: HashMap<task::Id, GroupId>,
    calls: JoinSet<Told>,
    placements: BTreeMap<ShardId, Placement>,
    /// The version of the first view with these placements. For a new leader its first view: too new is only slower.
    placed_at: CatalogVersion,
    /// Groups whose agent failed, so that each failure is logged once.
    failing: BTreeSet<GroupId>,
}

/// Goes on until cancelled, or until there are no more views.
async fn settle_all(node: &CatalogNode, board: &AgentBoard) {
    let mut views = node.watch();
    let mut term = Term {
        board: board.clone(),
        agents: AgentClient::new(node.client().clone()),
        answers: BTreeMap::new(),
        telling: HashMap::new(),
        calls: JoinSet::new(),
        placements: BTreeMap::new(),
        placed_at: CatalogVersion(0),
        failing: BTreeSet::new(),
    };
    loop {
        let catalog = views.borrow_and_update().catalog.clone();
        term.see(&catalog);
        let plan = decide(&catalog, term.placed_at, &term.applied(&catalog));
        settle(node, &plan).await;
        term.tell(&catalog, &plan);
        let pause = if plan == SettlePlan::default() { LOOK_EVERY } else { RETRY_EVERY };
        tokio::select! {
            changed = views.changed() => if changed.is_err() { return },
            Some(ended) = term.calls.join_next_with_id() => term.ended(ended),
            () = sleep(pause) => {}
        }
    }
}

async fn settle(node: &CatalogNode, plan: &SettlePlan) {
    for (id, changed_at) in &plan.settle {
        let command = Command::SettleCollection { id: *id, changed_at: *changed_at };
        match node.propose(command, Instant::now() + PROPOSE_WITHIN).await {
            Ok(proposed) if proposed.outcome == Outcome::Done => {
                tracing::info!(collection = %id, %changed_at, "collection settled");
            }
            // It changed again meanwhile.
            Ok(_) => tracing::debug!(collection = %id, %changed_at, "settled too late"),
            Err(error) => {
                tracing::warn!(collection = %id, %error, "a settled collection could not be noted; will retry")
            }
        }
    }
}

impl Term {
    fn see(&mut self, catalog: &Catalog) {
        if self.placements != catalog.placements {
            self.placements = catalog.placements.clone();
            self.placed_at = catalog.version;
        }
    }

    /// What each group's primary has applied: its answer to this leader or its last status, whichever is later.
    fn applied(&self, catalog: &Catalog) -> BTreeMap<GroupId, CatalogVersion> {
        let of_worker = |worker: WorkerId| {
            let answered = self.answers.get(&worker);
            let record = self.board.record(worker);
            let seen_at = record.as_ref().and_then(|record| record.answered_at);
            match answered {
                Some((version, at)) if seen_at.is_none_or(|seen_at| *at >= seen_at) => Some(*version),
                Some(_) | None => record?.status?.applied,
            }
        };
        let known = |(id, group): (&GroupId, &atoll_core::catalog::Group)| Some((*id, of_worker(group.primary)?));
        catalog.groups.iter().filter_map(known).collect()
    }

    fn tell(&mut self, catalog: &Catalog, plan: &SettlePlan) {
        for id in &plan.tell {
            if self.telling.values().any(|told| told == id) {
                continue;
            }
            let (Some(group), Some(desired)) = (catalog.groups.get(id), catalog.desired_state(*id)) else { continue };
            let agent_url = catalog.primary(group).agent_url.clone();
            let call = self.calls.spawn(tell_one(self.agents.clone(), *id, group.primary, agent_url, desired));
            self.telling.insert(call.id(), *id);
        }
    }

    fn ended(&mut self, ended: Result<(task::Id, Told), JoinError>) {
        match ended {
            Ok((call, told)) => {
                self.telling.remove(&call);
                self.note(told);
            }
            Err(error) => {
                let group = self.telling.remove(&error.id());
                tracing::error!(
                    ?group,
                    error = &error as &dyn std::error::Error,
                    "telling an agent met a bug; will retry"
                );
            }
        }
    }

    fn note(&mut self, (group, worker, answer): Told) {
        match answer {
            Ok(applied) => {
                self.failing.remove(&group);
                self.answers.insert(worker, (applied.catalog_version, Instant::now()));
            }
            Err(error) => {
                let reason = std::error::Error::source(&error).map(ToString::to_string);
                if is_not_ready(&error) {
                    tracing::debug!(%group, %error, reason, "the agent does not take the desired state now; will retry");
                } else if self.failing.insert(group) {
                    tracing::warn!(%group, %error, reason, "the agent could not apply the desired state; will retry");
                }
            }
        }
    }
}

async fn tell_one(
    agents: AgentClient,
    group: GroupId,
    worker: WorkerId,
    agent_url: String,
    desired: DesiredState,
) -> Told {
    let answer = agents.put_desired(&agent_url, &desired, Instant::now() + APPLY_WITHIN).await;
    if answer.is_err() {
        // The pause before it is tried again, for an agent that fails at once.
        sleep(RETRY_EVERY).await;
    }
    (group, worker, answer)
}

/// Whether there is nothing to be told: its server is coming up, or it has had a newer state from another leader or an earlier request.
fn is_not_ready(error: &CallError) -> bool {
    match error {
        CallError::Refused { problem, .. } => {
            matches!(problem.code, ProblemCode::ShardUnavailable | ProblemCode::StalePlan)
        }
        CallError::Unreachable { .. }
        | CallError::Broken { .. }
        | CallError::Deadline { .. }
        | CallError::Unexpected { .. } => false,
    }
}
