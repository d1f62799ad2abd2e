//! What to ask of each shard: strategy, number of candidates and ef, from the request and what is known of the shard.
//!
//! Over-fetch is the pair (k', ef): an HNSW scan yields at most ef rows, so asking for more rows without raising ef changes
//! nothing. Every touched shard is asked for at least k, because namespaces are hashed: one shard can hold the whole top k.
//!
//! A large namespace has a graph of its own, so the rows asked for fall into those behind a graph each and the rest, which is
//! scanned. A graph over a whole shard is shared by all its namespaces and finds a small one badly (recall of 0.01 to 0.6 was
//! measured for a tenth of the rows), so it is for searches of everything. Which way is taken is a matter of cost. Under a filter
//! it is a matter of what the filter lets through: [`super::filtered`].

use super::filtered::{self, Matching, RowPath};
use atoll_proto::limits;
use atoll_proto::search::Profile;

/// What looking at a row exactly costs, in microseconds. Only the proportion to [`walk_cost`] matters. Both were fitted to
/// namespaces of 40 to 14,000 rows of 384 dimensions, warm.
pub(super) const SCAN_COST: f64 = 0.75;
/// Up to this many rows are scanned without a thought.
pub const ALWAYS_EXACT_ROWS: u64 = 300;
/// How ef falls with the number of graphs walked: by this power of it. Fitted to recall over 25 graphs of one corpus.
const FAN_OUT_DAMPING: f64 = 0.3;
/// Candidates beyond the hits wanted: a worker orders by 32-bit distances, and among near ties at the end it may leave out one
/// that is nearer in 64 bits.
pub const NEAR_TIES: u32 = 8;
/// The same inside each namespace, where hits of a namespace are limited.
const NEAR_TIES_IN_NAMESPACE: u32 = 2;

/// What of a request bears on its plan.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Wish {
    /// Hits wanted.
    pub k: u32,
    /// What a walk looks for, as a multiple of k.
    pub overfetch: f64,
    /// Recall against speed.
    pub profile: Profile,
    /// Recall to aim for.
    pub target_recall: Option<f64>,
    /// ef as asked.
    pub ef: Option<u32>,
    /// Look at every entry.
    pub exact: bool,
    /// Whether there is a filter.
    pub filtered: bool,
    /// Whether namespaces are left out.
    pub excluding: bool,
    /// Most hits of one namespace: the best of each namespace can't be read off one graph.
    pub per_namespace: Option<u32>,
    /// Shards that the whole search asks.
    pub shards: u32,
    /// Namespaces with a graph of their own that the whole search asks for, on all shards.
    pub graphs: u32,
}

/// What is known of the rows that a shard would have to look at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ShardSize {
    /// Rows of the namespaces asked for, or of the whole table; none if unknown.
    pub rows: Option<u64>,
    /// Whether these are all rows of the table.
    pub whole_table: bool,
    /// Namespaces among them that have a graph of their own.
    pub graphs: u32,
    /// Rows of those namespaces.
    pub graph_rows: u64,
    /// Whether there is a graph over the whole table.
    pub shard_graph: bool,
    /// What the filter is thought to let through; none without one, and as long as there is nothing to judge by.
    pub matching: Option<Matching>,
}

/// How a shard is searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Strategy {
    /// Look at every matching row.
    Exact,
    /// Walk the graph of each namespace that has one, and look at every row of the others.
    OwnGraphs,
    /// Walk the graph over the whole table once.
    Hnsw,
    /// Walk the graph over the whole table until enough rows match.
    HnswIterative,
}

/// What a shard is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShardPlan {
    /// How.
    pub strategy: Strategy,
    /// Candidates that the worker sends, at most.
    pub candidates: u32,
    /// Most candidates of one namespace.
    pub per_namespace: Option<u32>,
    /// `hnsw.ef_search`; of no effect when exact.
    pub ef: u32,
    /// How an exact scan gets at its rows.
    pub path: RowPath,
    /// A walk goes on until there are enough candidates, visiting so many rows of a graph at most; none if it ends with ef.
    pub visits_max: Option<u32>,
    /// Why, for people.
    pub why: &'static str,
}

/// Plans one shard. Precedence: `exact`, `ef`, `target_recall`, `profile`.
pub fn plan_shard(wish: &Wish, size: ShardSize) -> ShardPlan {
    let wanted = wanted(wish);
    let (strategy, why) = strategy(wish, size, wanted);
    if wish.filtered && strategy != Strategy::Exact {
        return filtered::walk(wish, size, strategy, why);
    }
    let ef = match strategy {
        Strategy::OwnGraphs => fan_out_ef(wish, wish.graphs, wanted),
        Strategy::Hnsw => fan_out_ef(wish, wish.shards, wanted),
        Strategy::Exact | Strategy::HnswIterative => ef(wish).max(wanted.min(limits::EF)),
    };
    // What a walk finds comes in the order of its distances: those beyond the first k and their near ties can't be hits.
    let candidates = wanted.min(wish.k + NEAR_TIES);
    let visits_max = (strategy == Strategy::HnswIterative).then_some(filtered::VISITS_MAX);
    let path = filtered::row_path(size);
    let plan = ShardPlan { strategy, candidates, per_namespace: None, ef, path, visits_max, why };
    match (strategy, wish.per_namespace) {
        (Strategy::Exact, None) => plan.exact(wish.k),
        (Strategy::Exact, Some(most)) => {
            // Those beyond the limit take up places of other namespaces' candidates, so there are more places.
            let each = most + NEAR_TIES_IN_NAMESPACE;
            let candidates = wanted.max(wish.k * each.div_ceil(most)) + NEAR_TIES;
            ShardPlan { candidates, per_namespace: Some(each), ..plan }
        }
        (Strategy::OwnGraphs | Strategy::Hnsw | Strategy::HnswIterative, _) => plan,
    }
}

impl ShardPlan {
    /// The same by looking at every row that matches.
    pub fn exact(self, k: u32) -> Self {
        Self { strategy: Strategy::Exact, candidates: k + NEAR_TIES, visits_max: None, ..self }
    }

    /// The strategy's name, for people and metrics.
    pub fn strategy_name(&self) -> &'static str {
        match (self.strategy, self.visits_max) {
            (Strategy::Exact, _) => "exact",
            (Strategy::OwnGraphs | Strategy::Hnsw, None) => "hnsw",
            (Strategy::OwnGraphs | Strategy::Hnsw, Some(_)) | (Strategy::HnswIterative, _) => "hnsw_iterative",
        }
    }
}

fn strategy(wish: &Wish, size: ShardSize, candidates: u32) -> (Strategy, &'static str) {
    if wish.exact {
        return (Strategy::Exact, "asked for");
    }
    if wish.per_namespace.is_some() {
        return (Strategy::Exact, "hits are limited for each namespace");
    }
    let Some(rows) = size.rows else {
        return (Strategy::Exact, "number of rows not known yet");
    };
    if rows <= ALWAYS_EXACT_ROWS {
        return (Strategy::Exact, "few rows");
    }
    if wish.filtered { filtered::strategy(wish, size, rows) } else { by_cost(wish, size, rows, candidates) }
}

/// The cheapest way to all rows that are asked for.
fn by_cost(wish: &Wish, size: ShardSize, rows: u64, candidates: u32) -> (Strategy, &'static str) {
    let scan = match wish.ef {
        // Who names ef wants a walk where there is something to walk.
        Some(_) => f64::INFINITY,
        None => rows as f64 * SCAN_COST,
    };
    let mut ways = vec![(scan, Strategy::Exact, "scanning these rows costs least")];
    if size.graphs > 0 {
        let rest = rows.saturating_sub(size.graph_rows) as f64 * SCAN_COST;
        let walks = f64::from(size.graphs)
            * walk_cost(fan_out_ef(wish, wish.graphs, candidates), size.graph_rows / u64::from(size.graphs));
        ways.push((walks + rest, Strategy::OwnGraphs, "large namespaces have graphs of their own"));
    }
    let walkable = size.shard_graph && candidates <= limits::EF && !wish.excluding;
    if walkable && size.whole_table {
        let ef = fan_out_ef(wish, wish.shards, candidates);
        ways.push((walk_cost(ef, rows), Strategy::Hnsw, "one graph over all rows of the shard"));
    }
    if size.shard_graph && rows > exact_rows(wish) {
        // Costs more than it should and finds what is far from its namespace badly: better than a scan of so many rows alone.
        let cost = scan.min(rows as f64 * SCAN_COST * 0.9);
        ways.push((cost, Strategy::HnswIterative, "many rows, not all of which may match"));
    }
    let (_, strategy, why) =
        ways.into_iter().min_by(|a, b| a.0.total_cmp(&b.0)).expect("a scan is always among the ways");
    (strategy, why)
}

/// What a walk of a graph costs, in microseconds: it visits rows in proportion to ef, and each visit costs more the larger the
/// graph is.
pub(super) fn walk_cost(ef: u32, rows: u64) -> f64 {
    let depth = (rows.max(2) as f64).log2();
    60.0 + f64::from(ef) * 0.045 * depth * depth
}

/// ef belongs to the fan-out as a whole: of many graphs each holds only a part of the top k, and what one misses another makes
/// up for. At least k, for one graph can hold it all.
pub(super) fn fan_out_ef(wish: &Wish, walks: u32, candidates: u32) -> u32 {
    let alone = ef(wish);
    if wish.ef.is_some() || walks <= 1 {
        return alone.max(candidates.min(limits::EF));
    }
    let share = f64::from(walks).powf(-FAN_OUT_DAMPING);
    ((f64::from(alone) * share).ceil() as u32).max(wish.k).min(limits::EF)
}

/// k': what a walk looks for at least.
pub(super) fn wanted(wish: &Wish) -> u32 {
    let wanted = (f64::from(wish.k) * wish.overfetch).ceil() as u32;
    wanted.max(wish.k)
}

pub(super) fn ef(wish: &Wish) -> u32 {
    if let Some(ef) = wish.ef {
        return ef;
    }
    if let Some(recall) = wish.target_recall {
        return match recall {
            r if r <= 0.9 => 24,
            r if r <= 0.95 => 40,
            r if r <= 0.98 => 80,
            r if r <= 0.99 => 120,
            _ => 400,
        };
    }
    match wish.profile {
        Profile::Accuracy => 120,
        Profile::Balanced | Profile::Auto => 64,
        Profile::Speed => 40,
    }
}

/// Rows up to which an exact scan is preferred to a shared graph that not all rows asked for are in.
pub(super) fn exact_rows(wish: &Wish) -> u64 {
    let precise = match wish.target_recall {
        Some(recall) => recall > 0.98,
        None => wish.profile == Profile::Accuracy,
    };
    if precise { 50_000 } else { 20_000 }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
