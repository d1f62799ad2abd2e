//! The routing table: what one request needs of the catalog, made once for each catalog version and never changed.

use super::ShardRing;
use crate::catalog::{Catalog, Collection, Group};
use atoll_proto::agent::{PostgresAddress, shard_schema};
use atoll_proto::{CatalogVersion, CollectionName, Generation, GroupId, Namespace, ShardId, WorkerId};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Connections of each server that coordinators leave to its agent, to replication and to people.
const CONNECTIONS_LEFT: u32 = 20;

/// One view of the cluster. A request takes one and keeps it to its end.
#[derive(Debug, Clone)]
pub struct RoutingTable {
    /// The catalog it was made from.
    pub version: CatalogVersion,
    /// The whole catalog, for the rare questions.
    pub catalog: Arc<Catalog>,
    ring: Arc<ShardRing>,
    shards: Vec<ShardRoute>,
    reference: Option<ShardRoute>,
    collections: BTreeMap<CollectionName, Arc<Collection>>,
}

/// Where a shard lies.
#[derive(Debug, Clone)]
pub struct ShardRoute {
    /// The shard.
    pub shard: ShardId,
    /// The placement's generation.
    pub generation: Generation,
    /// Schema of its tables: names shard and generation, so a view that is out of date finds nothing there.
    pub schema: Arc<str>,
    /// The group that owns it.
    pub group: GroupId,
    /// The group's name.
    pub group_name: Arc<str>,
    /// The group's generation: which of its primaries that is.
    pub group_generation: Generation,
    /// The worker that takes its writes, and reads that don't say otherwise.
    pub primary: Arc<WorkerRoute>,
    /// Workers that have its data too, in the order of their numbers; none where groups have one worker.
    pub standbys: Standbys,
}

/// A group's standbys that may be read: those in the in-sync set, which lag by little. One whose data are being mended may not.
pub type Standbys = Arc<[Arc<WorkerRoute>]>;

/// Where a worker is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerRoute {
    /// The worker.
    pub worker: WorkerId,
    /// Its name.
    pub name: String,
    /// Where its server listens.
    pub postgres: PostgresAddress,
    /// Base URL of its agent.
    pub agent_url: String,
    /// Most connections that one coordinator may open to its server: its share of what agents and people leave.
    pub connections: u32,
    /// Processor cores of its machine.
    pub cores: u32,
}

impl RoutingTable {
    /// Makes the table of a catalog. `before` lends its ring if the shards are still the same.
    pub fn new(catalog: Arc<Catalog>, before: Option<&RoutingTable>) -> Self {
        let shard_count = catalog.cluster.as_ref().map_or(1, |cluster| cluster.shard_count);
        let ring = match before {
            Some(before) if before.ring.shard_count() == shard_count => before.ring.clone(),
            Some(_) | None => Arc::new(ShardRing::new(shard_count)),
        };
        let members: BTreeMap<GroupId, (Arc<WorkerRoute>, Standbys)> =
            catalog.groups.iter().map(|(id, group)| (*id, members(&catalog, group))).collect();
        let shards = catalog
            .placements
            .iter()
            .map(|(shard, placement)| ShardRoute {
                shard: *shard,
                generation: placement.generation,
                schema: shard_schema(*shard, placement.generation).into(),
                group: placement.group,
                group_name: catalog.groups[&placement.group].name.as_str().into(),
                group_generation: catalog.groups[&placement.group].generation,
                primary: members[&placement.group].0.clone(),
                standbys: members[&placement.group].1.clone(),
            })
            .collect();
        let collections = catalog
            .collections
            .values()
            .map(|collection| (collection.name.clone(), Arc::new(collection.clone())))
            .collect();
        let mut table = Self { version: catalog.version, catalog, ring, shards, reference: None, collections };
        table.reference = table.copies().into_iter().next();
        table
    }

    /// The copy of reference collections that is read, and written first: that of the group which registered first. Moves of
    /// shards leave it where it is. None before the first placement.
    pub fn reference(&self) -> Option<&ShardRoute> {
        self.reference.as_ref()
    }

    /// Whether a shard is being moved: its tables may be nowhere for a moment.
    pub fn is_moving(&self, shard: ShardId) -> bool {
        self.catalog.move_of(shard).is_some()
    }

    /// Whether every shard has an owner.
    pub fn is_placed(&self) -> bool {
        !self.shards.is_empty()
    }

    /// The collection of a name, whatever its state.
    pub fn collection(&self, name: &CollectionName) -> Option<&Arc<Collection>> {
        self.collections.get(name)
    }

    /// Where a namespace lies; none before the first placement.
    pub fn route(&self, namespace: &Namespace) -> Option<&ShardRoute> {
        self.shard(self.ring.shard_of(namespace))
    }

    /// The shard that a namespace belongs to, placed or not.
    pub fn shard_of(&self, namespace: &Namespace) -> ShardId {
        self.ring.shard_of(namespace)
    }

    /// Where the record of an idempotency key lies: on one shard, whatever the request touches.
    pub fn route_of_key(&self, idempotency_key: &str) -> Option<&ShardRoute> {
        self.shard(self.ring.shard_of_bytes(idempotency_key.as_bytes()))
    }

    /// Where a shard lies; none before the first placement.
    pub fn shard(&self, shard: ShardId) -> Option<&ShardRoute> {
        // Shards are numbered from 0 and placed all at once, so the position is the number.
        self.shards.get(shard.0 as usize)
    }

    /// Every shard, by number; none before the first placement.
    pub fn shards(&self) -> &[ShardRoute] {
        &self.shards
    }

    /// A route to each group's copy of a reference collection, whether the group owns shards or not. The first shard stands for
    /// the collection on all of them; none before the first placement.
    pub fn copies(&self) -> Vec<ShardRoute> {
        let Some(first) = self.shards.first() else { return Vec::new() };
        let copy = |(id, group): (&GroupId, &Group)| {
            let (primary, standbys) = members(&self.catalog, group);
            let (group_name, group_generation) = (group.name.as_str().into(), group.generation);
            ShardRoute { group: *id, group_name, group_generation, primary, standbys, ..first.clone() }
        };
        self.catalog.groups.iter().map(copy).collect()
    }

    /// Every primary, whether its group owns shards or not.
    pub fn primaries(&self) -> Vec<WorkerRoute> {
        self.catalog.groups.values().map(|group| worker_route(&self.catalog, group.primary)).collect()
    }
}

/// The group's primary and its standbys.
fn members(catalog: &Catalog, group: &Group) -> (Arc<WorkerRoute>, Standbys) {
    let route = |id| Arc::new(worker_route(catalog, id));
    let is_mended =
        |id| group.record.as_ref().is_some_and(|record| record.mending.is_some_and(|disk| disk.worker == id));
    let standbys = group.in_sync.iter().filter(|id| **id != group.primary && !is_mended(**id));
    (route(group.primary), standbys.map(|id| route(*id)).collect())
}

fn worker_route(catalog: &Catalog, id: WorkerId) -> WorkerRoute {
    let worker = &catalog.workers[&id];
    // Two at least: a second coordinator may come, and finds its share free.
    let coordinators = u32::try_from(catalog.coordinators.len()).unwrap_or(u32::MAX).max(2);
    WorkerRoute {
        worker: id,
        name: worker.name.to_string(),
        postgres: worker.postgres.clone(),
        agent_url: worker.agent_url.clone(),
        connections: worker.facts.max_connections.saturating_sub(CONNECTIONS_LEFT) / coordinators,
        cores: worker.facts.cores,
    }
}
