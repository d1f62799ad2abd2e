//! Filters: conditions on metadata, tags, key and times, as a client writes them.

use serde::{Deserialize, Serialize};
use serde_json::Value;

crate::object::only_objects!(Filter, Clause, Range);

/// All of `must`, at least one of `should` (if there are any), none of `must_not`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct Filter {
    /// Every one holds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub must: Vec<Clause>,
    /// At least one holds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub should: Vec<Clause>,
    /// None holds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub must_not: Vec<Clause>,
}

/// A condition, or a filter inside the filter (`{"filter": {…}}`). A condition names a field and exactly one operator.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct Clause {
    /// A filter of its own, in place of field and operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(no_recursion))]
    pub filter: Option<Box<Filter>>,
    /// `metadata.<path>`, `tags`, `key`, `created_at` or `updated_at`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// Equal to a scalar.
    #[serde(default, deserialize_with = "some", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Value>))]
    pub eq: Option<Value>,
    /// Not equal to a scalar, or absent.
    #[serde(default, deserialize_with = "some", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Value>))]
    pub ne: Option<Value>,
    /// Equal to one of the scalars.
    #[serde(default, rename = "in", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Vec<Value>>))]
    pub one_of: Option<Vec<Value>>,
    /// Equal to none of the scalars, or absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Vec<Value>>))]
    pub not_in: Option<Vec<Value>>,
    /// Between bounds: numbers for metadata, RFC 3339 times for times, text for key and for text in metadata.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<Range>,
    /// Present (true) or absent (false).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exists: Option<bool>,
    /// Has at least one of these: of `tags`, or of an array in the metadata.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Vec<Value>>))]
    pub any: Option<Vec<Value>>,
    /// Has all of these: of `tags`, or of an array in the metadata.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Vec<Value>>))]
    pub all: Option<Vec<Value>>,
    /// Text that begins with this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
}

/// Bounds; at least one.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct Range {
    /// Greater than.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Value>))]
    pub gt: Option<Value>,
    /// Greater than or equal to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Value>))]
    pub gte: Option<Value>,
    /// Less than.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Value>))]
    pub lt: Option<Value>,
    /// Less than or equal to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Value>))]
    pub lte: Option<Value>,
}

/// Keeps an explicit null apart from an absent field: `{"eq": null}` means the JSON null.
fn some<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}
