//! The task that makes plans and begins to carry them out at the times of the schedule, while this coordinator leads. What is due
//! is `atoll-core`'s to say, and the catalog keeps which times are dealt with.

use super::Rebalancer;
use crate::raft::CatalogNode;
use atoll_core::catalog::{Catalog, Command, Outcome, ScheduledPlan};
use atoll_core::rebalance::{Due, Policy, due};
use atoll_proto::rebalance::{GroupPart, RebalanceReport};
use jiff::Timestamp;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

/// Schedules count minutes.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// For the catalog to take note.
const PROPOSE_WITHIN: Duration = Duration::from_secs(5);
/// A leader that was just elected may not have heard of every agent; one that is gone is not waited for longer.
const UNHEARD_SECONDS_MAX: i64 = 30;

/// The running task; dropping it ends it. Cancelled anywhere, nothing is lost: the next leader looks at the same catalog.
pub struct Scheduler(JoinHandle<()>);

impl Scheduler {
    /// Starts it. It sleeps unless this coordinator leads.
    pub fn start(node: CatalogNode, rebalancer: Rebalancer) -> Self {
        Self(tokio::spawn(async move { node.while_leading(|| follow_schedule(&node, &rebalancer)).await }))
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Goes on until cancelled, or until there are no more views.
async fn follow_schedule(node: &CatalogNode, rebalancer: &Rebalancer) {
    let views = node.watch();
    while views.has_changed().is_ok() {
        let now_s = Timestamp::now().as_second();
        let catalog = views.borrow().catalog.clone();
        if let Some(command) = command(&catalog, rebalancer, now_s).await {
            match node.propose(command, Instant::now() + PROPOSE_WITHIN).await {
                Ok(proposed) => tell(&proposed.outcome),
                Err(error) => tracing::warn!(%error, "the schedule could not be followed; will retry"),
            }
        }
        sleep(LOOK_EVERY).await;
    }
}

fn tell(outcome: &Outcome) {
    match outcome {
        Outcome::Done => tracing::info!("a time of the rebalancing schedule is dealt with"),
        Outcome::Refused(refusal) => tracing::info!(%refusal, "a plan by the schedule was not taken; will retry"),
        Outcome::Unchanged
        | Outcome::CoordinatorAdded { .. }
        | Outcome::WorkerRegistered { .. }
        | Outcome::CollectionPut { .. }
        | Outcome::MoveStarted { .. } => {}
    }
}

/// What to propose now; none if nothing is due, or agents are to be heard first.
async fn command(catalog: &Catalog, rebalancer: &Rebalancer, now_s: i64) -> Option<Command> {
    let (due_s, plans) = match due(catalog.schedule.as_ref(), catalog.rebalance.as_ref(), now_s)? {
        Due::Hold { run_began_at, until_s } => return Some(Command::HoldScheduledRun { run_began_at, until_s }),
        Due::Time { due_s, plans } => (due_s, plans),
    };
    let policy = &catalog.schedule.as_ref()?.policy;
    let plan = match Policy::new(policy.by, policy.threshold).filter(|_| plans) {
        Some(policy) => {
            let rebalancer = rebalancer.clone();
            // Of a large cluster a plan takes a good part of a second, for which requests would wait.
            let planned = tokio::task::spawn_blocking(move || rebalancer.plan(policy)).await;
            let planned = planned.expect("planning does not panic");
            if !is_heard(&planned.told.report) && now_s - due_s < UNHEARD_SECONDS_MAX {
                return None;
            }
            let (plan_id, planned_at) = (planned.told.plan_id.clone(), planned.told.catalog_version);
            (!planned.moves.is_empty()).then(|| ScheduledPlan { plan_id, planned_at, moves: planned.moves.clone() })
        }
        None => None,
    };
    Some(Command::FollowSchedule { due_s, now_s, plan })
}

/// Whether every agent has told what its shards weigh.
fn is_heard(report: &RebalanceReport) -> bool {
    report.groups.iter().all(|group| match group.state {
        GroupPart::Active | GroupPart::Draining => true,
        GroupPart::Unreachable | GroupPart::Uncounted => false,
    })
}
