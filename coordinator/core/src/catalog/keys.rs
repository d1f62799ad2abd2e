//! Commands about API keys.
//!
//! While there are keys, one with full access stays for ever: nobody locks himself out, whatever the clock does.

use super::{Catalog, Outcome, Refusal};
use atoll_proto::key::{KEYS_MAX, KeyAccess, KeyId};
use serde::{Deserialize, Serialize};

/// What the catalog keeps of a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKey {
    /// For people.
    pub name: String,
    /// What may be done with it.
    pub access: KeyAccess,
    /// SHA-256 of the whole key, in hexadecimal digits. A key is 256 random bits: nobody finds it by trying.
    pub digest: String,
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

    /// Whether it will always be able to manage the cluster.
    fn keeps_the_door(&self) -> bool {
        self.access == KeyAccess::Admin && self.expires_s.is_none()
    }
}

impl Catalog {
    pub(super) fn create_key(&mut self, by: Option<&KeyId>, id: KeyId, key: ApiKey) -> Outcome {
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

    pub(super) fn remove_key(&mut self, by: &KeyId, id: &KeyId, open: bool) -> Outcome {
        if !self.keys.contains_key(id) {
            return Outcome::Unchanged;
        }
        if !self.may_manage(by) {
            return Outcome::Refused(Refusal::KeyNotValid);
        }
        let mut others = self.keys.iter().filter(|(other, _)| *other != id).peekable();
        let is_last = others.peek().is_none();
        if is_last && !open {
            return Outcome::Refused(Refusal::LastKey { id: id.clone() });
        }
        if !is_last && !others.any(|(_, key)| key.keeps_the_door()) {
            return Outcome::Refused(Refusal::LastAdminKey { id: id.clone() });
        }
        self.keys.remove(id);
        Outcome::Done
    }
}

impl Catalog {
    /// Whether a key may make and remove others. Whether it has ended is for who took the request to say: nothing here asks the time.
    fn may_manage(&self, id: &KeyId) -> bool {
        self.keys.get(id).is_some_and(|key| key.access == KeyAccess::Admin)
    }
}

#[cfg(test)]
#[path = "keys_tests.rs"]
mod tests;
