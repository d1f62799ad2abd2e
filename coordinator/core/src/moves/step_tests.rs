//! Moves that go as they should, and each way back.

#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]
use super::*;
use crate::catalog::testing::{init, worker};
use crate::catalog::{Catalog, Command, Outcome, Refusal};
use crate::routing::RoutingTable;
use atoll_proto::{
    CatalogVersion, CollectionId, CollectionName, CollectionSettings, Generation, GroupId, MoveId, ShardId,
};
use std::sync::Arc;

/// A cluster of two groups with one collection that is settled.
fn catalog() -> Catalog {
    let mut catalog = Catalog::default();
    catalog.apply(2, init(4, 2));
    catalog.apply(3, Command::RegisterWorker(worker("w1")));
    catalog.apply(4, Command::RegisterWorker(worker("w2")));
    catalog.apply(5, Command::SettleCollection { id: CollectionId(2), changed_at: CatalogVersion(2) });
    assert!(catalog.unsettled().next().is_none());
    catalog
}

fn start(catalog: &mut Catalog, index: u64, shard: u32) -> Outcome {
    let to = catalog.groups.keys().find(|group| catalog.placements[&ShardId(shard)].group != **group).copied().unwrap();
    let token = format!("token {index}");
    catalog.apply(index, Command::StartMove { token, shard: ShardId(shard), to, max_write_pause_ms: 500 })
}

fn refused(outcome: Outcome) -> Refusal {
    let Outcome::Refused(refusal) = outcome else { panic!("not refused: {outcome:?}") };
    refusal
}

fn answer(work: MoveWork, marker: &mut u64, sum: &str) -> MoveReport {
    let sums = || Some(vec![TableSum { table: "t".to_owned(), rows: 3, sum: sum.to_owned() }]);
    match work {
        MoveWork::Mark | MoveWork::Fence { .. } => {
            *marker += 1;
            MoveReport { marker: Some(*marker), ..MoveReport::done() }
        }
        MoveWork::Sum => {
            *marker += 1;
            MoveReport { marker: Some(*marker), sums: sums(), ..MoveReport::done() }
        }
        MoveWork::SumAt { .. } => MoveReport { sums: sums(), ..MoveReport::done() },
        _ => MoveReport::done(),
    }
}

/// Drives a move until it ends or `stop` says so; gives the phases it went through and the orders that were given.
fn drive(
    catalog: &mut Catalog,
    id: MoveId,
    index: &mut u64,
    mut meddle: impl FnMut(&MoveJob, MoveWork) -> Option<Result<MoveReport, String>>,
) -> (Vec<MovePhase>, Vec<(Side, MoveWork)>) {
    let (mut phases, mut orders) = (vec![catalog.moves[&id].phase], Vec::new());
    let (mut seen, mut marker) = (Observed { may_begin: true, ..Observed::default() }, 0);
    for _ in 0..10_000 {
        let job = catalog.moves[&id].clone();
        let command = match next_step(&job, &seen) {
            Step::End => return (phases, orders),
            Step::Wait { ms } => {
                seen.phase_ms += ms;
                continue;
            }
            Step::Order(side, work) => {
                orders.push((side, work));
                match meddle(&job, work).unwrap_or_else(|| Ok(answer(work, &mut marker, "1"))) {
                    Ok(report) => seen.note(work, report, 5),
                    Err(reason) => seen.failed(work, reason, 5),
                }
                continue;
            }
            Step::Record(to, brings) => Command::AdvanceMove { id, decided_at: job.changed_at, to, brings },
            Step::Cleaned(cleanup) => Command::NoteCleaned { id, decided_at: job.changed_at, cleanup },
        };
        *index += 1;
        assert_eq!(catalog.apply(*index, command.clone()), Outcome::Done, "{command:?}");
        let phase = catalog.moves[&id].phase;
        if phase != job.phase {
            phases.push(phase);
            seen = Observed { may_begin: true, ..Observed::default() };
        }
    }
    panic!("it does not end: {:?}", catalog.moves[&id]);
}

#[test]
fn a_move_goes_through_its_phases_and_the_target_owns_the_shard() {
    let mut catalog = catalog();
    let from = catalog.placements[&ShardId(1)];
    assert_eq!(start(&mut catalog, 10, 1), Outcome::MoveStarted { id: MoveId(10) });
    let (phases, orders) = drive(&mut catalog, MoveId(10), &mut 10, |_, _| None);
    use MovePhase::*;
    let wanted = [Planned, Preparing, Copying, Indexing, CatchingUp, Verifying, Fencing, Switching, Cleaning, Done];
    assert_eq!(phases, wanted);
    let job = &catalog.moves[&MoveId(10)];
    assert!(job.cleanups.is_empty() && !job.is_open() && job.rows == Some(3), "{job:?}");
    let now = catalog.placements[&ShardId(1)];
    assert_eq!((now.group, now.generation), (job.to, Generation(from.generation.0 + 1)));
    let at = |work| orders.iter().position(|(_, one)| *one == work).unwrap();
    let fence = at(MoveWork::Fence { pause_ms: 500 });
    assert!(
        at(MoveWork::Index) < at(MoveWork::Warm) && at(MoveWork::Warm) < at(MoveWork::Sum) && at(MoveWork::Sum) < fence
    );
    assert_eq!(
        orders[fence + 2..fence + 4],
        [(Side::Source, MoveWork::Retire), (Side::Target, MoveWork::TakeOver { marker: 3 })]
    );
}

#[test]
fn a_copy_that_stays_cold_is_as_good() {
    let mut catalog = catalog();
    start(&mut catalog, 10, 1);
    let (phases, orders) = drive(&mut catalog, MoveId(10), &mut 10, |_, work| {
        (work == MoveWork::Warm).then(|| Err("unknown order".to_owned()))
    });
    assert_eq!((phases.last(), phases.len()), (Some(&MovePhase::Done), 10), "{phases:?}");
    assert_eq!(orders.iter().filter(|(_, work)| *work == MoveWork::Warm).count(), 1);
}

#[test]
fn a_fence_that_fails_is_taken_back_and_tried_again() {
    let mut catalog = catalog();
    start(&mut catalog, 10, 1);
    let mut failed = 0;
    let (phases, orders) = drive(&mut catalog, MoveId(10), &mut 10, |job, work| {
        let fails = job.phase == MovePhase::Fencing && matches!(work, MoveWork::TakeOver { .. }) && failed < 3;
        failed += u32::from(fails);
        fails.then(|| Err("no answer".to_owned()))
    });
    assert_eq!(phases.last(), Some(&MovePhase::Done));
    let job = &catalog.moves[&MoveId(10)];
    assert_eq!((job.attempts, phases.iter().filter(|phase| **phase == MovePhase::Verifying).count()), (3, 1));
    assert_eq!(orders.iter().filter(|(_, work)| *work == MoveWork::Restore).count(), 3);
}

#[test]
fn a_fence_that_never_holds_fails_the_move_and_leaves_all_as_it_was() {
    let mut catalog = catalog();
    let before = catalog.placements.clone();
    start(&mut catalog, 10, 1);
    let (phases, _) = drive(&mut catalog, MoveId(10), &mut 10, |_, work| {
        matches!(work, MoveWork::Fence { .. }).then(|| Err("locked".to_owned()))
    });
    assert_eq!(phases.last(), Some(&MovePhase::Failed));
    let job = &catalog.moves[&MoveId(10)];
    assert!(job.error.as_ref().unwrap().contains("given up 20 times"), "{job:?}");
    assert!(job.cleanups.is_empty() && catalog.placements == before);
}

#[test]
fn writers_do_not_wait_for_a_target_that_is_lost_in_the_cut_over() {
    let mut catalog = catalog();
    let before = catalog.placements.clone();
    start(&mut catalog, 10, 1);
    let (mut lost, mut tries) = (false, 0);
    let (phases, orders) = drive(&mut catalog, MoveId(10), &mut 10, |_, work| {
        lost |= matches!(work, MoveWork::TakeOver { .. });
        let to_target = matches!(
            work,
            MoveWork::TakeOver { .. } | MoveWork::StepBack | MoveWork::RemoveSubscription | MoveWork::DropCopy
        );
        tries += u32::from(to_target && lost);
        (to_target && lost && tries < 50).then(|| Err("gone".to_owned()))
    });
    assert_eq!(phases.last(), Some(&MovePhase::Failed));
    let retired = orders.iter().position(|(_, work)| *work == MoveWork::Retire).unwrap();
    let restored = orders.iter().position(|(_, work)| *work == MoveWork::Restore).unwrap();
    assert!(restored - retired < 8, "{:?}", &orders[retired..restored]);
    assert!(catalog.moves[&MoveId(10)].cleanups.is_empty() && catalog.placements == before);
}

#[test]
fn a_host_that_says_nothing_is_given_up_in_minutes() {
    let mut seen = Observed::default();
    let mut catalog = catalog();
    start(&mut catalog, 10, 1);
    let job = MoveJob { phase: MovePhase::Indexing, ..catalog.moves[&MoveId(10)].clone() };
    let gives_up = |seen: &Observed| matches!(next_step(&job, seen), Step::Record(MovePhase::Cancelling, _));
    seen.failed(MoveWork::Index, "broke off after two hours".to_owned(), 7_200_000);
    assert!(!gives_up(&seen));
    (0..9).for_each(|_| seen.failed(MoveWork::Index, "silent".to_owned(), 36_000));
    assert!(gives_up(&seen));
}

#[test]
fn a_marker_that_was_not_there_at_first_came_late() {
    let mut seen = Observed::default();
    let mark = |seen: &mut Observed| seen.note(MoveWork::Mark, MoveReport { marker: Some(7), ..MoveReport::done() }, 1);
    let wait = MoveWork::Await { marker: 7 };
    mark(&mut seen);
    seen.note(wait, MoveReport { done: false, ..MoveReport::done() }, 1_000);
    seen.note(wait, MoveReport::done(), 3);
    assert!(seen.arrived_after_ms > Some(CLOSE_BEHIND_MS), "a second had passed");
    mark(&mut seen);
    seen.failed(wait, "no answer".to_owned(), 90_000);
    seen.note(wait, MoveReport::done(), 3);
    assert!(seen.arrived_after_ms > Some(CLOSE_BEHIND_MS));
    mark(&mut seen);
    seen.note(wait, MoveReport::done(), 3);
    assert_eq!(seen.arrived_after_ms, Some(3));
}

#[test]
fn verifications_that_fail_leave_the_cut_over_its_own_tries() {
    let mut catalog = catalog();
    start(&mut catalog, 10, 1);
    let (mut sums, mut fences) = (0, 0);
    let (phases, _) = drive(&mut catalog, MoveId(10), &mut 10, |_, work| {
        let tries = match work {
            MoveWork::Sum => &mut sums,
            MoveWork::Fence { .. } => &mut fences,
            _ => return None,
        };
        *tries += 1;
        (*tries < ATTEMPTS_MAX).then(|| Err("locked".to_owned()))
    });
    assert_eq!(phases.last(), Some(&MovePhase::Done));
    assert_eq!(catalog.moves[&MoveId(10)].attempts, ATTEMPTS_MAX - 1, "of the cut-over");
}

#[test]
fn sides_that_differ_never_cut_over() {
    let mut catalog = catalog();
    start(&mut catalog, 10, 1);
    let (phases, _) = drive(&mut catalog, MoveId(10), &mut 10, |_, work| {
        matches!(work, MoveWork::SumAt { .. }).then(|| Ok(answer(work, &mut 0, "2")))
    });
    assert!(!phases.contains(&MovePhase::Fencing));
    assert_eq!(phases.last(), Some(&MovePhase::Failed));
    let error = catalog.moves[&MoveId(10)].error.clone().unwrap();
    assert_eq!(error, "verification failed: table t differs (3 rows on the source, 3 rows on the target)");
}

#[test]
fn a_target_that_is_gone_keeps_its_records_until_it_is_back() {
    let mut catalog = catalog();
    start(&mut catalog, 10, 1);
    let mut index = 10;
    let gone = std::cell::Cell::new(false);
    let (phases, _) = {
        let mut tries = 0;
        drive(&mut catalog, MoveId(10), &mut index, |_, work| {
            if work == MoveWork::Copied {
                gone.set(true);
            }
            let to_target =
                matches!(work, MoveWork::Copied | MoveWork::RemoveSubscription | MoveWork::DropCopy | MoveWork::Index);
            tries += 1;
            (gone.get() && to_target && tries < 200).then(|| Err("gone".to_owned()))
        })
    };
    assert_eq!(phases.last(), Some(&MovePhase::Failed));
    assert!(catalog.moves[&MoveId(10)].cleanups.is_empty(), "worked off when it answers");
}

#[test]
fn a_server_that_is_gone_holds_up_only_its_own_cleanups() {
    for (gone, phase) in [(Side::Source, MovePhase::Indexing), (Side::Target, MovePhase::Cleaning)] {
        let mut catalog = catalog();
        start(&mut catalog, 10, 1);
        let (mut is_gone, mut tries) = (false, 0);
        let (_, orders) = drive(&mut catalog, MoveId(10), &mut 10, |job, work| {
            is_gone |= job.phase == phase;
            // What indexing fails of is the same to both.
            let side = match work {
                MoveWork::RemoveFeed | MoveWork::DropRetired => Side::Source,
                MoveWork::RemoveSubscription | MoveWork::DropCopy => Side::Target,
                MoveWork::Index => return is_gone.then(|| Err("gone".to_owned())),
                _ => return None,
            };
            let fails = is_gone && side == gone && tries < 100;
            tries += u32::from(fails);
            fails.then(|| Err("gone".to_owned()))
        });
        let last_of = |side| orders.iter().rposition(|(of, work)| *of == side && *work != MoveWork::Index).unwrap();
        let other = if gone == Side::Source { Side::Target } else { Side::Source };
        let between = &orders[last_of(other)..last_of(gone)];
        assert!(between.len() > 50, "{gone:?}: {} tries after the other was clean", between.len());
        assert!(catalog.moves[&MoveId(10)].cleanups.is_empty());
    }
}

#[test]
fn a_switch_that_comes_late_is_refused() {
    let mut catalog = catalog();
    start(&mut catalog, 10, 1);
    let (mut index, mut late) = (10, None);
    let mut once = true;
    drive(&mut catalog, MoveId(10), &mut index, |job, work| {
        if job.phase == MovePhase::Fencing && once && work == MoveWork::Retire {
            once = false;
            late = Some(job.changed_at);
            return Some(Err("no answer".to_owned()));
        }
        None
    });
    // The same entry, decided on in the fence that was given up, after the move went on.
    let command = Command::AdvanceMove {
        id: MoveId(10),
        decided_at: late.unwrap(),
        to: MovePhase::Switching,
        brings: Advance::default(),
    };
    let before = catalog.clone();
    assert_eq!(catalog.apply(index + 1, command), Outcome::Unchanged);
    assert_eq!(catalog, before);
}

#[test]
fn what_cannot_be_moved_is_refused_with_a_reason() {
    let mut catalog = catalog();
    let owner = catalog.placements[&ShardId(1)].group;
    let start_to = |shard, to| Command::StartMove {
        token: "t".to_owned(),
        shard: ShardId(shard),
        to: GroupId(to),
        max_write_pause_ms: 500,
    };
    assert!(matches!(refused(catalog.apply(9, start_to(77, 3))), Refusal::NoSuchShard { .. }));
    assert!(matches!(refused(catalog.apply(9, start_to(1, 77))), Refusal::NoSuchGroup { .. }));
    assert!(matches!(refused(catalog.apply(9, start_to(1, owner.0))), Refusal::OwnsAlready { .. }));
    assert_eq!(start(&mut catalog, 10, 1), Outcome::MoveStarted { id: MoveId(10) });
    assert!(matches!(refused(start(&mut catalog, 11, 1)), Refusal::MoveInProgress { .. }));
    assert_eq!(
        refused(catalog.apply(12, Command::CancelMove { id: MoveId(4) })),
        Refusal::NoSuchMove { id: MoveId(4) }
    );
    let again =
        Command::StartMove { token: "token 10".to_owned(), shard: ShardId(1), to: GroupId(3), max_write_pause_ms: 500 };
    assert_eq!(catalog.apply(13, again), Outcome::MoveStarted { id: MoveId(10) }, "asked twice, it is one move");
}

#[test]
fn collections_stay_as_they_are_while_a_copy_is_made() {
    let mut catalog = catalog();
    start(&mut catalog, 10, 1);
    let name: CollectionName = "late".parse().unwrap();
    let put = || Command::PutCollection { name: name.clone(), settings: CollectionSettings::memory_entries() };
    let advance = Command::AdvanceMove {
        id: MoveId(10),
        decided_at: CatalogVersion(10),
        to: MovePhase::Preparing,
        brings: Advance::default(),
    };
    assert_eq!(catalog.apply(11, advance), Outcome::Done);
    assert!(matches!(refused(catalog.apply(12, put())), Refusal::MoveInProgress { .. }));
    let drop = Command::DropCollection { id: CollectionId(2) };
    assert!(matches!(refused(catalog.apply(13, drop)), Refusal::MoveInProgress { .. }));
    assert_eq!(catalog.apply(14, Command::CancelMove { id: MoveId(10) }), Outcome::Done);
    assert!(matches!(catalog.apply(15, put()), Outcome::CollectionPut { .. }));
}

#[test]
fn a_snapshot_of_before_moves_can_be_read() {
    let mut value = serde_json::to_value(catalog()).unwrap();
    value.as_object_mut().unwrap().remove("moves");
    let read: Catalog = serde_json::from_value(value).unwrap();
    assert!(read.moves.is_empty());
}

#[test]
fn a_move_of_the_first_shard_leaves_reference_collections_where_they_are_read() {
    let mut catalog = catalog();
    let before = RoutingTable::new(Arc::new(catalog.clone()), None).reference().unwrap().group;
    assert_eq!(catalog.placements[&ShardId(0)].group, before);
    start(&mut catalog, 10, 0);
    assert!(RoutingTable::new(Arc::new(catalog.clone()), None).is_moving(ShardId(0)));
    drive(&mut catalog, MoveId(10), &mut 10, |_, _| None);
    let after = RoutingTable::new(Arc::new(catalog.clone()), None);
    assert!(catalog.placements[&ShardId(0)].group != before && !after.is_moving(ShardId(0)));
    assert_eq!(after.reference().unwrap().group, before);
}
