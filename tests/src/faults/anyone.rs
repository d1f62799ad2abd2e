//! A client that turns to another coordinator when one does not do.

use crate::client::{Answer, Client, Request};
use crate::poll;
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// A coordinator that says nothing for so long does not do. Longer than the deadline of a request that names none.
const ANSWER_WITHIN: Duration = Duration::from_secs(4);
const PATIENCE: Duration = Duration::from_secs(60);

/// Speaks to one of several coordinators; a clone turns with it.
#[derive(Debug, Clone)]
pub struct Anyone {
    clients: Arc<Vec<Client>>,
    turn: Arc<AtomicUsize>,
}

impl Anyone {
    /// Of these.
    pub fn new(clients: Vec<Client>) -> Self {
        Self { clients: Arc::new(clients), turn: Arc::default() }
    }

    /// The same coordinators, but turns by itself.
    pub fn alone(&self) -> Self {
        Self { clients: Arc::clone(&self.clients), turn: Arc::default() }
    }

    /// The same coordinators, beginning with another, counted from 0.
    pub fn beginning_at(&self, turn: usize) -> Self {
        Self { clients: Arc::clone(&self.clients), turn: Arc::new(AtomicUsize::new(turn)) }
    }

    /// The next request goes to another coordinator.
    pub fn turn(&self) {
        self.turn.fetch_add(1, Ordering::Relaxed);
    }

    /// Sends a request once. One that is not answered, or with a 5xx, makes the next go to another coordinator.
    pub async fn try_send(&self, make: impl Fn(&Client) -> Request<'_>) -> Result<Answer, String> {
        self.try_send_within(ANSWER_WITHIN, make).await
    }

    /// The same with less patience.
    pub async fn try_send_within(
        &self,
        patience: Duration,
        make: impl Fn(&Client) -> Request<'_>,
    ) -> Result<Answer, String> {
        let turn = self.turn.load(Ordering::Relaxed);
        let client = &self.clients[turn % self.clients.len()];
        let answer = tokio::time::timeout(patience.min(ANSWER_WITHIN), make(client).try_send()).await;
        let answer = answer.unwrap_or_else(|_| Err("no answer in time".to_owned()));
        if answer.as_ref().map_or(true, |answer| answer.status >= 500) {
            // Only one of those who meet it turns: else several turn back to where they were.
            let _ = self.turn.compare_exchange(turn, turn + 1, Ordering::Relaxed, Ordering::Relaxed);
        }
        answer
    }

    /// Gets JSON, from whoever has it.
    pub async fn get(&self, path: &str) -> Value {
        poll::until(path, PATIENCE, async || {
            match self.try_send(|client| client.request(http::Method::GET, path)).await {
                Ok(answer) if answer.status == 200 => Ok(answer.json()),
                Ok(answer) => Err(answer.text()),
                Err(error) => Err(error),
            }
        })
        .await
    }

    /// Posts JSON until somebody takes it, or refuses it for good.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        poll::until(path, PATIENCE, async || {
            match self.try_send(|client| client.request(http::Method::POST, path).json(body)).await {
                Ok(answer) if answer.status < 500 => Ok(answer),
                Ok(answer) => Err(answer.text()),
                Err(error) => Err(error),
            }
        })
        .await
    }
}
