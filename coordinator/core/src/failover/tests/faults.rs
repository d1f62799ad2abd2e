//! What breaks in the simulated world.

#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

use super::drivers::Driver;
use super::world::World;
use crate::failover::Change;
use atoll_proto::group::{Phase, Server};

impl World {
    pub(super) fn something_breaks(&mut self) {
        let (at, now) = (self.any_member(), self.now);
        match self.below(14) {
            0 => {
                let in_doubt = self.members[at].stop();
                self.is_in_doubt(in_doubt);
            }
            // Somebody starts it behind the agent's back; of one that was put back nobody could say what that may do.
            1 if self.members[at].server == (Server::Stopped { standby: false })
                && self.members[at].put_back_at.is_none() =>
            {
                self.members[at].server = Server::Primary;
                self.members[at].start += 1;
            }
            1 => {}
            2 => self.members[at].agent_dies(),
            3 => self.members[at].agent_up = true,
            4 => self.members[at].stopped_until = now + self.below(4_000),
            5 => self.members[at].agent_stopped_until = now + self.below(6_000),
            6 => self.cut(),
            7 | 8 => self.cuts.clear(),
            9 => self.elect(),
            10 => self.switch_over(),
            11 => self.members[at].is_copied(),
            12 => self.put_back(at),
            _ if self.one_in(3) => self.wipe(at),
            _ => {}
        }
    }

    /// Everything that can be repaired is.
    pub(super) fn heal(&mut self) {
        self.cuts.clear();
        for member in &mut self.members {
            (member.stopped_until, member.agent_stopped_until) = (0, 0);
            member.agent_up = true;
        }
        let newest = self.records.last().unwrap().clone();
        self.drivers = vec![Driver::new(newest, self.now)];
    }

    /// A link, or all of somebody's, one way or both.
    fn cut(&mut self) {
        let ends = self.members.len() as u64 + 2;
        let (one, other) = (self.below(ends) as usize, self.below(ends) as usize);
        let (all, both) = (self.one_in(3), self.one_in(2));
        for end in (0..ends as usize).filter(|end| all || *end == other) {
            self.cuts.insert((one, end));
            if both {
                self.cuts.insert((end, one));
            }
        }
    }

    /// A new leader, who knows nothing. The old one may go on for a while.
    fn elect(&mut self) {
        let newest = self.records.last().unwrap().clone();
        let which = self.below(self.drivers.len() as u64) as usize;
        self.drivers.iter_mut().for_each(|driver| driver.lags = true);
        self.drivers[which] = Driver::new(newest, self.now);
    }

    fn switch_over(&mut self) {
        let record = self.records.last().unwrap().clone();
        let at = self.any_member();
        let to = self.members[at].disk;
        let change = if self.one_in(2) { Change::HandOver { to } } else { Change::Fence { wish: None } };
        self.propose(record.changed_at, change);
    }

    /// A disk is lost, where the others are enough: with more gone only an operator can help.
    fn wipe(&mut self, at: usize) {
        if !self.can_be_spared(at) {
            return;
        }
        self.happened.wiped += 1;
        let incarnation = self.next_incarnation();
        let in_doubt = self.members[at].wipe(incarnation, self.broken);
        self.is_in_doubt(in_doubt);
    }

    /// A machine comes back with the disk that it had some time ago.
    fn put_back(&mut self, at: usize) {
        let newest = self.records.last().unwrap().clone();
        if !self.members[at].can_be_put_back(&newest) || !self.can_be_spared(at) {
            return;
        }
        self.happened.put_back += 1;
        let until = self.now + 3_000 + self.below(3_000);
        let in_doubt = self.members[at].put_back(self.now, until);
        self.is_in_doubt(in_doubt);
        self.forget_what_was_said(at);
    }

    /// Whether the others are enough without this disk's data.
    fn can_be_spared(&mut self, at: usize) -> bool {
        let record = self.records.last().unwrap().clone();
        let lost = self.members[at].disk;
        let is_well = |disk: &atoll_proto::group::Disk| {
            let member = &self.members[self.at(disk.worker)];
            member.disk == *disk
                && !member.diverged
                && member.put_back_at.is_none()
                && !matches!(member.server, Server::Unusable { .. })
        };
        let left = record.voters.iter().filter(|disk| **disk != lost && is_well(disk)).count();
        let founding = record.voters.len() < record.copies as usize;
        if founding || record.mending.is_some() || left < record.answers_needed() || self.lost_lately() {
            return false;
        }
        // Who is about to be the primary of a record that not everybody knows yet.
        !matches!(record.phase, Phase::Promoting { .. }) || self.one_in(2)
    }

    /// Whether fewer voters than a fence needs have their data.
    pub(super) fn has_too_few_disks(&self) -> bool {
        let record = self.records.last().unwrap();
        let has_data = |disk: &&atoll_proto::group::Disk| {
            let member = &self.members[self.at(disk.worker)];
            member.disk == **disk && member.put_back_at.is_none() && !matches!(member.server, Server::Unusable { .. })
        };
        record.voters.iter().filter(has_data).count() < record.answers_needed()
    }

    /// Whether a lost disk still counts: then another one would be the second.
    fn lost_lately(&self) -> bool {
        let record = self.records.last().unwrap();
        record.voters.iter().any(|disk| {
            let member = &self.members[self.at(disk.worker)];
            member.disk != *disk || member.put_back_at.is_some()
        })
    }
}
