use super::Strategy;
use super::*;
use crate::search::testing::WISH;
use proptest::prelude::{any, prop, prop_assert, proptest};

/// A table with a graph over all its rows.
fn table(rows: u64) -> ShardSize {
    ShardSize { rows: Some(rows), whole_table: true, graphs: 0, graph_rows: 0, shard_graph: true, matching: None }
}

/// Namespaces without graphs of their own, in a table with a graph over all its rows.
fn namespaces(rows: u64) -> ShardSize {
    ShardSize { whole_table: false, ..table(rows) }
}

/// So many namespaces with graphs of their own among so many rows.
fn graphs(graphs: u32, graph_rows: u64, rows: u64) -> ShardSize {
    ShardSize { rows: Some(rows), whole_table: false, graphs, graph_rows, shard_graph: false, matching: None }
}

fn strategy_of(wish: Wish, size: ShardSize) -> Strategy {
    plan_shard(&wish, size).strategy
}

#[test]
fn small_is_exact_and_large_walks_a_graph() {
    assert_eq!(strategy_of(WISH, table(300)), Strategy::Exact);
    assert_eq!(strategy_of(WISH, table(1_500)), Strategy::Hnsw);
    assert_eq!(strategy_of(WISH, namespaces(20_000)), Strategy::Exact);
    assert_eq!(strategy_of(WISH, namespaces(20_001)), Strategy::HnswIterative);
    assert_eq!(strategy_of(WISH, ShardSize { rows: None, ..table(0) }), Strategy::Exact);
    assert_eq!(strategy_of(WISH, ShardSize { shard_graph: false, ..table(1_000_000) }), Strategy::Exact);
}

#[test]
fn a_namespace_with_a_graph_is_walked_when_that_costs_less() {
    let one = Wish { graphs: 1, ..WISH };
    assert_eq!(strategy_of(one, graphs(1, 320, 320)), Strategy::Exact);
    assert_eq!(strategy_of(one, graphs(1, 1_000, 1_000)), Strategy::OwnGraphs);
    assert_eq!(strategy_of(one, graphs(1, 1_000, 100_000)), Strategy::OwnGraphs, "the rest is scanned in any case");
    assert_eq!(strategy_of(Wish { exact: true, ..one }, graphs(1, 100_000, 100_000)), Strategy::Exact);
    assert_eq!(strategy_of(Wish { filtered: true, ..one }, graphs(1, 9_000, 9_000)), Strategy::Exact);
    assert_eq!(strategy_of(Wish { ef: Some(40), ..one }, graphs(1, 500, 500)), Strategy::OwnGraphs);
}

#[test]
fn everything_goes_the_cheaper_way() {
    let all = Wish { profile: Profile::Accuracy, shards: 2, graphs: 25, ..WISH };
    let both = |graph_rows, rows| ShardSize { whole_table: true, shard_graph: true, ..graphs(2, graph_rows, rows) };
    assert_eq!(strategy_of(all, both(8_000, 8_050)), Strategy::OwnGraphs);
    assert_eq!(strategy_of(all, both(8_000, 20_000)), Strategy::Hnsw, "a long scan of the rest");
    assert_eq!(strategy_of(Wish { excluding: true, ..all }, both(8_000, 8_900)), Strategy::OwnGraphs);
}

#[test]
fn precedence_is_exact_then_ef_then_target_then_profile() {
    let wish = Wish { exact: true, ef: Some(7), target_recall: Some(0.9), profile: Profile::Accuracy, ..WISH };
    assert_eq!(strategy_of(wish, table(100_000)), Strategy::Exact);
    let wish = Wish { exact: false, ..wish };
    // ef is raised to the candidates: fewer would be short.
    assert_eq!(plan_shard(&wish, table(100_000)).ef, 20);
    assert_eq!(plan_shard(&Wish { ef: None, ..wish }, table(100_000)).ef, 24);
    assert_eq!(plan_shard(&Wish { ef: None, target_recall: None, ..wish }, table(100_000)).ef, 120);
    let by_target = Wish { target_recall: Some(0.9), profile: Profile::Accuracy, ..WISH };
    assert_eq!(strategy_of(by_target, namespaces(20_001)), Strategy::HnswIterative);
    assert_eq!(strategy_of(Wish { target_recall: None, ..by_target }, namespaces(50_000)), Strategy::Exact);
}

#[test]
fn a_filter_makes_the_walk_iterative() {
    let wish = Wish { filtered: true, ..WISH };
    assert_eq!(strategy_of(wish, table(100_000)), Strategy::HnswIterative);
    assert_eq!(strategy_of(Wish { ef: Some(40), ..wish }, table(1_000)), Strategy::HnswIterative);
    assert_eq!(strategy_of(wish, ShardSize { shard_graph: false, ..table(100_000) }), Strategy::Exact);
    assert_eq!(strategy_of(Wish { per_namespace: Some(1), ..WISH }, table(100_000)), Strategy::Exact);
}

#[test]
fn ef_is_shared_out_among_graphs() {
    let ef = |graphs_in_all| plan_shard(&Wish { graphs: graphs_in_all, ..WISH }, graphs(2, 50_000, 50_000)).ef;
    assert_eq!((ef(1), ef(5), ef(25)), (64, 40, 25));
    let shard_ef = |shards| plan_shard(&Wish { shards, ..WISH }, table(50_000)).ef;
    assert_eq!((shard_ef(1), shard_ef(12)), (64, 31));
    let large = Wish { k: 500, graphs: 25, ..WISH };
    assert_eq!(plan_shard(&large, graphs(2, 500_000, 500_000)).ef, 500, "one graph can hold the whole top k");
}

#[test]
fn measured_ef_takes_the_place_of_the_usual_one_within_bounds() {
    let calibrated = |own| Calibrated { own_graphs: Some(own), shard_graphs: Some(own + 1) };
    let ef_of = |wish: Wish, size| plan_shard(&wish, size).ef;
    let ef = |wish: Wish| ef_of(wish, graphs(1, 50_000, 50_000));
    let one = Wish { graphs: 1, ..WISH };
    assert_eq!(ef(Wish { calibrated: calibrated(33), ..one }), 33);
    assert_eq!(ef(Wish { calibrated: calibrated(10), ..one }), 20, "no less than candidates");
    assert_eq!(ef(Wish { calibrated: calibrated(10), overfetch: 1.0, ..one }), 20, "nor than the least");
    assert_eq!(ef(Wish { calibrated: calibrated(10), graphs: 30, ..one }), 10, "each of many less");
    assert_eq!(ef(Wish { calibrated: calibrated(33), ef: Some(50), ..one }), 50, "ef as asked wins");
    assert_eq!(ef(Wish { calibrated: calibrated(33), k: 11, ..one }), 64, "not measured for so many hits");
    assert_eq!(ef(Wish { calibrated: calibrated(99), k: 11, ..one }), 99);
    assert_eq!(ef_of(Wish { calibrated: calibrated(33), ..WISH }, table(50_000)), 34, "the shard's graph");
}

#[test]
fn recall_wanted_is_the_target_or_what_the_profile_promises() {
    assert_eq!(WISH.recall(), Some(0.98));
    assert_eq!(Wish { target_recall: Some(0.9), ..WISH }.recall(), Some(0.9));
    assert_eq!(Wish { ef: Some(9), ..WISH }.recall(), None);
    assert_eq!(Wish { exact: true, ..WISH }.recall(), None);
}

#[test]
fn exact_scans_bring_near_ties() {
    let plan = plan_shard(&Wish { exact: true, overfetch: 1.0, ..WISH }, table(5_000));
    assert_eq!((plan.candidates, plan.per_namespace), (18, None));
    let plan = plan_shard(&Wish { per_namespace: Some(1), overfetch: 1.0, ..WISH }, table(5_000));
    assert_eq!((plan.candidates, plan.per_namespace), (38, Some(3)));
    let plan = plan_shard(&Wish { per_namespace: Some(1_000), overfetch: 1.0, ..WISH }, table(5_000));
    assert_eq!((plan.candidates, plan.per_namespace), (28, Some(1_002)));
}

proptest! {
    #[test]
    fn every_shard_is_asked_for_at_least_k_and_ef_yields_them(
        k in 1_u32..=1_000, overfetch in 1.0_f64..=10.0, ef in prop::option::of(1_u32..=1_000), rows in prop::option::of(0_u64..10_000_000),
        whole_table in any::<bool>(), filtered in any::<bool>(), own in 0_u32..40, graph_rows in 0_u64..10_000_000,
        shard_graph in any::<bool>(), shards in 1_u32..20, share in prop::option::of(1e-6_f64..0.999),
        measured in prop::option::of(1_u32..=400),
    ) {
        let matching = share.map(|share| Matching { share, indexed_rows: Some(share * 10_000.0) });
        let calibrated = Calibrated { own_graphs: measured, shard_graphs: measured };
        let wish = Wish { k, overfetch, ef, filtered, shards, graphs: own, calibrated, ..WISH };
        let plan = plan_shard(&wish, ShardSize { rows, whole_table, graphs: own, graph_rows, shard_graph, matching });
        prop_assert!(plan.candidates >= k);
        prop_assert!(plan.ef <= limits::EF);
        prop_assert!(plan.strategy == Strategy::Exact || plan.ef >= k);
        prop_assert!(plan.visits_max.is_none_or(|visits| visits >= k));
    }
}
