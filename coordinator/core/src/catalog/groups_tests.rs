//! Groups that are drained and removed: what keeps them, and who may come back.

#![allow(clippy::unwrap_used)]
use super::*;
use crate::catalog::testing::{self, worker};
use crate::catalog::{Command, Worker};
use crate::moves::{Advance, Cleanup};
use atoll_proto::agent::PostgresAddress;
use atoll_proto::moves::MovePhase;
use atoll_proto::{CollectionSettings, MoveId, ShardId, WorkerId};

const FIRST: GroupId = GroupId(2);
const SECOND: GroupId = GroupId(3);
const THIRD: GroupId = GroupId(4);

/// Two groups with two shards each, and a third that came later and holds nothing; at version 5.
fn catalog() -> Catalog {
    testing::two_groups(&["w2", "w3", "w4"])
}

fn set(id: GroupId, state: GroupState) -> Command {
    Command::SetGroupState { id, state }
}

fn drain(id: GroupId) -> Command {
    set(id, GroupState::Draining)
}

fn remove(id: GroupId) -> Command {
    Command::RemoveGroup { id, lost: false }
}

fn refused(outcome: Outcome) -> Refusal {
    let Outcome::Refused(refusal) = outcome else { panic!("not refused: {outcome:?}") };
    refusal
}

fn start(shard: u32, to: GroupId) -> Command {
    Command::StartMove { token: format!("{shard} to {to}"), shard: ShardId(shard), to, max_write_pause_ms: 500 }
}

fn advance(catalog: &mut Catalog, index: u64, id: u64, to: MovePhase) {
    let id = MoveId(id);
    let decided_at = catalog.moves[&id].changed_at;
    catalog.apply(index, Command::AdvanceMove { id, decided_at, to, brings: Advance::default() });
}

/// The third group drained, at version 6.
fn drained() -> Catalog {
    let mut catalog = catalog();
    assert_eq!(catalog.apply(6, drain(THIRD)), Outcome::Done);
    catalog
}

#[test]
fn a_draining_group_takes_no_shards_until_it_is_active_again() {
    let mut catalog = drained();
    assert_eq!(catalog.apply(7, drain(THIRD)), Outcome::Unchanged);
    assert_eq!(refused(catalog.apply(7, start(0, THIRD))), Refusal::GroupDraining { group: "w4".to_owned() });
    assert_eq!(catalog.apply(7, set(THIRD, GroupState::Active)), Outcome::Done);
    assert_eq!(catalog.apply(8, start(0, THIRD)), Outcome::MoveStarted { id: MoveId(8) });
    assert!(matches!(refused(catalog.apply(9, drain(GroupId(77)))), Refusal::NoSuchGroup { .. }));
}

#[test]
fn plans_from_before_a_change_of_state_are_stale() {
    for before in [catalog(), drained()] {
        let mut catalog = before;
        let (at, state) = (catalog.version, catalog.groups[&THIRD].state);
        let other = if state == GroupState::Active { GroupState::Draining } else { GroupState::Active };
        catalog.apply(8, set(THIRD, other));
        let apply = Command::ApplyPlan { plan_id: "p".to_owned(), planned_at: at, parallel: 1, moves: Vec::new() };
        assert!(matches!(refused(catalog.apply(9, apply)), Refusal::StalePlan { .. }));
    }
}

#[test]
fn one_group_stays_active() {
    let mut catalog = drained();
    catalog.apply(7, drain(SECOND));
    assert_eq!(refused(catalog.apply(8, drain(FIRST))), Refusal::LastActiveGroup { group: "w2".to_owned() });
    assert_eq!(catalog.apply(8, remove(THIRD)), Outcome::Done);
    assert!(matches!(refused(catalog.apply(9, remove(FIRST))), Refusal::GroupNotDraining { .. }));
}

#[test]
fn only_what_is_drained_empty_and_left_by_moves_goes() {
    let mut catalog = catalog();
    assert_eq!(refused(catalog.apply(6, remove(THIRD))), Refusal::GroupNotDraining { group: "w4".to_owned() });
    catalog.apply(6, drain(SECOND));
    let holds = Refusal::GroupHoldsShards { group: "w3".to_owned(), shards: 2 };
    assert_eq!(refused(catalog.apply(7, remove(SECOND))), holds);

    // Of a move that came to nothing a server still holds a copy.
    catalog.apply(7, start(0, THIRD));
    catalog.apply(8, drain(THIRD));
    let moves = Refusal::GroupHasMove { group: "w4".to_owned(), id: MoveId(7), shard: ShardId(0) };
    assert_eq!(refused(catalog.apply(9, remove(THIRD))), moves);
    advance(&mut catalog, 9, 7, MovePhase::Preparing);
    catalog.apply(10, Command::CancelMove { id: MoveId(7) });
    advance(&mut catalog, 11, 7, MovePhase::Cancelled);
    assert!(catalog.moves[&MoveId(7)].phase.is_over());
    assert_eq!(refused(catalog.apply(12, remove(THIRD))), moves, "a cleanup record keeps it");
    let decided_at = catalog.moves[&MoveId(7)].changed_at;
    for (index, cleanup) in (12..).zip([Cleanup::Feed, Cleanup::Subscription, Cleanup::Copy, Cleanup::Retired]) {
        catalog.apply(index, Command::NoteCleaned { id: MoveId(7), decided_at, cleanup });
    }
    assert_eq!(catalog.apply(20, remove(THIRD)), Outcome::Done);
    assert_eq!(catalog.group_name(THIRD), "w4", "the move still names it");
    assert_eq!(catalog.apply(21, remove(THIRD)), Outcome::Unchanged);
}

#[test]
fn what_moves_left_on_a_server_that_is_lost_does_not_keep_it() {
    let lost = |id| Command::RemoveGroup { id, lost: true };
    let mut catalog = catalog();
    catalog.apply(6, start(0, THIRD));
    catalog.apply(7, drain(THIRD));
    advance(&mut catalog, 8, 6, MovePhase::Preparing);
    let moves = Refusal::GroupHasMove { group: "w4".to_owned(), id: MoveId(6), shard: ShardId(0) };
    assert_eq!(refused(catalog.apply(9, lost(THIRD))), moves, "the move is under way");
    catalog.apply(9, Command::CancelMove { id: MoveId(6) });
    advance(&mut catalog, 10, 6, MovePhase::Cancelled);
    assert_eq!(refused(catalog.apply(11, lost(THIRD))), moves, "the source has not cleaned up");
    let decided_at = catalog.moves[&MoveId(6)].changed_at;
    catalog.apply(11, Command::NoteCleaned { id: MoveId(6), decided_at, cleanup: Cleanup::Feed });
    assert_eq!(refused(catalog.apply(12, remove(THIRD))), moves, "it may come back");
    assert_eq!(catalog.apply(12, lost(THIRD)), Outcome::Done);
    assert!(!catalog.moves[&MoveId(6)].is_open());
    assert!(matches!(catalog.apply(13, start(0, SECOND)), Outcome::MoveStarted { .. }), "the shard may move again");
}

#[test]
fn plans_from_before_a_removal_are_stale() {
    let mut catalog = drained();
    catalog.apply(7, remove(THIRD));
    let apply = |at| Command::ApplyPlan {
        plan_id: "p".to_owned(),
        planned_at: CatalogVersion(at),
        parallel: 1,
        moves: Vec::new(),
    };
    assert!(matches!(refused(catalog.apply(8, apply(5))), Refusal::StalePlan { .. }));
}

#[test]
fn a_removed_worker_is_told_so_and_a_new_one_may_join() {
    let mut catalog = drained();
    catalog.apply(7, remove(THIRD));
    assert!(!catalog.workers.contains_key(&WorkerId(4)) && !catalog.groups.contains_key(&THIRD));
    let gone = Refusal::WorkerRemoved { name: "w4".to_owned(), group: "w4".to_owned() };
    assert_eq!(refused(catalog.apply(8, Command::RegisterWorker(worker("w4")))), gone);

    // The same data under another identity, and under another name.
    let mut same_data = RegisterWorker { uid: "new".to_owned(), ..worker("w4") };
    assert_eq!(refused(catalog.apply(8, Command::RegisterWorker(same_data.clone()))), gone);
    same_data.name = "w9".parse().unwrap();
    assert!(matches!(
        refused(catalog.apply(8, Command::RegisterWorker(same_data.clone()))),
        Refusal::WorkerRemoved { .. }
    ));

    // A new data directory, or another database of the same server.
    same_data.postgres = PostgresAddress { database: "other".to_owned(), ..same_data.postgres };
    assert!(matches!(catalog.apply(8, Command::RegisterWorker(same_data)), Outcome::WorkerRegistered { .. }));
    let mut fresh = RegisterWorker { uid: "fresh".to_owned(), ..worker("w4") };
    fresh.facts.system_identifier = "fresh".to_owned();
    assert!(matches!(catalog.apply(9, Command::RegisterWorker(fresh)), Outcome::WorkerRegistered { .. }));
    assert_eq!(
        refused(catalog.apply(10, Command::RegisterWorker(worker("w4")))),
        gone,
        "though the name is taken again"
    );
}

#[test]
fn a_worker_on_the_server_of_a_removed_one_goes_on() {
    let mut catalog = catalog();
    // Two workers of one database would be a mistake; it is not told to the wrong one.
    let Worker { facts, .. } = catalog.workers[&WorkerId(4)].clone();
    catalog.workers.get_mut(&WorkerId(3)).unwrap().facts = facts.clone();
    catalog.apply(6, drain(THIRD));
    catalog.apply(7, remove(THIRD));
    let heartbeat = RegisterWorker { facts, ..worker("w3") };
    assert_eq!(catalog.apply(8, Command::RegisterWorker(heartbeat)), Outcome::Unchanged);
}

#[test]
fn the_only_whole_copy_of_a_reference_collection_stays() {
    let reference = |index: u64, name: &str, catalog: &mut Catalog| {
        let settings =
            CollectionSettings { distribution: Distribution::Reference, ..CollectionSettings::memory_entries() };
        catalog.apply(index, Command::PutCollection { name: name.parse().unwrap(), settings });
    };
    let mut catalog = Catalog::default();
    catalog.apply(1, testing::init(4, 1));
    catalog.apply(2, Command::RegisterWorker(worker("w2")));
    reference(3, "languages", &mut catalog);
    catalog.apply(4, Command::RegisterWorker(worker("w4")));
    catalog.placements.values_mut().for_each(|placement| placement.group = THIRD);
    catalog.apply(5, drain(FIRST));
    let OnlyWhole { group, name, next } = only_whole(refused(catalog.apply(6, remove(FIRST))));
    assert_eq!((group.as_str(), name.as_str(), next.as_str()), ("w2", "languages", "w4"));
    // Made anew, all copies are whole.
    let id = catalog.collection(&"languages".parse().unwrap()).unwrap().0;
    catalog.apply(6, Command::DropCollection { id });
    catalog.apply(7, Command::SettleCollection { id, changed_at: CatalogVersion(6) });
    reference(8, "languages", &mut catalog);
    assert_eq!(catalog.apply(9, remove(FIRST)), Outcome::Done);
}

struct OnlyWhole {
    group: String,
    name: atoll_proto::CollectionName,
    next: String,
}

fn only_whole(refusal: Refusal) -> OnlyWhole {
    let Refusal::OnlyWholeCopy { group, name, next } = refusal else { panic!("another refusal: {refusal}") };
    OnlyWhole { group, name, next }
}

#[test]
fn what_knows_nothing_of_leaving_groups_does_not_read_such_a_catalog() {
    assert_eq!(catalog().least_format(), 1);
    let mut catalog = drained();
    assert_eq!((catalog.least_format(), drain(THIRD).format(), remove(THIRD).format()), (4, 4, 4));
    catalog.apply(7, set(THIRD, GroupState::Active));
    assert_eq!(catalog.least_format(), 4, "plans from before that are stale");
    catalog.apply(8, drain(THIRD));
    catalog.apply(9, remove(THIRD));
    assert_eq!(catalog.least_format(), 4, "its worker may not come back");
}

#[test]
fn a_catalog_from_before_groups_could_go_is_readable() {
    let mut old = serde_json::to_value(catalog()).unwrap();
    old.as_object_mut().unwrap().remove("removed_groups");
    old.as_object_mut().unwrap().remove("schedule");
    for group in old["groups"].as_object_mut().unwrap().values_mut() {
        group.as_object_mut().unwrap().remove("state");
        group.as_object_mut().unwrap().remove("state_changed_at");
    }
    assert_eq!(serde_json::from_value::<Catalog>(old).unwrap(), catalog());
}
