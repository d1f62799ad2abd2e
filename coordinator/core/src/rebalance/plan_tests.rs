//! Plans of small clusters by hand, and of many by chance.

#![allow(clippy::unwrap_used)]

use super::super::{GroupKnown, ShardKnown, ShardSize, Standing};
use super::*;
use atoll_proto::rebalance::{BalanceBy, GroupBalance, GroupPart, StayReason};
use proptest::prelude::*;

/// Groups of a capacity and standing that hold shards of so many bytes; shards are numbered through.
fn situation(groups: &[(u32, Standing, &[u64])]) -> Situation {
    let mut situation = Situation::default();
    for (number, (capacity, standing, shards)) in groups.iter().enumerate() {
        let id = GroupId(number as u64 + 1);
        let name = format!("g{id}");
        situation.groups.insert(id, GroupKnown { name, capacity: *capacity, standing: *standing });
        for bytes in *shards {
            let size = Some(ShardSize { rows: bytes / 2, bytes: *bytes });
            let shard = ShardId(situation.shards.len() as u32);
            situation.shards.insert(shard, ShardKnown { group: id, moving_to: None, size });
        }
    }
    situation
}

fn by(by: BalanceBy) -> Policy {
    Policy::new(by, 0.2).unwrap()
}

fn by_bytes() -> Policy {
    by(BalanceBy::Bytes)
}

/// The cluster as it is when the plan has been carried out.
fn after(situation: &Situation, plan: &Plan) -> Situation {
    let mut after = situation.clone();
    for one in &plan.moves {
        let shard = after.shards.get_mut(&one.shard).unwrap();
        assert_eq!(shard.group, one.from, "a move starts where the shard is");
        shard.group = one.to;
    }
    after
}

fn moves(plan: &Plan) -> Vec<(u32, u64, u64)> {
    plan.moves.iter().map(|one| (one.shard.0, one.from.0, one.to.0)).collect()
}

fn of<'a>(plan: &'a Plan, name: &str) -> &'a GroupBalance {
    plan.report.groups.iter().find(|group| group.group == name).unwrap()
}

fn stays(plan: &Plan) -> Vec<(&str, StayReason, u32)> {
    plan.report.stays.iter().map(|stay| (stay.group.as_str(), stay.reason, stay.shards)).collect()
}

use Standing::{Active, Draining, Unreachable};

#[test]
fn a_group_that_joins_gets_its_share() {
    let four: &[u64] = &[10, 10, 10, 10];
    let joined = situation(&[(100, Active, four), (100, Active, four), (100, Active, four), (100, Active, &[])]);
    for measure in [BalanceBy::Bytes, BalanceBy::Rows, BalanceBy::Count] {
        let plan = plan(&joined, by(measure));
        assert_eq!(plan.moves.len(), 3, "{measure:?}");
        assert!(plan.report.groups.iter().all(|group| group.after.shards == 3 && group.obstacle.is_none()));
        assert_eq!((plan.report.imbalance_before, plan.report.imbalance_after), (1.0, 0.0));
        let first = &plan.report.moves[0];
        assert_eq!(first.detail, format!("{} is 33 % above the mean; g4 is 100 % below the mean", first.from));
    }
}

#[test]
fn what_is_in_balance_stays() {
    let even = situation(&[(100, Active, &[10, 11]), (100, Active, &[9, 8])]);
    let plan = plan(&even, by_bytes());
    assert_eq!(moves(&plan), []);
    assert_eq!(stays(&plan), [("g1", StayReason::Balanced, 2), ("g2", StayReason::Balanced, 2)]);
    assert_eq!(plan.report.cost.minutes, 0.0);
}

#[test]
fn capacity_weighs() {
    let uneven = situation(&[(100, Active, &[10; 12]), (300, Active, &[])]);
    let plan = plan(&uneven, by_bytes());
    assert_eq!((of(&plan, "g1").after.shards, of(&plan, "g2").after.shards), (3, 9));
}

#[test]
fn a_shard_larger_than_the_rest_stays_and_the_others_are_evened_out() {
    let skewed = situation(&[
        (100, Active, &[1_000]),
        (100, Active, &[10, 10, 10, 10]),
        (100, Active, &[]),
        (100, Active, &[10]),
    ]);
    let plan = plan(&skewed, by_bytes());
    assert_eq!(stays(&plan)[0], ("g1", StayReason::TooLarge, 1));
    let obstacle = of(&plan, "g1").obstacle.clone().unwrap();
    assert!(obstacle.ends_with("it holds one shard alone, and a shard cannot be divided"), "{obstacle}");
    let counts: Vec<u32> = plan.report.groups.iter().map(|group| group.after.shards).collect();
    assert_eq!(counts, [1, 2, 2, 1], "these are as even as they can be");
    assert!(of(&plan, "g2").obstacle.clone().unwrap().contains("g1 raises the mean"));
}

#[test]
fn too_few_shards_leave_groups_empty() {
    let few = situation(&[(100, Active, &[10]), (100, Active, &[])]);
    let plan = plan(&few, by_bytes());
    assert_eq!(moves(&plan), [], "the same picture mirrored is no better");
    assert!(of(&plan, "g2").obstacle.is_some());
}

#[test]
fn a_draining_group_is_emptied_first() {
    let draining = situation(&[(100, Draining, &[5, 30]), (100, Active, &[10]), (100, Active, &[20, 20])]);
    let plan = plan(&draining, by_bytes());
    assert_eq!(moves(&plan)[..2], [(1, 1, 2), (0, 1, 2)], "the largest first, to where there is room");
    assert!(plan.report.moves[..2].iter().all(|one| one.reason == MoveReason::Drain));
    assert_eq!((of(&plan, "g1").after.shards, of(&plan, "g1").state), (0, GroupPart::Draining));
}

#[test]
fn nowhere_to_drain_to_is_said() {
    let alone = situation(&[(100, Draining, &[5, 30]), (100, Unreachable, &[1])]);
    let plan = plan(&alone, by_bytes());
    assert_eq!(moves(&plan), []);
    assert_eq!(stays(&plan), [("g1", StayReason::NoTarget, 2), ("g2", StayReason::Unreachable, 1)]);
    assert!(of(&plan, "g1").obstacle.is_some());
}

#[test]
fn what_is_not_counted_neither_gives_nor_takes() {
    let mut unknown = situation(&[(100, Active, &[10, 10, 10, 10]), (100, Active, &[0]), (100, Active, &[])]);
    unknown.shards.get_mut(&ShardId(4)).unwrap().size = None;
    let by_bytes = plan(&unknown, by_bytes());
    assert_eq!(of(&by_bytes, "g2").state, GroupPart::Uncounted);
    assert_eq!((of(&by_bytes, "g2").after.shards, of(&by_bytes, "g3").after.shards), (1, 2));
    let by_count = plan(&unknown, by(BalanceBy::Count));
    assert_eq!(of(&by_count, "g2").state, GroupPart::Active);
}

#[test]
fn what_is_not_counted_is_drained_all_the_same() {
    let mut unknown = situation(&[
        (100, Draining, &[10, 10, 10, 10]),
        (100, Active, &[10, 10]),
        (100, Active, &[10]),
        (100, Active, &[10, 10, 10]),
    ]);
    // Of the draining group two, of g3 the only one.
    for shard in [0, 1, 6] {
        unknown.shards.get_mut(&ShardId(shard)).unwrap().size = None;
    }
    let by_bytes = plan(&unknown, by_bytes());
    assert_eq!((of(&by_bytes, "g1").state, of(&by_bytes, "g1").after.shards), (GroupPart::Draining, 0));
    assert!(by_bytes.report.moves.iter().all(|one| one.reason == MoveReason::Drain), "{:?}", by_bytes.report.moves);
    let counts: Vec<u32> = by_bytes.report.groups.iter().map(|group| group.after.shards).collect();
    assert_eq!(counts, [0, 4, 3, 3], "dealt out as if they weighed what others do");
    assert_eq!(of(&by_bytes, "g3").state, GroupPart::Uncounted);

    // Nobody has counted anything yet.
    unknown.shards.values_mut().for_each(|shard| shard.size = None);
    let blind = plan(&unknown, super::tests::by_bytes());
    assert_eq!(blind.moves.len(), 4, "{:?}", blind.report);
    let counts: Vec<u32> = blind.report.groups.iter().map(|group| group.after.shards).collect();
    assert_eq!(counts, [0, 4, 3, 3]);
}

#[test]
fn a_drain_does_not_ask_for_the_threshold() {
    let even = situation(&[(100, Draining, &[10]), (100, Active, &[10]), (100, Active, &[11])]);
    let loose = Policy::new(BalanceBy::Bytes, 1.0).unwrap();
    assert_eq!(moves(&plan(&even, loose)), [(0, 1, 2)]);
}

#[test]
fn a_shard_on_the_move_is_where_it_goes() {
    let mut moving = situation(&[(100, Active, &[10, 10]), (100, Active, &[])]);
    moving.shards.get_mut(&ShardId(0)).unwrap().moving_to = Some(GroupId(2));
    let plan = plan(&moving, by_bytes());
    assert_eq!(moves(&plan), []);
    assert_eq!(stays(&plan), [("g1", StayReason::Balanced, 1), ("g1", StayReason::Moving, 1)]);
}

#[test]
fn nothing_at_all_is_in_balance() {
    assert_eq!(plan(&Situation::default(), by_bytes()).moves, []);
    let empty = situation(&[(100, Active, &[0, 0, 0]), (100, Active, &[])]);
    let plan = plan(&empty, by_bytes());
    assert_eq!((moves(&plan), plan.report.imbalance_after), (vec![], 0.0));
    assert_eq!(plan.report.stays[0].detail, "nothing is held anywhere");
}

#[test]
fn an_empty_shard_is_no_help() {
    let plan = plan(&situation(&[(100, Active, &[100, 0]), (100, Active, &[])]), by_bytes());
    assert_eq!(moves(&plan), []);
    assert_eq!(stays(&plan), [("g1", StayReason::TooLarge, 1), ("g1", StayReason::NoLoad, 1)]);
}

/// Clusters of all kinds: capacities, sizes from nothing to a shard that outweighs all others, any standing.
fn any_situation() -> impl Strategy<Value = Situation> {
    let standing = prop_oneof![8 => Just(Active), 1 => Just(Draining), 1 => Just(Unreachable)];
    let capacity = prop_oneof![4 => Just(100_u32), 1 => 1_u32..400];
    let bytes = prop_oneof![1 => Just(0_u64), 12 => 1_u64..1_000, 2 => 1_u64..20_000];
    let groups = prop::collection::vec((capacity, standing), 1..12);
    let shard = (
        any::<prop::sample::Index>(),
        prop::option::weighted(0.98, bytes),
        prop::option::weighted(0.03, any::<prop::sample::Index>()),
    );
    (groups, prop::collection::vec(shard, 0..60)).prop_map(|(groups, shards)| {
        let groups: Vec<_> = groups.iter().map(|(capacity, standing)| (*capacity, *standing, &[][..])).collect();
        let mut made = situation(&groups);
        let group = |index: prop::sample::Index| GroupId(index.index(groups.len()) as u64 + 1);
        for (number, (owner, bytes, moving_to)) in shards.into_iter().enumerate() {
            let size = bytes.map(|bytes| ShardSize { rows: bytes / 2, bytes });
            let shard = ShardKnown { group: group(owner), moving_to: moving_to.map(group), size };
            made.shards.insert(ShardId(number as u32), shard);
        }
        made
    })
}

fn any_policy() -> impl Strategy<Value = Policy> {
    let measure = prop_oneof![3 => Just(BalanceBy::Bytes), 1 => Just(BalanceBy::Rows), 1 => Just(BalanceBy::Count)];
    (measure, prop_oneof![2 => Just(0.2), 1 => 0.01_f64..1.0]).prop_map(|(by, at)| Policy::new(by, at).unwrap())
}

/// Load by capacity, by plain sums and floating point: told apart from what the planner keeps.
fn fullness(situation: &Situation, group: GroupId, policy: Policy) -> f64 {
    let held = situation.shards.values().filter(|shard| shard.home() == group);
    held.filter_map(|shard| shard.load(policy)).sum::<u64>() as f64 / f64::from(situation.groups[&group].capacity)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn each_move_improves_the_balance(situation in any_situation(), policy in any_policy()) {
        let plan = plan(&situation, policy);
        let mut now = situation.clone();
        for (one, told) in plan.moves.iter().zip(&plan.report.moves) {
            let (from_before, to_before) = (fullness(&now, one.from, policy), fullness(&now, one.to, policy));
            now.shards.get_mut(&one.shard).unwrap().group = one.to;
            if told.reason == MoveReason::Drain {
                continue;
            }
            for group in [one.from, one.to] {
                let full = fullness(&now, group, policy);
                prop_assert!(to_before < full && full < from_before, "{told:?}");
            }
            prop_assert!(told.to_before < told.from_after && told.to_after < told.from_before, "{told:?}");
        }
        let report = &plan.report;
        let drains = report.moves.iter().any(|one| one.reason == MoveReason::Drain);
        prop_assert!(drains || report.imbalance_after <= report.imbalance_before + 1e-9, "{report:?}");
    }

    #[test]
    fn a_plan_carried_out_leaves_nothing_to_do(situation in any_situation(), policy in any_policy()) {
        let first = plan(&situation, policy);
        let second = plan(&after(&situation, &first), policy);
        prop_assert_eq!(second.moves, vec![]);
        prop_assert_eq!(plan(&situation, policy), first, "and the same comes of the same");
    }

    #[test]
    fn groups_end_within_the_threshold_or_it_says_why_not(situation in any_situation(), policy in any_policy()) {
        let plan = plan(&situation, policy);
        for group in &plan.report.groups {
            let Some(full) = group.after.of_mean.filter(|_| group.state == GroupPart::Active) else { continue };
            let within = (full - 1.0).abs() <= policy.threshold() + 1e-9;
            prop_assert!(within || group.obstacle.is_some(), "{group:?}");
        }
        let told = plan.report.stays.iter().map(|stay| stay.shards as usize).sum::<usize>();
        let moved: BTreeSet<ShardId> = plan.moves.iter().map(|one| one.shard).collect();
        prop_assert_eq!(told + moved.len(), situation.shards.len(), "of each shard something is said");
    }

    #[test]
    fn only_active_groups_take_and_only_living_ones_give(situation in any_situation(), policy in any_policy()) {
        let plan = plan(&situation, policy);
        for one in &plan.moves {
            prop_assert_eq!(situation.groups[&one.to].standing, Active);
            prop_assert_ne!(situation.groups[&one.from].standing, Unreachable);
            prop_assert!(situation.shards[&one.shard].moving_to.is_none());
            prop_assert_ne!(one.from, one.to);
        }
        let end = after(&situation, &plan);
        let takes = |group: &GroupBalance| matches!(group.state, GroupPart::Active | GroupPart::Uncounted);
        let can_take = plan.report.groups.iter().any(takes);
        for group in plan.report.groups.iter().filter(|group| can_take && group.state == GroupPart::Draining) {
            let moving = end.shards.values().filter(|shard| shard.moving_to.is_some());
            let on_their_way = moving.filter(|shard| situation.groups[&shard.home()].name == group.group).count();
            prop_assert_eq!(group.after.shards as usize, on_their_way, "a draining group ends empty");
        }
    }

    /// Where shards are many and small, nothing is in the way.
    #[test]
    fn small_shards_are_evened_out_by_capacity(
        capacities in prop::collection::vec(50_u32..200, 2..8),
        sizes in prop::collection::vec(90_u64..110, 400..500),
    ) {
        let mut made = situation(&capacities.iter().map(|capacity| (*capacity, Active, &[][..])).collect::<Vec<_>>());
        for (number, bytes) in sizes.into_iter().enumerate() {
            let size = Some(ShardSize { rows: 1, bytes });
            made.shards.insert(ShardId(number as u32), ShardKnown { group: GroupId(1), moving_to: None, size });
        }
        let plan = plan(&made, by_bytes());
        prop_assert!(plan.report.imbalance_after <= 0.2, "{:#?}", plan.report.groups);
        let moved: BTreeSet<ShardId> = plan.moves.iter().map(|one| one.shard).collect();
        prop_assert_eq!(moved.len(), plan.moves.len(), "no shard moves twice");
    }
}
