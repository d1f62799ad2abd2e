//! Commands about plans that are made and carried out by a schedule.

use super::{Catalog, Outcome};
use crate::rebalance::{LATE_SECONDS_MAX, Scheduled, ShardMove, Wish};
use atoll_proto::CatalogVersion;
use atoll_proto::rebalance::RebalancePolicy;
use serde::{Deserialize, Serialize};

/// The policy, and how much of its schedule is dealt with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KeptSchedule {
    /// The policy.
    pub policy: RebalancePolicy,
    /// Times of the schedule up to this one are dealt with, in seconds since 1970.
    pub seen_until_s: i64,
}

/// A plan that a leader made because the schedule said so.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScheduledPlan {
    /// Its identity.
    pub plan_id: String,
    /// The catalog it was made from.
    pub planned_at: CatalogVersion,
    /// Its moves, in their order.
    pub moves: Vec<ShardMove>,
}

impl Catalog {
    pub(super) fn set_rebalance_policy(&mut self, policy: RebalancePolicy, now_s: i64) -> Outcome {
        let seen_until_s = match &self.schedule {
            Some(kept) if kept.policy == policy => return Outcome::Unchanged,
            // No further ahead than clocks may differ: one that was wrong by more, once, must not end the schedule.
            Some(kept) => kept.seen_until_s.min(now_s + LATE_SECONDS_MAX).max(now_s),
            None => now_s,
        };
        if let Some(run) = self.rebalance.as_mut().filter(|run| !policy.enabled && !run.is_held()) {
            // There will be no next time for it to wait for.
            run.scheduled = None;
        }
        self.schedule = Some(KeptSchedule { policy, seen_until_s });
        Outcome::Done
    }

    pub(super) fn follow_schedule(
        &mut self,
        index: u64,
        due_s: i64,
        now_s: i64,
        plan: Option<ScheduledPlan>,
    ) -> Outcome {
        // Another leader may have been here before.
        let kept = self.schedule.as_ref().filter(|kept| kept.policy.enabled && due_s > kept.seen_until_s);
        let Some(KeptSchedule { policy, .. }) = kept else { return Outcome::Unchanged };
        let until_s = policy.window_minutes.map(|minutes| due_s + 60 * i64::from(minutes));
        let scheduled = Some(Scheduled { until_s });
        let parallel = policy.max_parallel_moves;
        let is_open = self.rebalance.as_ref().is_some_and(|run| run.is_open());
        if let Some(run) = self.rebalance.as_mut().filter(|run| run.is_held()) {
            (run.wish, run.failures, run.scheduled) = (Wish::Run, 0, scheduled);
        } else if let Some(ScheduledPlan { plan_id, planned_at, moves }) = plan.filter(|_| !is_open) {
            let outcome = self.apply_plan(index, plan_id, planned_at, parallel, moves);
            if outcome != Outcome::Done {
                // Something moved since the plan was made. The time is not dealt with: the leader makes another one.
                return outcome;
            }
            if let Some(run) = &mut self.rebalance {
                run.scheduled = scheduled;
            }
        }
        if let Some(kept) = &mut self.schedule {
            kept.seen_until_s = due_s.max(now_s);
        }
        Outcome::Done
    }

    pub(super) fn hold_scheduled_run(&mut self, run_began_at: CatalogVersion, until_s: i64) -> Outcome {
        let of_window = Some(Scheduled { until_s: Some(until_s) });
        let run = self.rebalance.as_mut().filter(|run| run.began_at == run_began_at && run.is_open());
        match run.filter(|run| run.wish == Wish::Run && run.scheduled == of_window) {
            Some(run) => {
                run.wish = Wish::Pause;
                Outcome::Done
            }
            None => Outcome::Unchanged,
        }
    }
}

#[cfg(test)]
#[path = "schedule_tests.rs"]
mod tests;
