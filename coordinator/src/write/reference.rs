//! Writes to a reference collection: to the copy that is read first, then to every other group's copy.

use super::Writer;
use crate::error::RequestError;
use crate::targets::{Place, Target};
use crate::workers::ShardError;
use crate::workers::read;
use crate::workers::reference::{self, Turn};
use atoll_core::filter::Expr;
use atoll_proto::entry::EntryId;
use atoll_proto::{Distribution, Namespace};
use futures::future::{join_all, try_join_all};
use std::collections::BTreeSet;
use tokio::sync::OwnedMutexGuard;
use tokio::time::{Instant, timeout_at};

/// What a write to a reference collection needs; a write to any other one needs nothing.
pub(super) struct Copies {
    first: Place,
    others: Vec<Place>,
    turn: Turn,
    _place: OwnedMutexGuard<()>,
}

impl Writer {
    /// Waits for the turn to write, if the collection is a reference collection.
    pub(super) async fn copies(&self, target: &Target, deadline: Instant) -> Result<Option<Copies>, RequestError> {
        if target.collection.settings.distribution == Distribution::Hash {
            return Ok(None);
        }
        let Some(route) = target.view.reference() else { return Ok(None) };
        let waiting = timeout_at(deadline, self.reference_writers.clone().lock_owned());
        let Ok(place) = waiting.await else { return Err(RequestError::Deadline) };
        let first = target.place(&self.workers, route);
        let others = target.view.copies().into_iter().filter(|other| other.group != route.group);
        let others = others.map(|other| target.place(&self.workers, &other)).collect();
        let number = target.view.catalog.collection(&target.name).map_or(0, |(id, _)| id.0);
        match Turn::wait(&first.pool, number, deadline).await {
            Ok(turn) => Ok(Some(Copies { first, others, turn, _place: place })),
            Err(error) => Err(first.read_error(error)),
        }
    }
}

impl Copies {
    /// Brings every other copy to what the first one has of these ids, and ends the turn.
    pub(super) async fn spread(self, ids: &[EntryId], deadline: Instant) -> Result<(), RequestError> {
        let Self { first, others, turn, _place } = self;
        let rows = reference::stored(&first.pool, &first.table, ids, deadline).await;
        let rows = rows.map_err(|error| first.read_error(error))?;
        let rows = &rows;
        let spread =
            join_all(others.iter().map(|other| async move {
                reference::take_over(&other.pool, &other.table, ids, rows, deadline).await
            }))
            .await;
        turn.end().await;
        all_done(&others, spread)
    }

    /// Ids of a namespace's entries that match.
    pub(super) async fn matching(
        &self,
        namespace: &Namespace,
        filter: Option<&Expr>,
        limit: Option<u32>,
        deadline: Instant,
    ) -> Result<Matching, RequestError> {
        let matching = |place: Place| async move {
            let found = read::ids(&place.pool, &place.table, namespace, filter, limit, deadline).await;
            found.map_err(|error| place.read_error(error))
        };
        let first = matching(self.first.clone()).await?;
        let others = try_join_all(self.others.iter().map(|other| matching(other.clone()))).await?;
        let all: BTreeSet<EntryId> = first.iter().cloned().chain(others.into_iter().flatten()).collect();
        Ok(Matching { first, all: all.into_iter().collect() })
    }
}

/// Ids of entries that match.
pub(super) struct Matching {
    /// On the copy that is read.
    pub(super) first: Vec<EntryId>,
    /// On any copy: one that was left behind may hold what is gone elsewhere.
    pub(super) all: Vec<EntryId>,
}

fn all_done(others: &[Place], done: Vec<Result<(), ShardError>>) -> Result<(), RequestError> {
    let total = others.len();
    let failed = others.iter().zip(done).filter_map(|(other, done)| Some((other, done.err()?)));
    let mut failures = Vec::new();
    let mut first = None;
    for (other, error) in failed {
        failures.push(other.failure(&error));
        first = first.or(Some(error));
    }
    match first {
        Some(cause) => Err(RequestError::CopiesBehind { failures, total, cause: Box::new(cause) }),
        None => Ok(()),
    }
}
