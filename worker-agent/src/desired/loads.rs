//! What imports load, as coordinators say: see [`atoll_proto::load`] for the protocol. Takes values and the time, returns values.

use crate::status::TableKey;
use atoll_proto::load::{LOAD_LASTS, LoadReport};
use std::collections::{BTreeSet, HashMap};
use std::time::Instant;

/// Imports under way, and tables whose import ended.
#[derive(Debug, Default)]
pub struct Loads {
    imports: HashMap<String, Load>,
    ended: HashMap<TableKey, Instant>,
}

#[derive(Debug)]
struct Load {
    until: Instant,
    tables: HashMap<TableKey, BTreeSet<String>>,
}

impl Loads {
    /// A coordinator said so. What it said before of the same import is forgotten. Tells whether it is news, and not the same again.
    pub fn tell(&mut self, report: LoadReport, now: Instant) -> bool {
        self.imports.retain(|_, load| load.until > now);
        let tables = report.tables.into_iter().map(|table| {
            let namespaces: BTreeSet<String> = table.namespaces.into_iter().collect();
            ((Some(table.shard), table.collection), namespaces)
        });
        if report.ended {
            self.imports.remove(&report.import);
            self.ended.extend(tables.map(|(table, _)| (table, now)));
            return true;
        }
        let load = Load { until: now + LOAD_LASTS, tables: tables.collect() };
        let before = self.imports.get(&report.import).map(|load| &load.tables);
        let is_news = before != Some(&load.tables);
        self.imports.insert(report.import, load);
        is_news
    }

    /// Namespaces of a table that are being loaded.
    pub fn of(&self, table: &TableKey, now: Instant) -> BTreeSet<String> {
        let current = self.imports.values().filter(|load| load.until > now);
        current.filter_map(|load| load.tables.get(table)).flatten().cloned().collect()
    }

    /// When the last import into a table ended.
    pub fn ended(&self, table: &TableKey) -> Option<Instant> {
        self.ended.get(table).copied()
    }

    /// Tables whose last import ended after `counted`; all that any import wrote to, before a first count.
    pub fn ended_since(&self, counted: Option<Instant>) -> Vec<TableKey> {
        let later = self.ended.iter().filter(|(_, at)| counted.is_none_or(|counted| **at > counted));
        later.map(|(table, _)| table.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use atoll_proto::ShardId;
    use atoll_proto::load::LoadedTable;
    use std::time::Duration;

    fn report(import: &str, ended: bool, namespaces: &[&str]) -> LoadReport {
        let namespaces = namespaces.iter().map(|name| (*name).to_owned()).collect();
        let table = LoadedTable { shard: ShardId(1), collection: "c".parse().unwrap(), namespaces };
        LoadReport { import: import.to_owned(), ended, tables: vec![table] }
    }

    fn table() -> TableKey {
        (Some(ShardId(1)), "c".parse().unwrap())
    }

    fn names(set: BTreeSet<String>) -> String {
        set.into_iter().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn what_any_import_says_holds_until_it_ends_or_runs_out() {
        let (mut loads, begun) = (Loads::default(), Instant::now());
        let after = |ms| begun + Duration::from_millis(ms);
        loads.tell(report("one", false, &["a", "b"]), begun);
        loads.tell(report("two", false, &["b", "c"]), after(5_000));
        assert_eq!(names(loads.of(&table(), after(5_000))), "a b c");
        assert!(!loads.tell(report("two", false, &["c", "b"]), after(5_000)), "no news");
        assert_eq!(names(loads.of(&table(), begun + LOAD_LASTS)), "b c", "one was not said again");
        loads.tell(report("two", false, &["c"]), after(6_000));
        assert_eq!(names(loads.of(&table(), after(6_500))), "a b c", "the other still says b");
        loads.tell(report("one", true, &["a", "b"]), after(6_600));
        assert_eq!(names(loads.of(&table(), after(6_700))), "c");
        let other = (Some(ShardId(2)), "c".parse().unwrap());
        assert!(loads.of(&other, after(6_700)).is_empty());
    }

    #[test]
    fn an_end_is_remembered_for_the_next_count() {
        let (mut loads, begun) = (Loads::default(), Instant::now());
        assert!(loads.ended_since(None).is_empty());
        let at = begun + Duration::from_secs(1);
        loads.tell(report("one", true, &[]), at);
        assert_eq!((loads.ended(&table()), loads.ended_since(Some(begun))), (Some(at), vec![table()]));
        assert!(loads.ended_since(Some(at)).is_empty(), "counted since");
    }

    #[test]
    fn a_late_message_revives_a_load_no_longer_than_any() {
        let (mut loads, begun) = (Loads::default(), Instant::now());
        loads.tell(report("one", true, &["a"]), begun);
        loads.tell(report("one", false, &["a"]), begun);
        assert_eq!(names(loads.of(&table(), begun)), "a");
        assert!(loads.of(&table(), begun + LOAD_LASTS).is_empty());
    }
}
