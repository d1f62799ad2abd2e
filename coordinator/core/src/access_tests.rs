#![allow(clippy::unwrap_used)]
use super::*;
use crate::catalog::KeyDigest;
use KeyAccess::{Admin, Read, Write};

fn key(access: KeyAccess, patterns: &[&str], expires_s: Option<i64>) -> ApiKey {
    let namespaces = serde_json::from_value(serde_json::json!(patterns)).unwrap();
    ApiKey { name: String::new(), access, namespaces, digest: KeyDigest([0; 32]), created_s: 0, expires_s }
}

#[test]
fn access_is_enough_or_not() {
    for (has, patterns, allowed) in [
        (Read, &[][..], &[Read][..]),
        (Write, &[], &[Read, Write]),
        (Admin, &[], &[Read, Write, Admin]),
        (Read, &["a"], &[Read]),
        (Write, &["a"], &[Read, Write]),
        // Such a key can't be made. If there were one, it would not manage the cluster.
        (Admin, &["a*"], &[Read, Write]),
    ] {
        for needed in [Read, Write, Admin] {
            let wanted = match allowed.contains(&needed) {
                true => Ok(Grant::of(&key(has, patterns, None).namespaces)),
                false => Err(NotAllowed::Access),
            };
            assert_eq!(key(has, patterns, None).allows(needed, 0), wanted, "{has} {patterns:?} for {needed}");
        }
    }
}

#[test]
fn a_key_allows_nothing_from_its_end_on() {
    let key = key(Admin, &[], Some(100));
    assert!(key.allows(Read, 99).is_ok());
    assert_eq!(key.allows(Read, 100), Err(NotAllowed::Expired));
}

/// Does something with what a text tells: a namespace, `a*` for those that begin so, `*` for all.
fn with<T>(text: &str, what: impl FnOnce(Touched<'_>) -> T) -> T {
    match text.strip_suffix('*') {
        Some("") => what(Touched::All),
        Some(prefix) => what(Touched::Prefix(prefix)),
        None => what(Touched::Namespace(&Namespace::parse(text).unwrap())),
    }
}

fn grant(patterns: &[&str]) -> Grant {
    key(Read, patterns, None).allows(Read, 0).unwrap()
}

/// What a request touches against what its key is for.
#[test]
fn a_grant_covers_its_namespaces_alone() {
    for everything in ["a", "a*", "*"] {
        assert!(with(everything, |touched| grant(&[]).covers(touched) && Grant::everything().covers(touched)));
        assert!(!with(everything, |touched| grant(&["b", "b:*"]).covers(touched)), "{everything}");
    }
    assert!(Grant::everything().covers(Touched::Prefix("")) && !grant(&["b*"]).covers(Touched::Prefix("")));
    for (patterns, touched, covered) in [
        (&["a"][..], "a", true),
        (&["a"], "a:1", false),
        (&["a"], "a*", false),
        (&["a:*"], "a:1", true),
        (&["a:*"], "a", false),
        (&["a:*"], "a:", true),
        (&["a:*"], "a:*", true),
        (&["a:*"], "a:1*", true),
        (&["a:*"], "a*", false),
        (&["a:*"], "*", false),
        (&["a:*", "b"], "b", true),
        // Whatever names there are, it is not all.
        (&["a*", "b*"], "*", false),
        (&["a*", "b*"], "b*", true),
    ] {
        assert_eq!(with(touched, |touched| grant(patterns).covers(touched)), covered, "{patterns:?} {touched}");
    }
}

#[test]
fn what_is_listed_is_covered() {
    for (patterns, prefix, wanted) in [
        (&[][..], "", &["*"][..]),
        (&[], "a", &["a*"]),
        (&["b", "a:*"], "", &["a:*", "b"]),
        (&["b", "a:*"], "a", &["a:*"]),
        (&["b", "a:*"], "a:x", &["a:x*"]),
        (&["b", "a:*"], "b", &["b"]),
        (&["b", "a:*"], "bc", &[]),
        (&["b", "a:*"], "c", &[]),
    ] {
        let grant = Grant::of(&key(Read, patterns, None).namespaces);
        let within = grant.within(prefix);
        assert_eq!(within.len(), wanted.len(), "{patterns:?} {prefix}");
        for (touched, wanted) in within.into_iter().zip(wanted) {
            assert!(with(wanted, |wanted| touched == wanted) && grant.covers(touched), "{patterns:?} {prefix}");
        }
    }
}
