//! A writer and a searcher that turn to another coordinator where one does not do.

use super::anyone::Anyone;
use super::ledger::Ledger;
use http::Method;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// Between two requests, so that the cluster has something left of the machine.
const PAUSE: Duration = Duration::from_millis(4);

/// What became of a client's requests.
#[derive(Debug, Clone, Default)]
pub(super) struct Counts {
    pub(super) asked: usize,
    /// Neither done nor refused: the client was told, or had to assume, that it may not have been done.
    pub(super) failed: usize,
    /// The longest time between two that succeeded.
    pub(super) longest_gap: Duration,
    /// Answers that claim to be complete and are wrong.
    pub(super) wrong: Vec<String>,
    last: Option<Instant>,
}

impl Counts {
    fn note(&mut self, succeeded: bool, successes: &AtomicUsize) {
        self.asked += 1;
        self.failed += usize::from(!succeeded);
        if succeeded {
            successes.fetch_add(1, Ordering::Relaxed);
            let now = Instant::now();
            self.longest_gap = self.longest_gap.max(self.last.map_or(Duration::ZERO, |last| now - last));
            self.last = Some(now);
        }
    }
}

/// A client at work.
pub(super) struct Traffic<T> {
    stop: Arc<AtomicBool>,
    successes: Arc<AtomicUsize>,
    task: JoinHandle<(Counts, T)>,
}

impl<T> Traffic<T> {
    fn begin<F: Future<Output = (Counts, T)> + Send + 'static>(
        work: impl FnOnce(Arc<AtomicBool>, Arc<AtomicUsize>) -> F,
    ) -> Self
    where
        T: Send + 'static,
    {
        let (stop, successes) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let task = tokio::spawn(work(stop.clone(), successes.clone()));
        Self { stop, successes, task }
    }

    /// Waits until some more have succeeded.
    pub(super) async fn wait_for_successes(&self, more: usize) {
        let wanted = self.successes.load(Ordering::Relaxed) + more;
        crate::poll::until("requests to succeed", Duration::from_secs(60), async || {
            match self.successes.load(Ordering::Relaxed) {
                enough if enough >= wanted => Ok(()),
                few => Err(format!("{few} of {wanted}")),
            }
        })
        .await;
    }

    pub(super) async fn end(self) -> (Counts, T) {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.expect("clients do not panic")
    }
}

/// Writes and deletes entries of one namespace, and keeps the ledger.
pub(super) fn write(anyone: Anyone, namespace: &'static str, vector: Vec<f32>, mut ledger: Ledger) -> Traffic<Ledger> {
    Traffic::begin(|stop, successes| async move {
        let mut counts = Counts::default();
        while !stop.load(Ordering::Relaxed) {
            let write = ledger.next_write();
            let path = format!("/v1/collections/memory_entries/namespaces/{namespace}/entries/{}", write.key);
            let body = write.content.map(|number| json!({"value": number.to_string(), "vector": vector}));
            let answer = anyone.try_send(|client| match &body {
                Some(body) => client.request(Method::PUT, &path).json(body),
                None => client.request(Method::DELETE, &path),
            });
            let acknowledged = answer.await.is_ok_and(|answer| match answer.status {
                200 | 201 => true,
                404 => answer.code() == "entry-not-found",
                _ => false,
            });
            counts.note(acknowledged, &successes);
            ledger.note(write, acknowledged);
            tokio::time::sleep(PAUSE).await;
        }
        (counts, ledger)
    })
}

/// Searches for an entry that is there, exactly: a complete answer names it.
pub(super) fn search(anyone: Anyone, namespace: &'static str, key: String, vector: Vec<f32>) -> Traffic<()> {
    Traffic::begin(|stop, successes| async move {
        let mut counts = Counts::default();
        let body = json!({"vector": vector, "namespaces": [namespace], "exact": true, "k": 1, "include": []});
        let path = "/v1/collections/memory_entries/search";
        while !stop.load(Ordering::Relaxed) {
            let answer = anyone.try_send(|client| client.request(Method::POST, path).json(&body)).await;
            let succeeded = answer.as_ref().is_ok_and(|answer| answer.status == 200);
            if let Ok(answer) = answer
                && succeeded
            {
                let found = answer.json();
                if found["hits"][0]["key"] != key.as_str() {
                    counts.wrong.push(found.to_string());
                }
            }
            counts.note(succeeded, &successes);
            tokio::time::sleep(PAUSE).await;
        }
        (counts, ())
    })
}
