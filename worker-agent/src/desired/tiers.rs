//! Decides which namespaces of a table have a graph (an HNSW index) of their own. Takes values, returns values.
//!
//! A small namespace is scanned exactly and pays for no graph. A large one gets a partial index over just its rows, built and
//! dropped concurrently, so nobody waits and no row moves: whether a graph is there or not, the same statement gives the right
//! rows, only sooner or later. So a crash in the middle leaves nothing but an invalid index, which is dropped and built again.
//!
//! A graph that is no longer wanted is first named no more, so that coordinators stop planning with it, and goes some time after.

use atoll_proto::IndexScope;
use atoll_proto::agent::{GRAPH_FROM_ROWS, GRAPHS_MAX, NamespaceRows};
use std::collections::{BTreeMap, BTreeSet};

/// Below this many rows a namespace loses its graph. Far from the number where it gets one, so that none comes and goes.
const GRAPH_UNTIL_ROWS: u64 = GRAPH_FROM_ROWS / 2;
/// A namespace without a graph must be so many times as large as one with a graph to take its place.
const DISPLACE_FACTOR: u64 = 2;

/// What is known of one table.
#[derive(Debug, Clone, Copy)]
pub struct TableFacts<'a> {
    /// Where the collection wants graphs.
    pub scope: IndexScope,
    /// Its large namespaces now.
    pub rows: &'a [NamespaceRows],
    /// The same when it was counted before.
    pub rows_before: &'a BTreeMap<String, u64>,
    /// Namespaces that have an index, and whether it is whole and of the wanted density.
    pub graphs: &'a BTreeMap<String, bool>,
}

/// What should become of one table's graphs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tiers {
    /// Searches may walk these.
    pub serving: BTreeSet<String>,
    /// These are to be built, the largest namespace first.
    pub build: Vec<String>,
    /// These are to go.
    pub retire: BTreeSet<String>,
}

/// Decides.
pub fn tiers(table: TableFacts<'_>) -> Tiers {
    let wanted = wanted(table);
    let mut tiers = Tiers::default();
    for (namespace, usable) in table.graphs {
        match *usable && wanted.contains(&namespace.as_str()) {
            true => tiers.serving.insert(namespace.clone()),
            false => tiers.retire.insert(namespace.clone()),
        };
    }
    let missing = wanted.into_iter().filter(|namespace| !table.graphs.contains_key(*namespace));
    tiers.build = missing.filter(|namespace| is_settled(table, namespace)).map(str::to_owned).collect();
    tiers
}

/// Namespaces that should have a graph, the largest first.
fn wanted(table: TableFacts<'_>) -> Vec<&str> {
    if table.scope == IndexScope::Shard {
        return Vec::new();
    }
    let has_graph = |namespace: &NamespaceRows| table.graphs.get(&namespace.namespace) == Some(&true);
    let weight = |namespace: &NamespaceRows| match has_graph(namespace) {
        true => namespace.rows * DISPLACE_FACTOR,
        false => namespace.rows,
    };
    let enough = |namespace: &&NamespaceRows| {
        namespace.rows >= if has_graph(namespace) { GRAPH_UNTIL_ROWS } else { GRAPH_FROM_ROWS }
    };
    let mut wanted: Vec<&NamespaceRows> = table.rows.iter().filter(enough).collect();
    wanted.sort_by_key(|namespace| (std::cmp::Reverse(weight(namespace)), namespace.namespace.as_str()));
    wanted.truncate(GRAPHS_MAX);
    wanted.into_iter().map(|namespace| namespace.namespace.as_str()).collect()
}

/// Whether a namespace has stopped growing fast: rows that are being imported go into a table without a graph many times as
/// fast as into one that has it, and a build over all of them costs less than adding each.
fn is_settled(table: TableFacts<'_>, namespace: &str) -> bool {
    let now = table.rows.iter().find(|rows| rows.namespace == namespace).map_or(0, |rows| rows.rows);
    table.rows_before.get(namespace).is_some_and(|before| before * 5 >= now * 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Table {
        scope: IndexScope,
        rows: Vec<NamespaceRows>,
        before: BTreeMap<String, u64>,
        graphs: BTreeMap<String, bool>,
    }

    impl Table {
        /// A table whose namespaces have had these rows for a while.
        fn new(rows: &[(&str, u64)]) -> Self {
            let named =
                |(namespace, rows): &(&str, u64)| NamespaceRows { namespace: (*namespace).to_owned(), rows: *rows };
            Self {
                scope: IndexScope::Namespace,
                rows: rows.iter().map(named).collect(),
                before: rows.iter().map(|(namespace, rows)| ((*namespace).to_owned(), *rows)).collect(),
                graphs: BTreeMap::new(),
            }
        }

        fn with_graphs(mut self, graphs: &[(&str, bool)]) -> Self {
            self.graphs = graphs.iter().map(|(namespace, usable)| ((*namespace).to_owned(), *usable)).collect();
            self
        }

        fn tiers(&self) -> Tiers {
            let Self { scope, rows, before, graphs } = self;
            tiers(TableFacts { scope: *scope, rows, rows_before: before, graphs })
        }
    }

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn the_large_get_a_graph_and_the_small_do_not() {
        let tiers = Table::new(&[("b", 1_000), ("a", 5_000), ("c", 999)]).tiers();
        assert_eq!(tiers, Tiers { build: vec!["a".to_owned(), "b".to_owned()], ..Tiers::default() });
    }

    #[test]
    fn a_graph_stays_until_its_namespace_is_half_as_large() {
        let kept = Table::new(&[("a", 500)]).with_graphs(&[("a", true)]).tiers();
        assert_eq!(kept, Tiers { serving: set(&["a"]), ..Tiers::default() });
        let goes = Table::new(&[("a", 499)]).with_graphs(&[("a", true)]).tiers();
        assert_eq!(goes, Tiers { retire: set(&["a"]), ..Tiers::default() });
        let gone = Table::new(&[]).with_graphs(&[("a", true)]).tiers();
        assert_eq!(gone.retire, set(&["a"]), "a namespace that is not named any more is small");
    }

    #[test]
    fn what_is_not_whole_goes_before_it_is_built_again() {
        let tiers = Table::new(&[("a", 5_000)]).with_graphs(&[("a", false)]).tiers();
        assert_eq!(tiers, Tiers { retire: set(&["a"]), ..Tiers::default() });
    }

    #[test]
    fn a_namespace_that_is_being_filled_waits() {
        let mut table = Table::new(&[("a", 5_000)]);
        table.before.insert("a".to_owned(), 3_999);
        assert_eq!(table.tiers().build, Vec::<String>::new());
        table.before.clear();
        assert_eq!(table.tiers().build, Vec::<String>::new(), "seen for the first time");
        table.before.insert("a".to_owned(), 4_000);
        assert_eq!(table.tiers().build, ["a"]);
    }

    #[test]
    fn there_are_so_many_graphs_at_most_and_none_is_displaced_lightly() {
        let names: Vec<String> = (0..GRAPHS_MAX + 2).map(|n| format!("n{n:02}")).collect();
        let mut rows: Vec<(&str, u64)> = names.iter().map(|name| (name.as_str(), 2_000)).collect();
        rows[GRAPHS_MAX].1 = 3_999;
        rows[GRAPHS_MAX + 1].1 = 4_001;
        let graphs: Vec<(&str, bool)> = names[..GRAPHS_MAX].iter().map(|name| (name.as_str(), true)).collect();
        let tiers = Table::new(&rows).with_graphs(&graphs).tiers();
        assert_eq!(tiers.build, [format!("n{:02}", GRAPHS_MAX + 1)]);
        assert_eq!(tiers.retire, set(&[&format!("n{:02}", GRAPHS_MAX - 1)]));
        assert_eq!(tiers.serving.len(), GRAPHS_MAX - 1);
    }

    #[test]
    fn a_collection_that_wants_a_graph_over_each_shard_alone_has_no_other() {
        let mut table = Table::new(&[("a", 5_000), ("b", 5_000)]).with_graphs(&[("a", true)]);
        table.scope = IndexScope::Shard;
        assert_eq!(table.tiers(), Tiers { retire: set(&["a"]), ..Tiers::default() });
    }
}
