//! When something is due: times, leaders that come late or twice, and windows.

#![allow(clippy::unwrap_used)]
use super::*;
use crate::rebalance::{Fate, RunMove, Scheduled, ShardMove, Wish};
use atoll_proto::rebalance::RebalancePolicy;
use atoll_proto::{GroupId, ShardId};
use proptest::prelude::*;

fn at(text: &str) -> i64 {
    text.parse::<jiff::Timestamp>().unwrap().as_second()
}

/// Sundays at two in the morning, set on Friday.
fn weekly() -> KeptSchedule {
    let policy = RebalancePolicy { enabled: true, ..RebalancePolicy::default() };
    KeptSchedule { policy, seen_until_s: at("2026-11-20T12:00:00Z") }
}

fn open_run(scheduled: Option<Scheduled>) -> RebalanceRun {
    let planned = ShardMove { shard: ShardId(0), from: GroupId(1), to: GroupId(2) };
    RebalanceRun {
        plan_id: "p".to_owned(),
        began_at: CatalogVersion(7),
        parallel: 1,
        wish: Wish::Run,
        failures: 0,
        moves: vec![RunMove { planned, fate: Fate::Waiting }],
        scheduled,
    }
}

#[test]
fn schedules_are_read_as_cron_has_them() {
    let next = |text: &str, after: &str| Schedule::parse(text).unwrap().next_after(at(after));
    let sunday = at("2026-11-22T02:00:00Z");
    for text in ["0 2 * * 0", "0 2 * * SUN", "0 2 * * 7", " 0  2 * *  0 "] {
        assert_eq!(next(text, "2026-11-20T12:00:00Z"), Some(sunday), "{text}");
    }
    assert_eq!(next("0 2 * * 0", "2026-11-22T02:00:00Z"), Some(at("2026-11-29T02:00:00Z")), "after, not at");
    assert_eq!(next("*/15 8-10 1,15 * *", "2026-11-15T10:46:00Z"), Some(at("2026-12-01T08:00:00Z")));
    assert_eq!(next("0 0 29 2 *", "2026-11-20T12:00:00Z"), Some(at("2028-02-29T00:00:00Z")));
    assert_eq!(next("0 0 30 2 *", "2026-11-20T12:00:00Z"), None);
}

#[test]
fn what_is_no_schedule_is_refused_in_a_line() {
    for (text, part) in [
        ("", "five fields, 0 given"),
        ("0 2 * *", "five fields, 4 given"),
        ("0 2 * * 0 Europe/Berlin", "five fields, 6 given"),
        ("60 2 * * 0", "60"),
        ("0 2 * * x", "no schedule"),
    ] {
        let told = Schedule::parse(text).unwrap_err().to_string();
        assert!(told.contains(part) && !told.contains('\n'), "{text:?}: {told:?}");
    }
}

#[test]
fn a_time_is_due_when_it_has_come_and_not_before() {
    let kept = weekly();
    let sunday = at("2026-11-22T02:00:00Z");
    assert_eq!(due(Some(&kept), None, sunday - 1), None);
    let time = Some(Due::Time { due_s: sunday, plans: true });
    assert_eq!(due(Some(&kept), None, sunday), time);
    assert_eq!(due(Some(&kept), None, sunday + LATE_SECONDS_MAX), time, "a leader may be new");
    assert_eq!(due(Some(&kept), None, sunday + LATE_SECONDS_MAX + 1), None, "what was missed is passed over");
    let off = KeptSchedule { policy: RebalancePolicy { enabled: false, ..kept.policy }, ..kept };
    assert_eq!(due(Some(&off), None, sunday), None);
    assert_eq!(due(None, None, sunday), None);
}

#[test]
fn a_time_that_is_dealt_with_is_not_due_again() {
    let sunday = at("2026-11-22T02:00:00Z");
    let kept = KeptSchedule { seen_until_s: sunday + 2, ..weekly() };
    assert_eq!(due(Some(&kept), None, sunday + 2), None);
    assert_eq!(due(Some(&kept), None, sunday - 5), None, "nor by a clock that is behind");
    let week = 7 * 24 * 60 * 60;
    assert_eq!(due(Some(&kept), None, sunday + week), Some(Due::Time { due_s: sunday + week, plans: true }));
    // Set a minute after the time: the next one counts.
    let late = KeptSchedule { seen_until_s: sunday + 60, ..weekly() };
    assert_eq!(due(Some(&late), None, sunday + 61), None);
}

#[test]
fn no_plan_is_made_while_one_is_carried_out() {
    let sunday = at("2026-11-22T02:00:00Z");
    let mut run = open_run(None);
    assert_eq!(due(Some(&weekly()), Some(&run), sunday), Some(Due::Time { due_s: sunday, plans: false }));
    run.moves[0].fate = Fate::Moved(atoll_proto::MoveId(8));
    assert_eq!(due(Some(&weekly()), Some(&run), sunday), Some(Due::Time { due_s: sunday, plans: true }));
}

#[test]
fn a_run_is_held_at_the_end_of_its_window_and_goes_on_at_the_next_time() {
    let sunday = at("2026-11-22T02:00:00Z");
    let mut kept = KeptSchedule { seen_until_s: sunday, ..weekly() };
    let until_s = sunday + 600;
    let mut run = open_run(Some(Scheduled { until_s: Some(until_s) }));
    assert_eq!(due(Some(&kept), Some(&run), until_s - 1), None);
    let hold = Some(Due::Hold { run_began_at: CatalogVersion(7), until_s });
    assert_eq!(due(Some(&kept), Some(&run), until_s), hold);
    assert_eq!(due(None, Some(&run), until_s + 9_999), hold, "whoever leads, however late");
    kept.policy.schedule = "*/10 2 * * 0".to_owned();
    assert_eq!(due(Some(&kept), Some(&run), until_s), hold, "held first where windows touch");
    run.wish = Wish::Pause;
    assert_eq!(due(Some(&kept), Some(&run), until_s), Some(Due::Time { due_s: until_s, plans: false }));
    assert_eq!(due(Some(&weekly()), Some(&run), until_s), None);
    let endless = open_run(Some(Scheduled { until_s: None }));
    assert_eq!(due(Some(&kept), Some(&endless), sunday + 500), None);
}

proptest! {
    /// Leaders that look whenever they like, with gaps between them, and note what they see.
    #[test]
    fn each_time_is_dealt_with_once_or_passed_over(gaps in prop::collection::vec(1_i64..900, 1..200)) {
        let mut kept = weekly();
        kept.policy.schedule = "*/5 * * * *".to_owned();
        let start = kept.seen_until_s;
        let (mut now_s, mut begun) = (start, Vec::new());
        for gap in gaps {
            now_s += gap;
            if let Some(Due::Time { due_s, plans: true }) = due(Some(&kept), None, now_s) {
                prop_assert!(due_s <= now_s && now_s - due_s <= LATE_SECONDS_MAX && due_s % 300 == 0);
                begun.push(due_s);
                kept.seen_until_s = now_s;
            }
            prop_assert_eq!(due(Some(&kept), None, now_s), None);
        }
        prop_assert!(begun.windows(2).all(|pair| pair[0] < pair[1]), "{begun:?}");
        prop_assert!(now_s - start < 900 || !begun.is_empty());
    }
}
