//! Every command on small catalogs, and what holds after any of them.

#![allow(clippy::unwrap_used)]
use super::*;
use crate::catalog::ScheduledPlan;
use crate::catalog::testing::{self, worker};
use crate::failover::Change;
use crate::moves::{Advance, Cleanup};
use crate::rebalance::{ShardMove, Wish};
use atoll_proto::agent::PostgresAddress;
use atoll_proto::group::{Disk, Incarnation};
use atoll_proto::moves::MovePhase;
use atoll_proto::rebalance::RebalancePolicy;
use atoll_proto::{MoveId, ShardId};
use proptest::prelude::*;

fn init(initial_groups: u32) -> Command {
    testing::init(12, initial_groups)
}

fn collection(name: &str) -> CollectionName {
    CollectionName::parse(name).unwrap()
}

fn refused(outcome: Outcome) -> Refusal {
    let Outcome::Refused(refusal) = outcome else { panic!("not refused: {outcome:?}") };
    refusal
}

#[test]
fn init_happens_once_and_makes_memory_entries() {
    let mut catalog = Catalog::default();
    catalog.apply(2, init(3));
    let before = catalog.clone();
    assert!(matches!(refused(catalog.apply(3, init(1))), Refusal::AlreadyInitialised { .. }));
    assert_eq!(catalog, before);
    let (_, memory) = catalog.collection(&collection("memory_entries")).unwrap();
    assert_eq!(memory.settings.dimensions, Some(384));
}

#[test]
fn nothing_works_before_init() {
    let mut catalog = Catalog::default();
    assert_eq!(refused(catalog.apply(1, Command::RegisterWorker(worker("w1")))), Refusal::NotInitialised);
}

#[test]
fn shards_are_placed_when_the_last_initial_group_registers_and_never_again() {
    let mut catalog = Catalog::default();
    catalog.apply(2, init(3));
    catalog.apply(3, Command::RegisterWorker(worker("w1")));
    catalog.apply(4, Command::RegisterWorker(worker("w2")));
    assert!(catalog.placements.is_empty());
    catalog.apply(5, Command::RegisterWorker(worker("w3")));
    assert_eq!(catalog.placements.len(), 12);
    let placed = catalog.placements.clone();
    catalog.apply(6, Command::RegisterWorker(worker("w4")));
    assert_eq!(catalog.placements, placed);
    assert_eq!(catalog.desired_state(GroupId(3)).unwrap().shards.len(), 4);
    assert!(catalog.desired_state(GroupId(6)).unwrap().shards.is_empty());
}

#[test]
fn a_heartbeat_changes_nothing_and_an_impostor_is_refused() {
    let mut catalog = Catalog::default();
    catalog.apply(2, init(1));
    catalog.apply(3, Command::RegisterWorker(worker("w1")));
    assert_eq!(catalog.apply(4, Command::RegisterWorker(worker("w1"))), Outcome::Unchanged);
    assert_eq!(catalog.version, CatalogVersion(3));
    let other_uid = RegisterWorker { uid: "x".to_owned(), ..worker("w1") };
    assert!(matches!(refused(catalog.apply(5, Command::RegisterWorker(other_uid))), Refusal::NameTaken { .. }));
    let mut other_data = worker("w1");
    other_data.facts.system_identifier = "wiped".to_owned();
    assert!(matches!(refused(catalog.apply(6, Command::RegisterWorker(other_data))), Refusal::OtherData { .. }));
    let second = RegisterWorker { group: Some(GroupName::parse("w1").unwrap()), ..worker("w2") };
    assert!(matches!(refused(catalog.apply(7, Command::RegisterWorker(second))), Refusal::GroupTaken { .. }));
    let moved = RegisterWorker { agent_url: "http://127.0.0.1:9".to_owned(), ..worker("w1") };
    let outcome = catalog.apply(8, Command::RegisterWorker(moved));
    assert_eq!(outcome, Outcome::WorkerRegistered { worker: WorkerId(3), group: GroupId(3) });
}

#[test]
fn a_primary_that_is_followed_elsewhere_has_a_generation_of_its_own() {
    let mut catalog = Catalog::default();
    catalog.apply(2, init(1));
    let at = |port, follows| {
        let postgres = PostgresAddress { port, ..worker("w1").postgres };
        Command::RegisterWorker(RegisterWorker { postgres, follows, ..worker("w1") })
    };
    catalog.apply(3, at(1, true));
    for (index, port, follows, generation) in
        [(4, 1, true, 1), (5, 2, true, 2), (6, 2, true, 2), (7, 1, true, 3), (8, 9, false, 3)]
    {
        assert_eq!(at(port, follows).format(), if follows { 9 } else { 1 });
        catalog.apply(index, at(port, follows));
        assert_eq!(catalog.groups[&GroupId(3)].generation, Generation(generation), "entry {index}");
        assert_eq!(catalog.workers[&WorkerId(3)].postgres.port, port);
    }
}

#[test]
fn a_collection_is_made_settled_changed_and_dropped() {
    let mut catalog = Catalog::default();
    catalog.apply(2, init(1));
    let settings = CollectionSettings { dimensions: Some(8), ..CollectionSettings::memory_entries() };
    let put =
        |settings: &CollectionSettings| Command::PutCollection { name: collection("x"), settings: settings.clone() };
    let made = Outcome::CollectionPut { id: CollectionId(3), changed_at: CatalogVersion(3) };
    assert_eq!(catalog.apply(3, put(&settings)), made);
    assert_eq!(catalog.apply(4, put(&settings)), made);
    let settle = |at| Command::SettleCollection { id: CollectionId(3), changed_at: CatalogVersion(at) };
    assert_eq!(catalog.apply(5, settle(2)), Outcome::Unchanged);
    assert_eq!(catalog.apply(6, settle(3)), Outcome::Done);
    assert_eq!(catalog.collection(&collection("x")).unwrap().1.state, CollectionState::Active);

    let other = CollectionSettings { dimensions: Some(9), ..settings.clone() };
    assert!(matches!(refused(catalog.apply(7, put(&other))), Refusal::SettingsConflict { .. }));
    let ttl = CollectionSettings { ttl_seconds: Some(60), ..settings.clone() };
    catalog.apply(8, put(&ttl));
    assert!(!catalog.collection(&collection("x")).unwrap().1.settled);
    assert_eq!(catalog.collection(&collection("x")).unwrap().1.state, CollectionState::Active);
    catalog.apply(9, settle(8));

    catalog.apply(10, Command::DropCollection { id: CollectionId(3) });
    assert!(matches!(refused(catalog.apply(11, put(&settings))), Refusal::BeingDropped { .. }));
    catalog.apply(12, settle(8));
    assert!(catalog.collection(&collection("x")).is_some());
    catalog.apply(13, settle(10));
    assert!(catalog.collection(&collection("x")).is_none());
    assert_eq!(
        catalog.apply(14, put(&settings)),
        Outcome::CollectionPut { id: CollectionId(14), changed_at: CatalogVersion(14) }
    );
}

#[test]
fn a_newcomer_that_asks_twice_gets_one_id() {
    let mut catalog = Catalog::default();
    catalog.apply(2, init(1));
    let add = || Command::AddCoordinator { http: "http://a".to_owned(), internal: "http://b".to_owned() };
    assert_eq!(catalog.apply(3, add()), Outcome::CoordinatorAdded { id: CoordinatorId(3) });
    assert_eq!(catalog.apply(4, add()), Outcome::CoordinatorAdded { id: CoordinatorId(3) });
    assert_eq!(catalog.apply(5, Command::RemoveCoordinator { id: CoordinatorId(3) }), Outcome::Done);
    assert_eq!(catalog.apply(6, Command::RemoveCoordinator { id: CoordinatorId(3) }), Outcome::Unchanged);
    assert_eq!(catalog.apply(7, add()), Outcome::CoordinatorAdded { id: CoordinatorId(7) });
}

#[test]
fn a_drop_that_comes_twice_spares_what_was_made_anew() {
    let mut catalog = Catalog::default();
    catalog.apply(2, init(1));
    let put = || Command::PutCollection { name: collection("x"), settings: CollectionSettings::memory_entries() };
    let drop = || Command::DropCollection { id: CollectionId(3) };
    catalog.apply(3, put());
    let dropping = Outcome::CollectionPut { id: CollectionId(3), changed_at: CatalogVersion(4) };
    assert_eq!(catalog.apply(4, drop()), dropping);
    assert_eq!(catalog.apply(5, drop()), dropping);
    catalog.apply(6, Command::SettleCollection { id: CollectionId(3), changed_at: CatalogVersion(4) });
    catalog.apply(7, put());
    assert_eq!(catalog.apply(8, drop()), Outcome::Unchanged);
    assert_eq!(catalog.collection(&collection("x")).unwrap().1.state, CollectionState::Creating);
}

#[test]
fn catching_up_changes_nothing() {
    let mut catalog = Catalog::default();
    catalog.apply(2, init(1));
    let before = catalog.clone();
    assert_eq!(catalog.apply(3, Command::CatchUp), Outcome::Unchanged);
    assert_eq!(catalog, before);
}

fn any_phase() -> impl Strategy<Value = MovePhase> {
    use MovePhase::*;
    let all = [
        Preparing, Copying, Indexing, CatchingUp, Verifying, Fencing, Switching, Cleaning, Done, Cancelling, Cancelled,
        Failed,
    ];
    prop::sample::select(all.to_vec())
}

fn any_cleanup() -> impl Strategy<Value = Cleanup> {
    prop::sample::select(vec![Cleanup::Feed, Cleanup::Subscription, Cleanup::Copy, Cleanup::Retired])
}

fn any_change() -> impl Strategy<Value = Change> {
    let disk = (3_u64..12).prop_map(|worker| Disk { worker: WorkerId(worker), incarnation: Incarnation(1) });
    let disks = prop::collection::btree_set(disk.clone(), 1..4);
    prop_oneof![
        Just(Change::Fence { wish: None }),
        Just(Change::Activate),
        disk.clone().prop_map(|candidate| Change::Promote { candidate }),
        disk.prop_map(|survivor| Change::AcceptLoss { survivor }),
        disks.prop_map(|voters| Change::Vote { held_by: voters.clone(), voters }),
    ]
}

fn any_command() -> impl Strategy<Value = Command> {
    let name = prop::sample::select(vec!["a", "b", "memory_entries"]).prop_map(collection);
    let settings = (1_u32..3, prop::option::of(1_u32..3)).prop_map(|(dimensions, ttl_seconds)| CollectionSettings {
        dimensions: Some(dimensions),
        ttl_seconds,
        ..CollectionSettings::memory_entries()
    });
    prop_oneof![
        (1_u32..4).prop_map(|replicas| testing::init_replicated(12, 2, replicas)),
        (0_u8..4).prop_map(|i| Command::RegisterWorker(worker(&format!("w{i}")))),
        (0_u8..4, 0_u8..4).prop_map(|(i, j)| {
            Command::RegisterWorker(RegisterWorker {
                group: Some(GroupName::parse(&format!("g{j}")).unwrap()),
                ..worker(&format!("w{i}"))
            })
        }),
        (0_u8..6, 0_u8..3)
            .prop_map(|(i, j)| Command::RegisterWorker(testing::member(&format!("w{i}"), &format!("g{j}")))),
        (3_u64..9, 2_u64..40, any_change()).prop_map(|(id, at, change)| Command::ChangeGroup {
            id: GroupId(id),
            decided_at: CatalogVersion(at),
            change,
        }),
        (0_u8..3).prop_map(|i| Command::AddCoordinator { http: format!("h{i}"), internal: format!("i{i}") }),
        (1_u64..40).prop_map(|id| Command::RemoveCoordinator { id: CoordinatorId(id) }),
        (name, settings).prop_map(|(name, settings)| Command::PutCollection { name, settings }),
        (1_u64..40).prop_map(|id| Command::DropCollection { id: CollectionId(id) }),
        (1_u64..40, 1_u64..40)
            .prop_map(|(id, at)| Command::SettleCollection { id: CollectionId(id), changed_at: CatalogVersion(at) }),
        (0_u32..3, 3_u64..8, 0_u8..3).prop_map(|(shard, to, token)| Command::StartMove {
            token: token.to_string(),
            shard: ShardId(shard),
            to: GroupId(to),
            max_write_pause_ms: 500,
        }),
        (0_u8..3, 0_u64..40, 1_u32..3, prop::collection::vec((0_u32..3, 3_u64..8, 3_u64..8), 0..4)).prop_map(
            |(plan, at, parallel, moves)| Command::ApplyPlan {
                plan_id: plan.to_string(),
                planned_at: CatalogVersion(at),
                parallel,
                moves: moves
                    .into_iter()
                    .map(|(shard, from, to)| ShardMove { shard: ShardId(shard), from: GroupId(from), to: GroupId(to) })
                    .collect(),
            }
        ),
        (2_u64..40, 0_usize..4)
            .prop_map(|(at, place)| Command::BeginPlannedMove { run_began_at: CatalogVersion(at), place }),
        prop::sample::select(vec![Wish::Run, Wish::Pause, Wish::Cancel])
            .prop_map(|wish| Command::SteerRebalance { wish }),
        (2_u64..20).prop_map(|id| Command::CancelMove { id: MoveId(id) }),
        (2_u64..20, 2_u64..40, any_phase()).prop_map(|(id, at, to)| Command::AdvanceMove {
            id: MoveId(id),
            decided_at: CatalogVersion(at),
            to,
            brings: Advance::default(),
        }),
        (3_u64..20, prop::sample::select(vec![GroupState::Active, GroupState::Draining, GroupState::Draining]))
            .prop_map(|(id, state)| Command::SetGroupState { id: GroupId(id), state }),
        (3_u64..9, any::<bool>()).prop_map(|(id, lost)| Command::RemoveGroup { id: GroupId(id), lost }),
        (any::<bool>(), prop::option::of(1_u32..3), 0_i64..40).prop_map(|(enabled, window_minutes, now_s)| {
            let policy = RebalancePolicy { enabled, window_minutes, ..RebalancePolicy::default() };
            Command::SetRebalancePolicy { policy, now_s }
        }),
        (0_i64..60, 0_i64..60, prop::option::of(0_u64..40)).prop_map(|(due_s, now_s, at)| Command::FollowSchedule {
            due_s,
            now_s,
            plan: at.map(|at| ScheduledPlan {
                plan_id: format!("scheduled {at}"),
                planned_at: CatalogVersion(at),
                moves: vec![ShardMove { shard: ShardId(0), from: GroupId(3), to: GroupId(4) }],
            }),
        }),
        (2_u64..40, 0_i64..200)
            .prop_map(|(at, until_s)| Command::HoldScheduledRun { run_began_at: CatalogVersion(at), until_s }),
        (2_u64..20, 2_u64..40, any_cleanup()).prop_map(|(id, at, cleanup)| Command::NoteCleaned {
            id: MoveId(id),
            decided_at: CatalogVersion(at),
            cleanup,
        }),
    ]
}

proptest! {
    #[test]
    fn apply_is_deterministic_and_keeps_its_invariants(commands in prop::collection::vec(any_command(), 0..40)) {
        let mut catalog = Catalog::default();
        let mut again = Catalog::default();
        for (i, command) in commands.into_iter().enumerate() {
            let index = i as u64 + 2;
            let before = catalog.clone();
            let outcome = catalog.apply(index, command.clone());
            prop_assert_eq!(&outcome, &again.apply(index, command));
            if matches!(outcome, Outcome::Refused(_) | Outcome::Unchanged) {
                prop_assert_eq!(&before, &catalog);
            }
            let content = |catalog: &Catalog| Catalog { version: CatalogVersion(0), ..catalog.clone() };
            if content(&before) != content(&catalog) {
                prop_assert_eq!(catalog.version, CatalogVersion(index), "who waits for a change waits for its version");
            } else {
                prop_assert!([before.version, CatalogVersion(index)].contains(&catalog.version));
            }
            for (shard, placement) in &before.placements {
                let now = &catalog.placements[shard];
                prop_assert!(now.generation >= placement.generation);
                prop_assert!(now == placement || now.generation > placement.generation);
            }
        }
        prop_assert_eq!(serde_json::to_vec(&catalog).unwrap(), serde_json::to_vec(&again).unwrap());
        let read: Catalog = serde_json::from_slice(&serde_json::to_vec(&catalog).unwrap()).unwrap();
        prop_assert_eq!(&read, &catalog);

        let names: std::collections::BTreeSet<_> = catalog.collections.values().map(|c| c.name.clone()).collect();
        prop_assert_eq!(names.len(), catalog.collections.len());
        for (id, group) in &catalog.groups {
            let of_group = |member: &WorkerId| catalog.workers[member].group == *id;
            prop_assert!(group.members.contains(&group.primary) && group.members.iter().all(of_group));
            prop_assert!(group.members.len() <= catalog.replicas() as usize);
            let of_record = group.record.iter().flat_map(|record| &record.workers);
            prop_assert!(group.record.is_none() || group.members.iter().eq(of_record));
            prop_assert_eq!(group.record.is_some(), catalog.replicas() > 1);
        }
        for worker in catalog.workers.values() {
            prop_assert!(catalog.groups.contains_key(&worker.group));
            let gone = catalog.removed_groups.values().flat_map(|removed| &removed.workers);
            prop_assert!(gone.into_iter().all(|gone| gone.uid != worker.uid), "{worker:?} came back");
        }
        prop_assert!(catalog.groups.is_empty() || catalog.active_groups().next().is_some(), "shards always have somewhere to go");
        for job in catalog.moves.values().filter(|job| job.is_open()) {
            prop_assert!(catalog.groups.contains_key(&job.from) && catalog.groups.contains_key(&job.to), "{job:?}");
        }
        for (shard, placement) in &catalog.placements {
            prop_assert!(*shard < ShardId(12) && catalog.groups.contains_key(&placement.group));
        }
        for (id, shard) in catalog.rebalance.iter().flat_map(|run| run.under_way()) {
            let job = &catalog.moves[&id];
            prop_assert!(job.shard == shard && !job.phase.is_over());
        }
        prop_assert!(catalog.placements.is_empty() || catalog.placements.len() == 12);
        let _ = crate::routing::RoutingTable::new(std::sync::Arc::new(catalog), None);
    }
}
