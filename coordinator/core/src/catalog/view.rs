//! Questions to the catalog.

use super::{ApiKey, Catalog, Collection, Group, Worker};
use crate::moves::MoveJob;
use atoll_proto::admin::GroupState;
use atoll_proto::agent::{DesiredCollection, DesiredShard, DesiredState};
use atoll_proto::collection::CollectionState;
use atoll_proto::moves::MoveSubject;
use atoll_proto::{CatalogVersion, CollectionId, CollectionName, Distribution, GroupId, MoveId, WorkerId, WorkerName};

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
        // apply registers a worker and its group together, and removes them so.
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
            moves: self.open_moves(group),
        })
    }

    /// Groups that take shards.
    pub fn active_groups(&self) -> impl Iterator<Item = (GroupId, &Group)> {
        let active = self.groups.iter().filter(|(_, group)| group.state == GroupState::Active);
        active.map(|(id, group)| (*id, group))
    }

    /// The name of a group, also of one that was removed; empty if there never was one.
    pub fn group_name(&self, id: GroupId) -> String {
        let removed = || self.removed_groups.get(&id).map(|removed| &removed.name);
        self.groups.get(&id).map(|group| &group.name).or_else(removed).map(ToString::to_string).unwrap_or_default()
    }

    /// The least [`super::FORMAT`] that has all of it.
    pub fn least_format(&self) -> u32 {
        let mut records = self.groups.values().filter_map(|group| group.record.as_ref());
        if records.any(|record| !record.stamps.is_empty()) {
            return 10;
        }
        if self.replicas() > 1 {
            return 8;
        }
        if let Some(of_keys) = self.keys.values().map(ApiKey::least_format).max() {
            return of_keys;
        }
        let of_groups = self.groups.values().any(|group| group.state_changed_at > CatalogVersion(0));
        let moves = !self.moves.is_empty() || self.rebalance.is_some();
        match moves || of_groups || !self.removed_groups.is_empty() || self.schedule.is_some() {
            true => 4,
            false => 1,
        }
    }

    fn open_moves(&self, group: GroupId) -> Vec<MoveId> {
        let concerns = |job: &MoveJob| job.is_open() && [job.from, job.to].contains(&group);
        self.moves.iter().filter(|(_, job)| concerns(job)).map(|(id, _)| *id).collect()
    }

    /// What moves, and how everything is named; none while the catalog lacks a part of it.
    pub fn move_subject(&self, id: MoveId) -> Option<MoveSubject> {
        let job = self.moves.get(&id)?;
        let source = self.primary(self.groups.get(&job.from)?);
        let target = self.primary(self.groups.get(&job.to)?);
        let hashed = |collection: &DesiredCollection| collection.settings.distribution == Distribution::Hash;
        Some(MoveSubject {
            id,
            shard: job.shard,
            source_generation: job.source_generation,
            target_generation: job.target_generation,
            collections: self.desired_state(job.from)?.collections.into_iter().filter(hashed).collect(),
            source: source.postgres.clone(),
            target_system: target.facts.system_identifier.clone(),
            subscription: job.subscription,
        })
    }

    /// Collections whose last change some server may not match yet.
    pub fn unsettled(&self) -> impl Iterator<Item = (CollectionId, &Collection)> {
        self.collections.iter().filter(|(_, collection)| !collection.settled).map(|(id, found)| (*id, found))
    }
}
