//! The way to the nearest rows that a filter lets through, chosen by what it lets through.
//!
//! A filter that few rows pass is answered by the indexes on metadata and tags, one that most rows pass by a walk that skips what
//! does not match, and what lies between by whichever costs less; each is compared with looking at every row asked for. Without
//! an estimate PostgreSQL chooses among exact ways. A walk that finds too few is followed by an exact scan, so a wrong estimate
//! costs time and nothing else.
//!
//! A walk that goes on until enough rows match has to be asked for no more than k: each further candidate costs as many visits as
//! the filter refuses rows, and recall comes from ef alone (measured: the same for 10, 20 and 40 candidates).

use super::plan::{
    SCAN_COST, ShardPlan, ShardSize, Strategy, Wish, ef, exact_rows, own_graphs_ef, shard_graphs_ef, walk_cost, wanted,
};
use atoll_proto::limits;

/// What a row costs that an index on metadata or tags leads to, in microseconds: it lies somewhere in the table.
const INDEXED_ROW_COST: f64 = 1.8;
/// What such an index costs by itself.
const INDEX_COST: f64 = 60.0;
/// How many times as much a walk costs that keeps what it passed, in order to go on, and tests the filter on each.
const ITERATIVE_FACTOR: f64 = 1.6;
/// Rows that a walk looks at for one that matches, beyond what chance would have.
const VISITS_MARGIN: f64 = 1.5;
/// A walk is taken only where so many times k rows are thought to match: it must not end up short.
const ENOUGH_MATCHES: f64 = 3.0;
/// A walk stops at so many times the visits it was thought to need: then the matching rows are not where the query is.
const PATIENCE: f64 = 3.0;
/// It may visit so many rows in any case.
const VISITS_MIN: f64 = 500.0;
/// The most a walk ever visits.
pub(super) const VISITS_MAX: u32 = 40_000;

/// What a filter is thought to let through.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Matching {
    /// Share of the rows asked for: above 0, below 1.
    pub share: f64,
    /// Rows of the whole table that the indexes on metadata and tags lead to; none if they don't answer any part of the filter.
    pub indexed_rows: Option<f64>,
}

/// How an exact scan gets at its rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RowPath {
    /// As PostgreSQL thinks best.
    #[default]
    Any,
    /// By the namespaces asked for: each of their rows is looked at.
    Namespaces,
    /// By the filter, through the indexes on metadata and tags.
    Filter,
}

impl RowPath {
    /// Every path.
    pub const ALL: [Self; 3] = [Self::Any, Self::Namespaces, Self::Filter];

    /// Its word in explanations.
    pub fn word(self) -> &'static str {
        match self {
            Self::Any => "postgres",
            Self::Namespaces => "namespaces",
            Self::Filter => "filter",
        }
    }
}

/// The cheapest exact way to the rows that match.
pub(super) fn row_path(size: ShardSize) -> RowPath {
    exact(size).1
}

/// Its cost in microseconds, and which it is.
fn exact(size: ShardSize) -> (f64, RowPath) {
    let scan = size.rows.unwrap_or_default() as f64 * SCAN_COST;
    match size.matching {
        None => (scan, RowPath::Any),
        Some(Matching { indexed_rows: Some(rows), .. }) if INDEX_COST + rows * INDEXED_ROW_COST < scan => {
            (INDEX_COST + rows * INDEXED_ROW_COST, RowPath::Filter)
        }
        Some(_) => (scan, RowPath::Namespaces),
    }
}

/// The cheapest way to the rows that match.
pub(super) fn strategy(wish: &Wish, size: ShardSize, rows: u64) -> (Strategy, &'static str) {
    let Some(matching) = size.matching else {
        return without_estimate(wish, size, rows);
    };
    let (cost, path) = exact(size);
    let why = match path {
        RowPath::Filter => "few rows match, and an index leads to them",
        RowPath::Any | RowPath::Namespaces => "scanning these rows costs least",
    };
    // Who names ef wants a walk where there is something to walk.
    let scan = if wish.ef.is_some() { f64::INFINITY } else { cost };
    let mut ways = vec![(scan, Strategy::Exact, why)];
    if wish.ef.is_some() || matching.share * rows as f64 >= ENOUGH_MATCHES * f64::from(wish.k) {
        if size.graphs > 0 {
            let each = size.graph_rows / u64::from(size.graphs);
            let walks = f64::from(size.graphs) * Walk::of_own_graphs(wish, matching).cost(each);
            let rest = rows.saturating_sub(size.graph_rows) as f64 * SCAN_COST;
            ways.push((walks + rest, Strategy::OwnGraphs, "many rows match: the walk passes over the others"));
        }
        if size.shard_graph {
            let cost = match size.whole_table {
                true => Walk::of_shard_graph(wish, size).cost(rows),
                // It finds what is far from its namespace badly: for where nothing else is bearable.
                false if rows > exact_rows(wish) || (wish.ef.is_some() && size.graphs == 0) => cost * 0.9,
                false => f64::INFINITY,
            };
            ways.push((cost, Strategy::HnswIterative, "many rows, not all of which match"));
        }
    }
    let (_, strategy, why) =
        ways.into_iter().min_by(|a, b| a.0.total_cmp(&b.0)).expect("a scan is always among the ways");
    (strategy, why)
}

/// Rows are scanned as long as that is bearable.
fn without_estimate(wish: &Wish, size: ShardSize, rows: u64) -> (Strategy, &'static str) {
    let asked = wish.ef.is_some();
    if !asked && rows <= exact_rows(wish) {
        return (Strategy::Exact, "few enough rows for this profile");
    }
    match size.shard_graph {
        true if asked => (Strategy::HnswIterative, "ef asked for"),
        true => (Strategy::HnswIterative, "many rows, not all of which may match"),
        false => (Strategy::Exact, "a filter, and no graph over the shard"),
    }
}

/// The plan of a walk under a filter.
pub(super) fn walk(wish: &Wish, size: ShardSize, strategy: Strategy, why: &'static str) -> ShardPlan {
    let walk = match (strategy, size.matching) {
        (Strategy::OwnGraphs, Some(matching)) => Walk::of_own_graphs(wish, matching),
        _ => Walk::of_shard_graph(wish, size),
    };
    ShardPlan {
        strategy,
        candidates: wish.k,
        per_namespace: None,
        ef: walk.ef,
        path: row_path(size),
        visits_max: Some(walk.visits_max()),
        why,
    }
}

/// A walk of one graph that goes on until k rows match.
struct Walk {
    ef: u32,
    /// Rows that it is thought to visit; none where there is no telling.
    visits: Option<f64>,
}

impl Walk {
    fn of_own_graphs(wish: &Wish, matching: Matching) -> Self {
        Self::new(wish, own_graphs_ef(wish, wanted(wish)), matching)
    }

    fn of_shard_graph(wish: &Wish, size: ShardSize) -> Self {
        match size.matching {
            Some(matching) if size.whole_table => Self::new(wish, shard_graphs_ef(wish, wanted(wish)), matching),
            _ => Self { ef: ef(wish).max(wanted(wish).min(limits::EF)), visits: None },
        }
    }

    /// Where few rows match, those that do lie further out: ef is raised, though less than in proportion, because the walk goes on
    /// anyway until it has enough. Not where it was named.
    fn new(wish: &Wish, alone: u32, matching: Matching) -> Self {
        let ef = match wish.ef {
            Some(_) => alone,
            None => ((f64::from(alone) / matching.share.sqrt()).ceil() as u32).min(limits::EF),
        };
        let for_k = f64::from(wish.k) / matching.share * VISITS_MARGIN;
        Self { ef, visits: Some(f64::from(ef).max(for_k)) }
    }

    fn cost(&self, rows: u64) -> f64 {
        let visits = self.visits.unwrap_or(f64::from(VISITS_MAX)).min(rows as f64);
        walk_cost(visits as u32, rows) * ITERATIVE_FACTOR
    }

    fn visits_max(&self) -> u32 {
        let visits = self.visits.map_or(f64::from(VISITS_MAX), |visits| (visits * PATIENCE).max(VISITS_MIN));
        (visits as u32).min(VISITS_MAX)
    }
}

#[cfg(test)]
#[path = "filtered_tests.rs"]
mod tests;
