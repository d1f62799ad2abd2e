//! What a load balancer does for clients: it asks coordinators whether they are ready, sends requests in turn to those that are, and tries
//! another where nobody listens.

use crate::Cluster;
use crate::client::{Answer, Client, Request};
use http::Method;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;

/// Between two questions whether one is ready.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// A coordinator that says nothing for so long is not ready.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// All coordinators of a cluster, as one.
#[derive(Debug)]
pub struct Balanced {
    coordinators: Arc<Vec<Coordinator>>,
    turn: AtomicUsize,
    looks: JoinHandle<()>,
}

#[derive(Debug)]
struct Coordinator {
    client: Client,
    ready: AtomicBool,
}

impl Balanced {
    /// In front of the first `coordinators`, which are ready.
    pub fn before(cluster: &Cluster, coordinators: u16) -> Self {
        let one = |number| Coordinator { client: cluster.client_of(number), ready: AtomicBool::new(true) };
        let coordinators: Arc<Vec<_>> = Arc::new((1..=coordinators).map(one).collect());
        let looks = tokio::spawn(look(Arc::clone(&coordinators)));
        Self { coordinators, turn: AtomicUsize::new(0), looks }
    }

    /// Sends a request to one that is ready. The error says why no answer came.
    pub async fn send(&self, make: impl Fn(&Client) -> Request<'_>) -> Result<Answer, String> {
        let first = self.turn.fetch_add(1, Ordering::Relaxed);
        let all = (0..self.coordinators.len()).map(|next| &self.coordinators[(first + next) % self.coordinators.len()]);
        let mut refused = "no coordinator is ready".to_owned();
        for coordinator in all.filter(|coordinator| coordinator.ready.load(Ordering::Relaxed)) {
            match make(&coordinator.client).try_send().await {
                Err(error) if error.contains("refused") => refused = error,
                answer => return answer,
            }
        }
        Err(refused)
    }
}

impl Drop for Balanced {
    fn drop(&mut self) {
        self.looks.abort();
    }
}

async fn look(coordinators: Arc<Vec<Coordinator>>) {
    loop {
        for Coordinator { client, ready } in coordinators.iter() {
            let answer = tokio::time::timeout(ANSWER_WITHIN, client.request(Method::GET, "/readyz").try_send()).await;
            ready.store(answer.is_ok_and(|answer| answer.is_ok_and(|answer| answer.status == 200)), Ordering::Relaxed);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
