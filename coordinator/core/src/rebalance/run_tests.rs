//! Runs, carried out in any order of ends, by leaders that forget everything.

#![allow(clippy::unwrap_used)]
use super::*;
use atoll_proto::GroupId;
use proptest::prelude::*;

fn run(shards: &[u32], parallel: u32) -> RebalanceRun {
    let planned = |shard: &u32| ShardMove { shard: ShardId(*shard), from: GroupId(1), to: GroupId(2) };
    let moves = shards.iter().map(|shard| RunMove { planned: planned(shard), fate: Fate::Waiting }).collect();
    let began_at = CatalogVersion(7);
    RebalanceRun { plan_id: "p".to_owned(), began_at, parallel, wish: Wish::Run, failures: 0, moves, scheduled: None }
}

#[test]
fn moves_begin_in_their_order_and_no_more_than_allowed() {
    let mut run = run(&[5, 6, 5, 7], 2);
    assert_eq!(run.next(), Some(0));
    run.moves[0].fate = Fate::UnderWay(MoveId(10));
    assert_eq!(run.next(), Some(1));
    run.moves[1].fate = Fate::UnderWay(MoveId(11));
    assert_eq!(run.next(), None);
    run.note_end(MoveId(11), Fate::Moved(MoveId(11)));
    assert_eq!(run.next(), Some(3), "shard 5 is still on its way");
    run.note_end(MoveId(10), Fate::Moved(MoveId(10)));
    assert_eq!(run.next(), Some(2));
}

#[test]
fn a_run_that_waits_is_paused_and_one_without_anything_left_is_over() {
    let mut run = run(&[1, 2], 1);
    run.wish = Wish::Pause;
    assert_eq!((run.state(), run.next(), run.is_open()), (RunState::Paused, None, true));
    run.wish = Wish::Cancel;
    assert_eq!((run.state(), run.is_open()), (RunState::Cancelled, false));
    run.moves[0].fate = Fate::UnderWay(MoveId(9));
    assert_eq!((run.state(), run.is_open()), (RunState::Cancelling, true));
    run.wish = Wish::Run;
    run.note_end(MoveId(9), Fate::Moved(MoveId(9)));
    assert_eq!(run.state(), RunState::Running);
    run.moves[1].fate = Fate::Skipped(SkipReason::Elsewhere);
    assert_eq!(run.state(), RunState::Done);
}

#[test]
fn failures_are_kept_and_pause_the_run() {
    let mut run = run(&[1, 2, 3, 4], 1);
    for id in 1..=3 {
        let place = run.next().unwrap();
        run.moves[place].fate = Fate::UnderWay(MoveId(id));
        run.note_end(MoveId(id), Fate::Failed(MoveId(id), "disk full".to_owned()));
    }
    assert_eq!((run.next(), run.state(), run.failures), (None, RunState::Paused, FAILURES_MAX));
    run.note_end(MoveId(1), Fate::Moved(MoveId(1)));
    assert_eq!(run.moves[0].fate, Fate::Failed(MoveId(1), "disk full".to_owned()), "an end comes once");
}

proptest! {
    /// Each step is decided from the record as a new leader would read it.
    #[test]
    fn every_run_ends_with_each_move_begun_once(
        shards in prop::collection::vec(0_u32..6, 0..20),
        parallel in 1_u32..4,
        ends in prop::collection::vec((any::<prop::sample::Index>(), 0_u8..8), 40),
    ) {
        let mut run = run(&shards, parallel);
        let mut begun = vec![0; shards.len()];
        let mut ends = ends.into_iter().cycle();
        while run.is_open() {
            run = serde_json::from_str(&serde_json::to_string(&run).unwrap()).unwrap();
            if let Some(place) = run.next() {
                begun[place] += 1;
                run.moves[place].fate = Fate::UnderWay(MoveId(place as u64));
                let moving: Vec<ShardId> = run.under_way().map(|(_, shard)| shard).collect();
                prop_assert!(moving.len() <= parallel as usize);
                let shards: std::collections::BTreeSet<&ShardId> = moving.iter().collect();
                prop_assert_eq!(shards.len(), moving.len(), "a shard moves once at a time");
                continue;
            }
            let moving: Vec<MoveId> = run.under_way().map(|(id, _)| id).collect();
            if moving.is_empty() {
                prop_assert_eq!(run.state(), RunState::Paused);
                prop_assert!(run.failures >= FAILURES_MAX);
                (run.wish, run.failures) = (Wish::Run, 0);
                continue;
            }
            let (which, how) = ends.next().unwrap();
            let id = *which.get(&moving);
            run.note_end(id, if how == 0 { Fate::Failed(id, String::new()) } else { Fate::Moved(id) });
        }
        prop_assert!(begun.iter().all(|times| *times == 1), "{begun:?}");
    }
}
