use super::*;
use crate::search::plan::{Reach, ShardPlan, Strategy, exact_plan, plan_shard};
use atoll_proto::search::Profile;
use proptest::prelude::{any, prop, prop_assert, proptest};

const WISH: Wish = Wish { filtered: true, ..Wish::USUAL };

/// A namespace with a graph of its own in a table twice as large, under a filter that lets through this share of either.
fn namespace(rows: u64, share: f64) -> ShardSize {
    let indexed_rows = Some(share * 2.0 * rows as f64);
    ShardSize {
        rows: Some(rows),
        table_rows: 2 * rows,
        whole_table: false,
        graphs: 1,
        graph_rows: rows,
        shard_graph: false,
        matching: Some(Matching { share, share_of_graphs: share, indexed_rows }),
    }
}

/// The same under a filter that no index answers.
fn without_index(rows: u64, share: f64) -> ShardSize {
    ShardSize {
        matching: Some(Matching { share, share_of_graphs: share, indexed_rows: None }),
        ..namespace(rows, share)
    }
}

fn plan(wish: Wish, size: ShardSize) -> ShardPlan {
    plan_shard(&wish, &Reach { shards: 1, graphs: size.graphs, ..Reach::default() }, size)
}

fn way(wish: Wish, size: ShardSize) -> Strategy {
    plan(wish, size).strategy
}

#[test]
fn few_matches_are_looked_up_and_many_are_walked_to() {
    for share in [0.001, 0.01, 0.05] {
        assert_eq!(way(WISH, namespace(10_000, share)), Strategy::Exact(RowPath::Filter), "{share}");
    }
    for share in [0.2, 0.5, 0.9] {
        assert_eq!(way(WISH, namespace(10_000, share)), Strategy::OwnGraphs, "{share}");
    }
    assert_eq!(way(WISH, namespace(400, 0.5)), Strategy::Exact(RowPath::Namespaces), "a short scan");
}

#[test]
fn a_filter_without_an_index_is_walked_sooner() {
    let scan = Strategy::Exact(RowPath::Namespaces);
    assert_eq!(way(WISH, without_index(10_000, 0.001)), scan, "a walk would be short");
    assert_eq!(way(WISH, without_index(10_000, 0.05)), Strategy::OwnGraphs);
    assert_eq!(way(WISH, ShardSize { graphs: 0, graph_rows: 0, ..without_index(10_000, 0.9) }), scan);
}

#[test]
fn a_walk_is_not_taken_where_ef_would_not_do() {
    let (scan, hundred) = (Strategy::Exact(RowPath::Namespaces), Wish { k: 100, ..WISH });
    assert_eq!(way(WISH, without_index(1_000_000, 0.02)), scan);
    assert_eq!(way(WISH, without_index(1_000_000, 0.03)), Strategy::OwnGraphs);
    assert_eq!(way(hundred, without_index(1_000_000, 0.15)), scan);
    assert_eq!(way(hundred, without_index(1_000_000, 0.25)), Strategy::OwnGraphs);
    assert_eq!(way(Wish { ef: Some(40), ..hundred }, without_index(10_000, 0.02)), Strategy::OwnGraphs, "unless named");
    assert_eq!(way(Wish { ef: Some(40), ..WISH }, namespace(10_000, 0.02)), Strategy::OwnGraphs);
}

#[test]
fn ef_holds_what_matches_and_what_is_passed_over() {
    let ef = |wish: Wish, share| plan(wish, without_index(100_000, share)).ef;
    assert_eq!([0.9, 0.5, 0.25, 0.1, 0.05].map(|share| ef(WISH, share)), [80, 100, 125, 250, 500]);
    assert_eq!(ef(Wish { k: 100, ..WISH }, 0.5), 400, "200 of which match");
    assert_eq!(ef(Wish { k: 1, ..WISH }, 0.05), 200, "one might be missed by bad luck");
    assert_eq!(ef(Wish { ef: Some(50), ..WISH }, 0.04), 50, "not where it was named");
    assert_eq!(plan(WISH, without_index(100_000, 0.25)).candidates, 14, "k and near ties");
}

#[test]
fn the_graph_of_which_least_matches_decides() {
    let size = |share_of_graphs| ShardSize {
        graphs: 2,
        matching: Some(Matching { share: 0.5, share_of_graphs, indexed_rows: None }),
        ..without_index(100_000, 0.5)
    };
    assert!(plan(WISH, size(0.1)).ef > 200 && plan(WISH, size(0.5)).ef < 100);
    assert!(is_worth_walking(&WISH, 10_000, 0.1) && is_worth_walking(&WISH, 2_000, 0.5));
    assert!(!is_worth_walking(&WISH, 1_000_000, 0.01), "ef is not large enough");
    assert!(!is_worth_walking(&WISH, 1_500, 0.1), "a scan costs less");
    assert!(is_worth_walking(&Wish { ef: Some(40), ..WISH }, 1_500, 0.01), "asked for");
}

#[test]
fn what_follows_a_short_walk_takes_the_cheapest_exact_way() {
    let (hundred, size) = (Wish { k: 100, ..WISH }, namespace(3_000, 0.12));
    assert_eq!(exact_plan(&hundred, size).strategy, Strategy::Exact(RowPath::Filter));
    assert_eq!(exact_plan(&hundred, without_index(3_000, 0.12)).strategy, Strategy::Exact(RowPath::Namespaces));
    assert_eq!(exact_plan(&hundred, size).candidates, 108);
}

#[test]
fn everything_is_walked_by_the_graph_over_the_shard() {
    let all = ShardSize {
        whole_table: true,
        table_rows: 15_000,
        shard_graph: true,
        graphs: 0,
        graph_rows: 0,
        ..without_index(15_000, 0.3)
    };
    assert_eq!(way(WISH, all), Strategy::Hnsw);
    let part = ShardSize { whole_table: false, table_rows: 30_000, ..all };
    assert_eq!(way(WISH, part), Strategy::Exact(RowPath::Namespaces), "part of it is not");
    let many = ShardSize { rows: Some(30_000), table_rows: 60_000, ..part };
    assert_eq!(way(WISH, many), Strategy::Hnsw, "unless a scan is unbearable");
    let ef = |table_rows| plan(WISH, ShardSize { table_rows, ..many }).ef;
    assert!(ef(60_000) > ef(30_000), "{} {}: of what it finds fewer are asked for", ef(60_000), ef(30_000));
    let unknown = ShardSize { matching: None, ..many };
    assert_eq!(way(WISH, unknown), Strategy::Exact(RowPath::Any));
}

#[test]
fn without_an_estimate_postgresql_chooses() {
    let unknown = ShardSize { matching: None, ..namespace(10_000, 0.5) };
    assert_eq!(way(WISH, unknown), Strategy::Exact(RowPath::Any));
    assert_eq!(way(Wish { ef: Some(40), ..WISH }, unknown), Strategy::OwnGraphs, "unless ef is named");
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
        let (fewer, more) = (plan(wish, size(rows, low)), plan(wish, size(rows, low + more)));
        prop_assert!(!fewer.strategy.walks() || more.strategy.walks(), "{fewer:?} {more:?}");
        prop_assert!(more.ef <= fewer.ef || fewer.strategy != more.strategy);
    }

    /// As many as match of what ef finds, on the mean: k, and some to spare.
    #[test]
    fn ef_is_thought_to_yield_more_than_k(k in 1_u32..=500, share in 1e-3_f64..0.999, rows in 1_000_u64..1_000_000) {
        let plan = plan(Wish { k, ..WISH }, without_index(rows, share));
        prop_assert!(!plan.strategy.walks() || f64::from(plan.ef) * share >= f64::from(k) + f64::from(k).sqrt());
    }
}
