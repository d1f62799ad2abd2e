//! The decision about one request.

use super::token;
use atoll_core::catalog::Catalog;
use atoll_proto::key::{KeyAccess, KeyId};
use atoll_proto::problem::{Problem, ProblemCode};

/// Why a request is not let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denied {
    /// It has no key, or none that is worth anything. Which of these is not told: it is nobody's business.
    Unauthenticated,
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
    pub fn key(&self) -> Option<&KeyId> {
        match self {
            Self::Unauthenticated | Self::NotKnownYet => None,
            Self::Forbidden { id, .. } => Some(id),
        }
    }
}

impl From<Denied> for Problem {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Unauthenticated => Self::new(
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

/// Whether a request may be carried out; with whose key, if keys are asked for. `authorization` is the header's value.
pub fn authorize(
    catalog: &Catalog,
    authorization: Option<&[u8]>,
    needed: Option<KeyAccess>,
    now_s: i64,
) -> Result<Option<KeyId>, Denied> {
    let Some(needed) = needed.filter(|_| !catalog.keys.is_empty()) else { return Ok(None) };
    let text = authorization.and_then(bearer).ok_or(Denied::Unauthenticated)?;
    let id = token::id_in(text).ok_or(Denied::Unauthenticated)?;
    let key = catalog.keys.get(&id).ok_or(Denied::Unauthenticated)?;
    if !are_equal(&key.digest, &token::digest(text)) || key.is_expired(now_s) {
        return Err(Denied::Unauthenticated);
    }
    if key.access < needed {
        return Err(Denied::Forbidden { id, needed });
    }
    Ok(Some(id))
}

/// The scheme's name is written as one likes (RFC 9110, section 11.1).
fn bearer(value: &[u8]) -> Option<&str> {
    let (scheme, text) = std::str::from_utf8(value).ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| text.trim())
}

/// In the same time wherever they differ; of digests, moreover, a difference tells a guesser nothing.
fn are_equal(one: &str, other: &str) -> bool {
    let differs = one.bytes().zip(other.bytes()).fold(0, |differs, (one, other)| differs | (one ^ other));
    differs == 0 && one.len() == other.len()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::access::NewKey;
    use atoll_core::catalog::ApiKey;

    fn catalog(of: &[(&NewKey, KeyAccess, Option<i64>)]) -> Catalog {
        let mut catalog = Catalog::default();
        for (key, access, expires_s) in of {
            let kept = ApiKey {
                name: String::new(),
                access: *access,
                digest: key.digest(),
                created_s: 0,
                expires_s: *expires_s,
            };
            catalog.keys.insert(key.id.clone(), kept);
        }
        catalog
    }

    fn header(key: &NewKey) -> String {
        format!("Bearer {}", key.reveal())
    }

    #[test]
    fn without_keys_nobody_is_asked() {
        let open = Catalog::default();
        assert_eq!(authorize(&open, None, Some(KeyAccess::Admin), 0), Ok(None));
        assert_eq!(authorize(&open, Some(b"Bearer whatever"), Some(KeyAccess::Admin), 0), Ok(None));
    }

    #[test]
    fn a_key_does_what_it_allows_and_no_more() {
        let keys = [NewKey::random(), NewKey::random(), NewKey::random()];
        let all = [KeyAccess::Read, KeyAccess::Write, KeyAccess::Admin];
        let catalog = catalog(&[(&keys[0], all[0], None), (&keys[1], all[1], None), (&keys[2], all[2], None)]);
        for (key, access) in keys.iter().zip(all) {
            for needed in all {
                let done = authorize(&catalog, Some(header(key).as_bytes()), Some(needed), 0);
                let wanted = match access >= needed {
                    true => Ok(Some(key.id.clone())),
                    false => Err(Denied::Forbidden { id: key.id.clone(), needed }),
                };
                assert_eq!(done, wanted, "{access} for {needed}");
            }
            assert_eq!(authorize(&catalog, None, None, 0), Ok(None), "service endpoints");
        }
    }

    #[test]
    fn whatever_is_no_valid_key_is_told_the_same() {
        let (key, removed, expired) = (NewKey::random(), NewKey::random(), NewKey::random());
        let catalog = catalog(&[(&key, KeyAccess::Admin, None), (&expired, KeyAccess::Admin, Some(100))]);
        let denied = |value: &str| authorize(&catalog, Some(value.as_bytes()), Some(KeyAccess::Read), 100);
        let good = header(&key);
        for wrong in [
            String::new(),
            "Bearer".to_owned(),
            "Bearer ".to_owned(),
            key.reveal().to_owned(),
            format!("Basic {}", key.reveal()),
            good[..good.len() - 1].to_owned(),
            format!("{good}A"),
            format!("Bearer atoll_{}_", key.id),
            header(&removed),
            header(&expired),
        ] {
            assert_eq!(denied(&wrong), Err(Denied::Unauthenticated), "{wrong}");
        }
        assert_eq!(authorize(&catalog, None, Some(KeyAccess::Read), 0), Err(Denied::Unauthenticated));
        assert_eq!(denied(&good), Ok(Some(key.id.clone())));
        assert_eq!(denied(&good.replace("Bearer", "bearer")), Ok(Some(key.id.clone())));
        assert!(authorize(&catalog, Some(header(&expired).as_bytes()), Some(KeyAccess::Read), 99).is_ok());
    }
}
