//! A statement in the making: text with `$n`, and the values bound to them. Values go nowhere else.

use bytes::BytesMut;
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

/// A vector in the column's own type: cast inside a statement it would be converted once a row.
#[derive(Debug, Clone)]
pub(super) enum Embedding {
    Float32(pgvector::Vector),
    Float16(pgvector::HalfVector),
}

impl Embedding {
    pub(super) fn new(vector: &[f32], vector_type: atoll_proto::VectorType) -> Self {
        match vector_type {
            atoll_proto::VectorType::Float32 => Self::Float32(pgvector::Vector::from(vector.to_vec())),
            atoll_proto::VectorType::Float16 => {
                let halves: Vec<half::f16> = vector.iter().map(|x| half::f16::from_f32(*x)).collect();
                Self::Float16(pgvector::HalfVector::from(halves))
            }
        }
    }
}

impl ToSql for Embedding {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match self {
            Self::Float32(vector) => vector.to_sql(ty, out),
            Self::Float16(vector) => vector.to_sql(ty, out),
        }
    }

    fn accepts(ty: &Type) -> bool {
        matches!(ty.name(), "vector" | "halfvec")
    }

    to_sql_checked!();
}
