//! A task for each of many things in the catalog, while this coordinator leads.

use super::CatalogNode;
use atoll_core::catalog::Catalog;
use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::time::Duration;
use tokio::task::{self, JoinHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval};

/// What is still open though its driver has ended, by a bug or because it could do no more, is taken up again this often.
const TAKE_UP_EVERY: Duration = Duration::from_secs(2);

/// The running tasks; dropping it ends them. Cancelled anywhere, nothing is lost: the next leader looks at the same catalog and goes on.
pub struct Drivers(JoinHandle<()>);

impl Drivers {
    /// Drives each of what is `open` in the catalog by a `drive` of its own. Sleeps unless this coordinator leads.
    pub fn start<I, F>(
        node: CatalogNode,
        open: impl Fn(&Catalog) -> Vec<I> + Send + Sync + 'static,
        drive: impl Fn(I) -> F + Send + Sync + 'static,
    ) -> Self
    where
        I: Copy + Eq + Hash + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        Self(tokio::spawn(async move { node.while_leading(|| drive_all(&node, &open, &drive)).await }))
    }
}

impl Drop for Drivers {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Goes on until cancelled, or until there are no more views.
async fn drive_all<I, F>(node: &CatalogNode, open: impl Fn(&Catalog) -> Vec<I>, drive: impl Fn(I) -> F)
where
    I: Copy + Eq + Hash,
    F: Future<Output = ()> + Send + 'static,
{
    let mut views = node.watch();
    let mut drivers = JoinSet::new();
    let mut driven: HashMap<I, task::Id> = HashMap::new();
    let mut ended: HashSet<I> = HashSet::new();
    let mut rounds = interval(TAKE_UP_EVERY);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let catalog = views.borrow_and_update().catalog.clone();
        for id in open(&catalog) {
            if !driven.contains_key(&id) && !ended.contains(&id) {
                driven.insert(id, drivers.spawn(drive(id)).id());
            }
        }
        tokio::select! {
            changed = views.changed() => if changed.is_err() { return },
            Some(done) = drivers.join_next_with_id() => {
                let task = match &done {
                    Ok((task, ())) => *task,
                    Err(error) => {
                        tracing::error!(error = error as &dyn std::error::Error, "a driver met a bug; will retry");
                        error.id()
                    }
                };
                ended.extend(driven.extract_if(|_, driver| *driver == task).map(|(id, _)| id));
            }
            _ = rounds.tick() => ended.clear(),
        }
    }
}
