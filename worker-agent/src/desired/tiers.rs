//! Decides which namespaces of a table have a graph (an HNSW index) of their own. Takes values, returns values.
//!
//! A small namespace is scanned exactly and pays for no graph. A large one gets a partial index over just its rows, built and
//! dropped concurrently, so nobody waits and no row moves: whether a graph is there or not, the same statement gives the right
//! rows, only sooner or later. So a crash in the middle leaves nothing but an invalid index, which is dropped and built again.
//!
//! A graph that is no longer wanted is first named no more, so that coordinators stop planning with it, and goes some time after.
//! One whose namespace is being loaded ([`atoll_proto::load`]) is named no more too, and goes at once: each row would be inserted into it.

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
    /// Namespaces that imports add many rows to.
    pub loading: &'a BTreeSet<String>,
    /// Whether an import ended before this count and after the one before: what grew has grown.
    pub load_ended: bool,
}

/// What should become of one table's graphs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tiers {
    /// Searches may walk these.
    pub serving: BTreeSet<String>,
    /// These are to be built, the largest namespace first.
    pub build: Vec<NamespaceRows>,
    /// These will be when they no longer grow, the largest first.
    pub growing: Vec<NamespaceRows>,
    /// These will be when their load is over, by name. How many rows they will have then is not known.
    pub loading: Vec<NamespaceRows>,
    /// These are to go.
    pub retire: BTreeSet<String>,
}

/// Decides.
pub fn tiers(table: TableFacts<'_>) -> Tiers {
    let wanted = wanted(table);
    let mut tiers = Tiers::default();
    for (namespace, usable) in table.graphs {
        let is_wanted = wanted.iter().any(|wanted| wanted.namespace == *namespace);
        match *usable && is_wanted && !table.loading.contains(namespace) {
            true => tiers.serving.insert(namespace.clone()),
            false => tiers.retire.insert(namespace.clone()),
        };
    }
    if table.scope != IndexScope::Shard {
        tiers.loading = table.loading.iter().map(|namespace| rows_of(table, namespace)).collect();
    }
    for namespace in wanted {
        if table.graphs.contains_key(&namespace.namespace) || table.loading.contains(&namespace.namespace) {
            continue;
        }
        match is_settled(table, namespace) {
            true => tiers.build.push(namespace.clone()),
            false => tiers.growing.push(namespace.clone()),
        }
    }
    tiers
}

/// Namespaces that should have a graph, the largest first.
fn wanted(table: TableFacts<'_>) -> Vec<&NamespaceRows> {
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
    wanted
}

fn rows_of(table: TableFacts<'_>, namespace: &str) -> NamespaceRows {
    let rows = table.rows.iter().find(|rows| rows.namespace == namespace).map_or(0, |rows| rows.rows);
    NamespaceRows { namespace: namespace.to_owned(), rows }
}

/// Whether a namespace has stopped growing fast: rows that pour in go into a table without a graph many times as fast as into one
/// that has it, and a build over all of them costs less than adding each.
fn is_settled(table: TableFacts<'_>, namespace: &NamespaceRows) -> bool {
    let before = table.rows_before.get(&namespace.namespace);
    table.load_ended || before.is_some_and(|before| before * 5 >= namespace.rows * 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Table {
        scope: IndexScope,
        rows: Vec<NamespaceRows>,
        before: BTreeMap<String, u64>,
        graphs: BTreeMap<String, bool>,
        loading: BTreeSet<String>,
        load_ended: bool,
    }

    impl Table {
        /// A table whose namespaces have had these rows for a while.
        fn new(rows: &[(&str, u64)]) -> Self {
            Self {
                scope: IndexScope::Namespace,
                rows: self::rows(rows),
                before: rows.iter().map(|(namespace, rows)| ((*namespace).to_owned(), *rows)).collect(),
                graphs: BTreeMap::new(),
                loading: BTreeSet::new(),
                load_ended: false,
            }
        }

        fn with_graphs(mut self, graphs: &[(&str, bool)]) -> Self {
            self.graphs = graphs.iter().map(|(namespace, usable)| ((*namespace).to_owned(), *usable)).collect();
            self
        }

        fn tiers(&self) -> Tiers {
            let Self { scope, rows, before, graphs, loading, load_ended } = self;
            let (scope, load_ended) = (*scope, *load_ended);
            tiers(TableFacts { scope, rows, rows_before: before, graphs, loading, load_ended })
        }
    }

    fn rows(named: &[(&str, u64)]) -> Vec<NamespaceRows> {
        named.iter().map(|(name, rows)| NamespaceRows { namespace: (*name).to_owned(), rows: *rows }).collect()
    }

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn the_large_get_a_graph_and_the_small_do_not() {
        let tiers = Table::new(&[("b", 1_000), ("a", 5_000), ("c", 999)]).tiers();
        assert_eq!(tiers, Tiers { build: rows(&[("a", 5_000), ("b", 1_000)]), ..Tiers::default() });
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
        assert_eq!(table.tiers(), Tiers { growing: rows(&[("a", 5_000)]), ..Tiers::default() });
        table.before.clear();
        assert_eq!(table.tiers().growing, rows(&[("a", 5_000)]), "seen for the first time");
        table.load_ended = true;
        assert_eq!(table.tiers().build, rows(&[("a", 5_000)]), "what filled it is over");
        table.load_ended = false;
        table.before.insert("a".to_owned(), 4_000);
        assert_eq!(table.tiers().build, rows(&[("a", 5_000)]));
    }

    #[test]
    fn a_load_sends_the_graph_away_and_holds_the_next_one_back() {
        let mut table = Table::new(&[("a", 5_000), ("b", 4_000)]).with_graphs(&[("a", true), ("b", true)]);
        table.loading = set(&["a", "new"]);
        let loading = rows(&[("a", 5_000), ("new", 0)]);
        let during = Tiers { serving: set(&["b"]), retire: set(&["a"]), loading, ..Tiers::default() };
        assert_eq!(table.tiers(), during);
        table.graphs.remove("a");
        assert_eq!(table.tiers(), Tiers { retire: BTreeSet::new(), ..during });
        table.loading.clear();
        assert_eq!(table.tiers().build, rows(&[("a", 5_000)]));
    }

    #[test]
    fn there_are_so_many_graphs_at_most_and_none_is_displaced_lightly() {
        let names: Vec<String> = (0..GRAPHS_MAX + 2).map(|n| format!("n{n:02}")).collect();
        let mut sizes: Vec<(&str, u64)> = names.iter().map(|name| (name.as_str(), 2_000)).collect();
        sizes[GRAPHS_MAX].1 = 3_999;
        sizes[GRAPHS_MAX + 1].1 = 4_001;
        let graphs: Vec<(&str, bool)> = names[..GRAPHS_MAX].iter().map(|name| (name.as_str(), true)).collect();
        let tiers = Table::new(&sizes).with_graphs(&graphs).tiers();
        assert_eq!(tiers.build, rows(&[(&format!("n{:02}", GRAPHS_MAX + 1), 4_001)]));
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
