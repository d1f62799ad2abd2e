//! Paths of the API. Names in them are percent-encoded: a key may hold anything.

use atoll_proto::{CollectionName, EntryKey, Namespace};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// All but the characters that RFC 3986 calls unreserved.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Text as one segment of a path, or as a value in a query.
pub(crate) fn encoded(text: &str) -> String {
    utf8_percent_encode(text, SEGMENT).to_string()
}

/// A collection, or what lies under it: `below` begins with a slash, or is empty.
pub(crate) fn collection(name: &CollectionName, below: &str) -> String {
    format!("/v1/collections/{}{below}", encoded(name.as_str()))
}

/// A namespace of a collection.
pub(crate) fn namespace(collection_name: &CollectionName, namespace: &Namespace) -> String {
    collection(collection_name, &format!("/namespaces/{}", encoded(namespace.as_str())))
}

/// An entry.
pub(crate) fn entry(collection_name: &CollectionName, in_namespace: &Namespace, key: &EntryKey) -> String {
    format!("{}/entries/{}", namespace(collection_name, in_namespace), encoded(key.as_str()))
}

/// A query string with its question mark; empty when no parameter has a value.
pub(crate) fn query(parameters: &[(&str, Option<String>)]) -> String {
    let given: Vec<String> = parameters
        .iter()
        .filter_map(|(name, value)| value.as_ref().map(|value| format!("{name}={}", encoded(value))))
        .collect();
    if given.is_empty() { String::new() } else { format!("?{}", given.join("&")) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn keys_cannot_leave_their_segment() {
        let collection = CollectionName::parse("memory_entries").unwrap();
        let namespace = Namespace::parse("team-a:notes.1").unwrap();
        let key = EntryKey::parse("a/b?c#d%é").unwrap();
        assert_eq!(
            entry(&collection, &namespace, &key),
            "/v1/collections/memory_entries/namespaces/team-a%3Anotes.1/entries/a%2Fb%3Fc%23d%25%C3%A9"
        );
    }

    #[test]
    fn only_given_parameters_make_a_query() {
        assert_eq!(query(&[("a", None)]), "");
        assert_eq!(query(&[("a", None), ("b", Some("x&y".to_owned())), ("c", Some("1".to_owned()))]), "?b=x%26y&c=1");
    }
}
