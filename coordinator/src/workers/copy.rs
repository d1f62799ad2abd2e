//! Bulk: many rows in by binary COPY, all rows out as a stream.

use super::flight::{self, Written};
use super::read::ALIVE;
use super::statement::Embedding;
use super::write::{self, MayReplace, WriteRow};
use super::{Session, ShardError, ShardTable, WorkerPool, row};
use atoll_proto::entry::{Entry, Include};
use futures::TryStreamExt;
use std::pin::pin;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_postgres::Error;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::{Json, ToSql, Type};

/// Longest that beginning or ending an export may take.
const OPEN_TIME: Duration = Duration::from_secs(10);
/// Longest that an export waits for its receiver to take an entry.
const RECEIVER_PATIENCE: Duration = Duration::from_secs(60);
/// Longest that one shard's export may take.
const EXPORT_TIME: Duration = Duration::from_secs(4 * 3600);

/// Writes rows of one shard, atomically: into a temporary table by binary COPY, then merged. Of rows with the same id the last
/// one stays. Every row of a collection with vectors brings one. Tells how many rows changed what was stored.
pub async fn import(
    pool: &WorkerPool,
    table: &ShardTable,
    rows: &[WriteRow],
    deadline: Instant,
) -> Result<Written<u64>, ShardError> {
    pool.run(deadline, async |client| {
        let transaction = flight::writing(table, deadline);
        client.batch_execute(&format!("{}; {}", transaction.opening(client), create_incoming(table))).await?;
        copy_in(client, table, rows).await?;
        let merge = merge_statement(table);
        let ttl = table.settings.ttl_seconds.map(f64::from);
        let changed = client.execute(&client.prepare_cached(&merge).await?, &[&ttl]).await?;
        Ok(Written { value: changed, position: transaction.commit(client).await? })
    })
    .await
}

fn create_incoming(table: &ShardTable) -> String {
    let embedding = match table.has_vectors() {
        true => format!(", embedding {}", table.vector_type()),
        false => String::new(),
    };
    // Named by what it holds: a cached statement over it fits every table of that name.
    format!(
        "create temp table {} (place int8, namespace text, key text, value text, metadata jsonb, tags text[]{embedding}) \
         on commit drop",
        incoming(table)
    )
}

fn incoming(table: &ShardTable) -> &'static str {
    match (table.has_vectors(), table.vector_type()) {
        (false, _) => "incoming_plain",
        (true, "halfvec") => "incoming_halfvec",
        (true, _) => "incoming_vector",
    }
}

async fn copy_in(client: &Session, table: &ShardTable, rows: &[WriteRow]) -> Result<(), Error> {
    let embedding = match table.has_vectors() {
        true => ", embedding",
        false => "",
    };
    let copy = format!(
        "copy {} (place, namespace, key, value, metadata, tags{embedding}) from stdin (format binary)",
        incoming(table)
    );
    let mut types = vec![Type::INT8, Type::TEXT, Type::TEXT, Type::TEXT, Type::JSONB, Type::TEXT_ARRAY];
    if table.has_vectors() {
        let probe = client.prepare_cached(&format!("select null::{}", table.vector_type())).await?;
        types.push(probe.columns()[0].type_().clone());
    }
    let sink = client.copy_in(&copy).await?;
    let mut writer = pin!(BinaryCopyInWriter::new(sink, &types));
    for (place, row) in rows.iter().enumerate() {
        let place = place as i64;
        let metadata = Json(&row.metadata);
        let vector = row.vector.as_ref();
        let embedding = vector.map(|vector| Embedding::new(vector.as_slice(), table.settings.vector_type));
        let mut values: Vec<&(dyn ToSql + Sync)> =
            vec![&place, &row.namespace, &row.key, &row.value, &metadata, &row.tags];
        if table.has_vectors() {
            values.push(&embedding);
        }
        writer.as_mut().write(&values).await?;
    }
    writer.finish().await.map(|_| ())
}

fn merge_statement(table: &ShardTable) -> String {
    let embedding = if table.has_vectors() { ", embedding" } else { "" };
    let rows = format!(
        "(select distinct on (namespace, key) namespace, key, value, metadata, tags{embedding}, \
         now() + make_interval(secs => $1::float8) as expires_at from {} order by namespace, key, place desc) as last",
        incoming(table)
    );
    // A batch that is sent again, because its answer was lost, changes nothing.
    write::merge(table, &rows, MayReplace::Any)
}

/// How an export of one shard ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exported {
    /// Every entry was taken.
    Whole,
    /// The receiver took nothing for too long, or is gone.
    Abandoned,
}

/// Sends every entry of one shard, or of one of its namespaces, in the order of ids, as of one moment. Waits for
/// the receiver: memory stays bounded. Ends early when the receiver is gone, or takes nothing for a minute: meanwhile an export
/// holds a connection, and a snapshot that keeps the server from cleaning up.
pub async fn export<E>(
    pool: &WorkerPool,
    table: &ShardTable,
    namespace: Option<&str>,
    out: &mpsc::Sender<Result<Entry, E>>,
) -> Result<Exported, ShardError> {
    let include = [Include::Value, Include::Metadata, Include::Tags, Include::Vector];
    let text = format!(
        "select {} from {} where {ALIVE} and ($1::text is null or namespace = $1) order by namespace, key",
        row::columns(table, &include),
        table.quoted()
    );
    let started = Instant::now();
    let (soon, deadline) = (started + OPEN_TIME, started + EXPORT_TIME);
    let silent = |_| ShardError::Deadline { worker: pool.worker().to_owned() };
    let _place = pool.export_place(soon).await?;
    let mut connection = pool.connection(soon).await?;
    let client = connection.start();
    let begin = format!(
        "begin isolation level repeatable read read only; set local statement_timeout = {}",
        EXPORT_TIME.as_millis()
    );
    let opened = timeout_at(soon, async {
        client.batch_execute(&client.opening(&begin)).await?;
        let statement = client.prepare_cached(&text).await?;
        client.query_raw(&statement, [namespace]).await
    });
    let mut rows = pin!(opened.await.map_err(silent)?.map_err(|error| pool.failed(error))?);
    loop {
        let next = timeout_at(deadline, rows.try_next()).await.map_err(silent)?;
        let Some(row) = next.map_err(|error| pool.failed(error))? else { break };
        if !taken(out, row::entry(pool.worker(), table, &row)?).await {
            // The guard cancels the statement.
            return Ok(Exported::Abandoned);
        }
    }
    let ended = timeout_at(Instant::now() + OPEN_TIME, client.batch_execute("commit")).await;
    ended.map_err(silent)?.map_err(|error| pool.failed(error))?;
    connection.finish();
    Ok(Exported::Whole)
}

async fn taken<E>(out: &mpsc::Sender<Result<Entry, E>>, entry: Entry) -> bool {
    matches!(timeout(RECEIVER_PATIENCE, out.send(Ok(entry))).await, Ok(Ok(())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        Entry {
            namespace: "n".to_owned(),
            key: "k".to_owned(),
            value: None,
            metadata: None,
            tags: None,
            vector: None,
            version: 1,
            created_at: String::new(),
            updated_at: String::new(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_receiver_that_takes_nothing_is_given_up() {
        let (out, mut receiver) = mpsc::channel::<Result<Entry, ()>>(1);
        assert!(taken(&out, entry()).await);
        assert!(!taken(&out, entry()).await, "nobody took the first");
        assert!(receiver.recv().await.is_some());
        assert!(taken(&out, entry()).await);
        drop(receiver);
        assert!(!taken(&out, entry()).await);
    }
}
