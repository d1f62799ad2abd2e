//! Exact cosine distances of 1,000 candidates with 384 dimensions: the kernel that re-ranks, against the loop one would write.

#![allow(missing_docs, reason = "criterion's macros make public items")]

use atoll_core::search::distance::Query;
use atoll_proto::Metric;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;

const DIMENSIONS: usize = 384;
const CANDIDATES: usize = 1_000;

/// Numbers that look random and are the same in every run.
fn vector(seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1_u32 << 24) as f32 - 0.5
    };
    std::iter::repeat_with(next).take(DIMENSIONS).collect()
}

/// Definition of cosine distance, as precise as the kernel.
fn naive(a: &[f32], b: &[f32]) -> f64 {
    let (mut product, mut of_a, mut of_b) = (0.0, 0.0, 0.0);
    for (x, y) in a.iter().zip(b) {
        let (x, y) = (f64::from(*x), f64::from(*y));
        product += x * y;
        of_a += x * x;
        of_b += y * y;
    }
    1.0 - product / (of_a.sqrt() * of_b.sqrt())
}

fn rerank(c: &mut Criterion) {
    let query = vector(0);
    let stored: Vec<Vec<f32>> = (1..=CANDIDATES as u64).map(vector).collect();
    let mut group = c.benchmark_group("re-rank 1,000 x 384 cosine");
    group.throughput(Throughput::Elements(CANDIDATES as u64));
    group.bench_function("kernel", |b| {
        b.iter(|| {
            let query = Query::new(Metric::Cosine, black_box(&query));
            stored.iter().map(|stored| query.distance(black_box(stored))).sum::<f64>()
        });
    });
    group.bench_function("naive", |b| {
        b.iter(|| stored.iter().map(|stored| naive(black_box(&query), black_box(stored))).sum::<f64>());
    });
    group.finish();
}

criterion_group!(benches, rerank);
criterion_main!(benches);
