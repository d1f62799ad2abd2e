//! The task that drives moves while this coordinator leads.

use super::drive::drive;
use crate::agents::AgentClient;
use crate::raft::CatalogNode;
use atoll_proto::MoveId;
use std::collections::HashMap;
use std::time::Duration;
use tokio::task::{self, JoinHandle, JoinSet};
use tokio::time::sleep;

/// A move whose driver met a bug, or whose leftovers wait for a server, is taken up again this often.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// The running task; dropping it ends it. Cancelled anywhere, nothing is lost: the next leader looks at the same catalog and goes on.
pub struct Mover(JoinHandle<()>);

impl Mover {
    /// Starts it. It sleeps unless this coordinator leads.
    pub fn start(node: CatalogNode) -> Self {
        Self(tokio::spawn(async move { node.while_leading(|| drive_all(&node)).await }))
    }
}

impl Drop for Mover {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Goes on until cancelled, or until there are no more views. Each open move has a driver of its own.
async fn drive_all(node: &CatalogNode) {
    let agents = AgentClient::new(node.client().clone());
    let mut views = node.watch();
    let mut drivers = JoinSet::new();
    let mut driven: HashMap<MoveId, task::Id> = HashMap::new();
    loop {
        let catalog = views.borrow_and_update().catalog.clone();
        for (id, _) in catalog.moves.iter().filter(|(_, job)| job.is_open()) {
            if !driven.contains_key(id) {
                driven.insert(*id, drivers.spawn(drive(node.clone(), agents.clone(), *id)).id());
            }
        }
        tokio::select! {
            changed = views.changed() => if changed.is_err() { return },
            Some(ended) = drivers.join_next_with_id() => {
                let task = match &ended {
                    Ok((task, ())) => *task,
                    Err(error) => {
                        tracing::error!(error = error as &dyn std::error::Error, "driving a move met a bug; will retry");
                        error.id()
                    }
                };
                driven.retain(|_, driver| *driver != task);
            }
            () = sleep(LOOK_EVERY) => {}
        }
    }
}
