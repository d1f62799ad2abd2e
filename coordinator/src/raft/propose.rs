//! Proposing a change: to this coordinator's own Raft if it leads, else once removed to the leader. While there is no
//! leader the proposal waits for one until its deadline.

use super::node::{CatalogNode, Leader};
use super::types::Raft;
use crate::internal_client::CallError;
use atoll_core::catalog::{Command, CommandEnvelope, Outcome};
use atoll_proto::problem::{Problem, ProblemCode};
use openraft::error::{ClientWriteError, RaftError};
use serde::{Deserialize, Serialize};
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::{Instant, sleep_until, timeout_at};

/// Path on the internal listener: `POST` [`ForwardedCommand`] gives [`Proposed`].
pub const PROPOSE_PATH: &str = "/internal/v1/catalog/propose";

/// Between two attempts, when the leader that was asked is not one any more.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// A command on its way from a follower to the leader.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ForwardedCommand {
    /// The command.
    pub envelope: CommandEnvelope,
    /// How long the follower waits for the answer.
    pub timeout_ms: u64,
}

/// A command that went through the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Proposed {
    /// What became of it.
    pub outcome: Outcome,
    /// Its log entry.
    pub index: u64,
}

/// Why it is not known that a command went through.
#[derive(Debug, thiserror::Error)]
pub enum ProposeError {
    /// No leader until the deadline: it was not done. Try again.
    #[error("the catalog has no leader")]
    NoLeader,
    /// The deadline passed, or a leader was lost, after the command was sent: it may have been done, or be done later.
    #[error("the outcome is unknown: the leader did not answer in time")]
    Deadline,
    /// This coordinator is going down: it was not done.
    #[error("this coordinator is stopping")]
    Stopped,
    /// The leader does not take it, for example because it is of an older version.
    #[error("the leader refused the command")]
    Refused(#[source] Box<Problem>),
}

/// What one attempt came to.
enum Attempt {
    Done(Proposed),
    /// Not done; somebody else leads, or nobody.
    NotLeader,
    /// Nobody knows.
    Unknown,
    Failed(ProposeError),
}

impl CatalogNode {
    /// Proposes a change and waits until this coordinator's view contains it, so that who asked reads it back.
    ///
    /// A command is asked for again if its leader was lost on the way: commands say what should be, so doing one twice is
    /// the same as doing it once; those for which that would not do name the very thing they mean. After a cancelled call, as after [`ProposeError::Deadline`], it may be done or not.
    pub async fn propose(&self, command: Command, deadline: Instant) -> Result<Proposed, ProposeError> {
        let envelope = CommandEnvelope::new(command);
        let mut unknown = false;
        loop {
            if self.metrics().running_state.is_err() {
                return Err(if unknown { ProposeError::Deadline } else { ProposeError::Stopped });
            }
            let Some(leader) = self.leader_by(deadline, |_| true).await else {
                return Err(if unknown { ProposeError::Deadline } else { ProposeError::NoLeader });
            };
            let attempt = tokio::select! {
                biased;
                attempt = self.attempt(&leader, &envelope, deadline) => attempt,
                // One that hangs, or was cut off, may never answer; the others have chosen anew.
                Some(_) = self.leader_by(deadline, |now| *now != leader) => Attempt::Unknown,
            };
            match attempt {
                Attempt::Done(proposed) => {
                    self.reach(proposed.index, deadline).await;
                    return Ok(proposed);
                }
                Attempt::Failed(error) => return Err(error),
                Attempt::NotLeader => {}
                Attempt::Unknown => unknown = true,
            }
            let again = Instant::now() + RETRY_PAUSE;
            if again >= deadline {
                return Err(if unknown { ProposeError::Deadline } else { ProposeError::NoLeader });
            }
            sleep_until(again).await;
        }
    }

    /// Waits until this coordinator has seen every change that was confirmed before: its view may lag behind what a client
    /// was told elsewhere.
    pub async fn catch_up(&self, deadline: Instant) -> Result<(), ProposeError> {
        let index = self.propose(Command::CatchUp, deadline).await?.index;
        if *self.shared().applied.index.borrow() >= index {
            self.shared().caught_up.store(true, Ordering::Release);
        }
        Ok(())
    }

    /// Whether that has succeeded since this coordinator started. Before, it may know nothing of what the others agreed on while it was
    /// away.
    pub fn has_caught_up(&self) -> bool {
        self.shared().caught_up.load(Ordering::Acquire)
    }

    /// A follower's proposal. Not passed on: if this coordinator does not lead, the follower asks again where it should.
    pub async fn propose_forwarded(&self, forwarded: ForwardedCommand) -> Result<Proposed, ProposeError> {
        let deadline = Instant::now() + Duration::from_millis(forwarded.timeout_ms);
        match propose_to(self.raft(), forwarded.envelope, deadline).await {
            Attempt::Done(proposed) => Ok(proposed),
            Attempt::NotLeader => Err(ProposeError::NoLeader),
            Attempt::Unknown => Err(ProposeError::Deadline),
            Attempt::Failed(error) => Err(error),
        }
    }

    /// Waits until the view contains a log entry. Gives up silently at the deadline: the entry is in the log all the same.
    pub async fn reach(&self, index: u64, deadline: Instant) {
        let mut applied = self.shared().applied.index.clone();
        // An error means that the deadline passed or Raft stopped; either way there is nothing to wait for.
        let _ = timeout_at(deadline, applied.wait_for(|applied| *applied >= index)).await;
    }

    async fn attempt(&self, leader: &Leader, envelope: &CommandEnvelope, deadline: Instant) -> Attempt {
        match leader {
            Leader::Here => propose_to(self.raft(), envelope.clone(), deadline).await,
            Leader::There(member) => self.propose_there(&member.internal, envelope, deadline).await,
        }
    }

    async fn propose_there(&self, internal: &str, envelope: &CommandEnvelope, deadline: Instant) -> Attempt {
        let timeout_ms = deadline.saturating_duration_since(Instant::now()).as_millis() as u64;
        let forwarded = ForwardedCommand { envelope: envelope.clone(), timeout_ms };
        match self.client().forward(internal, PROPOSE_PATH, &forwarded, deadline).await {
            Ok(proposed) => Attempt::Done(proposed),
            Err(CallError::Refused { problem, .. }) if problem.code == ProblemCode::NoLeader => Attempt::NotLeader,
            Err(CallError::Refused { problem, .. }) if problem.code == ProblemCode::WriteOutcomeUnknown => {
                Attempt::Unknown
            }
            Err(CallError::Refused { problem, .. }) => Attempt::Failed(ProposeError::Refused(problem)),
            Err(error) if error.may_have_arrived() => Attempt::Unknown,
            Err(_) => Attempt::NotLeader,
        }
    }
}

async fn propose_to(raft: &Raft, envelope: CommandEnvelope, deadline: Instant) -> Attempt {
    match timeout_at(deadline, raft.client_write(envelope)).await {
        Err(_) => Attempt::Unknown,
        Ok(Ok(written)) => Attempt::Done(Proposed { outcome: written.data, index: written.log_id.index }),
        // Also given for an entry that a new leader has overwritten: either way it is not in the log.
        Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_)))) => Attempt::NotLeader,
        Ok(Err(RaftError::APIError(ClientWriteError::ChangeMembershipError(error)))) => {
            unreachable!("a command is no change of membership: {error}")
        }
        // Raft stopped, perhaps after the entry was on its way.
        Ok(Err(RaftError::Fatal(_))) => Attempt::Unknown,
    }
}
