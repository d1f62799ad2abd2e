//! The catalog's handle, for all of the coordinator: read the current view, propose a change, ask who leads.

use super::contacts::Contacts;
use super::state_machine::AppliedView;
use super::types::{LogId, Raft, RaftMember, RaftMetrics};
use crate::internal_client::InternalClient;
use atoll_core::routing::RoutingTable;
use atoll_proto::CoordinatorId;
use atoll_proto::admin::{ClusterInfo, CoordinatorInfo};
use openraft::ServerState;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// This coordinator's part in the replicated catalog. A clone is the same coordinator; Raft stops when the last clone is
/// dropped, or at [`CatalogNode::shutdown`].
#[derive(Clone)]
pub struct CatalogNode {
    shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub(super) id: CoordinatorId,
    pub(super) cluster_id: Arc<str>,
    pub(super) raft: Raft,
    pub(super) applied: AppliedView,
    pub(super) client: InternalClient,
    pub(super) leadership: watch::Receiver<bool>,
    pub(super) contacts: Contacts,
    /// Whether the view has had everything that was confirmed before, once since the start.
    pub(super) caught_up: AtomicBool,
    /// Held by the leader while it changes the membership: two changes at once can end half done, and both say success.
    pub(super) membership_change: tokio::sync::Mutex<()>,
    /// What runs beside Raft. None of it holds a [`CatalogNode`], so dropping the last handle ends everything.
    pub(super) tasks: Mutex<JoinSet<()>>,
    pub(super) log_writer: Mutex<Option<std::thread::JoinHandle<()>>>,
}

/// Where the leader is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Leader {
    /// It is this coordinator.
    Here,
    /// It is another one.
    There(RaftMember),
}

/// A leader that has not heard from most coordinators for so long is not sure that it still is, in milliseconds.
const CONFIRMED_MS: u64 = 1_000;

const UNPOISONED: &str = "no holder of this lock panics";

impl CatalogNode {
    pub(super) fn new(shared: Shared) -> Self {
        Self { shared: Arc::new(shared) }
    }

    /// This coordinator.
    pub fn id(&self) -> CoordinatorId {
        self.shared.id
    }

    /// The cluster it belongs to.
    pub fn cluster_id(&self) -> &str {
        &self.shared.cluster_id
    }

    /// The client for the other coordinators and the agents.
    pub fn client(&self) -> &InternalClient {
        &self.shared.client
    }

    /// The current view. A request takes one and keeps it to its end.
    pub fn view(&self) -> Arc<RoutingTable> {
        self.shared.applied.view.borrow().clone()
    }

    /// The view as it changes.
    pub fn watch(&self) -> watch::Receiver<Arc<RoutingTable>> {
        self.shared.applied.view.clone()
    }

    /// Whether this coordinator leads, as far as it knows.
    pub fn is_leader(&self) -> bool {
        *self.shared.leadership.borrow()
    }

    /// Whether this coordinator leads, and has just heard so from most: one that was cut off may not know yet that another leads.
    pub fn is_confirmed_leader(&self) -> bool {
        let metrics = self.metrics();
        let is_alone = metrics.membership_config.membership().voter_ids().count() == 1;
        let heard = metrics.millis_since_quorum_ack.is_some_and(|ms| ms < CONFIRMED_MS);
        metrics.state == ServerState::Leader && (is_alone || heard)
    }

    /// Does `work` while this coordinator leads: from the beginning each time that it comes to lead, cancelled when it no longer
    /// does. Ends with the work, or with the node.
    pub async fn while_leading<F: Future<Output = ()>>(&self, work: impl Fn() -> F) {
        let mut leadership = self.shared.leadership.clone();
        while leadership.wait_for(|leads| *leads).await.is_ok() {
            tokio::select! {
                () = work() => return,
                lost = leadership.wait_for(|leads| !*leads) => if lost.is_err() { return },
            }
        }
    }

    /// Coordinators, leader and versions, as this coordinator knows them.
    pub fn cluster_info(&self) -> ClusterInfo {
        let metrics = self.metrics();
        let view = self.view();
        let cluster = view.catalog.cluster.as_ref();
        let membership = metrics.membership_config.membership();
        let voters: Vec<u64> = membership.voter_ids().collect();
        let coordinators = view.catalog.coordinators.iter().map(|(id, coordinator)| CoordinatorInfo {
            id: *id,
            http: coordinator.http.clone(),
            internal: coordinator.internal.clone(),
            role: if voters.contains(&id.0) { "voter" } else { "learner" }.to_owned(),
            up: *id == self.id() || self.shared.contacts.is_up(*id),
        });
        ClusterInfo {
            cluster_id: cluster.map(|cluster| cluster.id.clone()),
            leader: metrics.current_leader.map(CoordinatorId),
            term: metrics.current_term,
            applied_index: *self.shared.applied.index.borrow(),
            catalog_version: view.version,
            shard_count: cluster.map_or(0, |cluster| cluster.shard_count),
            initial_groups: cluster.map_or(0, |cluster| cluster.initial_groups),
            answered_by: self.id(),
            build: env!("CARGO_PKG_VERSION").to_owned(),
            coordinators: coordinators.collect(),
        }
    }

    /// Returns when Raft has stopped, with the reason: a coordinator without it must not go on.
    pub async fn stopped(&self) -> String {
        let mut metrics = self.shared.raft.metrics();
        loop {
            let state = metrics.borrow_and_update().running_state.clone();
            if let Err(reason) = state {
                return reason.to_string();
            }
            if metrics.changed().await.is_err() {
                return "raft stopped".to_owned();
            }
        }
    }

    /// Stops Raft and lets go of the data directory.
    pub async fn shutdown(&self) {
        if let Err(error) = self.shared.raft.shutdown().await {
            tracing::error!(%error, "raft did not stop cleanly");
        }
        self.shared.tasks.lock().expect(UNPOISONED).abort_all();
        let writer = self.shared.log_writer.lock().expect(UNPOISONED).take();
        let Some(writer) = writer else { return };
        if let Ok(Err(_)) = tokio::task::spawn_blocking(move || writer.join()).await {
            tracing::error!("the raft log's writer panicked");
        }
    }

    /// Writes a snapshot of the catalog now and drops the part of the log that it contains. Raft does so by itself every
    /// thousand entries; gives whether it was done by the deadline.
    pub async fn compact(&self, deadline: Instant) -> bool {
        let Some(applied) = self.metrics().last_applied else { return true };
        let mut metrics = self.shared.raft.metrics();
        let until = |reached: fn(&RaftMetrics) -> Option<LogId>| {
            move |metrics: &RaftMetrics| reached(metrics).is_some_and(|reached| reached >= applied)
        };
        let compacting = async {
            self.shared.raft.trigger().snapshot().await.ok()?;
            metrics.wait_for(until(|metrics| metrics.snapshot)).await.ok()?;
            self.shared.raft.trigger().purge_log(applied.index).await.ok()?;
            metrics.wait_for(until(|metrics| metrics.purged)).await.ok().map(drop)
        };
        matches!(tokio::time::timeout_at(deadline, compacting).await, Ok(Some(())))
    }

    pub(super) fn raft(&self) -> &Raft {
        &self.shared.raft
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// A copy: whoever holds Raft's own while waiting stops Raft.
    pub(super) fn metrics(&self) -> RaftMetrics {
        self.shared.raft.metrics().borrow().clone()
    }

    /// The leader, once there is one that `accepted` takes; none at the deadline.
    pub(super) async fn leader_by(&self, deadline: Instant, accepted: impl Fn(&Leader) -> bool) -> Option<Leader> {
        let mut metrics = self.shared.raft.metrics();
        loop {
            let leader = leader_in(&metrics.borrow_and_update(), self.id());
            if let Some(leader) = leader.filter(&accepted) {
                return Some(leader);
            }
            match tokio::time::timeout_at(deadline, metrics.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return None,
            }
        }
    }
}

fn leader_in(metrics: &RaftMetrics, this: CoordinatorId) -> Option<Leader> {
    let leader = metrics.current_leader?;
    if leader == this.0 {
        return (metrics.state == ServerState::Leader).then_some(Leader::Here);
    }
    metrics.membership_config.membership().get_node(&leader).cloned().map(Leader::There)
}
