//! The task that begins the moves of a plan while this coordinator leads. The catalog itself notes how they end.

use crate::raft::CatalogNode;
use atoll_core::catalog::{Catalog, Command};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

/// For the catalog to take note.
const PROPOSE_WITHIN: Duration = Duration::from_secs(5);
/// Between two tries of what could not be recorded.
const AGAIN_AFTER: Duration = Duration::from_millis(500);

/// The running task; dropping it ends it. Cancelled anywhere, nothing is lost: the next leader goes on from the catalog's record.
pub struct PlanRunner(JoinHandle<()>);

impl PlanRunner {
    /// Starts it. It sleeps unless this coordinator leads.
    pub fn start(node: CatalogNode) -> Self {
        Self(tokio::spawn(async move { node.while_leading(|| begin_moves(&node)).await }))
    }
}

impl Drop for PlanRunner {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Goes on until cancelled, or until there are no more views.
async fn begin_moves(node: &CatalogNode) {
    let mut views = node.watch();
    loop {
        let next = next(&views.borrow_and_update().catalog);
        let Some(command) = next else {
            if views.changed().await.is_err() {
                return;
            }
            continue;
        };
        // What becomes of it stands in the next view. A command that comes too late does nothing.
        if let Err(error) = node.propose(command, Instant::now() + PROPOSE_WITHIN).await {
            tracing::warn!(%error, "a planned move could not be begun; will retry");
            sleep(AGAIN_AFTER).await;
        }
        if views.has_changed().is_err() {
            return;
        }
    }
}

fn next(catalog: &Catalog) -> Option<Command> {
    let run = catalog.rebalance.as_ref()?;
    Some(Command::BeginPlannedMove { run_began_at: run.began_at, place: run.next()? })
}
