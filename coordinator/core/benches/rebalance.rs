//! A cluster of 1,000 groups and 100,000 shards: plans of moves, and what its catalog costs every coordinator.

#![allow(missing_docs, reason = "criterion's macros make public items")]

use atoll_core::catalog::{Catalog, Command, testing};
use atoll_core::rebalance::{GroupKnown, Policy, ShardKnown, ShardSize, Situation, Standing, plan};
use atoll_core::routing::RoutingTable;
use atoll_proto::rebalance::BalanceBy;
use atoll_proto::{GroupId, ShardId};
use criterion::{Criterion, criterion_group, criterion_main};
use std::hint::black_box;
use std::sync::Arc;

const GROUPS: u64 = 1_000;
const SHARDS: u32 = 100_000;

/// Sizes that look random and are the same in every run; a few shards are fifty times as large as the others.
fn size(shard: u32) -> ShardSize {
    let bytes = u64::from(shard).wrapping_mul(2_654_435_761) % 1_000_000_007;
    let bytes = if shard % 1_000 == 7 { bytes * 50 } else { bytes };
    ShardSize { rows: bytes / 2_000, bytes }
}

/// Shards on the first of the groups, dealt out by number; the last ones are empty, as if they had just joined. Some drain.
fn cluster(owners: u64, draining: u64) -> Situation {
    let group = |id| {
        let standing = if id <= draining { Standing::Draining } else { Standing::Active };
        (GroupId(id), GroupKnown { name: format!("g{id}"), capacity: 100 + (id % 4) as u32 * 50, standing })
    };
    let shard = |id| {
        let owner = GroupId(1 + u64::from(id) % owners);
        (ShardId(id), ShardKnown { group: owner, moving_to: None, size: Some(size(id)) })
    };
    Situation { groups: (1..=GROUPS).map(group).collect(), shards: (0..SHARDS).map(shard).collect() }
}

fn plan_moves(c: &mut Criterion) {
    let mut group = c.benchmark_group("plan 1,000 groups x 100,000 shards");
    group.sample_size(10);
    let policy = Policy::new(BalanceBy::Bytes, 0.2).expect("a threshold within the limits");
    for (name, owners, draining) in [
        ("dealt out by number", GROUPS, 0),
        ("a tenth of the groups joined", GROUPS * 9 / 10, 0),
        ("a tenth of the groups drain", GROUPS, GROUPS / 10),
        ("all on one group", 1, 0),
    ] {
        let situation = cluster(owners, draining);
        let planned = plan(&situation, policy);
        let (moves, stays) = (planned.moves.len(), planned.report.stays.len());
        let (before, after) = (planned.report.imbalance_before, planned.report.imbalance_after);
        println!("{name}: {moves} moves, {stays} reasons to stay, imbalance {before:.2} to {after:.2}");
        group.bench_function(name, |b| b.iter(|| black_box(plan(&situation, policy))));
    }
    group.finish();
}

/// The catalog, as workers and the first placement make it.
fn catalog() -> Catalog {
    let mut catalog = Catalog::default();
    catalog.apply(1, testing::init(SHARDS, GROUPS as u32));
    for index in 2..GROUPS + 2 {
        catalog.apply(index, Command::RegisterWorker(testing::worker(&format!("w{index}"))));
    }
    catalog
}

fn hold_the_catalog(c: &mut Criterion) {
    let mut group = c.benchmark_group("catalog of 1,000 groups x 100,000 shards");
    group.sample_size(10);
    let catalog = Arc::new(catalog());
    let bytes = serde_json::to_vec(&*catalog).expect("a catalog has text keys only");
    println!("snapshot: {} bytes", bytes.len());
    group.bench_function("write", |b| b.iter(|| black_box(serde_json::to_vec(&*catalog))));
    group.bench_function("copy", |b| b.iter(|| black_box(Catalog::clone(&catalog))));
    let before = RoutingTable::new(catalog.clone(), None);
    group.bench_function("view", |b| b.iter(|| black_box(RoutingTable::new(catalog.clone(), Some(&before)))));
    group.bench_function("desired state of a group", |b| b.iter(|| black_box(catalog.desired_state(GroupId(2)))));
    group.finish();
}

criterion_group!(benches, plan_moves, hold_the_catalog);
criterion_main!(benches);
