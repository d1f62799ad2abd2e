#![allow(clippy::unwrap_used)]
use super::*;
use crate::catalog::Command;

fn key(access: KeyAccess, expires_s: Option<i64>) -> ApiKey {
    let (namespaces, digest) = (KeyNamespaces::default(), KeyDigest([0xa5; 32]));
    ApiKey { name: "somebody".to_owned(), access, namespaces, digest, created_s: 100, expires_s }
}

fn for_some(access: KeyAccess) -> ApiKey {
    ApiKey { namespaces: serde_json::from_str("[\"a:*\"]").unwrap(), ..key(access, None) }
}

fn recover(catalog: &mut Catalog, id: u64, key: ApiKey) -> Outcome {
    let index = catalog.version.0 + 1;
    catalog.apply(index, Command::RecoverKey { id: KeyId::of(id), key })
}

fn create_by(catalog: &mut Catalog, by: Option<u64>, id: u64, key: ApiKey) -> Outcome {
    let index = catalog.version.0 + 1;
    catalog.apply(index, Command::CreateKey { by: by.map(KeyId::of), id: KeyId::of(id), key })
}

/// By an admin key, if there is one.
fn create(catalog: &mut Catalog, id: u64, key: ApiKey) -> Outcome {
    let by = catalog.keys.iter().find(|(_, key)| key.access == KeyAccess::Admin).map(|(id, _)| *id);
    let index = catalog.version.0 + 1;
    catalog.apply(index, Command::CreateKey { by, id: KeyId::of(id), key })
}

fn remove_by(catalog: &mut Catalog, by: u64, id: u64, open: bool) -> Outcome {
    let index = catalog.version.0 + 1;
    catalog.apply(index, Command::RemoveKey { by: KeyId::of(by), id: KeyId::of(id), open })
}

/// By an admin key.
fn remove(catalog: &mut Catalog, id: u64, open: bool) -> Outcome {
    let by = *catalog.keys.iter().find(|(_, key)| key.access == KeyAccess::Admin).unwrap().0;
    let index = catalog.version.0 + 1;
    catalog.apply(index, Command::RemoveKey { by, id: KeyId::of(id), open })
}

#[test]
fn who_was_let_in_before_manages_no_keys() {
    let mut catalog = Catalog::default();
    let refused = Outcome::Refused(Refusal::KeyNotValid);
    assert_eq!(create_by(&mut catalog, None, 1, key(KeyAccess::Admin, None)), Outcome::Done);
    assert_eq!(create_by(&mut catalog, None, 2, key(KeyAccess::Admin, None)), refused, "from before the first key");
    assert_eq!(create_by(&mut catalog, None, 1, key(KeyAccess::Admin, None)), Outcome::Unchanged, "proposed again");
    create(&mut catalog, 3, key(KeyAccess::Write, None));
    assert_eq!(create_by(&mut catalog, Some(3), 4, key(KeyAccess::Read, None)), refused, "it may not");
    create(&mut catalog, 5, key(KeyAccess::Admin, None));
    assert_eq!(remove_by(&mut catalog, 5, 1, false), Outcome::Done);
    assert_eq!(create_by(&mut catalog, Some(1), 6, key(KeyAccess::Admin, None)), refused, "it is gone");
    assert_eq!(remove_by(&mut catalog, 1, 3, false), refused);
    assert_eq!(remove_by(&mut catalog, 5, 1, false), Outcome::Unchanged, "it is gone already");
}

#[test]
fn the_first_key_can_always_make_others() {
    let mut catalog = Catalog::default();
    for first in [key(KeyAccess::Read, None), key(KeyAccess::Write, None), key(KeyAccess::Admin, Some(200))] {
        assert_eq!(create(&mut catalog, 1, first), Outcome::Refused(Refusal::FirstKeyNotAdmin));
    }
    assert_eq!(create(&mut catalog, 1, key(KeyAccess::Admin, None)), Outcome::Done);
    assert_eq!(create(&mut catalog, 1, key(KeyAccess::Admin, None)), Outcome::Unchanged, "proposed again");
    let taken = Refusal::KeyTaken { id: KeyId::of(1) };
    assert_eq!(create(&mut catalog, 1, key(KeyAccess::Read, None)), Outcome::Refused(taken));
    assert_eq!(create(&mut catalog, 2, key(KeyAccess::Read, Some(200))), Outcome::Done);
}

#[test]
fn one_admin_key_stays_until_the_cluster_is_opened() {
    let mut catalog = Catalog::default();
    create(&mut catalog, 1, key(KeyAccess::Admin, None));
    create(&mut catalog, 2, key(KeyAccess::Admin, Some(200)));
    let refused = |refusal| Outcome::Refused(refusal);
    assert_eq!(remove(&mut catalog, 1, true), refused(Refusal::LastAdminKey { id: KeyId::of(1) }), "the other expires");
    assert_eq!(create(&mut catalog, 3, key(KeyAccess::Admin, None)), Outcome::Done, "one follows another");
    assert_eq!(remove(&mut catalog, 1, false), Outcome::Done);
    assert_eq!(remove(&mut catalog, 2, false), Outcome::Done);
    assert_eq!(remove(&mut catalog, 3, false), refused(Refusal::LastKey { id: KeyId::of(3) }));
    assert_eq!(remove(&mut catalog, 3, true), Outcome::Done);
    assert!(catalog.keys.is_empty());
}

#[test]
fn keys_end_at_their_second() {
    let ends = key(KeyAccess::Read, Some(200));
    assert!(!ends.is_expired(199) && ends.is_expired(200));
    assert!(!key(KeyAccess::Read, None).is_expired(i64::MAX));
}

#[test]
fn a_program_that_knows_no_keys_stops_at_them() {
    let mut catalog = Catalog::default();
    assert_eq!(catalog.least_format(), 1);
    create(&mut catalog, 1, key(KeyAccess::Admin, None));
    assert_eq!(catalog.least_format(), 5);
    let id = KeyId::of(1);
    let remove = Command::RemoveKey { by: id, id, open: true };
    let create = Command::CreateKey { by: None, id, key: key(KeyAccess::Admin, None) };
    assert_eq!((create.format(), remove.format()), (5, 5));
    let scoped = Command::CreateKey { by: Some(id), id: KeyId::of(2), key: for_some(KeyAccess::Read) };
    assert_eq!(scoped.format(), 6);
    catalog.apply(catalog.version.0 + 1, scoped);
    assert_eq!(catalog.least_format(), 6);
    assert_eq!(Command::RecoverKey { id, key: key(KeyAccess::Admin, None) }.format(), 6);
}

#[test]
fn a_key_from_before_keys_had_namespaces_is_readable() {
    let digest = "a5".repeat(32);
    let old = format!(r#"{{"name":"somebody","access":"write","digest":"{digest}","created_s":100,"expires_s":null}}"#);
    assert_eq!(serde_json::from_str::<ApiKey>(&old).unwrap(), key(KeyAccess::Write, None));
    assert_eq!(serde_json::to_string(&key(KeyAccess::Write, None)).unwrap(), old, "and by such a program");
    let scoped = for_some(KeyAccess::Write);
    let text = serde_json::to_string(&scoped).unwrap();
    assert!(text.contains(r#""namespaces":["a:*"]"#), "{text}");
    assert_eq!(serde_json::from_str::<ApiKey>(&text).unwrap(), scoped);
    for wrong in ["a5".repeat(31), "a5".repeat(33), "zz".repeat(32), "\u{e4}".repeat(32)] {
        assert!(serde_json::from_str::<ApiKey>(&old.replace(&digest, &wrong)).is_err(), "{wrong}");
    }
}

#[test]
fn a_key_for_some_namespaces_manages_nothing() {
    let mut catalog = Catalog::default();
    assert_eq!(create(&mut catalog, 1, for_some(KeyAccess::Admin)), Outcome::Refused(Refusal::FirstKeyNotAdmin));
    create(&mut catalog, 1, key(KeyAccess::Admin, None));
    assert_eq!(create_by(&mut catalog, Some(1), 2, for_some(KeyAccess::Admin)), Outcome::Done);
    let refused = Outcome::Refused(Refusal::KeyNotValid);
    assert_eq!(create_by(&mut catalog, Some(2), 3, key(KeyAccess::Read, None)), refused);
    assert_eq!(remove_by(&mut catalog, 2, 1, false), refused);
    let last = Outcome::Refused(Refusal::LastAdminKey { id: KeyId::of(1) });
    assert_eq!(remove_by(&mut catalog, 1, 1, false), last, "nobody could make keys");
}

#[test]
fn the_way_back_needs_no_other_key() {
    let mut catalog = Catalog::default();
    create(&mut catalog, 1, key(KeyAccess::Admin, None));
    for id in 2..=KEYS_MAX as u64 {
        create(&mut catalog, id, key(KeyAccess::Read, Some(200)));
    }
    let one_more = KEYS_MAX as u64 + 1;
    assert_eq!(create(&mut catalog, one_more, key(KeyAccess::Admin, None)), Outcome::Refused(Refusal::TooManyKeys));
    for lesser in [key(KeyAccess::Write, None), key(KeyAccess::Admin, Some(200)), for_some(KeyAccess::Admin)] {
        assert_eq!(recover(&mut catalog, one_more, lesser), Outcome::Refused(Refusal::FirstKeyNotAdmin));
    }
    assert_eq!(recover(&mut catalog, one_more, key(KeyAccess::Admin, None)), Outcome::Done);
    assert_eq!(recover(&mut catalog, one_more, key(KeyAccess::Admin, None)), Outcome::Unchanged, "proposed again");
    let taken = Outcome::Refused(Refusal::KeyTaken { id: KeyId::of(2) });
    assert_eq!(recover(&mut catalog, 2, key(KeyAccess::Admin, None)), taken);
    assert_eq!(remove_by(&mut catalog, one_more, 1, false), Outcome::Done, "it manages");
}
