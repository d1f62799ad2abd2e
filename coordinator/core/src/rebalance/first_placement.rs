//! The first placement: every shard gets a group before there is any data to weigh.

use atoll_proto::{GroupId, ShardId};
use std::collections::BTreeMap;

/// Deals `shard_count` shards out to groups in proportion to their capacities: each shard goes to the group that is least
/// full after taking it, the lower id on a tie. Deterministic; with equal capacities the counts differ by one at most.
/// Empty if there is no group.
pub fn first_placement(shard_count: u32, capacities: &BTreeMap<GroupId, u32>) -> BTreeMap<ShardId, GroupId> {
    let mut dealt: BTreeMap<GroupId, u64> = capacities.keys().map(|group| (*group, 0)).collect();
    let mut placement = BTreeMap::new();
    for shard in 0..shard_count {
        // (dealt + 1) / capacity, compared without division: a/b < c/d is a*d < c*b.
        let least_full = capacities.iter().min_by(|(a, a_capacity), (b, b_capacity)| {
            let a_load = (dealt[a] + 1) * u64::from(**b_capacity);
            let b_load = (dealt[b] + 1) * u64::from(**a_capacity);
            a_load.cmp(&b_load).then(a.cmp(b))
        });
        let Some((group, _)) = least_full else { break };
        *dealt.entry(*group).or_default() += 1;
        placement.insert(ShardId(shard), *group);
    }
    placement
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(shards: u32, capacities: &[(u64, u32)]) -> Vec<usize> {
        let capacities = capacities.iter().map(|(id, capacity)| (GroupId(*id), *capacity)).collect();
        let placement = first_placement(shards, &capacities);
        assert_eq!(placement.len(), if capacities.is_empty() { 0 } else { shards as usize });
        capacities.keys().map(|group| placement.values().filter(|owner| *owner == group).count()).collect()
    }

    #[test]
    fn equal_groups_get_equal_shares() {
        assert_eq!(counts(12, &[(5, 100), (6, 100), (9, 100)]), [4, 4, 4]);
        assert_eq!(counts(13, &[(5, 100), (6, 100), (9, 100)]), [5, 4, 4]);
        assert_eq!(counts(2, &[(5, 100), (6, 100), (9, 100)]), [1, 1, 0]);
    }

    #[test]
    fn capacity_weighs() {
        assert_eq!(counts(12, &[(1, 100), (2, 200)]), [4, 8]);
        assert_eq!(counts(8, &[(1, 100), (2, 300)]), [2, 6]);
    }

    #[test]
    fn no_group_places_nothing() {
        assert_eq!(counts(12, &[]), [0_usize; 0]);
    }
}
