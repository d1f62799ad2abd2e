//! One thing to ask: over HTTP, and as SQL straight at the workers.

use super::connection::{Connection, Failure, Request};
use super::tally::Tally;
use super::truth::Truth;
use atoll::workers::ShardError;
use atoll::workers::straight::{ReadyStatement, Straight};
use bytes::Bytes;
use futures::future::join_all;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// How long a client waits after a failure: a coordinator that refuses is not asked again in the same moment.
const PAUSE: Duration = Duration::from_millis(10);
/// The same after a 429: what its `Retry-After` says.
const COME_AGAIN: Duration = Duration::from_secs(1);

/// Who is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// The coordinator.
    Http,
    /// The workers.
    Floor,
}

/// A statement and the worker that it is for.
#[derive(Clone)]
pub(super) struct Ask {
    pub(super) worker: Arc<Straight>,
    pub(super) statement: Arc<ReadyStatement>,
}

/// One thing to ask.
pub(super) struct Operation {
    pub(super) request: Request,
    /// The same for the workers; empty without a floor.
    pub(super) asks: Vec<Ask>,
    /// Rows that the workers have to give, together: with fewer they did something else than the coordinator.
    pub(super) rows_min: usize,
    /// What the answer should be.
    pub(super) expected: Option<Expected>,
}

/// What the answer should be, and whether an answer has been looked at: each query's is looked at once.
pub(super) struct Expected {
    truth: Arc<Truth>,
    seen: AtomicBool,
}

impl Expected {
    /// An answer like this.
    pub(super) fn new(truth: Arc<Truth>) -> Self {
        Self { truth, seen: AtomicBool::new(false) }
    }

    /// After the clock was stopped: reading an answer takes its time.
    fn look_at(&self, answer: &Bytes, tally: &mut Tally) {
        if self.seen.swap(true, Ordering::Relaxed) {
            return;
        }
        match serde_json::from_slice(answer) {
            Ok(found) => {
                tally.took_inside(&found);
                if let Some(score) = self.truth.score(&found) {
                    tally.scored(score);
                }
            }
            Err(_) => tally.failed(Failure::Problem("unreadable-answer".to_owned()), Duration::ZERO),
        }
    }
}

impl Operation {
    /// Asks the coordinator.
    pub(super) async fn ask_coordinator(&self, connection: &mut Connection, tally: &mut Tally) {
        let started = Instant::now();
        match connection.send(&self.request).await {
            Ok((answer, took)) => {
                tally.answered(took);
                if let Some(expected) = &self.expected {
                    expected.look_at(&answer, tally);
                }
            }
            Err(failure) => {
                let pause = if failure == Failure::TooMany { COME_AGAIN } else { PAUSE };
                tally.failed(failure, started.elapsed());
                tokio::time::sleep(pause).await;
            }
        }
    }

    /// Asks the workers, all side by side.
    pub(super) async fn ask_workers(&self, tally: &mut Tally) {
        let started = Instant::now();
        let rows: Result<usize, ShardError> = match self.asks.as_slice() {
            [only] => only.worker.run(&only.statement).await,
            asks => join_all(asks.iter().map(|ask| ask.worker.run(&ask.statement))).await.into_iter().sum(),
        };
        match rows {
            Ok(rows) if rows < self.rows_min => {
                tally.failed(Failure::Problem("worker-too-few-rows".to_owned()), started.elapsed());
            }
            Ok(_) => tally.answered(started.elapsed()),
            Err(error) => {
                tally.failed(failure(&error), started.elapsed());
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

fn failure(error: &ShardError) -> Failure {
    Failure::Problem(format!("worker-{}", error.reason()))
}
