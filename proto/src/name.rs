//! Names that users choose. Parsing is the only way to make one.

use crate::limits;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing between the quotes.
    #[error("{what} must not be empty")]
    Empty {
        /// Which kind of name.
        what: &'static str,
    },
    /// Too many bytes.
    #[error("{what} has {bytes} bytes, {max} are allowed")]
    TooLong {
        /// Which kind of name.
        what: &'static str,
        /// Bytes given.
        bytes: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// A character outside the pattern.
    #[error("{what} must match {pattern}")]
    Pattern {
        /// Which kind of name.
        what: &'static str,
        /// What it must match.
        pattern: &'static str,
    },
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $max:expr, $pattern:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks `text` and takes it as a name.
            pub fn parse(text: &str) -> Result<Self, NameError> {
                if text.is_empty() {
                    return Err(NameError::Empty { what: $what });
                }
                if text.len() > $max {
                    return Err(NameError::TooLong { what: $what, bytes: text.len(), max: $max });
                }
                let valid: fn(&str) -> bool = $valid;
                if !valid(text) {
                    return Err(NameError::Pattern { what: $what, pattern: $pattern });
                }
                Ok(Self(Arc::from(text)))
            }

            /// The name's text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                Self::parse(&text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0.as_ref().to_owned()
            }
        }

        impl std::str::FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::parse(text)
            }
        }

        #[cfg(feature = "openapi")]
        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
                utoipa::openapi::schema::ObjectBuilder::new()
                    .schema_type(utoipa::openapi::schema::Type::String)
                    .min_length(Some(1))
                    .max_length(Some($max))
                    .pattern(Some($pattern))
                    .into()
            }
        }

        #[cfg(feature = "openapi")]
        impl utoipa::ToSchema for $name {
            fn name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    /// The tenant key: the unit of routing and isolation.
    Namespace,
    "namespace",
    limits::NAMESPACE_BYTES,
    "^[A-Za-z0-9_.:-]{1,128}$",
    |text| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.:-".contains(&b))
);
name!(
    /// What names an entry inside its namespace: any UTF-8 without NUL.
    EntryKey,
    "key",
    limits::KEY_BYTES,
    "^[^\\x00]+$",
    |text| !text.contains('\0')
);
name!(
    /// A collection's name, and the name of its table in every shard's schema.
    CollectionName,
    "collection",
    limits::COLLECTION_NAME_BYTES,
    "^[a-z][a-z0-9_]{0,47}$",
    |text| {
        text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
            && text.as_bytes()[0].is_ascii_lowercase()
    }
);
name!(
    /// A group's name, chosen by the operator.
    GroupName,
    "group",
    limits::MEMBER_NAME_BYTES,
    "^[a-z0-9][a-z0-9_-]{0,62}$",
    member_name
);
name!(
    /// A worker's name, chosen by the operator.
    WorkerName,
    "worker",
    limits::MEMBER_NAME_BYTES,
    "^[a-z0-9][a-z0-9_-]{0,62}$",
    member_name
);

fn member_name(text: &str) -> bool {
    let first = text.as_bytes()[0];
    (first.is_ascii_lowercase() || first.is_ascii_digit())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn limits_hold_at_n_and_n_plus_one() {
        assert!(Namespace::parse(&"a".repeat(128)).is_ok());
        assert!(matches!(Namespace::parse(&"a".repeat(129)), Err(NameError::TooLong { bytes: 129, .. })));
        assert!(EntryKey::parse(&"é".repeat(256)).is_ok());
        assert!(EntryKey::parse(&format!("{}a", "é".repeat(256))).is_err());
        assert!(CollectionName::parse(&"c".repeat(48)).is_ok());
        assert!(CollectionName::parse(&"c".repeat(49)).is_err());
    }

    #[test]
    fn hostile_names_are_refused_or_kept_whole() {
        for bad in ["", "a b", "a'b", "a\"b", "a\0b", "../etc", "a/b", "a\u{202e}b", "ä"] {
            assert!(Namespace::parse(bad).is_err(), "{bad:?}");
            assert!(CollectionName::parse(bad).is_err(), "{bad:?}");
        }
        for good in ["a'b", "\"; drop table x; --", "../../etc/passwd", "a\u{202e}b", "日本語", " "] {
            assert_eq!(EntryKey::parse(good).unwrap().as_str(), good);
        }
        assert!(EntryKey::parse("a\0b").is_err());
        assert!(CollectionName::parse("_x").is_err());
        assert!(CollectionName::parse("Memory").is_err());
    }

    #[test]
    fn parsing_json_checks_too() {
        assert!(serde_json::from_str::<Namespace>("\"team-a:x.y_z\"").is_ok());
        assert!(serde_json::from_str::<Namespace>("\"team a\"").is_err());
    }
}
