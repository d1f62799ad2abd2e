//! What became of all trials of a fault.

use super::fault::GroupFault;
use super::trial::{Trial, counted, seconds};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// Trials of one fault, summed up.
#[derive(Debug)]
pub struct Tally {
    fault: GroupFault,
    trials: usize,
    /// Longest gaps of a writer, of all writers, and times until all was whole, in order.
    gaps: Vec<Duration>,
    silences: Vec<Duration>,
    wholes: Vec<Duration>,
    failovers: usize,
    failed: BTreeMap<String, usize>,
    acknowledged: usize,
    violations: usize,
    problems: usize,
}

impl Tally {
    /// Of these trials, which are of this fault.
    pub fn of<'a>(fault: GroupFault, trials: impl Iterator<Item = &'a Trial>) -> Self {
        let mut tally = Self {
            fault,
            trials: 0,
            gaps: Vec::new(),
            silences: Vec::new(),
            wholes: Vec::new(),
            failovers: 0,
            failed: BTreeMap::new(),
            acknowledged: 0,
            violations: 0,
            problems: 0,
        };
        for trial in trials.filter(|trial| trial.fault == fault) {
            tally.trials += 1;
            tally.gaps.push(trial.gap);
            tally.silences.push(trial.silence);
            tally.wholes.extend(trial.whole_after);
            tally.failovers += usize::from(trial.has_failed_over);
            for (kind, count) in &trial.failed {
                *tally.failed.entry(kind.clone()).or_default() += count;
            }
            tally.acknowledged += trial.acknowledged;
            tally.violations += trial.violations.len();
            tally.problems += trial.problems.len();
        }
        for times in [&mut tally.gaps, &mut tally.silences, &mut tally.wholes] {
            times.sort();
        }
        tally
    }

    /// Whether writers waited longer than is wanted.
    pub fn misses_its_bar(&self) -> bool {
        let longer = |bar: super::fault::Bar| median(&self.gaps) > bar.median || worst(&self.gaps) > bar.worst;
        self.fault.bar().is_some_and(longer)
    }

    /// The same for programs.
    pub fn as_json(&self) -> Value {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let both = |times: &[Duration]| json!({"median_ms": ms(median(times)), "worst_ms": ms(worst(times))});
        let bar = self.fault.bar();
        json!({
            "fault": self.fault.to_string(),
            "trials": self.trials,
            "gap": both(&self.gaps),
            "gap_of_all_writers": both(&self.silences),
            "bar": bar.map(|bar| json!({"median_ms": ms(bar.median), "worst_ms": ms(bar.worst)})),
            "misses_its_bar": self.misses_its_bar(),
            "failovers": self.failovers,
            "whole_again": self.wholes.len(),
            "whole_after": both(&self.wholes),
            "failed": self.failed,
            "acknowledged": self.acknowledged,
            "violations": self.violations,
            "problems": self.problems,
        })
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let both = |times: &[Duration]| format!("{} / {}", seconds(median(times)), seconds(worst(times)));
        let bar = match self.fault.bar() {
            Some(bar) => {
                let missed = if self.misses_its_bar() { "MISSED" } else { "kept" };
                format!("bar {} / {} {missed}", seconds(bar.median), seconds(bar.worst))
            }
            None => "no bar".to_owned(),
        };
        write!(
            f,
            "{:<26} {} trials, gap {} ({bar}), of all writers {}, {} failovers, whole {} times after {}, \
             {} violations, {} problems; failed: {}",
            self.fault,
            self.trials,
            both(&self.gaps),
            both(&self.silences),
            self.failovers,
            self.wholes.len(),
            both(&self.wholes),
            self.violations,
            self.problems,
            counted(&self.failed),
        )
    }
}

/// Of times in order; of an even number the later one of the two in the middle.
fn median(times: &[Duration]) -> Duration {
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn worst(times: &[Duration]) -> Duration {
    times.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group_faults::fault::{Blow, Part, Victim};

    fn trial(gap_ms: u64) -> Trial {
        Trial {
            fault: GroupFault::Break(Victim::Primary(Part::Host), Blow::Kill),
            gap: Duration::from_millis(gap_ms),
            silence: Duration::ZERO,
            failed: BTreeMap::from([("504".to_owned(), 2)]),
            acknowledged: 10,
            whole_after: Some(Duration::from_secs(1)),
            has_failed_over: true,
            violations: Vec::new(),
            problems: Vec::new(),
            notes: Vec::new(),
        }
    }

    #[test]
    fn a_bar_is_missed_by_the_median_or_by_the_worst() {
        let fault = trial(0).fault;
        let of = |gaps: &[u64]| Tally::of(fault, gaps.iter().map(|gap| trial(*gap)).collect::<Vec<_>>().iter());
        assert!(!of(&[900, 2_000, 100]).misses_its_bar());
        assert!(of(&[900, 2_001, 100]).misses_its_bar());
        assert!(of(&[1_001, 1_002, 100]).misses_its_bar());
        let told = of(&[900, 100]).as_json();
        assert_eq!((&told["gap"]["median_ms"], &told["failed"]["504"]), (&json!(900), &json!(4)));
        let others = [trial(1)];
        assert_eq!(Tally::of(GroupFault::RollingRestart, others.iter()).as_json()["trials"], 0);
    }
}
