//! Keeps namespaces' own graphs as [`tiers`] says, beside everything else: one build at a time, because each takes the
//! memory and the cores that a search would rather have.

use crate::desired::apply::Applier;
use crate::desired::tiers::{TableFacts, Tiers, tiers};
use crate::pg::connect::{PgError, chain};
use crate::pg::ddl::{build_namespace_graph, drop_index, graph, namespace_graph, vector_index};
use crate::pg::existing::{Existing, ExistingTable};
use crate::pg::index;
use crate::pg::session::Session;
use crate::status::{Graphs, TableKey};
use crate::stop::Stop;
use crate::worker::Worker;
use atoll_proto::agent::{DesiredCollection, DesiredState, REFERENCE_SCHEMA, TableStats, shard_schema};
use atoll_proto::{Namespace, ShardId};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a graph goes unnamed before it goes: coordinators ask every second.
const UNNAMED_FOR: Duration = Duration::from_secs(10);

/// What is remembered from round to round. None of it must survive a restart: it is learned again.
#[derive(Default)]
struct Memory {
    /// When rows were counted last, and those of the count before.
    counted_at: Option<Instant>,
    before: HashMap<TableKey, BTreeMap<String, u64>>,
    last: HashMap<TableKey, BTreeMap<String, u64>>,
    /// Since when a graph has been named no more, by schema and index.
    unnamed: HashMap<(String, String), Instant>,
}

/// A statement to carry out by itself, outside any transaction.
struct Work {
    schema: String,
    what: String,
    statement: String,
}

/// Looks at every table as often as rows are counted, and works until nothing is left to do, until `stop`.
pub async fn keep_graphs(worker: Arc<Worker>, applier: Arc<Applier>, mut stop: Stop) {
    let current = applier.current();
    let mut memory = Memory::default();
    loop {
        let desired = current.borrow().clone();
        let worked = match desired {
            Some(desired) if worker.server.ready().is_ok() => {
                let round = tokio::select! {
                    round = round(&worker, &desired, &mut memory) => round,
                    () = stop.told() => return,
                };
                round.unwrap_or_else(|error| {
                    tracing::warn!(error = chain(&error), "graphs of namespaces not looked after, trying again later");
                    false
                })
            }
            Some(_) | None => false,
        };
        if worked {
            continue;
        }
        tokio::select! {
            _ = tokio::time::sleep(worker.config.stats_interval()) => {}
            () = stop.told() => return,
        }
    }
}

/// Says which graphs there are, and does one piece of work if there is any.
async fn round(worker: &Worker, desired: &DesiredState, memory: &mut Memory) -> Result<bool, PgError> {
    let Some((counted_at, tables)) = worker.status.tables() else {
        return Ok(false);
    };
    memory.remember(counted_at, &tables);
    let session = worker.target.connect(Duration::ZERO).await?;
    let existing = Existing::read(&session).await?;
    let mut named = HashMap::new();
    let mut works = Vec::new();
    for (shard, schema) in schemas(desired) {
        for collection in desired.collections.iter().filter(|collection| collection.settings.dimensions.is_some()) {
            let there = existing.schemas.get(&schema).and_then(|tables| tables.get(collection.name.as_str()));
            let Some(table) = there.filter(|table| table.collection == Some(collection.id)) else { continue };
            let key = (shard, collection.name.clone());
            let Some(stats) = tables.iter().find(|stats| (stats.shard, &stats.collection) == (key.0, &key.1)) else {
                continue;
            };
            let tiers = memory.tiers(&key, collection, table, stats);
            works.extend(memory.works(&schema, collection, table, &tiers));
            named.insert(key, Graphs { namespaces: tiers.serving, shard: has_shard_graph(collection, table) });
        }
    }
    worker.status.graphs(named);
    match works.into_iter().next() {
        Some(work) => carry_out(&session, &work).await.map(|()| true),
        None => Ok(false),
    }
}

async fn carry_out(session: &Session, work: &Work) -> Result<(), PgError> {
    let begun = Instant::now();
    index::concurrently(session, &work.what, &work.statement).await?;
    tracing::info!(schema = work.schema, work = work.what, took_ms = begun.elapsed().as_millis(), "done");
    Ok(())
}

impl Memory {
    fn remember(&mut self, counted_at: Instant, tables: &[TableStats]) {
        if self.counted_at == Some(counted_at) {
            return;
        }
        self.counted_at = Some(counted_at);
        let rows = |table: &TableStats| {
            let rows = table.large_namespaces.iter().map(|large| (large.namespace.clone(), large.rows)).collect();
            ((table.shard, table.collection.clone()), rows)
        };
        self.before = std::mem::replace(&mut self.last, tables.iter().map(rows).collect());
    }

    fn tiers(
        &self,
        key: &TableKey,
        collection: &DesiredCollection,
        table: &ExistingTable,
        stats: &TableStats,
    ) -> Tiers {
        let wanted = graph(collection.settings.index.profile);
        let own = table.vector_indexes.values().filter_map(|index| Some((index.namespace.clone()?, index)));
        let graphs = own.map(|(namespace, index)| (namespace, index.valid && index.graph == wanted)).collect();
        let nothing = BTreeMap::new();
        tiers(TableFacts {
            scope: collection.settings.index.scope,
            rows: &stats.large_namespaces,
            rows_before: self.before.get(key).unwrap_or(&nothing),
            graphs: &graphs,
        })
    }

    /// What is to be done now: nothing, as long as a graph that is to go has been named lately.
    fn works(
        &mut self,
        schema: &str,
        collection: &DesiredCollection,
        table: &ExistingTable,
        tiers: &Tiers,
    ) -> Vec<Work> {
        let mut works = Vec::new();
        for (name, index) in &table.vector_indexes {
            let Some(namespace) = &index.namespace else { continue };
            let key = (schema.to_owned(), name.clone());
            if !tiers.retire.contains(namespace) {
                self.unnamed.remove(&key);
                continue;
            }
            let since = *self.unnamed.entry(key.clone()).or_insert_with(Instant::now);
            // Searches never knew of one that is not whole.
            if !index.valid || since.elapsed() >= UNNAMED_FOR {
                self.unnamed.remove(&key);
                let what = format!("remove the graph of namespace {namespace} of {}", collection.name);
                works.push(Work { schema: schema.to_owned(), what, statement: drop_index(schema, name) });
            }
        }
        for namespace in tiers.build.iter().filter_map(|namespace| Namespace::parse(namespace).ok()) {
            if table.vector_indexes.contains_key(&namespace_graph(collection.id, &namespace)) {
                continue;
            }
            let what = format!("build the graph of namespace {namespace} of {}", collection.name);
            let build = build_namespace_graph(schema, collection, &namespace);
            works.extend(build.map(|statement| Work { schema: schema.to_owned(), what, statement }));
        }
        works
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
