use super::Strategy;
use super::*;
use crate::search::calibration::LADDER;
use proptest::prelude::{any, prop, prop_assert, proptest};

const WISH: Wish = Wish::USUAL;
const SCAN: Strategy = Strategy::Exact(RowPath::Namespaces);
/// A search of one table, or of one namespace with a graph of its own.
const ONE: Reach = Reach { shards: 1, graphs: 1, calibrated: Calibrated { own_graphs: None, shard_graphs: None } };

/// A table with a graph over all its rows.
fn table(rows: u64) -> ShardSize {
    ShardSize { whole_table: true, shard_graph: true, ..graphs(0, 0, rows) }
}

/// Namespaces without graphs of their own, in a table twice as large with a graph over all its rows.
fn namespaces(rows: u64) -> ShardSize {
    ShardSize { whole_table: false, table_rows: 2 * rows, ..table(rows) }
}

/// So many namespaces with graphs of their own among so many rows.
fn graphs(graphs: u32, graph_rows: u64, rows: u64) -> ShardSize {
    ShardSize {
        rows: Some(rows),
        table_rows: rows,
        whole_table: false,
        graphs,
        graph_rows,
        shard_graph: false,
        matching: None,
    }
}

fn strategy_of(wish: Wish, size: ShardSize) -> Strategy {
    plan_shard(&wish, &ONE, size).strategy
}

#[test]
fn small_is_exact_and_large_walks_a_graph() {
    assert_eq!(strategy_of(WISH, table(300)), SCAN);
    assert_eq!(strategy_of(WISH, table(1_500)), Strategy::Hnsw);
    assert_eq!(strategy_of(WISH, namespaces(20_000)), SCAN);
    assert_eq!(strategy_of(WISH, namespaces(20_001)), Strategy::Hnsw);
    assert_eq!(strategy_of(WISH, ShardSize { rows: None, ..table(0) }), SCAN);
    assert_eq!(strategy_of(WISH, ShardSize { shard_graph: false, ..table(1_000_000) }), SCAN);
}

#[test]
fn a_namespace_with_a_graph_is_walked_when_that_costs_less() {
    assert_eq!(strategy_of(WISH, graphs(1, 320, 320)), SCAN);
    assert_eq!(strategy_of(WISH, graphs(1, 1_000, 1_000)), Strategy::OwnGraphs);
    assert_eq!(strategy_of(WISH, graphs(1, 1_000, 100_000)), Strategy::OwnGraphs, "the rest is scanned in any case");
    assert_eq!(strategy_of(Wish { exact: true, ..WISH }, graphs(1, 100_000, 100_000)), SCAN);
    assert!(!strategy_of(Wish { filtered: true, ..WISH }, graphs(1, 9_000, 9_000)).walks());
    assert_eq!(strategy_of(Wish { ef: Some(40), ..WISH }, graphs(1, 500, 500)), Strategy::OwnGraphs);
}

#[test]
fn who_names_ef_gets_a_walk_where_there_is_something_to_walk() {
    let named = Wish { ef: Some(40), ..WISH };
    for wish in [named, Wish { filtered: true, ..named }] {
        assert_eq!(strategy_of(wish, namespaces(1_000)), Strategy::Hnsw, "of part of a shard");
        assert_eq!(strategy_of(wish, table(1_000)), Strategy::Hnsw);
        assert!(!strategy_of(wish, graphs(0, 0, 1_000)).walks());
        assert_eq!(plan_shard(&wish, &ONE, namespaces(1_000)).ef, 40);
    }
}

#[test]
fn everything_goes_the_cheaper_way() {
    let wish = Wish { profile: Profile::Accuracy, ..WISH };
    let reach = Reach { shards: 2, graphs: 25, ..ONE };
    let strategy_of = |size| plan_shard(&wish, &reach, size).strategy;
    let both = |graph_rows, rows| ShardSize { whole_table: true, shard_graph: true, ..graphs(2, graph_rows, rows) };
    assert_eq!(strategy_of(both(8_000, 8_050)), Strategy::OwnGraphs);
    assert_eq!(strategy_of(both(8_000, 20_000)), Strategy::Hnsw, "a long scan of the rest");
    let part = ShardSize { whole_table: false, ..both(8_000, 8_900) };
    assert_eq!(strategy_of(part), Strategy::OwnGraphs, "not all of it is asked for");
}

#[test]
fn precedence_is_exact_then_ef_then_target_then_profile() {
    let wish = Wish { exact: true, ef: Some(7), target_recall: Some(0.9), profile: Profile::Accuracy, ..WISH };
    assert_eq!(strategy_of(wish, table(100_000)), SCAN);
    let wish = Wish { exact: false, ..wish };
    let ef = |wish| plan_shard(&wish, &ONE, table(100_000)).ef;
    // ef is raised to the candidates: fewer would be short.
    assert_eq!(ef(wish), 20);
    assert_eq!(ef(Wish { ef: None, ..wish }), 24);
    assert_eq!(ef(Wish { ef: None, target_recall: None, ..wish }), 125);
    let by_target = Wish { target_recall: Some(0.9), profile: Profile::Accuracy, ..WISH };
    assert_eq!(strategy_of(by_target, namespaces(20_001)), Strategy::Hnsw);
    assert_eq!(strategy_of(Wish { target_recall: None, ..by_target }, namespaces(50_000)), SCAN);
}

#[test]
fn a_profile_gets_what_its_recall_as_a_target_gets() {
    let ef = |wish| plan_shard(&wish, &ONE, table(100_000)).ef;
    for (profile, recall) in [(Profile::Speed, 0.95), (Profile::Balanced, 0.98), (Profile::Accuracy, 0.99)] {
        let by_profile = ef(Wish { profile, ..WISH });
        assert_eq!(by_profile, ef(Wish { target_recall: Some(recall), ..WISH }), "{profile:?}");
    }
}

#[test]
fn ef_is_shared_out_among_graphs() {
    let ef = |wish, graphs_in_all| {
        plan_shard(&wish, &Reach { graphs: graphs_in_all, ..ONE }, graphs(2, 500_000, 500_000)).ef
    };
    assert_eq!((ef(WISH, 1), ef(WISH, 5), ef(WISH, 25)), (64, 40, 28));
    let shard_ef = |shards| plan_shard(&WISH, &Reach { shards, ..ONE }, table(50_000)).ef;
    assert_eq!((shard_ef(1), shard_ef(12)), (64, 32));
    let hundred = Wish { k: 100, profile: Profile::Accuracy, ..WISH };
    assert_eq!((ef(hundred, 1), ef(hundred, 2), ef(hundred, 25)), (200, 200, 125), "of what over-fetch asks for");
    let large = Wish { k: 490, ..WISH };
    assert_eq!(ef(large, 25), 500, "one graph can hold the whole top k, and near ties");
}

#[test]
fn what_no_ef_yields_is_scanned() {
    for size in [table(100_000), graphs(1, 100_000, 100_000)] {
        assert!(strategy_of(Wish { k: 500, ..WISH }, size).walks());
        assert_eq!(strategy_of(Wish { k: 501, ..WISH }, size), SCAN);
        assert!(strategy_of(Wish { k: 501, ef: Some(900), ..WISH }, size).walks(), "unless ef is named");
    }
}

#[test]
fn measured_ef_takes_the_place_of_the_usual_one_within_bounds() {
    let reach = |own| Reach { calibrated: Calibrated { own_graphs: Some(own), shard_graphs: Some(2 * own) }, ..ONE };
    let ef = |wish, reach: Reach| plan_shard(&wish, &reach, graphs(1, 50_000, 50_000)).ef;
    assert_eq!(ef(WISH, reach(32)), 32);
    assert_eq!(ef(WISH, reach(10)), 20, "no less than candidates");
    assert_eq!(ef(Wish { overfetch: 1.0, ..WISH }, reach(10)), 20, "nor than the least");
    let many = Reach { graphs: 30, ..reach(10) };
    assert_eq!(ef(Wish { overfetch: 1.0, ..WISH }, many), 10, "each of many less");
    assert_eq!(ef(WISH, many), 20, "but for near ties");
    assert_eq!(ef(Wish { ef: Some(50), ..WISH }, reach(32)), 50, "ef as asked wins");
    assert_eq!(ef(Wish { k: 11, ..WISH }, reach(32)), 64, "not measured for so many hits");
    assert_eq!(ef(Wish { k: 11, ..WISH }, reach(100)), 100);
    assert_eq!(plan_shard(&WISH, &reach(32), table(50_000)).ef, 64, "the shard's graph");
}

#[test]
fn ef_is_one_of_a_few_values() {
    assert_eq!([1, 5, 11, 20, 21, 801, 1_000].map(rung), [5, 5, 13, 20, 24, 1_000, 1_000]);
    assert!(RUNGS.is_sorted_by(|a, b| a < b) && RUNGS.windows(2).all(|pair| pair[1] * 10 <= pair[0] * 14));
    assert_eq!(LADDER.map(rung), LADDER, "what was measured is taken as it is");
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
    let plan_of = |wish| plan_shard(&wish, &ONE, table(5_000));
    let plan = plan_of(Wish { exact: true, overfetch: 1.0, ..WISH });
    assert_eq!((plan.candidates, plan.per_namespace), (18, None));
    let plan = plan_of(Wish { per_namespace: Some(1), overfetch: 1.0, ..WISH });
    assert_eq!((plan.candidates, plan.per_namespace), (38, Some(3)));
    let plan = plan_of(Wish { per_namespace: Some(1_000), overfetch: 1.0, ..WISH });
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
        let matching = share.map(|share| Matching { share, share_of_graphs: share, indexed_rows: Some(share * 10_000.0) });
        let calibrated = Calibrated { own_graphs: measured, shard_graphs: measured };
        let (wish, reach) = (Wish { k, overfetch, ef, filtered, ..WISH }, Reach { shards, graphs: own, calibrated });
        let table_rows = rows.unwrap_or_default();
        let size = ShardSize { rows, table_rows, whole_table, graphs: own, graph_rows, shard_graph, matching };
        let plan = plan_shard(&wish, &reach, size);
        prop_assert!(plan.candidates >= k);
        prop_assert!(plan.ef <= limits::EF);
        prop_assert!(!plan.strategy.walks() || plan.ef >= plan.candidates.min(limits::EF));
        prop_assert!(exact_plan(&wish, size).candidates >= k);
    }
}
