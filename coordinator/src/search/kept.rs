//! What is made of tables in the background, held by each coordinator for itself: samples and summaries.
//!
//! A thing is made when a search first wants it, and again when it has become old or its table has another size; meanwhile searches
//! go by the old one, or without. One that could not be made is missed by nobody: it is tried again when a search asks after a while.
//! Only a few are made at a time, because searches come first, and none queues up: who does not get a turn asks again. What is held is
//! bounded in bytes; of a table too many its place stays, so that it is not made anew at once.

use crate::targets::{Place, Target};
use crate::workers::ShardError;
use atoll_proto::CatalogVersion;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// Tables that are remembered, with something made of them or without.
const TABLES_MAX: usize = 4_096;
/// Longest that rows of a table may be read for it.
const READ_WITHIN: Duration = Duration::from_secs(5);

/// How long things last, and how many there may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rule {
    /// What they are called.
    pub(super) name: &'static str,
    /// One is made anew after this time.
    pub(super) fresh: Duration,
    /// And after this time if its table's rows are a quarter more or fewer, if there is none, or if making it anew failed.
    pub(super) fresh_while_changing: Duration,
    /// Of all together; those not asked for the longest go first.
    pub(super) bytes_max: usize,
    /// Made at a time.
    pub(super) making_max: usize,
}

/// Things of one kind, by table.
#[derive(Debug)]
pub(super) struct Kept<T> {
    rule: Rule,
    tables: Mutex<HashMap<Table, Held<T>>>,
    making: Arc<Semaphore>,
}

/// A table of a collection as it last changed: one that is made again under the same name is another.
type Table = (CatalogVersion, String);

#[derive(Debug)]
struct Held<T> {
    /// With its bytes.
    made: Option<(Arc<T>, usize)>,
    /// Rows of the table when making began.
    table_rows: u64,
    begun_at: Instant,
    /// Whether what was begun then came to nothing: what is held is older.
    failed: bool,
    asked_at: Instant,
}

impl<T: Send + Sync + 'static> Kept<T> {
    /// Nothing yet.
    pub(super) fn new(rule: Rule) -> Arc<Self> {
        Arc::new(Self { rule, tables: Mutex::default(), making: Arc::new(Semaphore::new(rule.making_max)) })
    }

    /// What was made of a table of so many rows, if it is there by now; `make` says how, given a deadline, and of how many bytes
    /// it is.
    pub(super) fn of<F>(
        self: &Arc<Self>,
        target: &Target,
        place: &Place,
        table_rows: u64,
        make: impl FnOnce(Place, Instant) -> F,
    ) -> Option<Arc<T>>
    where
        F: Future<Output = Result<Option<(T, usize)>, ShardError>> + Send + 'static,
    {
        let table = (target.collection.changed_at, place.table.quoted());
        let now = Instant::now();
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        let mut made = None;
        if let Some(held) = tables.get_mut(&table) {
            held.asked_at = now;
            made = held.made.clone();
            if held.is_fresh(&self.rule, table_rows, now) {
                return made.map(|(made, _)| made);
            }
        }
        let there = made.as_ref().map(|(made, _)| made.clone());
        let Ok(turn) = self.making.clone().try_acquire_owned() else { return there };
        tables.insert(table.clone(), Held { made, table_rows, begun_at: now, failed: false, asked_at: now });
        drop(tables);
        let (kept, making) = (self.clone(), make(place.clone(), now + READ_WITHIN));
        tokio::spawn(async move {
            match making.await {
                Ok(made) => kept.hold(&table, made),
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::debug!(error, table = table.1, what = kept.rule.name, "not made, trying again later");
                    kept.fail(&table);
                }
            }
            drop(turn);
        });
        there
    }

    fn hold(&self, table: &Table, made: Option<(T, usize)>) {
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = tables.get_mut(table) {
            held.made = made.map(|(made, bytes)| (Arc::new(made), bytes));
        }
        forget_too_many(&mut tables, self.rule.bytes_max);
    }

    fn fail(&self, table: &Table) {
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = tables.get_mut(table) {
            held.failed = true;
        }
    }
}

impl<T> Held<T> {
    fn is_fresh(&self, rule: &Rule, table_rows: u64, now: Instant) -> bool {
        let changed = self.table_rows.abs_diff(table_rows) > self.table_rows / 4;
        let soon = changed || self.failed || self.made.is_none();
        let lasts = if soon { rule.fresh_while_changing } else { rule.fresh };
        now.saturating_duration_since(self.begun_at) < lasts
    }
}

fn forget_too_many<T>(tables: &mut HashMap<Table, Held<T>>, bytes_max: usize) {
    let mut bytes: usize = tables.values().flat_map(|held| &held.made).map(|(_, bytes)| bytes).sum();
    while bytes > bytes_max {
        let oldest = tables.values_mut().filter(|held| held.made.is_some()).min_by_key(|held| held.asked_at);
        let Some((_, freed)) = oldest.and_then(|held| held.made.take()) else { break };
        bytes -= freed;
    }
    while tables.len() > TABLES_MAX {
        let oldest = tables.iter().min_by_key(|(_, held)| held.asked_at).map(|(table, _)| table.clone());
        if oldest.and_then(|table| tables.remove(&table)).is_none() {
            break;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const RULE: Rule = Rule {
        name: "thing",
        fresh: Duration::from_secs(60),
        fresh_while_changing: Duration::from_secs(2),
        bytes_max: 1_000,
        making_max: 1,
    };

    fn held(bytes: Option<usize>, begun_at: Instant) -> Held<()> {
        let made = bytes.map(|bytes| (Arc::new(()), bytes));
        Held { made, table_rows: 1_000, begun_at, failed: false, asked_at: begun_at }
    }

    fn table(i: usize) -> Table {
        (CatalogVersion(1), format!("t{i}"))
    }

    #[test]
    fn a_thing_is_made_anew_when_it_is_old_or_its_table_has_another_size() {
        let begun = Instant::now();
        let fresh = |bytes, rows, after| held(bytes, begun).is_fresh(&RULE, rows, begun + after);
        let soon = Duration::from_secs(1);
        assert!(fresh(Some(1), 1_000, RULE.fresh - soon) && !fresh(Some(1), 1_000, RULE.fresh));
        for rows in [750, 1_250] {
            assert!(fresh(Some(1), rows, RULE.fresh - soon), "{rows}");
        }
        for rows in [700, 1_300] {
            assert!(fresh(Some(1), rows, soon) && !fresh(Some(1), rows, RULE.fresh_while_changing), "{rows}");
        }
        assert!(fresh(None, 1_000, soon) && !fresh(None, 1_000, RULE.fresh_while_changing));
    }

    #[test]
    fn what_could_not_be_made_anew_is_not_taken_for_new() {
        let (kept, begun) = (Kept::new(RULE), Instant::now());
        kept.tables.lock().unwrap().insert(table(0), held(Some(1), begun));
        kept.fail(&table(0));
        kept.fail(&table(1));
        let tables = kept.tables.lock().unwrap();
        let fresh = |after| tables[&table(0)].is_fresh(&RULE, 1_000, begun + after);
        assert!(fresh(Duration::from_secs(1)) && !fresh(RULE.fresh_while_changing));
        assert!(tables[&table(0)].made.is_some() && tables.len() == 1, "the old one serves until then");
    }

    #[test]
    fn what_was_not_asked_for_the_longest_goes_first_and_its_place_stays() {
        let now = Instant::now();
        let of = |i: usize| (table(i), held(Some(400), now + Duration::from_secs(i as u64)));
        let mut tables: HashMap<Table, Held<()>> = (0..4).map(of).collect();
        forget_too_many(&mut tables, RULE.bytes_max);
        let made = |i| tables[&table(i)].made.is_some();
        assert_eq!([made(0), made(1), made(2), made(3)], [false, false, true, true]);
    }

    #[test]
    fn not_too_many_tables_are_remembered() {
        let now = Instant::now();
        let of = |i: usize| (table(i), held(None, now + Duration::from_millis(i as u64)));
        let mut tables: HashMap<Table, Held<()>> = (0..TABLES_MAX + 3).map(of).collect();
        forget_too_many(&mut tables, RULE.bytes_max);
        assert_eq!(tables.len(), TABLES_MAX);
        assert!(!tables.contains_key(&table(2)) && tables.contains_key(&table(3)));
    }
}
