//! Registers the worker again and again: the registration is its sign of life, and the answer carries the desired state, so
//! a push that got lost is repaired here.

use crate::coordinators::{CallError, Coordinators};
use crate::desired::apply::Applier;
use crate::failover::Member;
use crate::identity::Membership;
use crate::pg::connect::chain;
use crate::stop::Stop;
use crate::worker::{ServerState, Worker};
use atoll_proto::agent::{PostgresAddress, REGISTER_PATH, RegisterWorker, Registered};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Between registrations.
const EVERY: Duration = Duration::from_secs(5);
/// Until the first success, and after each coordinator failed once.
const FIRST_EVERY: Duration = Duration::from_secs(1);
/// Before the next coordinator is tried.
const NEXT_COORDINATOR_AFTER: Duration = Duration::from_millis(100);

/// Registers until `stop`.
pub async fn register_always(worker: Arc<Worker>, applier: Arc<Applier>, member: Option<Arc<Member>>, mut stop: Stop) {
    let coordinators = Coordinators::new(worker.credentials.cluster.clone(), worker.credentials.peers.clone());
    let mut registration = Registration {
        worker,
        applier,
        member,
        coordinators,
        next: 0,
        failures: 0,
        is_member: false,
        told: String::new(),
    };
    let mut server = registration.worker.server.watch();
    let mut target = registration.worker.target_watch();
    loop {
        let wait = tokio::select! {
            wait = registration.round(&mut server) => wait,
            () = stop.told() => return,
        };
        tokio::select! {
            _ = tokio::time::sleep(wait) => {}
            // Coordinators have to hear of it before they can reach the server again.
            _ = target.changed() => {}
            () = stop.told() => return,
        }
    }
}

struct Registration {
    worker: Arc<Worker>,
    applier: Arc<Applier>,
    /// Of a managed server, which may be a group's.
    member: Option<Arc<Member>>,
    coordinators: Coordinators,
    /// The coordinator to ask next.
    next: usize,
    /// Coordinators that failed in a row.
    failures: usize,
    /// Whether this process registered already.
    is_member: bool,
    /// What was logged last.
    told: String,
}

impl Registration {
    /// Waits until the server is ready, asks one coordinator, and tells how long to wait before the next round.
    async fn round(&mut self, server: &mut watch::Receiver<ServerState>) -> Duration {
        let state = server.wait_for(|state| matches!(state, ServerState::Ready(_))).await;
        let Some(request) = state.ok().and_then(|state| self.request(&state)) else {
            return FIRST_EVERY;
        };
        let urls = &self.worker.config.coordinators;
        let url = urls[self.next % urls.len()].trim_end_matches('/').to_owned();
        let answer = self.coordinators.post::<_, Registered>(&format!("{url}{REGISTER_PATH}"), &request).await;
        match answer.and_then(|registered| self.of_our_cluster(registered)) {
            Ok(registered) => {
                self.failures = 0;
                self.registered(&url, registered);
                EVERY
            }
            Err(error) => {
                self.next = (self.next + 1) % urls.len();
                self.failures += 1;
                self.failed(&url, &error)
            }
        }
    }

    fn of_our_cluster(&self, registered: Registered) -> Result<Registered, CallError> {
        match self.worker.membership() {
            Some(ours) if ours.cluster_id != registered.cluster_id => {
                Err(CallError::OtherCluster { theirs: registered.cluster_id, ours: ours.cluster_id })
            }
            Some(_) | None => Ok(registered),
        }
    }

    fn request(&self, state: &ServerState) -> Option<RegisterWorker> {
        let ServerState::Ready(facts) = state else {
            return None;
        };
        let (config, target) = (&self.worker.config, self.worker.target());
        Some(RegisterWorker {
            uid: self.worker.uid(),
            name: config.name.clone(),
            group: config.group.clone(),
            mode: config.mode,
            agent_url: config.agent_url(),
            postgres: PostgresAddress {
                host: config.advertised(&target.host).to_owned(),
                port: target.port,
                database: config.postgres.database.clone(),
            },
            facts: facts.for_coordinators(),
            capacity: config.capacity,
            incarnation: self.member.as_ref().map(|member| member.incarnation()),
            follows: !config.postgres.endpoints.is_empty(),
        })
    }

    fn registered(&mut self, url: &str, registered: Registered) {
        let Registered { cluster_id, worker, group, desired } = registered;
        if let Err(error) = self.worker.keep_membership(Membership { cluster_id: cluster_id.clone(), worker, group }) {
            tracing::error!(error = chain(&error), "membership cannot be kept");
            return;
        }
        if !self.is_member || !self.told.is_empty() {
            tracing::info!(coordinator = url, cluster_id, worker = worker.0, group = group.0, "registered");
        }
        self.is_member = true;
        self.told.clear();
        // The next registration is due whether or not this state is long in the making; it brings the state again.
        if !self.applier.is_busy() {
            let applier = Arc::clone(&self.applier);
            // The applier logs and remembers what went wrong.
            tokio::spawn(async move { applier.apply(desired).await });
        }
    }

    fn failed(&mut self, url: &str, error: &CallError) -> Duration {
        let is_round_over = self.failures.is_multiple_of(self.worker.config.coordinators.len());
        let text = error.to_string();
        // A coordinator that is started or elected just now is no news, unless all of them are.
        if self.told != text {
            match error {
                CallError::Refused(problem) if problem.retryable => {
                    tracing::info!(coordinator = url, reason = problem.detail, "not registered yet");
                }
                CallError::Refused(problem) => {
                    tracing::error!(coordinator = url, code = %problem.code, reason = problem.detail, "registration refused");
                }
                CallError::OtherCluster { theirs, ours } => {
                    tracing::error!(coordinator = url, theirs, ours, "another cluster's coordinator answered");
                }
                CallError::Unreachable { .. } | CallError::Garbled { .. } => {
                    tracing::warn!(coordinator = url, %error, "not registered");
                }
            }
            self.told = text;
        }
        match error {
            _ if !is_round_over => NEXT_COORDINATOR_AFTER,
            CallError::OtherCluster { .. } => EVERY,
            CallError::Refused(problem) if !problem.retryable => EVERY,
            CallError::Refused(_) | CallError::Unreachable { .. } | CallError::Garbled { .. } => FIRST_EVERY,
        }
    }
}
