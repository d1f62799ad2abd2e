//! Writing: batches, single entries, deletes and imports. Each shard's part is one transaction on its primary; shards go side by
//! side, and the answer says what became of each entry.

mod batch;
mod check;
mod delete;
mod hold;
mod import;
mod lines;
mod loading;
mod reference;
mod single;
mod terms;

use crate::error::RequestError;
use crate::freshness::Freshness;
use crate::next_primary::{NEW_PRIMARY_WAIT, NextPrimary};
use crate::targets::{Followed, HAND_OVER_WAIT, Place, Target, Views};
use crate::workers::idempotency::{self, Replay};
use crate::workers::{ShardError, UNSENT_TIME, Workers, Written};
use atoll_core::freshness::{MarkSet, Position};
use atoll_proto::Durability;
use hold::can_be_sent_again;
pub use import::{ImportSettings, ImportState};
pub use loading::LoadAgents;
pub use single::Precondition;
use std::sync::Arc;
use std::time::Duration;
pub use terms::{SessionLog, WriteTerms};
use tokio::sync::{Mutex, Semaphore};
use tokio::time::Instant;

/// Tries of a write that another transaction was in the way of.
const TRIES: usize = 4;

/// Most writes of this coordinator that wait at a time for shards that are being handed over, or for a primary; further ones are told to come
/// again.
const HELD: usize = 1_000;
/// Between two tries to claim a key on a shard that is being moved, if no new view comes before.
const CLAIM_AGAIN_AFTER: Duration = Duration::from_millis(250);

/// Longest that a write whose end nobody knows may still be carried out, where a request's deadline is no further off than
/// `deadline_max`: it lies in the socket for a while, and then the server gives it its time.
pub fn late_by(deadline_max: Duration) -> Duration {
    const SPARE: Duration = Duration::from_secs(10);
    // Both statements of a flight; of an import, which sends one after the other, the one that was under way.
    let statements = deadline_max.saturating_mul(2).max(import::BATCH_TIME);
    statements.saturating_add(UNSENT_TIME + SPARE)
}

/// Carries out writes.
#[derive(Clone)]
pub struct Writer {
    views: Views,
    workers: Arc<Workers>,
    freshness: Freshness,
    import: ImportSettings,
    load_agents: LoadAgents,
    /// Writers to reference collections wait for each other here first, so that of those who wait for the same turn on a
    /// server only one holds a connection.
    reference_writers: Arc<Mutex<()>>,
    /// Writes that may wait for shards that are being handed over, or for a primary.
    held: Arc<Semaphore>,
    next_primary: NextPrimary,
}

impl Writer {
    /// Writes by the latest of `views`, and tells `freshness` so; imports tell agents what they load.
    pub fn new(
        views: Views,
        workers: Arc<Workers>,
        freshness: Freshness,
        import: ImportSettings,
        load_agents: LoadAgents,
    ) -> Self {
        let held = Arc::new(Semaphore::new(HELD));
        let next_primary = NextPrimary::new(views.clone(), workers.clone(), held.clone());
        let reference_writers = Arc::default();
        Self { views, workers, freshness, import, load_agents, reference_writers, held, next_primary }
    }

    /// The same place by the latest view, if that knows it.
    fn latest(&self, place: Place) -> Place {
        place.latest(&self.views, &self.workers).unwrap_or(place)
    }

    /// Remembers a request that may come again; refuses a key that belongs to another one.
    async fn claim(&self, target: &Target, terms: &WriteTerms) -> Result<(), RequestError> {
        let Some(ticket) = terms.ticket() else { return Ok(()) };
        let until = terms.deadline.min(Instant::now() + HAND_OVER_WAIT);
        let held_until = terms.deadline.min(Instant::now() + NEW_PRIMARY_WAIT);
        let mut turn = None;
        let mut target = target.clone();
        let durability = target.collection.settings.durability;
        loop {
            let Some(route) = target.view.route_of_key(&ticket.key) else { return Ok(()) };
            let place = target.place(&self.workers, route);
            match idempotency::claim(&place.pool, route, durability, ticket, terms.deadline).await {
                Ok(true) => {
                    self.next_primary.served(&place);
                    return Ok(());
                }
                Ok(false) => return Err(RequestError::KeyReused),
                // It may have been remembered, and then is once more.
                Err(error) if can_be_sent_again(&error, true) && self.next_primary.may_help(&place, &error) => {
                    match self.next_primary.wait(&place, held_until, &mut turn).await {
                        Some(_) => target.view = self.views.borrow().clone(),
                        None => return Err(place.read_error(error)),
                    }
                }
                // The shard of the key is being moved, or was.
                Err(error @ ShardError::Stale { .. }) if Instant::now() < until => {
                    let latest = self.views.borrow().clone();
                    // By a newer view it may be there again, also where it was: a move was turned round.
                    if latest.version == target.view.version && !latest.is_moving(route.shard) {
                        return Err(place.read_error(error));
                    }
                    let mut views = self.views.clone();
                    let newer = views.wait_for(|view| view.version != target.view.version);
                    let seen = tokio::time::timeout(CLAIM_AGAIN_AFTER, newer).await.map(|view| view.is_ok());
                    if seen == Ok(false) {
                        // There will be no new view: the coordinator is going down.
                        tokio::time::sleep(CLAIM_AGAIN_AFTER).await;
                    }
                    target.view = self.views.borrow().clone();
                }
                Err(ShardError::Stale { worker }) if target.view.is_moving(route.shard) => {
                    return Err(place.read_error(ShardError::Fenced { worker }));
                }
                Err(error) => return Err(place.read_error(error)),
            }
        }
    }
}

/// How one shard's part of a write is to be carried out.
struct PartTerms<'a> {
    session: &'a SessionLog,
    deadline: Instant,
    /// Whether it happens once, however often it is sent.
    once: bool,
}

/// Runs one shard's write, again where nothing happened and a retry may succeed: after a deadlock, once when nothing could be sent,
/// when the shard is not where the view says, and when its group gets another primary. The marks that it touches tell of it from before it is
/// sent until its outcome is known, and the session then names what was written.
async fn with_retries<T, F: Future<Output = Result<Written<T>, ShardError>>>(
    writer: &Writer,
    terms: PartTerms<'_>,
    touched: MarkSet,
    place: &Place,
    write: impl Fn(Place) -> F,
) -> Result<T, ShardError> {
    let writing = writer.freshness.writing(touched);
    let mut place = place.clone();
    let PartTerms { session, deadline, once } = terms;
    let until = deadline.min(Instant::now() + HAND_OVER_WAIT);
    let held_until = deadline.min(Instant::now() + NEW_PRIMARY_WAIT);
    let (mut turn, mut doubt, mut tries) = (None, None, 0);
    // It may have been looked up a while ago: a key was claimed first.
    if writer.next_primary.came(&place) {
        place = writer.latest(place);
    }
    // Sent at once it would be refused, or cut off in the middle.
    if writer.next_primary.is_looked_for(&place) {
        match writer.next_primary.wait(&place, held_until, &mut turn).await {
            Some(found) => place = found,
            None => {
                writing.known();
                return Err(ShardError::Fenced { worker: place.pool.worker().to_owned() });
            }
        }
    }
    let done = loop {
        tries += 1;
        match write(place.clone()).await {
            Err(ShardError::Conflict { .. }) if tries < TRIES => {}
            Err(error) if can_be_sent_again(&error, once) && writer.next_primary.may_help(&place, &error) => {
                match writer.next_primary.wait(&place, held_until, &mut turn).await {
                    Some(found) => place = found,
                    None => break Err(error),
                }
                doubt = doubt.or_else(|| error.outcome_unknown().then_some(error));
            }
            Err(ShardError::Unreachable { .. }) if tries == 1 => place = writer.latest(place),
            Err(ShardError::Stale { worker }) if tries < TRIES => {
                turn = turn.or_else(|| writer.held.clone().try_acquire_owned().ok());
                if turn.is_none() {
                    break Err(ShardError::Fenced { worker });
                }
                match place.followed(&writer.views, &writer.workers, until).await {
                    Followed::Found(found) => place = found,
                    Followed::Waiting(same) => (place, tries) = (same, tries - 1),
                    Followed::Lost => break Err(ShardError::Stale { worker }),
                    Followed::TimeUp => break Err(ShardError::Fenced { worker }),
                }
            }
            done => break done,
        }
    };
    // What was sent before may have happened, whatever has become of it since.
    let done = match (done, doubt) {
        (Err(_), Some(doubt)) => Err(doubt),
        (done, _) => done,
    };
    if !done.as_ref().is_err_and(ShardError::outcome_unknown) {
        writing.known();
    }
    let Written { value, position } = done?;
    writer.next_primary.served(&place);
    if let Some(lsn) = position {
        let (group, position) = (place.route.group, Position { generation: place.route.group_generation, lsn });
        // No older than the view that the place is of.
        session.add(group, position, writer.views.borrow().version);
        // What is not flushed runs ahead of commits that are not visible yet: see `KnownPositions`.
        if place.table.settings.durability != Durability::Ephemeral {
            writer.freshness.learn(group, position);
        }
    }
    Ok(value)
}

/// Joins the failures of several shards' parts of one write to `asked` shards: an outcome that nobody knows outweighs the rest.
fn joined(errors: Vec<RequestError>, asked: usize) -> Option<RequestError> {
    let worse = |before, error| match (before, error) {
        (unknown @ RequestError::OutcomeUnknown { .. }, _) | (_, unknown @ RequestError::OutcomeUnknown { .. }) => {
            unknown
        }
        (RequestError::Shards { mut failures, total, cause }, RequestError::Shards { failures: more, .. }) => {
            failures.extend(more);
            RequestError::Shards { failures, total, cause }
        }
        (RequestError::Shards { .. }, error) | (error, _) => error,
    };
    let mut error = errors.into_iter().reduce(worse)?;
    if let RequestError::Shards { total, .. } = &mut error {
        *total = asked;
    }
    Some(error)
}

/// The outcome of a write under a ticket, fresh or repeated.
fn outcome<T>(replay: Replay<T>) -> Result<T, RequestError> {
    match replay {
        Replay::Fresh(value) | Replay::Again(value) => Ok(value),
        Replay::OtherRequest => Err(RequestError::KeyReused),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use atoll_proto::ShardId;
    use atoll_proto::problem::{ProblemCode, ShardFailure};

    fn unavailable(shard: u32) -> RequestError {
        let failure = ShardFailure { shard: ShardId(shard), group: "g".to_owned(), reason: "overloaded".to_owned() };
        let cause = Box::new(ShardError::Overloaded { worker: "w".to_owned() });
        RequestError::Shards { failures: vec![failure], total: 1, cause }
    }

    fn unknown() -> RequestError {
        RequestError::OutcomeUnknown { cause: Box::new(ShardError::Deadline { worker: "w".to_owned() }) }
    }

    #[test]
    fn no_write_is_later_than_it_is_waited_for() {
        let late_by = |seconds| late_by(Duration::from_secs(seconds)).as_secs();
        assert_eq!((late_by(60), late_by(200)), (330, 430), "an import's batch, and two statements");
        assert_eq!(super::late_by(Duration::MAX), Duration::MAX);
    }

    #[test]
    fn an_unknown_outcome_outweighs_whatever_came_before_or_after() {
        for errors in [
            vec![unavailable(1), unknown()],
            vec![unknown(), unavailable(1)],
            vec![unavailable(1), RequestError::KeyReused, unknown(), unavailable(2)],
        ] {
            assert!(matches!(joined(errors, 4), Some(RequestError::OutcomeUnknown { .. })));
        }
        let refused = joined(vec![unavailable(1), RequestError::KeyReused, unavailable(2)], 3);
        assert!(matches!(refused, Some(RequestError::KeyReused)));
        assert!(joined(Vec::new(), 3).is_none());
    }

    #[test]
    fn failures_add_up_and_the_total_is_what_was_asked() {
        for (errors, failed) in [(vec![unavailable(1)], 1), (vec![unavailable(1), unavailable(5)], 2)] {
            let problem = joined(errors, 3).unwrap().problem();
            assert_eq!((problem.code, problem.failures.len()), (ProblemCode::Overloaded, failed));
            assert!(problem.detail.starts_with(&format!("{failed} of 3 shards")), "{}", problem.detail);
        }
    }
}
