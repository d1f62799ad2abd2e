//! Drives one move: asks the core what to do next, does it, and remembers what was seen.

use super::pauses;
use crate::agents::AgentClient;
use crate::internal_client::CallError;
use crate::raft::CatalogNode;
use atoll_core::catalog::{Catalog, Command, Outcome};
use atoll_core::moves::{Advance, MoveJob, Observed, Side, Step, next_step};
use atoll_core::routing::RoutingTable;
use atoll_proto::limits;
use atoll_proto::moves::{MoveOrder, MovePhase, MoveReport, MoveWork};
use atoll_proto::{CatalogVersion, MoveId};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

/// Moves that are under way at a time; later ones wait.
const AT_A_TIME: usize = limits::PARALLEL_MOVES_MAX as usize;
/// For the catalog to take note.
const PROPOSE_WITHIN: Duration = Duration::from_secs(5);
/// For what an agent makes, asks or renames.
const ORDER_WITHIN: Duration = Duration::from_secs(90);
/// While a move goes back or cleans up: a server that hangs shall not keep it. What takes longer goes on, and is asked for again.
const CLEANUP_WITHIN: Duration = Duration::from_secs(10);
/// For what puts names back that writers wait for.
const GIVE_BACK_WITHIN: Duration = Duration::from_secs(1);
/// For indexes, sums and what is read into memory: as long as they take, but not for ever. Asked again, an agent goes on where it is.
const LONG_ORDER_WITHIN: Duration = Duration::from_secs(6 * 60 * 60);
/// While it works on such an order, an agent is asked this often how it is.
const ASK_EVERY: Duration = Duration::from_secs(10);
/// For its answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// Questions in a row without an answer, or with the answer that its server is down, before the order is given up.
const SILENCES_MAX: u32 = 3;
/// Between two tries of what failed, or is not done yet.
const AGAIN_AFTER: Duration = Duration::from_millis(500);
/// The same for what has just been begun.
const LOOK_SOON_AFTER: Duration = Duration::from_millis(50);
/// Between two looks for what takes milliseconds.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(2);

/// What this driver knows beyond the catalog.
struct Driver {
    node: CatalogNode,
    agents: AgentClient,
    id: MoveId,
    seen: Observed,
    /// The phase that `seen` is about, and when it was first seen.
    phase: Option<(CatalogVersion, Instant)>,
    /// When writes began to wait.
    paused_at: Option<Instant>,
    write_pause_ms: Option<u32>,
    /// The failure that was logged last.
    told: Option<String>,
}

/// Goes on until nothing is left to do, or there are no more views.
pub(super) async fn drive(node: CatalogNode, agents: AgentClient, id: MoveId) {
    let mut views = node.watch();
    let mut driver = Driver {
        node,
        agents,
        id,
        seen: Observed::default(),
        phase: None,
        paused_at: None,
        write_pause_ms: None,
        told: None,
    };
    loop {
        let view = views.borrow_and_update().clone();
        let Some(job) = view.catalog.moves.get(&id).cloned() else { return };
        driver.look(&view.catalog, &job);
        let mut watched = views.clone();
        let changes = changed_since(&mut watched, id, job.changed_at);
        match next_step(&job, &driver.seen) {
            Step::End => return,
            Step::Wait { ms } => tokio::select! {
                () = sleep(Duration::from_millis(ms)) => {}
                () = changes => {}
            },
            Step::Order(side, work) => tokio::select! {
                () = driver.order(&view, &job, side, work) => {}
                // Cancelled, or turned round by another leader: what the agent still does, it does for nothing.
                () = changes => {}
            },
            Step::Record(to, brings) => driver.record(&job, to, brings).await,
            Step::Cleaned(cleanup) => {
                let command = Command::NoteCleaned { id, decided_at: job.changed_at, cleanup };
                driver.propose(command).await;
            }
        }
        if views.has_changed().is_err() {
            return;
        }
    }
}

/// Waits until a view shows the move in another phase.
async fn changed_since(views: &mut watch::Receiver<Arc<RoutingTable>>, id: MoveId, at: CatalogVersion) {
    let changed = views.wait_for(|view| view.catalog.moves.get(&id).is_none_or(|job| job.changed_at != at));
    // Without a sender there will be no new view: the coordinator is going down.
    let _ = changed.await;
}

/// Completes when an agent, its host or its server has said nothing for a while.
async fn silent(agents: &AgentClient, agent_url: &str) {
    let mut silences = 0;
    while silences < SILENCES_MAX {
        sleep(ASK_EVERY).await;
        let status = agents.status(agent_url, Instant::now() + ANSWER_WITHIN).await;
        silences = if status.is_ok_and(|status| status.postgres_up) { 0 } else { silences + 1 };
    }
}

impl Driver {
    fn look(&mut self, catalog: &Catalog, job: &MoveJob) {
        let began = match self.phase {
            Some((at, began)) if at == job.changed_at => began,
            Some(_) | None => {
                tracing::info!(id = %self.id, shard = %job.shard, phase = %job.phase, error = job.error, "move");
                (self.seen, self.told) = (Observed::default(), None);
                let now = Instant::now();
                self.phase = Some((job.changed_at, now));
                now
            }
        };
        self.seen.phase_ms = millis(began.elapsed());
        // Those that only clean up may wait for a server that is gone.
        let before = catalog.moves.range(..self.id).filter(|(_, job)| job.phase.may_be_cancelled()).count();
        self.seen.may_begin = before < AT_A_TIME && catalog.unsettled().next().is_none();
    }

    async fn order(&mut self, view: &RoutingTable, job: &MoveJob, side: Side, work: MoveWork) {
        let catalog = &view.catalog;
        let group = match side {
            Side::Source => job.from,
            Side::Target => job.to,
        };
        let (Some(cluster), Some(subject)) = (&catalog.cluster, catalog.move_subject(self.id)) else {
            return sleep(AGAIN_AFTER).await;
        };
        let order = MoveOrder { cluster_id: cluster.id.clone(), ordered_at: job.changed_at, subject, work };
        let agent_url = &catalog.primary(&catalog.groups[&group]).agent_url;
        let sent = Instant::now();
        let is_long = matches!(work, MoveWork::Index | MoveWork::Warm | MoveWork::Sum | MoveWork::SumAt { .. });
        let within = match job.phase == MovePhase::Fencing {
            true => Duration::from_millis(u64::from(job.max_write_pause_ms)),
            false if work == MoveWork::StepBack => GIVE_BACK_WITHIN,
            false if is_long => LONG_ORDER_WITHIN,
            false if !job.phase.may_be_cancelled() => CLEANUP_WITHIN,
            false => ORDER_WITHIN,
        };
        let reported = tokio::select! {
            reported = self.agents.put_move(agent_url, &order, sent + within) => reported,
            () = silent(&self.agents, agent_url), if within == LONG_ORDER_WITHIN => {
                Err(CallError::Deadline { url: agent_url.clone() })
            }
        };
        match reported {
            Ok(report) => self.note(job, work, report, sent).await,
            Err(error) => self.failed(job, work, &error, millis(sent.elapsed())).await,
        }
    }

    async fn note(&mut self, job: &MoveJob, work: MoveWork, report: MoveReport, sent: Instant) {
        if let MoveWork::Fence { .. } = work {
            let locked = Duration::from_millis(report.held_ms.unwrap_or(0));
            // By a leader before this one, perhaps: long before it was asked for.
            self.paused_at = Some(Instant::now().checked_sub(locked).unwrap_or(sent));
        }
        let done = report.done;
        self.seen.note(work, report, millis(sent.elapsed()));
        if !done {
            let since = Duration::from_millis(self.seen.phase_ms);
            sleep(if job.phase == MovePhase::Fencing { LOOK_AGAIN_AFTER } else { look_again_after(since) }).await;
        }
    }

    async fn failed(&mut self, job: &MoveJob, work: MoveWork, error: &CallError, took_ms: u64) {
        let reason = match std::error::Error::source(error) {
            Some(source) => source.to_string(),
            None => error.to_string(),
        };
        if self.told.as_ref() != Some(&reason) {
            tracing::info!(id = %self.id, phase = %job.phase, ?work, reason, "a step of a move failed; will retry");
            self.told = Some(reason.clone());
        }
        self.seen.failed(work, reason, took_ms);
        if job.phase != MovePhase::Fencing {
            sleep(AGAIN_AFTER).await;
        }
    }

    async fn record(&mut self, job: &MoveJob, to: MovePhase, mut brings: Advance) {
        if to == MovePhase::Switching {
            // But for the moment that recording takes: should the next leader be another, it knows no better.
            brings.write_pause_ms = self.pause_ms();
        } else if to == MovePhase::Cleaning {
            brings.write_pause_ms = self.write_pause_ms;
        }
        pauses::before_record(to).await;
        let command = Command::AdvanceMove { id: self.id, decided_at: job.changed_at, to, brings };
        let recorded = self.propose(command).await;
        if recorded && to == MovePhase::Switching {
            self.write_pause_ms = self.pause_ms();
        }
    }

    /// For how long writes have waited.
    fn pause_ms(&self) -> Option<u32> {
        self.paused_at.map(|at| u32::try_from(millis(at.elapsed())).unwrap_or(u32::MAX))
    }

    /// Whether it changed the catalog.
    async fn propose(&mut self, command: Command) -> bool {
        match self.node.propose(command, Instant::now() + PROPOSE_WITHIN).await {
            Ok(proposed) if proposed.outcome == Outcome::Done => true,
            // It changed meanwhile; the next look shows how.
            Ok(_) => {
                sleep(LOOK_AGAIN_AFTER).await;
                false
            }
            Err(error) => {
                tracing::warn!(id = %self.id, %error, "a step of a move could not be recorded; will retry");
                sleep(AGAIN_AFTER).await;
                false
            }
        }
    }
}

/// Before the next look at what is not done yet: a small shard is copied in less than it takes to look at a large one.
fn look_again_after(since: Duration) -> Duration {
    (since / 4).clamp(LOOK_SOON_AFTER, AGAIN_AFTER)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
