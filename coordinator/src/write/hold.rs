//! Which writes are held while their group is without a primary, and sent again at the next one (`next_primary.rs`).
//!
//! A write that comes while a primary is looked for is held until then, and so is one of which nothing happened, which is sent there; so is
//! one of which nobody knows whether it happened, if it is sent under an `Idempotency-Key`: what was done under the key is found at the new
//! primary, for what was acknowledged is there, and what is not there has not happened. Any other one whose outcome is unknown is told so
//! at once.

use crate::workers::ShardError;

/// Whether a write that failed so can be sent once more without doing harm. `once` says that it happens once however often it is sent.
pub(super) fn can_be_sent_again(error: &ShardError, once: bool) -> bool {
    match error {
        // Stale is also what a server answers that is a standby now.
        ShardError::Unreachable { .. } | ShardError::Stale { .. } => true,
        ShardError::Broken { .. }
        | ShardError::Superseded { .. }
        | ShardError::InDoubt { .. }
        | ShardError::Deadline { .. } => once,
        ShardError::TimedOut { .. }
        | ShardError::Overloaded { .. }
        | ShardError::Fenced { .. }
        | ShardError::Conflict { .. }
        | ShardError::Refused { .. }
        | ShardError::Malformed { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_have_happened_is_sent_again_only_if_it_happens_once() {
        let worker = || "w".to_owned();
        let unreachable = ShardError::Unreachable { worker: worker(), source: Box::new(std::fmt::Error) };
        for error in [unreachable, ShardError::Stale { worker: worker() }] {
            assert!(!error.outcome_unknown() && can_be_sent_again(&error, false) && can_be_sent_again(&error, true));
        }
        let doubtful = [
            ShardError::Superseded { worker: worker() },
            ShardError::InDoubt { worker: worker() },
            ShardError::Deadline { worker: worker() },
        ];
        for error in doubtful {
            assert!(error.outcome_unknown() && !can_be_sent_again(&error, false) && can_be_sent_again(&error, true));
        }
        for error in [ShardError::Overloaded { worker: worker() }, ShardError::Fenced { worker: worker() }] {
            assert!(!can_be_sent_again(&error, true));
        }
    }
}
