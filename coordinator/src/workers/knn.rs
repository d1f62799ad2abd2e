//! One shard's nearest candidates.
//!
//! An exact scan orders by `distance + 0`, an expression that no vector index answers, so the server reads the rows that match
//! by the primary key and sorts. A walk of the graph orders by the bare operator.

use super::filter_sql::push_condition;
use super::flight::{self, Bound};
use super::read::ALIVE;
use super::row;
use super::statement::{Embedding, Statement};
use super::{ShardError, ShardTable, WorkerPool, own_graphs};
use atoll_core::filter::Expr;
use atoll_core::search::plan::{ShardPlan, Strategy};
use atoll_proto::entry::{EntryId, Include};
use atoll_proto::{Namespace, Vector, VectorType};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_postgres::Row;

/// Which rows may be candidates.
#[derive(Debug, Clone)]
pub enum Scope {
    /// Those of these namespaces.
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
    /// Wide columns that candidates bring along.
    pub wide: Arc<[Include]>,
    /// Strategy, number of candidates, ef.
    pub plan: ShardPlan,
    /// Namespaces among those asked for that have a graph of their own.
    pub graphs: Vec<Namespace>,
}

impl KnnQuery {
    fn is_scan_of_one_namespace(&self) -> bool {
        let one = matches!(&self.scope, Scope::Namespaces(namespaces) if namespaces.len() == 1);
        one && self.filter.is_none() && self.plan.per_namespace.is_none()
    }
}

impl Scope {
    /// Whether it speaks of a namespace.
    pub fn holds(&self, namespace: &Namespace) -> bool {
        match self {
            Self::Namespaces(namespaces) => namespaces.contains(namespace),
            Self::Prefix(prefix) => namespace.as_str().starts_with(prefix.as_str()),
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
    /// Wide columns that it brought along.
    sent: Arc<[Include]>,
}

/// Wide columns of a winner; what was not asked for is none.
#[derive(Debug, Default)]
pub struct WideColumns {
    /// Text.
    pub value: Option<String>,
    /// Metadata.
    pub metadata: Option<Value>,
    /// Tags.
    pub tags: Option<Vec<String>>,
}

/// Position of the embedding among the columns.
const EMBEDDING: usize = 3;

impl KnnRow {
    /// Its vector's numbers, at the full precision of what is stored, in place of what `into` held.
    pub fn read_numbers(&self, worker: &str, into: &mut Vec<f32>) -> Result<(), ShardError> {
        row::read_numbers(worker, self.vector_type, &self.row, EMBEDDING, into)
    }

    /// Its vector.
    pub fn vector(&self, worker: &str) -> Result<Option<Vector>, ShardError> {
        row::embedding(worker, self.vector_type, &self.row, EMBEDDING)
    }

    /// Its wide columns, fetched or brought along.
    pub fn wide_columns(&mut self, worker: &str) -> Result<WideColumns, ShardError> {
        if let Some(columns) = self.fetched.take() {
            return Ok(columns);
        }
        let failed = |error| ShardError::of(worker, error);
        let mut columns = WideColumns::default();
        for include in self.sent.iter() {
            match include {
                Include::Value => columns.value = self.row.try_get("value").map_err(failed)?,
                Include::Metadata => columns.metadata = self.row.try_get("metadata").map_err(failed)?,
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
    /// How long a connection was waited for.
    pub queued: Duration,
}

/// Asks a shard.
pub async fn nearest(
    pool: &WorkerPool,
    table: &ShardTable,
    query: &KnnQuery,
    deadline: Instant,
) -> Result<Nearest, ShardError> {
    let settings = settings(query, deadline);
    let statement = statement(table, query);
    // A filter's shape varies without bound, and the cache of prepared statements has no eviction.
    let cacheable = query.filter.is_none();
    let statement = Bound { text: &statement.text, params: statement.params(), cacheable };
    let (asked, mut queued) = (Instant::now(), Duration::ZERO);
    let rows = pool
        .run(deadline, async |client| {
            queued = asked.elapsed();
            flight::fly(client, &settings, &[statement]).await
        })
        .await?;
    let rows = rows.into_iter().flatten().map(|row| knn_row(pool.worker(), table, query, row));
    Ok(Nearest { rows: rows.collect::<Result<_, _>>()?, queued })
}

/// Opens the transaction that the statement runs in.
pub(super) fn settings(query: &KnnQuery, deadline: Instant) -> String {
    let mut settings = flight::reading(deadline);
    let plan = query.plan;
    match plan.strategy {
        // There is one right way to one namespace's rows, by the primary key: no need to look for it each time, which takes as
        // long as scanning a hundred rows.
        Strategy::Exact if query.is_scan_of_one_namespace() => {
            settings.push_str("; set local plan_cache_mode = force_generic_plan; set local enable_seqscan = off");
        }
        Strategy::Exact => {}
        // The text names the namespaces, so one plan serves every execution. What lies between them is few rows of many, whatever
        // the server's statistics say of it; and a walk is meant, also while they say that there is little to sort.
        Strategy::OwnGraphs => settings.push_str(&format!(
            "; set local hnsw.ef_search = {}; set local plan_cache_mode = force_generic_plan; set local enable_seqscan = off; \
             set local enable_sort = off",
            plan.ef
        )),
        Strategy::Hnsw => settings.push_str(&format!("; set local hnsw.ef_search = {}", plan.ef)),
        Strategy::HnswIterative => {
            let ef = plan.ef;
            settings.push_str(&format!(
                "; set local hnsw.ef_search = {ef}; set local hnsw.iterative_scan = 'strict_order'; \
                 set local hnsw.max_scan_tuples = 40000"
            ));
        }
    }
    settings
}

/// The statement that asks.
pub(super) fn statement(table: &ShardTable, query: &KnnQuery) -> Statement {
    let operator = table.operator();
    let columns = columns(query);
    let mut sql = Statement::new(format!("select {columns} "));
    if query.plan.strategy == Strategy::OwnGraphs {
        sql.values.push(Box::new(Embedding::new(query.vector.as_slice(), table.settings.vector_type)));
        own_graphs::push_from(&mut sql, table, query, &columns);
        return sql;
    }
    sql.push("from ");
    if let Some(most) = query.plan.per_namespace {
        sql.push("(select ").push(&columns).push(", ");
        push_distance(&mut sql, table, operator, query);
        sql.push(" as distance, row_number() over (partition by namespace order by ");
        // The same parameter again: one vector is bound once.
        sql.push("embedding ").push(operator).push(" $1, key) as place from ");
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
        Strategy::Exact => sql.push(" order by (").push(&distance.text).push(") + 0, namespace, key"),
        Strategy::OwnGraphs | Strategy::Hnsw | Strategy::HnswIterative => sql.push(" order by ").push(&distance.text),
    };
    sql.push(" limit ").bind(i64::from(query.plan.candidates));
    sql
}

fn columns(query: &KnnQuery) -> String {
    let mut columns = "namespace, key, version, embedding".to_owned();
    for include in query.wide.iter() {
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
        Scope::Namespaces(namespaces) => match namespaces.as_slice() {
            [namespace] => {
                sql.push(" and namespace = ").bind(namespace.to_string());
            }
            _ => {
                let names: Vec<String> = namespaces.iter().map(ToString::to_string).collect();
                sql.push(" and namespace = any(").bind(names).push(")");
            }
        },
        Scope::Prefix(prefix) => {
            // Bytes of a namespace are below 0x7f, so this bounds every namespace that begins so, and the primary key answers it.
            sql.push(" and namespace >= ").bind(prefix.clone());
            sql.push(" and namespace < ").bind(format!("{prefix}\u{7f}"));
        }
        Scope::All => {}
    }
    if let Some(filter) = &query.filter {
        sql.push(" and ");
        push_condition(sql, filter);
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
        sent: query.wide.clone(),
    })
}
