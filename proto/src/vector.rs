//! Vectors on the wire, and the words metric and vector type.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use std::fmt;
use std::sync::Arc;

/// How far two vectors lie apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Metric {
    /// 1 minus the cosine of the angle, pgvector's `<=>`.
    Cosine,
    /// Euclidean distance, pgvector's `<->`.
    L2,
    /// Negative inner product, pgvector's `<#>`.
    Dot,
}

/// How a vector is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum VectorType {
    /// pgvector's `vector`: 4 bytes a dimension.
    Float32,
    /// pgvector's `halfvec`: 2 bytes a dimension.
    Float16,
}

/// A vector of finite numbers: a JSON array, or `{"b64": "<little-endian f32>"}`. Cheap to clone.
#[derive(Debug, Clone, PartialEq)]
pub struct Vector(Arc<[f32]>);

/// Why numbers are no vector.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VectorError {
    /// NaN, an infinity, or beyond f32.
    #[error("number {index} does not fit a finite 32-bit float")]
    NotFinite {
        /// Position of the first such number.
        index: usize,
    },
    /// The base64 text is broken.
    #[error("b64 is not standard base64 of little-endian 32-bit floats")]
    Base64,
}

impl Vector {
    /// Takes numbers as a vector if all of them are finite.
    pub fn new(numbers: Vec<f32>) -> Result<Self, VectorError> {
        match numbers.iter().position(|x| !x.is_finite()) {
            Some(index) => Err(VectorError::NotFinite { index }),
            None => Ok(Self(numbers.into())),
        }
    }

    /// The numbers.
    pub fn as_slice(&self) -> &[f32] {
        &self.0
    }

    /// How many numbers there are.
    pub fn dimensions(&self) -> usize {
        self.0.len()
    }

    /// The base64 form, a third of the JSON array's size.
    pub fn to_b64(&self) -> String {
        let bytes: Vec<u8> = self.0.iter().flat_map(|x| x.to_le_bytes()).collect();
        STANDARD.encode(bytes)
    }

    /// Reads the base64 form.
    pub fn from_b64(text: &str) -> Result<Self, VectorError> {
        let bytes = STANDARD.decode(text).map_err(|_| VectorError::Base64)?;
        if bytes.len() % 4 != 0 {
            return Err(VectorError::Base64);
        }
        let numbers = bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        Self::new(numbers)
    }
}

impl Serialize for Vector {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Vector {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(VectorVisitor)
    }
}

struct VectorVisitor;

impl<'de> Visitor<'de> for VectorVisitor {
    type Value = Vector;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of numbers or {\"b64\": \"…\"}")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vector, A::Error> {
        let mut numbers = Vec::with_capacity(seq.size_hint().unwrap_or(0).min(4096));
        while let Some(number) = seq.next_element::<f64>()? {
            numbers.push(number as f32);
        }
        Vector::new(numbers).map_err(de::Error::custom)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vector, A::Error> {
        let mut vector = None;
        while let Some(field) = map.next_key::<String>()? {
            if field != "b64" {
                return Err(de::Error::unknown_field(&field, &["b64"]));
            }
            let text: String = map.next_value()?;
            vector = Some(Vector::from_b64(&text).map_err(de::Error::custom)?);
        }
        vector.ok_or_else(|| de::Error::missing_field("b64"))
    }
}

#[cfg(feature = "openapi")]
mod schema {
    use super::Vector;
    use utoipa::openapi::RefOr;
    use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, OneOfBuilder, Schema, Type};

    impl utoipa::PartialSchema for Vector {
        fn schema() -> RefOr<Schema> {
            let numbers = ArrayBuilder::new().items(ObjectBuilder::new().schema_type(Type::Number).build());
            let b64 = ObjectBuilder::new()
                .property("b64", ObjectBuilder::new().schema_type(Type::String).build())
                .required("b64");
            RefOr::T(Schema::OneOf(OneOfBuilder::new().item(numbers).item(b64).build()))
        }
    }

    impl utoipa::ToSchema for Vector {
        fn name() -> std::borrow::Cow<'static, str> {
            "Vector".into()
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn both_forms_give_the_same_numbers() {
        let array: Vector = serde_json::from_str("[1, -0.5, 1e-3]").unwrap();
        let b64: Vector = serde_json::from_value(serde_json::json!({"b64": array.to_b64()})).unwrap();
        assert_eq!(array, b64);
    }

    #[test]
    fn what_is_not_finite_is_refused() {
        assert!(serde_json::from_str::<Vector>("[1e39]").is_err());
        assert!(serde_json::from_str::<Vector>("[\"1\"]").is_err());
        let nan = STANDARD.encode(f32::NAN.to_le_bytes());
        assert!(serde_json::from_value::<Vector>(serde_json::json!({ "b64": nan })).is_err());
        assert!(serde_json::from_str::<Vector>("{\"b64\":\"AAA=\"}").is_err());
        assert!(serde_json::from_str::<Vector>("{\"b64\":\"AAAAAA==\",\"x\":1}").is_err());
        assert!(serde_json::from_str::<Vector>("{}").is_err());
    }

    #[test]
    fn numbers_survive_a_round_trip_exactly() {
        let vector = Vector::new(vec![0.1, f32::MIN_POSITIVE, f32::MAX, -0.0]).unwrap();
        let text = serde_json::to_string(&vector).unwrap();
        assert_eq!(serde_json::from_str::<Vector>(&text).unwrap(), vector);
    }
}
