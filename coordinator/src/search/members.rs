//! Which members of its groups a search reads: by its consistency, the primary, a standby that shows what its session was shown, or
//! whoever seems to be free first.

use super::race::{Waits, race};
use crate::next_primary::NextPrimary;
use crate::targets::{Place, Views, read_at};
use crate::workers::{Logged, ShardError, Watch, WorkerPool, Workers, position};
use atoll_core::freshness::{Position, SessionToken, Shown, Wanted};
use atoll_core::members::{Hedges, in_order};
use atoll_proto::search::Consistency;
use atoll_proto::{CatalogVersion, Lsn};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};

/// How long a view is waited for that a session's token has seen.
const VIEW_WAIT: Duration = Duration::from_secs(2);
/// How long standbys are waited for to replay what is wanted. Mostly it takes less than a search; the primary has it in any case.
const REPLAY_WAIT: Duration = Duration::from_millis(50);
/// Between two looks.
const REPLAY_PAUSE: Duration = Duration::from_millis(4);
/// Part of the time that is left after which another member is asked in place of a silent one.
const PATIENCE_SHARE: u32 = 4;
/// How often all members are asked: while one becomes the primary it ends its connections, and another may be away.
const LAPS_MAX: usize = 3;
const LAP_PAUSE: Duration = Duration::from_millis(50);

/// How one search reads.
pub(super) struct Members<'a> {
    views: &'a Views,
    workers: &'a Workers,
    hedges: &'a Mutex<Hedges>,
    /// Whom a search waits for that needs a primary; none if it does not wait.
    next_primary: Option<&'a NextPrimary>,
    consistency: Consistency,
    /// The view that the search began with.
    view: CatalogVersion,
    /// What the session was shown before.
    session: SessionToken,
    /// What this search was shown.
    seen: Mutex<SessionToken>,
}

/// Who is asked first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum First {
    /// Whoever suits.
    Anyone,
    /// Who answered before: what it found is there.
    Same,
}

impl<'a> Members<'a> {
    /// For a search of this consistency that began with this view and belongs to this session.
    pub(super) fn new(
        views: &'a Views,
        workers: &'a Workers,
        hedges: &'a Mutex<Hedges>,
        next_primary: Option<&'a NextPrimary>,
        consistency: Consistency,
        view: CatalogVersion,
        session: SessionToken,
    ) -> Self {
        Self { views, workers, hedges, next_primary, consistency, view, session, seen: Mutex::default() }
    }

    /// Whether the primaries alone are asked.
    pub(super) fn are_primaries(&self) -> bool {
        self.consistency == Consistency::Primary
    }

    /// What the session has been shown now.
    pub(super) fn token(&self) -> SessionToken {
        self.session.followed_by(&self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads at a place, or at another member's of its group. Says which one answered.
    pub(super) async fn read<T, F: Future<Output = Result<Logged<T>, ShardError>>>(
        &self,
        place: &Place,
        first: First,
        deadline: Instant,
        read: impl Fn(Place, Watch) -> F,
    ) -> (Place, Result<T, ShardError>) {
        match self.consistency {
            Consistency::Primary => self.at_primary(place, deadline, &read).await,
            Consistency::Session => self.in_session(place, first, deadline, &read).await,
            Consistency::Eventual => self.anywhere(place, first, deadline, &read).await,
        }
    }

    async fn at_primary<T, F: Future<Output = Result<Logged<T>, ShardError>>>(
        &self,
        place: &Place,
        deadline: Instant,
        read: &impl Fn(Place, Watch) -> F,
    ) -> (Place, Result<T, ShardError>) {
        let read = |place: Place| {
            let reading = read(place, Watch::Nothing);
            async move { Ok(reading.await?.value) }
        };
        self.now_or_later(place, deadline, read).await
    }

    /// Reads at a primary, if need be at the next one.
    async fn now_or_later<T, F: Future<Output = Result<T, ShardError>>>(
        &self,
        place: &Place,
        deadline: Instant,
        read: impl Fn(Place) -> F,
    ) -> (Place, Result<T, ShardError>) {
        match self.next_primary {
            Some(next_primary) => next_primary.read_at(place, deadline, read).await,
            None => read_at(self.views, self.workers, place, read).await,
        }
    }

    /// Asks members until one answers.
    async fn anywhere<T, F: Future<Output = Result<Logged<T>, ShardError>>>(
        &self,
        place: &Place,
        first: First,
        deadline: Instant,
        read: &impl Fn(Place, Watch) -> F,
    ) -> (Place, Result<T, ShardError>) {
        let mut place = place.clone();
        let mut lap = 1;
        loop {
            let asks = self.members(&place, first);
            let waits = Waits { late: asks.first().and_then(|place| place.pool.late_after()), ..waits(deadline) };
            self.hedges().earn();
            let first_asked = asks.first().map(|place| place.pool.clone());
            // A queue is no reason to stand in another one too; a server that answers nobody is.
            let may_ask = |is_late: bool| {
                let hangs = !is_late && first_asked.as_ref().is_some_and(|pool| pool.hangs());
                hangs || self.hedges().take()
            };
            let asks = asks.into_iter().map(|place| async move {
                let pool = place.pool.clone();
                let asked = pool.asked();
                let done = read(place.clone(), Watch::Nothing).await;
                match &done {
                    Ok(_) => asked.answered(),
                    Err(error) if is_in_trouble(error) => asked.failed(),
                    Err(_) => {}
                }
                done.map(|logged| (place, logged.value))
            });
            let mut failures = match race(asks, waits, may_ask).await {
                Ok((place, value)) => return (place, Ok(value)),
                Err(failures) => failures,
            };
            if failures.iter().any(|error| matches!(error, ShardError::Stale { .. })) {
                // Standbys may be late; if the primary has no such table, either, it is somewhere else.
                match self.at_primary(&place.on(self.workers, &place.route.primary), deadline, read).await {
                    (place, Ok(value)) => return (place, Ok(value)),
                    (_, Err(error)) => failures.push(error),
                }
            }
            let error = failures.pop().expect("there is a primary at least, and it failed");
            if lap == LAPS_MAX || !is_in_trouble(&error) || Instant::now() + LAP_PAUSE >= deadline {
                return (place, Err(error));
            }
            sleep(LAP_PAUSE).await;
            place = place.latest(self.views, self.workers).unwrap_or(place);
            lap += 1;
        }
    }

    /// Asks standbys that show what the session was shown, and then the primary.
    async fn in_session<T, F: Future<Output = Result<Logged<T>, ShardError>>>(
        &self,
        place: &Place,
        first: First,
        deadline: Instant,
        read: &impl Fn(Place, Watch) -> F,
    ) -> (Place, Result<T, ShardError>) {
        let Some(place) = &self.known_to_session(place, deadline).await else {
            return (place.clone(), Err(ShardError::Stale { worker: place.pool.worker().to_owned() }));
        };
        let view = self.view.max(self.session.catalog());
        let route = &place.route;
        let primary = place.on(self.workers, &route.primary);
        let is_for_primary = first == First::Same && place.is_primary();
        let wanted = Wanted::of(&self.session, route.group, route.group_generation, view);
        let wanted = wanted.filter(|_| !is_for_primary);
        let mut places = if wanted.is_some() { self.members(place, first) } else { Vec::new() };
        places.retain(|place| !place.is_primary());
        places.push(primary.clone());
        let until = Instant::now() + REPLAY_WAIT;
        let asks = places.into_iter().map(|place| async move {
            match wanted.filter(|_| !place.is_primary()) {
                Some(wanted) => self.shown_by_standby(place, wanted, until, read).await.ok_or(None),
                None => self.shown_by_primary(place, deadline, read).await.map_err(Some),
            }
        });
        match race(asks, waits(deadline), |is_late| !is_late).await {
            Ok((place, value)) => (place, Ok(value)),
            Err(failures) => {
                let error = failures.into_iter().flatten().next();
                (primary, Err(error.expect("the primary is always asked, and tells why it failed")))
            }
        }
    }

    /// The place by a view that knows where all that the session names was written; none while there is no such view. What a later one has
    /// made the primary shows what the primary of an earlier one may lack.
    async fn known_to_session(&self, place: &Place, deadline: Instant) -> Option<Place> {
        let wanted = self.session.catalog();
        if wanted <= self.view {
            return Some(place.clone());
        }
        let mut views = self.views.clone();
        let seen =
            timeout_at(deadline.min(Instant::now() + VIEW_WAIT), views.wait_for(|view| view.version >= wanted)).await;
        let is_seen = seen.is_ok_and(|view| view.is_ok());
        if is_seen { place.latest(self.views, self.workers) } else { None }
    }

    async fn shown_by_primary<T, F: Future<Output = Result<Logged<T>, ShardError>>>(
        &self,
        place: Place,
        deadline: Instant,
        read: &impl Fn(Place, Watch) -> F,
    ) -> Result<(Place, T), ShardError> {
        let read = |place: Place| {
            let worker = place.pool.worker().to_owned();
            let reading = read(place, Watch::After);
            async move {
                let Logged { value, log } = reading.await?;
                match log {
                    Some(log) if !log.is_standby => Ok((value, log.after)),
                    // It is the primary no more, and this view is late.
                    Some(_) | None => Err(ShardError::Stale { worker }),
                }
            }
        };
        let (place, done) = self.now_or_later(&place, deadline, read).await;
        let (value, after) = done?;
        self.note(&place, after);
        Ok((place, value))
    }

    /// Reads at a standby as soon as it shows what is wanted. None if it does not, or failed.
    async fn shown_by_standby<T, F: Future<Output = Result<Logged<T>, ShardError>>>(
        &self,
        place: Place,
        wanted: Wanted,
        until: Instant,
        read: &impl Fn(Place, Watch) -> F,
    ) -> Option<(Place, T)> {
        let pool = place.pool.clone();
        loop {
            let asked = pool.asked();
            let Logged { value, log } = match read(place.clone(), Watch::Around).await {
                Ok(logged) => logged,
                Err(error) => {
                    tracing::debug!(error = &error as &dyn std::error::Error, "a standby did not answer a session");
                    if is_in_trouble(&error) {
                        asked.failed();
                    }
                    return None;
                }
            };
            asked.answered();
            let log = log?;
            match wanted.is_shown(&log) {
                Shown::All => {
                    self.note(&place, log.after);
                    return Some((place, value));
                }
                // Asking for the position costs next to nothing, reading all again would not.
                Shown::NotYet if has_replayed(&pool, wanted.lsn(), until).await => {}
                Shown::NotYet | Shown::Doubtful => return None,
            }
        }
    }

    /// The group's members in the order in which they are asked.
    fn members(&self, place: &Place, first: First) -> Vec<Place> {
        let route = &place.route;
        let members = std::iter::once(&route.primary).chain(route.standbys.iter());
        let places: Vec<Place> = members.map(|member| place.on(self.workers, member)).collect();
        let costs: Vec<u64> = places.iter().map(|place| place.pool.cost()).collect();
        let order = in_order(&costs, rand::random());
        let mut places: Vec<Place> = order.into_iter().map(|member| places[member].clone()).collect();
        if first == First::Same {
            let is_other = |member: &Place| member.pool.worker_id() != place.pool.worker_id();
            places.sort_by_key(is_other);
        }
        places
    }

    /// Nothing that was read at a place lies behind this position.
    fn note(&self, place: &Place, lsn: Lsn) {
        let position = Position { generation: place.route.group_generation, lsn };
        // No older view than the place was found by.
        let view = self.views.borrow().version;
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).add(place.route.group, position, view);
    }

    fn hedges(&self) -> MutexGuard<'_, Hedges> {
        self.hedges.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits until a standby has replayed its log so far. False if it has not by then, or nobody can tell.
async fn has_replayed(pool: &WorkerPool, wanted: Lsn, until: Instant) -> bool {
    while Instant::now() < until {
        sleep(REPLAY_PAUSE).await;
        match position(pool, until + REPLAY_WAIT).await {
            Ok(replayed) if replayed >= wanted => return true,
            Ok(_) => {}
            Err(_) => return false,
        }
    }
    false
}

/// How long members are waited for that have to answer by then.
fn waits(deadline: Instant) -> Waits {
    let left = deadline.saturating_duration_since(Instant::now());
    Waits { late: None, patience: left / PATIENCE_SHARE }
}

/// Whether a failure says something of the server rather than of what was asked, and may be over soon.
fn is_in_trouble(error: &ShardError) -> bool {
    match error {
        ShardError::Unreachable { .. }
        | ShardError::Broken { .. }
        | ShardError::Superseded { .. }
        | ShardError::Deadline { .. }
        | ShardError::TimedOut { .. }
        | ShardError::Overloaded { .. } => true,
        ShardError::InDoubt { .. }
        | ShardError::Stale { .. }
        | ShardError::Fenced { .. }
        | ShardError::Conflict { .. }
        | ShardError::Refused { .. }
        | ShardError::Malformed { .. } => false,
    }
}
