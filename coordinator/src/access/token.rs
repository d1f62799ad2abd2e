//! The text of a key: `atoll_<id>_<secret>`, where the secret is 256 random bits. The beginning lets people and scanners of leaked
//! secrets see what it is; the id finds the key without trying all.

use atoll_core::catalog::KeyDigest;
use atoll_proto::key::KeyId;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use std::fmt;

const PREFIX: &str = "atoll";
const SECRET_BYTES: usize = 32;

/// A key that is being made.
pub struct NewKey {
    /// Its id.
    pub id: KeyId,
    text: String,
}

impl NewKey {
    /// One that nobody has had.
    pub fn random() -> Self {
        let id = KeyId::of(rand::random());
        let secret = URL_SAFE_NO_PAD.encode(rand::random::<[u8; SECRET_BYTES]>());
        let text = format!("{PREFIX}_{id}_{secret}");
        Self { id, text }
    }

    /// What its owner is told, once.
    pub fn reveal(&self) -> &str {
        &self.text
    }

    /// What is kept of it.
    pub fn digest(&self) -> KeyDigest {
        digest(&self.text)
    }
}

impl fmt::Debug for NewKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NewKey({})", self.id)
    }
}

/// The id in the text of a key.
pub(super) fn id_in(text: &str) -> Option<KeyId> {
    let (id, _secret) = text.strip_prefix(PREFIX)?.strip_prefix('_')?.split_once('_')?;
    KeyId::parse(id)
}

/// SHA-256 of the text.
pub(super) fn digest(text: &str) -> KeyDigest {
    KeyDigest(Sha256::digest(text.as_bytes()).into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_key_names_its_id_and_keeps_its_secret() {
        let (one, other) = (NewKey::random(), NewKey::random());
        assert_ne!(one.reveal(), other.reveal());
        assert_eq!(id_in(one.reveal()), Some(one.id));
        assert_eq!(one.reveal().len(), "atoll_".len() + 12 + 1 + 43);
        assert_eq!(one.digest(), digest(one.reveal()));
        // The secret may hold `_` itself.
        let secret = one.reveal().splitn(3, '_').nth(2).unwrap();
        assert_eq!(secret.len(), 43);
        assert!(!format!("{one:?}").contains(&secret[..8]));
    }

    #[test]
    fn other_texts_name_no_id() {
        for text in ["", "atoll", "atoll_", "atoll_0000000000ab", "atoll_xyz_secret", "other_0000000000ab_secret"] {
            assert_eq!(id_in(text), None, "{text}");
        }
        assert_eq!(String::from(digest("")), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }
}
