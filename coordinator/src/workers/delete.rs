//! Removing entries of one shard.

use super::filter_sql::push_condition;
use super::flight::{Bound, Written};
use super::idempotency::{Replay, Ticket, in_transaction};
use super::read::ALIVE;
use super::statement::Statement;
use super::{ShardError, ShardTable, WorkerPool};
use atoll_core::filter::Expr;
use atoll_proto::Namespace;
use atoll_proto::entry::EntryId;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tokio_postgres::Row;

/// Removes the entries of `ids` that exist; says how many there were.
pub async fn by_ids(
    pool: &WorkerPool,
    table: &ShardTable,
    ids: &[EntryId],
    ticket: Option<&Ticket>,
    deadline: Instant,
) -> Result<Written<Replay<u64>>, ShardError> {
    let quoted = table.quoted();
    let namespaces: Vec<String> = ids.iter().map(|id| id.namespace.to_string()).collect();
    let keys: Vec<String> = ids.iter().map(|id| id.key.to_string()).collect();
    let mut sql = Statement::new("with doomed as (select namespace, key, expires_at from ");
    sql.push(&quoted).push(" where (namespace, key) in (select * from unnest(").bind(namespaces).push("::text[], ");
    sql.bind(keys).push("::text[])) order by namespace, key for update), gone as (delete from ");
    sql.push(&quoted).push(" as e using doomed as d where e.namespace = d.namespace and e.key = d.key");
    sql.push(" returning d.expires_at is null or d.expires_at > now() as alive)");
    sql.push(" select count(*) filter (where alive) from gone");
    remove(pool, table, &sql, ticket, deadline).await
}

/// Removes at most `limit` entries of a namespace that match; says how many.
pub async fn by_filter(
    pool: &WorkerPool,
    table: &ShardTable,
    namespace: &Namespace,
    filter: Option<&Expr>,
    limit: Option<u32>,
    ticket: Option<&Ticket>,
    deadline: Instant,
) -> Result<Written<Replay<u64>>, ShardError> {
    let quoted = table.quoted();
    let mut sql = Statement::new("with doomed as (select namespace, key from ");
    // Those that have expired are left to the agent: they must not use up the limit.
    sql.push(&quoted).push(" where ").push(ALIVE).push(" and namespace = ").bind(namespace.to_string());
    if let Some(filter) = filter {
        sql.push(" and ");
        push_condition(&mut sql, filter);
    }
    sql.push(" order by namespace, key limit ").bind(limit.map(i64::from)).push(" for update), gone as (delete from ");
    sql.push(&quoted).push(" as e using doomed as d where e.namespace = d.namespace and e.key = d.key returning 1)");
    sql.push(" select count(*) from gone");
    remove(pool, table, &sql, ticket, deadline).await
}

async fn remove(
    pool: &WorkerPool,
    table: &ShardTable,
    sql: &Statement,
    ticket: Option<&Ticket>,
    deadline: Instant,
) -> Result<Written<Replay<u64>>, ShardError> {
    let statement = Bound { text: &sql.text, params: sql.params() };
    let count = |rows: Vec<Vec<Row>>| match rows.first().and_then(|rows| rows.first()) {
        Some(row) => row.try_get::<_, i64>(0).map(i64::unsigned_abs),
        None => Ok(0),
    };
    in_transaction(pool, table, &[statement], count, ticket, deadline).await
}

/// What became of a conditional delete of one entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeleteOutcome {
    /// It is gone.
    Gone,
    /// There was none.
    Missing,
    /// It is at another version.
    OtherVersion(i64),
}

/// Removes one entry, if it is at a version.
pub async fn one(
    pool: &WorkerPool,
    table: &ShardTable,
    id: &EntryId,
    at_version: Option<i64>,
    ticket: Option<&Ticket>,
    deadline: Instant,
) -> Result<Written<Replay<DeleteOutcome>>, ShardError> {
    let quoted = table.quoted();
    let text = format!(
        "with found as (select namespace, key, version, expires_at is null or expires_at > now() as alive from {quoted} \
         where namespace = $1 and key = $2 for update), gone as (delete from {quoted} as e using found as f \
         where e.namespace = f.namespace and e.key = f.key and ($3::int8 is null or f.version = $3) returning f.alive) \
         select f.version, f.alive, exists (select from gone) from found as f"
    );
    let (namespace, key) = (id.namespace.as_str(), id.key.as_str());
    let statement = Bound { text: &text, params: vec![&namespace, &key, &at_version] };
    let outcome = |rows: Vec<Vec<Row>>| {
        let Some(row) = rows.first().and_then(|rows| rows.first()) else { return Ok(DeleteOutcome::Missing) };
        let (alive, gone): (bool, bool) = (row.try_get(1)?, row.try_get(2)?);
        Ok(match (alive, gone) {
            (true, true) => DeleteOutcome::Gone,
            (true, false) => DeleteOutcome::OtherVersion(row.try_get(0)?),
            (false, _) => DeleteOutcome::Missing,
        })
    };
    in_transaction(pool, table, &[statement], outcome, ticket, deadline).await
}
