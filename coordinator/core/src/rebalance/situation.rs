//! What a plan is made from: groups that could hold shards, and shards with their sizes.

use super::Policy;
use atoll_proto::rebalance::BalanceBy;
use atoll_proto::{GroupId, ShardId};
use std::collections::BTreeMap;

/// Groups and shards at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Situation {
    /// Every group of the catalog.
    pub groups: BTreeMap<GroupId, GroupKnown>,
    /// Every placed shard.
    pub shards: BTreeMap<ShardId, ShardKnown>,
}

/// What is known of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupKnown {
    /// Its name.
    pub name: String,
    /// Relative capacity; 0 counts as 1.
    pub capacity: u32,
    /// Whether it can give and take.
    pub standing: Standing,
}

/// Whether a group can give and take shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It can.
    Active,
    /// It is to be emptied.
    Draining,
    /// Its primary does not answer.
    Unreachable,
}

/// What is known of a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShardKnown {
    /// The group that owns it.
    pub group: GroupId,
    /// The group that it is on the move to.
    pub moving_to: Option<GroupId>,
    /// How large it is; none before it was counted.
    pub size: Option<ShardSize>,
}

/// Size of a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ShardSize {
    /// Rows of its tables.
    pub rows: u64,
    /// Bytes of its tables and their indexes.
    pub bytes: u64,
}

impl ShardKnown {
    /// What it weighs; none if that is not known.
    pub(super) fn load(&self, policy: Policy) -> Option<u64> {
        match policy.by() {
            BalanceBy::Bytes => self.size.map(|size| size.bytes),
            BalanceBy::Rows => self.size.map(|size| size.rows),
            BalanceBy::Count => Some(1),
        }
    }

    /// The group that holds it once its move is over.
    pub(super) fn home(&self) -> GroupId {
        self.moving_to.unwrap_or(self.group)
    }
}
