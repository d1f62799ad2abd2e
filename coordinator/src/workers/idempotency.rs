//! Writes that may be sent twice. Under an `Idempotency-Key` the outcome is stored in the same transaction as the write, in the
//! same schema, so either both exist or neither: a repeated request finds the outcome and writes nothing.
//!
//! A second row, on the one shard that the key itself is hashed onto, remembers the request's digest: there a key that comes back
//! with another body is caught, whatever shards the two bodies touch. Agents remove rows after 24 hours.

use super::flight::{self, Bound, Transaction, Written};
use super::shard_table::idempotency_table;
use super::{Session, ShardError, ShardTable, WorkerPool};
use atoll_core::routing::ShardRoute;
use atoll_proto::Durability;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use tokio::time::Instant;
use tokio_postgres::types::Json;
use tokio_postgres::{Error, Row};

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

/// Remembers the request on the key's own shard, as durably as what it writes. False if the key belongs to another request.
pub async fn claim(
    pool: &WorkerPool,
    route: &ShardRoute,
    durability: Durability,
    ticket: &Ticket,
    deadline: Instant,
) -> Result<bool, ShardError> {
    let table = idempotency_table(route);
    let text = format!(
        "insert into {table} as i (key, request_hash) values ($1, $2) \
         on conflict (key) do update set key = i.key returning request_hash"
    );
    let key = format!("claim:{}", ticket.key);
    let statement = Bound { text: &text, params: vec![&key, &ticket.digest] };
    // How long is left is known when there is a connection.
    let done = pool.run(deadline, async |client| {
        flight::fly(client, &flight::remembering(durability, deadline), &[statement]).await
    });
    let stored: Option<Vec<u8>> = match done.await?.value.first().and_then(|rows| rows.first()) {
        Some(row) => row.try_get(0).map_err(|error| ShardError::of(pool.worker(), error))?,
        None => None,
    };
    Ok(stored.as_ref() == Some(&ticket.digest))
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
) -> Result<Written<Replay<T>>, ShardError> {
    let Some(ticket) = ticket else {
        let done = pool.run(deadline, async |client| {
            let transaction = flight::writing(table, deadline);
            let Written { value: rows, position } = flight::fly(client, &transaction, statements).await?;
            Ok(Written { value: Replay::Fresh(outcome(rows)?), position })
        });
        return done.await;
    };
    pool.run(deadline, async |client| {
        let transaction = flight::writing(table, deadline);
        if let Some(replay) = open(client, &transaction, table, Some(ticket)).await? {
            return Ok(replay);
        }
        let value = outcome(flight::each(client, statements).await?)?;
        close(client, &transaction, table, Some(ticket), value).await
    })
    .await
}

/// Opens a transaction. Under a ticket that was carried out before, gives its outcome, and the transaction has ended.
pub(super) async fn open<T: DeserializeOwned + Debug + Send + Sync>(
    client: &Session,
    transaction: &Transaction,
    table: &ShardTable,
    ticket: Option<&Ticket>,
) -> Result<Option<Written<Replay<T>>>, Error> {
    client.batch_execute(&transaction.opening(client)).await?;
    let Some(ticket) = ticket else { return Ok(None) };
    let outcomes = table.idempotency();
    let claim = format!("insert into {outcomes} (key, request_hash) values ($1, $2) on conflict (key) do nothing");
    let known = format!("select request_hash, outcome from {outcomes} where key = $1");
    let key = done_key(table, ticket);
    if client.execute(&client.prepare_cached(&claim).await?, &[&key, &ticket.digest]).await? > 0 {
        return Ok(None);
    }
    let row = client.query_one(&client.prepare_cached(&known).await?, &[&key]).await?;
    // Its outcome is told again only when it is as durable as it was to be: who asks again may have been in doubt of it.
    let position = transaction.commit(client).await?;
    let digest: Vec<u8> = row.try_get(0)?;
    if digest != ticket.digest {
        return Ok(Some(Written::nothing(Replay::OtherRequest)));
    }
    let Json(outcome) = row.try_get::<_, Json<T>>(1)?;
    Ok(Some(Written { value: Replay::Again(outcome), position }))
}

/// Stores the outcome under the ticket, if there is one, and commits.
pub(super) async fn close<T: Serialize + Debug + Sync>(
    client: &Session,
    transaction: &Transaction,
    table: &ShardTable,
    ticket: Option<&Ticket>,
    outcome: T,
) -> Result<Written<Replay<T>>, Error> {
    if let Some(ticket) = ticket {
        let store = format!("update {} set outcome = $2 where key = $1", table.idempotency());
        let key = done_key(table, ticket);
        client.execute(&client.prepare_cached(&store).await?, &[&key, &Json(&outcome)]).await?;
    }
    let position = transaction.commit(client).await?;
    Ok(Written { value: Replay::Fresh(outcome), position })
}

/// Without the schema: its name changes when the shard moves, and the record moves with it.
fn done_key(table: &ShardTable, ticket: &Ticket) -> String {
    format!("done:{}:{}", table.collection(), ticket.key)
}
