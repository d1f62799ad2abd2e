//! One shard's nearest candidates.
//!
//! An exact scan orders by `distance + 0`, an expression that no vector index answers, so the server reads the rows that match
//! by the primary key and sorts. A walk of the graph orders by the bare operator.

use super::filter_sql::push_on_path;
use super::flight::Bound;
use super::logged::{self, Logged, Watch};
use super::read::ALIVE;
use super::row;
use super::session::ReadSettings;
use super::statement::{Embedding, Statement};
use super::{ShardError, ShardTable, WorkerPool, own_graphs};
use atoll_core::filter::Expr;
use atoll_core::search::filtered::RowPath;
use atoll_core::search::plan::{ShardPlan, Strategy};
use atoll_proto::entry::{EntryId, Include};
use atoll_proto::{Namespace, StoredMetadata, Vector, VectorType};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::time::Instant;
use tokio_postgres::Row;

/// Which rows may be candidates.
#[derive(Debug, Clone)]
pub enum Scope {
    /// Those of these namespaces, which are in their order.
    Namespaces(Vec<Namespace>),
    /// Those of namespaces that begin so.
    Prefix(String),
    /// All.
    All,
}

/// What one shard is asked.
#[derive(Debug, Clone)]
pub struct KnnQuery {
    /// What to look for.
    pub vector: Vector,
    /// Which rows may be candidates.
    pub scope: Scope,
    /// Namespaces to leave out.
    pub exclude: Arc<[Namespace]>,
    /// Which of them match.
    pub filter: Option<Arc<Expr>>,
    /// An entry to leave out.
    pub without: Option<EntryId>,
    /// What candidates bring along.
    pub bring: Bring,
    /// Strategy, number of candidates, ef.
    pub plan: ShardPlan,
    /// Namespaces among those asked for whose own graph is to be walked.
    pub graphs: Vec<Namespace>,
}

/// What a candidate brings along.
#[derive(Debug, Clone)]
pub enum Bring {
    /// Its distance as the worker computes it, with 32-bit numbers, and nothing else: most candidates of a fan-out don't win.
    Distance,
    /// Its vector and these wide columns.
    Columns(Arc<[Include]>),
}

/// Up to this many candidates of a single shard bring all columns along.
const WHOLE_CANDIDATES_MAX: u32 = 64;
/// Those of several shards together do up to this many, if they take no more than so many bytes, about. Most of them don't win.
const WHOLE_CANDIDATES_OF_SEVERAL_MAX: u32 = 128;
const WHOLE_BYTES_OF_SEVERAL_MAX: u64 = 512 * 1024;

impl Bring {
    /// What candidates bring, each of so many shards these `candidates`, where hits show `wide` columns. `bytes` tells what all
    /// candidates would take with all their columns, about; none if that is not known.
    pub fn of_fan_out(candidates: &[u32], bytes: impl FnOnce() -> Option<u64>, wide: Vec<Include>) -> Self {
        let all = candidates.iter().sum::<u32>();
        let come_whole = match candidates {
            [] | [_] => all <= WHOLE_CANDIDATES_MAX,
            _ => {
                all <= WHOLE_CANDIDATES_OF_SEVERAL_MAX
                    && bytes().is_some_and(|bytes| bytes <= WHOLE_BYTES_OF_SEVERAL_MAX)
            }
        };
        match come_whole {
            // A second round trip would cost more.
            true => Self::Columns(wide.into()),
            // The winners are fetched anyhow, so the vectors of the others need not travel.
            false if !wide.is_empty() => Self::Distance,
            false => Self::Columns(Arc::default()),
        }
    }

    /// Wide columns that it brings along.
    pub fn wide(&self) -> &[Include] {
        match self {
            Self::Distance => &[],
            Self::Columns(wide) => wide,
        }
    }
}

impl Scope {
    /// Whether it speaks of a namespace.
    pub fn holds(&self, namespace: &str) -> bool {
        match self {
            Self::Namespaces(namespaces) => namespaces.binary_search_by(|one| one.as_str().cmp(namespace)).is_ok(),
            Self::Prefix(prefix) => namespace.starts_with(prefix.as_str()),
            Self::All => true,
        }
    }
}

/// A candidate. Most don't win: what only winners need is left as the worker sent it.
#[derive(Debug)]
pub struct KnnRow {
    /// Its namespace.
    pub namespace: String,
    /// Its key.
    pub key: String,
    /// Its version.
    pub version: i64,
    /// Its wide columns, if they were fetched after it.
    pub fetched: Option<WideColumns>,
    row: Row,
    vector_type: VectorType,
    /// What it brought along.
    brought: Bring,
}

/// Wide columns of a winner, and its vector if the candidate came without; what was not asked for is none.
#[derive(Debug, Default)]
pub struct WideColumns {
    /// Text.
    pub value: Option<String>,
    /// Metadata.
    pub metadata: Option<StoredMetadata>,
    /// Tags.
    pub tags: Option<Vec<String>>,
    /// Its vector.
    pub vector: Option<Vector>,
}

/// Position of the time to live among the columns.
const EXPIRES_AT: usize = 3;
/// Position of the embedding, or of the distance in its place.
const EMBEDDING: usize = 4;

impl KnnRow {
    /// Its vector's numbers, at the full precision of what is stored, in place of what `into` held.
    pub fn read_numbers(&self, worker: &str, into: &mut Vec<f32>) -> Result<(), ShardError> {
        row::read_numbers(worker, self.vector_type, &self.row, EMBEDDING, into)
    }

    /// Its distance, if the worker computed it.
    pub fn distance(&self, worker: &str) -> Result<Option<f64>, ShardError> {
        match self.brought {
            Bring::Distance => self.row.try_get(EMBEDDING).map(Some).map_err(|error| ShardError::of(worker, error)),
            Bring::Columns(_) => Ok(None),
        }
    }

    /// Its vector, which it brought along.
    pub fn vector(&self, worker: &str) -> Result<Option<Vector>, ShardError> {
        row::embedding(worker, self.vector_type, &self.row, EMBEDDING)
    }

    /// When it expires, if it does.
    pub fn expires_at(&self, worker: &str) -> Result<Option<SystemTime>, ShardError> {
        self.row.try_get(EXPIRES_AT).map_err(|error| ShardError::of(worker, error))
    }

    /// Its wide columns, fetched or brought along.
    pub fn wide_columns(&mut self, worker: &str) -> Result<WideColumns, ShardError> {
        if let Some(columns) = self.fetched.take() {
            return Ok(columns);
        }
        let failed = |error| ShardError::of(worker, error);
        let mut columns = WideColumns::default();
        for include in self.brought.wide() {
            match include {
                Include::Value => columns.value = self.row.try_get("value").map_err(failed)?,
                Include::Metadata => columns.metadata = row::metadata(worker, &self.row, "metadata")?,
                Include::Tags => columns.tags = self.row.try_get("tags").map_err(failed)?,
                Include::Vector => {}
            }
        }
        Ok(columns)
    }
}

/// What a shard gave.
#[derive(Debug)]
pub struct Nearest {
    /// Candidates, in the order of the statement.
    pub rows: Vec<KnnRow>,
    /// How many rows the graph gave that gave the fewest; all of them where no graph was walked.
    pub fewest: usize,
    /// How long a connection was waited for.
    pub queued: Duration,
}

/// Asks a shard.
pub async fn nearest(
    pool: &WorkerPool,
    table: &ShardTable,
    query: &KnnQuery,
    watch: Watch,
    deadline: Instant,
) -> Result<Logged<Nearest>, ShardError> {
    let settings = settings(query, deadline);
    let statement = statement(table, query);
    let statement = Bound { text: &statement.text, params: statement.params() };
    let (asked, mut queued) = (Instant::now(), Duration::ZERO);
    let Logged { value: rows, log } = pool
        .run(deadline, async |session| {
            queued = asked.elapsed();
            logged::ask(session, &settings, &statement, watch).await
        })
        .await?;
    pool.note_search(asked.elapsed().saturating_sub(queued));
    let fewest = match rows.first() {
        Some(row) if own_graphs::tells_fewest(query) => {
            let fewest: i64 = row.try_get(own_graphs::FEWEST).map_err(|error| ShardError::of(pool.worker(), error))?;
            usize::try_from(fewest).unwrap_or_default()
        }
        Some(_) | None => rows.len(),
    };
    let rows = rows.into_iter().map(|row| knn_row(pool.worker(), table, query, row));
    let value = Nearest { rows: rows.collect::<Result<_, _>>()?, fewest, queued };
    Ok(Logged { value, log })
}

/// What the statement wants set.
pub(super) fn settings(query: &KnnQuery, deadline: Instant) -> ReadSettings {
    let settings = ReadSettings::until(deadline);
    let ef = query.plan.ef;
    match (query.plan.strategy, &query.scope) {
        // By the indexes on what the filter asks for.
        (Strategy::Exact(RowPath::Filter), _) => settings.fixed_way(),
        // By the primary key.
        (Strategy::Exact(RowPath::Namespaces), Scope::Namespaces(_)) => settings.fixed_way(),
        (Strategy::Exact(RowPath::Namespaces), Scope::Prefix(_)) if query.filter.is_some() => settings.fixed_way(),
        // All rows, or most, are read best as they lie, which the server sees by itself.
        (Strategy::Exact(RowPath::Namespaces | RowPath::Any), _) => settings,
        // The text names the namespaces that have graphs, or asks in the order of the graph over all rows: one plan serves every
        // execution. The server might rather sort the rows that it thinks match.
        (Strategy::OwnGraphs | Strategy::Hnsw, _) => settings.fixed_way().walk(ef),
    }
}

/// The statement that asks.
pub(super) fn statement(table: &ShardTable, query: &KnnQuery) -> Statement {
    let operator = table.operator();
    let columns = columns(query);
    if query.plan.strategy == Strategy::OwnGraphs {
        let mut sql = Statement::default();
        sql.values.push(Box::new(Embedding::new(query.vector.as_slice(), table.settings.vector_type)));
        own_graphs::push(&mut sql, table, query, &columns);
        return sql;
    }
    let mut sql = Statement::new(format!("select {columns}"));
    // The very expression that rows are ordered by, so that it is computed once a row.
    match (&query.bring, query.plan.strategy) {
        (Bring::Columns(_), _) => sql.push(" from "),
        (Bring::Distance, Strategy::Exact(_)) => {
            sql.push(&format!(", (embedding {operator} $1) + 0 as distance from "))
        }
        (Bring::Distance, _) => sql.push(&format!(", embedding {operator} $1 as distance from ")),
    };
    if let Some(most) = query.plan.per_namespace {
        sql.push("(select ").push(&columns).push(", (");
        push_distance(&mut sql, table, operator, query);
        // Of one namespace alone the partition is no part of the order, and an index in the order of the bare operator would do.
        sql.push(") + 0 as distance, row_number() over (partition by namespace order by (");
        // The same parameter again: one vector is bound once.
        sql.push("embedding ").push(operator).push(" $1) + 0, key) as place from ");
        sql.push(&table.quoted());
        push_where(&mut sql, query);
        sql.push(") as ranked where place <= ").bind(i64::from(most));
        sql.push(" order by distance, namespace, key limit ").bind(i64::from(query.plan.candidates));
        return sql;
    }
    sql.push(&table.quoted());
    let mut distance = Statement::default();
    push_distance(&mut distance, table, operator, query);
    sql.values = distance.values;
    push_where(&mut sql, query);
    match query.plan.strategy {
        Strategy::Exact(_) => sql.push(" order by (").push(&distance.text).push(") + 0, namespace, key"),
        Strategy::OwnGraphs | Strategy::Hnsw => sql.push(" order by ").push(&distance.text),
    };
    sql.push(" limit ").bind(i64::from(query.plan.candidates));
    sql
}

/// What to select, but for the distance.
fn columns(query: &KnnQuery) -> String {
    let mut columns = match query.bring {
        Bring::Distance => "namespace, key, version, expires_at".to_owned(),
        Bring::Columns(_) => "namespace, key, version, expires_at, embedding".to_owned(),
    };
    for include in query.bring.wide() {
        columns.push_str(match include {
            Include::Value => ", value",
            Include::Metadata => ", metadata",
            Include::Tags => ", tags",
            Include::Vector => continue,
        });
    }
    columns
}

/// `embedding <=> $1`; always the first value of its statement.
fn push_distance(sql: &mut Statement, table: &ShardTable, operator: &str, query: &KnnQuery) {
    sql.push("embedding ").push(operator).push(" ");
    sql.bind(Embedding::new(query.vector.as_slice(), table.settings.vector_type));
}

/// Rows that have not expired and are not left out by name.
pub(super) fn push_liveness(sql: &mut Statement, query: &KnnQuery) {
    sql.push(ALIVE);
    if !query.exclude.is_empty() {
        let names: Vec<String> = query.exclude.iter().map(ToString::to_string).collect();
        sql.push(" and namespace <> all(").bind(names).push(")");
    }
    if let Some(id) = &query.without {
        sql.push(" and (namespace, key) <> (").bind(id.namespace.to_string()).push(", ");
        sql.bind(id.key.to_string()).push(")");
    }
}

fn push_where(sql: &mut Statement, query: &KnnQuery) {
    sql.push(" where ");
    push_liveness(sql, query);
    match &query.scope {
        Scope::Namespaces(_) | Scope::Prefix(_) if query.plan.strategy == Strategy::Exact(RowPath::Filter) => {
            // No index answers this form, so none is left but the filter's.
            sql.push(" and (");
            push_scope(sql, &query.scope);
            sql.push(") is true");
        }
        Scope::Namespaces(_) | Scope::Prefix(_) => {
            sql.push(" and ");
            push_scope(sql, &query.scope);
        }
        Scope::All => {}
    }
    if let Some(filter) = &query.filter {
        let path = match query.plan.strategy {
            Strategy::Exact(path) => path,
            // Only the graph is to be left.
            Strategy::OwnGraphs | Strategy::Hnsw => RowPath::Namespaces,
        };
        sql.push(" and ");
        push_on_path(sql, filter, path);
    }
}

pub(super) fn push_scope(sql: &mut Statement, scope: &Scope) {
    match scope {
        Scope::Namespaces(namespaces) => match namespaces.as_slice() {
            [namespace] => {
                sql.push("namespace = ").bind(namespace.to_string());
            }
            _ => {
                let names: Vec<String> = namespaces.iter().map(ToString::to_string).collect();
                sql.push("namespace = any(").bind(names).push(")");
            }
        },
        Scope::Prefix(prefix) => {
            // Bytes of a namespace are below 0x7f, so this bounds every namespace that begins so, and the primary key answers it.
            sql.push("namespace >= ").bind(prefix.clone());
            sql.push(" and namespace < ").bind(format!("{prefix}\u{7f}"));
        }
        Scope::All => {
            sql.push("true");
        }
    }
}

fn knn_row(worker: &str, table: &ShardTable, query: &KnnQuery, row: Row) -> Result<KnnRow, ShardError> {
    let failed = |error| ShardError::of(worker, error);
    Ok(KnnRow {
        namespace: row.try_get(0).map_err(failed)?,
        key: row.try_get(1).map_err(failed)?,
        version: row.try_get(2).map_err(failed)?,
        fetched: None,
        row,
        vector_type: table.settings.vector_type,
        brought: query.bring.clone(),
    })
}

#[cfg(test)]
#[path = "knn_tests.rs"]
mod tests;
