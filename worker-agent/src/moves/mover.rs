//! Takes orders: checks whom they are for and how old they are, and has them carried out by the side that they concern.

use super::troubles::Troubles;
use super::{source, target};
use crate::desired::apply::Applier;
use crate::pauses;
use crate::pg::connect::{PgError, chain};
use crate::pg::moving::{self, STATEMENT_LIMIT, fence::Fence};
use crate::pg::server_tls::ServerTls;
use crate::pg::session::Session;
use crate::secret::{Secret, SecretError};
use crate::worker::Worker;
use atoll_proto::moves::{MoveOrder, MoveReport, MoveWork, TableSum};
use atoll_proto::{CatalogVersion, MoveId};
use atoll_trust::Kept;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, OwnedMutexGuard, oneshot};
use tokio::task::JoinHandle;

/// Carries out orders.
pub struct Mover {
    pub(super) worker: Arc<Worker>,
    pub(super) applier: Arc<Applier>,
    hands: StdMutex<HashMap<MoveId, Arc<Mutex<Hands>>>>,
}

/// What is held for a move between two orders.
#[derive(Default)]
pub(super) struct Hands {
    /// To connect takes longer than what is done in a cut-over.
    session: Option<Session>,
    pub(super) fence: Option<HeldFence>,
    pub(super) sums: Option<Summing>,
    pub(super) troubles: Troubles,
}

/// The marker before the one at which the target stopped, and its sums there.
type Summing = JoinHandle<Result<(u64, Vec<TableSum>), PgError>>;

/// A lock that waits to be used, or to be let go.
pub(super) struct HeldFence {
    pub(super) marker: u64,
    /// When writes began to wait.
    pub(super) since: Instant,
    pub(super) ordered_at: CatalogVersion,
    pub(super) retire: oneshot::Sender<()>,
    pub(super) retired: JoinHandle<Result<(), MoveError>>,
}

/// Keeps desired states from being applied while names change.
pub(super) type Stillness = OwnedMutexGuard<crate::desired::apply::Progress>;

/// Why an order was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum MoveError {
    /// A newer one came before, or the move is over.
    #[error("the order is older than what this server has seen of move {id}")]
    Stale {
        /// The move.
        id: MoveId,
    },
    /// It is not for this worker.
    #[error("this worker belongs to another cluster, or to none yet")]
    NotOurs,
    /// The server does not answer, or something else has to end first.
    #[error("not now: {reason}")]
    NotReady {
        /// Why.
        reason: String,
    },
    /// The cluster's PostgreSQL password cannot be read.
    #[error("the cluster's password cannot be read")]
    Secret(#[from] SecretError),
    /// The server could not do it.
    #[error("the server could not do its part of a move")]
    Postgres {
        /// Why.
        #[from]
        source: PgError,
    },
}

impl Mover {
    /// Works on this server; names change only while `applier` rests.
    pub fn new(worker: Arc<Worker>, applier: Arc<Applier>) -> Self {
        Self { worker, applier, hands: StdMutex::default() }
    }

    /// Carries an order out. Goes on if who asked goes away: half a step would have to be found out about.
    pub async fn carry_out(self: &Arc<Self>, order: MoveOrder) -> Result<MoveReport, MoveError> {
        let mover = Arc::clone(self);
        let (id, work) = (order.subject.id, order.work);
        let working = tokio::spawn(async move { mover.carry_out_alone(order).await });
        let done =
            working.await.unwrap_or_else(|_| Err(MoveError::NotReady { reason: "the order met a bug".to_owned() }));
        match &done {
            Ok(report) => tracing::debug!(%id, ?work, done = report.done, "order for a move"),
            Err(error) => tracing::info!(%id, ?work, error = chain(error), "order for a move not carried out"),
        }
        done
    }

    async fn carry_out_alone(&self, order: MoveOrder) -> Result<MoveReport, MoveError> {
        self.check(&order)?;
        let ends = matches!(order.work, MoveWork::RemoveSubscription | MoveWork::DropCopy | MoveWork::RemoveFeed);
        if ends {
            // What an earlier order still does is of no more use.
            moving::end_sessions(&self.worker.target(), &order.subject).await?;
        }
        let hands = self.hands_of(order.subject.id);
        let mut hands = hands.lock().await;
        let session = match hands.session.take().filter(|session| !session.is_closed() && !ends) {
            Some(session) => session,
            None if ends => moving::cleaning_session(&self.worker.target(), &order.subject).await?,
            None => moving::session(&self.worker.target(), &order.subject, STATEMENT_LIMIT).await?,
        };
        if !moving::note_order(&session, order.subject.id, order.ordered_at).await? {
            return Err(MoveError::Stale { id: order.subject.id });
        }
        pauses::before(order.work).await;
        let done = match order.work {
            MoveWork::Feed
            | MoveWork::Mark
            | MoveWork::Sum
            | MoveWork::Fence { .. }
            | MoveWork::Retire
            | MoveWork::RemoveFeed
            | MoveWork::DropRetired => source::carry_out(self, &mut hands, &session, &order).await,
            MoveWork::Receive
            | MoveWork::Copied
            | MoveWork::Index
            | MoveWork::Warm
            | MoveWork::Await { .. }
            | MoveWork::Hold
            | MoveWork::SumAt { .. }
            | MoveWork::TakeOver { .. }
            | MoveWork::RemoveSubscription
            | MoveWork::DropCopy => target::carry_out(self, &mut hands, &session, &order).await,
            MoveWork::Restore | MoveWork::StepBack => {
                // Let go first: the schema has its name, or gets it back below.
                *hands = Hands::default();
                let _still = self.still().await?;
                moving::names::restore(&session, &order.subject).await?;
                Ok(MoveReport::done())
            }
        };
        pauses::after(order.work).await;
        hands.session = Some(session).filter(|_| done.is_ok() && !ends && order.work != MoveWork::DropRetired);
        done
    }

    fn check(&self, order: &MoveOrder) -> Result<(), MoveError> {
        let membership = self.worker.membership().ok_or(MoveError::NotOurs)?;
        if membership.cluster_id != order.cluster_id {
            return Err(MoveError::NotOurs);
        }
        self.worker.server.ready().map_err(|reason| MoveError::NotReady { reason })?;
        let Some(desired) = self.applier.current().borrow().clone() else {
            return Err(MoveError::NotReady { reason: "no desired state was applied yet".to_owned() });
        };
        // Of a move that is over nothing is kept that could tell how old an order is.
        if desired.catalog_version >= order.ordered_at && !desired.moves.contains(&order.subject.id) {
            return Err(MoveError::Stale { id: order.subject.id });
        }
        Ok(())
    }

    fn hands_of(&self, id: MoveId) -> Arc<Mutex<Hands>> {
        let open: Vec<MoveId> =
            self.applier.current().borrow().iter().flat_map(|desired| desired.moves.clone()).collect();
        let mut hands = self.hands.lock().unwrap_or_else(PoisonError::into_inner);
        hands.retain(|known, held| *known >= id || open.contains(known) || Arc::strong_count(held) > 1);
        Arc::clone(hands.entry(id).or_default())
    }

    /// Waits a little for desired states not to be applied; they are not while the answer is held.
    pub(super) async fn still(&self) -> Result<Stillness, MoveError> {
        let busy = || MoveError::NotReady { reason: "a desired state is being applied".to_owned() };
        self.applier.hold_still().await.ok_or_else(busy)
    }

    /// The password of the role that the target subscribes as.
    pub(super) fn password(&self) -> Result<Secret, MoveError> {
        Ok(Secret::read(&self.worker.config.postgres_password_file)?)
    }

    /// The same for a connection of the agent's own.
    pub(super) fn kept_password(&self) -> Result<Kept<Secret, SecretError>, MoveError> {
        let file = self.worker.config.postgres_password_file.clone();
        Ok(Kept::new(move || Secret::read(&file))?)
    }

    /// The file of authorities by which this server judges others, where PostgreSQL is spoken to by TLS.
    pub(super) fn authorities(&self) -> Option<PathBuf> {
        let Worker { config, server_tls, .. } = &*self.worker;
        server_tls.as_ref().map(ServerTls::authorities).or_else(|| config.postgres.ca_file.clone())
    }
}

impl HeldFence {
    /// Holds a lock for `hold` at most.
    pub(super) fn new(fence: Fence, still: Stillness, ordered_at: CatalogVersion, hold: Duration) -> Self {
        let (marker, since) = (fence.marker, fence.since);
        let (retire, told) = oneshot::channel();
        let retired = tokio::spawn(async move {
            let _still = still;
            match tokio::time::timeout(hold, told).await {
                Ok(Ok(())) => Ok(fence.retire().await?),
                Ok(Err(_)) | Err(_) => Err(MoveError::NotReady { reason: "the lock was let go".to_owned() }),
            }
        });
        Self { marker, since, ordered_at, retire, retired }
    }
}
