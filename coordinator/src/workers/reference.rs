//! Copies of a reference collection: every group has one.
//!
//! One copy is read and written first. Its writers take turns under an advisory lock of that server, so that the other copies
//! see changes in one order; after a write each other copy takes over the rows of the ids that were touched, as they are then, and
//! drops what is not there any more. That is repeatable: a write that stopped half-way is put right by sending it again.

use super::flight::{self, Bound};
use super::session::ReadSettings;
use super::statement::{Embedding, Statement};
use super::{Connection, ShardError, ShardTable, WorkerPool, row};
use atoll_proto::entry::EntryId;
use serde_json::Value;
use std::time::{Duration, SystemTime};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_postgres::types::Json;

/// First half of the advisory lock's number; the second is the collection's.
const LOCK_CLASS: i32 = 0x6174_6f6c;

/// Longest that giving a turn back may take.
const UNLOCK_TIME: Duration = Duration::from_secs(2);

/// The turn of one writer; given back by [`Turn::end`], or with its connection.
pub struct Turn(Connection);

impl Turn {
    /// Waits for the turn to write to a collection's copies.
    pub async fn wait(pool: &WorkerPool, collection: u64, deadline: Instant) -> Result<Self, ShardError> {
        let mut connection = pool.connection(deadline).await?;
        let number = collection as i32;
        let locked = timeout_at(deadline, async {
            // The session's lock, not the transaction's: it stays when the transaction that took it has ended.
            let text = "select pg_advisory_lock($1, $2)";
            let lock = Bound { text, params: vec![&LOCK_CLASS, &number] };
            flight::fly(connection.start(), &flight::passing(deadline), &[lock]).await
        });
        match locked.await {
            Ok(Ok(_)) => Ok(Self(connection)),
            Ok(Err(error)) => {
                connection.discard();
                Err(pool.failed(error))
            }
            Err(_) => Err(ShardError::Deadline { worker: pool.worker().to_owned() }),
        }
    }

    /// Lets the next writer in.
    pub async fn end(self) {
        let Self(mut connection) = self;
        let unlocked = connection.start().batch_execute("select pg_advisory_unlock_all()");
        match timeout(UNLOCK_TIME, unlocked).await {
            Ok(Ok(())) => connection.finish(),
            // Thrown away, the connection takes the lock with it.
            Ok(Err(_)) | Err(_) => connection.discard(),
        }
    }
}

/// A row as it is stored, to be stored elsewhere.
#[derive(Debug)]
pub struct StoredRow {
    namespace: String,
    key: String,
    value: Option<String>,
    metadata: Value,
    tags: Vec<String>,
    embedding: Option<Embedding>,
    version: i64,
    created_at: SystemTime,
    updated_at: SystemTime,
    expires_at: Option<SystemTime>,
}

/// The rows of these ids, as they are stored.
pub async fn stored(
    pool: &WorkerPool,
    table: &ShardTable,
    ids: &[EntryId],
    deadline: Instant,
) -> Result<Vec<StoredRow>, ShardError> {
    let embedding = if table.has_vectors() { ", embedding" } else { "" };
    let mut sql = Statement::new(format!(
        "select namespace, key, value, metadata, tags, version, created_at, updated_at, expires_at{embedding} from {} \
         where (namespace, key) in (select * from unnest(",
        table.quoted()
    ));
    let (namespaces, keys) = columns(ids);
    sql.bind(namespaces).push("::text[], ").bind(keys).push("::text[]))");
    let statement = Bound { text: &sql.text, params: sql.params() };
    let rows = flight::read(pool, &ReadSettings::until(deadline), statement, deadline).await?;
    let mut stored = Vec::with_capacity(rows.len());
    for row in rows {
        let failed = |error| ShardError::of(pool.worker(), error);
        let vector_type = table.settings.vector_type;
        let vector = match table.has_vectors() {
            true => row::embedding(pool.worker(), vector_type, &row, 9)?,
            false => None,
        };
        stored.push(StoredRow {
            namespace: row.try_get(0).map_err(failed)?,
            key: row.try_get(1).map_err(failed)?,
            value: row.try_get(2).map_err(failed)?,
            metadata: row.try_get(3).map_err(failed)?,
            tags: row.try_get(4).map_err(failed)?,
            version: row.try_get(5).map_err(failed)?,
            created_at: row.try_get(6).map_err(failed)?,
            updated_at: row.try_get(7).map_err(failed)?,
            expires_at: row.try_get(8).map_err(failed)?,
            embedding: vector.map(|vector| Embedding::new(vector.as_slice(), vector_type)),
        });
    }
    Ok(stored)
}

/// Makes another copy's rows of these ids what `rows` says; ids without a row are dropped.
pub async fn take_over(
    pool: &WorkerPool,
    table: &ShardTable,
    ids: &[EntryId],
    rows: &[StoredRow],
    deadline: Instant,
) -> Result<(), ShardError> {
    let text = take_over_statement(table);
    let (ids_namespaces, ids_keys) = columns(ids);
    macro_rules! column {
        ($field:ident) => {
            rows.iter().map(|row| row.$field.clone()).collect::<Vec<_>>()
        };
    }
    let (namespaces, keys, values) = (column!(namespace), column!(key), column!(value));
    let metadata: Vec<Json<&Value>> = rows.iter().map(|row| Json(&row.metadata)).collect();
    let tags: Vec<Json<&Vec<String>>> = rows.iter().map(|row| Json(&row.tags)).collect();
    let (versions, created, updated, expires) =
        (column!(version), column!(created_at), column!(updated_at), column!(expires_at));
    let embeddings = column!(embedding);
    let mut params: Vec<&(dyn tokio_postgres::types::ToSql + Sync)> = vec![
        &ids_namespaces,
        &ids_keys,
        &namespaces,
        &keys,
        &values,
        &metadata,
        &tags,
        &versions,
        &created,
        &updated,
        &expires,
    ];
    if table.has_vectors() {
        params.push(&embeddings);
    }
    let statement = Bound { text: &text, params };
    let done = pool.run(deadline, async |client| {
        // How long is left is known when there is a connection.
        flight::fly(client, &flight::writing(table, deadline), &[statement]).await
    });
    done.await.map(|_| ())
}

fn take_over_statement(table: &ShardTable) -> String {
    let quoted = table.quoted();
    let (array, name, change) = match table.has_vectors() {
        true => (format!(", $12::{}[]", table.vector_type()), ", embedding", ", embedding = excluded.embedding"),
        false => (String::new(), "", ""),
    };
    format!(
        "with ids as (select * from unnest($1::text[], $2::text[]) as t(namespace, key)), \
         input as (select * from unnest($3::text[], $4::text[], $5::text[], $6::jsonb[], $7::jsonb[], $8::int8[], \
         $9::timestamptz[], $10::timestamptz[], $11::timestamptz[]{array}) \
         as t(namespace, key, value, metadata, tags, version, created_at, updated_at, expires_at{name})), \
         gone as (delete from {quoted} as e using ids as d where e.namespace = d.namespace and e.key = d.key and not exists \
         (select from input as i where i.namespace = d.namespace and i.key = d.key)) \
         insert into {quoted} as e (namespace, key, value, metadata, tags, version, created_at, updated_at, expires_at{name}) \
         select namespace, key, value, metadata, array(select jsonb_array_elements_text(tags)), version, created_at, \
         updated_at, expires_at{name} from input order by namespace, key \
         on conflict (namespace, key) do update set value = excluded.value, metadata = excluded.metadata, \
         tags = excluded.tags, version = excluded.version, created_at = excluded.created_at, \
         updated_at = excluded.updated_at, expires_at = excluded.expires_at{change}"
    )
}

fn columns(ids: &[EntryId]) -> (Vec<String>, Vec<String>) {
    ids.iter().map(|id| (id.namespace.to_string(), id.key.to_string())).unzip()
}
