//! One entry's writes, and what they say about a sight of it.

use super::{Outcome, Seen, Write};
use std::collections::BTreeSet;
use std::time::Duration;

/// All writes of an entry that were not refused, by the time they were sent; and the numbers of those that were.
#[derive(Debug, Default)]
pub(super) struct KeyWrites {
    writes: Vec<Placed>,
    refused: BTreeSet<u64>,
}

/// A write of one entry that was done, or may have been.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Placed {
    /// What the entry holds by it; nothing where it deletes.
    pub(super) content: Option<u64>,
    /// The version that it was told to have made.
    pub(super) version: Option<i64>,
    pub(super) invoked: Duration,
    /// When it was done at the latest, if at all.
    pub(super) over: Duration,
    /// Whether it was told to be done.
    pub(super) is_done: bool,
}

impl KeyWrites {
    /// Takes in what a write did to its entry at this place.
    pub(super) fn note(&mut self, write: &Write, place: usize, invoked: Duration, ended: Duration, late: Duration) {
        let (version, over, is_done) = match &write.outcome {
            Outcome::Done(versions) => (versions.get(place).copied(), ended, true),
            Outcome::Unknown => (None, ended + late, false),
            Outcome::Refused => {
                self.refused.extend(write.content);
                return;
            }
        };
        let placed = Placed { content: write.content, version, invoked, over, is_done };
        let at = self.writes.partition_point(|other| other.invoked <= invoked);
        self.writes.insert(at, placed);
    }

    /// The write that left what was seen, if there is one.
    pub(super) fn origin(&self, seen: Seen) -> Option<&Placed> {
        self.writes.iter().find(|write| write.content == Some(seen.content))
    }

    /// Whether what was seen was told not to have been written.
    pub(super) fn is_refused(&self, seen: Seen) -> bool {
        self.refused.contains(&seen.content)
    }

    /// Whether an entry was deleted ever, or may have been. If not, its versions only grow.
    pub(super) fn is_ever_deleted(&self) -> bool {
        self.writes.iter().any(|write| write.content.is_none())
    }

    /// When at the latest an entry became what it is where it is not there, as far as was sent before `until`: at the beginning, or by being
    /// deleted.
    pub(super) fn absent_by(&self, until: Duration) -> Duration {
        let deletes = self.writes.iter().filter(|write| write.content.is_none() && write.invoked < until);
        deletes.map(|write| write.over).max().unwrap_or_default()
    }

    /// An acknowledged write that was sent after `over` and was done before `until`: what was done up to `over` is not there any more.
    pub(super) fn acknowledged_between(&self, over: Duration, until: Duration) -> impl Iterator<Item = &Placed> {
        self.writes.iter().filter(move |write| write.is_done && write.invoked > over && write.over < until)
    }

    /// Pairs of acknowledged writes whose versions contradict their order: the same version twice, or a lower one later. Writes of other
    /// lives of the entry, before it was deleted and after, have nothing to do with each other.
    pub(super) fn out_of_order(&self) -> Vec<(Placed, Placed)> {
        let told: Vec<&Placed> = self.writes.iter().filter(|write| write.version.is_some()).collect();
        let mut found = Vec::new();
        for (at, later) in told.iter().enumerate() {
            for earlier in &told[..at] {
                let is_wrong = later.version == earlier.version
                    || (earlier.over < later.invoked && later.version < earlier.version);
                if is_wrong && !self.may_be_deleted_between(earlier.invoked, later.over.max(earlier.over)) {
                    found.push((**earlier, **later));
                }
            }
        }
        found
    }

    /// Pairs of acknowledged writes, one over before the other began, whose versions are further apart than there were writes that may have
    /// come between: each write makes one version, however often it was sent.
    pub(super) fn doubled(&self) -> Vec<(Placed, Placed)> {
        let told = || self.writes.iter().filter(|write| write.version.is_some());
        let is_same_life = |other: &Placed, later: &Placed| !self.may_be_deleted_between(other.invoked, later.over);
        let before = |later: &Placed| {
            let earlier = told().filter(|other| other.over < later.invoked && is_same_life(other, later));
            earlier.max_by_key(|other| other.version)
        };
        let pairs = told().filter_map(|later| Some((before(later)?, later)));
        let is_doubled = |(earlier, later): &(&Placed, &Placed)| {
            let may_count =
                |other: &&Placed| *other != *earlier && other.invoked <= later.over && other.over >= earlier.invoked;
            let most = self.writes.iter().filter(may_count).count() as i64;
            let leap = later.version.unwrap_or_default() - earlier.version.unwrap_or_default();
            leap > most
        };
        pairs.filter(is_doubled).map(|(earlier, later)| (*earlier, *later)).collect()
    }

    fn may_be_deleted_between(&self, from: Duration, to: Duration) -> bool {
        self.writes.iter().any(|write| write.content.is_none() && write.invoked <= to && write.over >= from)
    }
}
