//! The secret that coordinators and agents share. Whoever has it is one of them.

use sha2::{Digest, Sha256};
use std::fmt;

/// The cluster secret. Never shown: not by `Debug`, not in logs.
#[derive(Clone)]
pub struct ClusterSecret(String);

impl ClusterSecret {
    /// Wraps the configured secret.
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    /// Value of the `Authorization` header that presents it.
    pub fn bearer(&self) -> String {
        format!("Bearer {}", self.0)
    }

    /// Whether an `Authorization` header presents it. Takes the same time wherever the two differ: what is compared byte
    /// by byte are digests, which tell a guesser nothing.
    pub fn is_presented_by(&self, authorization: &[u8]) -> bool {
        let Some(presented) = authorization.strip_prefix(b"Bearer ") else { return false };
        let (ours, theirs) = (Sha256::digest(self.0.as_bytes()), Sha256::digest(presented));
        ours.iter().zip(theirs.iter()).fold(0, |difference, (ours, theirs)| difference | (ours ^ theirs)) == 0
    }
}

impl fmt::Debug for ClusterSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterSecret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_secret_itself_is_taken() {
        let secret = ClusterSecret::new("open sesame");
        assert!(secret.is_presented_by(secret.bearer().as_bytes()));
        for wrong in ["", "Bearer ", "Bearer open sesam", "Bearer open sesame ", "bearer open sesame", "open sesame"] {
            assert!(!secret.is_presented_by(wrong.as_bytes()), "{wrong}");
        }
        assert!(!format!("{secret:?}").contains("sesame"));
    }
}
