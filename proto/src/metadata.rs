//! Metadata as it is stored.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Metadata as it is stored: JSON that nobody on its way takes apart, so reading an entry costs no more for it than its bytes.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StoredMetadata(Box<RawValue>);

impl StoredMetadata {
    /// Takes a text; an error if it is no JSON.
    pub fn new(json: String) -> Result<Self, serde_json::Error> {
        RawValue::from_string(json).map(Self)
    }

    /// The JSON.
    pub fn as_str(&self) -> &str {
        self.0.get()
    }

    /// Whether it is an object with a member of this name.
    pub fn has_member(&self, name: &str) -> bool {
        let members = serde_json::from_str::<super::entry::Metadata>(self.as_str());
        members.is_ok_and(|members| members.contains_key(name))
    }
}

/// By the text.
impl PartialEq for StoredMetadata {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn it_goes_through_as_it_came() {
        let text = r#"{"b": [1.50, 1e400, 123456789012345678901234567890], "a": "\u00e9"}"#;
        let stored: StoredMetadata = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&stored).unwrap(), text);
        assert_eq!(StoredMetadata::new(text.to_owned()).unwrap(), stored);
        assert!(serde_json::from_str::<Option<StoredMetadata>>("null").unwrap().is_none());
        assert!(StoredMetadata::new("{".to_owned()).is_err());
    }

    #[test]
    fn members_are_found_at_the_top_only() {
        let stored = StoredMetadata::new(r#"{"a": {"b": 1}}"#.to_owned()).unwrap();
        assert!(stored.has_member("a") && !stored.has_member("b"));
        assert!(!StoredMetadata::new("7".to_owned()).unwrap().has_member("a"));
    }
}
