//! Waiting for a group's next primary.
//!
//! A group with standbys that loses its primary has another one some seconds later. What needs the primary is held until then: writes
//! (`write/hold.rs` says which), and reads that did not ask for another member or for an answer without the missing part. Held is bounded:
//! by the request's deadline, by [`NEW_PRIMARY_WAIT`], and in number. A group that nobody has reached for longer than that is given up: what
//! comes then is told at once how it is, so that requests to it do not take the places of others, until one gets through.

use crate::targets::{Place, Views, read_at};
use crate::workers::{ShardError, Workers};
use atoll_core::routing::RoutingTable;
use atoll_proto::group::Phase;
use atoll_proto::{Generation, GroupId};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until, timeout_at};

/// How long a request waits for its group's next primary; its own deadline may come first.
pub const NEW_PRIMARY_WAIT: Duration = Duration::from_secs(10);
/// The primary of before may come back, which no view tells of.
const AGAIN_AFTER: Duration = Duration::from_millis(250);
/// Part of a read's time that is kept for its answer, or for saying why there is none.
const ANSWER_SHARE: u32 = 8;

/// Holds requests whose group is without a primary.
#[derive(Debug, Clone)]
pub struct NextPrimary {
    views: Views,
    workers: Arc<Workers>,
    turns: Arc<Semaphore>,
    lost: Arc<Lost>,
}

/// Groups whose primary did not do its part, by generation: when it was first found so, and when last.
#[derive(Debug, Default)]
struct Lost {
    /// Whether there are any: nobody else has to look.
    any: AtomicBool,
    found: Mutex<BTreeMap<(GroupId, Generation), (Instant, Instant)>>,
}

/// Leave to wait.
pub type Turn = Option<OwnedSemaphorePermit>;

impl NextPrimary {
    /// By the latest of `views`. As many wait at once as there are `turns`; further ones are told at once how it is.
    pub fn new(views: Views, workers: Arc<Workers>, turns: Arc<Semaphore>) -> Self {
        Self { views, workers, turns, lost: Arc::default() }
    }

    /// Whether what failed so at a place may soon succeed at another primary of its group. A table that is not there because its shard moves
    /// is waited for otherwise.
    pub fn may_help(&self, place: &Place, error: &ShardError) -> bool {
        let view = self.views.borrow();
        let group = view.catalog.groups.get(&place.route.group);
        let moves = matches!(error, ShardError::Stale { .. }) && view.is_moving(place.route.shard);
        group.is_some_and(|group| group.record.is_some()) && !moves
    }

    /// Whether the place's group has had another primary since the place was looked up. What the one of before is asked waits in vain.
    pub fn came(&self, place: &Place) -> bool {
        is_elsewhere(&self.views.borrow(), place)
    }

    /// A place's primary did its part.
    pub fn served(&self, place: &Place) {
        self.lost.is_back(place.route.group);
    }

    /// Whether the place's group is getting another primary just now.
    pub fn is_looked_for(&self, place: &Place) -> bool {
        let view = self.views.borrow();
        let record = view.catalog.groups.get(&place.route.group).and_then(|group| group.record.as_ref());
        record.is_some_and(|record| record.phase != Phase::Steady) && !view.is_moving(place.route.shard)
    }

    /// Waits until another primary serves the place's group, or for a moment. Gives the place by the latest view; none where too many wait,
    /// the group has been lost for so long that waiting would help nobody, or the time is up.
    pub async fn wait(&self, place: &Place, until: Instant, turn: &mut Turn) -> Option<Place> {
        let (group, generation) = (place.route.group, place.route.group_generation);
        if self.lost.for_how_long(group, generation, Instant::now()) >= NEW_PRIMARY_WAIT {
            return None;
        }
        let mut views = self.views.clone();
        if turn.is_none() {
            *turn = Some(self.turns.clone().try_acquire_owned().ok()?);
        }
        loop {
            let again_at = until.min(Instant::now() + AGAIN_AFTER);
            let changed =
                timeout_at(again_at, views.wait_for(|view| is_elsewhere(view, place))).await.map(|view| view.is_ok());
            if changed == Ok(false) {
                // There will be no new view: the coordinator is going down.
                sleep_until(again_at).await;
            }
            // The old primary takes nothing then, and may end a connection in the middle of saying so.
            if changed.is_ok() || !self.is_looked_for(place) || Instant::now() >= until {
                break;
            }
        }
        if Instant::now() < until { place.latest(&self.views, &self.workers) } else { None }
    }

    /// Whether a read that failed so met a server that is gone, or is not the primary any more.
    fn is_without_primary(&self, place: &Place, error: &ShardError) -> bool {
        match error {
            ShardError::Unreachable { .. } | ShardError::Broken { .. } | ShardError::Superseded { .. } => true,
            // The table may as well be dropped.
            ShardError::Stale { .. } => self.is_looked_for(place) || self.came(place),
            ShardError::InDoubt { .. }
            | ShardError::Deadline { .. }
            | ShardError::TimedOut { .. }
            | ShardError::Overloaded { .. }
            | ShardError::Fenced { .. }
            | ShardError::Conflict { .. }
            | ShardError::Refused { .. }
            | ShardError::Malformed { .. } => false,
        }
    }

    /// Reads at a place's primary as [`read_at`] does, and again where its group has another one in time. What is told in the end is how it
    /// is, not that time is up.
    pub async fn read_at<T, F: Future<Output = Result<T, ShardError>>>(
        &self,
        place: &Place,
        deadline: Instant,
        read: impl Fn(Place) -> F,
    ) -> (Place, Result<T, ShardError>) {
        let now = Instant::now();
        // It may have been looked up a while ago: another part of the request has waited.
        let latest = if self.came(place) { place.latest(&self.views, &self.workers) } else { None };
        let (mut place, mut done) = read_at(&self.views, &self.workers, latest.as_ref().unwrap_or(place), &read).await;
        let mut turn = None;
        while let Err(error) = &done
            && self.is_without_primary(&place, error)
            && self.may_help(&place, error)
        {
            let left = deadline.saturating_duration_since(now);
            let until = (now + NEW_PRIMARY_WAIT).min(deadline - left / ANSWER_SHARE);
            let Some(latest) = self.wait(&place, until, &mut turn).await else { break };
            (place, done) = read_at(&self.views, &self.workers, &latest, &read).await;
        }
        if done.is_ok() {
            self.served(&place);
        }
        (place, done)
    }
}

impl Lost {
    /// For how long one is lost that is found so now. What nobody asked for so long was not found lost all the time.
    fn for_how_long(&self, group: GroupId, generation: Generation, now: Instant) -> Duration {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        self.any.store(true, Ordering::Relaxed);
        let (first, last) = found.entry((group, generation)).or_insert((now, now));
        if now.saturating_duration_since(*last) >= NEW_PRIMARY_WAIT {
            *first = now;
        }
        *last = now;
        now.saturating_duration_since(*first)
    }

    fn is_back(&self, group: GroupId) {
        if !self.any.load(Ordering::Relaxed) {
            return;
        }
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.retain(|(lost, _), _| *lost != group);
        self.any.store(!found.is_empty(), Ordering::Relaxed);
    }
}

/// Whether another primary serves what was looked up, or it is somewhere else.
fn is_elsewhere(view: &RoutingTable, place: &Place) -> bool {
    let route = &place.route;
    let generation = view.catalog.groups.get(&route.group).map(|group| group.generation);
    let schema = view.shard(route.shard).map(|route| &route.schema);
    generation != Some(route.group_generation) || schema != Some(&route.schema)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_lost_from_its_first_failure_at_a_generation_until_one_gets_through() {
        let (lost, begun) = (Lost::default(), Instant::now());
        let (one, other) = (GroupId(1), GroupId(2));
        let for_how_long = |group, generation, seconds| {
            lost.for_how_long(group, Generation(generation), begun + Duration::from_secs(seconds)).as_secs()
        };
        assert_eq!((for_how_long(one, 4, 0), for_how_long(one, 4, 3), for_how_long(other, 4, 5)), (0, 3, 0));
        assert_eq!(for_how_long(one, 5, 6), 0, "the next one has its own time");
        lost.is_back(one);
        assert_eq!((for_how_long(one, 4, 7), for_how_long(other, 4, 7)), (0, 2));
        lost.is_back(one);
        lost.is_back(other);
        assert_eq!(for_how_long(other, 4, 9), 0);
        assert_eq!((for_how_long(other, 4, 18), for_how_long(other, 4, 28)), (9, 0), "nobody asked for ten seconds");
    }
}
