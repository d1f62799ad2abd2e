//! Questions to the catalog.

use super::{Catalog, Collection, Group, Worker};
use atoll_proto::agent::{DesiredCollection, DesiredShard, DesiredState};
use atoll_proto::collection::CollectionState;
use atoll_proto::{CollectionId, CollectionName, GroupId, WorkerId, WorkerName};

impl Catalog {
    /// The collection of a name, whatever its state.
    pub fn collection(&self, name: &CollectionName) -> Option<(CollectionId, &Collection)> {
        self.collections.iter().find(|(_, collection)| collection.name == *name).map(|(id, found)| (*id, found))
    }

    /// The worker of a name.
    pub fn worker(&self, name: &WorkerName) -> Option<(WorkerId, &Worker)> {
        self.workers.iter().find(|(_, worker)| worker.name == *name).map(|(id, found)| (*id, found))
    }

    /// The group's primary.
    pub fn primary(&self, group: &Group) -> &Worker {
        // apply registers a worker and its group together and removes neither.
        self.workers.get(&group.primary).expect("a group's primary is a registered worker")
    }

    /// Everything that should exist on a group's servers; none before init.
    pub fn desired_state(&self, group: GroupId) -> Option<DesiredState> {
        let cluster = self.cluster.as_ref()?;
        let shards = self
            .placements
            .iter()
            .filter(|(_, placement)| placement.group == group)
            .map(|(shard, placement)| DesiredShard { shard: *shard, generation: placement.generation })
            .collect();
        let named = |wanted: fn(CollectionState) -> bool| {
            self.collections
                .iter()
                .filter(|(_, collection)| wanted(collection.state))
                .map(|(id, collection)| DesiredCollection {
                    id: *id,
                    name: collection.name.clone(),
                    settings: collection.settings.clone(),
                })
                .collect()
        };
        Some(DesiredState {
            cluster_id: cluster.id.clone(),
            catalog_version: self.version,
            group,
            shards,
            collections: named(|state| state != CollectionState::Dropping),
            dropping: named(|state| state == CollectionState::Dropping),
        })
    }

    /// Collections whose last change some server may not match yet.
    pub fn unsettled(&self) -> impl Iterator<Item = (CollectionId, &Collection)> {
        self.collections.iter().filter(|(_, collection)| !collection.settled).map(|(id, found)| (*id, found))
    }
}
