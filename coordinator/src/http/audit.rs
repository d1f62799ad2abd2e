//! What is noted of requests that manage the cluster, and of those that are denied: who, what, and how it ended. No bodies, so no vectors,
//! values or secrets.

use atoll_proto::key::{KeyAccess, KeyId};
use axum::http::{Method, StatusCode};
use tracing::Span;

/// Where these lines go: `RUST_LOG=info,audit=off` silences them, a subscriber may keep them elsewhere.
const TARGET: &str = "audit";

/// A request that is under way. If it is dropped before its end is noted its client has gone away: what it asked for may have happened.
pub(super) struct Audit<'a> {
    pub(super) method: &'a Method,
    pub(super) path: &'a str,
    /// What each line is marked with.
    pub(super) span: &'a Span,
    /// What it needs.
    pub(super) needed: Option<KeyAccess>,
    /// The key that it came with, or claimed to, if it was denied.
    pub(super) key: Option<KeyId>,
    pub(super) is_noted: bool,
}

impl Audit<'_> {
    /// Notes how the request ended, if it is one to be noted.
    pub(super) fn answered(mut self, status: StatusCode) {
        self.is_noted = true;
        if is_denial(status) || self.changes() {
            self.span.in_scope(|| note(self.method, self.path, self.key(), status));
        }
    }

    fn changes(&self) -> bool {
        self.needed == Some(KeyAccess::Admin) && !matches!(*self.method, Method::GET | Method::HEAD)
    }

    fn key(&self) -> String {
        self.key.map_or_else(|| "none".to_owned(), |key| key.to_string())
    }
}

impl Drop for Audit<'_> {
    fn drop(&mut self) {
        if self.is_noted || !self.changes() {
            return;
        }
        let (method, path, key) = (self.method, self.path, self.key());
        self.span.in_scope(|| {
            tracing::info!(target: TARGET, %method, path, key, "audit: the client went away before it was answered");
        });
    }
}

/// Notes how a request ended. `key` says who asked.
pub(super) fn note(method: &Method, path: &str, key: impl AsRef<str>, status: StatusCode) {
    tracing::info!(target: TARGET, %method, path, key = key.as_ref(), status = status.as_u16(), "audit");
}

/// Whether it says that somebody may not do what was asked.
pub(super) fn is_denial(status: StatusCode) -> bool {
    matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
}
