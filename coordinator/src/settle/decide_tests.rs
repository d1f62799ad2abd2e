//! Every rule of [`super::decide`] on a small catalog.

#![allow(clippy::unwrap_used)]

use super::*;
use atoll_core::catalog::{Command, Outcome, testing};
use atoll_proto::CollectionSettings;

/// Init at 1 (makes the first collection), a worker at 2 and one at 3, which places; a third at 4 owns nothing.
fn catalog() -> Catalog {
    let mut catalog = Catalog::default();
    catalog.apply(1, testing::init(4, 2));
    for index in 2..=4 {
        catalog.apply(index, Command::RegisterWorker(testing::worker(&format!("w{index}"))));
    }
    catalog
}

fn applied(versions: &[(u64, u64)]) -> BTreeMap<GroupId, CatalogVersion> {
    versions.iter().map(|(group, version)| (GroupId(*group), CatalogVersion(*version))).collect()
}

fn groups(ids: &[u64]) -> BTreeSet<GroupId> {
    ids.iter().copied().map(GroupId).collect()
}

fn put_reference(catalog: &mut Catalog, index: u64) -> CollectionId {
    let settings = CollectionSettings { distribution: Distribution::Reference, ..CollectionSettings::memory_entries() };
    let put = Command::PutCollection { name: "reference".parse().unwrap(), settings };
    let Outcome::CollectionPut { id, .. } = catalog.apply(index, put) else { panic!("a new name") };
    id
}

const FIRST: CollectionId = CollectionId(1);
const PLACED_AT: CatalogVersion = CatalogVersion(3);

#[test]
fn nothing_is_settled_before_shards_are_placed() {
    let mut catalog = catalog();
    catalog.placements.clear();
    let plan = decide(&catalog, CatalogVersion(0), &applied(&[(2, 9), (3, 9), (4, 9)]));
    assert_eq!(plan, SettlePlan::default());
}

#[test]
fn only_owners_of_shards_are_told_of_a_hashed_collection() {
    let plan = decide(&catalog(), PLACED_AT, &BTreeMap::new());
    assert_eq!(plan.tell, groups(&[2, 3]));
    assert_eq!(plan.waiting, BTreeMap::from([(FIRST, groups(&[2, 3]))]));
    assert!(plan.settle.is_empty());
}

#[test]
fn what_was_applied_before_the_placement_does_not_count() {
    let plan = decide(&catalog(), PLACED_AT, &applied(&[(2, 2), (3, 3)]));
    assert_eq!(plan.tell, groups(&[2]));
    assert!(plan.settle.is_empty());
}

#[test]
fn settled_when_every_owner_matches_and_only_once() {
    let mut catalog = catalog();
    let all = applied(&[(2, 3), (3, 4)]);
    let plan = decide(&catalog, PLACED_AT, &all);
    assert_eq!(plan.settle, vec![(FIRST, CatalogVersion(1))]);
    assert!(plan.tell.is_empty() && plan.waiting.is_empty());
    catalog.apply(5, Command::SettleCollection { id: FIRST, changed_at: CatalogVersion(1) });
    assert_eq!(decide(&catalog, PLACED_AT, &all), SettlePlan::default());
}

#[test]
fn a_reference_collection_needs_every_group() {
    let mut catalog = catalog();
    let id = put_reference(&mut catalog, 5);
    let plan = decide(&catalog, PLACED_AT, &applied(&[(2, 5), (3, 5)]));
    assert_eq!(plan.waiting, BTreeMap::from([(id, groups(&[4]))]));
    let plan = decide(&catalog, PLACED_AT, &applied(&[(2, 5), (3, 5), (4, 5)]));
    assert!(plan.settle.contains(&(id, CatalogVersion(5))));
}

#[test]
fn a_drop_is_carried_out_like_any_change() {
    let mut catalog = catalog();
    catalog.apply(5, Command::SettleCollection { id: FIRST, changed_at: CatalogVersion(1) });
    catalog.apply(6, Command::DropCollection { id: FIRST });
    let plan = decide(&catalog, PLACED_AT, &applied(&[(2, 6), (3, 5)]));
    assert_eq!((plan.tell, plan.settle), (groups(&[3]), Vec::new()));
    let plan = decide(&catalog, PLACED_AT, &applied(&[(2, 6), (3, 6)]));
    assert_eq!(plan.settle, vec![(FIRST, CatalogVersion(6))]);
}

#[test]
fn an_agent_that_fell_back_is_told_again() {
    let mut catalog = catalog();
    catalog.apply(5, Command::SettleCollection { id: FIRST, changed_at: CatalogVersion(1) });
    let plan = decide(&catalog, PLACED_AT, &applied(&[(2, 3)]));
    assert_eq!(plan, SettlePlan { tell: groups(&[3]), ..SettlePlan::default() });
}
