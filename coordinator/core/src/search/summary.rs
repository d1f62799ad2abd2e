//! Where the hits of a search of everything are likely: a summary of each shard's vectors, and ef shared out by it.
//!
//! The true top ten of a search lie in three or four of twelve shards. What ef of a fan-out exceeds its candidates is a budget: a
//! shard whose vectors are near the query gets more of it, one far away less, and all together never more than if it were shared
//! out equally, but for rounding. Every shard is asked all the same, with ef of its candidates at least: a summary says where many
//! rows lie, not where the nearest one is.
//!
//! A summary is a few centroids of a sample of vectors. A shard stands as far from a query as its nearest few centroids on the
//! mean, which is steadier than the nearest one. Where a density falls with the distance as it does in as many dimensions as
//! embeddings really use, the part of the hits in a shard falls by a high power of that distance: so do the weights. Where
//! shards don't differ, all distances are alike, and so are the weights.

use super::plan::{ShardPlan, Strategy, rung};
use atoll_proto::Metric;
use multiversion::multiversion;

/// Vectors that a summary is best made of. Twice as many rank shards no better by a percent of the hits.
pub const SAMPLE: u32 = 512;
/// Centroids of a summary.
const CENTROIDS: usize = 32;
/// Rounds of k-means: the ranks of shards don't change with more.
const ROUNDS: usize = 5;
/// Centroids by which a shard is judged.
const NEAREST: usize = 3;
/// The power of the squared distance by which weights fall.
const FALL: i32 = 8;
/// Most of a weight, where one for all would be 1.
const WEIGHT_MAX: f64 = 2.0;
/// From this weight on a shard is called promising: more than if all were alike, or unknown.
const PROMISING: f64 = 1.25;
/// Below this weight hits are called unlikely: next to nothing is added.
const UNLIKELY: f64 = 0.1;

/// Where a table's vectors lie.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    dimensions: usize,
    /// One after the other.
    centroids: Vec<f32>,
}

impl Summary {
    /// Of a sample's vectors, all of the same length; none of too few of them, and none by a metric that is no distance.
    pub fn of(metric: Metric, mut sample: Vec<Vec<f32>>) -> Option<Self> {
        let dimensions = sample.first()?.len();
        if metric == Metric::Dot || sample.len() < CENTROIDS || sample.iter().any(|one| one.len() != dimensions) {
            return None;
        }
        for vector in &mut sample {
            prepare(metric, vector);
        }
        let mut summary = Self { dimensions, centroids: Vec::with_capacity(CENTROIDS * dimensions) };
        for i in 0..CENTROIDS {
            summary.centroids.extend(&sample[i * sample.len() / CENTROIDS]);
        }
        for _ in 0..ROUNDS {
            summary.settle_among(metric, &sample);
        }
        Some(summary)
    }

    /// Bytes it holds.
    pub fn bytes(&self) -> usize {
        self.centroids.len() * size_of::<f32>()
    }

    /// One round of k-means: each centroid becomes the mean of those nearest to it.
    fn settle_among(&mut self, metric: Metric, sample: &[Vec<f32>]) {
        let mut sums = vec![0.0; self.centroids.len()];
        let mut counts = vec![0_u32; CENTROIDS];
        for vector in sample {
            let nearest = self.nearest(vector);
            counts[nearest] += 1;
            let sum = &mut sums[nearest * self.dimensions..][..self.dimensions];
            sum.iter_mut().zip(vector).for_each(|(sum, x)| *sum += x);
        }
        let settled = self.centroids.chunks_exact_mut(self.dimensions).zip(sums.chunks_exact(self.dimensions));
        for ((centroid, sum), count) in settled.zip(counts) {
            // One that is nobody's nearest stays where it is.
            if count > 0 {
                centroid.iter_mut().zip(sum).for_each(|(x, sum)| *x = sum / count as f32);
                prepare(metric, centroid);
            }
        }
    }

    fn nearest(&self, vector: &[f32]) -> usize {
        let distances = self.centroids.chunks_exact(self.dimensions).map(|centroid| square_distance(centroid, vector));
        distances.enumerate().min_by(|a, b| a.1.total_cmp(&b.1)).map(|(i, _)| i).expect("a summary has centroids")
    }

    /// How far its nearest centroids lie on the mean, squared.
    fn distance(&self, query: &[f32]) -> f64 {
        let distances = self.centroids.chunks_exact(self.dimensions).map(|centroid| square_distance(centroid, query));
        let mut distances: Vec<f32> = distances.collect();
        let (nearer, last, _) = distances.select_nth_unstable_by(NEAREST - 1, f32::total_cmp);
        let sum: f64 = nearer.iter().chain([&*last]).map(|distance| f64::from(*distance)).sum();
        sum / NEAREST as f64
    }
}

/// How much of what ef exceeds its candidates each shard gets, where one share for all would be 1; together no more than as many as there are
/// shards. One without a summary counts as the most promising: nobody knows what was just written there.
pub fn weights<'a>(
    metric: Metric,
    query: &[f32],
    summaries: impl IntoIterator<Item = Option<&'a Summary>>,
) -> Vec<f64> {
    let mut query = query.to_vec();
    prepare(metric, &mut query);
    let known = |summary: &&Summary| summary.dimensions == query.len();
    let distances: Vec<Option<f64>> =
        summaries.into_iter().map(|summary| summary.filter(known).map(|summary| summary.distance(&query))).collect();
    let nearest = distances.iter().flatten().copied().fold(f64::INFINITY, f64::min);
    let mut weights: Vec<f64> = distances
        .into_iter()
        .map(|distance| match distance {
            Some(distance) if distance > nearest => WEIGHT_MAX * (nearest / distance).powi(FALL),
            Some(_) | None => WEIGHT_MAX,
        })
        .collect();
    let mean = weights.iter().sum::<f64>() / weights.len().max(1) as f64;
    if mean > 1.0 {
        weights.iter_mut().for_each(|weight| *weight /= mean);
    }
    weights
}

/// Whether a plan has something to share out.
pub fn is_shared_out(plan: &ShardPlan) -> bool {
    plan.strategy.walks() && plan.ef > plan.candidates
}

/// The plan with its ef by the shard's weight: its candidates, and so much of what equal shares would add to them.
pub fn share_out(plan: ShardPlan, weight: f64) -> ShardPlan {
    if !is_shared_out(&plan) {
        return plan;
    }
    let ef = plan.candidates + (f64::from(plan.ef - plan.candidates) * weight).round() as u32;
    ShardPlan { ef: rung(ef), why: why(plan, weight), ..plan }
}

fn why(plan: ShardPlan, weight: f64) -> &'static str {
    let standing = (weight >= PROMISING, weight < UNLIKELY);
    match (plan.strategy, standing) {
        (Strategy::Hnsw, (true, _)) => "one graph over all rows of the shard, which is promising",
        (Strategy::Hnsw, (_, true)) => "one graph over all rows of the shard, unlikely to hold hits: ef about k",
        (Strategy::OwnGraphs, (true, _)) => "large namespaces have graphs of their own; the shard is promising",
        (Strategy::OwnGraphs, (_, true)) => {
            "large namespaces have graphs of their own; the shard is unlikely to hold hits: ef about k"
        }
        (Strategy::Hnsw | Strategy::OwnGraphs | Strategy::Exact(_), _) => plan.why,
    }
}

/// By the cosine only directions count.
fn prepare(metric: Metric, vector: &mut [f32]) {
    if metric != Metric::Cosine {
        return;
    }
    let norm = vector.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>().sqrt();
    if norm > 0.0 {
        vector.iter_mut().for_each(|x| *x = (f64::from(*x) / norm) as f32);
    }
}

/// In 32 bits and eight sums: it ranks shards, no candidates.
#[multiversion(targets("x86_64+avx2+fma", "x86_64+sse4.2", "aarch64+neon"))]
fn square_distance(a: &[f32], b: &[f32]) -> f32 {
    const LANES: usize = 8;
    let mut sums = [0.0_f32; LANES];
    let (a_chunks, a_rest) = a.as_chunks::<LANES>();
    let (b_chunks, b_rest) = b.as_chunks::<LANES>();
    for (x, y) in a_chunks.iter().zip(b_chunks) {
        for lane in 0..LANES {
            let difference = x[lane] - y[lane];
            sums[lane] += difference * difference;
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(x, y)| (x - y) * (x - y)).sum();
    sums.iter().sum::<f32>() + rest
}

#[cfg(test)]
#[path = "summary_tests.rs"]
mod tests;
