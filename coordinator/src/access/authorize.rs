//! The decision about one request, by its header: whose key it is, and what that allows ([`atoll_core::access`]).

use super::token;
use atoll_core::access::{Grant, NotAllowed};
use atoll_core::catalog::Catalog;
use atoll_proto::key::{KeyAccess, KeyId};
use atoll_proto::problem::{Problem, ProblemCode};

/// Whose request it is, and what it may touch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The key it came with; none where no key was asked for.
    pub key: Option<KeyId>,
    /// What it may touch.
    pub grant: Grant,
}

/// Why a request is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    /// It has no key, or none that is worth anything. Which of these is not told: it is nobody's business.
    Unauthenticated {
        /// The key that it claims to have, if it looks like one. Anybody can claim that.
        claimed: Option<KeyId>,
    },
    /// This coordinator has heard nothing of the others since it started, and knows of no key: there may be some by now.
    NotKnownYet,
    /// Its key does not allow that.
    Forbidden {
        /// The key.
        id: KeyId,
        /// What would be needed.
        needed: KeyAccess,
    },
}

impl Denied {
    /// The key that was not enough.
    pub fn key(&self) -> Option<KeyId> {
        match self {
            Self::Unauthenticated { claimed } => *claimed,
            Self::NotKnownYet => None,
            Self::Forbidden { id, .. } => Some(*id),
        }
    }
}

impl From<Denied> for Problem {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Unauthenticated { .. } => Self::new(
                ProblemCode::Unauthenticated,
                "this cluster asks for a key, and there is none in the request that is valid: send Authorization: Bearer \
                 <key>; who manages the cluster makes one by: atoll key create",
            ),
            Denied::NotKnownYet => Self::new(
                ProblemCode::NoLeader,
                "this coordinator has not heard of the catalog's leader since it started, and does not know whether a key is asked for; \
                 try again in a moment",
            ),
            Denied::Forbidden { needed, .. } => {
                Self::new(ProblemCode::Forbidden, format!("the key does not allow this: it needs access {needed}"))
            }
        }
    }
}

/// Whether a request may be carried out, and what it may touch. `authorization` is the header's value; `now_s` is asked for only if a
/// key is.
pub fn authorize(
    catalog: &Catalog,
    authorization: Option<&[u8]>,
    needed: Option<KeyAccess>,
    now_s: impl FnOnce() -> i64,
) -> Result<Caller, Denied> {
    let Some(needed) = needed.filter(|_| !catalog.keys.is_empty()) else {
        return Ok(Caller { key: None, grant: Grant::everything() });
    };
    let text = authorization.and_then(bearer).unwrap_or_default();
    let Some(id) = token::id_in(text) else { return Err(Denied::Unauthenticated { claimed: None }) };
    let unauthenticated = Denied::Unauthenticated { claimed: Some(id) };
    let key = catalog.keys.get(&id).filter(|key| key.digest.is(&token::digest(text))).ok_or(unauthenticated)?;
    match key.allows(needed, now_s()) {
        Ok(grant) => Ok(Caller { key: Some(id), grant }),
        Err(NotAllowed::Expired) => Err(unauthenticated),
        Err(NotAllowed::Access) => Err(Denied::Forbidden { id, needed }),
    }
}

impl Caller {
    /// Whether the key that let the request in is still worth something, by a later catalog: what takes long is asked that meanwhile.
    pub fn is_still_let_in(&self, catalog: &Catalog, now_s: i64) -> bool {
        let Some(id) = self.key else { return true };
        catalog.keys.is_empty() || catalog.keys.get(&id).is_some_and(|key| !key.is_expired(now_s))
    }
}

/// The scheme's name is written as one likes (RFC 9110, section 11.1).
fn bearer(value: &[u8]) -> Option<&str> {
    let (scheme, text) = std::str::from_utf8(value).ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| text.trim())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::access::NewKey;
    use atoll_core::catalog::ApiKey;
    use atoll_proto::key_namespaces::KeyNamespaces;

    fn catalog(of: &[(&NewKey, KeyAccess, Option<i64>)]) -> Catalog {
        let mut catalog = Catalog::default();
        for (key, access, expires_s) in of {
            let kept = ApiKey {
                name: String::new(),
                access: *access,
                namespaces: KeyNamespaces::default(),
                digest: key.digest(),
                created_s: 0,
                expires_s: *expires_s,
            };
            catalog.keys.insert(key.id, kept);
        }
        catalog
    }

    fn header(key: &NewKey) -> String {
        format!("Bearer {}", key.reveal())
    }

    #[test]
    fn without_keys_nobody_is_asked() {
        let open = Catalog::default();
        let anybody = Ok(Caller { key: None, grant: Grant::everything() });
        let never = || unreachable!("the time matters to keys alone");
        assert_eq!(authorize(&open, None, Some(KeyAccess::Admin), never), anybody);
        assert_eq!(authorize(&open, Some(b"Bearer whatever"), Some(KeyAccess::Admin), never), anybody);
    }

    #[test]
    fn a_key_does_what_it_allows_and_no_more() {
        let keys = [NewKey::random(), NewKey::random(), NewKey::random()];
        let all = [KeyAccess::Read, KeyAccess::Write, KeyAccess::Admin];
        let catalog = catalog(&[(&keys[0], all[0], None), (&keys[1], all[1], None), (&keys[2], all[2], None)]);
        for (key, access) in keys.iter().zip(all) {
            for needed in all {
                let done = authorize(&catalog, Some(header(key).as_bytes()), Some(needed), || 0);
                let wanted = match access >= needed {
                    true => Ok(Caller { key: Some(key.id), grant: Grant::everything() }),
                    false => Err(Denied::Forbidden { id: key.id, needed }),
                };
                assert_eq!(done, wanted, "{access} for {needed}");
            }
            assert!(authorize(&catalog, None, None, || 0).is_ok(), "service endpoints");
        }
    }

    #[test]
    fn whatever_is_no_valid_key_is_told_the_same() {
        let (key, removed, expired) = (NewKey::random(), NewKey::random(), NewKey::random());
        let catalog = catalog(&[(&key, KeyAccess::Admin, None), (&expired, KeyAccess::Admin, Some(100))]);
        let asked = |value: &[u8]| authorize(&catalog, Some(value), Some(KeyAccess::Read), || 100);
        let told = |denied: Denied| serde_json::to_string(&Problem::from(denied)).unwrap();
        let good = header(&key);
        let nobody = Denied::Unauthenticated { claimed: None };
        for (wrong, claimed) in [
            (String::new(), None),
            ("Bearer".to_owned(), None),
            ("Bearer ".to_owned(), None),
            ("Bearer \u{e4}\u{202e}".to_owned(), None),
            (key.reveal().to_owned(), None),
            (format!("Basic {}", key.reveal()), None),
            (format!("Bearer {}", key.reveal().to_uppercase()), None),
            (format!("Bearer Bearer {}", key.reveal()), None),
            (good[..good.len() - 1].to_owned(), Some(key.id)),
            (format!("{good}A"), Some(key.id)),
            (format!("{good} {good}"), Some(key.id)),
            (format!("Bearer atoll_{}_", key.id), Some(key.id)),
            (header(&removed), Some(removed.id)),
            (header(&expired), Some(expired.id)),
        ] {
            let denied = asked(wrong.as_bytes()).unwrap_err();
            assert_eq!(denied, Denied::Unauthenticated { claimed }, "{wrong}");
            assert_eq!(told(denied), told(nobody), "{wrong}");
        }
        assert_eq!(asked(b"Bearer \xff\xfe"), Err(nobody));
        assert_eq!(authorize(&catalog, None, Some(KeyAccess::Read), || 0), Err(nobody));
        for right in [good.clone(), good.replace("Bearer", "bearer"), good.replace(' ', "  "), format!("{good} ")] {
            assert_eq!(asked(right.as_bytes()).unwrap().key, Some(key.id), "{right}");
        }
        assert!(authorize(&catalog, Some(header(&expired).as_bytes()), Some(KeyAccess::Read), || 99).is_ok());
    }

    #[test]
    fn a_grant_is_that_of_the_key() {
        let key = NewKey::random();
        let mut catalog = catalog(&[(&key, KeyAccess::Write, None)]);
        let namespaces: KeyNamespaces = serde_json::from_str("[\"a:*\"]").unwrap();
        catalog.keys.get_mut(&key.id).unwrap().namespaces = namespaces.clone();
        let caller = authorize(&catalog, Some(header(&key).as_bytes()), Some(KeyAccess::Read), || 0).unwrap();
        assert_eq!(caller.grant.namespaces(), Some(&namespaces));
    }

    #[test]
    fn who_was_let_in_is_put_out_when_the_key_goes() {
        let (key, other) = (NewKey::random(), NewKey::random());
        let keys = [(&key, KeyAccess::Write, Some(100)), (&other, KeyAccess::Admin, None)];
        let caller = authorize(&catalog(&keys), Some(header(&key).as_bytes()), Some(KeyAccess::Read), || 0).unwrap();
        assert!(caller.is_still_let_in(&catalog(&keys), 99) && !caller.is_still_let_in(&catalog(&keys), 100));
        assert!(!caller.is_still_let_in(&catalog(&keys[1..]), 0), "it was removed");
        assert!(caller.is_still_let_in(&Catalog::default(), 0), "nobody is asked any more");
        let nobody = Caller { key: None, grant: Grant::everything() };
        assert!(nobody.is_still_let_in(&catalog(&keys), 0), "it came before there were keys");
    }
}
