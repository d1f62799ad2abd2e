//! A plan that is being carried out: what the catalog keeps of it, and which of its moves is begun next.
//!
//! The record alone says what is to be done, so a leader that knows nothing goes on where another one ended. A move that fails is
//! noted, and the others go on: each makes the balance better by itself. After [`FAILURES_MAX`] failures the run pauses, for then
//! something is wrong that the next moves would meet too.

use super::ShardMove;
use atoll_proto::rebalance::{RunState, SkipReason};
use atoll_proto::{CatalogVersion, MoveId, ShardId};
use serde::{Deserialize, Serialize};

/// Moves that may fail, since the run began or was resumed, before it pauses.
pub const FAILURES_MAX: u32 = 3;

/// One carrying out of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RebalanceRun {
    /// The plan: asked for twice, it is one run.
    pub plan_id: String,
    /// The entry that began it.
    pub began_at: CatalogVersion,
    /// Moves that may be under way at a time.
    pub parallel: u32,
    /// What was asked for last.
    pub wish: Wish,
    /// Moves that failed since it began or was resumed.
    pub failures: u32,
    /// The plan's moves, in their order.
    pub moves: Vec<RunMove>,
    /// While the schedule has it in hand; none if somebody began it, or has steered it since, or it paused by itself.
    #[serde(default)]
    pub scheduled: Option<Scheduled>,
}

/// A run that the schedule began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scheduled {
    /// When it begins no more moves until the next time of the schedule, in seconds since 1970; none if it goes on to the end.
    pub until_s: Option<i64>,
}

/// What somebody wants of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wish {
    /// That it goes on.
    Run,
    /// That it begins nothing more for now.
    Pause,
    /// That it begins nothing more at all, and that moves under way go back if they can.
    Cancel,
}

/// One move of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunMove {
    /// What moves where.
    #[serde(flatten)]
    pub planned: ShardMove,
    /// What became of it.
    pub fate: Fate,
}

/// What became of a planned move.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// It is not begun.
    Waiting,
    /// It is under way.
    UnderWay(MoveId),
    /// The shard has moved.
    Moved(MoveId),
    /// The shard is where it was, because somebody wanted that.
    Cancelled(MoveId),
    /// The shard is where it was, because of an error.
    Failed(MoveId, String),
    /// It could not be begun.
    Skipped(SkipReason),
}

impl RebalanceRun {
    /// The move to begin now, by its place in the plan; none while it is not the time for one.
    pub fn next(&self) -> Option<usize> {
        if self.wish != Wish::Run || self.under_way().count() >= self.parallel as usize {
            return None;
        }
        // A shard may move twice, the second time once it has arrived.
        let moving = |shard: ShardId| self.under_way().any(|(_, other)| other == shard);
        let waits = |one: &RunMove| one.fate == Fate::Waiting && !moving(one.planned.shard);
        self.moves.iter().position(waits)
    }

    /// Moves under way, and their shards.
    pub fn under_way(&self) -> impl Iterator<Item = (MoveId, ShardId)> {
        self.moves.iter().filter_map(|one| match one.fate {
            Fate::UnderWay(id) => Some((id, one.planned.shard)),
            Fate::Waiting | Fate::Moved(_) | Fate::Cancelled(_) | Fate::Failed(..) | Fate::Skipped(_) => None,
        })
    }

    /// Where it stands.
    pub fn state(&self) -> RunState {
        let goes_on = self.under_way().next().is_some();
        let waits = self.moves.iter().any(|one| one.fate == Fate::Waiting);
        match self.wish {
            Wish::Cancel if goes_on => RunState::Cancelling,
            Wish::Cancel => RunState::Cancelled,
            Wish::Run | Wish::Pause if !goes_on && !waits => RunState::Done,
            Wish::Run => RunState::Running,
            Wish::Pause => RunState::Paused,
        }
    }

    /// Whether it has not ended.
    pub fn is_open(&self) -> bool {
        match self.state() {
            RunState::Running | RunState::Paused | RunState::Cancelling => true,
            RunState::None | RunState::Done | RunState::Cancelled => false,
        }
    }

    /// Whether it waits for the next time of the schedule.
    pub fn is_held(&self) -> bool {
        self.scheduled.is_some() && self.wish == Wish::Pause && self.is_open()
    }

    /// Notes how a move of it ended; nothing if the move is none of its own.
    pub fn note_end(&mut self, id: MoveId, fate: Fate) {
        let Some(one) = self.moves.iter_mut().find(|one| one.fate == Fate::UnderWay(id)) else { return };
        if matches!(fate, Fate::Failed(..)) {
            self.failures += 1;
        }
        one.fate = fate;
        if self.wish == Wish::Run && self.failures >= FAILURES_MAX {
            self.wish = Wish::Pause;
            self.scheduled = None;
        }
    }
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
