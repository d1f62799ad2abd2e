//! Clients that go on asking while a story breaks things, and what they were told.

use crate::client::{Answer, Client, Request};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// One request's fate.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Number of the request, from 0.
    pub number: u64,
    /// When it was sent.
    pub sent: Instant,
    /// When the answer came, or its failure was known.
    pub ended: Instant,
    /// The status, or why there was none.
    pub outcome: Result<u16, String>,
    /// The answer's body, if it was no success, or that of a part only.
    pub body: String,
}

impl Asked {
    /// Whether it succeeded, and not in part only.
    pub fn succeeded(&self) -> bool {
        matches!(self.outcome, Ok(200..=206))
    }

    /// Whether the entry at this place of a batch was acknowledged. A single entry is at place 0.
    pub fn wrote(&self, place: usize) -> bool {
        let part = || {
            let answer: serde_json::Value = serde_json::from_str(&self.body).unwrap_or_default();
            answer["results"][place]["status"].as_str().is_some_and(|status| status != "failed")
        };
        self.succeeded() || self.outcome == Ok(207) && part()
    }
}

/// A client that asks one request after the other.
#[derive(Debug)]
pub struct Traffic {
    stop: Arc<AtomicBool>,
    asked: Arc<Mutex<Vec<Asked>>>,
    task: JoinHandle<()>,
}

impl Traffic {
    /// Begins. `make` puts together the request of a number.
    pub fn begin(
        client: Client,
        make: impl for<'a> Fn(&'a Client, u64) -> Request<'a> + Send + Sync + 'static,
    ) -> Self {
        let asks = Arc::new((client, make));
        Self::of(move |number| {
            let asks = Arc::clone(&asks);
            async move {
                let (client, make) = &*asks;
                make(client, number).try_send().await
            }
        })
    }

    /// Begins. `ask` sends the request of a number, and gives its answer or why there was none.
    pub fn of<F>(ask: impl Fn(u64) -> F + Send + 'static) -> Self
    where
        F: Future<Output = Result<Answer, String>> + Send,
    {
        let stop = Arc::new(AtomicBool::new(false));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (told, list) = (stop.clone(), asked.clone());
        let task = tokio::spawn(async move {
            let mut number = 0;
            while !told.load(Ordering::Relaxed) {
                let sent = Instant::now();
                let answer = ask(number).await;
                let body = match &answer {
                    Ok(answer) if answer.status >= 207 => answer.text(),
                    Ok(_) | Err(_) => String::new(),
                };
                let outcome = answer.map(|answer| answer.status);
                let failed = outcome.is_err();
                let one = Asked { number, sent, ended: Instant::now(), outcome, body };
                list.lock().unwrap_or_else(PoisonError::into_inner).push(one);
                number += 1;
                if failed {
                    // Nobody listens: asking without pause would only heat the machine.
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        });
        Self { stop, asked, task }
    }

    /// How many succeeded so far.
    pub fn successes(&self) -> usize {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).iter().filter(|asked| asked.succeeded()).count()
    }

    /// Waits until so many more have succeeded.
    pub async fn wait_for_successes(&self, more: usize, patience: Duration) {
        let wanted = self.successes() + more;
        crate::poll::until("requests to succeed", patience, async || match self.successes() {
            enough if enough >= wanted => Ok(()),
            few => Err(format!("{few} of {wanted}")),
        })
        .await;
    }

    /// Waits until a request has failed since then: until this client knows that something was broken.
    pub async fn wait_for_a_failure_since(&self, since: Instant, patience: Duration) {
        crate::poll::until("a request to fail", patience, async || {
            let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
            if asked.iter().any(|asked| !asked.succeeded() && asked.ended >= since) {
                Ok(())
            } else {
                Err(format!("{} succeeded", asked.len()))
            }
        })
        .await;
    }

    /// Ends, and tells what became of every request.
    pub async fn end(self) -> Vec<Asked> {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.expect("traffic does not panic");
        Arc::into_inner(self.asked).expect("the task is gone").into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The longest time without a success.
pub fn longest_gap(asked: &[Asked]) -> Duration {
    let mut ends: Vec<Instant> = asked.iter().filter(|asked| asked.succeeded()).map(|asked| asked.ended).collect();
    ends.sort();
    ends.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
}
