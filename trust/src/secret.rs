//! The secret that coordinators and agents share. Whoever has it is one of them.

use sha2::{Digest, Sha256};
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

/// The cluster secret. Never shown: not by `Debug`, not in logs. A clone is the same: what replaces it replaces all.
///
/// Its text may have several lines: the first is what is presented, each of them is taken. So a cluster changes its secret without a
/// moment in which some refuse others: the new one is added below, then moved to the top, then the old one goes.
#[derive(Clone)]
pub struct ClusterSecret(Arc<RwLock<Vec<String>>>);

impl ClusterSecret {
    /// Wraps the configured secret.
    pub fn new(text: impl AsRef<str>) -> Self {
        Self(Arc::new(RwLock::new(lines(text.as_ref()))))
    }

    /// Takes another text from now on.
    pub fn replace(&self, text: &str) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = lines(text);
    }

    /// The one that is presented, for whoever derives a key from it.
    pub fn presented(&self) -> String {
        self.0.read().unwrap_or_else(PoisonError::into_inner).first().cloned().unwrap_or_default()
    }

    /// Value of the `Authorization` header that presents it.
    pub fn bearer(&self) -> String {
        format!("Bearer {}", self.presented())
    }

    /// Whether an `Authorization` header presents it. Takes the same time wherever the two differ: what is compared byte
    /// by byte are digests, which tell a guesser nothing.
    pub fn is_presented_by(&self, authorization: &[u8]) -> bool {
        let Some(presented) = authorization.strip_prefix(b"Bearer ") else { return false };
        let theirs = Sha256::digest(presented);
        let secrets = self.0.read().unwrap_or_else(PoisonError::into_inner);
        secrets.iter().fold(false, |found, ours| {
            let ours = Sha256::digest(ours.as_bytes());
            let differences = ours.iter().zip(theirs.iter()).fold(0, |all, (ours, theirs)| all | (ours ^ theirs));
            found | (differences == 0)
        })
    }
}

fn lines(text: &str) -> Vec<String> {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
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
        assert!(!ClusterSecret::new("\n").is_presented_by(b"Bearer "));
    }

    #[test]
    fn while_it_changes_both_are_taken_and_the_first_is_presented() {
        let secret = ClusterSecret::new("old");
        let held_elsewhere = secret.clone();
        secret.replace("old\nnew\n");
        assert_eq!(held_elsewhere.bearer(), "Bearer old");
        assert!(held_elsewhere.is_presented_by(b"Bearer new"));
        secret.replace("new\n");
        assert_eq!(held_elsewhere.bearer(), "Bearer new");
        assert!(!held_elsewhere.is_presented_by(b"Bearer old"));
    }
}
