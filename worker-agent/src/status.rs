//! What is told to who asks about the worker. Answered from memory, so that asking costs the server nothing and works
//! while the server is down.

use crate::config::Config;
use crate::desired::loads::Loads;
use crate::desired::upkeep::schemas_of;
use crate::pg::connect::{PgError, chain};
use crate::pg::stats::{Counter, TableSize};
use crate::stop::Stop;
use crate::worker::Worker;
use atoll_proto::agent::{AgentStatus, DesiredState, PostgresFacts, REFERENCE_SCHEMA, TableStats, shard_schema};
use atoll_proto::build::GraphBuild;
use atoll_proto::load::LoadReport;
use atoll_proto::moves::MoveSeen;
use atoll_proto::{CatalogVersion, CollectionName, Lsn, MoveId, ShardId, WorkerId};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};
use tokio::sync::watch;

const COUNT_STATEMENT_LIMIT: Duration = Duration::from_secs(30);
/// Between two counts, however many imports end.
const COUNT_PAUSE: Duration = Duration::from_secs(1);

/// A collection's table in a shard; no shard for a reference collection.
pub type TableKey = (Option<ShardId>, CollectionName);

/// Graphs of a table that searches may walk.
#[derive(Debug, Clone, Default)]
pub struct Graphs {
    /// Namespaces with one of their own.
    pub namespaces: BTreeSet<String>,
    /// Whether there is one over the whole table.
    pub shard: bool,
}

/// What a look at the graphs found.
#[derive(Debug)]
pub struct GraphsSeen {
    /// Graphs that searches may walk.
    pub walkable: HashMap<TableKey, Graphs>,
    /// Namespaces that have a graph, whole or not.
    pub there: HashMap<TableKey, BTreeSet<String>>,
    /// When the look began.
    pub looked_at: Instant,
    /// When the count began that it rests on.
    pub counted_at: Instant,
}

/// The worker's state as it was last seen.
#[derive(Debug, Default)]
pub struct Status {
    seen: RwLock<Seen>,
    /// When the last count began.
    counted: watch::Sender<Option<Instant>>,
}

#[derive(Debug, Default)]
struct Seen {
    worker: Option<WorkerId>,
    postgres_up: bool,
    facts: Option<PostgresFacts>,
    postgres_pid: Option<u32>,
    refusal: Option<String>,
    applied: Option<CatalogVersion>,
    apply_error: Option<String>,
    bytes: u64,
    tables: Vec<TableStats>,
    graphs: Option<GraphsSeen>,
    builds: Vec<GraphBuild>,
    counted_at: Option<Instant>,
    settled: Option<Lsn>,
    moves: BTreeMap<MoveId, MoveSeen>,
}

impl Seen {
    fn with_graphs(&self, table: &TableStats) -> TableStats {
        let seen = self.graphs.as_ref().and_then(|seen| seen.walkable.get(&(table.shard, table.collection.clone())));
        let graphs = seen.cloned().unwrap_or_default();
        TableStats { graphs: graphs.namespaces.into_iter().collect(), shard_graph: graphs.shard, ..table.clone() }
    }
}

impl Status {
    /// The whole, as coordinators ask for it.
    pub fn report(&self, config: &Config, loads: &Loads) -> AgentStatus {
        self.read(|seen| AgentStatus {
            name: config.name.clone(),
            worker: seen.worker,
            postgres_up: seen.postgres_up,
            facts: seen.facts.clone(),
            postgres_pid: seen.postgres_pid,
            data_dir: config.data_dir().map(|path| path.display().to_string()),
            applied: seen.applied,
            apply_error: seen.refusal.clone().or_else(|| seen.apply_error.clone()),
            bytes: seen.bytes,
            tables: seen.tables.iter().map(|table| seen.with_graphs(table)).collect(),
            stats_age_seconds: seen.counted_at.map(|at| at.elapsed().as_secs()),
            builds: seen.builds.clone(),
            settled: seen.settled,
            moves: seen.moves.values().cloned().collect(),
            // Known elsewhere: see `Member::shown`.
            member: None,
            counting: !loads.ended_since(seen.graphs.as_ref().map(|graphs| graphs.counted_at)).is_empty(),
        })
    }

    /// How far a move is.
    pub fn move_seen(&self, seen: MoveSeen) {
        self.write(|status| {
            status.moves.insert(seen.id, seen);
        });
    }

    /// Forgets all other moves.
    pub fn moves_open(&self, open: &[MoveId]) {
        self.write(|seen| seen.moves.retain(|id, _| open.contains(id)));
    }

    /// Whether PostgreSQL answered last.
    pub fn postgres_up(&self) -> bool {
        self.read(|seen| seen.postgres_up)
    }

    /// The worker's id.
    pub fn member(&self, worker: Option<WorkerId>) {
        self.write(|seen| seen.worker = worker);
    }

    /// The managed server's process. Another one has not answered yet.
    pub fn process(&self, pid: Option<u32>) {
        self.write(|seen| {
            if seen.postgres_pid != pid {
                (seen.postgres_pid, seen.postgres_up, seen.settled) = (pid, false, None);
            }
        });
    }

    /// PostgreSQL answered or did not.
    pub fn answered(&self, up: bool) {
        self.write(|seen| {
            seen.postgres_up = up;
            // A server that comes back may be another one.
            seen.settled = seen.settled.filter(|_| up);
        });
    }

    /// Below this position every write is visible.
    pub fn settled(&self, position: Option<Lsn>) {
        self.write(|seen| seen.settled = position);
    }

    /// What the server is, and why it may not be a worker.
    pub fn described(&self, facts: PostgresFacts, refusal: Option<String>) {
        self.write(|seen| (seen.facts, seen.refusal) = (Some(facts), refusal));
    }

    /// Why none of its servers may be worked with.
    pub fn refused(&self, refusal: String) {
        self.write(|seen| seen.refusal = Some(refusal));
    }

    /// The version that the server matches, as it was found there.
    pub fn found_applied(&self, version: Option<CatalogVersion>) {
        self.write(|seen| seen.applied = version);
    }

    /// A desired state was applied.
    pub fn applied(&self, version: CatalogVersion) {
        self.write(|seen| (seen.applied, seen.apply_error) = (Some(version), None));
    }

    /// A desired state could not be applied.
    pub fn apply_failed(&self, why: String) {
        self.write(|seen| seen.apply_error = Some(why));
    }

    /// Tells of each count.
    pub fn counted_watch(&self) -> watch::Receiver<Option<Instant>> {
        self.counted.subscribe()
    }

    /// Size of each table, and when the count began; none before the first.
    pub fn tables(&self) -> Option<(Instant, Vec<TableStats>)> {
        self.read(|seen| Some((seen.counted_at?, seen.tables.clone())))
    }

    /// Graphs were looked at.
    pub fn graphs(&self, graphs: GraphsSeen) {
        self.write(|seen| seen.graphs = Some(graphs));
    }

    /// Graphs that are not there yet.
    pub fn builds(&self, builds: Vec<GraphBuild>) {
        self.write(|seen| seen.builds = builds);
    }

    /// How many of the loaded namespaces have a graph still, by a look that began after `since`; none if there was none yet.
    pub fn graphs_left(&self, report: &LoadReport, since: Option<Instant>) -> Option<u32> {
        self.read(|seen| {
            let graphs = seen.graphs.as_ref().filter(|graphs| since.is_none_or(|since| graphs.looked_at > since))?;
            let left = report.tables.iter().flat_map(|table| {
                let there = graphs.there.get(&(Some(table.shard), table.collection.clone()));
                table.namespaces.iter().filter(move |namespace| there.is_some_and(|there| there.contains(*namespace)))
            });
            u32::try_from(left.count()).ok()
        })
    }

    fn counted(&self, begun: Instant, bytes: u64, tables: Vec<TableStats>) {
        self.write(|seen| (seen.bytes, seen.tables, seen.counted_at) = (bytes, tables, Some(begun)));
        self.counted.send_replace(Some(begun));
    }

    fn read<T>(&self, look: impl FnOnce(&Seen) -> T) -> T {
        look(&self.seen.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut self.seen.write().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Counts rows and bytes at each interval, soon after a new desired state, and when an import ended, until `stop`.
pub async fn count_always(
    worker: Arc<Worker>,
    mut current: watch::Receiver<Option<Arc<DesiredState>>>,
    mut stop: Stop,
) {
    let mut counter = Counter::default();
    let mut loads = worker.loads.subscribe();
    let mut counted_at = None;
    loop {
        let desired = current.borrow_and_update().clone();
        let (ended, begun) = {
            let loads = loads.borrow_and_update();
            (loads.ended_since(counted_at), Instant::now())
        };
        if let Some(desired) = desired
            && worker.server.ready().is_ok()
        {
            match count_once(&worker, &desired, &mut counter, begun, &ended).await {
                Ok(()) => counted_at = Some(begun),
                Err(error) if error.is_gone() => {}
                Err(error) => {
                    tracing::warn!(error = chain(&error), "rows and bytes not counted, trying again later");
                }
            }
        }
        let next = tokio::time::sleep(worker.config.stats_interval());
        tokio::pin!(next);
        loop {
            tokio::select! {
                () = &mut next => break,
                changed = current.changed() => if changed.is_err() { return } else { break },
                _ = loads.changed() => if !loads.borrow().ended_since(counted_at).is_empty() {
                    let pause = COUNT_PAUSE.saturating_sub(begun.elapsed()).min(worker.config.stats_interval());
                    next.as_mut().reset(tokio::time::Instant::now() + pause);
                },
                () = stop.told() => return,
            }
        }
    }
}

async fn count_once(
    worker: &Worker,
    desired: &DesiredState,
    counter: &mut Counter,
    begun: Instant,
    ended: &[TableKey],
) -> Result<(), PgError> {
    let session = worker.target().connect(COUNT_STATEMENT_LIMIT).await?;
    let bytes = Counter::database_bytes(&session).await?;
    // What a transaction changed reaches PostgreSQL's statistics a while after it: after an import nobody waits for that.
    let anew = ended.iter().filter_map(|(shard, collection)| {
        let placed = desired.shards.iter().find(|placed| Some(placed.shard) == *shard)?;
        Some((shard_schema(placed.shard, placed.generation), collection.to_string()))
    });
    let sizes = counter.count(&session, &schemas_of(desired), &anew.collect()).await?;
    worker.status.counted(begun, bytes, by_shard(desired, sizes));
    Ok(())
}

fn by_shard(desired: &DesiredState, sizes: Vec<TableSize>) -> Vec<TableStats> {
    let mut shards: BTreeMap<String, Option<ShardId>> =
        desired.shards.iter().map(|s| (shard_schema(s.shard, s.generation), Some(s.shard))).collect();
    shards.insert(REFERENCE_SCHEMA.to_owned(), None);
    let mut tables = Vec::with_capacity(sizes.len());
    for size in sizes {
        let TableSize { schema, name, rows, bytes, vector_index_bytes, large_namespaces } = size;
        // A table that somebody made by hand may have a name that no collection can have.
        if let (Some(shard), Ok(collection)) = (shards.get(&schema), CollectionName::parse(&name)) {
            tables.push(TableStats {
                shard: *shard,
                collection,
                rows,
                bytes,
                vector_index_bytes,
                large_namespaces,
                // Known elsewhere, see `with_graphs`.
                graphs: Vec::new(),
                shard_graph: false,
            });
        }
    }
    tables
}
