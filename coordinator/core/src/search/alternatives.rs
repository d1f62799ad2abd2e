//! The planner shows its work: what the way it took costs by its model, and which others it passed over. Only asked for by
//! those who want to know; a plan is made without it.

use super::plan::{ALWAYS_EXACT_ROWS, SCAN_COST, ShardPlan, ShardSize, Strategy, Wish, wanted, ways};
use atoll_proto::explain::RejectedWay;

/// What was weighed for one shard.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Weighed {
    /// What the way that was taken costs, in microseconds; none while rows are not counted yet.
    pub cost_us: Option<f64>,
    /// The others, cheapest first; none where no choice was left.
    pub rejected: Vec<RejectedWay>,
}

impl Strategy {
    /// Its word in answers and metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::OwnGraphs | Self::Hnsw => "hnsw",
            Self::HnswIterative => "hnsw_iterative",
        }
    }

    fn what(self) -> &'static str {
        match self {
            Self::Exact => "look at every row",
            Self::OwnGraphs => "walk the graphs of large namespaces, look at the other rows",
            Self::Hnsw => "walk the graph over the shard",
            Self::HnswIterative => "walk the graph over the shard until enough match",
        }
    }
}

/// What was weighed when `plan` was made of `wish` and `size`.
pub fn weighed(wish: &Wish, size: ShardSize, plan: &ShardPlan) -> Weighed {
    let Some(rows) = size.rows else { return Weighed::default() };
    let scan = rows as f64 * SCAN_COST;
    let no_choice = wish.exact || wish.per_namespace.is_some() || wish.filtered || rows <= ALWAYS_EXACT_ROWS;
    if no_choice {
        let cost_us = (plan.strategy == Strategy::Exact).then_some(scan);
        return Weighed { cost_us, rejected: Vec::new() };
    }
    let mut weighed = Weighed::default();
    for (cost, strategy, _) in ways(wish, size, rows, wanted(wish)) {
        // A scan that ef ruled out has its price all the same.
        let cost_us = if cost.is_finite() { cost } else { scan };
        if strategy == plan.strategy {
            weighed.cost_us = Some(cost_us);
            continue;
        }
        let (word, what) = (strategy.word().to_owned(), strategy.what().to_owned());
        weighed.rejected.push(RejectedWay { strategy: word, what, cost_us });
    }
    weighed.rejected.sort_by(|a, b| a.cost_us.total_cmp(&b.cost_us));
    weighed
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::search::plan::plan_shard;
    use crate::search::testing;
    use proptest::prelude::{any, prop, prop_assert, prop_assert_eq, proptest};

    const WISH: Wish = Wish { graphs: 1, ..testing::WISH };
    const LARGE: ShardSize = ShardSize {
        rows: Some(40_000),
        whole_table: true,
        graphs: 1,
        graph_rows: 30_000,
        shard_graph: true,
        matching: None,
    };

    fn weigh(wish: Wish, size: ShardSize) -> Weighed {
        weighed(&wish, size, &plan_shard(&wish, size))
    }

    #[test]
    fn the_others_are_named_with_their_cost() {
        let Weighed { cost_us, rejected } = weigh(WISH, LARGE);
        let words: Vec<&str> = rejected.iter().map(|way| way.strategy.as_str()).collect();
        assert_eq!(words, ["hnsw", "hnsw_iterative", "exact"], "{rejected:?}");
        assert!(cost_us.unwrap() < rejected[0].cost_us);
        assert_eq!(rejected[2].cost_us, 30_000.0);
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
            let size = ShardSize { rows: Some(rows), whole_table, graphs: own, graph_rows, shard_graph, matching: None };
            let weighed = weigh(Wish { shards, graphs: own, ef, ..WISH }, size);
            let cost = weighed.cost_us.unwrap();
            prop_assert!(cost.is_finite() && weighed.rejected.iter().all(|way| way.cost_us.is_finite()));
            prop_assert!(ef.is_some() || weighed.rejected.iter().all(|way| way.cost_us >= cost));
            prop_assert_eq!(weighed.rejected.is_sorted_by(|a, b| a.cost_us <= b.cost_us), true);
        }
    }
}
