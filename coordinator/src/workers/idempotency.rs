//! Writes that may be sent twice. Under an `Idempotency-Key` the outcome is stored in the same transaction as the write, in the
//! same schema, so either both exist or neither: a repeated request finds the outcome and writes nothing.
//!
//! A second row, on the one shard that the key itself is hashed onto, remembers the request's digest: there a key that comes back
//! with another body is caught, whatever shards the two bodies touch. Agents remove rows after 24 hours.

use super::shard_table::idempotency_table;
use super::{ShardError, ShardTable, WorkerPool};
use atoll_core::routing::ShardRoute;
use deadpool_postgres::ClientWrapper;
use futures::future::{join, join_all};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use tokio::time::Instant;
use tokio_postgres::types::{Json, ToSql};
use tokio_postgres::{Error, Row, Statement};

/// Names a request that may come again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket {
    /// The client's key.
    pub key: String,
    /// Digest of method, path and body.
    pub digest: Vec<u8>,
}

/// What a write under a ticket gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Replay<T> {
    /// It was done now.
    Fresh(T),
    /// It was done before, with this outcome.
    Again(T),
    /// The key belongs to another request.
    OtherRequest,
}

/// Remembers the request on the key's own shard. False if the key belongs to another request.
pub async fn claim(
    pool: &WorkerPool,
    route: &ShardRoute,
    ticket: &Ticket,
    deadline: Instant,
) -> Result<bool, ShardError> {
    let table = idempotency_table(route);
    let text = format!(
        "insert into {table} as i (key, request_hash) values ($1, $2) \
         on conflict (key) do update set key = i.key returning request_hash"
    );
    let key = format!("claim:{}", ticket.key);
    let stored: Vec<u8> = pool
        .run(deadline, async |client| {
            let prepared = client.prepare_cached(&text).await?;
            client.query_one(&prepared, &[&key, &ticket.digest]).await?.try_get(0)
        })
        .await?;
    Ok(stored == ticket.digest)
}

/// Runs a write in a transaction: in one flight without a ticket, and with one such that it happens once. `outcome` reads the
/// statements' rows.
pub(super) async fn in_transaction<T: Serialize + DeserializeOwned + Debug + Send + Sync>(
    pool: &WorkerPool,
    table: &ShardTable,
    statements: &[Bound<'_>],
    outcome: impl FnOnce(Vec<Vec<Row>>) -> Result<T, Error> + Send,
    ticket: Option<&Ticket>,
    deadline: Instant,
) -> Result<Replay<T>, ShardError> {
    let begin = begin(table, deadline);
    let Some(ticket) = ticket else {
        let done = pool.run(deadline, async |client| {
            let prepared = prepare(client, statements).await?;
            let begin = client.batch_execute(&begin);
            let writes = prepared.iter().zip(statements).map(|(prepared, bound)| client.query(prepared, &bound.params));
            let commit = client.batch_execute("commit");
            // Polled in this order for the first time, so sent in this order, in one flight. What fails makes the server take
            // the commit as a rollback.
            let (begun, (rows, committed)) = join(begin, join(try_join_all_in_order(writes), commit)).await;
            begun?;
            let rows = rows?;
            committed?;
            outcome(rows)
        });
        return done.await.map(Replay::Fresh);
    };

    let outcomes = table.idempotency();
    let claim = format!("insert into {outcomes} (key, request_hash) values ($1, $2) on conflict (key) do nothing");
    let known = format!("select request_hash, outcome from {outcomes} where key = $1");
    let store = format!("update {outcomes} set outcome = $2 where key = $1");
    let key = format!("done:{}:{}", table.quoted(), ticket.key);
    pool.run(deadline, async |client| {
        client.batch_execute(&begin).await?;
        let claim = client.prepare_cached(&claim).await?;
        if client.execute(&claim, &[&key, &ticket.digest]).await? == 0 {
            let row = client.query_one(&client.prepare_cached(&known).await?, &[&key]).await?;
            client.batch_execute("rollback").await?;
            let digest: Vec<u8> = row.try_get(0)?;
            if digest != ticket.digest {
                return Ok(Replay::OtherRequest);
            }
            let Json(outcome) = row.try_get::<_, Json<T>>(1)?;
            return Ok(Replay::Again(outcome));
        }
        let prepared = prepare(client, statements).await?;
        let mut rows = Vec::with_capacity(statements.len());
        for (prepared, bound) in prepared.iter().zip(statements) {
            rows.push(client.query(prepared, &bound.params).await?);
        }
        let value = outcome(rows)?;
        client.execute(&client.prepare_cached(&store).await?, &[&key, &Json(&value)]).await?;
        client.batch_execute("commit").await?;
        Ok(Replay::Fresh(value))
    })
    .await
}

/// A statement and its values.
pub(super) struct Bound<'a> {
    pub(super) text: &'a str,
    pub(super) params: Vec<&'a (dyn ToSql + Sync)>,
    /// Whether the text is one of few: the cache of prepared statements has no eviction.
    pub(super) cacheable: bool,
}

async fn prepare(client: &ClientWrapper, statements: &[Bound<'_>]) -> Result<Vec<Statement>, Error> {
    let mut prepared = Vec::with_capacity(statements.len());
    for Bound { text, cacheable, .. } in statements {
        prepared.push(match cacheable {
            true => client.prepare_cached(text).await?,
            false => client.prepare(text).await?,
        });
    }
    Ok(prepared)
}

/// Waits for all, also after a failure: the connection is fit for use only when every statement was answered.
async fn try_join_all_in_order<F: Future<Output = Result<Vec<Row>, Error>>>(
    writes: impl Iterator<Item = F>,
) -> Result<Vec<Vec<Row>>, Error> {
    // A few at most, which join_all polls in order.
    join_all(writes).await.into_iter().collect()
}

/// Opens a transaction with the collection's durability and the request's deadline.
pub(super) fn begin(table: &ShardTable, deadline: Instant) -> String {
    let left_ms = deadline.saturating_duration_since(Instant::now()).as_millis().max(1);
    let durability = match table.settings.durability {
        atoll_proto::Durability::Quorum => "on",
        atoll_proto::Durability::Local => "local",
        atoll_proto::Durability::Ephemeral => "off",
    };
    format!("begin; set local statement_timeout = {left_ms}; set local synchronous_commit = {durability}")
}
