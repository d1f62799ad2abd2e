//! The truth that answers are held against: every entry looked at, distances in f64.

use crate::wordnet::Sample;
use atoll_proto::Metric;

/// One entry of the true answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Neighbour {
    /// Its namespace.
    pub namespace: String,
    /// Its key.
    pub key: String,
    /// Its distance, by the operator of the metric.
    pub distance: f64,
}

/// The k nearest of `entries` that `wanted` lets through, in the order (distance, namespace, key).
pub fn nearest(
    metric: Metric,
    query: &[f32],
    entries: &[Sample],
    k: usize,
    wanted: impl Fn(&Sample) -> bool,
) -> Vec<Neighbour> {
    let distance = distance_from(metric, query);
    let mut found: Vec<Neighbour> = entries
        .iter()
        .filter(|entry| wanted(entry))
        .map(|entry| Neighbour {
            namespace: entry.namespace.clone(),
            key: entry.key.clone(),
            distance: distance(&entry.vector),
        })
        .collect();
    found.sort_by(|a, b| {
        a.distance.total_cmp(&b.distance).then_with(|| a.namespace.cmp(&b.namespace)).then_with(|| a.key.cmp(&b.key))
    });
    found.truncate(k);
    found
}

/// Some of the entries as queries, twenty at most from all over, each with its true answer.
pub fn answers_to_some(metric: Metric, entries: &[Sample], k: usize) -> Vec<(&Sample, Vec<Neighbour>)> {
    let queries = entries.iter().step_by(entries.len().div_ceil(20));
    queries.map(|query| (query, nearest(metric, &query.vector, entries, k, |_| true))).collect()
}

/// The operator's value: lower is nearer.
pub fn distance(metric: Metric, a: &[f32], b: &[f32]) -> f64 {
    distance_from(metric, a)(b)
}

/// The same, of many from one.
fn distance_from(metric: Metric, a: &[f32]) -> impl Fn(&[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| -> f64 { a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum() };
    let norm = dot(a, a).sqrt();
    move |b| match metric {
        Metric::Cosine => 1.0 - dot(a, b) / (norm * dot(b, b).sqrt()),
        Metric::Dot => -dot(a, b),
        Metric::L2 => a.iter().zip(b).map(|(x, y)| (f64::from(*x) - f64::from(*y)).powi(2)).sum::<f64>().sqrt(),
    }
}
