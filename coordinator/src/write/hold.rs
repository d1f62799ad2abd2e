//! Holding a write while its group is without a primary.
//!
//! A group with standbys that loses its primary has another one some seconds later. A write that comes while one is looked for is held until
//! then, and so is one of which nothing happened, which is sent there; so is one of which nobody knows whether it happened, if it is sent under an `Idempotency-Key`: what was done under the key
//! is found at the new primary, for what was acknowledged is there, and what is not there has not happened. Any other one whose outcome is
//! unknown is told so at once. Held is bounded: by the request's deadline, by [`NEW_PRIMARY_WAIT`], and in number.

use super::Writer;
use crate::targets::Place;
use crate::workers::ShardError;
use atoll_core::routing::RoutingTable;
use atoll_proto::group::Phase;
use std::time::Duration;
use tokio::sync::SemaphorePermit;
use tokio::time::{Instant, sleep_until, timeout_at};

/// How long a write waits for its group's next primary; its own deadline may come first.
pub(super) const NEW_PRIMARY_WAIT: Duration = Duration::from_secs(10);
/// The primary of before may come back, which no view tells of.
const AGAIN_AFTER: Duration = Duration::from_millis(250);

/// Whether a write that failed so can be sent once more without doing harm. `once` says that it happens once however often it is sent.
pub(super) fn can_be_sent_again(error: &ShardError, once: bool) -> bool {
    match error {
        // Stale is also what a server answers that is a standby now.
        ShardError::Unreachable { .. } | ShardError::Stale { .. } => true,
        ShardError::Broken { .. }
        | ShardError::Superseded { .. }
        | ShardError::InDoubt { .. }
        | ShardError::Deadline { .. } => once,
        ShardError::TimedOut { .. }
        | ShardError::Overloaded { .. }
        | ShardError::Fenced { .. }
        | ShardError::Conflict { .. }
        | ShardError::Refused { .. }
        | ShardError::Malformed { .. } => false,
    }
}

impl Writer {
    /// Whether a write that failed so waits for another primary of the place's group. A table that is not there because its shard moves is
    /// waited for otherwise.
    pub(super) fn waits_for_primary(&self, place: &Place, error: &ShardError) -> bool {
        let view = self.views.borrow();
        let group = view.catalog.groups.get(&place.route.group);
        let moves = matches!(error, ShardError::Stale { .. }) && view.is_moving(place.route.shard);
        group.is_some_and(|group| group.record.is_some()) && !moves
    }

    /// Whether the place's group is getting another primary just now.
    pub(super) fn is_changing(&self, place: &Place) -> bool {
        let view = self.views.borrow();
        let record = view.catalog.groups.get(&place.route.group).and_then(|group| group.record.as_ref());
        record.is_some_and(|record| record.phase != Phase::Steady) && !view.is_moving(place.route.shard)
    }

    /// Waits until another primary serves the place's group, or for a moment. Gives the place by the latest view; none where too many wait,
    /// or the time is up.
    pub(super) async fn hold<'a>(
        &'a self,
        place: &Place,
        until: Instant,
        turn: &mut Option<SemaphorePermit<'a>>,
    ) -> Option<Place> {
        let mut views = self.views.clone();
        let (shard, group) = (place.route.shard, place.route.group);
        if turn.is_none() {
            *turn = Some(self.held.try_acquire().ok()?);
        }
        let is_elsewhere = |view: &RoutingTable| {
            let generation = view.catalog.groups.get(&group).map(|group| group.generation);
            let schema = view.shard(shard).map(|route| &route.schema);
            generation != Some(place.route.group_generation) || schema != Some(&place.route.schema)
        };
        loop {
            let again_at = until.min(Instant::now() + AGAIN_AFTER);
            let changed =
                timeout_at(again_at, views.wait_for(|view| is_elsewhere(view))).await.map(|view| view.is_ok());
            if changed == Ok(false) {
                // There will be no new view: the coordinator is going down.
                sleep_until(again_at).await;
            }
            // The old primary takes nothing then, and may end a connection in the middle of saying so.
            if changed.is_ok() || !self.is_changing(place) || Instant::now() >= until {
                break;
            }
        }
        if Instant::now() < until { place.latest(&self.views, &self.workers) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_have_happened_is_sent_again_only_if_it_happens_once() {
        let worker = || "w".to_owned();
        let unreachable = ShardError::Unreachable { worker: worker(), source: Box::new(std::fmt::Error) };
        for error in [unreachable, ShardError::Stale { worker: worker() }] {
            assert!(!error.outcome_unknown() && can_be_sent_again(&error, false) && can_be_sent_again(&error, true));
        }
        let doubtful = [
            ShardError::Superseded { worker: worker() },
            ShardError::InDoubt { worker: worker() },
            ShardError::Deadline { worker: worker() },
        ];
        for error in doubtful {
            assert!(error.outcome_unknown() && !can_be_sent_again(&error, false) && can_be_sent_again(&error, true));
        }
        for error in [ShardError::Overloaded { worker: worker() }, ShardError::Fenced { worker: worker() }] {
            assert!(!can_be_sent_again(&error, true));
        }
    }
}
