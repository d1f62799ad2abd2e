//! Which standbys have lost their connection to the primary, and since when, by their own word.

use super::step::{Heard, says_that_it_follows};
use atoll_proto::Generation;
use atoll_proto::WorkerId;
use atoll_proto::group::{Disk, GroupRecord};
use std::collections::BTreeMap;

/// Who has just begun to lead takes a standby that has the generation in its log for one that was connected, for so long, in milliseconds.
const BEGINNING_MS: u64 = 2_000;

/// Standbys that were connected at the record's generation and have been heard ever since.
#[derive(Debug, Default)]
pub struct CutOff {
    /// Whose primary those below have followed, and when that was looked at first.
    about: Option<(Disk, Generation)>,
    begun_ms: u64,
    /// Whether the generation began while we looked, so that connections to its primary were seen.
    saw_it_begin: bool,
    /// Since when each has had no connection, and when it was seen so last, in milliseconds of the caller's clock; none while it has one.
    cut: BTreeMap<Disk, Option<(u64, u64)>>,
}

impl CutOff {
    /// Takes in what was heard. One that says nothing new or does something else has to be connected again before it counts.
    pub fn look(&mut self, record: &GroupRecord, heard: &BTreeMap<WorkerId, Heard>, now_ms: u64) {
        let about = Some((record.primary, record.generation));
        if self.about != about {
            self.saw_it_begin = self.about.is_some();
            (self.about, self.begun_ms, self.cut) = (about, now_ms, BTreeMap::new());
        }
        let follower = |disk: &Disk| heard.get(&disk.worker).filter(|heard| says_that_it_follows(record, heard));
        self.cut.retain(|disk, _| follower(disk).is_some_and(|heard| heard.report.disk == *disk));
        let is_beginning = !self.saw_it_begin && now_ms.saturating_sub(self.begun_ms) < BEGINNING_MS;
        for Heard { report, age_ms } in heard.values().filter(|heard| says_that_it_follows(record, heard)) {
            let seen_ms = now_ms.saturating_sub(age_ms.saturating_add(report.age_ms));
            let was_connected = report.position.is_some_and(|at| at.generation == record.generation);
            match (report.cut, self.cut.get_mut(&report.disk)) {
                (true, Some(Some((_, last)))) => *last = seen_ms.max(*last),
                (true, Some(before @ None)) => *before = Some((seen_ms, seen_ms)),
                (true, None) if is_beginning && was_connected => {
                    self.cut.insert(report.disk, Some((seen_ms, seen_ms)));
                }
                (true, None) => {}
                (false, _) => {
                    self.cut.insert(report.disk, None);
                }
            }
        }
    }

    /// For how long each was seen to have no connection, in milliseconds. What was said last is not stretched by silence.
    pub fn ms(&self) -> BTreeMap<Disk, u64> {
        let cut = self.cut.iter().filter_map(|(disk, cut)| {
            let (since, last) = (*cut)?;
            Some((*disk, last - since))
        });
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

    fn saw_it_begin() -> CutOff {
        let (before, mut cut_off) = (GroupRecord { generation: Generation(3), ..record() }, CutOff::default());
        cut_off.look(&before, &BTreeMap::new(), 0);
        cut_off
    }

    #[test]
    fn it_counts_from_when_a_connection_was_lost_to_when_that_was_seen_last() {
        let (record, mut cut_off) = (record(), saw_it_begin());
        cut_off.look(&record, &heard(follows(false), 0), 1_000);
        assert!(cut_off.ms().is_empty(), "it is connected");
        cut_off.look(&record, &heard(follows(true), 100), 2_000);
        cut_off.look(&record, &heard(follows(true), 0), 2_500);
        assert_eq!(cut_off.ms(), BTreeMap::from([(disk(2), 600)]));
        cut_off.look(&record, &heard(follows(true), 900), 3_400);
        assert_eq!(cut_off.ms(), BTreeMap::from([(disk(2), 600)]), "nothing new was said");
        cut_off.look(&record, &heard(follows(false), 0), 3_500);
        assert!(cut_off.ms().is_empty(), "it is connected again");
    }

    #[test]
    fn one_that_was_not_connected_or_not_heard_meanwhile_does_not_count() {
        let stopped = report(2, Server::Stopped { standby: true }, (4, 9));
        let other_primary = report(2, Server::Following { worker: WorkerId(3) }, (4, 9));
        for between in [heard(stopped, 0), heard(other_primary, 0), heard(follows(true), 2_000), BTreeMap::new()] {
            let (record, mut cut_off) = (record(), saw_it_begin());
            cut_off.look(&record, &heard(follows(true), 0), 500);
            cut_off.look(&record, &heard(follows(true), 0), 900);
            assert!(cut_off.ms().is_empty(), "it never was");
            cut_off.look(&record, &heard(follows(false), 0), 1_000);
            cut_off.look(&record, &between, 2_000);
            cut_off.look(&record, &heard(follows(true), 0), 3_000);
            cut_off.look(&record, &heard(follows(true), 0), 9_000);
            assert!(cut_off.ms().is_empty(), "{between:?}");
        }
    }

    #[test]
    fn another_generation_begins_anew() {
        let (record, mut cut_off) = (record(), saw_it_begin());
        cut_off.look(&record, &heard(follows(false), 0), 1_000);
        let next = GroupRecord { generation: Generation(5), ..record };
        let cut = Report { generation: Generation(5), ..follows(true) };
        cut_off.look(&next, &heard(cut.clone(), 0), 2_000);
        cut_off.look(&next, &heard(cut, 0), 2_500);
        assert!(cut_off.ms().is_empty());
    }

    #[test]
    fn who_begins_to_lead_goes_by_the_generation_in_the_log() {
        let of_before = Report { position: report(2, Server::Detached, (3, 9)).position, ..follows(true) };
        for (said, first_ms, counts) in
            [(follows(true), 100, true), (follows(true), 2_100, false), (of_before, 100, false)]
        {
            let (record, mut cut_off) = (record(), CutOff::default());
            cut_off.look(&record, &BTreeMap::new(), 0);
            cut_off.look(&record, &heard(said.clone(), 0), first_ms);
            cut_off.look(&record, &heard(said, 0), first_ms + 700);
            assert_eq!(cut_off.ms().get(&disk(2)).is_some_and(|ms| *ms == 700), counts, "{first_ms}");
        }
    }

    #[test]
    fn what_was_said_by_an_older_promise_is_no_connection_to_this_primary() {
        let (record, mut cut_off) = (record(), saw_it_begin());
        cut_off.look(&record, &heard(Report { generation: Generation(3), ..follows(false) }, 0), 1_000);
        cut_off.look(&record, &heard(follows(true), 0), 2_000);
        cut_off.look(&record, &heard(follows(true), 0), 3_000);
        assert!(cut_off.ms().is_empty());
    }
}
