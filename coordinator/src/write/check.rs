//! Whether an entry may be written: what the wire's types alone can't say.

use crate::vectors;
use atoll_proto::entry::Metadata;
use atoll_proto::problem::FieldError;
use atoll_proto::{CollectionSettings, Vector, limits};
use serde_json::Value;

/// The parts of an entry that are checked.
pub(super) struct Parts<'a> {
    pub(super) value: Option<&'a str>,
    pub(super) metadata: Option<&'a Metadata>,
    pub(super) tags: Option<&'a [String]>,
    pub(super) vector: Option<&'a Vector>,
}

/// Adds to `errors` all that is wrong; `pointer` is where the entry stands in the body.
pub(super) fn entry(parts: &Parts<'_>, settings: &CollectionSettings, pointer: &str, errors: &mut Vec<FieldError>) {
    let mut wrong = |field: &str, detail: String| {
        errors.push(FieldError { pointer: format!("{pointer}/{field}"), detail });
    };
    if let Some(value) = parts.value {
        if value.len() > limits::VALUE_BYTES {
            wrong("value", format!("{} bytes given, {} are allowed", value.len(), limits::VALUE_BYTES));
        }
        if value.contains('\0') {
            wrong("value", "text must not contain NUL".to_owned());
        }
    }
    if let Some(metadata) = parts.metadata {
        let bytes = serde_json::to_string(metadata).map_or(usize::MAX, |text| text.len());
        if bytes > limits::METADATA_BYTES {
            wrong("metadata", format!("{bytes} bytes given, {} are allowed", limits::METADATA_BYTES));
        }
        if metadata.iter().any(|(name, value)| name.contains('\0') || has_nul(value)) {
            wrong("metadata", "text must not contain NUL".to_owned());
        }
    }
    if let Some(tags) = parts.tags {
        if tags.len() > limits::TAGS {
            wrong("tags", format!("{} tags given, {} are allowed", tags.len(), limits::TAGS));
        }
        for tag in tags {
            if tag.is_empty() || tag.len() > limits::TAG_BYTES || tag.contains('\0') {
                wrong("tags", format!("a tag has 1 to {} bytes without NUL", limits::TAG_BYTES));
            }
        }
    }
    match (parts.vector, settings.dimensions) {
        (Some(vector), Some(dimensions)) => {
            if let Err(detail) = vectors::check(vector, dimensions, settings) {
                wrong("vector", detail);
            }
        }
        (Some(_), None) => wrong("vector", "this collection has no vectors".to_owned()),
        (None, _) => {}
    }
}

fn has_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(values) => values.iter().any(has_nul),
        Value::Object(members) => members.iter().any(|(name, value)| name.contains('\0') || has_nul(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn errors(value: &str, metadata: Value, tags: Vec<String>) -> usize {
        let metadata = metadata.as_object().unwrap().clone();
        let mut errors = Vec::new();
        let parts = Parts { value: Some(value), metadata: Some(&metadata), tags: Some(&tags), vector: None };
        entry(&parts, &CollectionSettings::memory_entries(), "", &mut errors);
        errors.len()
    }

    #[test]
    fn limits_hold_at_n_and_n_plus_one() {
        assert_eq!(errors(&"x".repeat(limits::VALUE_BYTES), json!({}), vec![]), 0);
        assert_eq!(errors(&"x".repeat(limits::VALUE_BYTES + 1), json!({}), vec![]), 1);
        let metadata = |bytes: usize| json!({"a": "x".repeat(bytes - 8)});
        assert_eq!(errors("", metadata(limits::METADATA_BYTES), vec![]), 0);
        assert_eq!(errors("", metadata(limits::METADATA_BYTES + 1), vec![]), 1);
        assert_eq!(errors("", json!({}), vec!["t".to_owned(); limits::TAGS]), 0);
        assert_eq!(errors("", json!({}), vec!["t".to_owned(); limits::TAGS + 1]), 1);
        assert_eq!(errors("", json!({}), vec!["t".repeat(limits::TAG_BYTES)]), 0);
        assert_eq!(errors("", json!({}), vec!["t".repeat(limits::TAG_BYTES + 1)]), 1);
    }

    #[test]
    fn nul_is_refused_wherever_it_hides() {
        assert_eq!(errors("a\0", json!({}), vec![]), 1);
        assert_eq!(errors("", json!({"a": [{"b": "\0"}]}), vec![]), 1);
        assert_eq!(errors("", json!({"a\0": 1}), vec![]), 1);
        assert_eq!(errors("", json!({}), vec!["\0".to_owned()]), 1);
    }
}
