//! Makes the server what a desired state says. One at a time; an older state than the newest begun is refused, so a late
//! message cannot bring back what was dropped; every step can be repeated, so the next call repairs a crash in the middle.

use crate::desired::plan::{Conflict, Plan, SchemaPlan, plan};
use crate::pg::applied;
use crate::pg::connect::{PgError, Target, chain};
use crate::pg::endpoints::claim;
use crate::pg::existing::Existing;
use crate::pg::moving;
use crate::pg::session::Session;
use crate::pg::shape;
use crate::worker::Worker;
use atoll_proto::CatalogVersion;
use atoll_proto::agent::{Applied, DesiredState, WorkerMode, shard_schema};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, OwnedMutexGuard, watch};

/// Schemas are shaped over this many connections at a time.
const CONNECTIONS: usize = 2;
const STATEMENT_LIMIT: Duration = Duration::from_secs(600);
const STILL_WITHIN: Duration = Duration::from_millis(100);

/// Applies desired states.
#[derive(Debug)]
pub struct Applier {
    worker: Arc<Worker>,
    progress: Arc<Mutex<Progress>>,
    current: watch::Sender<Option<Arc<DesiredState>>>,
}

/// How far this process got.
#[derive(Debug, Default)]
pub struct Progress {
    finished: Option<Finished>,
    /// The failure that was logged last: the same again, every few seconds, is not worth a line.
    told: String,
}

/// What this process finished, and in which run of the server: in another run it is looked at again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Finished {
    catalog_version: CatalogVersion,
    server_started_at_us: i64,
}

/// Why a desired state was not applied.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// A newer one came before.
    #[error("catalog version {given} is older than {begun}, which this server was shaped by")]
    Stale {
        /// The version given.
        given: CatalogVersion,
        /// The newest version begun.
        begun: CatalogVersion,
    },
    /// It is not for this worker.
    #[error("this worker belongs to {ours}, the desired state speaks for {theirs}")]
    NotOurs {
        /// What it belongs to.
        ours: String,
        /// Whom the state is for.
        theirs: String,
    },
    /// The server does not answer, or may not be a worker.
    #[error("the server is not ready: {reason}")]
    NotReady {
        /// Why.
        reason: String,
    },
    /// A table is in the way.
    #[error("the server holds what the catalog does not know")]
    Conflict {
        /// The first of them.
        source: Conflict,
    },
    /// The server could not do it.
    #[error("the server could not be shaped")]
    Postgres {
        /// Why.
        #[from]
        source: PgError,
    },
}

impl Applier {
    /// For `worker`.
    pub fn new(worker: Arc<Worker>) -> Self {
        Self { worker, progress: Arc::default(), current: watch::Sender::new(None) }
    }

    /// The state that was applied last by this process.
    pub fn current(&self) -> watch::Receiver<Option<Arc<DesiredState>>> {
        self.current.subscribe()
    }

    /// Waits a little for the one that is being applied; none is applied while the answer is held. None if it takes longer.
    pub async fn hold_still(&self) -> Option<OwnedMutexGuard<Progress>> {
        tokio::time::timeout(STILL_WITHIN, Arc::clone(&self.progress).lock_owned()).await.ok()
    }

    /// Whether one is being applied right now.
    pub fn is_busy(&self) -> bool {
        self.progress.try_lock().is_err()
    }

    /// Makes the server so. Runs to its end even if the caller goes away. Failures are logged here, each once.
    pub async fn apply(self: &Arc<Self>, desired: DesiredState) -> Result<Applied, ApplyError> {
        let applier = Arc::clone(self);
        let applying = tokio::spawn(async move { applier.apply_alone(desired).await });
        applying.await.unwrap_or_else(|_| Err(ApplyError::NotReady { reason: "applying was cut off".to_owned() }))
    }

    async fn apply_alone(&self, desired: DesiredState) -> Result<Applied, ApplyError> {
        let mut progress = self.progress.lock().await;
        let outcome = self.make_so(&desired, &mut progress.finished).await;
        let catalog_version = desired.catalog_version.0;
        let error = match &outcome {
            Ok(applied) => {
                self.worker.status.applied(applied.catalog_version);
                progress.told.clear();
                return outcome;
            }
            Err(error) => error,
        };
        let text = chain(error);
        match error {
            // Refused because of what was asked, not because of the server: a coordinator is behind.
            ApplyError::Stale { .. } => tracing::debug!(catalog_version, error = text, "older desired state ignored"),
            // Starting, or on its way back: the supervisor tells of it, and whoever asked tries again.
            ApplyError::NotReady { .. } => {
                tracing::debug!(catalog_version, error = text, "desired state not applied yet");
                self.worker.status.apply_failed(text);
            }
            ApplyError::NotOurs { .. } | ApplyError::Conflict { .. } | ApplyError::Postgres { .. } => {
                if progress.told != text {
                    tracing::error!(catalog_version, error = text, "desired state not applied");
                    progress.told.clone_from(&text);
                }
                if !matches!(error, ApplyError::NotOurs { .. }) {
                    self.worker.status.apply_failed(text);
                }
            }
        }
        outcome
    }

    async fn make_so(&self, desired: &DesiredState, finished: &mut Option<Finished>) -> Result<Applied, ApplyError> {
        self.check_membership(desired)?;
        let server_started_at_us = self.worker.server.ready().map_err(|reason| ApplyError::NotReady { reason })?;
        let this = Finished { catalog_version: desired.catalog_version, server_started_at_us };
        if *finished == Some(this) {
            return Ok(Applied { catalog_version: desired.catalog_version });
        }
        let target = &self.worker.target();
        let session = target.connect(STATEMENT_LIMIT).await?;
        if let Some(row) = applied::read(&session).await? {
            if row.cluster_id != desired.cluster_id {
                return Err(ApplyError::NotOurs {
                    ours: format!("cluster {}", row.cluster_id),
                    theirs: format!("cluster {}", desired.cluster_id),
                });
            }
            if desired.catalog_version < row.begun {
                return Err(ApplyError::Stale { given: desired.catalog_version, begun: row.begun });
            }
        }
        *finished = None;
        applied::begin(&session, &desired.cluster_id, desired.catalog_version).await?;
        self.adopt(&session).await?;
        let mut shaped = desired.clone();
        // What this server has retired belongs, or will belong, to another group: made anew it would take writes that nobody finds.
        let retired = moving::retired(&session).await?;
        shaped.shards.retain(|shard| !retired.contains(&shard_schema(shard.shard, shard.generation)));
        let Plan { schemas: plans, conflicts } = plan(&shaped, &Existing::read(&session).await?);
        let schemas = plans.len();
        shape_all(target, plans).await?;
        if let Some(source) = conflicts.into_iter().next() {
            return Err(ApplyError::Conflict { source });
        }
        applied::finish(&session, desired.catalog_version).await?;
        moving::forget(&session, &desired.moves, desired.catalog_version).await?;
        self.worker.status.moves_open(&desired.moves);
        *finished = Some(this);
        self.current.send_replace(Some(Arc::new(desired.clone())));
        tracing::info!(catalog_version = desired.catalog_version.0, schemas_changed = schemas, "desired state applied");
        Ok(Applied { catalog_version: desired.catalog_version })
    }

    /// The catalog took an external server's data for this worker's: from now on they are known again wherever the server is.
    async fn adopt(&self, session: &Session) -> Result<(), PgError> {
        let Some(server) = self.worker.server.system_identifier() else { return Ok(()) };
        if self.worker.config.mode == WorkerMode::External {
            // First the claim: by it they are known to be ours where the file does not say so yet.
            claim::write(session, &self.worker.uid()).await?;
            if let Err(error) = self.worker.keep_server(server) {
                tracing::error!(error = chain(&error), "the server's identity cannot be kept");
            }
        }
        Ok(())
    }

    fn check_membership(&self, desired: &DesiredState) -> Result<(), ApplyError> {
        let Some(membership) = self.worker.membership() else {
            return Err(ApplyError::NotReady { reason: "the worker has not registered yet".to_owned() });
        };
        if membership.cluster_id != desired.cluster_id || membership.group != desired.group {
            return Err(ApplyError::NotOurs {
                ours: format!("cluster {}, group {}", membership.cluster_id, membership.group),
                theirs: format!("cluster {}, group {}", desired.cluster_id, desired.group),
            });
        }
        Ok(())
    }
}

/// Carries out all plans, a few at a time. A plan that fails does not keep the others back; the first error is told.
async fn shape_all(target: &Target, plans: Vec<SchemaPlan>) -> Result<(), PgError> {
    let waiting = std::sync::Mutex::new(plans.into_iter());
    let next = || waiting.lock().expect("nobody panics while taking the next plan").next();
    let shapers = (0..CONNECTIONS).map(|_| async {
        let mut first_error = None;
        let Some(mut plan) = next() else {
            return Ok(());
        };
        let session = target.connect(STATEMENT_LIMIT).await?;
        loop {
            match shape::carry_out(&session, &plan).await {
                Ok(()) => {}
                Err(error) if error.is_lost() => return Err(error),
                Err(error) => first_error = first_error.or(Some(error)),
            }
            match next() {
                Some(following) => plan = following,
                None => return first_error.map_or(Ok(()), Err),
            }
        }
    });
    futures::future::join_all(shapers).await.into_iter().collect()
}
