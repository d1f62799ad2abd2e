//! What a filter means for the way to the nearest rows that it lets through.
//!
//! A filter that few rows pass is answered by the indexes on metadata and tags, one that most rows pass by a walk that skips what
//! does not match, and what lies between by whichever costs less; each is compared with looking at every row asked for. Without
//! an estimate PostgreSQL chooses among exact ways.
//!
//! A walk goes once, with ef so large that k rows match of what it found. Those are then the nearest, as surely as without a filter;
//! and if fewer match it shows, and an exact scan follows. A walk that goes on until enough match would have to be stopped somewhere,
//! and where pgvector stops it, it hands out what it brushed past: k rows, but not the nearest (adr/0013).

use super::plan::{SCAN_COST, ShardSize, Wish, walk_cost, walk_ef};

/// What a row costs that an index on metadata or tags leads to, in microseconds: it lies somewhere in the table.
const INDEXED_ROW_COST: f64 = 1.8;
/// What such an index costs by itself.
const INDEX_COST: f64 = 60.0;
/// What trying the filter costs on a row that a walk found.
pub(super) const TRIED_ROW_COST: f64 = 1.2;
/// Deviations by which as many rows as are thought to match may fall short of it, now and then, and a few more.
const LUCK: f64 = 2.5;
const LUCK_MIN: f64 = 2.0;

/// What a filter is thought to let through. Shares are above 0 and below 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Matching {
    /// Share of the rows asked for.
    pub share: f64,
    /// Share of the rows of each namespace whose own graph may be walked, at least.
    pub share_of_graphs: f64,
    /// Rows of the whole table that the indexes on metadata and tags lead to; none if they don't answer any part of the filter.
    pub indexed_rows: Option<f64>,
}

/// How an exact scan gets at its rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
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

/// The cheapest exact way to the rows that match: its cost in microseconds, which it is, and why.
pub(super) fn exact(wish: &Wish, size: ShardSize) -> (f64, RowPath, &'static str) {
    let scan = size.rows.unwrap_or_default() as f64 * SCAN_COST;
    match size.matching {
        Some(Matching { indexed_rows: Some(rows), .. }) if INDEX_COST + rows * INDEXED_ROW_COST < scan => {
            let why = "few rows match, and an index leads to them";
            (INDEX_COST + rows * INDEXED_ROW_COST, RowPath::Filter, why)
        }
        None if wish.filtered => (scan, RowPath::Any, "what matches is not known yet"),
        Some(_) | None => (scan, RowPath::Namespaces, "scanning these rows costs least"),
    }
}

/// What a walk has to find besides, where only this share of what it finds matches: so that `wanted` match, and k even with bad
/// luck. What was found last is found worst, so ef grows with it.
pub(super) fn passed_over(k: u32, wanted: u32, share: f64) -> u32 {
    let k = f64::from(k);
    let matching = f64::from(wanted).max(k + LUCK * k.sqrt() + LUCK_MIN);
    (matching * (1.0 / share - 1.0)).ceil() as u32
}

/// Whether to walk the graph of a namespace of so many rows, of which this share matches. If not, its rows are looked at.
pub fn is_worth_walking(wish: &Wish, rows: u64, share: f64) -> bool {
    let cost = walk_ef(wish, None, 1, share).map(|ef| walk_cost(ef, rows, true));
    cost.is_some_and(|cost| wish.ef.is_some() || cost < rows as f64 * SCAN_COST)
}

#[cfg(test)]
#[path = "filtered_tests.rs"]
mod tests;
