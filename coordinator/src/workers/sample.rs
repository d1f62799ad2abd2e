//! Rows of a table drawn at random, without vectors and values: what planning a filtered search goes by.

use super::flight::{self, Bound};
use super::read::ALIVE;
use super::session::ReadSettings;
use super::statement::Statement;
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

/// Draws about 600 rows of a table of so many rows. Whole pages are read, about one and a half times as many rows as are kept.
pub async fn draw(
    pool: &WorkerPool,
    table: &ShardTable,
    table_rows: u64,
    deadline: Instant,
) -> Result<Sample, ShardError> {
    let percent = 150.0 * f64::from(ROWS) / table_rows.max(1) as f64;
    let statement = statement(table, percent.min(100.0) as f32);
    let bound = Bound { text: &statement.text, params: statement.params(), cacheable: true };
    let rows = flight::read(pool, &ReadSettings::until(deadline), bound, deadline).await?;
    let rows: Result<Vec<SampledRow>, _> = rows.iter().map(sampled).collect();
    Ok(Sample::new(rows.map_err(|error| ShardError::of(pool.worker(), error))?))
}

fn statement(table: &ShardTable, percent: f32) -> Statement {
    let mut sql = Statement::new("select namespace, key, metadata, tags, created_at, updated_at from ");
    sql.push(&table.quoted()).push(" tablesample system (").bind(percent).push(") where ").push(ALIVE);
    sql.push(" and pg_column_size(metadata) <= ").bind(BYTES_MAX);
    sql.push(" and pg_column_size(tags) <= ").bind(BYTES_MAX);
    sql.push(" order by random() limit ").bind(i64::from(ROWS));
    sql
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
