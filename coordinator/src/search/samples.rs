//! Samples of tables' rows, held by each coordinator for itself.
//!
//! A sample is drawn in the background when a filtered search first wants one, and again when it has become old or its table much
//! larger; meanwhile searches go by the old one, or without. A sample that could not be drawn is missed by nobody: it is tried again
//! when the next search asks after a while. What is held is bounded in tables, and in rows and bytes of each.

use crate::targets::Place;
use crate::workers::sample;
use atoll_core::search::sample::Sample;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// Tables whose samples are held; the one not asked for the longest goes first.
const TABLES_MAX: usize = 128;
/// A sample is drawn anew after this time.
const FRESH: Duration = Duration::from_secs(60);
/// And after this time if its table has twice the rows.
const FRESH_WHILE_GROWING: Duration = Duration::from_secs(2);
/// Longest that drawing may take.
const DRAWN_WITHIN: Duration = Duration::from_secs(5);
/// Samples drawn at a time: searches come first.
const DRAWING_MAX: usize = 2;

/// The samples.
#[derive(Debug)]
pub(super) struct Samples {
    tables: Mutex<HashMap<String, Held>>,
    drawing: Arc<Semaphore>,
}

#[derive(Debug)]
struct Held {
    sample: Option<Arc<Sample>>,
    /// Rows of the table when drawing began.
    table_rows: u64,
    begun_at: Instant,
    asked_at: Instant,
}

impl Samples {
    /// None yet.
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { tables: Mutex::default(), drawing: Arc::new(Semaphore::new(DRAWING_MAX)) })
    }

    /// The sample of a table of so many rows, if there is one by now.
    pub(super) fn of(self: &Arc<Self>, place: &Place, table_rows: u64) -> Option<Arc<Sample>> {
        let name = place.table.quoted();
        let now = Instant::now();
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        let held = tables.get_mut(&name);
        let (sample, fresh) = match held {
            Some(held) => {
                held.asked_at = now;
                (held.sample.clone(), held.is_fresh(table_rows, now))
            }
            None => (None, false),
        };
        if !fresh && let Ok(turn) = self.drawing.clone().try_acquire_owned() {
            forget_one_of_too_many(&mut tables);
            tables.insert(name.clone(), Held { sample: sample.clone(), table_rows, begun_at: now, asked_at: now });
            let (samples, place) = (self.clone(), place.clone());
            tokio::spawn(async move {
                let drawn = sample::draw(&place.pool, &place.table, table_rows, now + DRAWN_WITHIN).await;
                match drawn {
                    Ok(drawn) => samples.hold(&name, drawn),
                    Err(error) => {
                        let error = &error as &dyn std::error::Error;
                        tracing::debug!(error, table = name, "no sample drawn, trying again later");
                    }
                }
                drop(turn);
            });
        }
        sample
    }

    fn hold(&self, name: &str, drawn: Sample) {
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = tables.get_mut(name) {
            held.sample = Some(Arc::new(drawn));
        }
    }
}

impl Held {
    fn is_fresh(&self, table_rows: u64, now: Instant) -> bool {
        let age = now.saturating_duration_since(self.begun_at);
        let grown = table_rows / 2 > self.table_rows;
        age < if grown { FRESH_WHILE_GROWING } else { FRESH }
    }
}

fn forget_one_of_too_many(tables: &mut HashMap<String, Held>) {
    if tables.len() < TABLES_MAX {
        return;
    }
    let oldest = tables.iter().min_by_key(|(_, held)| held.asked_at).map(|(name, _)| name.clone());
    if let Some(name) = oldest {
        tables.remove(&name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(table_rows: u64, begun_at: Instant) -> Held {
        Held { sample: None, table_rows, begun_at, asked_at: begun_at }
    }

    #[test]
    fn a_sample_is_drawn_again_when_it_is_old_or_its_table_has_grown() {
        let begun = Instant::now();
        let fresh = |rows, after| held(1_000, begun).is_fresh(rows, begun + after);
        assert!(fresh(1_000, Duration::from_secs(59)) && !fresh(1_000, FRESH));
        assert!(fresh(5_000, Duration::from_secs(1)) && !fresh(5_000, FRESH_WHILE_GROWING));
        assert!(fresh(1_500, FRESH_WHILE_GROWING));
    }

    #[test]
    fn the_table_not_asked_for_the_longest_goes_first() {
        let now = Instant::now();
        let name = |i: usize| format!("t{i}");
        let of = |i: usize| (name(i), held(0, now + Duration::from_secs(((i + 5) % TABLES_MAX) as u64)));
        let mut tables: HashMap<String, Held> = (0..TABLES_MAX).map(of).collect();
        forget_one_of_too_many(&mut tables);
        assert_eq!(tables.len(), TABLES_MAX - 1);
        assert!(!tables.contains_key(&name(TABLES_MAX - 5)));
    }
}
