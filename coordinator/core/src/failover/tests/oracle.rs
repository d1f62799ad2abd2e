//! What must never happen, whatever breaks.

use super::servers::{Member, Wait};
use atoll_proto::Generation;
use atoll_proto::group::{Disk, GroupRecord, Phase};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Default)]
pub(super) struct Oracle {
    pub(super) acknowledged: BTreeSet<u64>,
    serves: BTreeMap<Generation, Disk>,
    /// When each generation became active.
    activated: Vec<(Generation, u64)>,
    /// When the last candidate was chosen.
    promoted_at: u64,
    pub(super) wrong: Option<String>,
}

impl Oracle {
    fn found(&mut self, error: String) {
        self.wrong.get_or_insert(error);
    }

    /// A commit of this member was acknowledged.
    pub(super) fn acknowledged(&mut self, by: &Member, wait: Wait, record: &GroupRecord, members: &[Member]) {
        let Wait { write, end: _, begun_at } = wait;
        let (disk, generation) = (by.disk, by.generation());
        if *self.serves.entry(generation).or_insert(disk) != disk {
            self.found(format!("two primaries acknowledged at generation {generation}: another and {disk:?}"));
        }
        if let Some((newer, at)) = self.activated.iter().find(|(newer, at)| *newer > generation && begun_at > *at) {
            self.found(format!(
                "write {write} began at {begun_at} under {generation}, after {newer} was active ({at})"
            ));
        }
        self.acknowledged.insert(write);
        let replaced = record.phase == Phase::Steady && record.generation > generation;
        let primary = members.iter().find(|member| replaced && member.disk == record.primary);
        let primary = primary.filter(|primary| !self.is_excused(primary));
        if primary.is_some_and(|primary| !primary.holds(write)) {
            self.found(format!("write {write} of generation {generation} is acknowledged and not on the new primary"));
        }
    }

    /// The catalog has another record.
    pub(super) fn changed(&mut self, before: &GroupRecord, after: &GroupRecord, now: u64, members: &[Member]) {
        if after.generation < before.generation {
            self.found("a generation shrank".to_owned());
        }
        if let Phase::Promoting { .. } = after.phase {
            self.promoted_at = now;
        }
        let activated = after.phase == Phase::Steady && matches!(before.phase, Phase::Promoting { .. });
        if !activated {
            return;
        }
        self.activated.push((after.generation, now));
        if let Some(primary) = members.iter().find(|member| member.disk == after.primary)
            && !self.is_excused(primary)
        {
            self.has_all(primary, "the new primary");
        }
    }

    /// One that was put back after it was chosen is still to find that out, and stops then.
    fn is_excused(&self, primary: &Member) -> bool {
        primary.put_back_at.is_some_and(|at| at >= self.promoted_at)
    }

    /// Each member has to hold every write that was acknowledged.
    pub(super) fn judge(&mut self, members: &[Member]) {
        members.iter().for_each(|member| self.has_all(member, "a member, in the end,"));
    }

    fn has_all(&mut self, member: &Member, who: &str) {
        let held: BTreeSet<u64> = member.log.iter().filter_map(|entry| entry.write).collect();
        if let Some(lost) = self.acknowledged.difference(&held).next() {
            self.found(format!("{who} {:?} lacks write {lost}, which was acknowledged", member.disk));
        }
    }
}
