//! Versions of the `vector` extension.

use atoll_proto::agent::PGVECTOR_MIN;
use std::fmt;
use std::str::FromStr;

/// A version of pgvector, ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PgvectorVersion {
    /// First number.
    pub major: u32,
    /// Second number.
    pub minor: u32,
    /// Third number; 0 when it is left out.
    pub patch: u32,
}

/// The text is no version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no version")]
pub struct BadVersion(pub String);

impl PgvectorVersion {
    /// The oldest that a worker may have: older ones corrupt HNSW indexes on vacuum.
    pub const OLDEST_SAFE: Self = Self { major: PGVECTOR_MIN.0, minor: PGVECTOR_MIN.1, patch: PGVECTOR_MIN.2 };
    /// Older than any.
    pub const ANY: Self = Self { major: 0, minor: 0, patch: 0 };

    /// `default_version` of a `vector.control` file.
    pub fn of_control_file(text: &str) -> Result<Self, BadVersion> {
        let line = text.lines().find_map(|line| line.trim_start().strip_prefix("default_version"));
        let value = line.and_then(|rest| rest.trim_start().strip_prefix('='));
        let Some(value) = value else {
            return Err(BadVersion("no default_version".to_owned()));
        };
        value.trim().trim_matches('\'').parse()
    }
}

impl FromStr for PgvectorVersion {
    type Err = BadVersion;

    fn from_str(text: &str) -> Result<Self, BadVersion> {
        let bad = || BadVersion(text.to_owned());
        let mut numbers = Vec::with_capacity(3);
        for part in text.split('.') {
            numbers.push(part.parse::<u32>().map_err(|_| bad())?);
        }
        match numbers[..] {
            [major, minor] => Ok(Self { major, minor, patch: 0 }),
            [major, minor, patch] => Ok(Self { major, minor, patch }),
            _ => Err(bad()),
        }
    }
}

impl fmt::Display for PgvectorVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn versions_order_by_number() {
        let version = |text: &str| text.parse::<PgvectorVersion>().unwrap();
        assert!(version("0.8.10") > version("0.8.4"));
        assert!(version("0.10") > version("0.8.6"));
        assert!(version("0.8.3") < PgvectorVersion::OLDEST_SAFE);
        assert_eq!(version("0.8.4"), PgvectorVersion::OLDEST_SAFE);
        assert_eq!(version("0.9").to_string(), "0.9.0");
    }

    #[test]
    fn other_texts_are_refused() {
        for bad in ["", "0", "0.8.x", "0.8.5.1", "-1.2.3", "0.8-dev"] {
            assert!(bad.parse::<PgvectorVersion>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn control_files_are_read() {
        let text = "comment = 'vector data type'\ndefault_version = '0.8.5'\nrelocatable = true\n";
        assert_eq!(PgvectorVersion::of_control_file(text).unwrap().to_string(), "0.8.5");
        assert!(PgvectorVersion::of_control_file("comment = ''").is_err());
    }
}
