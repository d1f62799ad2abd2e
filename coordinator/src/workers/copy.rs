//! Bulk: many rows in by binary COPY, all rows out as a stream.

use super::idempotency::begin;
use super::statement::Embedding;
use super::write::WriteRow;
use super::{ShardError, ShardTable, WorkerPool, row};
use atoll_proto::entry::{Entry, Include};
use deadpool_postgres::ClientWrapper;
use futures::TryStreamExt;
use std::pin::pin;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use tokio_postgres::Error;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::{Json, ToSql, Type};

/// Longest that one shard's export may take.
const EXPORT_TIME: Duration = Duration::from_secs(4 * 3600);

/// Writes rows of one shard, atomically: into a temporary table by binary COPY, then merged. Of rows with the same id the last
/// one stays. Every row of a collection with vectors brings one.
pub async fn import(
    pool: &WorkerPool,
    table: &ShardTable,
    rows: &[WriteRow],
    deadline: Instant,
) -> Result<(), ShardError> {
    let begin = begin(table, deadline);
    pool.run(deadline, async |client| {
        client.batch_execute(&format!("{begin}; {}", create_incoming(table))).await?;
        copy_in(client, table, rows).await?;
        let merge = merge_statement(table);
        let ttl = table.settings.ttl_seconds.map(f64::from);
        client.execute(&client.prepare_cached(&merge).await?, &[&ttl]).await?;
        client.batch_execute("commit").await
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

async fn copy_in(client: &ClientWrapper, table: &ShardTable, rows: &[WriteRow]) -> Result<(), Error> {
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
    let (name, change, own, excluded) = match table.has_vectors() {
        true => (", embedding", ", embedding = excluded.embedding", ", e.embedding", ", excluded.embedding"),
        false => ("", "", "", ""),
    };
    // What is there as given stays as it is: a batch that is sent again, because its answer was lost, changes nothing.
    format!(
        "insert into {} as e (namespace, key, value, metadata, tags{name}, version, created_at, updated_at, expires_at) \
         select distinct on (namespace, key) namespace, key, value, metadata, tags{name}, 1, now(), now(), \
         now() + make_interval(secs => $1::float8) from {} order by namespace, key, place desc \
         on conflict (namespace, key) do update set value = excluded.value, metadata = excluded.metadata, \
         tags = excluded.tags{change}, version = e.version + 1, updated_at = excluded.updated_at, \
         expires_at = excluded.expires_at \
         where (e.value, e.metadata, e.tags, e.expires_at{own}) is distinct from \
         (excluded.value, excluded.metadata, excluded.tags, excluded.expires_at{excluded})",
        table.quoted(),
        incoming(table)
    )
}

/// Sends every entry of one shard, or of one of its namespaces, in the order of ids, as of one moment. Waits for
/// the receiver: memory stays bounded. Ends early when the receiver is gone.
pub async fn export<E>(
    pool: &WorkerPool,
    table: &ShardTable,
    namespace: Option<&str>,
    out: &mpsc::Sender<Result<Entry, E>>,
) -> Result<(), ShardError> {
    let include = [Include::Value, Include::Metadata, Include::Tags, Include::Vector];
    let text = format!(
        "select {} from {} where (expires_at is null or expires_at > now()) and ($1::text is null or namespace = $1) \
         order by namespace, key",
        row::columns(table, &include),
        table.quoted()
    );
    let deadline = Instant::now() + EXPORT_TIME;
    let mut connection = pool.connection(Instant::now() + Duration::from_secs(10)).await?;
    let client = connection.start();
    let failed = |error| ShardError::of(pool.worker(), error);
    let begin = format!(
        "begin isolation level repeatable read read only; set local statement_timeout = {}",
        EXPORT_TIME.as_millis()
    );
    client.batch_execute(&begin).await.map_err(failed)?;
    let statement = client.prepare_cached(&text).await.map_err(failed)?;
    let rows = client.query_raw(&statement, [namespace]).await.map_err(failed)?;
    let mut rows = pin!(rows);
    loop {
        let next = timeout_at(deadline, rows.try_next()).await;
        let Ok(next) = next else { return Err(ShardError::Deadline { worker: pool.worker().to_owned() }) };
        let Some(row) = next.map_err(failed)? else { break };
        if out.send(Ok(row::entry(pool.worker(), table, &row)?)).await.is_err() {
            // The guard cancels the statement.
            return Ok(());
        }
    }
    client.batch_execute("commit").await.map_err(failed)?;
    connection.finish();
    Ok(())
}
