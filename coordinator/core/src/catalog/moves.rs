//! Commands about moves.

use super::{Catalog, Outcome, Placement, Refusal};
use crate::moves::{Advance, Cleanup, MoveJob};
use atoll_proto::admin::GroupState;
use atoll_proto::moves::MovePhase;
use atoll_proto::{CatalogVersion, Distribution, Durability, Generation, GroupId, MoveId, ShardId};
use std::collections::BTreeSet;

/// Moves that are over and kept to be shown.
const KEPT_MAX: usize = 200;

impl Catalog {
    pub(super) fn start_move(
        &mut self,
        index: u64,
        token: String,
        shard: ShardId,
        to: GroupId,
        max_write_pause_ms: u32,
    ) -> Outcome {
        if let Some((id, _)) = self.moves.iter().find(|(_, job)| job.token == token) {
            return Outcome::MoveStarted { id: *id };
        }
        let Some(placement) = self.placements.get(&shard).copied() else {
            return Outcome::Refused(Refusal::NoSuchShard { shard });
        };
        let Some(taker) = self.groups.get(&to) else {
            return Outcome::Refused(Refusal::NoSuchGroup { group: to.to_string() });
        };
        if placement.group == to {
            return Outcome::Refused(Refusal::OwnsAlready { shard, group: taker.name.to_string() });
        }
        if taker.state == GroupState::Draining {
            return Outcome::Refused(Refusal::GroupDraining { group: taker.name.to_string() });
        }
        if let Some((id, job)) = self.moves.iter().find(|(_, job)| job.shard == shard && job.is_open()) {
            return Outcome::Refused(match job.phase.is_over() {
                false => Refusal::MoveInProgress { id: *id, shard },
                true => Refusal::MoveLeftThings { id: *id, shard },
            });
        }
        if let Some(name) = self.ephemeral_collection() {
            return Outcome::Refused(Refusal::Ephemeral { name });
        }
        // Greater than any that a move of this shard was ever given, also one that came to nothing.
        let given = self.moves.values().filter(|job| job.shard == shard).map(|job| job.target_generation);
        let last = given.chain([placement.generation]).max().unwrap_or(placement.generation);
        let job = MoveJob {
            token,
            shard,
            from: placement.group,
            to,
            source_generation: placement.generation,
            target_generation: Generation(last.0 + 1),
            phase: MovePhase::Planned,
            changed_at: CatalogVersion(index),
            max_write_pause_ms,
            verified: false,
            attempts: 0,
            write_pause_ms: None,
            rows: None,
            subscription: None,
            error: None,
            cleanups: BTreeSet::new(),
        };
        self.moves.insert(MoveId(index), job);
        self.forget_old_moves();
        Outcome::MoveStarted { id: MoveId(index) }
    }

    pub(super) fn advance_move(
        &mut self,
        index: u64,
        id: MoveId,
        decided_at: CatalogVersion,
        to: MovePhase,
        brings: Advance,
    ) -> Outcome {
        let Some(job) = self.moves.get(&id) else { return Outcome::Unchanged };
        let may_begin = to != MovePhase::Preparing || self.unsettled().next().is_none();
        if job.changed_at != decided_at || !may_begin {
            return Outcome::Unchanged;
        }
        let Some(next) = job.advanced(to, CatalogVersion(index), brings) else { return Outcome::Unchanged };
        if to == MovePhase::Switching {
            self.placements.insert(next.shard, Placement { group: next.to, generation: next.target_generation });
        }
        self.note_in_run(id, &next);
        self.moves.insert(id, next);
        Outcome::Done
    }

    pub(super) fn cancel_move(&mut self, index: u64, id: MoveId) -> Outcome {
        let Some(job) = self.moves.get(&id) else { return Outcome::Refused(Refusal::NoSuchMove { id }) };
        if matches!(job.phase, MovePhase::Cancelling | MovePhase::Cancelled) {
            return Outcome::Unchanged;
        }
        match job.advanced(MovePhase::Cancelling, CatalogVersion(index), Advance::default()) {
            Some(next) => {
                self.moves.insert(id, next);
                Outcome::Done
            }
            None => Outcome::Refused(Refusal::TooLateToCancel { id, phase: job.phase }),
        }
    }

    /// Gives up what moves have begun on a group that gets another primary: slots, subscriptions and what was applied without waiting
    /// are where the one before was. A move that has switched goes on: what it still needs was acknowledged by standbys too.
    pub(super) fn give_up_moves_of(&mut self, index: u64, group: GroupId) {
        let name = self.group_name(group);
        let has_begun = |job: &MoveJob| job.phase.may_be_cancelled() && job.phase != MovePhase::Planned;
        let concerned = |job: &MoveJob| [job.from, job.to].contains(&group) && has_begun(job);
        for (_, job) in self.moves.iter_mut().filter(|(_, job)| concerned(job)) {
            let error = Some(format!("group {name} got another primary meanwhile; start the move again"));
            let brings = Advance { error, ..Advance::default() };
            if let Some(next) = job.advanced(MovePhase::Cancelling, CatalogVersion(index), brings) {
                *job = next;
            }
        }
    }

    pub(super) fn note_cleaned(&mut self, id: MoveId, decided_at: CatalogVersion, cleanup: Cleanup) -> Outcome {
        let Some(job) = self.moves.get_mut(&id).filter(|job| job.changed_at == decided_at) else {
            return Outcome::Unchanged;
        };
        if job.cleanups.remove(&cleanup) { Outcome::Done } else { Outcome::Unchanged }
    }

    /// The move of a shard that is under way.
    pub fn move_of(&self, shard: ShardId) -> Option<(MoveId, &MoveJob)> {
        let under_way = |(_, job): &(&MoveId, &MoveJob)| job.shard == shard && !job.phase.is_over();
        self.moves.iter().find(under_way).map(|(id, job)| (*id, job))
    }

    /// The move that keeps collections from changing.
    pub(super) fn move_that_holds_collections(&self) -> Option<Refusal> {
        let (id, job) = self.moves.iter().find(|(_, job)| job.holds_collections())?;
        Some(Refusal::MoveInProgress { id: *id, shard: job.shard })
    }

    fn ephemeral_collection(&self) -> Option<atoll_proto::CollectionName> {
        let ephemeral = |collection: &&super::Collection| {
            collection.settings.distribution == Distribution::Hash
                && collection.settings.durability == Durability::Ephemeral
        };
        self.collections.values().find(ephemeral).map(|collection| collection.name.clone())
    }

    fn forget_old_moves(&mut self) {
        let over: Vec<MoveId> = self.moves.iter().filter(|(_, job)| !job.is_open()).map(|(id, _)| *id).collect();
        for id in over.iter().take(over.len().saturating_sub(KEPT_MAX)) {
            self.moves.remove(id);
        }
    }
}
