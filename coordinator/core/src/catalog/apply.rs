//! `apply`: one command in, the next state and an outcome out. One function a command, each reads top to bottom:
//! refusals first, then the change.

use super::{Catalog, Cluster, Collection, Command, Coordinator, Group, Outcome, Placement, Refusal, Worker};
use crate::rebalance::first_placement;
use atoll_proto::admin::GroupState;
use atoll_proto::agent::RegisterWorker;
use atoll_proto::collection::CollectionState;
use atoll_proto::{
    CatalogVersion, CollectionId, CollectionName, CollectionSettings, CoordinatorId, Generation, GroupId, GroupName,
    WorkerId,
};
use std::collections::BTreeSet;

impl Catalog {
    /// Applies the command of log entry `index`. New ids are the index, so none is ever used twice.
    pub fn apply(&mut self, index: u64, command: Command) -> Outcome {
        let outcome = match command {
            Command::InitCluster { cluster_id, shard_count, initial_groups, replicas, coordinator, http, internal } => {
                let cluster = Cluster {
                    id: cluster_id,
                    hash: crate::routing::HASH_FUNCTION.to_owned(),
                    shard_count,
                    initial_groups,
                    replicas: replicas.max(1),
                };
                self.init_cluster(index, cluster, coordinator, Coordinator { http, internal })
            }
            Command::AddCoordinator { http, internal } => self.add_coordinator(index, Coordinator { http, internal }),
            Command::RemoveCoordinator { id } => self.remove_coordinator(id),
            Command::RegisterWorker(worker) => self.register_worker(index, worker),
            Command::PutCollection { name, settings } => self.put_collection(index, name, settings),
            Command::DropCollection { id } => self.drop_collection(index, id),
            Command::SettleCollection { id, changed_at } => self.settle_collection(id, changed_at),
            Command::StartMove { token, shard, to, max_write_pause_ms } => {
                self.start_move(index, token, shard, to, max_write_pause_ms)
            }
            Command::AdvanceMove { id, decided_at, to, brings } => self.advance_move(index, id, decided_at, to, brings),
            Command::CancelMove { id } => self.cancel_move(index, id),
            Command::NoteCleaned { id, decided_at, cleanup } => self.note_cleaned(id, decided_at, cleanup),
            Command::ApplyPlan { plan_id, planned_at, parallel, moves } => {
                self.apply_plan(index, plan_id, planned_at, parallel, moves)
            }
            Command::BeginPlannedMove { run_began_at, place } => self.begin_planned_move(index, run_began_at, place),
            Command::SteerRebalance { wish } => self.steer_rebalance(index, wish),
            Command::SetGroupState { id, state } => self.set_group_state(index, id, state),
            Command::RemoveGroup { id, lost } => self.remove_group(index, id, lost),
            Command::ChangeGroup { id, decided_at, change } => self.change_group(index, id, decided_at, change),
            Command::SetRebalancePolicy { policy, now_s } => self.set_rebalance_policy(policy, now_s),
            Command::FollowSchedule { due_s, now_s, plan } => self.follow_schedule(index, due_s, now_s, plan),
            Command::HoldScheduledRun { run_began_at, until_s } => self.hold_scheduled_run(run_began_at, until_s),
            Command::CreateKey { by, id, key } => self.create_key(by, id, key),
            Command::RemoveKey { by, id, open } => self.remove_key(by, id, open),
            Command::RecoverKey { id, key } => self.recover_key(id, key),
            Command::CatchUp => Outcome::Unchanged,
        };
        let changed = match &outcome {
            Outcome::Unchanged | Outcome::Refused(_) => false,
            Outcome::CollectionPut { changed_at, .. } => changed_at.0 == index,
            Outcome::MoveStarted { id } => id.0 == index,
            Outcome::Done | Outcome::CoordinatorAdded { .. } | Outcome::WorkerRegistered { .. } => true,
        };
        if changed {
            self.version = CatalogVersion(index);
        }
        outcome
    }

    fn init_cluster(&mut self, index: u64, cluster: Cluster, id: CoordinatorId, coordinator: Coordinator) -> Outcome {
        if let Some(cluster) = &self.cluster {
            return Outcome::Refused(Refusal::AlreadyInitialised { cluster_id: cluster.id.clone() });
        }
        self.cluster = Some(cluster);
        self.coordinators.insert(id, coordinator);
        let name = CollectionName::parse("memory_entries").expect("a constant that matches the pattern");
        self.put_collection(index, name, CollectionSettings::memory_entries())
    }

    fn add_coordinator(&mut self, index: u64, coordinator: Coordinator) -> Outcome {
        if self.cluster.is_none() {
            return Outcome::Refused(Refusal::NotInitialised);
        }
        let known = self.coordinators.iter().find(|(_, known)| known.internal == coordinator.internal);
        let id = match known {
            Some((id, _)) => *id,
            None => CoordinatorId(index),
        };
        self.coordinators.insert(id, coordinator);
        Outcome::CoordinatorAdded { id }
    }

    fn remove_coordinator(&mut self, id: CoordinatorId) -> Outcome {
        match self.coordinators.remove(&id) {
            Some(_) => Outcome::Done,
            None => Outcome::Unchanged,
        }
    }

    fn register_worker(&mut self, index: u64, worker: RegisterWorker) -> Outcome {
        if self.cluster.is_none() {
            return Outcome::Refused(Refusal::NotInitialised);
        }
        // First of all: another worker may have its name by now.
        if let Some(refusal) = self.removed(&worker) {
            return Outcome::Refused(refusal);
        }
        if let Some(refusal) = self.knows_no_groups(&worker) {
            return Outcome::Refused(refusal);
        }
        let known = self.workers.iter().find(|(_, known)| known.name == worker.name).map(|(id, _)| *id);
        match known {
            Some(id) => self.refresh_worker(index, id, worker),
            None => self.admit_worker(index, worker),
        }
    }

    fn refresh_worker(&mut self, index: u64, id: WorkerId, now: RegisterWorker) -> Outcome {
        let before = &self.workers[&id];
        let name = now.name.to_string();
        let group = before.group;
        let is_another = before.uid != now.uid;
        if before.replaced.contains(&now.uid) {
            return Outcome::Refused(Refusal::Replaced { name });
        }
        if is_another && !self.may_be_replaced(&self.groups[&group], id) {
            return Outcome::Refused(Refusal::NameTaken { name });
        }
        let same_data = before.facts.system_identifier == now.facts.system_identifier;
        if !same_data && !is_another && !self.is_copy(&self.groups[&group], id, &now.facts) {
            return Outcome::Refused(Refusal::OtherData {
                name,
                before: before.facts.system_identifier.clone(),
                now: now.facts.system_identifier,
            });
        }
        let group_name = &self.groups[&group].name;
        if now.group.as_ref().is_some_and(|asked| asked != group_name) {
            return Outcome::Refused(Refusal::OtherGroup { name, group: group_name.to_string() });
        }
        let mut replaced = before.replaced.clone();
        replaced.extend(is_another.then(|| before.uid.clone()));
        let follows = now.follows;
        let after = Worker { replaced, ..worker_of(now, group) };
        if *before == after {
            // Nothing changed; the version stays, so that a heartbeat costs no coordinator a new view.
            return Outcome::Unchanged;
        }
        let is_elsewhere = before.postgres != after.postgres;
        self.workers.insert(id, after);
        if follows && is_elsewhere {
            self.follow_primary(index, group);
        }
        Outcome::WorkerRegistered { worker: id, group }
    }

    fn admit_worker(&mut self, index: u64, worker: RegisterWorker) -> Outcome {
        let id = WorkerId(index);
        let group_name = match &worker.group {
            Some(name) => name.clone(),
            None => GroupName::parse(worker.name.as_str()).expect("both names follow one pattern"),
        };
        let known = self.groups.iter().find(|(_, group)| group.name == group_name);
        if let Some(refusal) = known.and_then(|(_, group)| self.has_no_room(group)) {
            return Outcome::Refused(refusal);
        }
        let group = match known.map(|(group, _)| *group) {
            Some(group) => {
                self.join_group(index, group, id);
                group
            }
            None => self.found_group(index, group_name, id, &worker),
        };
        self.workers.insert(id, worker_of(worker, group));
        self.place_shards_once();
        Outcome::WorkerRegistered { worker: id, group }
    }

    fn found_group(&mut self, index: u64, name: GroupName, id: WorkerId, founder: &RegisterWorker) -> GroupId {
        let group = GroupId(index);
        let record = self.record_of(index, id, founder);
        self.groups.insert(
            group,
            Group {
                name,
                primary: id,
                generation: Generation(1),
                members: vec![id],
                in_sync: vec![id],
                state: GroupState::Active,
                state_changed_at: CatalogVersion(0),
                record,
            },
        );
        group
    }

    /// Places all shards when the groups that init asked for are there, each with all its workers. Later groups get shards by moves only.
    fn place_shards_once(&mut self) {
        let Some(cluster) = &self.cluster else { return };
        if !self.placements.is_empty() || (self.full_groups().count() as u32) < cluster.initial_groups {
            return;
        }
        let takers = self.full_groups().filter(|(_, group)| group.state == GroupState::Active);
        let capacities = takers.map(|(id, group)| (id, self.primary(group).capacity)).collect();
        for (shard, group) in first_placement(cluster.shard_count, &capacities) {
            self.placements.insert(shard, Placement { group, generation: Generation(1) });
        }
    }

    fn put_collection(&mut self, index: u64, name: CollectionName, settings: CollectionSettings) -> Outcome {
        if self.cluster.is_none() {
            return Outcome::Refused(Refusal::NotInitialised);
        }
        let changed_at = CatalogVersion(index);
        let held = self.move_that_holds_collections();
        let Some((id, known)) = self.collections.iter_mut().find(|(_, known)| known.name == name) else {
            if let Some(refusal) = held {
                return Outcome::Refused(refusal);
            }
            let id = CollectionId(index);
            let state = CollectionState::Creating;
            self.collections.insert(id, Collection { name, settings, state, changed_at, settled: false });
            return Outcome::CollectionPut { id, changed_at };
        };
        if known.state == CollectionState::Dropping {
            return Outcome::Refused(Refusal::BeingDropped { name });
        }
        if let Some(field) = fixed_field_that_differs(&known.settings, &settings) {
            return Outcome::Refused(Refusal::SettingsConflict { name, field: field.to_owned() });
        }
        if known.settings != settings {
            if let Some(refusal) = held {
                return Outcome::Refused(refusal);
            }
            known.settings = settings;
            known.changed_at = changed_at;
            known.settled = false;
        }
        Outcome::CollectionPut { id: *id, changed_at: known.changed_at }
    }

    fn drop_collection(&mut self, index: u64, id: CollectionId) -> Outcome {
        let held = self.move_that_holds_collections();
        let Some(known) = self.collections.get_mut(&id) else { return Outcome::Unchanged };
        if known.state != CollectionState::Dropping {
            if let Some(refusal) = held {
                return Outcome::Refused(refusal);
            }
            known.state = CollectionState::Dropping;
            known.changed_at = CatalogVersion(index);
            known.settled = false;
        }
        Outcome::CollectionPut { id, changed_at: known.changed_at }
    }

    fn settle_collection(&mut self, id: CollectionId, changed_at: CatalogVersion) -> Outcome {
        let Some(collection) = self.collections.get_mut(&id) else { return Outcome::Unchanged };
        if collection.changed_at != changed_at || collection.settled {
            return Outcome::Unchanged;
        }
        match collection.state {
            CollectionState::Dropping => {
                self.collections.remove(&id);
            }
            CollectionState::Creating | CollectionState::Active => {
                collection.state = CollectionState::Active;
                collection.settled = true;
            }
        }
        Outcome::Done
    }
}

fn worker_of(worker: RegisterWorker, group: GroupId) -> Worker {
    // Every field is taken apart, so that a new one can't be forgotten here.
    let RegisterWorker { uid, name, group: _, mode, agent_url, postgres, facts, capacity, incarnation: _, follows: _ } =
        worker;
    let (capacity, replaced) = (capacity.max(1), BTreeSet::new());
    Worker { uid, name, group, mode, agent_url, postgres, facts, capacity, replaced }
}

/// The first setting that can't change and differs: tables would have to be written anew.
fn fixed_field_that_differs(known: &CollectionSettings, asked: &CollectionSettings) -> Option<&'static str> {
    let CollectionSettings { dimensions, metric, vector_type, distribution, durability: _, index: _, ttl_seconds: _ } =
        known;
    if *dimensions != asked.dimensions {
        return Some("dimensions");
    }
    if *metric != asked.metric {
        return Some("metric");
    }
    if *vector_type != asked.vector_type {
        return Some("vector_type");
    }
    if *distribution != asked.distribution {
        return Some("distribution");
    }
    None
}

#[cfg(test)]
#[path = "apply_tests.rs"]
mod tests;
