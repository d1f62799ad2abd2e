//! Runs that a schedule begins, holds and lets go on.

#![allow(clippy::unwrap_used)]
use super::*;
use crate::catalog::{Command, Refusal, testing};
use crate::rebalance::Fate;
use atoll_proto::rebalance::{RunState, SkipReason};
use atoll_proto::{GroupId, MoveId};

/// Two groups with two shards each, and a schedule set at second 100; at version 5.
fn catalog(window_minutes: Option<u32>) -> Catalog {
    let mut catalog = testing::two_groups(&["w1", "w2"]);
    let policy = RebalancePolicy { enabled: true, window_minutes, max_parallel_moves: 2, ..RebalancePolicy::default() };
    assert_eq!(catalog.apply(5, Command::SetRebalancePolicy { policy, now_s: 100 }), Outcome::Done);
    catalog
}

fn follow(due_s: i64, plan: Option<(&str, u64)>, catalog: &Catalog) -> Command {
    let (from, to) = (GroupId(2), GroupId(3));
    let own = catalog.placements.iter().filter(|(_, placement)| placement.group == from);
    let moves: Vec<ShardMove> = own.map(|(shard, _)| ShardMove { shard: *shard, from, to }).collect();
    let plan = plan.map(|(plan_id, at)| {
        let planned_at = CatalogVersion(at);
        ScheduledPlan { plan_id: plan_id.to_owned(), planned_at, moves }
    });
    Command::FollowSchedule { due_s, now_s: due_s + 2, plan }
}

fn state(catalog: &Catalog) -> RunState {
    catalog.rebalance.as_ref().unwrap().state()
}

fn seen(catalog: &Catalog) -> i64 {
    catalog.schedule.as_ref().unwrap().seen_until_s
}

#[test]
fn a_time_begins_one_run_whoever_leads() {
    let mut catalog = catalog(None);
    let first = follow(160, Some(("a", 5)), &catalog);
    assert_eq!(catalog.apply(6, first.clone()), Outcome::Done);
    let run = catalog.rebalance.clone().unwrap();
    let scheduled = Some(Scheduled { until_s: None });
    assert_eq!((run.plan_id.as_str(), run.parallel, run.scheduled, seen(&catalog)), ("a", 2, scheduled, 162));
    // Another leader, with a plan of its own for the same time.
    let again = follow(160, Some(("b", 6)), &catalog);
    assert_eq!(catalog.apply(7, again), Outcome::Unchanged);
    assert_eq!(catalog.apply(8, first), Outcome::Unchanged);
    assert_eq!(catalog.rebalance.clone().unwrap(), run);
}

#[test]
fn a_time_with_nothing_to_do_is_dealt_with() {
    let mut catalog = catalog(None);
    let nothing = follow(160, None, &catalog);
    assert_eq!(catalog.apply(6, nothing), Outcome::Done);
    assert_eq!((catalog.rebalance.as_ref(), seen(&catalog)), (None, 162));
}

#[test]
fn a_time_while_a_plan_is_carried_out_is_passed_over() {
    let mut catalog = catalog(Some(10));
    let moves = vec![ShardMove { shard: atoll_proto::ShardId(0), from: GroupId(2), to: GroupId(3) }];
    let by_hand = Command::ApplyPlan { plan_id: "hand".to_owned(), planned_at: CatalogVersion(5), parallel: 1, moves };
    catalog.apply(6, by_hand);
    catalog.apply(7, Command::SteerRebalance { wish: Wish::Pause });
    let run = catalog.rebalance.clone();
    let follow = follow(160, Some(("a", 7)), &catalog);
    assert_eq!(catalog.apply(8, follow), Outcome::Done);
    assert_eq!((&catalog.rebalance, seen(&catalog)), (&run, 162), "what somebody paused stays paused");
}

#[test]
fn a_stale_plan_leaves_the_time_to_the_next_one() {
    let mut catalog = catalog(None);
    let stale = follow(160, Some(("a", 2)), &catalog);
    assert!(matches!(catalog.apply(6, stale), Outcome::Refused(Refusal::StalePlan { .. })));
    assert_eq!(seen(&catalog), 100);
    let fresh = follow(160, Some(("b", 5)), &catalog);
    assert_eq!(catalog.apply(7, fresh), Outcome::Done);
}

#[test]
fn a_run_waits_from_the_end_of_its_window_to_the_next_time() {
    let mut catalog = catalog(Some(10));
    let first = follow(160, Some(("a", 5)), &catalog);
    catalog.apply(6, first);
    let hold = |until_s| Command::HoldScheduledRun { run_began_at: CatalogVersion(6), until_s };
    assert_eq!(catalog.apply(7, hold(759)), Outcome::Unchanged, "of another window");
    assert_eq!(catalog.apply(7, hold(760)), Outcome::Done);
    assert_eq!((state(&catalog), catalog.rebalance.as_ref().unwrap().is_held()), (RunState::Paused, true));
    assert_eq!(catalog.apply(8, hold(760)), Outcome::Unchanged);
    let next = follow(1_000, None, &catalog);
    assert_eq!(catalog.apply(8, next), Outcome::Done);
    assert_eq!((state(&catalog), seen(&catalog)), (RunState::Running, 1_002));
    assert_eq!(catalog.apply(9, hold(760)), Outcome::Unchanged, "of the window before");
    assert_eq!(catalog.apply(9, hold(1_600)), Outcome::Done);
}

#[test]
fn what_somebody_takes_in_hand_is_none_of_the_schedules_any_more() {
    for wish in [Wish::Run, Wish::Pause] {
        let mut catalog = catalog(Some(10));
        let first = follow(160, Some(("a", 5)), &catalog);
        catalog.apply(6, first);
        let hold = Command::HoldScheduledRun { run_began_at: CatalogVersion(6), until_s: 760 };
        catalog.apply(7, hold.clone());
        assert_eq!(catalog.apply(8, Command::SteerRebalance { wish }), Outcome::Done);
        assert!(!catalog.rebalance.as_ref().unwrap().is_held());
        let before = catalog.rebalance.clone();
        let next = follow(1_000, None, &catalog);
        catalog.apply(9, next);
        catalog.apply(10, hold);
        assert_eq!(catalog.rebalance, before, "{wish:?}");
    }
}

#[test]
fn a_policy_set_anew_counts_from_then_and_the_same_one_changes_nothing() {
    let mut catalog = catalog(None);
    let policy = catalog.schedule.clone().unwrap().policy;
    assert_eq!(
        catalog.apply(6, Command::SetRebalancePolicy { policy: policy.clone(), now_s: 900 }),
        Outcome::Unchanged
    );
    assert_eq!(seen(&catalog), 100);
    let off = RebalancePolicy { enabled: false, ..policy };
    // By a clock that is behind.
    assert_eq!(catalog.apply(6, Command::SetRebalancePolicy { policy: off, now_s: 50 }), Outcome::Done);
    assert_eq!((seen(&catalog), catalog.least_format()), (100, 4));
    let follow = follow(160, Some(("a", 6)), &catalog);
    assert_eq!(catalog.apply(7, follow), Outcome::Unchanged, "it is off");
}

#[test]
fn a_clock_that_was_ahead_once_does_not_end_the_schedule() {
    let mut catalog = catalog(None);
    let year_ahead = follow(31_536_000, None, &catalog);
    catalog.apply(6, year_ahead);
    let policy = RebalancePolicy { max_parallel_moves: 1, ..catalog.schedule.clone().unwrap().policy };
    catalog.apply(7, Command::SetRebalancePolicy { policy, now_s: 1_000 });
    assert_eq!(seen(&catalog), 1_000 + LATE_SECONDS_MAX);
}

#[test]
fn a_run_goes_on_to_its_end_when_the_schedule_is_turned_off() {
    let mut catalog = catalog(Some(10));
    let first = follow(160, Some(("a", 5)), &catalog);
    catalog.apply(6, first);
    let policy = RebalancePolicy { enabled: false, ..catalog.schedule.clone().unwrap().policy };
    catalog.apply(7, Command::SetRebalancePolicy { policy, now_s: 400 });
    let hold = Command::HoldScheduledRun { run_began_at: CatalogVersion(6), until_s: 760 };
    assert_eq!(catalog.apply(8, hold), Outcome::Unchanged);
    assert_eq!(state(&catalog), RunState::Running);
}

#[test]
fn moves_to_a_group_that_drains_meanwhile_are_skipped() {
    let mut catalog = catalog(None);
    let first = follow(160, Some(("a", 5)), &catalog);
    catalog.apply(6, first);
    let drain = |id| Command::SetGroupState { id: GroupId(id), state: atoll_proto::admin::GroupState::Draining };
    catalog.apply(7, Command::BeginPlannedMove { run_began_at: CatalogVersion(6), place: 0 });
    assert_eq!(catalog.apply(8, drain(3)), Outcome::Done);
    catalog.apply(9, Command::BeginPlannedMove { run_began_at: CatalogVersion(6), place: 1 });
    let run = catalog.rebalance.as_ref().unwrap();
    let fates: Vec<&Fate> = run.moves.iter().map(|one| &one.fate).collect();
    assert_eq!(fates, [&Fate::UnderWay(MoveId(7)), &Fate::Skipped(SkipReason::NoTaker)]);
}
