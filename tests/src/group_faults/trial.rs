//! What became of one trial of a fault.

use super::clients::{Account, Role, WRITERS};
use super::fault::GroupFault;
use crate::history::{Deed, Operation, Outcome, Violation};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// One trial.
#[derive(Debug)]
pub struct Trial {
    /// What was broken.
    pub fault: GroupFault,
    /// The longest time, from the fault on, in which some writer had no write acknowledged.
    pub gap: Duration,
    /// The longest in which no writer had.
    pub silence: Duration,
    /// Requests that were not answered as they should be, by who asked and what came instead.
    pub failed: BTreeMap<String, usize>,
    /// Acknowledged writes.
    pub acknowledged: usize,
    /// How long after it was mended all was whole again.
    pub whole_after: Option<Duration>,
    /// Whether the group has another primary.
    pub has_failed_over: bool,
    /// Promises that were not kept.
    pub violations: Vec<Violation>,
    /// What did not come to pass in time.
    pub problems: Vec<String>,
    /// What is worth knowing.
    pub notes: Vec<String>,
}

impl Trial {
    /// Whether all was as it must be.
    pub fn is_fine(&self) -> bool {
        self.violations.is_empty() && self.problems.is_empty()
    }
}

impl fmt::Display for Trial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { fault, gap, silence, failed, acknowledged, whole_after, .. } = self;
        let whole = whole_after.map_or("not whole again".to_owned(), |after| format!("whole after {}", seconds(after)));
        let over = if self.has_failed_over { "failed over" } else { "no failover" };
        write!(
            f,
            "{fault:<26} gap {} of a writer, {} of all; {acknowledged} writes acknowledged; {over}, {whole}; failed: {}",
            seconds(*gap),
            seconds(*silence),
            counted(failed),
        )?;
        for note in &self.notes {
            write!(f, "; {note}")?;
        }
        for violation in self.violations.iter().take(10) {
            write!(f, "\n    VIOLATION {violation}")?;
        }
        for problem in &self.problems {
            write!(f, "\n    PROBLEM {problem}")?;
        }
        Ok(())
    }
}

/// Counts by kind, as text.
pub(super) fn counted(counts: &BTreeMap<String, usize>) -> String {
    let counted: Vec<String> = counts.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    if counted.is_empty() { "none".to_owned() } else { counted.join(", ") }
}

/// Seconds, as text.
pub(super) fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

/// What failed of all clients' requests.
pub(super) fn failures(accounts: &[Account]) -> BTreeMap<String, usize> {
    let mut failed = BTreeMap::new();
    for Account { role, failed: of_one, .. } in accounts {
        let of = match role {
            Role::Writer => "of writers",
            Role::Searcher => "of eventual searches",
            Role::Reader => "of the session",
        };
        for (kind, count) in of_one {
            *failed.entry(format!("{kind} {of}")).or_default() += count;
        }
    }
    failed
}

/// When writes were acknowledged, of each writer.
pub(super) fn acknowledged(history: &[Operation]) -> Vec<Vec<Duration>> {
    let mut ends = vec![Vec::new(); WRITERS];
    for Operation { session, ended, deed, .. } in history {
        if let Deed::Write(write) = deed
            && matches!(write.outcome, Outcome::Done(_))
            && let Some(ends) = ends.get_mut(*session as usize)
        {
            ends.push(*ended);
        }
    }
    ends
}

/// The longest time between two of these that ends after `from`.
pub(super) fn longest_gap(mut ends: Vec<Duration>, from: Duration) -> Duration {
    ends.sort();
    let gaps = ends.windows(2).filter(|pair| pair[1] > from).map(|pair| pair[1] - pair[0]);
    gaps.max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_counts_if_it_ends_after_the_fault() {
        let at = |seconds: &[u64]| seconds.iter().map(|second| Duration::from_secs(*second)).collect::<Vec<_>>();
        let gap = |ends: &[u64], from| longest_gap(at(ends), Duration::from_secs(from)).as_secs();
        assert_eq!(gap(&[20, 1, 11, 13], 12), 7);
        assert_eq!(gap(&[1, 11, 13], 12), 2);
        assert_eq!(gap(&[1, 11, 13], 10), 10, "it lasted when the fault came");
        assert_eq!(gap(&[1], 0), 0);
    }
}
