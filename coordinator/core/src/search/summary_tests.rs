use super::*;
use crate::search::filtered::RowPath;
use atoll_proto::limits;
use proptest::prelude::{ProptestConfig, prop, prop_assert, prop_assert_eq, proptest};

const METRICS: [Metric; 2] = [Metric::Cosine, Metric::L2];

/// Vectors about one direction.
fn cluster(towards: usize, count: usize) -> Vec<Vec<f32>> {
    let off = |i: usize, j: usize| ((i * 31 + j * 17) % 23) as f32 / 100.0;
    (0..count).map(|i| (0..8).map(|j| if j == towards { 1.0 } else { off(i, j) }).collect()).collect()
}

fn summary(towards: &[usize]) -> Summary {
    let sample = towards.iter().flat_map(|towards| cluster(*towards, 60)).collect();
    Summary::of(Metric::Cosine, sample).expect("enough vectors")
}

fn axis(towards: usize) -> Vec<f32> {
    (0..8).map(|j| if j == towards { 1.0 } else { 0.1 }).collect()
}

fn plan(strategy: Strategy, ef: u32) -> ShardPlan {
    ShardPlan { strategy, candidates: 18, per_namespace: None, ef, why: "" }
}

#[test]
fn near_shards_get_more_and_far_ones_little() {
    let (a, b, both) = (summary(&[0]), summary(&[1]), summary(&[0, 1]));
    let of = |query: &[f32]| weights(Metric::Cosine, query, [Some(&a), Some(&b), Some(&both)]);
    let near_a = of(&axis(0));
    assert!(near_a[0] > 1.0 && near_a[1] < UNLIKELY && near_a[2] > 1.0, "{near_a:?}");
    let near_b = of(&axis(1));
    assert!(near_b[0] < UNLIKELY && near_b[1] > 1.0 && near_b[2] > 1.0, "{near_b:?}");
}

#[test]
fn shards_that_are_alike_share_equally() {
    let same = summary(&[0, 3]);
    for weight in weights(Metric::Cosine, &axis(0), [Some(&same); 5]) {
        assert!((weight - 1.0).abs() < 1e-9, "{weight}");
    }
    for weight in weights(Metric::Cosine, &axis(0), [None; 5]) {
        assert!((weight - 1.0).abs() < 1e-9, "{weight}");
    }
}

#[test]
fn what_is_unknown_counts_as_promising() {
    let (near, far) = (summary(&[0]), summary(&[5]));
    let weights = weights(Metric::Cosine, &axis(0), [Some(&near), Some(&far), None]);
    assert!((weights[2] - weights[0]).abs() < 1e-9 && weights[2] > 1.0, "{weights:?}");
}

#[test]
fn a_summary_of_other_dimensions_is_unknown() {
    let (near, far) = (summary(&[0]), summary(&[5]));
    let query = [1.0, 0.0];
    assert_eq!(weights(Metric::Cosine, &query, [Some(&near), Some(&far)]), [1.0, 1.0]);
}

#[test]
fn too_few_vectors_and_inner_products_have_no_summary() {
    assert_eq!(Summary::of(Metric::Cosine, cluster(0, CENTROIDS - 1)), None);
    assert_eq!(Summary::of(Metric::Dot, cluster(0, 100)), None);
    assert_eq!(Summary::of(Metric::L2, Vec::new()), None);
}

#[test]
fn ef_of_the_candidates_and_ways_without_graphs_stay_as_they_are() {
    for (strategy, ef) in [(Strategy::Exact(RowPath::Any), 64), (Strategy::Hnsw, 18), (Strategy::OwnGraphs, 10)] {
        let plan = plan(strategy, ef);
        assert_eq!(share_out(plan, 2.0), plan);
        assert_eq!(share_out(plan, 0.0), plan);
    }
}

#[test]
fn what_exceeds_the_candidates_is_shared_out() {
    let ef = |weight| share_out(plan(Strategy::Hnsw, 40), weight).ef;
    assert_eq!([ef(0.0), ef(0.3), ef(1.0), ef(2.0)], [20, 28, 40, 64]);
    assert!(share_out(plan(Strategy::Hnsw, 40), 0.0).why.contains("unlikely"));
    assert!(share_out(plan(Strategy::OwnGraphs, 40), 2.0).why.contains("promising"));
    assert_eq!(share_out(plan(Strategy::Hnsw, limits::EF), 2.5).ef, limits::EF);
}

proptest! {
    // Making summaries takes its time without optimisation.
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn no_more_is_shared_out_than_there_is(
        samples in prop::collection::vec(prop::collection::vec(prop::collection::vec(-1.0_f32..1.0, 6), 32..40), 1..6),
        query in prop::collection::vec(-1.0_f32..1.0, 6),
        unknown in 0_usize..3,
    ) {
        for metric in METRICS {
            let summaries: Vec<Option<Summary>> =
                samples.iter().map(|sample| Summary::of(metric, sample.clone())).chain(vec![None; unknown]).collect();
            let weights = weights(metric, &query, summaries.iter().map(Option::as_ref));
            prop_assert_eq!(weights.len(), summaries.len());
            prop_assert!(weights.iter().all(|weight| (0.0..=WEIGHT_MAX).contains(weight)), "{:?}", weights);
            prop_assert!(weights.iter().sum::<f64>() <= weights.len() as f64 + 1e-9, "{:?}", weights);
        }
    }

    #[test]
    fn weights_fall_with_the_distance(
        samples in prop::collection::vec(prop::collection::vec(prop::collection::vec(-1.0_f32..1.0, 6), 32..40), 2..6),
        query in prop::collection::vec(-1.0_f32..1.0, 6),
    ) {
        let summaries: Vec<Summary> = samples.iter().filter_map(|sample| Summary::of(Metric::L2, sample.clone())).collect();
        let weights = weights(Metric::L2, &query, summaries.iter().map(Some));
        for (a, one) in summaries.iter().zip(&weights) {
            for (b, other) in summaries.iter().zip(&weights) {
                prop_assert!(a.distance(&query) > b.distance(&query) || one >= other);
            }
        }
    }

    #[test]
    fn ef_grows_with_the_weight_and_always_yields_the_candidates(
        ef in 18_u32..400, weight in 0.0_f64..2.0, more in 0.0_f64..2.0,
    ) {
        let shared = |weight| share_out(plan(Strategy::Hnsw, ef), weight).ef;
        prop_assert!(shared(weight) >= 18);
        prop_assert!(shared(weight + more) >= shared(weight));
    }
}
