//! Commands about groups that go: drained first, then removed.

use super::{Catalog, Group, Outcome, Refusal, RemovedGroup, RemovedWorker};
use crate::moves::{Cleanup, MoveJob};
use atoll_proto::admin::GroupState;
use atoll_proto::agent::RegisterWorker;
use atoll_proto::{CatalogVersion, Distribution, GroupId};

impl Catalog {
    pub(super) fn set_group_state(&mut self, index: u64, id: GroupId, state: GroupState) -> Outcome {
        let Some(group) = self.groups.get(&id) else {
            return Outcome::Refused(Refusal::NoSuchGroup { group: id.to_string() });
        };
        if group.state == state {
            return Outcome::Unchanged;
        }
        // So there is always a group to take shards, and the last one never goes.
        if state == GroupState::Draining && self.active_groups().all(|(other, _)| other == id) {
            return Outcome::Refused(Refusal::LastActiveGroup { group: group.name.to_string() });
        }
        let changed = Group { state, state_changed_at: CatalogVersion(index), ..group.clone() };
        self.groups.insert(id, changed);
        Outcome::Done
    }

    pub(super) fn remove_group(&mut self, index: u64, id: GroupId, lost: bool) -> Outcome {
        if let Some(refusal) = self.groups.get(&id).and_then(|group| self.needs(id, group, lost)) {
            return Outcome::Refused(refusal);
        }
        let Some(group) = self.groups.remove(&id) else { return Outcome::Unchanged };
        // Of a group that is not lost there is nothing left.
        for job in self.moves.values_mut().filter(|job| job.phase.is_over()) {
            job.cleanups = left_elsewhere(job, id).collect();
        }
        let members = group.members.iter().filter_map(|member| self.workers.remove(member));
        let workers = members.map(|worker| RemovedWorker {
            uid: worker.uid,
            system_identifier: worker.facts.system_identifier,
            database: worker.postgres.database,
        });
        let removed = RemovedGroup { name: group.name, workers: workers.collect(), removed_at: CatalogVersion(index) };
        self.removed_groups.insert(id, removed);
        Outcome::Done
    }

    /// What keeps a group in the cluster; none if it may go.
    fn needs(&self, id: GroupId, of: &Group, lost: bool) -> Option<Refusal> {
        let group = of.name.to_string();
        let shards = self.placements.values().filter(|placement| placement.group == id).count() as u32;
        if of.state != GroupState::Draining {
            return Some(Refusal::GroupNotDraining { group });
        }
        if shards > 0 {
            return Some(Refusal::GroupHoldsShards { group, shards });
        }
        // What the other server holds it still cleans up, and has to know this one for it.
        let is_past = |job: &MoveJob| lost && job.phase.is_over() && left_elsewhere(job, id).next().is_none();
        let concerns = |job: &MoveJob| job.is_open() && [job.from, job.to].contains(&id) && !is_past(job);
        if let Some((id, job)) = self.moves.iter().find(|(_, job)| concerns(job)) {
            return Some(Refusal::GroupHasMove { group, id: *id, shard: job.shard });
        }
        // Of a reference collection the copy of the group that came first is read, see RoutingTable::reference.
        let mut by_age = self.groups.iter();
        let (first, (next, next_group)) = (by_age.next()?.0, by_age.next()?);
        let reference = |collection: &super::Collection| collection.settings.distribution == Distribution::Reference;
        let lacks = self.collections.iter().find(|(made, one)| reference(one) && next.0 > made.0);
        let (_, lacking) = lacks.filter(|_| *first == id)?;
        let next = next_group.name.to_string();
        Some(Refusal::OnlyWholeCopy { group, name: lacking.name.clone(), next })
    }

    /// Why a worker may not register: it was removed, or brings the data of one that was.
    pub(super) fn removed(&self, worker: &RegisterWorker) -> Option<Refusal> {
        let is_member = self.workers.values().any(|known| known.uid == worker.uid);
        let same_data = |gone: &RemovedWorker| {
            let RemovedWorker { uid: _, system_identifier, database } = gone;
            *system_identifier == worker.facts.system_identifier && *database == worker.postgres.database
        };
        let same = |gone: &RemovedWorker| gone.uid == worker.uid || !is_member && same_data(gone);
        let removed = self.removed_groups.values().find(|removed| removed.workers.iter().any(same))?;
        Some(Refusal::WorkerRemoved { name: worker.name.to_string(), group: removed.name.to_string() })
    }
}

/// What a move left on servers of other groups.
fn left_elsewhere(job: &MoveJob, than: GroupId) -> impl Iterator<Item = Cleanup> {
    let elsewhere = move |cleanup: &&Cleanup| match cleanup {
        Cleanup::Feed | Cleanup::Retired => job.from != than,
        Cleanup::Subscription | Cleanup::Copy => job.to != than,
    };
    job.cleanups.iter().filter(elsewhere).copied()
}

#[cfg(test)]
#[path = "groups_tests.rs"]
mod tests;
