//! Reading entries of one shard: by id, in order, counted, and the names of its namespaces.

use super::filter_sql::{push_condition, push_on_path};
use super::flight::{self, Bound};
use super::logged::{self, Logged, Watch};
use super::session::ReadSettings;
use super::statement::Statement;
use super::{ShardError, ShardTable, WorkerPool, row};
use atoll_core::access::Touched;
use atoll_core::filter::Expr;
use atoll_core::search::filtered::RowPath;
use atoll_proto::entry::{Entry, EntryId, Include, ListOrder};
use atoll_proto::{EntryKey, Namespace};
use std::time::{Duration, SystemTime};
use tokio::time::Instant;
use tokio_postgres::Row;

pub(super) const ALIVE: &str = "(expires_at is null or expires_at > now())";

/// Where a page begins: after this entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct After {
    /// Its key.
    pub key: String,
    /// The time that the list is ordered by, in microseconds since 1970; 0 when ordered by key.
    pub micros: i64,
}

/// The entries of `ids` that exist and match the filter, in any order.
pub async fn get(
    pool: &WorkerPool,
    table: &ShardTable,
    ids: &[EntryId],
    filter: Option<&Expr>,
    include: &[Include],
    deadline: Instant,
) -> Result<Vec<Entry>, ShardError> {
    Ok(get_logged(pool, table, ids, filter, include, Watch::Nothing, deadline).await?.value)
}

/// The same, and where the log stood.
pub async fn get_logged(
    pool: &WorkerPool,
    table: &ShardTable,
    ids: &[EntryId],
    filter: Option<&Expr>,
    include: &[Include],
    watch: Watch,
    deadline: Instant,
) -> Result<Logged<Vec<Entry>>, ShardError> {
    let sql = get_statement(table, ids, filter, include);
    let statement = Bound { text: &sql.text, params: sql.params() };
    let rows = logged::read(pool, &get_settings(deadline), statement, watch, deadline).await?;
    rows.and_then(|rows| entries(pool, table, &rows))
}

/// By the primary key, whatever the server's statistics say.
pub(super) fn get_settings(deadline: Instant) -> ReadSettings {
    ReadSettings::until(deadline).fixed_way()
}

pub(super) fn get_statement(
    table: &ShardTable,
    ids: &[EntryId],
    filter: Option<&Expr>,
    include: &[Include],
) -> Statement {
    let mut sql = Statement::new("select ");
    sql.push(&row::columns(table, include)).push(" from ").push(&table.quoted()).push(" where ").push(ALIVE);
    match ids {
        [id] => {
            sql.push(" and namespace = ").bind(id.namespace.to_string());
            sql.push(" and key = ").bind(id.key.to_string());
        }
        _ => {
            let namespaces: Vec<String> = ids.iter().map(|id| id.namespace.to_string()).collect();
            let keys: Vec<String> = ids.iter().map(|id| id.key.to_string()).collect();
            sql.push(" and (namespace, key) in (select * from unnest(").bind(namespaces).push("::text[], ");
            sql.bind(keys).push("::text[]))");
        }
    }
    if let Some(filter) = filter {
        sql.push(" and ");
        push_on_path(&mut sql, filter, RowPath::Namespaces);
    }
    sql
}

/// A page of a namespace.
pub async fn list(
    pool: &WorkerPool,
    table: &ShardTable,
    page: &ListPage<'_>,
    deadline: Instant,
) -> Result<Vec<Entry>, ShardError> {
    let (column, direction, comparison) = match page.order {
        ListOrder::KeyAsc => (None, "asc", ">"),
        ListOrder::KeyDesc => (None, "desc", "<"),
        ListOrder::CreatedAsc => (Some("created_at"), "asc", ">"),
        ListOrder::CreatedDesc => (Some("created_at"), "desc", "<"),
        ListOrder::UpdatedAsc => (Some("updated_at"), "asc", ">"),
        ListOrder::UpdatedDesc => (Some("updated_at"), "desc", "<"),
    };
    let mut sql = Statement::new("select ");
    sql.push(&row::columns(table, page.include)).push(" from ").push(&table.quoted()).push(" where ").push(ALIVE);
    sql.push(" and namespace = ").bind(page.namespace.to_owned());
    if let Some(filter) = page.filter {
        sql.push(" and ");
        push_condition(&mut sql, filter);
    }
    match (column, page.after) {
        (None, Some(after)) => {
            sql.push(" and key ").push(comparison).push(" ").bind(after.key.clone());
        }
        (Some(column), Some(after)) => {
            sql.push(" and (").push(column).push(", key) ").push(comparison).push(" (");
            sql.bind(SystemTime::UNIX_EPOCH + Duration::from_micros(after.micros.unsigned_abs()))
                .push("::timestamptz, ");
            sql.bind(after.key.clone()).push("::text)");
        }
        (_, None) => {}
    }
    sql.push(" order by ");
    if let Some(column) = column {
        sql.push(column).push(" ").push(direction).push(", ");
    }
    sql.push("key ").push(direction).push(" limit ").bind(i64::from(page.limit));
    let rows = query(pool, &sql, deadline).await?;
    entries(pool, table, &rows)
}

/// What a page holds.
#[derive(Debug, Clone, Copy)]
pub struct ListPage<'a> {
    /// The namespace.
    pub namespace: &'a str,
    /// Which entries of it.
    pub filter: Option<&'a Expr>,
    /// In which order.
    pub order: ListOrder,
    /// After which entry.
    pub after: Option<&'a After>,
    /// How many.
    pub limit: u32,
    /// What of each.
    pub include: &'a [Include],
}

/// How many entries of a namespace match.
pub async fn count(
    pool: &WorkerPool,
    table: &ShardTable,
    namespace: &str,
    filter: Option<&Expr>,
    deadline: Instant,
) -> Result<u64, ShardError> {
    let mut sql = Statement::new("select count(*) from ");
    sql.push(&table.quoted()).push(" where ").push(ALIVE).push(" and namespace = ").bind(namespace.to_owned());
    if let Some(filter) = filter {
        sql.push(" and ");
        push_condition(&mut sql, filter);
    }
    let rows = query(pool, &sql, deadline).await?;
    let count: i64 = match rows.first() {
        Some(row) => row.try_get(0).map_err(|error| ShardError::of(pool.worker(), error))?,
        None => 0,
    };
    Ok(count.unsigned_abs())
}

/// Ids of the entries of a namespace that match, in the order of their keys.
pub async fn ids(
    pool: &WorkerPool,
    table: &ShardTable,
    namespace: &Namespace,
    filter: Option<&Expr>,
    limit: Option<u32>,
    deadline: Instant,
) -> Result<Vec<EntryId>, ShardError> {
    let mut sql = Statement::new("select key from ");
    sql.push(&table.quoted()).push(" where ").push(ALIVE).push(" and namespace = ").bind(namespace.to_string());
    if let Some(filter) = filter {
        sql.push(" and ");
        push_condition(&mut sql, filter);
    }
    sql.push(" order by key limit ").bind(limit.map(i64::from));
    let rows = query(pool, &sql, deadline).await?;
    let malformed = |source| ShardError::Malformed { worker: pool.worker().to_owned(), source };
    let id = |row: &Row| {
        let key: String = row.try_get(0).map_err(|error| ShardError::of(pool.worker(), error))?;
        let key = EntryKey::parse(&key).map_err(|error| malformed(Box::new(error)))?;
        Ok(EntryId { namespace: namespace.clone(), key })
    };
    rows.iter().map(id).collect()
}

/// Names of namespaces among `touched` that hold entries, in byte order, after `after`. Skips from name to name by the primary key: the cost is
/// that of the names given, not of the entries.
pub async fn namespaces(
    pool: &WorkerPool,
    table: &ShardTable,
    touched: Touched<'_>,
    after: Option<&str>,
    limit: u32,
    deadline: Instant,
) -> Result<Vec<String>, ShardError> {
    let table = table.quoted();
    let (from, until) = range(touched);
    let mut sql = Statement::new("with recursive names as ((select namespace from ");
    sql.push(&table).push(" where ").push(ALIVE).push(" and namespace >= ").bind(from.to_owned());
    sql.push(" and namespace < ").bind(until);
    sql.push(" and namespace > ").bind(after.unwrap_or("").to_owned());
    sql.push(" order by namespace limit 1) union all select (select t.namespace from ").push(&table);
    sql.push(" as t where ").push(ALIVE).push(" and t.namespace > names.namespace and t.namespace < $2");
    sql.push(" order by t.namespace limit 1) from names where names.namespace is not null)");
    sql.push(" select namespace from names where namespace is not null limit ").bind(i64::from(limit));
    let rows = query(pool, &sql, deadline).await?;
    let worker = pool.worker();
    rows.iter().map(|row| row.try_get(0).map_err(|error| ShardError::of(worker, error))).collect()
}

/// Where names of these namespaces begin and end, in byte order: their characters are between the two that are put behind.
fn range(touched: Touched<'_>) -> (&str, String) {
    match touched {
        Touched::Namespace(name) => (name.as_str(), format!("{name}\u{1}")),
        Touched::Prefix(prefix) => (prefix, format!("{prefix}\u{7f}")),
        Touched::All => ("", "\u{7f}".to_owned()),
    }
}

fn entries(pool: &WorkerPool, table: &ShardTable, rows: &[Row]) -> Result<Vec<Entry>, ShardError> {
    rows.iter().map(|row| row::entry(pool.worker(), table, row)).collect()
}

async fn query(pool: &WorkerPool, sql: &Statement, deadline: Instant) -> Result<Vec<Row>, ShardError> {
    let statement = Bound { text: &sql.text, params: sql.params() };
    flight::read(pool, &ReadSettings::until(deadline), statement, deadline).await
}
