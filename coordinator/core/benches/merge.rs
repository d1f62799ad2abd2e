//! Many shards' candidates into one answer: 12 shards with 40 candidates each, the ten best of them.

#![allow(missing_docs, reason = "criterion's macros make public items")]

use atoll_core::search::merge::{MergeLimits, Ranked, merge};
use atoll_proto::Metric;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use std::hint::black_box;

const SHARDS: u64 = 12;
const CANDIDATES: u64 = 40;

#[derive(Clone)]
struct Candidate {
    distance: f64,
    namespace: String,
    key: String,
}

impl Ranked for Candidate {
    fn distance(&self) -> f64 {
        self.distance
    }
    fn namespace(&self) -> &str {
        &self.namespace
    }
    fn key(&self) -> &str {
        &self.key
    }
}

/// Distances that look random and are the same in every run; some are equal, so that ties are part of the work.
fn candidates() -> Vec<Candidate> {
    let of_shard = |shard: u64| {
        (0..CANDIDATES).map(move |i| Candidate {
            distance: ((shard * CANDIDATES + i) * 2_654_435_761 % 400) as f64 / 400.0,
            namespace: format!("namespace-{shard}"),
            key: format!("key-{i}"),
        })
    };
    (0..SHARDS).flat_map(of_shard).collect()
}

fn merge_candidates(c: &mut Criterion) {
    let candidates = candidates();
    let mut group = c.benchmark_group("merge 12 x 40 candidates");
    for (name, per_namespace) in [("k 10", None), ("k 10, 2 of a namespace", Some(2))] {
        let limits = MergeLimits { k: 10, metric: Metric::Cosine, min_score: None, per_namespace };
        group.bench_function(name, |b| {
            b.iter_batched(
                || candidates.clone(),
                |candidates| black_box(merge(candidates, limits)),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, merge_candidates);
criterion_main!(benches);
