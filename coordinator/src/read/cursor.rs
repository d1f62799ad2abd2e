//! Cursors: where a page ended, signed, so that one made by nobody or for another list is told apart.

use crate::workers::read::After;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

const TAG_BYTES: usize = 16;
const FORMAT: u8 = 1;

/// Signs cursors. Coordinators of a cluster share it, so a cursor of one is good on all.
#[derive(Clone)]
pub struct CursorKey(Hmac<Sha256>);

impl CursorKey {
    /// A key derived from the cluster's secret.
    pub fn new(cluster_secret: &str) -> Self {
        let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(cluster_secret.as_bytes())
            .expect("HMAC takes keys of any length");
        mac.update(b"atoll cursor v1");
        Self(mac)
    }

    /// Makes the cursor of a position in `list`, a text that names the list.
    pub(super) fn seal(&self, list: &str, after: &After) -> String {
        let mut bytes = vec![FORMAT];
        bytes.extend_from_slice(&after.micros.to_be_bytes());
        bytes.extend_from_slice(after.key.as_bytes());
        let tag = self.mac(list, &bytes).finalize().into_bytes();
        bytes.extend_from_slice(&tag[..TAG_BYTES]);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The position, if the cursor is one of `list`.
    pub(super) fn open(&self, list: &str, cursor: &str) -> Option<After> {
        let bytes = URL_SAFE_NO_PAD.decode(cursor).ok()?;
        let (body, tag) = bytes.split_at_checked(bytes.len().checked_sub(TAG_BYTES)?)?;
        self.mac(list, body).verify_truncated_left(tag).ok()?;
        let (head, key) = body.split_at_checked(9)?;
        if head[0] != FORMAT {
            return None;
        }
        let micros = i64::from_be_bytes(head[1..].try_into().ok()?);
        Some(After { key: String::from_utf8(key.to_vec()).ok()?, micros })
    }

    fn mac(&self, list: &str, body: &[u8]) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        mac.update(&(list.len() as u64).to_be_bytes());
        mac.update(list.as_bytes());
        mac.update(body);
        mac
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_opens_for_its_list_and_key_alone() {
        let key = CursorKey::new("secret");
        let after = After { key: "k\u{202e}'".to_owned(), micros: 1_700_000_000_000_001 };
        let cursor = key.seal("list a", &after);
        assert_eq!(key.open("list a", &cursor), Some(after));
        assert_eq!(key.open("list b", &cursor), None);
        assert_eq!(CursorKey::new("other").open("list a", &cursor), None);
        for bad in ["", "AAAA", "!!", &cursor[1..], &format!("{cursor}A")] {
            assert_eq!(key.open("list a", bad), None, "{bad}");
        }
    }
}
