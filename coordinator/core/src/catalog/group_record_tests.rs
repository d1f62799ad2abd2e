//! Groups with standbys: founded, joined, changed, removed.

#![allow(clippy::unwrap_used)]
use super::*;
use crate::catalog::testing::{self, member, worker};
use crate::catalog::{Command, Outcome};
use crate::moves::Advance;
use crate::routing::{RoutingTable, ShardRoute};
use atoll_proto::admin::GroupState;
use atoll_proto::group::{Incarnation, Stamp};
use atoll_proto::moves::MovePhase;
use atoll_proto::{Generation, MoveId};
use std::sync::Arc;

const GROUP: GroupId = GroupId(2);

fn disk(worker: u64) -> Disk {
    Disk { worker: WorkerId(worker), incarnation: Incarnation(1) }
}

fn refused(outcome: Outcome) -> Refusal {
    let Outcome::Refused(refusal) = outcome else { panic!("not refused: {outcome:?}") };
    refusal
}

fn register(catalog: &mut Catalog, index: u64, worker: RegisterWorker) -> Outcome {
    catalog.apply(index, Command::RegisterWorker(worker))
}

/// One group of the workers 2, 3 and 4, founded by the first of them; at version 4.
fn three() -> Catalog {
    let mut catalog = Catalog::default();
    catalog.apply(1, testing::init_replicated(4, 1, 3));
    for (index, name) in (2..).zip(["w2", "w3", "w4"]) {
        let registered = Outcome::WorkerRegistered { worker: WorkerId(index), group: GROUP };
        assert_eq!(register(&mut catalog, index, member(name, "g")), registered);
    }
    catalog
}

fn record(catalog: &Catalog) -> &GroupRecord {
    catalog.groups[&GROUP].record.as_ref().unwrap()
}

fn change(catalog: &mut Catalog, index: u64, change: Change) -> Outcome {
    let decided_at = record(catalog).changed_at;
    catalog.apply(index, Command::ChangeGroup { id: GROUP, decided_at, change })
}

/// With all three in sync; at version 5.
fn in_sync() -> Catalog {
    let mut catalog = three();
    let all: BTreeSet<Disk> = (2..5).map(disk).collect();
    assert_eq!(change(&mut catalog, 5, Change::Vote { voters: all.clone(), held_by: all }), Outcome::Done);
    catalog
}

#[test]
fn groups_of_one_worker_have_no_record() {
    let mut catalog = Catalog::default();
    catalog.apply(1, testing::init(4, 1));
    register(&mut catalog, 2, member("w2", "g"));
    assert_eq!((&catalog.groups[&GROUP].record, catalog.least_format()), (&None, 1));
    assert!(matches!(refused(register(&mut catalog, 3, member("w3", "g"))), Refusal::GroupTaken { .. }));
    let fence = Command::ChangeGroup { id: GROUP, decided_at: CatalogVersion(2), change: Change::Fence { wish: None } };
    assert_eq!(catalog.apply(3, fence), Outcome::Unchanged);
    assert!(!serde_json::to_string(&catalog.groups).unwrap().contains("record"));
}

#[test]
fn the_first_founds_the_group_and_the_others_join_until_it_is_full() {
    let mut catalog = three();
    let workers = (2..5).map(WorkerId).collect();
    let founded = GroupRecord::founded(disk(2), workers, 2, CatalogVersion(4));
    let group = &catalog.groups[&GROUP];
    assert_eq!((record(&catalog), group.primary, group.generation), (&founded, WorkerId(2), Generation(1)));
    assert_eq!((group.members.len(), &group.in_sync), (3, &vec![WorkerId(2)]));
    let full = Refusal::GroupFull { group: "g".to_owned(), replicas: 3 };
    assert_eq!(refused(register(&mut catalog, 5, member("w5", "g"))), full);
    assert_eq!(register(&mut catalog, 5, member("w3", "g")), Outcome::Unchanged, "a heartbeat");
    assert_eq!(record(&catalog).changed_at, CatalogVersion(4));
}

#[test]
fn an_agent_that_knows_nothing_of_groups_is_refused() {
    let mut catalog = three();
    for knows_nothing in [worker("w9"), RegisterWorker { incarnation: None, ..member("w2", "g") }] {
        let refusal = refused(register(&mut catalog, 5, knows_nothing));
        assert!(matches!(refusal, Refusal::KnowsNoGroups { replicas: 3, .. }), "{refusal}");
    }
}

#[test]
fn shards_wait_for_groups_that_have_all_their_workers() {
    let mut catalog = Catalog::default();
    catalog.apply(1, testing::init_replicated(4, 2, 2));
    let names = [("w2", "g"), ("w3", "h"), ("w4", "g"), ("w5", "i"), ("w6", "h")];
    for (index, (name, group)) in (2..).zip(names) {
        assert!(catalog.placements.is_empty(), "before {name}");
        register(&mut catalog, index, member(name, group));
    }
    let owners: BTreeSet<GroupId> = catalog.placements.values().map(|placement| placement.group).collect();
    assert_eq!(owners, BTreeSet::from([GroupId(2), GroupId(3)]), "the third is not full");
}

#[test]
fn a_copy_has_the_identity_of_the_data_it_was_made_of() {
    let mut catalog = three();
    let mut copy = member("w3", "g");
    copy.facts.system_identifier = "system of w2".to_owned();
    assert!(matches!(register(&mut catalog, 5, copy.clone()), Outcome::WorkerRegistered { .. }));
    assert_eq!(register(&mut catalog, 6, copy), Outcome::Unchanged);
    let back = member("w3", "g");
    assert!(matches!(refused(register(&mut catalog, 6, back)), Refusal::OtherData { .. }), "it was a copy");
    let mut wiped = member("w2", "g");
    wiped.facts.system_identifier = "wiped".to_owned();
    assert!(matches!(refused(register(&mut catalog, 6, wiped)), Refusal::OtherData { .. }));
}

#[test]
fn a_member_that_is_lost_is_replaced_by_another_of_its_name_once_nothing_is_counted_on_it() {
    let mut catalog = in_sync();
    let mut another = member("w4", "g");
    (another.uid, another.agent_url) = ("another".to_owned(), "http://10.0.0.9:7800".to_owned());
    another.facts.system_identifier = "made anew".to_owned();
    let taken = Refusal::NameTaken { name: "w4".to_owned() };
    assert_eq!(refused(register(&mut catalog, 6, another.clone())), taken, "it votes");
    let (voters, held_by): (BTreeSet<Disk>, _) = ([2, 3].map(disk).into(), [2, 3].map(disk).into());
    assert_eq!(change(&mut catalog, 6, Change::List { listed: voters.clone() }), Outcome::Done);
    assert_eq!(change(&mut catalog, 7, Change::Vote { voters, held_by }), Outcome::Done);
    let replaced = Outcome::WorkerRegistered { worker: WorkerId(4), group: GROUP };
    assert_eq!(register(&mut catalog, 8, another.clone()), replaced);
    assert_eq!(catalog.workers[&WorkerId(4)].agent_url, "http://10.0.0.9:7800");
    another.facts.system_identifier = "system of w2".to_owned();
    assert_eq!(register(&mut catalog, 9, another), replaced, "it was copied");
    assert_eq!(refused(register(&mut catalog, 10, member("w4", "g"))), Refusal::Replaced { name: "w4".to_owned() });
}

#[test]
fn requests_go_to_whom_the_record_made_active_last() {
    let mut catalog = in_sync();
    let primary = |catalog: &Catalog| {
        let group = &catalog.groups[&GROUP];
        (group.primary, group.generation, catalog.primary(group).name.to_string())
    };
    assert_eq!(catalog.groups[&GROUP].in_sync, [2, 3, 4].map(WorkerId));
    let before = (WorkerId(2), Generation(1), "w2".to_owned());
    for (index, step) in (6..).zip([Change::Fence { wish: None }, Change::Promote { candidate: disk(4) }]) {
        assert_eq!(change(&mut catalog, index, step), Outcome::Done);
        assert_eq!(primary(&catalog), before);
    }
    assert_eq!(change(&mut catalog, 8, Change::Activate), Outcome::Done);
    assert_eq!(primary(&catalog), (WorkerId(4), Generation(2), "w4".to_owned()));
    assert_eq!(catalog.version, CatalogVersion(8));
    let table = RoutingTable::new(Arc::new(catalog), None);
    let route = table.shards().first().unwrap();
    assert_eq!((route.primary.worker, route.group_generation), (WorkerId(4), Generation(2)));
    assert_eq!(table.primaries().len(), 1);
}

#[test]
fn standbys_in_sync_may_be_read() {
    let standbys = |catalog: &Catalog| -> Vec<u64> {
        let table = RoutingTable::new(Arc::new(catalog.clone()), None);
        let of = |route: &ShardRoute| route.standbys.iter().map(|standby| standby.worker.0).collect();
        let copies: Vec<Vec<u64>> = table.copies().iter().map(of).collect();
        let shards: Vec<Vec<u64>> = table.shards().iter().map(of).collect();
        assert!(shards.iter().chain(&copies).all(|standbys| *standbys == shards[0]));
        shards[0].clone()
    };
    assert_eq!(standbys(&three()), [0; 0], "they hold nothing yet");
    let mut catalog = in_sync();
    assert_eq!(standbys(&catalog), [3, 4]);
    for (index, step) in
        (6..).zip([Change::Fence { wish: None }, Change::Promote { candidate: disk(4) }, Change::Activate])
    {
        assert_eq!(change(&mut catalog, index, step), Outcome::Done);
    }
    assert_eq!(standbys(&catalog), [2, 3]);
    assert_eq!(change(&mut catalog, 9, Change::Mend { disk: Some(disk(2)) }), Outcome::Done);
    assert_eq!(standbys(&catalog), [3], "what is being mended answers nothing");
}

#[test]
fn what_may_not_follow_changes_nothing() {
    let mut catalog = in_sync();
    let before = catalog.clone();
    let stale = |change| Command::ChangeGroup { id: GROUP, decided_at: CatalogVersion(4), change };
    assert_eq!(catalog.apply(6, stale(Change::Fence { wish: None })), Outcome::Unchanged);
    assert_eq!(change(&mut catalog, 6, Change::Activate), Outcome::Unchanged);
    let nowhere =
        Command::ChangeGroup { id: GroupId(77), decided_at: CatalogVersion(5), change: Change::Fence { wish: None } };
    assert_eq!(catalog.apply(6, nowhere), Outcome::Unchanged);
    assert_eq!(catalog, before);
}

#[test]
fn moves_go_to_and_from_the_primary() {
    let mut catalog = in_sync();
    for (index, name) in (6..).zip(["w6", "w7", "w8"]) {
        register(&mut catalog, index, member(name, "h"));
    }
    for (index, step) in
        (9..).zip([Change::Fence { wish: None }, Change::Promote { candidate: disk(3) }, Change::Activate])
    {
        change(&mut catalog, index, step);
    }
    let (shard, to) = (atoll_proto::ShardId(0), GroupId(6));
    let started = catalog.apply(12, Command::StartMove { token: "t".to_owned(), shard, to, max_write_pause_ms: 500 });
    let Outcome::MoveStarted { id } = started else { panic!("not started: {started:?}") };
    let subject = catalog.move_subject(id).unwrap();
    assert_eq!(subject.source, catalog.workers[&WorkerId(3)].postgres);
    assert_eq!(subject.target_system, "system of w6");
}

/// A move of the first shard to a second group, in its copying; at version 11.
fn copying() -> (Catalog, MoveId) {
    let mut catalog = in_sync();
    for (index, name) in (6..).zip(["w6", "w7", "w8"]) {
        register(&mut catalog, index, member(name, "h"));
    }
    let (id, changed_at) = catalog.collections.iter().map(|(id, one)| (*id, one.changed_at)).next().unwrap();
    catalog.apply(9, Command::SettleCollection { id, changed_at });
    let (shard, to) = (atoll_proto::ShardId(0), GroupId(6));
    let started = catalog.apply(9, Command::StartMove { token: "t".to_owned(), shard, to, max_write_pause_ms: 500 });
    let Outcome::MoveStarted { id } = started else { panic!("not started: {started:?}") };
    for (index, to) in (10..).zip([MovePhase::Preparing, MovePhase::Copying]) {
        assert_eq!(advance(&mut catalog, index, id, to), Outcome::Done);
    }
    (catalog, id)
}

fn advance(catalog: &mut Catalog, index: u64, id: MoveId, to: MovePhase) -> Outcome {
    let decided_at = catalog.moves[&id].changed_at;
    catalog.apply(index, Command::AdvanceMove { id, decided_at, to, brings: Advance::default() })
}

fn replace_primary(catalog: &mut Catalog, index: u64) {
    let steps = [Change::Fence { wish: None }, Change::Promote { candidate: disk(3) }, Change::Activate];
    for (index, step) in (index..).zip(steps) {
        assert_eq!(change(catalog, index, step), Outcome::Done);
    }
}

#[test]
fn what_a_move_began_is_given_up_with_the_primary_it_was_begun_on() {
    let (mut catalog, id) = copying();
    replace_primary(&mut catalog, 12);
    let job = &catalog.moves[&id];
    assert_eq!((job.phase, job.changed_at), (MovePhase::Cancelling, CatalogVersion(14)));
    assert_eq!(job.error.as_deref(), Some("group g got another primary meanwhile; start the move again"));
    assert_eq!(advance(&mut catalog, 15, id, MovePhase::Indexing), Outcome::Unchanged);
}

#[test]
fn a_move_that_has_switched_goes_on_over_a_change_of_primary() {
    let (mut catalog, id) = copying();
    let rest =
        [MovePhase::Indexing, MovePhase::CatchingUp, MovePhase::Verifying, MovePhase::Fencing, MovePhase::Switching];
    for (index, to) in (12..).zip(rest) {
        assert_eq!(advance(&mut catalog, index, id, to), Outcome::Done);
    }
    replace_primary(&mut catalog, 17);
    assert_eq!(catalog.moves[&id].phase, MovePhase::Switching);
}

#[test]
fn a_removed_group_takes_all_its_workers_along() {
    let mut catalog = in_sync();
    for (index, name) in (6..).zip(["w6", "w7", "w8"]) {
        register(&mut catalog, index, member(name, "h"));
    }
    let id = GroupId(6);
    assert_eq!(catalog.apply(9, Command::SetGroupState { id, state: GroupState::Draining }), Outcome::Done);
    assert_eq!(catalog.apply(10, Command::RemoveGroup { id, lost: false }), Outcome::Done);
    assert_eq!(catalog.workers.len(), 3);
    for name in ["w6", "w7", "w8"] {
        let refusal = refused(register(&mut catalog, 11, member(name, "h")));
        assert!(matches!(refusal, Refusal::WorkerRemoved { .. }), "{refusal}");
    }
}

#[test]
fn what_knows_nothing_of_standbys_does_not_read_such_a_catalog() {
    let fence = Change::Fence { wish: None };
    let command = Command::ChangeGroup { id: GROUP, decided_at: CatalogVersion(4), change: fence };
    assert_eq!((three().least_format(), command.format()), (8, 8));
    assert_eq!([1, 2].map(|replicas| testing::init_replicated(4, 1, replicas).format()), [1, 8]);
    let read: Catalog = serde_json::from_slice(&serde_json::to_vec(&in_sync()).unwrap()).unwrap();
    assert_eq!(read, in_sync());
    let mut stamped = in_sync();
    let GroupRecord { primary, changed_at, .. } = stamped.groups[&GROUP].record.clone().unwrap();
    let stamp = Stamp { incarnation: primary.incarnation, count: 3, lot: u64::MAX };
    let change = Change::Stamp { stamps: vec![(primary.worker, stamp)] };
    let stamps = Command::ChangeGroup { id: GROUP, decided_at: changed_at, change };
    for command in [command, stamps.clone()] {
        let read: Command = serde_json::from_slice(&serde_json::to_vec(&command).unwrap()).unwrap();
        assert_eq!(read, command);
    }
    assert_eq!(stamped.apply(99, stamps.clone()), Outcome::Done);
    assert_eq!((stamped.least_format(), stamps.format()), (10, 10));
    let read: Catalog = serde_json::from_slice(&serde_json::to_vec(&stamped).unwrap()).unwrap();
    assert_eq!(read, stamped);
}

#[test]
fn a_catalog_and_an_init_from_before_groups_had_standbys_are_readable() {
    let mut catalog = Catalog::default();
    catalog.apply(1, testing::init(4, 1));
    let mut old = serde_json::to_value(&catalog).unwrap();
    old["cluster"].as_object_mut().unwrap().remove("replicas");
    assert_eq!(serde_json::from_value::<Catalog>(old).unwrap(), catalog);
    let mut old = serde_json::to_value(testing::init(4, 1)).unwrap();
    old.as_object_mut().unwrap().remove("replicas");
    assert_eq!(serde_json::from_value::<Command>(old).unwrap(), testing::init(4, 1));
}
