//! When a plan is made and carried out by itself. Time comes in as a value.
//!
//! Each time of the schedule is dealt with once: the catalog keeps up to which one that was done, whoever led. A time at which nobody
//! led is passed over: a leader that comes later than [`LATE_SECONDS_MAX`] waits for the next one. So is one at which a plan is
//! being carried out already, except that a run which the end of its window holds goes on.

use super::RebalanceRun;
use crate::catalog::KeptSchedule;
use atoll_proto::CatalogVersion;
use cronexpr::{Crontab, FallbackTimezoneOption, MakeTimestamp, ParseOptions};

/// A leader may be elected, or wait for what agents say, this long after a time of the schedule.
pub const LATE_SECONDS_MAX: i64 = 300;

/// Times at which something is due, in UTC, as cron writes them.
#[derive(Debug, Clone)]
pub struct Schedule(Crontab);

/// Why a text is no schedule.
#[derive(Debug, thiserror::Error)]
pub enum ScheduleError {
    /// Not five fields.
    #[error("a schedule has five fields, {given} given: minute, hour, day of the month, month, day of the week (UTC)")]
    Fields {
        /// How many there are.
        given: usize,
    },
    /// A field is wrong.
    #[error("it is no schedule as cron has them: {reason}")]
    Field {
        /// What is wrong.
        reason: String,
    },
}

impl Schedule {
    /// Reads a schedule of five fields.
    pub fn parse(text: &str) -> Result<Self, ScheduleError> {
        let fields: Vec<&str> = text.split_whitespace().collect();
        // A sixth one would be a time zone.
        if fields.len() != 5 {
            return Err(ScheduleError::Fields { given: fields.len() });
        }
        let mut options = ParseOptions::default();
        options.fallback_timezone_option = FallbackTimezoneOption::UTC;
        let parsed = cronexpr::parse_crontab_with(&fields.join(" "), options);
        // It draws the place of the mistake over several lines: the last one says what it is.
        let reason = |text: String| text.lines().last().unwrap_or_default().trim_matches([' ', '^']).to_owned();
        parsed.map(Self).map_err(|error| ScheduleError::Field { reason: reason(error.to_string()) })
    }

    /// The first time after one, in seconds since 1970; none if there is none within four years.
    pub fn next_after(&self, after_s: i64) -> Option<i64> {
        let next = self.0.find_next(MakeTimestamp::from_second(after_s).ok()?).ok()?;
        Some(next.timestamp().as_second())
    }
}

/// What the schedule wants of the leader now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// A time has come.
    Time {
        /// The time, in seconds since 1970.
        due_s: i64,
        /// Whether a plan is to be made; else a run that is open goes on, held or not.
        plans: bool,
    },
    /// A run that the schedule began has had its time.
    Hold {
        /// The entry that began it.
        run_began_at: CatalogVersion,
        /// When its time was over, in seconds since 1970.
        until_s: i64,
    },
}

/// What is due at `now_s`, in seconds since 1970; none if nothing is.
pub fn due(kept: Option<&KeptSchedule>, run: Option<&RebalanceRun>, now_s: i64) -> Option<Due> {
    let run = run.filter(|run| run.is_open());
    // Held first: where windows touch, the time that has come lets it go on.
    run.and_then(|run| hold(run, now_s)).or_else(|| time(kept, run, now_s))
}

fn time(kept: Option<&KeptSchedule>, run: Option<&RebalanceRun>, now_s: i64) -> Option<Due> {
    let kept = kept.filter(|kept| kept.policy.enabled)?;
    let schedule = Schedule::parse(&kept.policy.schedule).ok()?;
    // One second more: what is exactly that late still counts.
    let due_s = schedule.next_after(kept.seen_until_s.max(now_s - LATE_SECONDS_MAX - 1))?;
    (due_s <= now_s).then_some(Due::Time { due_s, plans: run.is_none() })
}

/// Also while no policy is enabled any more: its runs end as they were begun.
fn hold(run: &RebalanceRun, now_s: i64) -> Option<Due> {
    let until_s = run.scheduled?.until_s.filter(|until_s| *until_s <= now_s && !run.is_held())?;
    Some(Due::Hold { run_began_at: run.began_at, until_s })
}

#[cfg(test)]
#[path = "schedule_tests.rs"]
mod tests;
