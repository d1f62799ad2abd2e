//! Groups with standbys: who founds one, who joins it, and how its record changes. What may follow what is
//! [`failover::changed`]'s to say. `docs/failover.md` is the protocol.

use super::{Catalog, Group, Outcome, Refusal};
use crate::failover::{self, Change};
use atoll_proto::agent::{PostgresFacts, RegisterWorker};
use atoll_proto::group::{Disk, GroupRecord, Phase};
use atoll_proto::{CatalogVersion, Generation, GroupId, WorkerId};
use std::collections::BTreeSet;

impl Catalog {
    /// Workers that a group has.
    pub fn replicas(&self) -> u32 {
        self.cluster.as_ref().map_or(1, |cluster| cluster.replicas)
    }

    /// Groups that have all their workers.
    pub fn full_groups(&self) -> impl Iterator<Item = (GroupId, &Group)> {
        let replicas = self.replicas() as usize;
        self.groups.iter().filter(move |(_, group)| group.members.len() >= replicas).map(|(id, group)| (*id, group))
    }

    /// Why an agent may not register that can't do what members of groups do.
    pub(super) fn knows_no_groups(&self, worker: &RegisterWorker) -> Option<Refusal> {
        let replicas = self.replicas();
        let knows_none = replicas > 1 && worker.incarnation.is_none();
        knows_none.then(|| Refusal::KnowsNoGroups { name: worker.name.to_string(), replicas })
    }

    /// The record of a group that this worker founds; none where groups have one worker.
    pub(super) fn record_of(&self, index: u64, id: WorkerId, founder: &RegisterWorker) -> Option<GroupRecord> {
        let replicas = self.replicas();
        let incarnation = founder.incarnation.filter(|_| replicas > 1)?;
        let (disk, copies) = (Disk { worker: id, incarnation }, replicas / 2 + 1);
        Some(GroupRecord::founded(disk, BTreeSet::from([id]), copies, CatalogVersion(index)))
    }

    /// Why a group takes no more workers; none if it does.
    pub(super) fn has_no_room(&self, group: &Group) -> Option<Refusal> {
        let (name, replicas) = (group.name.to_string(), self.replicas());
        if group.record.is_none() {
            let member = self.primary(group).name.to_string();
            return Some(Refusal::GroupTaken { group: name, member });
        }
        let is_full = group.members.len() >= replicas as usize;
        is_full.then_some(Refusal::GroupFull { group: name, replicas })
    }

    /// A worker becomes a member. It holds nothing yet: the leader's driver takes it into the in-sync set when it does.
    pub(super) fn join_group(&mut self, index: u64, group: GroupId, worker: WorkerId) {
        let Some(group) = self.groups.get_mut(&group) else { return };
        group.members.push(worker);
        if let Some(record) = &mut group.record {
            record.workers.insert(worker);
            record.changed_at = CatalogVersion(index);
        }
    }

    /// Whether these are the data of another member, of which a standby is a copy.
    pub(super) fn is_copy(&self, group: &Group, of: WorkerId, now: &PostgresFacts) -> bool {
        let others = group.members.iter().filter(|member| **member != of);
        let same = |other: &WorkerId| self.workers[other].facts.system_identifier == now.system_identifier;
        group.record.is_some() && others.into_iter().any(same)
    }

    /// Whether another agent with data of its own may take a member's name, because that one is lost: nothing acknowledged is counted on it.
    /// It is copied from the primary, as one that joins, and whoever had the name before is refused.
    pub(super) fn may_be_replaced(&self, group: &Group, member: WorkerId) -> bool {
        let Some(record) = &group.record else { return false };
        record.primary.worker != member && record.voters.iter().all(|voter| voter.worker != member)
    }

    /// Somebody else gave a group that has no record another primary. Its log may go on from an earlier position than the one before
    /// had reached, so positions of the two must not be compared: it has a generation of its own.
    pub(super) fn follow_primary(&mut self, index: u64, id: GroupId) {
        let Some(group) = self.groups.get_mut(&id).filter(|group| group.record.is_none()) else { return };
        group.generation = Generation(group.generation.0 + 1);
        self.give_up_moves_of(index, id);
    }

    pub(super) fn change_group(
        &mut self,
        index: u64,
        id: GroupId,
        decided_at: CatalogVersion,
        change: Change,
    ) -> Outcome {
        let Some(group) = self.groups.get_mut(&id) else { return Outcome::Unchanged };
        let next = group.record.as_ref();
        let next = next.and_then(|record| failover::changed(record, decided_at, change, CatalogVersion(index)));
        let Some(next) = next else { return Outcome::Unchanged };
        group.primary = next.primary.worker;
        group.in_sync = next.voters.iter().map(|disk| disk.worker).collect();
        // While a primary is looked for, requests go to the one before, under its own generation.
        let was_activated = next.phase == Phase::Steady && group.generation != next.generation;
        if was_activated {
            group.generation = next.generation;
        }
        group.record = Some(next);
        if was_activated {
            self.give_up_moves_of(index, id);
        }
        Outcome::Done
    }
}

#[cfg(test)]
#[path = "group_record_tests.rs"]
mod tests;
