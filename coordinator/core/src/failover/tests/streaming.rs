//! PostgreSQL in the simulated world: clients write, logs are streamed and flushed, commits wait, data is copied.

#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

use super::servers::{Member, Wait};
use super::world::{Broken, Message, World};
use atoll_proto::WorkerId;
use atoll_proto::group::{Disk, Phase, Server};

impl World {
    pub(super) fn at(&self, worker: WorkerId) -> usize {
        worker.0 as usize - 1
    }

    /// A client writes, by whatever view it has, or sends a write again of which it does not know what became.
    pub(super) fn write(&mut self) {
        let back = if self.one_in(3) { self.below(6) as usize } else { 0 };
        let view = &self.records[self.records.len().saturating_sub(1 + back)];
        let to = self.at(view.primary.worker);
        if !self.members[to].serves(self.now) {
            return;
        }
        let again = match self.in_doubt.is_empty() || !self.one_in(4) {
            true => None,
            false => Some(self.below(self.in_doubt.len() as u64) as usize),
        };
        let write = match again {
            Some(which) => self.in_doubt.swap_remove(which),
            None => self.next_id(),
        };
        let (id, now) = (self.next_id(), self.now);
        let member = &mut self.members[to];
        let there = again.is_some() && member.holds(write);
        let generation = member.generation();
        if !(there && self.broken == Some(Broken::RepeatsWaitForNothing)) {
            // Found as it should be, it still writes something, so that the commit waits.
            member.append(generation, id, Some(write));
            let end = member.log.len();
            return member.waits.push(Wait { write, end, begun_at: now });
        }
        let wait = Wait { write, end: member.log.len(), begun_at: now };
        self.acknowledge(to, wait);
    }

    fn acknowledge(&mut self, at: usize, wait: Wait) {
        self.happened.acknowledged += 1;
        self.oracle.acknowledged(&self.members[at], wait, self.records.last().unwrap(), &self.members);
    }

    /// Commits for which enough standbys have flushed are acknowledged.
    pub(super) fn release_waits(&mut self, at: usize) {
        let member = &self.members[at];
        let Some(list) = member.list.as_ref().filter(|_| member.serves(self.now) && !member.waits.is_empty()) else {
            return;
        };
        let needed = self.records[0].copies as usize - 1;
        let counted = member.acked.iter().filter(|(disk, _)| list.contains(disk) && **disk != member.disk);
        let mut ends: Vec<usize> = counted.map(|(_, (end, _))| *end).collect();
        ends.sort_unstable_by(|a, b| b.cmp(a));
        let Some(end) = ends.get(needed - 1).copied() else { return };
        let (released, waiting) = member.waits.iter().partition(|wait: &&Wait| wait.end <= end);
        let released: Vec<Wait> = released;
        self.members[at].waits = waiting;
        released.into_iter().for_each(|wait| self.acknowledge(at, wait));
    }

    /// A client gives up waiting. The commit stays; whether it is anywhere else nobody knows.
    pub(super) fn cancel_a_wait(&mut self) {
        let at = self.any_member();
        let Some(wait) = self.members[at].waits.pop() else { return };
        if self.broken == Some(Broken::CancelledIsAcknowledged) {
            return self.acknowledge(at, wait);
        }
        self.is_in_doubt(vec![wait.write]);
    }

    pub(super) fn is_in_doubt(&mut self, writes: Vec<u64>) {
        self.happened.in_doubt += writes.len() as u64;
        self.in_doubt.extend(writes);
    }

    /// A standby receives some of the log, flushes some of what it has, and says so.
    pub(super) fn stream(&mut self, at: usize) {
        let Server::Following { worker } = self.members[at].server else { return };
        let from = self.at(worker);
        let connected = self.members[from].serves(self.now)
            && self.members[at].runs(self.now)
            && self.linked(at, from)
            && self.linked(from, at);
        if connected && from != at {
            self.members[at].connected_at = self.now;
            self.receive(at, from);
        }
        let (flushes, all) = (self.one_in(2), self.broken == Some(Broken::ReceivedCountsAsFlushed));
        let member = &mut self.members[at];
        if flushes && member.runs(self.now) {
            member.flushed = member.log.len();
        }
        if connected && from != at && !self.members[at].diverged {
            let member = &self.members[at];
            let end = if all { member.log.len() } else { member.flushed };
            self.send(Message::Flushed { to: from, start: self.members[from].start, disk: member.disk, end });
        }
    }

    fn receive(&mut self, at: usize, from: usize) {
        let some = 1 + self.below(4) as usize;
        let end = self.members[at].log.len();
        let log = &self.members[from].log;
        let fits = end == 0 || log.get(end - 1) == self.members[at].log.last();
        let more: Vec<_> = log[end.min(log.len())..(end + some).min(log.len())].to_vec();
        let member = &mut self.members[at];
        member.diverged = !fits;
        if fits {
            member.log.extend(more);
        }
    }

    /// A primary that is told to stop sends what it has to those who are connected.
    pub(super) fn send_all(&mut self, from: usize) {
        for at in 0..self.members.len() {
            let worker = self.members[from].disk.worker;
            if self.members[at].server == (Server::Following { worker }) {
                (0..20).for_each(|_| self.stream(at));
            }
        }
    }

    /// pg_rewind or a base backup gets on: it succeeds, or not yet, or not at all.
    pub(super) fn copy_data(&mut self, at: usize, primary: Disk, is_rewind: bool) {
        let from = self.at(primary.worker);
        let asked_for = self.members[at].known.as_ref().unwrap().generation;
        let gets_on = self.one_in(4);
        let source = &self.members[from];
        let is_primary = source.disk == primary && source.serves(self.now) && source.generation() == asked_for;
        if !is_primary || !self.linked(at, from) || !self.linked(from, at) || !gets_on {
            return;
        }
        let log = source.log.clone();
        if !is_rewind {
            let incarnation = self.next_incarnation();
            return self.members[at].data_is(log, incarnation, self.broken);
        }
        self.happened.mended += 1;
        match !self.one_in(6) {
            true => self.members[at].mended(log),
            false => self.members[at].server = Server::Unusable { can_rewind: false },
        }
    }

    /// The primary's own idea of a standby that said something.
    pub(super) fn heard_flushed(&mut self, to: usize, start: u64, disk: Disk, end: usize) {
        let now = self.now;
        let primary = &mut self.members[to];
        if primary.start == start && primary.serves(now) {
            let known = primary.acked.entry(disk).or_insert((0, now));
            *known = (known.0.max(end), now);
        }
    }

    /// Whether the group is as it should be.
    pub(super) fn is_whole(&self) -> bool {
        let record = self.records.last().unwrap();
        let all = |member: &Member| {
            let follows = member.server == Server::Following { worker: record.primary.worker } && !member.diverged;
            let serves = member.serves(self.now) && member.generation() == record.generation;
            let has_part = if member.disk == record.primary { serves } else { follows };
            has_part && record.voters.contains(&member.disk)
        };
        let primary = &self.members[self.at(record.primary.worker)];
        let same = |member: &Member| member.log == primary.log && member.flushed == member.log.len();
        record.phase == Phase::Steady
            && record.listed == record.voters
            && record.mending.is_none()
            && record.voters.len() == self.members.len()
            && primary.list.as_ref() == Some(&record.listed)
            && self.members.iter().all(|member| all(member) && same(member))
    }
}
