//! The planner shows its work: what the way it took costs by its model, and which others it passed over. Only asked for by
//! those who want to know; a plan is made without it.

use super::filtered;
use super::plan::{Reach, ShardPlan, ShardSize, Strategy, Wish, rows_to_weigh, ways};
use atoll_proto::explain::RejectedWay;

/// What was weighed for one shard.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Weighed {
    /// What the way that was taken costs, in microseconds; none while rows are not counted yet.
    pub cost_us: Option<f64>,
    /// The others, cheapest first; none where no choice was left.
    pub rejected: Vec<RejectedWay>,
}

fn what(strategy: Strategy) -> &'static str {
    match strategy {
        Strategy::Exact(_) => "look at every matching row",
        Strategy::OwnGraphs => "walk the graphs of large namespaces, look at the other rows",
        Strategy::Hnsw => "walk the graph over the shard",
    }
}

/// What was weighed when `plan` was made.
pub fn weighed(wish: &Wish, reach: &Reach, size: ShardSize, plan: &ShardPlan) -> Weighed {
    let (scan, ..) = filtered::exact(wish, size);
    let Ok(rows) = rows_to_weigh(wish, size) else {
        return Weighed { cost_us: size.rows.map(|_| scan), rejected: Vec::new() };
    };
    let mut weighed = Weighed::default();
    for way in ways(wish, reach, size, rows) {
        // A scan that ef ruled out has its price all the same.
        let cost_us = if way.cost.is_finite() { way.cost } else { scan };
        if way.strategy == plan.strategy {
            weighed.cost_us = Some(cost_us);
            continue;
        }
        let (strategy, what) = (way.strategy.word().to_owned(), what(way.strategy).to_owned());
        weighed.rejected.push(RejectedWay { strategy, what, cost_us });
    }
    weighed.rejected.sort_by(|a, b| a.cost_us.total_cmp(&b.cost_us));
    weighed
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::search::filtered::Matching;
    use crate::search::plan::plan_shard;
    use proptest::prelude::{any, prop, prop_assert, prop_assert_eq, proptest};

    const WISH: Wish = Wish::USUAL;
    const LARGE: ShardSize = ShardSize {
        rows: Some(40_000),
        table_rows: 40_000,
        whole_table: true,
        graphs: 1,
        graph_rows: 30_000,
        shard_graph: true,
        matching: None,
    };

    fn weigh(wish: Wish, size: ShardSize) -> Weighed {
        let reach = Reach { shards: 1, graphs: 1, ..Reach::default() };
        weighed(&wish, &reach, size, &plan_shard(&wish, &reach, size))
    }

    #[test]
    fn the_others_are_named_with_their_cost() {
        let Weighed { cost_us, rejected } = weigh(WISH, LARGE);
        let words: Vec<&str> = rejected.iter().map(|way| way.strategy.as_str()).collect();
        assert_eq!(words, ["hnsw", "exact"], "{rejected:?}");
        assert!(cost_us.unwrap() < rejected[0].cost_us);
        assert_eq!(rejected[1].cost_us, 30_000.0);
    }

    #[test]
    fn ways_under_a_filter_are_weighed_as_well() {
        let matching = |share| {
            let indexed_rows = Some(share * 40_000.0);
            ShardSize { matching: Some(Matching { share, share_of_graphs: share, indexed_rows }), ..LARGE }
        };
        let wish = Wish { filtered: true, ..WISH };
        let Weighed { cost_us, rejected } = weigh(wish, matching(0.02));
        assert_eq!(cost_us, Some(60.0 + 800.0 * 1.8), "what the index leads to, not every row: {rejected:?}");
        let Weighed { cost_us, rejected } = weigh(wish, matching(0.9));
        assert_eq!(rejected.len(), 2, "{rejected:?}");
        assert!(cost_us.unwrap() < rejected[0].cost_us, "{rejected:?}");
        let unknown = Weighed { cost_us: Some(30_000.0), rejected: Vec::new() };
        assert_eq!(weigh(wish, LARGE), unknown, "nothing was weighed");
    }

    #[test]
    fn where_there_is_no_choice_nothing_is_rejected() {
        let scan = Weighed { cost_us: Some(30_000.0), rejected: Vec::new() };
        assert_eq!(weigh(Wish { exact: true, ..WISH }, LARGE), scan);
        assert_eq!(weigh(Wish { per_namespace: Some(2), ..WISH }, LARGE), scan);
        assert_eq!(weigh(WISH, ShardSize { rows: Some(100), ..LARGE }).rejected, []);
        assert_eq!(weigh(WISH, ShardSize { rows: None, ..LARGE }), Weighed::default());
    }

    proptest! {
        #[test]
        fn what_was_taken_costs_least(
            rows in 301_u64..10_000_000, share in 0.0_f64..1.0, whole_table in any::<bool>(), own in 0_u32..40,
            shard_graph in any::<bool>(), shards in 1_u32..20, ef in prop::option::of(1_u32..1_000),
        ) {
            let graph_rows = (rows as f64 * share) as u64;
            let size =
                ShardSize { rows: Some(rows), table_rows: rows, whole_table, graphs: own, graph_rows, shard_graph, matching: None };
            let (wish, reach) = (Wish { ef, ..WISH }, Reach { shards, graphs: own, ..Reach::default() });
            let weighed = weighed(&wish, &reach, size, &plan_shard(&wish, &reach, size));
            let cost = weighed.cost_us.unwrap();
            prop_assert!(cost.is_finite() && weighed.rejected.iter().all(|way| way.cost_us.is_finite()));
            prop_assert!(ef.is_some() || weighed.rejected.iter().all(|way| way.cost_us >= cost));
            prop_assert_eq!(weighed.rejected.is_sorted_by(|a, b| a.cost_us <= b.cost_us), true);
        }
    }
}
