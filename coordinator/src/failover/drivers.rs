//! The task that looks after groups while this coordinator leads.

use super::driver::drive;
use crate::agents::AgentClient;
use crate::raft::CatalogNode;
use atoll_proto::GroupId;
use std::collections::HashMap;
use std::time::Duration;
use tokio::task::{self, JoinHandle, JoinSet};
use tokio::time::sleep;

/// A group whose driver met a bug is taken up again this often.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The running task; dropping it ends it. Cancelled anywhere, nothing is lost: the next leader goes on from the record.
pub struct Failover(JoinHandle<()>);

impl Failover {
    /// Starts it. It sleeps unless this coordinator leads.
    pub fn start(node: CatalogNode) -> Self {
        Self(tokio::spawn(async move { node.while_leading(|| drive_all(&node)).await }))
    }
}

impl Drop for Failover {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Goes on until cancelled, or until there are no more views. Each group that has a record has a driver of its own.
async fn drive_all(node: &CatalogNode) {
    let agents = AgentClient::new(node.client().clone());
    let mut views = node.watch();
    let mut drivers = JoinSet::new();
    let mut driven: HashMap<GroupId, task::Id> = HashMap::new();
    loop {
        let catalog = views.borrow_and_update().catalog.clone();
        for (id, _) in catalog.groups.iter().filter(|(_, group)| group.record.is_some()) {
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
                        tracing::error!(error = error as &dyn std::error::Error, "driving a group met a bug; will retry");
                        sleep(LOOK_EVERY).await;
                        error.id()
                    }
                };
                driven.retain(|_, driver| *driver != task);
            }
        }
    }
}
