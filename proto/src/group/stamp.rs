//! How a disk that was put back to an earlier state is told from one that was not.
//!
//! A disk keeps a stamp that it has drawn by lot, beside its data and in it, and says which. Now and then the catalog records what the
//! voters' stamps are; a disk that sees its own recorded draws the next one. So a disk for which the catalog has recorded a stamp that it does
//! not keep was put back to a state of before, and lacks what it has confirmed since. It finds that out by the record, before it answers by
//! that record, and whatever it was told meanwhile: older records lead it on by one draw, which is another than the one it drew then.
//!
//! What was put back by less is not found: to a state after the last stamp but one was recorded.

use super::record::{Disk, GroupRecord, Incarnation};
use serde::{Deserialize, Serialize};

/// One that was drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// Of which of the worker's data it is.
    pub incarnation: Incarnation,
    /// How many were drawn before it.
    pub count: u64,
    /// What was drawn.
    pub lot: u64,
}

/// The stamps that a disk keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamps {
    /// The one it has drawn last, and says.
    pub now: Stamp,
    /// The one that it saw recorded last.
    pub before: Option<Stamp>,
}

impl Stamps {
    /// Of data that begins.
    pub fn first(incarnation: Incarnation, lot: u64) -> Self {
        Self { now: Stamp { incarnation, count: 0, lot }, before: None }
    }

    /// With the next one, if the record has the present one.
    #[must_use]
    pub fn after(self, record: &GroupRecord, me: Disk, lot: u64) -> Self {
        let is_recorded = record.stamps.get(&me.worker) == Some(&self.now);
        let next = Stamp { count: self.now.count + 1, lot, ..self.now };
        if is_recorded { Self { now: next, before: Some(self.now) } } else { self }
    }

    /// Whether it is one of these.
    pub fn contain(&self, stamp: Stamp) -> bool {
        stamp == self.now || Some(stamp) == self.before
    }
}

impl GroupRecord {
    /// The stamp that is recorded for this data, if there is one.
    pub fn stamp_of(&self, disk: Disk) -> Option<Stamp> {
        self.stamps.get(&disk.worker).copied().filter(|stamp| stamp.incarnation == disk.incarnation)
    }

    /// Whether a stamp that this data says is newer than the one that is recorded.
    pub fn lacks(&self, disk: Disk, stamp: Stamp) -> bool {
        stamp.incarnation == disk.incarnation && self.stamp_of(disk).is_none_or(|recorded| stamp.count > recorded.count)
    }

    /// Whether data that keeps these stamps was put back, as told above.
    pub fn tells_restored(&self, disk: Disk, kept: &Stamps) -> bool {
        self.stamp_of(disk).is_some_and(|recorded| !kept.contain(recorded))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{CatalogVersion, WorkerId};

    const ME: Disk = Disk { worker: WorkerId(1), incarnation: Incarnation(7) };

    fn recorded(stamp: Option<Stamp>) -> GroupRecord {
        let founded = GroupRecord::founded(ME, [ME.worker].into(), 2, CatalogVersion(5));
        GroupRecord { stamps: stamp.map(|stamp| (ME.worker, stamp)).into_iter().collect(), ..founded }
    }

    #[test]
    fn a_disk_draws_the_next_stamp_when_its_own_is_recorded() {
        let first = Stamps::first(ME.incarnation, 11);
        assert_eq!(first.after(&recorded(None), ME, 12), first);
        let second = first.after(&recorded(Some(first.now)), ME, 12);
        assert_eq!(second.now, Stamp { count: 1, lot: 12, ..first.now });
        assert!(second.contain(first.now) && second.contain(second.now));
        assert_eq!(second.after(&recorded(Some(first.now)), ME, 13), second, "it was told before");
    }

    #[test]
    fn newer_stamps_of_the_same_data_are_recorded_and_those_of_other_data() {
        let stamp = |count| Stamp { count, ..Stamps::first(ME.incarnation, 11).now };
        assert!(recorded(None).lacks(ME, stamp(0)) && recorded(Some(stamp(1))).lacks(ME, stamp(2)));
        assert!(!recorded(Some(stamp(1))).lacks(ME, stamp(1)) && !recorded(Some(stamp(1))).lacks(ME, stamp(0)));
        let before = Stamp { incarnation: Incarnation(9), ..stamp(5) };
        assert!(recorded(Some(before)).lacks(ME, stamp(0)) && !recorded(None).lacks(ME, before));
    }

    #[test]
    fn a_disk_that_does_not_keep_what_is_recorded_was_put_back() {
        let first = Stamps::first(ME.incarnation, 11);
        let second = first.after(&recorded(Some(first.now)), ME, 12);
        let third = second.after(&recorded(Some(second.now)), ME, 13);
        let tells = |stamps: &Stamps, stamp| recorded(stamp).tells_restored(ME, stamps);
        for stamps in [first, second, third] {
            assert!(!tells(&stamps, None) && !tells(&stamps, Some(stamps.now)), "{stamps:?}");
        }
        assert!(!tells(&third, Some(second.now)) && tells(&first, Some(second.now)) && tells(&second, Some(third.now)));
        let led_on = first.after(&recorded(Some(first.now)), ME, 99);
        assert!(tells(&led_on, Some(second.now)), "an old record was told once more");
        let copied = Disk { incarnation: Incarnation(8), ..ME };
        assert!(!recorded(Some(third.now)).tells_restored(copied, &Stamps::first(copied.incarnation, 1)));
    }
}
