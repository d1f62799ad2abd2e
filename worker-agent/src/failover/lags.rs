//! How far standbys lie behind their primary, in bytes and in time. PostgreSQL's own `replay_lag` is what was measured last: of a standby
//! that stands still it stays small. So the agent remembers how far the log was when, and looks when it was where a standby is.

use atoll_proto::group::{Disk, Lag};
use atoll_proto::{Lsn, WorkerId};
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

/// Between two of the moments that are remembered.
const REMEMBER_EVERY: Duration = Duration::from_millis(500);
/// Moments that are remembered: an hour at least.
const MOMENTS_MAX: usize = 7_200;

/// What a primary's agent has seen of its log and its standbys.
#[derive(Debug)]
pub(super) struct Lags {
    /// How far the log is.
    written: Lsn,
    /// How far it was, the oldest first. A moment in which nothing was written is none.
    moments: VecDeque<(Instant, Lsn)>,
    /// How far each standby was when it was last seen.
    replayed: BTreeMap<Disk, Lsn>,
}

impl Default for Lags {
    fn default() -> Self {
        Self { written: Lsn(0), moments: VecDeque::new(), replayed: BTreeMap::new() }
    }
}

impl Lags {
    /// Takes in how far the log is, and each standby that is connected.
    pub(super) fn note(&mut self, at: Instant, written: Lsn, replayed: impl Iterator<Item = (Disk, Lsn)>) {
        self.written = written;
        let is_due = |(last, before): &(Instant, Lsn)| at.duration_since(*last) >= REMEMBER_EVERY && *before < written;
        if self.moments.back().is_none_or(is_due) {
            self.moments.push_back((at, written));
        }
        if self.moments.len() > MOMENTS_MAX {
            self.moments.pop_front();
        }
        for (disk, lsn) in replayed {
            // A worker's data that was lost lags no more.
            self.replayed.retain(|other, _| other.worker != disk.worker || *other == disk);
            self.replayed.insert(disk, lsn);
        }
    }

    /// How far each standby lies behind at that time.
    pub(super) fn at(&self, now: Instant) -> BTreeMap<WorkerId, Lag> {
        self.replayed.iter().map(|(disk, replayed)| (disk.worker, self.lag(*replayed, now))).collect()
    }

    fn lag(&self, replayed: Lsn, now: Instant) -> Lag {
        let bytes = self.written.0.saturating_sub(replayed.0);
        // The first moment in which the log was further than the standby is. What came after the last one is as good as new.
        let next = self.moments.partition_point(|(_, written)| *written <= replayed);
        let since = self.moments.get(next).map_or(Duration::ZERO, |(at, _)| now.saturating_duration_since(*at));
        Lag { bytes, ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use atoll_proto::group::Incarnation;

    fn disk(worker: u64, incarnation: u64) -> Disk {
        Disk { worker: WorkerId(worker), incarnation: Incarnation(incarnation) }
    }

    fn lag(bytes: u64, ms: u64) -> Lag {
        Lag { bytes, ms }
    }

    /// A log that grows by 100 bytes a second, seen each 100 ms for `seconds`; the standby stops at `stops`.
    fn watched(began: Instant, seconds: u64, stops: Lsn) -> Lags {
        let mut lags = Lags::default();
        for tenth in 0..=seconds * 10 {
            let written = Lsn(1_000 + tenth * 10);
            lags.note(
                began + Duration::from_millis(tenth * 100),
                written,
                [(disk(2, 1), written.min(stops))].into_iter(),
            );
        }
        lags
    }

    #[test]
    fn who_has_replayed_all_does_not_lag() {
        let began = Instant::now();
        let lags = watched(began, 10, Lsn(9_999));
        assert_eq!(lags.at(began + Duration::from_secs(100)), BTreeMap::from([(WorkerId(2), lag(0, 0))]));
    }

    #[test]
    fn who_stands_still_lags_for_as_long_as_more_has_been_there() {
        let began = Instant::now();
        let lags = watched(began, 10, Lsn(1_200));
        // At 1,200 the log was 2 s after the beginning, and 2.5 s after it more of it was remembered.
        assert_eq!(lags.at(began + Duration::from_secs(10))[&WorkerId(2)], lag(800, 7_500));
        assert_eq!(lags.at(began + Duration::from_secs(30))[&WorkerId(2)], lag(800, 27_500), "nobody writes");
    }

    #[test]
    fn who_is_gone_is_remembered_and_other_data_takes_its_place() {
        let began = Instant::now();
        let mut lags = watched(began, 2, Lsn(1_200));
        lags.note(began + Duration::from_secs(4), Lsn(1_500), [].into_iter());
        assert_eq!(lags.at(began + Duration::from_secs(5))[&WorkerId(2)], lag(300, 1_000));
        lags.note(began + Duration::from_secs(5), Lsn(1_500), [(disk(2, 2), Lsn(1_500))].into_iter());
        assert_eq!(lags.at(began + Duration::from_secs(5)), BTreeMap::from([(WorkerId(2), lag(0, 0))]));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let began = Instant::now();
        let lags = watched(began, 4_000, Lsn(0));
        assert_eq!(lags.moments.len(), MOMENTS_MAX);
        let hour = lags.at(began + Duration::from_secs(4_000))[&WorkerId(2)];
        assert_eq!(hour, lag(401_000, 3_599_500));
    }
}
