//! What this coordinator knows that is wrong or unwise: gathered here, judged by [`atoll_core::findings`].

use crate::agents::AgentBoard;
use crate::raft::CatalogNode;
use crate::search::Recall;
use crate::targets::Target;
use atoll_core::access::{Grant, Touched};
use atoll_core::catalog::{Catalog, Group};
use atoll_core::findings::{Known, KnownGroup, KnownMember, KnownMove, KnownWorker, MissingGraph, findings};
use atoll_core::routing::RoutingTable;
use atoll_proto::agent::{GRAPH_FROM_ROWS, GRAPHS_MAX, NamespaceRows, TableStats};
use atoll_proto::collection::CollectionState;
use atoll_proto::finding::Finding;
use atoll_proto::{CollectionName, IndexScope, ShardId, WorkerId};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval};

/// How often is looked which graphs are missing.
const LOOK_EVERY: Duration = Duration::from_secs(10);

const UNPOISONED: &str = "no holder of this lock panics: it is held for a look or a swap only";

/// Says what is wrong. A clone is the same; looking ends with the last one.
#[derive(Clone)]
pub struct Findings {
    node: CatalogNode,
    board: AgentBoard,
    recall: Arc<Recall>,
    strangers_reach_it: bool,
    missing: Arc<Mutex<Missing>>,
    _watching: Arc<Watching>,
}

/// Large namespaces that lack the graph that they should have, with their rows, and since when this coordinator saw that.
type Missing = BTreeMap<(CollectionName, String), (Instant, u64)>;

struct Watching(JoinHandle<()>);

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Findings {
    /// Starts looking. `strangers_reach_it`: whether keys alone keep anybody out who reaches this coordinator.
    pub fn start(node: CatalogNode, board: AgentBoard, recall: Arc<Recall>, strangers_reach_it: bool) -> Self {
        let missing = Arc::default();
        let watching = tokio::spawn(watch_graphs(node.watch(), board.clone(), Arc::clone(&missing)));
        Self { node, board, recall, strangers_reach_it, missing, _watching: Arc::new(Watching(watching)) }
    }

    /// All there is to say now, the worst first.
    pub fn list(&self) -> Vec<Finding> {
        findings(&self.known())
    }

    fn known(&self) -> Known {
        let view = self.node.view();
        let cluster = self.node.cluster_info();
        let catalog = &view.catalog;
        let down = cluster.coordinators.iter().filter(|coordinator| !coordinator.up);
        let unsettled = catalog.collections.values().filter(|collection| collection.state != CollectionState::Active);
        let workers = catalog.workers.iter().map(|(id, worker)| {
            let status = self.board.status(*id);
            let facts = status.as_ref().and_then(|status| status.facts.as_ref()).unwrap_or(&worker.facts);
            let group = &catalog.groups[&worker.group];
            let is_standby = group.primary != *id;
            KnownWorker {
                name: worker.name.to_string(),
                group: group.name.to_string(),
                is_standby,
                up: self.board.is_up(*id),
                pgvector: facts.pgvector.clone(),
                // What a standby tells of these is from when it was none.
                refusal: status.as_ref().and_then(|status| status.apply_error.clone()).filter(|_| !is_standby),
                statistics_age_seconds: status.and_then(|status| status.stats_age_seconds).filter(|_| !is_standby),
            }
        });
        let missing = self.missing.lock().expect(UNPOISONED).clone();
        let graphs_missing = missing.into_iter().map(|((collection, namespace), (since, rows))| MissingGraph {
            collection: collection.to_string(),
            namespace,
            rows,
            seconds: since.elapsed().as_secs(),
        });
        let open = catalog.moves.iter().filter(|(_, job)| job.is_open());
        let moves = open.map(|(id, job)| KnownMove {
            id: id.0,
            shard: job.shard.0,
            attempts: job.attempts,
            is_over: job.phase.is_over(),
        });
        Known {
            has_leader: cluster.leader.is_some(),
            open_to_all: self.strangers_reach_it && catalog.keys.is_empty(),
            // Without a catalog there is a group to wait for at least.
            groups: (catalog.full_groups().count() as u32, cluster.initial_groups.max(1)),
            placed: (view.shards().len() as u32, cluster.shard_count),
            coordinators_down: down.map(|coordinator| (coordinator.id.0, coordinator.http.clone())).collect(),
            workers: workers.collect(),
            replicated: catalog.groups.values().filter_map(|group| self.replicated(catalog, group)).collect(),
            unsettled: unsettled.map(|collection| (collection.name.to_string(), collection.state)).collect(),
            graphs_missing: graphs_missing.collect(),
            promises_broken: self.recall.broken_promises(),
            moves: moves.collect(),
            shard_rows: view.shards().iter().map(|route| (route.shard.0, self.rows(&view, route.shard))).collect(),
        }
    }

    fn replicated(&self, catalog: &Catalog, group: &Group) -> Option<KnownGroup> {
        let record = group.record.as_ref()?;
        let member = |id: &WorkerId| {
            let in_sync = group.in_sync.contains(id);
            let up = if in_sync { self.board.is_up_in_sync(record, *id) } else { self.board.is_up(*id) };
            let member = self.board.status(*id).and_then(|status| status.member.clone());
            let restored = member.is_some_and(|member| member.report.restored);
            KnownMember { name: catalog.workers[id].name.to_string(), in_sync, up, restored }
        };
        Some(KnownGroup {
            name: group.name.to_string(),
            has_primary: self.board.has_primary(record),
            copies: record.copies,
            members: group.members.iter().map(member).collect(),
        })
    }

    /// Rows of all tables of a shard.
    fn rows(&self, view: &RoutingTable, shard: ShardId) -> u64 {
        let collections = view.catalog.collections.values();
        collections.filter_map(|collection| self.board.rows(Some(shard), &collection.name)).sum()
    }
}

async fn watch_graphs(view: watch::Receiver<Arc<RoutingTable>>, board: AgentBoard, missing: Arc<Mutex<Missing>>) {
    let mut looks = interval(LOOK_EVERY);
    loop {
        looks.tick().await;
        let now = missing_now(&view.borrow().clone(), &board);
        let mut missing = missing.lock().expect(UNPOISONED);
        let since = |name: &(CollectionName, String)| missing.get(name).map_or_else(Instant::now, |(since, _)| *since);
        *missing = now.into_iter().map(|(name, rows)| (name.clone(), (since(&name), rows))).collect();
    }
}

/// Large namespaces that have no graph of their own although their collection wants that and their table has room for it: the
/// largest of them.
fn missing_now(view: &Arc<RoutingTable>, board: &AgentBoard) -> Vec<((CollectionName, String), u64)> {
    let mut missing = Vec::new();
    for name in view.catalog.collections.values().map(|collection| &collection.name) {
        let Some(collection) = view.collection(name) else { continue };
        let settings = &collection.settings;
        if settings.dimensions.is_none() || settings.index.scope == IndexScope::Shard {
            continue;
        }
        let (collection, grant) = (collection.clone(), Grant::everything());
        let target = Target { view: view.clone(), name: name.clone(), collection, grant };
        for route in target.routes(Touched::All).unwrap_or_default() {
            let table = board.table(target.table_of(route), name);
            missing.extend(
                table.iter().flat_map(without_graph).map(|large| ((name.clone(), large.namespace), large.rows)),
            );
        }
    }
    missing
}

/// Of one table: a namespace beyond the most graphs that a table has is no cause for alarm, for nothing is about to change it.
fn without_graph(table: &TableStats) -> Vec<NamespaceRows> {
    let graphs: BTreeSet<&String> = table.graphs.iter().collect();
    let large = table.large_namespaces.iter().filter(|large| large.rows >= GRAPH_FROM_ROWS);
    let mut without: Vec<NamespaceRows> = large.filter(|large| !graphs.contains(&large.namespace)).cloned().collect();
    without.sort_by_key(|large| Reverse(large.rows));
    without.truncate(GRAPHS_MAX.saturating_sub(graphs.len()));
    without
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_a_table_has_no_room_for_is_not_missing() {
        let rows = |n: u64| NamespaceRows { namespace: format!("n{n}"), rows: GRAPH_FROM_ROWS + n };
        let graphs = GRAPHS_MAX - 2;
        let table = TableStats {
            shard: None,
            collection: "c".parse().unwrap(),
            rows: 0,
            bytes: 0,
            vector_index_bytes: 0,
            large_namespaces: (0..100)
                .map(rows)
                .chain([NamespaceRows { namespace: "s".to_owned(), rows: 999 }])
                .collect(),
            graphs: (0..graphs as u64).map(|n| rows(n).namespace).collect(),
            shard_graph: false,
        };
        assert_eq!(without_graph(&table), [rows(99), rows(98)]);
    }
}
