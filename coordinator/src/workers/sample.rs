//! Rows of a table drawn at random, without vectors and values: what planning a filtered search goes by.

use super::draw::random_rows;
use super::flight::{self, Bound};
use super::session::ReadSettings;
use super::{ShardError, ShardTable, WorkerPool};
use atoll_core::search::sample::{Sample, SampledRow};
use serde_json::{Map, Value};
use std::time::SystemTime;
use tokio::time::Instant;
use tokio_postgres::Row;
use tokio_postgres::types::Json;

/// Rows of a sample.
const ROWS: u32 = 600;
/// Metadata and tags of more bytes are left out, with their rows: samples stay in memory.
const BYTES_MAX: i32 = 1_024;

/// Draws about 600 rows of a table of so many rows.
pub async fn draw(
    pool: &WorkerPool,
    table: &ShardTable,
    table_rows: u64,
    deadline: Instant,
) -> Result<Sample, ShardError> {
    let columns = "namespace, key, metadata, tags, created_at, updated_at";
    let statement = random_rows(columns, table, table_rows, ROWS, |sql| {
        // Of the texts, because what is stored may be compressed.
        sql.push(" and octet_length(metadata::text) <= ").bind(BYTES_MAX);
        sql.push(" and octet_length(tags::text) <= ").bind(BYTES_MAX);
    });
    let bound = Bound { text: &statement.text, params: statement.params() };
    let rows = flight::read(pool, &ReadSettings::until(deadline), bound, deadline).await?;
    let rows: Result<Vec<SampledRow>, _> = rows.iter().map(sampled).collect();
    Ok(Sample::new(rows.map_err(|error| ShardError::of(pool.worker(), error))?))
}

fn sampled(row: &Row) -> Result<SampledRow, tokio_postgres::Error> {
    let Json(metadata): Json<Map<String, Value>> = row.try_get(2)?;
    Ok(SampledRow {
        namespace: row.try_get(0)?,
        key: row.try_get(1)?,
        metadata,
        tags: row.try_get(3)?,
        created_micros: micros(row.try_get(4)?),
        updated_micros: micros(row.try_get(5)?),
    })
}

fn micros(time: SystemTime) -> i64 {
    let distance = |duration: std::time::Duration| i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => distance(after),
        Err(before) => -distance(before.duration()),
    }
}
