//! Which standbys have lost their connection to the primary, and since when, by their own word.

use super::step::{Heard, says_that_it_follows};
use atoll_proto::Generation;
use atoll_proto::WorkerId;
use atoll_proto::group::{Disk, GroupRecord};
use std::collections::BTreeMap;

/// Standbys that were connected at the record's generation and have been heard ever since.
#[derive(Debug, Default)]
pub struct CutOff {
    /// Whose primary those below have followed.
    about: Option<(Disk, Generation)>,
    /// Since when each has had no connection, in milliseconds of the caller's clock; none while it has one.
    since: BTreeMap<Disk, Option<u64>>,
}

impl CutOff {
    /// Takes in what was heard. One that says nothing new or does something else has to be connected again before it counts.
    pub fn look(&mut self, record: &GroupRecord, heard: &BTreeMap<WorkerId, Heard>, now_ms: u64) {
        let about = Some((record.primary, record.generation));
        if self.about != about {
            (self.about, self.since) = (about, BTreeMap::new());
        }
        let follower = |disk: &Disk| heard.get(&disk.worker).filter(|heard| says_that_it_follows(record, heard));
        self.since.retain(|disk, _| follower(disk).is_some_and(|heard| heard.report.disk == *disk));
        for Heard { report, age_ms: _ } in heard.values().filter(|heard| says_that_it_follows(record, heard)) {
            match (report.cut, self.since.get_mut(&report.disk)) {
                (true, Some(since)) => *since = Some(since.unwrap_or(now_ms)),
                (true, None) => {}
                (false, _) => {
                    self.since.insert(report.disk, None);
                }
            }
        }
    }

    /// For how long each has had no connection, in milliseconds.
    pub fn ms(&self, now_ms: u64) -> BTreeMap<Disk, u64> {
        let cut = self.since.iter().filter_map(|(disk, since)| Some((*disk, now_ms.saturating_sub((*since)?))));
        cut.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{disk, report};
    use super::*;
    use atoll_proto::CatalogVersion;
    use atoll_proto::group::{Report, Server};

    fn record() -> GroupRecord {
        let founded = GroupRecord::founded(disk(1), (1..=3).map(WorkerId).collect(), 2, CatalogVersion(5));
        GroupRecord { generation: Generation(4), ..founded }
    }

    fn heard(said: Report, age_ms: u64) -> BTreeMap<WorkerId, Heard> {
        BTreeMap::from([(said.disk.worker, Heard { report: said, age_ms })])
    }

    fn follows(cut: bool) -> Report {
        Report { cut, ..report(2, Server::Following { worker: WorkerId(1) }, (4, 9)) }
    }

    #[test]
    fn it_counts_from_when_a_connection_was_lost() {
        let (record, mut cut_off) = (record(), CutOff::default());
        cut_off.look(&record, &heard(follows(false), 0), 1_000);
        assert!(cut_off.ms(2_000).is_empty(), "it is connected");
        cut_off.look(&record, &heard(follows(true), 0), 2_000);
        cut_off.look(&record, &heard(follows(true), 0), 2_500);
        assert_eq!(cut_off.ms(3_000), BTreeMap::from([(disk(2), 1_000)]));
        cut_off.look(&record, &heard(follows(false), 0), 3_000);
        assert!(cut_off.ms(4_000).is_empty(), "it is connected again");
    }

    #[test]
    fn one_that_was_not_connected_or_not_heard_meanwhile_does_not_count() {
        let stopped = report(2, Server::Stopped { standby: true }, (4, 9));
        let other_primary = report(2, Server::Following { worker: WorkerId(3) }, (4, 9));
        for between in [heard(stopped, 0), heard(other_primary, 0), heard(follows(true), 2_000), BTreeMap::new()] {
            let (record, mut cut_off) = (record(), CutOff::default());
            cut_off.look(&record, &heard(follows(true), 0), 500);
            assert!(cut_off.ms(9_000).is_empty(), "it never was");
            cut_off.look(&record, &heard(follows(false), 0), 1_000);
            cut_off.look(&record, &between, 2_000);
            cut_off.look(&record, &heard(follows(true), 0), 3_000);
            assert!(cut_off.ms(9_000).is_empty(), "{between:?}");
        }
    }

    #[test]
    fn another_generation_begins_anew() {
        let (record, mut cut_off) = (record(), CutOff::default());
        cut_off.look(&record, &heard(follows(false), 0), 1_000);
        let next = GroupRecord { generation: Generation(5), ..record };
        cut_off.look(&next, &heard(Report { generation: Generation(5), ..follows(true) }, 0), 2_000);
        assert!(cut_off.ms(9_000).is_empty());
    }

    #[test]
    fn what_was_said_by_an_older_promise_is_no_connection_to_this_primary() {
        let (record, mut cut_off) = (record(), CutOff::default());
        cut_off.look(&record, &heard(Report { generation: Generation(3), ..follows(false) }, 0), 1_000);
        cut_off.look(&record, &heard(follows(true), 0), 2_000);
        assert!(cut_off.ms(9_000).is_empty());
    }
}
