//! Writing: batches, single entries, deletes and imports. Each shard's part is one transaction on its primary; shards go side by
//! side, and the answer says what became of each entry.

mod batch;
mod check;
mod delete;
mod import;
mod reference;
mod single;

use crate::error::RequestError;
use crate::targets::{Place, Target, Views};
use crate::workers::idempotency::{self, Replay, Ticket};
use crate::workers::{ShardError, Workers};
pub use import::{ImportSettings, ImportState};
pub use single::Precondition;
use std::sync::Arc;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// Tries of a write that another transaction was in the way of.
const TRIES: usize = 4;

/// Carries out writes.
#[derive(Clone)]
pub struct Writer {
    views: Views,
    workers: Arc<Workers>,
    import: ImportSettings,
    /// Writers to reference collections wait for each other here first, so that of those who wait for the same turn on a
    /// server only one holds a connection.
    reference_writers: Arc<Mutex<()>>,
}

impl Writer {
    /// Writes by the latest of `views`.
    pub fn new(views: Views, workers: Arc<Workers>, import: ImportSettings) -> Self {
        Self { views, workers, import, reference_writers: Arc::default() }
    }

    /// Remembers a request that may come again; refuses a key that belongs to another one.
    async fn claim(&self, target: &Target, ticket: Option<&Ticket>, deadline: Instant) -> Result<(), RequestError> {
        let Some(ticket) = ticket else { return Ok(()) };
        let Some(route) = target.view.route_of_key(&ticket.key) else { return Ok(()) };
        let place = target.place(&self.workers, route);
        match idempotency::claim(&place.pool, route, ticket, deadline).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(RequestError::KeyReused),
            Err(error) => Err(place.read_error(error)),
        }
    }
}

/// Runs one shard's write, again where nothing happened and a retry may succeed: after a deadlock, and when the shard is not
/// where the view says.
async fn with_retries<T, F: Future<Output = Result<T, ShardError>>>(
    writer: &Writer,
    target: &Target,
    place: &Place,
    write: impl Fn(Place) -> F,
) -> Result<T, ShardError> {
    let mut place = place.clone();
    let mut tries = 0;
    loop {
        tries += 1;
        match write(place.clone()).await {
            Err(ShardError::Conflict { .. }) if tries < TRIES => {}
            Err(ShardError::Stale { .. }) if tries < TRIES => {
                let Ok(latest) = Target::find(&writer.views, &target.name) else { continue };
                let Some(route) = latest.view.shard(place.route.shard) else { continue };
                place = latest.place(&writer.workers, route);
            }
            done => return done,
        }
    }
}

/// The outcome of a write under a ticket, fresh or repeated.
fn outcome<T>(replay: Replay<T>) -> Result<T, RequestError> {
    match replay {
        Replay::Fresh(value) | Replay::Again(value) => Ok(value),
        Replay::OtherRequest => Err(RequestError::KeyReused),
    }
}
