use super::*;
use crate::search::plan::plan_shard;
use crate::search::testing;
use atoll_proto::search::Profile;
use proptest::prelude::{any, prop, prop_assert, proptest};

const WISH: Wish = Wish { filtered: true, graphs: 1, ..testing::WISH };

/// A namespace with a graph of its own in a table twice as large, under a filter that lets through this share of either.
fn namespace(rows: u64, share: f64) -> ShardSize {
    ShardSize {
        rows: Some(rows),
        whole_table: false,
        graphs: 1,
        graph_rows: rows,
        shard_graph: false,
        matching: Some(Matching { share, indexed_rows: Some(share * 2.0 * rows as f64) }),
    }
}

/// The same under a filter that no index answers.
fn without_index(rows: u64, share: f64) -> ShardSize {
    ShardSize { matching: Some(Matching { share, indexed_rows: None }), ..namespace(rows, share) }
}

fn way(wish: Wish, size: ShardSize) -> (Strategy, RowPath) {
    let plan = plan_shard(&wish, size);
    (plan.strategy, plan.path)
}

#[test]
fn few_matches_are_looked_up_and_many_are_walked_to() {
    for share in [0.001, 0.01, 0.05] {
        assert_eq!(way(WISH, namespace(10_000, share)), (Strategy::Exact, RowPath::Filter), "{share}");
    }
    for share in [0.2, 0.5, 0.9] {
        assert_eq!(way(WISH, namespace(10_000, share)).0, Strategy::OwnGraphs, "{share}");
    }
    assert_eq!(way(WISH, namespace(400, 0.5)), (Strategy::Exact, RowPath::Namespaces), "a short scan");
}

#[test]
fn a_filter_without_an_index_is_walked_sooner() {
    assert_eq!(
        way(WISH, without_index(10_000, 0.001)),
        (Strategy::Exact, RowPath::Namespaces),
        "a walk would be short"
    );
    assert_eq!(way(WISH, without_index(10_000, 0.05)).0, Strategy::OwnGraphs);
    assert_eq!(way(WISH, ShardSize { graphs: 0, graph_rows: 0, ..without_index(10_000, 0.9) }).0, Strategy::Exact);
}

#[test]
fn a_walk_is_not_taken_where_it_would_end_up_short() {
    let hundred = Wish { k: 100, ..WISH };
    assert_eq!(way(hundred, without_index(10_000, 0.02)).0, Strategy::Exact);
    assert_eq!(
        way(Wish { ef: Some(40), ..hundred }, without_index(10_000, 0.02)).0,
        Strategy::OwnGraphs,
        "unless ef is named"
    );
    assert_eq!(way(Wish { ef: Some(40), ..WISH }, namespace(10_000, 0.02)).0, Strategy::OwnGraphs);
}

#[test]
fn ef_grows_as_fewer_rows_match() {
    let plan = |share| plan_shard(&WISH, without_index(100_000, share));
    assert_eq!((plan(0.9).ef, plan(0.25).ef, plan(0.04).ef), (68, 128, 320));
    assert_eq!(
        plan_shard(&Wish { ef: Some(50), ..WISH }, without_index(100_000, 0.04)).ef,
        50,
        "not where it was named"
    );
    assert_eq!(plan(0.25).candidates, 10);
    assert_eq!((plan(0.9).visits_max, plan(0.04).visits_max), (Some(500), Some(1_125)));
    assert_eq!(plan(0.25).strategy_name(), "hnsw_iterative");
}

#[test]
fn what_follows_a_short_walk_takes_the_cheapest_exact_way() {
    let walk = plan_shard(&WISH, namespace(10_000, 0.12));
    assert_eq!(walk.strategy, Strategy::OwnGraphs);
    let exact = walk.exact(10);
    assert_eq!((exact.strategy, exact.path, exact.visits_max), (Strategy::Exact, RowPath::Filter, None));
    assert!(exact.candidates > walk.candidates);
}

#[test]
fn everything_is_walked_by_the_graph_over_the_shard() {
    let all =
        ShardSize { whole_table: true, shard_graph: true, graphs: 0, graph_rows: 0, ..without_index(15_000, 0.3) };
    assert_eq!(way(WISH, all).0, Strategy::HnswIterative);
    assert_eq!(way(WISH, ShardSize { whole_table: false, ..all }).0, Strategy::Exact, "part of it is not");
    let many = ShardSize { rows: Some(30_000), whole_table: false, ..all };
    assert_eq!(way(WISH, many).0, Strategy::HnswIterative, "unless a scan is unbearable");
    let unknown = ShardSize { matching: None, ..many };
    assert_eq!(plan_shard(&WISH, unknown).visits_max, Some(VISITS_MAX));
}

#[test]
fn without_an_estimate_postgresql_chooses() {
    let unknown = ShardSize { matching: None, ..namespace(10_000, 0.5) };
    assert_eq!(way(WISH, unknown), (Strategy::Exact, RowPath::Any));
}

proptest! {
    /// More rows that match never make an exact answer cheaper than a walk that was cheaper before.
    #[test]
    fn the_larger_the_share_the_sooner_it_is_walked(
        rows in 301_u64..1_000_000, k in 1_u32..=100, low in 1e-4_f64..0.5, more in 0.0_f64..0.49, indexed in any::<bool>(),
        profile in prop::sample::select(vec![Profile::Accuracy, Profile::Balanced, Profile::Speed]),
    ) {
        let wish = Wish { k, profile, ..WISH };
        let size = if indexed { namespace } else { without_index };
        let (fewer, more) = (plan_shard(&wish, size(rows, low)), plan_shard(&wish, size(rows, low + more)));
        prop_assert!(fewer.strategy == Strategy::Exact || more.strategy != Strategy::Exact, "{fewer:?} {more:?}");
        prop_assert!(more.ef <= fewer.ef || fewer.strategy != more.strategy);
    }
}
