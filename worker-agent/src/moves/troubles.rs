//! When a subscription is beyond hope: it met many errors, or heard nothing for long, since it last got anywhere. One that fails and
//! comes round, again and again over a long copy, is not.

use super::mover::MoveError;
use crate::pg::moving::copy::Standing;
use std::time::{Duration, Instant};

/// Errors that pass by themselves, such as while the source starts again, are fewer: a subscription tries once a second.
const ERRORS_MAX: u64 = 100;
/// A source that starts again is heard of sooner. A slot that was lost is never heard of, and counts as no error. What was heard of two
/// minutes ago is not unheard yet.
const UNHEARD_MAX: Duration = Duration::from_secs(180);

/// What a subscription went through since it last got anywhere.
#[derive(Debug, Default)]
pub(super) struct Troubles {
    /// Tables left to copy, and the last marker.
    reached: Option<(u64, u64)>,
    /// Errors when it got there.
    errors_before: u64,
    unheard_since: Option<Instant>,
}

impl Troubles {
    /// What keeps it, for people; an error where waiting longer is of no use.
    pub(super) fn judge(
        &mut self,
        standing: &Standing,
        marker: u64,
        now: Instant,
    ) -> Result<Option<String>, MoveError> {
        let reached = Some((standing.tables_left, marker));
        // Fewer errors than before: the server counts anew after a crash.
        if self.reached != reached || standing.errors < self.errors_before {
            *self = Self { reached, errors_before: standing.errors, unheard_since: None };
        }
        let errors = standing.errors - self.errors_before;
        let told = format!("the subscription met {errors} errors; see the target's PostgreSQL log");
        if errors > ERRORS_MAX {
            return Err(MoveError::NotReady { reason: told });
        }
        if standing.is_heard {
            self.unheard_since = None;
        } else if now.duration_since(*self.unheard_since.get_or_insert(now)) > UNHEARD_MAX {
            let reason = "the subscription has received nothing for minutes; see the logs of both PostgreSQL servers";
            return Err(MoveError::NotReady { reason: reason.to_owned() });
        }
        Ok((errors > 0).then_some(told))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn standing(tables_left: u64, errors: u64) -> Standing {
        Standing { tables_left, errors, is_heard: true }
    }

    #[test]
    fn errors_count_until_it_gets_on() {
        let (mut troubles, now) = (Troubles::default(), Instant::now());
        assert_eq!(troubles.judge(&standing(3, 70), 0, now).unwrap(), None, "of before it was looked at");
        let told = troubles.judge(&standing(3, 170), 0, now).unwrap().unwrap();
        assert!(told.contains("met 100 errors"), "{told}");
        assert!(troubles.judge(&standing(3, 171), 0, now).is_err());
        assert_eq!(troubles.judge(&standing(2, 171), 0, now).unwrap(), None, "a table was copied");
        assert!(troubles.judge(&standing(2, 272), 0, now).is_err());
        assert_eq!(troubles.judge(&standing(2, 272), 1, now).unwrap(), None, "a marker came");
        assert_eq!(troubles.judge(&standing(2, 5), 1, now).unwrap(), None, "counted anew");
        assert!(troubles.judge(&standing(2, 106), 1, now).is_err());
    }

    #[test]
    fn silence_is_borne_for_a_while() {
        let (mut troubles, began) = (Troubles::default(), Instant::now());
        let silent = Standing { is_heard: false, ..standing(0, 0) };
        assert!(troubles.judge(&silent, 4, began).is_ok());
        assert!(troubles.judge(&silent, 4, began + UNHEARD_MAX).is_ok());
        assert!(troubles.judge(&silent, 4, began + UNHEARD_MAX + Duration::from_secs(1)).is_err());
        assert!(troubles.judge(&standing(0, 0), 4, began + UNHEARD_MAX * 2).is_ok());
        assert!(troubles.judge(&silent, 4, began + UNHEARD_MAX * 3).is_ok(), "heard of meanwhile");
    }
}
