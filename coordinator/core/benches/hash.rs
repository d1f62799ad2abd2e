//! From a namespace to its shard: what every request pays for each namespace it names.

#![allow(missing_docs, reason = "criterion's macros make public items")]

use atoll_core::routing::ShardRing;
use atoll_proto::Namespace;
use criterion::{Criterion, criterion_group, criterion_main};
use std::hint::black_box;

fn namespace_to_shard(c: &mut Criterion) {
    let namespaces: Vec<Namespace> = (0..1_000)
        .map(|i| {
            Namespace::parse(&format!("team-{}:agent-{i}", i % 7)).expect("letters, digits and : make a namespace")
        })
        .collect();
    let mut group = c.benchmark_group("namespace to shard");
    for shards in [12, 128] {
        let ring = ShardRing::new(shards);
        let mut turn = 0;
        group.bench_function(format!("{shards} shards"), |b| {
            b.iter(|| {
                turn = (turn + 1) % namespaces.len();
                black_box(ring.shard_of(black_box(&namespaces[turn])))
            });
        });
    }
    group.finish();
}

criterion_group!(benches, namespace_to_shard);
criterion_main!(benches);
