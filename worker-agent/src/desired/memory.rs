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
