//! What is to be done about the graphs of all tables, from one look at the server and what was seen before. Takes values and the
//! time, returns values.

use crate::desired::loads::Loads;
use crate::desired::queue::{Doing, Work};
use crate::desired::tiers::{TableFacts, Tiers, tiers};
use crate::pg::ddl::{build_namespace_graph, drop_index, graph, namespace_graph, vector_index};
use crate::pg::existing::{Existing, ExistingTable};
use crate::status::{Graphs, TableKey};
use atoll_proto::agent::{DesiredCollection, DesiredState, NamespaceRows, REFERENCE_SCHEMA, TableStats, shard_schema};
use atoll_proto::build::{BuildState, GraphBuild};
use atoll_proto::{Namespace, ShardId};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

/// How long a graph goes unnamed before it goes: coordinators ask every second.
const UNNAMED_FOR: Duration = Duration::from_secs(10);

/// What is remembered from look to look. None of it must survive a restart: it is learned again.
#[derive(Debug, Default)]
pub struct Memory {
    /// When the last count began, and the one before.
    counted_at: Option<Instant>,
    counted_before: Option<Instant>,
    /// Rows by the last count, and by the one before.
    last: HashMap<TableKey, BTreeMap<String, u64>>,
    before: HashMap<TableKey, BTreeMap<String, u64>>,
    /// Since when a graph has been named no more, by schema and index.
    unnamed: HashMap<(String, String), Instant>,
}

/// What a look found.
#[derive(Debug, Default)]
pub struct Look {
    /// Graphs that searches may walk.
    pub walkable: HashMap<TableKey, Graphs>,
    /// Namespaces that have a graph, whole or not.
    pub there: HashMap<TableKey, BTreeSet<String>>,
    /// Namespaces that imports add many rows to.
    pub loading: HashMap<TableKey, BTreeSet<String>>,
    /// What is to be done, some of it later.
    pub works: Vec<Work>,
    /// Graphs that are to be built, and not now.
    pub held_back: Vec<GraphBuild>,
}

impl Memory {
    /// Rows were counted, in a count that began then.
    pub fn remember(&mut self, counted_at: Instant, tables: &[TableStats]) {
        if self.counted_at == Some(counted_at) {
            return;
        }
        self.counted_before = self.counted_at.replace(counted_at);
        let rows = |table: &TableStats| {
            let rows = table.large_namespaces.iter().map(|large| (large.namespace.clone(), large.rows)).collect();
            ((table.shard, table.collection.clone()), rows)
        };
        self.before = std::mem::replace(&mut self.last, tables.iter().map(rows).collect());
    }

    /// Looks at every table that was counted.
    pub fn look(
        &mut self,
        desired: &DesiredState,
        existing: &Existing,
        tables: &[TableStats],
        loads: &Loads,
        now: Instant,
    ) -> Look {
        let mut look = Look::default();
        for (shard, schema) in schemas(desired) {
            for collection in desired.collections.iter().filter(|collection| collection.settings.dimensions.is_some()) {
                let there = existing.schemas.get(&schema).and_then(|tables| tables.get(collection.name.as_str()));
                let Some(table) = there.filter(|table| table.collection == Some(collection.id)) else { continue };
                let key = (shard, collection.name.clone());
                let Some(stats) = tables.iter().find(|stats| (stats.shard, &stats.collection) == (key.0, &key.1))
                else {
                    continue;
                };
                let loading = loads.of(&key, now);
                let tiers = self.tiers(&key, collection, table, &stats.large_namespaces, loads, &loading);
                look.works.extend(self.works(&schema, &key, collection, table, &tiers, &loading, now));
                let held = |state| move |rows: &NamespaceRows| (state, rows.clone());
                let growing = tiers.growing.iter().map(held(BuildState::Growing));
                let held_back = tiers.loading.iter().map(held(BuildState::Loading)).chain(growing);
                look.held_back.extend(held_back.map(|(state, rows)| not_begun(&key, rows.namespace, rows.rows, state)));
                let graphs = table.vector_indexes.values().filter_map(|index| index.namespace.clone()).collect();
                look.there.insert(key.clone(), graphs);
                let graphs = Graphs { namespaces: tiers.serving, shard: has_shard_graph(collection, table) };
                look.walkable.insert(key.clone(), graphs);
                look.loading.insert(key, loading);
            }
        }
        look
    }

    fn tiers(
        &self,
        key: &TableKey,
        collection: &DesiredCollection,
        table: &ExistingTable,
        rows: &[NamespaceRows],
        loads: &Loads,
        loading: &BTreeSet<String>,
    ) -> Tiers {
        let wanted = graph(collection.settings.index.profile);
        let own = table.vector_indexes.values().filter_map(|index| Some((index.namespace.clone()?, index)));
        let graphs = own.map(|(namespace, index)| (namespace, index.valid && index.graph == wanted)).collect();
        let nothing = BTreeMap::new();
        let ended = loads.ended(key).filter(|ended| Some(*ended) <= self.counted_at);
        tiers(TableFacts {
            scope: collection.settings.index.scope,
            rows,
            rows_before: self.before.get(key).unwrap_or(&nothing),
            graphs: &graphs,
            loading,
            load_ended: ended.is_some_and(|ended| self.counted_before.is_none_or(|before| before < ended)),
        })
    }

    /// What is to be done: a graph that is to go and was named lately stays a while, one whose namespace is being loaded goes at once.
    #[expect(clippy::too_many_arguments, reason = "they are the parts of one look, taken apart by its only caller")]
    fn works(
        &mut self,
        schema: &str,
        key: &TableKey,
        collection: &DesiredCollection,
        table: &ExistingTable,
        tiers: &Tiers,
        loading: &BTreeSet<String>,
        now: Instant,
    ) -> Vec<Work> {
        let work = |index: &str, namespace: &str, doing, statement| Work {
            table: key.clone(),
            schema: schema.to_owned(),
            index: index.to_owned(),
            namespace: namespace.to_owned(),
            doing,
            statement,
        };
        let mut works = Vec::new();
        for (name, index) in &table.vector_indexes {
            let Some(namespace) = &index.namespace else { continue };
            let unnamed = (schema.to_owned(), name.clone());
            if !tiers.retire.contains(namespace) || index.building {
                self.unnamed.remove(&unnamed);
                continue;
            }
            let since = *self.unnamed.entry(unnamed.clone()).or_insert(now);
            // Searches never knew of one that is not whole.
            if !index.valid || loading.contains(namespace) || now >= since + UNNAMED_FOR {
                self.unnamed.remove(&unnamed);
                works.push(work(name, namespace, Doing::Drop, drop_index(schema, name)));
            }
        }
        for NamespaceRows { namespace, rows } in &tiers.build {
            let Ok(namespace) = Namespace::parse(namespace) else { continue };
            let name = namespace_graph(collection.id, &namespace);
            if let Some(statement) = build_namespace_graph(schema, collection, &namespace)
                && !table.vector_indexes.contains_key(&name)
            {
                works.push(work(&name, namespace.as_str(), Doing::Build { rows: *rows }, statement));
            }
        }
        works
    }
}

/// A graph that nobody builds at the moment.
pub fn not_begun(table: &TableKey, namespace: String, rows: u64, state: BuildState) -> GraphBuild {
    let (shard, collection) = table.clone();
    GraphBuild {
        shard,
        collection,
        namespace,
        rows,
        state,
        phase: None,
        progress: None,
        seconds: None,
        waits_for: None,
    }
}

fn has_shard_graph(collection: &DesiredCollection, table: &ExistingTable) -> bool {
    let index = table.vector_indexes.get(&vector_index(&collection.name));
    collection.settings.index.scope.has_shard_graph() && index.is_some_and(|index| index.valid)
}

fn schemas(desired: &DesiredState) -> Vec<(Option<ShardId>, String)> {
    let shards = desired.shards.iter().map(|shard| (Some(shard.shard), shard_schema(shard.shard, shard.generation)));
    shards.chain([(None, REFERENCE_SCHEMA.to_owned())]).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::pg::existing::ExistingVectorIndex;
    use atoll_proto::agent::DesiredShard;
    use atoll_proto::load::{LoadReport, LoadedTable};
    use atoll_proto::{CatalogVersion, CollectionId, CollectionSettings, Generation, GroupId};

    const SCHEMA: &str = "s0003_g1";

    /// One collection in one shard, whose namespace `a` has so many rows, and a graph that is whole or being built or none.
    struct Server {
        memory: Memory,
        loads: Loads,
        begun: Instant,
        graph: Option<ExistingVectorIndex>,
    }

    impl Server {
        fn new() -> Self {
            Self { memory: Memory::default(), loads: Loads::default(), begun: Instant::now(), graph: None }
        }

        fn graph(&mut self, valid: bool, building: bool) {
            let namespace = Some("a".to_owned());
            self.graph = Some(ExistingVectorIndex { valid, building, graph: (16, 64), namespace });
        }

        fn after(&self, seconds: u64) -> Instant {
            self.begun + Duration::from_secs(seconds)
        }

        fn tell(&mut self, ended: bool, seconds: u64) {
            let collection = "c".parse().unwrap();
            let table = LoadedTable { shard: ShardId(3), collection, namespaces: vec!["a".to_owned()] };
            let report = LoadReport { import: "one".to_owned(), ended, tables: vec![table] };
            self.loads.tell(report, self.after(seconds));
        }

        /// Counts, `counted` seconds after the beginning, and looks as late as `now`. Tells what is to be done and what is held back.
        fn look(&mut self, rows: u64, counted: u64, now: u64) -> (Vec<Doing>, Vec<BuildState>, usize) {
            let settings = CollectionSettings::memory_entries();
            let collection = DesiredCollection { id: CollectionId(7), name: "c".parse().unwrap(), settings };
            let name = namespace_graph(collection.id, &Namespace::parse("a").unwrap());
            let vector_indexes = self.graph.iter().map(|graph| (name.clone(), graph.clone())).collect();
            let table = ExistingTable { collection: Some(collection.id), logged: true, vector_indexes };
            let tables = BTreeMap::from([("c".to_owned(), table)]);
            let existing = Existing { schemas: BTreeMap::from([(SCHEMA.to_owned(), tables)]) };
            let stats = TableStats {
                shard: Some(ShardId(3)),
                collection: collection.name.clone(),
                rows,
                bytes: 0,
                vector_index_bytes: 0,
                large_namespaces: vec![NamespaceRows { namespace: "a".to_owned(), rows }],
                graphs: Vec::new(),
                shard_graph: false,
            };
            let desired = DesiredState {
                cluster_id: "c".to_owned(),
                catalog_version: CatalogVersion(1),
                group: GroupId(1),
                shards: vec![DesiredShard { shard: ShardId(3), generation: Generation(1) }],
                collections: vec![collection],
                dropping: Vec::new(),
                moves: Vec::new(),
            };
            self.memory.remember(self.after(counted), std::slice::from_ref(&stats));
            let now = self.after(now);
            let look = self.memory.look(&desired, &existing, &[stats], &self.loads, now);
            let walkable = look.walkable.values().map(|graphs| graphs.namespaces.len()).sum();
            let doing = look.works.iter().map(|work| work.doing).collect();
            (doing, look.held_back.iter().map(|build| build.state).collect(), walkable)
        }
    }

    #[test]
    fn a_graph_that_is_not_wanted_goes_unnamed_before_it_goes() {
        let mut server = Server::new();
        server.graph(true, false);
        assert_eq!(server.look(5_000, 0, 0), (vec![], vec![], 1));
        assert_eq!(server.look(10, 10, 10), (vec![], vec![], 0));
        assert_eq!(server.look(10, 15, 19), (vec![], vec![], 0));
        assert_eq!(server.look(10, 15, 20), (vec![Doing::Drop], vec![], 0));
    }

    #[test]
    fn a_loaded_one_goes_at_once_and_is_built_after_the_first_count() {
        let mut server = Server::new();
        server.graph(true, false);
        server.look(5_000, 0, 0);
        server.tell(false, 1);
        assert_eq!(server.look(5_000, 0, 1), (vec![Doing::Drop], vec![BuildState::Loading], 0));
        server.graph = None;
        assert_eq!(server.look(9_000, 5, 5), (vec![], vec![BuildState::Loading], 0));
        server.tell(true, 6);
        assert_eq!(server.look(50_000, 7, 7), (vec![Doing::Build { rows: 50_000 }], vec![], 0));
        assert_eq!(server.look(90_000, 17, 17), (vec![], vec![BuildState::Growing], 0), "somebody else fills it");
    }

    #[test]
    fn a_load_that_runs_out_leaves_the_usual_rule() {
        let mut server = Server::new();
        server.look(5_000, 0, 0);
        server.tell(false, 1);
        assert_eq!(server.look(50_000, 5, 5), (vec![], vec![BuildState::Loading], 0));
        assert_eq!(server.look(50_000, 5, 8), (vec![], vec![BuildState::Growing], 0));
        assert_eq!(server.look(50_000, 15, 15), (vec![Doing::Build { rows: 50_000 }], vec![], 0));
    }

    #[test]
    fn what_somebody_builds_is_left_alone_and_what_nobody_does_goes() {
        let mut server = Server::new();
        server.graph(false, true);
        assert_eq!(server.look(5_000, 0, 0), (vec![], vec![], 0));
        server.graph(false, false);
        assert_eq!(server.look(5_000, 0, 1), (vec![Doing::Drop], vec![], 0));
    }
}
