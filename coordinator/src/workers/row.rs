//! Rows of a collection's table, as entries.

use super::{ShardError, ShardTable};
use atoll_proto::entry::{Entry, Include};
use atoll_proto::{StoredMetadata, Vector, VectorType};
use std::time::SystemTime;
use tokio_postgres::Row;
use tokio_postgres::row::RowIndex;
use tokio_postgres::types::{FromSql, Type};

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
        metadata: metadata(worker, row, 6)?,
        tags: row.try_get(7).map_err(failed)?,
        vector,
    })
}

/// Reads metadata as it is stored.
pub(super) fn metadata(
    worker: &str,
    row: &Row,
    column: impl RowIndex + std::fmt::Display,
) -> Result<Option<StoredMetadata>, ShardError> {
    let stored: Option<StoredJson> = row.try_get(column).map_err(|error| ShardError::of(worker, error))?;
    Ok(stored.map(|StoredJson(metadata)| metadata))
}

/// Reads an embedding, at full precision of what is stored.
pub(super) fn embedding(
    worker: &str,
    vector_type: VectorType,
    row: &Row,
    column: usize,
) -> Result<Option<Vector>, ShardError> {
    let stored = row.try_get::<_, Option<Stored<'_>>>(column).map_err(|error| ShardError::of(worker, error))?;
    let Some(stored) = stored else { return Ok(None) };
    let mut numbers = Vec::new();
    stored.read(worker, vector_type, &mut numbers)?;
    Ok(Some(Vector::new(numbers).map_err(|error| malformed(worker, error))?))
}

/// Reads an embedding's numbers in place of what `into` held.
pub(super) fn read_numbers(
    worker: &str,
    vector_type: VectorType,
    row: &Row,
    column: usize,
    into: &mut Vec<f32>,
) -> Result<(), ShardError> {
    let stored: Stored<'_> = row.try_get(column).map_err(|error| ShardError::of(worker, error))?;
    stored.read(worker, vector_type, into)
}

/// A `jsonb` as PostgreSQL sends it: the format's number, 1, then the text.
struct StoredJson(StoredMetadata);

impl<'a> FromSql<'a> for StoredJson {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        let Some((&1, text)) = raw.split_first() else { return Err("jsonb of an unknown format".into()) };
        Ok(Self(StoredMetadata::new(std::str::from_utf8(text)?.to_owned())?))
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::JSONB
    }
}

/// A vector as pgvector sends it: the number of dimensions and a zero, 16 bits each, then the numbers, all big-endian.
struct Stored<'a>(&'a [u8]);

impl<'a> FromSql<'a> for Stored<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(raw))
    }

    fn accepts(ty: &Type) -> bool {
        matches!(ty.name(), "vector" | "halfvec")
    }
}

impl Stored<'_> {
    fn read(&self, worker: &str, vector_type: VectorType, into: &mut Vec<f32>) -> Result<(), ShardError> {
        let broken = || malformed(worker, "a vector is not as long as it says");
        let (head, numbers) = self.0.split_first_chunk::<4>().ok_or_else(broken)?;
        let dimensions = usize::from(u16::from_be_bytes([head[0], head[1]]));
        into.clear();
        match vector_type {
            VectorType::Float32 => into.extend(numbers.as_chunks().0.iter().map(|bytes| f32::from_be_bytes(*bytes))),
            VectorType::Float16 => {
                into.extend(numbers.as_chunks().0.iter().map(|bytes| half::f16::from_be_bytes(*bytes).to_f32()));
            }
        }
        if into.len() == dimensions { Ok(()) } else { Err(broken()) }
    }
}

fn malformed(worker: &str, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ShardError {
    ShardError::Malformed { worker: worker.to_owned(), source: source.into() }
}

fn time(worker: &str, time: SystemTime) -> Result<String, ShardError> {
    match jiff::Timestamp::try_from(time) {
        Ok(time) => Ok(format!("{time:.6}")),
        Err(error) => Err(malformed(worker, error)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use bytes::BytesMut;
    use tokio_postgres::types::ToSql;

    fn sent(vector: &impl ToSql) -> Vec<u8> {
        let mut bytes = BytesMut::new();
        vector.to_sql(&Type::BYTEA, &mut bytes).unwrap();
        bytes.to_vec()
    }

    #[test]
    fn vectors_are_read_as_pgvector_writes_them() {
        let mut numbers = vec![7.0; 9];
        let single = sent(&pgvector::Vector::from(vec![1.5, -2.0, f32::MIN_POSITIVE]));
        Stored(&single).read("w", VectorType::Float32, &mut numbers).unwrap();
        assert_eq!(numbers, [1.5, -2.0, f32::MIN_POSITIVE]);
        let half = sent(&pgvector::HalfVector::from(vec![half::f16::from_f32(0.5), half::f16::from_f32(-65_504.0)]));
        Stored(&half).read("w", VectorType::Float16, &mut numbers).unwrap();
        assert_eq!(numbers, [0.5, -65_504.0]);
    }

    #[test]
    fn what_is_cut_off_is_told() {
        let whole = sent(&pgvector::Vector::from(vec![1.0, 2.0]));
        for length in 0..whole.len() {
            let read = Stored(&whole[..length]).read("w", VectorType::Float32, &mut Vec::new());
            assert!(matches!(read, Err(ShardError::Malformed { .. })), "{length} bytes");
        }
    }
}
