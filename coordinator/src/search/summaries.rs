//! Summaries of shards' vectors, held by each coordinator for itself.
//!
//! A summary is made in the background when a search of everything first wants it, and again when it has become old or its table
//! has another size; meanwhile searches go by the old one, or without. Nothing is lost with one that can't be made: its shard
//! counts as promising, and it is tried again when a search asks after a while. What is written meanwhile is found all the same,
//! because every shard is asked. What is held is bounded in bytes.

use crate::targets::Place;
use crate::workers::{ShardError, draw};
use atoll_core::search::summary::{self, Summary};
use atoll_proto::Metric;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// Of all summaries together; those not asked for the longest go first. A summary of 384 dimensions has 48 KiB.
const BYTES_MAX: usize = 64 << 20;
/// Tables that are remembered, with a summary or without.
const TABLES_MAX: usize = 4_096;
/// A summary is made anew after this time.
const FRESH: Duration = Duration::from_secs(3_600);
/// And after this time if its table's rows are a quarter more or fewer, or if it could not be made.
const FRESH_WHILE_CHANGING: Duration = Duration::from_secs(10);
/// Longest that drawing vectors may take.
const DRAWN_WITHIN: Duration = Duration::from_secs(5);
/// Summaries made at a time: searches come first.
const MAKING_MAX: usize = 1;

/// The summaries.
#[derive(Debug)]
pub(super) struct Summaries {
    tables: Mutex<HashMap<String, Held>>,
    making: Semaphore,
}

#[derive(Debug)]
struct Held {
    summary: Option<Arc<Summary>>,
    /// Rows of the table when making began.
    table_rows: u64,
    begun_at: Instant,
    asked_at: Instant,
}

impl Summaries {
    /// None yet.
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { tables: Mutex::default(), making: Semaphore::new(MAKING_MAX) })
    }

    /// How much each place, a table of so many rows, gets of what is shared out.
    pub(super) fn weights(self: &Arc<Self>, metric: Metric, query: &[f32], places: &[(&Place, u64)]) -> Vec<f64> {
        let summaries: Vec<Option<Arc<Summary>>> = match metric {
            // An inner product is no distance that a centroid could have.
            Metric::Dot => vec![None; places.len()],
            Metric::Cosine | Metric::L2 => places.iter().map(|(place, rows)| self.of(place, *rows)).collect(),
        };
        summary::weights(metric, query, summaries.iter().map(Option::as_deref))
    }

    /// The summary of a table, if there is one by now.
    fn of(self: &Arc<Self>, place: &Place, table_rows: u64) -> Option<Arc<Summary>> {
        let name = place.table.quoted();
        let now = Instant::now();
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        let mut summary = None;
        if let Some(held) = tables.get_mut(&name) {
            held.asked_at = now;
            if held.is_fresh(table_rows, now) {
                return held.summary.clone();
            }
            summary = held.summary.clone();
        }
        tables.insert(name.clone(), Held { summary: summary.clone(), table_rows, begun_at: now, asked_at: now });
        forget_too_many(&mut tables);
        drop(tables);
        let (summaries, place) = (self.clone(), place.clone());
        tokio::spawn(async move {
            let _turn = summaries.making.acquire().await.expect("nobody closes it");
            match make(&place, table_rows).await {
                Ok(made) => summaries.hold(&name, made),
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::debug!(error, table = name, "no summary made, trying again later");
                }
            }
        });
        summary
    }

    fn hold(&self, name: &str, made: Option<Summary>) {
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = tables.get_mut(name) {
            held.summary = made.map(Arc::new);
        }
        forget_too_many(&mut tables);
    }
}

/// Draws vectors and makes a summary of them; none of too few.
async fn make(place: &Place, table_rows: u64) -> Result<Option<Summary>, ShardError> {
    let deadline = Instant::now() + DRAWN_WITHIN;
    let vectors = draw::vectors(&place.pool, &place.table, table_rows, summary::SAMPLE, deadline).await?;
    let metric = place.table.settings.metric;
    // Tens of milliseconds of computing.
    let made = tokio::task::spawn_blocking(move || Summary::of(metric, vectors)).await;
    Ok(made.expect("making a summary does not panic"))
}

impl Held {
    fn is_fresh(&self, table_rows: u64, now: Instant) -> bool {
        let changed = self.table_rows.abs_diff(table_rows) > self.table_rows / 4;
        let lasts = if changed || self.summary.is_none() { FRESH_WHILE_CHANGING } else { FRESH };
        now.saturating_duration_since(self.begun_at) < lasts
    }

    fn bytes(&self) -> usize {
        self.summary.as_ref().map_or(0, |summary| summary.bytes())
    }
}

fn forget_too_many(tables: &mut HashMap<String, Held>) {
    let mut bytes: usize = tables.values().map(Held::bytes).sum();
    while bytes > BYTES_MAX || tables.len() > TABLES_MAX {
        let oldest = tables.iter().min_by_key(|(_, held)| held.asked_at).map(|(name, _)| name.clone());
        let Some(held) = oldest.and_then(|name| tables.remove(&name)) else { return };
        bytes -= held.bytes();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(summary: bool, begun_at: Instant) -> Held {
        let vectors = (0..64_u8).map(|i| vec![f32::from(i), 1.0]).collect();
        let summary = summary.then(|| Summary::of(Metric::L2, vectors)).flatten().map(Arc::new);
        Held { summary, table_rows: 1_000, begun_at, asked_at: begun_at }
    }

    #[test]
    fn a_summary_is_made_anew_when_it_is_old_or_its_table_has_another_size() {
        let begun = Instant::now();
        let fresh = |rows, after| held(true, begun).is_fresh(rows, begun + after);
        let soon = Duration::from_secs(9);
        assert!(fresh(1_000, FRESH / 2) && !fresh(1_000, FRESH));
        assert!(fresh(1_250, FRESH / 2) && fresh(750, FRESH / 2));
        assert!(fresh(1_300, soon) && !fresh(1_300, FRESH_WHILE_CHANGING));
        assert!(fresh(700, soon) && !fresh(700, FRESH_WHILE_CHANGING));
        assert!(!held(false, begun).is_fresh(1_000, begun + FRESH_WHILE_CHANGING));
    }

    #[test]
    fn the_tables_not_asked_for_the_longest_go_first() {
        let now = Instant::now();
        let of = |i: usize| (format!("t{i}"), held(false, now + Duration::from_millis(i as u64)));
        let mut tables: HashMap<String, Held> = (0..TABLES_MAX + 3).map(of).collect();
        forget_too_many(&mut tables);
        assert_eq!(tables.len(), TABLES_MAX);
        assert!(!tables.contains_key("t2") && tables.contains_key("t3"));
    }
}
