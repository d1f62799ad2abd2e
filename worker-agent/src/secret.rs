//! Secrets: read from files, never printed.

use std::fmt;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// A password or token. Its `Debug` shows nothing of it.
#[derive(Clone)]
pub struct Secret(String);

/// Why a secret could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file is missing or unreadable.
    #[error("the secret file {} cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Nothing in it.
    #[error("the secret file {} is empty", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

impl Secret {
    /// Takes `text` as a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// 256 bits of the system's randomness in hexadecimal digits.
    pub fn random() -> Self {
        Self(random_hex::<32>())
    }

    /// Reads a file's text without the white space around it; warns when others than its owner may read it.
    pub fn read(path: &Path) -> Result<Self, SecretError> {
        let source = |source| SecretError::Read { path: path.to_owned(), source };
        let mode = std::fs::metadata(path).map_err(source)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            tracing::warn!(path = %path.display(), mode = format!("{mode:o}"), "secret file is open to others, make it 0600");
        }
        let text = std::fs::read_to_string(path).map_err(source)?;
        let text = text.trim();
        if text.is_empty() {
            return Err(SecretError::Empty { path: path.to_owned() });
        }
        Ok(Self::new(text))
    }

    /// The secret itself, for the one who sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// `N` random bytes in hexadecimal digits.
pub(crate) fn random_hex<const N: usize>() -> String {
    let mut bytes = [0_u8; N];
    rand::fill(&mut bytes);
    hex(&bytes)
}

/// Bytes in hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn debug_shows_nothing() {
        assert!(!format!("{:?}", Secret::new("hunter2")).contains("hunter2"));
    }

    #[test]
    fn files_are_trimmed_and_must_hold_something() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        assert!(matches!(Secret::read(&path), Err(SecretError::Read { .. })));
        std::fs::write(&path, " \n").unwrap();
        assert!(matches!(Secret::read(&path), Err(SecretError::Empty { .. })));
        std::fs::write(&path, "abc\n").unwrap();
        assert_eq!(Secret::read(&path).unwrap().expose(), "abc");
    }

    #[test]
    fn random_secrets_differ() {
        assert_ne!(Secret::random().expose(), Secret::random().expose());
        assert_eq!(Secret::random().expose().len(), 64);
    }
}
