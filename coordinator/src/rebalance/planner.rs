//! Plans of moves: gathers what the catalog and the agents say, has [`atoll_core::rebalance`] decide, and keeps the last plans.

use crate::agents::AgentBoard;
use crate::raft::CatalogNode;
use atoll_core::catalog::Catalog;
use atoll_core::rebalance::{GroupKnown, Policy, ShardKnown, ShardMove, ShardSize, Situation, Standing, plan};
use atoll_proto::admin::GroupState;
use atoll_proto::collection::CollectionState;
use atoll_proto::rebalance::RebalancePlan;
use atoll_proto::{CollectionName, Distribution, ShardId, WorkerId};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

/// Plans that are kept; an older one is made anew. At the largest clusters a plan takes some megabytes.
const KEPT: usize = 8;

const UNPOISONED: &str = "no holder of this lock panics: it is held for a look or a push only";

/// Makes plans and keeps the last of them; a clone keeps the same.
#[derive(Clone)]
pub struct Rebalancer {
    node: CatalogNode,
    board: AgentBoard,
    kept: Arc<Mutex<VecDeque<Arc<KeptPlan>>>>,
}

/// A plan, and what was told of it.
#[derive(Debug)]
pub struct KeptPlan {
    /// Its moves, in their order. They are good for the catalog version that `told` names.
    pub moves: Vec<ShardMove>,
    /// Identity, catalog version and report.
    pub told: RebalancePlan,
}

impl Rebalancer {
    /// Plans by this catalog and these agents.
    pub fn new(node: CatalogNode, board: AgentBoard) -> Self {
        Self { node, board, kept: Arc::default() }
    }

    /// Plans what to move, by what is known now, and keeps the plan. Moves nothing.
    pub fn plan(&self, policy: Policy) -> Arc<KeptPlan> {
        let view = self.node.view();
        let size = |shard, collection: &CollectionName| self.board.size(Some(shard), collection);
        let situation = situation(&view.catalog, |worker| self.board.was_up_lately(worker), size);
        let planned = plan(&situation, policy);
        let told = RebalancePlan {
            plan_id: format!("{:032x}", rand::random::<u128>()),
            catalog_version: view.version,
            report: planned.report,
        };
        let plan = Arc::new(KeptPlan { moves: planned.moves, told });
        let mut kept = self.kept.lock().expect(UNPOISONED);
        kept.push_back(plan.clone());
        if kept.len() > KEPT {
            kept.pop_front();
        }
        plan
    }

    /// A plan that was made here and is still kept.
    pub fn kept(&self, plan_id: &str) -> Option<Arc<KeptPlan>> {
        self.kept.lock().expect(UNPOISONED).iter().find(|plan| plan.told.plan_id == plan_id).cloned()
    }
}

/// What a plan is made from. `size` gives rows and bytes of a collection's table in a shard, once they were counted.
fn situation(
    catalog: &Catalog,
    is_up: impl Fn(WorkerId) -> bool,
    size: impl Fn(ShardId, &CollectionName) -> Option<(u64, u64)>,
) -> Situation {
    let groups = catalog.groups.iter().map(|(id, group)| {
        let standing = match group.state {
            _ if !is_up(group.primary) => Standing::Unreachable,
            GroupState::Active => Standing::Active,
            GroupState::Draining => Standing::Draining,
        };
        let known = GroupKnown { name: group.name.to_string(), capacity: catalog.primary(group).capacity, standing };
        (*id, known)
    });
    // A shard is known when all its tables are: one that was just made, or has just arrived, would seem lighter than it is.
    let sharded = catalog.collections.values().filter(|collection| {
        collection.state == CollectionState::Active && collection.settings.distribution == Distribution::Hash
    });
    let tables: Vec<&CollectionName> = sharded.map(|collection| &collection.name).collect();
    let shards = catalog.placements.iter().map(|(id, placement)| {
        let counted = tables.iter().try_fold(ShardSize::default(), |sum, collection| {
            let (rows, bytes) = size(*id, collection)?;
            Some(ShardSize { rows: sum.rows + rows, bytes: sum.bytes + bytes })
        });
        let on_its_way = catalog.move_of(*id).filter(|(_, job)| job.phase.may_be_cancelled());
        let moving_to = on_its_way.map(|(_, job)| job.to);
        (*id, ShardKnown { group: placement.group, moving_to, size: counted })
    });
    Situation { groups: groups.collect(), shards: shards.collect() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use atoll_core::catalog::{Command, testing};
    use atoll_proto::GroupId;
    use serde_json::json;

    fn catalog() -> Catalog {
        let mut catalog = Catalog::default();
        catalog.apply(1, testing::init(4, 2));
        for number in [2, 3] {
            let worker = atoll_proto::agent::RegisterWorker {
                capacity: 50 * number as u32,
                ..testing::worker(&format!("w{number}"))
            };
            catalog.apply(number, Command::RegisterWorker(worker));
        }
        for (index, name, distribution) in [(4, "notes", "hash"), (5, "images", "hash"), (6, "languages", "reference")]
        {
            let settings = serde_json::from_value(json!({"dimensions": 3, "distribution": distribution})).unwrap();
            catalog.apply(index, Command::PutCollection { name: name.parse().unwrap(), settings });
            let id = atoll_proto::CollectionId(index);
            catalog.apply(index + 10, Command::SettleCollection { id, changed_at: atoll_proto::CatalogVersion(index) });
        }
        catalog
    }

    #[test]
    fn a_shard_weighs_what_all_its_tables_do_once_all_are_counted() {
        let counted = |shard: ShardId, collection: &CollectionName| match (shard.0, collection.as_str()) {
            (0, "images") => None,
            (shard, "notes") => Some((10, u64::from(shard))),
            (_, "images") => Some((1, 100)),
            _ => panic!("a reference collection is in no shard"),
        };
        let situation = situation(&catalog(), |worker| worker == WorkerId(2), counted);
        let sizes: Vec<Option<ShardSize>> = situation.shards.values().map(|shard| shard.size).collect();
        let size = |bytes| Some(ShardSize { rows: 11, bytes });
        assert_eq!(sizes, [None, size(101), size(102), size(103)]);
        let groups: Vec<_> = situation
            .groups
            .iter()
            .map(|(id, known)| (id.0, known.name.as_str(), known.capacity, known.standing))
            .collect();
        assert_eq!(groups, [(2, "w2", 100, Standing::Active), (3, "w3", 150, Standing::Unreachable)]);
        assert!(situation.shards.values().any(|shard| shard.group == GroupId(3)));
    }

    #[test]
    fn a_draining_group_gives_as_long_as_it_answers() {
        let mut catalog = catalog();
        catalog.apply(20, Command::SetGroupState { id: GroupId(3), state: GroupState::Draining });
        let standing = |is_up| situation(&catalog, |_| is_up, |_, _| None).groups[&GroupId(3)].standing;
        assert_eq!((standing(true), standing(false)), (Standing::Draining, Standing::Unreachable));
    }
}
