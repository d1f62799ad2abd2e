//! Which of the other coordinators answer: each asks each, every second. For people to see; nothing is decided by it.

use crate::internal_client::InternalClient;
use atoll_core::routing::RoutingTable;
use atoll_proto::CoordinatorId;
use futures::future::join_all;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::{Arc, RwLock};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

/// Path on the internal listener: `GET` gives [`Alive`].
pub const HEALTH_PATH: &str = "/internal/healthz";

const ROUND_EVERY: Duration = Duration::from_secs(1);
const ANSWER_WITHIN: Duration = Duration::from_millis(900);

/// A coordinator says that it is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alive {
    /// Its cluster.
    pub cluster_id: String,
    /// Its id.
    pub id: CoordinatorId,
}

/// Coordinators that answered in the last round.
#[derive(Debug, Clone, Default)]
pub(super) struct Contacts {
    up: Arc<RwLock<BTreeSet<CoordinatorId>>>,
}

const UNPOISONED: &str = "no holder of this lock panics";

impl Contacts {
    pub(super) fn is_up(&self, id: CoordinatorId) -> bool {
        self.up.read().expect(UNPOISONED).contains(&id)
    }

    /// Asks the others for ever.
    pub(super) async fn keep_asking(
        self,
        this: Alive,
        client: InternalClient,
        view: watch::Receiver<Arc<RoutingTable>>,
    ) {
        let mut rounds = interval(ROUND_EVERY);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            rounds.tick().await;
            let catalog = view.borrow().catalog.clone();
            let deadline = Instant::now() + ANSWER_WITHIN;
            let asked = catalog.coordinators.iter().filter(|(id, _)| **id != this.id).map(async |(id, coordinator)| {
                let alive: Alive = client.get(&coordinator.internal, HEALTH_PATH, deadline).await.ok()?;
                (alive.id == *id && alive.cluster_id == this.cluster_id).then_some(*id)
            });
            let up = join_all(asked).await.into_iter().flatten().collect();
            *self.up.write().expect(UNPOISONED) = up;
        }
    }
}
