//! Which agents to tell, and which collections are settled.
//!
//! A group matters to a collection if it owns shards; to a reference collection every group matters. A collection is
//! settled once each group that matters has applied a catalog that is at least as new as (a) the collection's last change
//! and (b) the last change of the placements: an agent that applied the change before it was given a shard has not made
//! the collection's table in that shard. While no shard is placed nothing is settled, for nobody has a table.

use atoll_core::catalog::{Catalog, Collection};
use atoll_proto::{CatalogVersion, CollectionId, Distribution, GroupId};
use std::collections::{BTreeMap, BTreeSet};

/// What to do now.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SettlePlan {
    /// Groups whose primary's agent has not applied what it should.
    pub tell: BTreeSet<GroupId>,
    /// Collections that every server matches, with the change that was carried out.
    pub settle: Vec<(CollectionId, CatalogVersion)>,
    /// What still keeps the other unsettled collections.
    pub waiting: BTreeMap<CollectionId, BTreeSet<GroupId>>,
}

/// Decides by the catalog, the version at which placements last changed, and what each group's primary has applied.
pub fn decide(catalog: &Catalog, placed_at: CatalogVersion, applied: &BTreeMap<GroupId, CatalogVersion>) -> SettlePlan {
    let mut plan = SettlePlan::default();
    if catalog.placements.is_empty() {
        return plan;
    }
    for (id, collection) in &catalog.collections {
        let needed = collection.changed_at.max(placed_at);
        let lacking: BTreeSet<GroupId> = groups_that_matter(catalog, collection)
            .filter(|group| applied.get(group).is_none_or(|applied| *applied < needed))
            .collect();
        // Also for a settled collection: an agent that fell back, or was given a shard, has tables to make.
        plan.tell.extend(&lacking);
        if collection.settled {
            continue;
        }
        if lacking.is_empty() {
            plan.settle.push((*id, collection.changed_at));
        } else {
            plan.waiting.insert(*id, lacking);
        }
    }
    plan
}

/// The groups whose servers hold tables of a collection.
pub fn groups_that_matter(catalog: &Catalog, collection: &Collection) -> impl Iterator<Item = GroupId> {
    let owners: BTreeSet<GroupId> = match collection.settings.distribution {
        Distribution::Hash => catalog.placements.values().map(|placement| placement.group).collect(),
        Distribution::Reference => catalog.groups.keys().copied().collect(),
    };
    owners.into_iter()
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
