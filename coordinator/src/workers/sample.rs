//! Rows of a table drawn at random, without vectors and values: what planning a filtered search goes by.

use super::draw::random_rows;
use super::flight::{self, Bound};
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
/// Metadata and tags of all of them together, as texts, for samples stay in memory: where they are large, fewer rows have theirs.
/// Which do is a matter of chance and not of size, so that none of them counts for less.
const BYTES_MAX: i64 = 600 * 1_024;

/// Draws about 600 rows of a table of so many rows.
pub async fn draw(
    pool: &WorkerPool,
    table: &ShardTable,
    table_rows: u64,
    deadline: Instant,
) -> Result<Sample, ShardError> {
    let statement = statement(table, table_rows);
    let bound = Bound { text: &statement.text, params: statement.params() };
    let drawn = flight::read(pool, &ReadSettings::until(deadline), bound, deadline).await?;
    let failed = |error| ShardError::of(pool.worker(), error);
    let (mut rows, mut others) = (Vec::new(), Vec::new());
    for row in &drawn {
        match sampled(row).map_err(failed)? {
            Some(whole) => rows.push(whole),
            None => others.push(row.try_get(0).map_err(failed)?),
        }
    }
    Ok(Sample::new(rows, others))
}

fn statement(table: &ShardTable, table_rows: u64) -> Statement {
    let columns = "namespace, key, metadata, tags, created_at, updated_at";
    let drawn = random_rows(columns, table, table_rows, ROWS, |_| {});
    // Of the texts, because what is stored may be compressed.
    let mut sql = Statement::new(
        "select namespace, key, case when fits then metadata end, case when fits then tags end, created_at, updated_at \
         from (select *, sum(octet_length(metadata::text) + octet_length(tags::text)) over (rows unbounded preceding) <= ",
    );
    sql.values = drawn.values;
    sql.bind(BYTES_MAX).push(" as fits from (").push(&drawn.text).push(") as drawn) as summed");
    sql
}

/// None of one whose metadata and tags were left out.
fn sampled(row: &Row) -> Result<Option<SampledRow>, tokio_postgres::Error> {
    let Some(Json(metadata)): Option<Json<Map<String, Value>>> = row.try_get(2)? else { return Ok(None) };
    Ok(Some(SampledRow {
        namespace: row.try_get(0)?,
        key: row.try_get(1)?,
        metadata,
        tags: row.try_get(3)?,
        created_micros: micros(row.try_get(4)?),
        updated_micros: micros(row.try_get(5)?),
    }))
}

fn micros(time: SystemTime) -> i64 {
    let distance = |duration: std::time::Duration| i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => distance(after),
        Err(before) => -distance(before.duration()),
    }
}
