//! How a client wants a write to be carried out, and what it may count on afterwards.

use super::PartTerms;
use crate::workers::idempotency::Ticket;
use atoll_core::access::Grant;
use atoll_core::freshness::{Position, SessionToken};
use atoll_proto::{CatalogVersion, GroupId};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::time::Instant;

/// How a client wants a write to be carried out.
#[derive(Debug)]
pub struct WriteTerms {
    /// Names the request, if it is to happen once.
    pub ticket: Option<Ticket>,
    /// When an answer is due.
    pub deadline: Instant,
    /// The client's session, to which it belongs.
    pub session: SessionLog,
    /// What it may touch.
    pub grant: Grant,
}

impl WriteTerms {
    pub(super) fn of_part(&self) -> PartTerms<'_> {
        PartTerms { session: &self.session, deadline: self.deadline, once: self.ticket.is_some() }
    }

    pub(super) fn ticket(&self) -> Option<&Ticket> {
        self.ticket.as_ref()
    }
}

/// A session token that grows by what is committed, shard by shard.
#[derive(Debug, Default)]
pub struct SessionLog {
    sent: SessionToken,
    /// What this request wrote: all of it after what was sent.
    written: Mutex<SessionToken>,
}

impl SessionLog {
    /// Begins with the token that the client sent.
    pub fn new(sent: SessionToken) -> Self {
        Self { sent, written: Mutex::default() }
    }

    /// The token that names all of it.
    pub fn token(&self) -> SessionToken {
        self.sent.followed_by(&self.written())
    }

    pub(super) fn add(&self, group: GroupId, position: Position, catalog: CatalogVersion) {
        self.written().add(group, position, catalog);
    }

    fn written(&self) -> MutexGuard<'_, SessionToken> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
