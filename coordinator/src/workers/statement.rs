//! A statement in the making: text with `$n`, and the values bound to them. Values go nowhere else.

use atoll_proto::VectorType;
use bytes::BytesMut;
use half::f16;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};

/// A bound value.
pub(super) type Value = Box<dyn ToSql + Send + Sync>;

/// Text and values of one statement.
#[derive(Debug, Default)]
pub(super) struct Statement {
    pub(super) text: String,
    pub(super) values: Vec<Value>,
}

impl Statement {
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), values: Vec::new() }
    }

    /// Adds fixed text.
    pub(super) fn push(&mut self, text: &str) -> &mut Self {
        self.text.push_str(text);
        self
    }

    /// Adds a placeholder and binds a value to it.
    pub(super) fn bind(&mut self, value: impl ToSql + Send + Sync + 'static) -> &mut Self {
        self.values.push(Box::new(value));
        self.text.push_str(&format!("${}", self.values.len()));
        self
    }

    /// The values, as the driver takes them.
    pub(super) fn params(&self) -> Vec<&(dyn ToSql + Sync)> {
        self.values.iter().map(|value| value.as_ref() as &(dyn ToSql + Sync)).collect()
    }
}

/// A vector in the column's own type: cast inside a statement it would be converted once a row. As pgvector takes it: the number of
/// dimensions and a zero, 16 bits each, then the numbers, all big-endian. Written once and all at once: number by number into the
/// message takes ten times as long.
#[derive(Debug, Clone)]
pub(super) struct Embedding(Box<[u8]>);

impl Embedding {
    /// At most as many numbers as 16 bits count, which limits and settings see to.
    pub(super) fn new(vector: &[f32], vector_type: VectorType) -> Self {
        let dimensions = u16::try_from(vector.len()).expect("limits keep dimensions below 4,000");
        let head = [dimensions.to_be_bytes(), [0, 0]].concat();
        let numbers: Vec<u8> = match vector_type {
            VectorType::Float32 => vector.iter().flat_map(|x| x.to_be_bytes()).collect(),
            VectorType::Float16 => vector.iter().flat_map(|x| f16::from_f32(*x).to_be_bytes()).collect(),
        };
        Self([head, numbers].concat().into())
    }
}

impl ToSql for Embedding {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        out.extend_from_slice(&self.0);
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        matches!(ty.name(), "vector" | "halfvec")
    }

    to_sql_checked!();
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn sent(value: &impl ToSql) -> BytesMut {
        let mut bytes = BytesMut::new();
        value.to_sql(&Type::BYTEA, &mut bytes).unwrap();
        bytes
    }

    #[test]
    fn vectors_are_written_as_pgvector_writes_them() {
        let numbers = [1.5, -2.0, f32::MIN_POSITIVE, 65_504.0];
        let halves: Vec<f16> = numbers.iter().map(|x| f16::from_f32(*x)).collect();
        let single = Embedding::new(&numbers, VectorType::Float32);
        assert_eq!(sent(&single), sent(&pgvector::Vector::from(numbers.to_vec())));
        let half = Embedding::new(&numbers, VectorType::Float16);
        assert_eq!(sent(&half), sent(&pgvector::HalfVector::from(halves)));
    }
}
