//! `--like NAMESPACE:KEY` as an entry's id.

use atoll_proto::entry::EntryId;
use atoll_proto::{EntryKey, Namespace};

/// Splits at the first colon, because keys hold colons more often than namespaces do. For a namespace with a colon there
/// are `--like-namespace` and `--like-key`.
pub(crate) fn parse(text: &str) -> Result<EntryId, String> {
    let Some((namespace, key)) = text.split_once(':') else {
        return Err("expected NAMESPACE:KEY".to_owned());
    };
    Ok(EntryId {
        namespace: Namespace::parse(namespace).map_err(|error| error.to_string())?,
        key: EntryKey::parse(key).map_err(|error| error.to_string())?,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_first_colon_splits() {
        let id = parse("noun.animal:n-1:2/x").unwrap();
        assert_eq!((id.namespace.as_str(), id.key.as_str()), ("noun.animal", "n-1:2/x"));
    }

    #[test]
    fn both_halves_must_be_names() {
        for bad in ["", "a", ":k", "a:", "a b:k"] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }
}
