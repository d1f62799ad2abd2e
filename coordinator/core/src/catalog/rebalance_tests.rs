//! Plans carried out by commands: which are taken, what becomes of their moves, and what stopping does.

#![allow(clippy::unwrap_used)]
use super::*;
use crate::catalog::{Command, testing};
use crate::moves::Advance;
use atoll_proto::GroupId;
use atoll_proto::rebalance::RunState;

/// Two groups with two shards each; at version 3.
fn catalog() -> Catalog {
    testing::two_groups(&["w1", "w2"])
}

fn of_first_group(catalog: &Catalog) -> Vec<ShardMove> {
    let (from, to) = (GroupId(2), GroupId(3));
    let own = catalog.placements.iter().filter(|(_, placement)| placement.group == from);
    own.map(|(shard, _)| ShardMove { shard: *shard, from, to }).collect()
}

fn applied(plan_id: &str, planned_at: u64, moves: Vec<ShardMove>) -> Command {
    Command::ApplyPlan { plan_id: plan_id.to_owned(), planned_at: CatalogVersion(planned_at), parallel: 1, moves }
}

fn begin(place: usize) -> Command {
    Command::BeginPlannedMove { run_began_at: CatalogVersion(5), place }
}

fn steer(wish: Wish) -> Command {
    Command::SteerRebalance { wish }
}

fn advance(catalog: &mut Catalog, index: u64, id: MoveId, to: MovePhase) -> Outcome {
    let decided_at = catalog.moves[&id].changed_at;
    catalog.apply(index, Command::AdvanceMove { id, decided_at, to, brings: Advance::default() })
}

/// A run of the first group's two shards, the first of them under way as move 6.
fn running() -> Catalog {
    let mut catalog = catalog();
    let moves = of_first_group(&catalog);
    assert_eq!(catalog.apply(5, applied("p", 4, moves)), Outcome::Done);
    assert_eq!(catalog.apply(6, begin(0)), Outcome::MoveStarted { id: MoveId(6) });
    catalog
}

fn fates(catalog: &Catalog) -> Vec<Fate> {
    catalog.rebalance.as_ref().unwrap().moves.iter().map(|one| one.fate.clone()).collect()
}

fn state(catalog: &Catalog) -> RunState {
    catalog.rebalance.as_ref().unwrap().state()
}

#[test]
fn a_plan_is_stale_once_groups_or_moves_have_changed() {
    let mut catalog = catalog();
    let moves = of_first_group(&catalog);
    let before = catalog.clone();
    let stale = Refusal::StalePlan { planned_at: CatalogVersion(2), changed_at: CatalogVersion(3) };
    assert_eq!(catalog.apply(5, applied("p", 2, moves.clone())), Outcome::Refused(stale));
    assert_eq!(catalog, before);
    let shard = moves[0].shard;
    let start = Command::StartMove { token: "t".to_owned(), shard, to: GroupId(3), max_write_pause_ms: 500 };
    catalog.apply(5, start);
    assert!(matches!(catalog.apply(6, applied("p", 4, moves)), Outcome::Refused(Refusal::StalePlan { .. })));
}

#[test]
fn one_run_at_a_time_and_one_for_a_plan() {
    let mut catalog = running();
    let moves = of_first_group(&catalog);
    assert_eq!(catalog.apply(7, applied("p", 4, moves.clone())), Outcome::Unchanged);
    let other = catalog.apply(8, applied("q", 8, moves));
    assert_eq!(other, Outcome::Refused(Refusal::RebalanceInProgress { plan_id: "p".to_owned() }));
}

#[test]
fn a_move_is_begun_once_and_its_end_makes_way_for_the_next() {
    let mut catalog = running();
    for place in [0, 1, 7] {
        assert_eq!(catalog.apply(7, begin(place)), Outcome::Unchanged);
    }
    assert_eq!(catalog.apply(7, Command::CancelMove { id: MoveId(6) }), Outcome::Done);
    assert_eq!(catalog.apply(8, begin(1)), Outcome::Unchanged, "the first still goes back");
    assert_eq!(advance(&mut catalog, 8, MoveId(6), MovePhase::Cancelled), Outcome::Done);
    assert_eq!(fates(&catalog), [Fate::Cancelled(MoveId(6)), Fate::Waiting]);
    assert_eq!(catalog.apply(9, begin(1)), Outcome::MoveStarted { id: MoveId(9) });
    let brings = Advance { error: Some("no".to_owned()), ..Advance::default() };
    let (id, decided_at) = (MoveId(9), CatalogVersion(9));
    catalog.apply(10, Command::AdvanceMove { id, decided_at, to: MovePhase::Cancelling, brings });
    advance(&mut catalog, 11, id, MovePhase::Failed);
    assert_eq!(fates(&catalog)[1], Fate::Failed(id, "no".to_owned()));
    assert_eq!(state(&catalog), RunState::Done);
    assert_eq!(catalog.apply(12, steer(Wish::Pause)), Outcome::Refused(Refusal::NoRebalance));
}

#[test]
fn what_cannot_begin_is_skipped() {
    let mut catalog = catalog();
    let mut moves = of_first_group(&catalog);
    moves[0].from = GroupId(3);
    let other = Command::StartMove {
        token: "by hand".to_owned(),
        shard: moves[1].shard,
        to: GroupId(3),
        max_write_pause_ms: 500,
    };
    catalog.apply(5, applied("p", 4, moves));
    catalog.apply(6, other);
    assert_eq!(catalog.apply(7, begin(0)), Outcome::Done);
    assert_eq!(catalog.apply(8, begin(1)), Outcome::Done);
    let skipped = [SkipReason::Elsewhere, SkipReason::OtherMove].map(Fate::Skipped);
    assert_eq!((fates(&catalog), state(&catalog)), (skipped.to_vec(), RunState::Done));
}

#[test]
fn a_pause_lets_moves_end_and_a_cancel_sends_them_back() {
    let mut catalog = running();
    assert_eq!(catalog.apply(7, steer(Wish::Pause)), Outcome::Done);
    assert_eq!(catalog.apply(8, steer(Wish::Pause)), Outcome::Unchanged);
    assert_eq!((state(&catalog), catalog.moves[&MoveId(6)].phase), (RunState::Paused, MovePhase::Planned));
    assert_eq!(catalog.apply(9, steer(Wish::Run)), Outcome::Done);
    assert_eq!(catalog.apply(10, steer(Wish::Cancel)), Outcome::Done);
    assert_eq!((state(&catalog), catalog.moves[&MoveId(6)].phase), (RunState::Cancelling, MovePhase::Cancelling));
    assert_eq!(catalog.apply(11, steer(Wish::Run)), Outcome::Refused(Refusal::NoRebalance));
    advance(&mut catalog, 12, MoveId(6), MovePhase::Cancelled);
    assert_eq!(state(&catalog), RunState::Cancelled);
    assert_eq!(fates(&catalog), [Fate::Cancelled(MoveId(6)), Fate::Waiting]);
}

#[test]
fn a_catalog_from_before_runs_is_readable() {
    let mut old = serde_json::to_value(catalog()).unwrap();
    old.as_object_mut().unwrap().remove("rebalance");
    assert_eq!(serde_json::from_value::<Catalog>(old).unwrap(), catalog());
}
