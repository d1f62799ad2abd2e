//! What to ask of each shard: strategy, number of candidates and ef, from the request and what is known of the shard.
//!
//! Over-fetch is the pair (k', ef): an HNSW scan yields at most ef rows, so asking for more rows without raising ef changes
//! nothing. Every touched shard is asked for at least k, because namespaces are hashed: one shard can hold the whole top k.
//!
//! A large namespace has a graph of its own, so the rows asked for fall into those behind a graph each and the rest, which is
//! scanned. A graph over a whole shard is shared by all its namespaces; a walk of it goes where the query leads, and may come by few
//! rows of a small one. Which way is taken is a matter of cost. What a filter lets through is for [`super::filtered`] to say.

use super::calibration::{EF_MIN, EF_MIN_OF_SEVERAL, MEASURED_K, promise};
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
/// The same for walks of a single shard, whose candidates bring along all that is wanted of a hit: a walk is not exact anyhow.
const NEAR_TIES_OF_ONE_SHARD: u32 = 4;
/// The same inside each namespace, where hits of a namespace are limited.
const NEAR_TIES_IN_NAMESPACE: u32 = 2;
/// Values that ef is rounded up to, those that are measured among them. With few of them, most reads find it in force on their
/// connection.
const RUNGS: [u32; 25] =
    [5, 6, 8, 10, 13, 16, 20, 24, 28, 32, 40, 50, 64, 80, 100, 125, 160, 200, 250, 320, 400, 500, 640, 800, limits::EF];

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
    /// Most hits of one namespace: the best of each namespace can't be read off one graph.
    pub per_namespace: Option<u32>,
}

/// How far a whole search reaches, on all shards together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reach {
    /// Shards that it asks.
    pub shards: u32,
    /// Namespaces with a graph of their own that it asks for.
    pub graphs: u32,
    /// What measurement asks for in such searches.
    pub calibrated: Calibrated,
}

/// ef of each graph that gives the recall wanted, as it was measured; none where too little was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Calibrated {
    /// Where namespaces' own graphs are walked.
    pub own_graphs: Option<u32>,
    /// Where the graphs over whole shards are.
    pub shard_graphs: Option<u32>,
}

impl Wish {
    /// A search that says no more than what to look for.
    pub const USUAL: Self = Self {
        k: 10,
        overfetch: 2.0,
        profile: Profile::Auto,
        target_recall: None,
        ef: None,
        exact: false,
        filtered: false,
        per_namespace: None,
    };

    /// The recall that is wanted; none where something stronger decides.
    pub fn recall(&self) -> Option<f64> {
        let decided = self.exact || self.ef.is_some();
        (!decided).then(|| self.target_recall.unwrap_or_else(|| promise(self.profile)))
    }
}

/// What is known of the rows that a shard would have to look at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ShardSize {
    /// Rows of the namespaces asked for; none if unknown.
    pub rows: Option<u64>,
    /// Rows of the whole table, as many at least.
    pub table_rows: u64,
    /// Whether all rows of the table are asked for.
    pub whole_table: bool,
    /// Namespaces asked for that have a graph of their own which is worth walking.
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
    /// Look at every matching row, reached so.
    Exact(RowPath),
    /// Walk the graph of each namespace that has one, and look at every row of the others.
    OwnGraphs,
    /// Walk the graph over the whole table.
    Hnsw,
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
    /// Why, for people.
    pub why: &'static str,
}

/// A way to search a shard.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Way {
    /// In microseconds.
    pub(super) cost: f64,
    pub(super) strategy: Strategy,
    ef: u32,
    why: &'static str,
}

impl Strategy {
    /// Whether it walks graphs.
    pub fn walks(self) -> bool {
        match self {
            Self::Exact(_) => false,
            Self::OwnGraphs | Self::Hnsw => true,
        }
    }

    /// Its word in answers and metrics.
    pub fn word(self) -> &'static str {
        if self.walks() { "hnsw" } else { "exact" }
    }
}

/// Plans one shard. Precedence: `exact`, `ef`, `target_recall`, `profile`.
pub fn plan_shard(wish: &Wish, reach: &Reach, size: ShardSize) -> ShardPlan {
    let rows = match rows_to_weigh(wish, size) {
        Ok(rows) => rows,
        Err(why) => return ShardPlan { why, ..exact_plan(wish, size) },
    };
    let ways = ways(wish, reach, size, rows).into_iter();
    let Way { strategy, ef, why, .. } =
        ways.min_by(|a, b| a.cost.total_cmp(&b.cost)).expect("a scan is always among the ways");
    match strategy {
        Strategy::Exact(_) => ShardPlan { why, ..exact_plan(wish, size) },
        Strategy::OwnGraphs | Strategy::Hnsw => {
            ShardPlan { strategy, candidates: sent(wish, reach), per_namespace: None, ef, why }
        }
    }
}

/// The same by looking at every row that matches: what follows a walk that found too few.
pub fn exact_plan(wish: &Wish, size: ShardSize) -> ShardPlan {
    let candidates = match wish.per_namespace {
        None => wish.k,
        // Those beyond the limit take up places of other namespaces' candidates, so there are more places.
        Some(most) => wanted(wish).max(wish.k * (most + NEAR_TIES_IN_NAMESPACE).div_ceil(most)),
    };
    ShardPlan {
        strategy: Strategy::Exact(filtered::exact(wish, size).1),
        candidates: candidates + NEAR_TIES,
        per_namespace: wish.per_namespace.map(|most| most + NEAR_TIES_IN_NAMESPACE),
        ef: 0,
        why: "the graph gave fewer than k",
    }
}

/// The rows asked for, if there is more than one way to them; else why they are looked at one by one.
pub(super) fn rows_to_weigh(wish: &Wish, size: ShardSize) -> Result<u64, &'static str> {
    if wish.exact {
        return Err("asked for");
    }
    if wish.per_namespace.is_some() {
        return Err("hits are limited for each namespace");
    }
    match size.rows {
        None => Err("number of rows not known yet"),
        Some(rows) if rows <= ALWAYS_EXACT_ROWS => Err("few rows"),
        Some(_) if wish.filtered && size.matching.is_none() && wish.ef.is_none() => {
            Err("what matches is not known yet")
        }
        Some(rows) => Ok(rows),
    }
}

/// The ways to the rows that are asked for and match.
pub(super) fn ways(wish: &Wish, reach: &Reach, size: ShardSize, rows: u64) -> Vec<Way> {
    let (scan, path, why) = filtered::exact(wish, size);
    // Who names ef wants a walk where there is something to walk.
    let cost = if wish.ef.is_some() { f64::INFINITY } else { scan };
    let mut ways = vec![Way { cost, strategy: Strategy::Exact(path), ef: 0, why }];
    let filtered = size.matching.is_some();
    if size.graphs > 0
        && let Some(ef) = own_graphs_ef(wish, reach, size.matching.map_or(1.0, |matching| matching.share_of_graphs))
    {
        let each = walk_cost(ef, size.graph_rows / u64::from(size.graphs), filtered);
        let rest = rows.saturating_sub(size.graph_rows) as f64 * SCAN_COST;
        let why = match filtered {
            false => "large namespaces have graphs of their own",
            true => "many rows match: the walk passes over the others",
        };
        ways.push(Way { cost: f64::from(size.graphs) * each + rest, strategy: Strategy::OwnGraphs, ef, why });
    }
    // Part of a table may lie where the query does not lead: for where nothing else is bearable.
    let bearable = size.whole_table || rows > exact_rows(wish) || (wish.ef.is_some() && size.graphs == 0);
    if size.shard_graph
        && bearable
        && let Some(ef) = shard_graph_ef(wish, reach, share_of_table(size, rows))
    {
        let why = match size.whole_table && !filtered {
            true => "one graph over all rows of the shard",
            false => "many rows, not all of which match",
        };
        ways.push(Way { cost: walk_cost(ef, size.table_rows, filtered), strategy: Strategy::Hnsw, ef, why });
    }
    ways
}

/// Share of a table's rows that are asked for and match.
fn share_of_table(size: ShardSize, rows: u64) -> f64 {
    let asked = if size.whole_table { 1.0 } else { rows as f64 / size.table_rows.max(1) as f64 };
    asked.min(1.0) * size.matching.map_or(1.0, |matching| matching.share)
}

/// What a walk of a graph costs, in microseconds: it visits rows in proportion to ef, and each visit costs more the larger the
/// graph is, and if a filter is tried on what it finds.
pub(super) fn walk_cost(ef: u32, rows: u64, filtered: bool) -> f64 {
    let depth = (rows.max(2) as f64).log2();
    let visit = 0.045 * depth * depth + if filtered { filtered::TRIED_ROW_COST } else { 0.0 };
    60.0 + f64::from(ef) * visit
}

fn own_graphs_ef(wish: &Wish, reach: &Reach, share: f64) -> Option<u32> {
    walk_ef(wish, reach.calibrated.own_graphs, reach.graphs, share)
}

fn shard_graph_ef(wish: &Wish, reach: &Reach, share: f64) -> Option<u32> {
    walk_ef(wish, reach.calibrated.shard_graphs, reach.shards, share)
}

/// ef of each of so many graphs of which this share of rows is asked for and matches; none where a walk can't yield enough.
pub(super) fn walk_ef(wish: &Wish, measured: Option<u32>, walks: u32, share: f64) -> Option<u32> {
    let wanted = wanted(wish);
    if let Some(named) = wish.ef {
        return Some(named.max(wanted.min(limits::EF)));
    }
    let usual = fan_out(wish, walks, ef(wish).max(wanted));
    let ef = match measured {
        None => usual,
        // More hits need more of ef than was measured: then it may only be raised.
        Some(measured) if wish.k > MEASURED_K => measured.max(usual),
        Some(measured) if walks <= 1 => measured.max(wanted).max(EF_MIN),
        Some(measured) => measured.max(candidates(wish)).max(EF_MIN_OF_SEVERAL),
    };
    let ef = ef.saturating_add(filtered::passed_over(wish.k, fan_out(wish, walks, wanted), share));
    (wanted <= limits::EF && ef <= limits::EF).then(|| rung(ef))
}

/// ef belongs to the fan-out as a whole: of many graphs each holds only a part of the top k, and what one misses another makes
/// up for. But one graph can hold it all: never less than the candidates that it sends.
fn fan_out(wish: &Wish, walks: u32, alone: u32) -> u32 {
    let share = f64::from(walks.max(1)).powf(-FAN_OUT_DAMPING);
    ((f64::from(alone) * share).ceil() as u32).max(candidates(wish))
}

/// The next of a few values that is not less.
pub(super) fn rung(ef: u32) -> u32 {
    RUNGS.into_iter().find(|rung| *rung >= ef).unwrap_or(limits::EF)
}

/// k': what a walk looks for at least.
fn wanted(wish: &Wish) -> u32 {
    let wanted = (f64::from(wish.k) * wish.overfetch).ceil() as u32;
    wanted.max(wish.k)
}

/// What each walk of a search sends.
fn sent(wish: &Wish, reach: &Reach) -> u32 {
    match reach.shards {
        0 | 1 => candidates(wish).min(wish.k + NEAR_TIES_OF_ONE_SHARD),
        _ => candidates(wish),
    }
}

/// Candidates of a walk. They come in the order of distances: what lies beyond the first k and their near ties can't be a hit.
fn candidates(wish: &Wish) -> u32 {
    wanted(wish).min(wish.k + NEAR_TIES)
}

/// ef of one graph, as long as too little was measured; and where something stronger decides, of no effect.
fn ef(wish: &Wish) -> u32 {
    match wish.recall() {
        Some(recall) if recall <= 0.9 => 24,
        Some(recall) if recall <= 0.95 => 40,
        Some(recall) if recall <= 0.98 => 64,
        Some(recall) if recall <= 0.99 => 120,
        Some(_) | None => 400,
    }
}

/// Rows up to which an exact scan is preferred to a shared graph that not all rows asked for are in.
fn exact_rows(wish: &Wish) -> u64 {
    if wish.recall().is_some_and(|recall| recall > 0.98) { 50_000 } else { 20_000 }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
