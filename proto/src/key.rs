//! API keys: what may be done with one, and how they are made, listed and taken away.
//!
//! As long as a cluster has no key, everybody who reaches it may do everything. From the first key on, every request under `/v1/`
//! needs one: `Authorization: Bearer atoll_<id>_<secret>`.

use crate::key_namespaces::KeyNamespaces;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Most keys of a cluster.
pub const KEYS_MAX: usize = 10_000;
/// Longest name of a key, in bytes.
pub const KEY_NAME_BYTES: usize = 128;
/// Longest life of a key that ends, in seconds: ten years.
pub const KEY_SECONDS_MAX: u64 = 10 * 365 * 24 * 60 * 60;
/// Characters of an id.
const ID_LENGTH: usize = 12;

/// Tells a key from others. No secret: it may stand in logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyId(u64);

impl KeyId {
    /// Twelve hexadecimal digits; none for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        let is_id = text.len() == ID_LENGTH && text.bytes().all(is_digit);
        is_id.then(|| u64::from_str_radix(text, 16).ok().map(Self)).flatten()
    }

    /// An id out of a number of 48 bits.
    pub fn of(number: u64) -> Self {
        Self(number & 0xffff_ffff_ffff)
    }
}

impl TryFrom<String> for KeyId {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text).ok_or("an id of a key has twelve hexadecimal digits")
    }
}

impl From<KeyId> for String {
    fn from(id: KeyId) -> Self {
        id.to_string()
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:0width$x}", self.0, width = ID_LENGTH)
    }
}

#[cfg(feature = "openapi")]
impl utoipa::PartialSchema for KeyId {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        utoipa::openapi::schema::ObjectBuilder::new()
            .schema_type(utoipa::openapi::schema::Type::String)
            .pattern(Some("^[0-9a-f]{12}$"))
            .into()
    }
}

#[cfg(feature = "openapi")]
impl utoipa::ToSchema for KeyId {
    fn name() -> std::borrow::Cow<'static, str> {
        "KeyId".into()
    }
}

/// What may be done with a key. Each includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum KeyAccess {
    /// Search, get, list, count and export entries; see collections.
    Read,
    /// Write, import and delete entries and namespaces too.
    Write,
    /// Everything: collections, keys, groups, moves, the cluster.
    Admin,
}

impl fmt::Display for KeyAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Admin => "admin",
        })
    }
}

/// `POST /v1/admin/keys`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct CreateKey {
    /// For people: whose it is. Several keys may have one name, as while one follows another.
    pub name: String,
    /// What may be done with it.
    pub access: KeyAccess,
    /// Namespaces that it is for: names, or beginnings of names with `*` behind them. Left out or empty: all, which access `admin` needs.
    #[serde(default)]
    pub namespaces: KeyNamespaces,
    /// Seconds until it is worth nothing any more; null for never.
    #[serde(default)]
    pub expires_in_seconds: Option<u64>,
}

/// A key, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct KeyInfo {
    /// Its id.
    pub id: KeyId,
    /// Its name.
    pub name: String,
    /// What may be done with it.
    pub access: KeyAccess,
    /// Namespaces that it is for; empty for all.
    pub namespaces: KeyNamespaces,
    /// When it was made (RFC 3339).
    pub created_at: String,
    /// When it is worth nothing any more; null for never.
    pub expires_at: Option<String>,
    /// Whether that is past.
    pub expired: bool,
}

/// A key that was just made.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CreatedKey {
    /// The key itself. Told this once: the cluster keeps a hash of it.
    pub key: String,
    /// What it is.
    #[serde(flatten)]
    pub info: KeyInfo,
}

impl fmt::Debug for CreatedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CreatedKey").field("info", &self.info).finish_non_exhaustive()
    }
}

/// Where a coordinator makes a key for who has the cluster secret, on its internal listener.
pub const RECOVER_PATH: &str = "/internal/v1/keys/recover";

/// Asks for a key with access `admin` that never ends, when all such keys are lost. The answer is a [`CreatedKey`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecoverKey {
    /// For people, as in [`CreateKey`].
    pub name: String,
}

/// `GET /v1/admin/keys`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct KeyList {
    /// All keys, the oldest first, those that have expired too.
    pub keys: Vec<KeyInfo>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_twelve_digits() {
        assert_eq!(KeyId::of(0xab).to_string(), "0000000000ab");
        assert_eq!(KeyId::parse("0000000000ab"), Some(KeyId::of(0xab)));
        assert_eq!(KeyId::parse("ffffffffffff"), Some(KeyId::of(u64::MAX)));
        for wrong in
            ["", "+00000000000", "0000000000a", "0000000000abc", "0000000000AB", "0000000000-b", "0000000000\u{e9}"]
        {
            assert_eq!(KeyId::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn access_grows() {
        assert!(KeyAccess::Read < KeyAccess::Write && KeyAccess::Write < KeyAccess::Admin);
    }
}
