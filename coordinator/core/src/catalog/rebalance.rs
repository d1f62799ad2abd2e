//! Commands about carrying plans out.

use super::{Catalog, Outcome, Refusal};
use crate::moves::MoveJob;
use crate::rebalance::{Fate, RebalanceRun, RunMove, ShardMove, Wish};
use atoll_proto::moves::{MovePhase, WRITE_PAUSE_MS};
use atoll_proto::rebalance::SkipReason;
use atoll_proto::{CatalogVersion, MoveId};

impl Catalog {
    pub(super) fn apply_plan(
        &mut self,
        index: u64,
        plan_id: String,
        planned_at: CatalogVersion,
        parallel: u32,
        moves: Vec<ShardMove>,
    ) -> Outcome {
        if let Some(run) = &self.rebalance {
            if run.plan_id == plan_id {
                return Outcome::Unchanged;
            }
            if run.is_open() {
                return Outcome::Refused(Refusal::RebalanceInProgress { plan_id: run.plan_id.clone() });
            }
        }
        let changed_at = self.layout_changed_at();
        if changed_at > planned_at {
            return Outcome::Refused(Refusal::StalePlan { planned_at, changed_at });
        }
        let moves = moves.into_iter().map(|planned| RunMove { planned, fate: Fate::Waiting }).collect();
        let began_at = CatalogVersion(index);
        self.rebalance = Some(RebalanceRun {
            plan_id,
            began_at,
            parallel: parallel.max(1),
            wish: Wish::Run,
            failures: 0,
            moves,
            scheduled: None,
        });
        Outcome::Done
    }

    pub(super) fn begin_planned_move(&mut self, index: u64, run_began_at: CatalogVersion, place: usize) -> Outcome {
        // Whoever decided this may have seen an older record.
        let run = self.rebalance.as_ref().filter(|run| run.began_at == run_began_at && run.next() == Some(place));
        let Some(run) = run else { return Outcome::Unchanged };
        let ShardMove { shard, from, to } = run.moves[place].planned;
        let token = format!("{} {place}", run.plan_id);
        let outcome = match self.placements.get(&shard) {
            Some(placement) if placement.group == from => self.start_move(index, token, shard, to, WRITE_PAUSE_MS),
            Some(_) | None => Outcome::Refused(Refusal::NoSuchShard { shard }),
        };
        let (fate, outcome) = if let Outcome::MoveStarted { id } = outcome {
            (Fate::UnderWay(id), outcome)
        } else if let Outcome::Refused(refusal) = outcome {
            (Fate::Skipped(skip_reason(&refusal)), Outcome::Done)
        } else {
            return outcome;
        };
        if let Some(run) = &mut self.rebalance {
            run.moves[place].fate = fate;
        }
        outcome
    }

    pub(super) fn steer_rebalance(&mut self, index: u64, wish: Wish) -> Outcome {
        let Some(run) = self.rebalance.as_mut().filter(|run| run.is_open()) else {
            return Outcome::Refused(Refusal::NoRebalance);
        };
        if run.wish == Wish::Cancel && wish != Wish::Cancel {
            return Outcome::Refused(Refusal::NoRebalance);
        }
        // Somebody has taken it in hand: the schedule neither holds it nor lets it go on any more.
        let was_scheduled = run.scheduled.take().is_some();
        if run.wish == wish {
            return if was_scheduled { Outcome::Done } else { Outcome::Unchanged };
        }
        (run.wish, run.failures) = (wish, 0);
        if wish == Wish::Cancel {
            let under_way: Vec<MoveId> = run.under_way().map(|(id, _)| id).collect();
            for id in under_way {
                // One whose target owns the shard already just ends.
                self.cancel_move(index, id);
            }
        }
        Outcome::Done
    }

    /// Notes in the run that a move of it is over.
    pub(super) fn note_in_run(&mut self, id: MoveId, job: &MoveJob) {
        let fate = match job.phase {
            MovePhase::Done => Fate::Moved(id),
            MovePhase::Cancelled => Fate::Cancelled(id),
            MovePhase::Failed => Fate::Failed(id, job.error.clone().unwrap_or_default()),
            MovePhase::Planned
            | MovePhase::Preparing
            | MovePhase::Copying
            | MovePhase::Indexing
            | MovePhase::CatchingUp
            | MovePhase::Verifying
            | MovePhase::Fencing
            | MovePhase::Switching
            | MovePhase::Cleaning
            | MovePhase::Cancelling => return,
        };
        if let Some(run) = &mut self.rebalance {
            run.note_end(id, fate);
        }
    }

    /// The entry that last changed what plans are made from: placements change with moves, the first ones with a group.
    fn layout_changed_at(&self) -> CatalogVersion {
        let moves = self.moves.values().map(|job| job.changed_at);
        let groups = self.groups.iter().map(|(id, group)| CatalogVersion(id.0).max(group.state_changed_at));
        let removed = self.removed_groups.values().map(|group| group.removed_at);
        moves.chain(groups).chain(removed).max().unwrap_or(CatalogVersion(0))
    }
}

fn skip_reason(refusal: &Refusal) -> SkipReason {
    match refusal {
        Refusal::MoveInProgress { .. } | Refusal::MoveLeftThings { .. } => SkipReason::OtherMove,
        Refusal::Ephemeral { .. } => SkipReason::Ephemeral,
        Refusal::GroupDraining { .. } | Refusal::NoSuchGroup { .. } => SkipReason::NoTaker,
        Refusal::NoSuchShard { .. }
        | Refusal::OwnsAlready { .. }
        | Refusal::WorkerRemoved { .. }
        | Refusal::LastActiveGroup { .. }
        | Refusal::GroupNotDraining { .. }
        | Refusal::GroupHoldsShards { .. }
        | Refusal::GroupHasMove { .. }
        | Refusal::OnlyWholeCopy { .. }
        | Refusal::AlreadyInitialised { .. }
        | Refusal::NotInitialised
        | Refusal::NameTaken { .. }
        | Refusal::Replaced { .. }
        | Refusal::GroupTaken { .. }
        | Refusal::GroupFull { .. }
        | Refusal::KnowsNoGroups { .. }
        | Refusal::OtherData { .. }
        | Refusal::OtherGroup { .. }
        | Refusal::SettingsConflict { .. }
        | Refusal::BeingDropped { .. }
        | Refusal::NoSuchMove { .. }
        | Refusal::TooLateToCancel { .. }
        | Refusal::RebalanceInProgress { .. }
        | Refusal::StalePlan { .. }
        | Refusal::NoRebalance
        | Refusal::KeyNotValid
        | Refusal::FirstKeyNotAdmin
        | Refusal::LastAdminKey { .. }
        | Refusal::LastKey { .. }
        | Refusal::NoSuchKey { .. }
        | Refusal::KeyTaken { .. }
        | Refusal::TooManyKeys => SkipReason::Elsewhere,
    }
}

#[cfg(test)]
#[path = "rebalance_tests.rs"]
mod tests;
