//! Rows of a collection's table, as entries.

use super::{ShardError, ShardTable};
use atoll_proto::entry::{Entry, Include};
use atoll_proto::{Vector, VectorType};
use std::time::SystemTime;
use tokio_postgres::Row;

/// Columns of an entry, in the order [`entry`] reads them; what is not included is null.
pub(super) fn columns(table: &ShardTable, include: &[Include]) -> String {
    let column = |wanted: Include, name: &str, of_type: &str| match include.contains(&wanted) {
        true => name.to_owned(),
        false => format!("null::{of_type} as {name}"),
    };
    let embedding = match table.has_vectors() {
        true => column(Include::Vector, "embedding", table.vector_type()),
        false => "null::text as embedding".to_owned(),
    };
    format!(
        "namespace, key, version, created_at, updated_at, {}, {}, {}, {embedding}",
        column(Include::Value, "value", "text"),
        column(Include::Metadata, "metadata", "jsonb"),
        column(Include::Tags, "tags", "text[]"),
    )
}

/// Reads a row of [`columns`].
pub(super) fn entry(worker: &str, table: &ShardTable, row: &Row) -> Result<Entry, ShardError> {
    let failed = |error| ShardError::of(worker, error);
    let vector = match table.has_vectors() {
        true => embedding(worker, table.settings.vector_type, row, 8)?,
        false => None,
    };
    Ok(Entry {
        namespace: row.try_get(0).map_err(failed)?,
        key: row.try_get(1).map_err(failed)?,
        version: row.try_get(2).map_err(failed)?,
        created_at: time(worker, row.try_get(3).map_err(failed)?)?,
        updated_at: time(worker, row.try_get(4).map_err(failed)?)?,
        value: row.try_get(5).map_err(failed)?,
        metadata: row.try_get(6).map_err(failed)?,
        tags: row.try_get(7).map_err(failed)?,
        vector,
    })
}

/// Reads an embedding, at full precision of what is stored.
pub(super) fn embedding(
    worker: &str,
    vector_type: VectorType,
    row: &Row,
    column: usize,
) -> Result<Option<Vector>, ShardError> {
    let failed = |error| ShardError::of(worker, error);
    let numbers: Option<Vec<f32>> = match vector_type {
        VectorType::Float32 => row.try_get::<_, Option<pgvector::Vector>>(column).map_err(failed)?.map(Vec::from),
        VectorType::Float16 => {
            let halves = row.try_get::<_, Option<pgvector::HalfVector>>(column).map_err(failed)?;
            halves.map(|halves| halves.as_slice().iter().map(|half| half.to_f32()).collect())
        }
    };
    let Some(numbers) = numbers else { return Ok(None) };
    match Vector::new(numbers) {
        Ok(vector) => Ok(Some(vector)),
        Err(error) => Err(ShardError::Malformed { worker: worker.to_owned(), source: Box::new(error) }),
    }
}

fn time(worker: &str, time: SystemTime) -> Result<String, ShardError> {
    match jiff::Timestamp::try_from(time) {
        Ok(time) => Ok(format!("{time:.6}")),
        Err(error) => Err(ShardError::Malformed { worker: worker.to_owned(), source: Box::new(error) }),
    }
}
