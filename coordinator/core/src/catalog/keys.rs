//! Commands about API keys.
//!
//! While there are keys, one with full access stays for ever: nobody locks himself out, whatever the clock does. Who lost all such keys
//! has another made by a coordinator, which asks for the cluster secret.

use super::{Catalog, Outcome, Refusal};
use atoll_proto::key::{KEYS_MAX, KeyAccess, KeyId};
use atoll_proto::key_namespaces::KeyNamespaces;
use serde::{Deserialize, Serialize};
use std::fmt::Write;

/// What the catalog keeps of a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKey {
    /// For people.
    pub name: String,
    /// What may be done with it.
    pub access: KeyAccess,
    /// Namespaces that it is for.
    #[serde(default, skip_serializing_if = "KeyNamespaces::are_all")]
    pub namespaces: KeyNamespaces,
    /// Tells the key from any other text.
    pub digest: KeyDigest,
    /// When it was made, in seconds since 1970.
    pub created_s: i64,
    /// When it is worth nothing any more, in seconds since 1970; none for never.
    pub expires_s: Option<i64>,
}

impl ApiKey {
    /// Whether its time is over.
    pub fn is_expired(&self, now_s: i64) -> bool {
        self.expires_s.is_some_and(|expires_s| now_s >= expires_s)
    }

    /// Whether the cluster may be managed with it, until it expires.
    pub fn manages(&self) -> bool {
        self.access == KeyAccess::Admin && self.namespaces.are_all()
    }

    /// The least [`super::FORMAT`] that knows it. An earlier one would take it for a key to all namespaces.
    pub(super) fn least_format(&self) -> u32 {
        if self.namespaces.are_all() { 5 } else { 6 }
    }

    /// Whether it will always be able to manage the cluster.
    fn keeps_the_door(&self) -> bool {
        self.manages() && self.expires_s.is_none()
    }
}

/// SHA-256 of a whole key; written as hexadecimal digits. A key is 256 random bits: nobody finds it by trying.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyDigest(pub [u8; 32]);

impl KeyDigest {
    /// Whether both are the same. Takes the same time wherever they differ; of digests, moreover, a difference tells a guesser nothing.
    pub fn is(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).fold(0, |differs, (one, other)| differs | (one ^ other)) == 0
    }
}

impl TryFrom<String> for KeyDigest {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let wrong = "a digest has 64 hexadecimal digits";
        let mut bytes = [0; 32];
        if text.len() != 2 * bytes.len() || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(wrong);
        }
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * i..2 * i + 2], 16).map_err(|_| wrong)?;
        }
        Ok(Self(bytes))
    }
}

impl From<KeyDigest> for String {
    fn from(digest: KeyDigest) -> Self {
        digest.0.iter().fold(Self::with_capacity(64), |mut digits, byte| {
            write!(digits, "{byte:02x}").expect("a string takes what is written to it");
            digits
        })
    }
}

impl Catalog {
    pub(super) fn create_key(&mut self, by: Option<KeyId>, id: KeyId, key: ApiKey) -> Outcome {
        match self.keys.get(&id) {
            // Proposed again.
            Some(known) if *known == key => return Outcome::Unchanged,
            Some(_) => return Outcome::Refused(Refusal::KeyTaken { id }),
            None => {}
        }
        if !self.keys.is_empty() && !by.is_some_and(|by| self.may_manage(by)) {
            return Outcome::Refused(Refusal::KeyNotValid);
        }
        if self.keys.is_empty() && !key.keeps_the_door() {
            return Outcome::Refused(Refusal::FirstKeyNotAdmin);
        }
        if self.keys.len() >= KEYS_MAX {
            return Outcome::Refused(Refusal::TooManyKeys);
        }
        self.keys.insert(id, key);
        Outcome::Done
    }

    /// No other key has to allow it, and there is room for it: it is the way back.
    pub(super) fn recover_key(&mut self, id: KeyId, key: ApiKey) -> Outcome {
        match self.keys.get(&id) {
            Some(known) if *known == key => Outcome::Unchanged,
            Some(_) => Outcome::Refused(Refusal::KeyTaken { id }),
            None if !key.keeps_the_door() => Outcome::Refused(Refusal::FirstKeyNotAdmin),
            None => {
                self.keys.insert(id, key);
                Outcome::Done
            }
        }
    }

    pub(super) fn remove_key(&mut self, by: KeyId, id: KeyId, open: bool) -> Outcome {
        if !self.keys.contains_key(&id) {
            return Outcome::Unchanged;
        }
        if !self.may_manage(by) {
            return Outcome::Refused(Refusal::KeyNotValid);
        }
        let mut others = self.keys.iter().filter(|(other, _)| **other != id).peekable();
        let is_last = others.peek().is_none();
        if is_last && !open {
            return Outcome::Refused(Refusal::LastKey { id });
        }
        if !is_last && !others.any(|(_, key)| key.keeps_the_door()) {
            return Outcome::Refused(Refusal::LastAdminKey { id });
        }
        self.keys.remove(&id);
        Outcome::Done
    }
}

impl Catalog {
    /// Whether a key may make and remove others. Whether it has ended is for who took the request to say: nothing here asks the time.
    fn may_manage(&self, id: KeyId) -> bool {
        self.keys.get(&id).is_some_and(ApiKey::manages)
    }
}

#[cfg(test)]
#[path = "keys_tests.rs"]
mod tests;
