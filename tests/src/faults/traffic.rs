//! Writers and a searcher that turn to another coordinator where one does not do.

use super::anyone::Anyone;
use super::ledger::Ledger;
use super::once::{Condition, Once, OnceWrite};
use crate::client::{Client, Request};
use http::Method;
use serde_json::{Value, json};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// Between two requests, so that the cluster has something left of the machine.
const PAUSE: Duration = Duration::from_millis(4);
/// The same for writes that happen once: they cost more.
const ONCE_PAUSE: Duration = Duration::from_millis(16);
/// For somebody to say what became of a write, once all is back.
const OUTCOME_PATIENCE: Duration = Duration::from_secs(90);

/// What became of a client's requests.
#[derive(Debug, Clone, Default)]
pub(super) struct Counts {
    pub(super) asked: usize,
    /// Neither done nor refused: the client was told, or had to assume, that it may not have been done.
    pub(super) failed: usize,
    /// The longest time between two that succeeded.
    pub(super) longest_gap: Duration,
    /// Answers that claim to be right and are wrong.
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

    pub(super) async fn end(mut self) -> (Counts, T) {
        self.stop.store(true, Ordering::Relaxed);
        (&mut self.task).await.expect("clients do not panic")
    }
}

impl<T> Drop for Traffic<T> {
    fn drop(&mut self) {
        // Of a cell that failed: nobody answers any more.
        self.task.abort();
    }
}

/// What the clients saw that are at work under a cell.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) writes: Counts,
    pub(super) once: Counts,
    pub(super) searches: Counts,
}

/// All clients that are at work under a cell.
pub(super) struct Clients {
    pub(super) writer: Traffic<Ledger>,
    pub(super) once: Traffic<Once>,
    pub(super) searcher: Traffic<()>,
}

impl Clients {
    /// Waits until each has had some successes more.
    pub(super) async fn wait_for_successes(&self, more: usize) {
        self.writer.wait_for_successes(more).await;
        self.once.wait_for_successes(more).await;
        self.searcher.wait_for_successes(more).await;
    }

    pub(super) async fn end(self) -> (Seen, Ledger, Once) {
        let (searches, ()) = self.searcher.end().await;
        let (once, kept) = self.once.end().await;
        let (writes, ledger) = self.writer.end().await;
        (Seen { writes, once, searches }, ledger, kept)
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { writes, once, searches } = self;
        write!(
            f,
            "longest gaps {:>5.2} s of writes and {:>5.2} s of searches, failed {} of {} writes, {} of {} once, {} of {} searches",
            writes.longest_gap.as_secs_f32(),
            searches.longest_gap.as_secs_f32(),
            writes.failed,
            writes.asked,
            once.failed,
            once.asked,
            searches.failed,
            searches.asked,
        )
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

/// Sends each write of `once` until it learns what became of it, and notes that. The records of idempotency keys lie in shards on any
/// server, so these writes meet faults that others do not notice.
pub(super) fn write_once(anyone: Anyone, namespace: &'static str, vector: Vec<f32>, mut once: Once) -> Traffic<Once> {
    Traffic::begin(|stop, successes| async move {
        let mut counts = Counts::default();
        while !stop.load(Ordering::Relaxed) {
            let write = once.next_write();
            let path = format!("/v1/collections/memory_entries/namespaces/{namespace}/entries/{}", write.key);
            let body = write.leaves.map(|held| json!({"value": held.content.to_string(), "vector": vector}));
            let mut patience = write.patience;
            let deadline = Instant::now() + OUTCOME_PATIENCE;
            let answer = loop {
                let patience = patience.take().unwrap_or(OUTCOME_PATIENCE);
                let sent = anyone.try_send_within(patience, |client| request(client, &path, &write, body.as_ref()));
                let told = match sent.await {
                    Ok(answer) if answer.status == 429 || answer.status >= 500 => answer.text(),
                    Ok(answer) => break answer,
                    Err(error) => error,
                };
                counts.note(false, &successes);
                assert!(Instant::now() < deadline, "nobody says what became of {write:?}: {told}");
                tokio::time::sleep(ONCE_PAUSE).await;
            };
            counts.note(true, &successes);
            let version = answer.json()["results"][0]["version"].as_i64();
            counts.wrong.extend(once.note(write, answer.status, version).err());
            tokio::time::sleep(ONCE_PAUSE).await;
        }
        (counts, once)
    })
}

fn request<'a>(client: &'a Client, path: &str, write: &OnceWrite, body: Option<&Value>) -> Request<'a> {
    let request = match body {
        Some(body) => client.request(Method::PUT, path).json(body),
        None => client.request(Method::DELETE, path),
    };
    let request = request.header("idempotency-key", &write.idempotency_key);
    match write.condition {
        Condition::Any => request,
        Condition::Absent => request.header("if-none-match", "*"),
        Condition::At(version) => request.header("if-match", format!("\"{version}\"")),
    }
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
