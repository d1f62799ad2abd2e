//! The simulated world: its state, its network, and one step of its time.

#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

use super::drivers::Driver;
use super::oracle::Oracle;
use super::servers::Member;
use crate::failover::Change;
use atoll_proto::group::{Act, Disk, GroupRecord, Incarnation, Report};
use atoll_proto::{CatalogVersion, WorkerId};
use std::collections::BTreeSet;
use std::rc::Rc;

/// Steps of some ten milliseconds: half a minute of faults.
const STEPS: u64 = 3_000;
/// When everything works again the group has to be whole after so many steps, some two minutes.
const STEPS_TO_HEAL: u64 = 12_000;
/// Messages under way; more are lost.
const NETWORK_MAX: usize = 60;

/// How the error begins of a group that is not whole in the end.
pub(super) const STUCK: &str = "it does not heal";

/// A rule that is broken on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Broken {
    /// A fence is complete with one answer less.
    OneAnswerTooFew,
    /// Members act by whatever record comes.
    OldRecordsAreTaken,
    /// Members say that they are fenced, and go on receiving.
    FencedMembersGoOnReceiving,
    /// Any position counts, whatever its member has promised.
    GenerationsAreOld,
    /// The catalog takes changes that were decided on an earlier record.
    ChangesNameNothing,
    /// Whoever leaves the in-sync set leaves the catalog first.
    LeavesCatalogFirst,
    /// Nobody looks whether those who stay hold what was acknowledged.
    LeavesWithoutBarrier,
    /// PostgreSQL counts a standby that the catalog does not know to be in sync.
    JoinsPostgresFirst,
    /// A worker whose disk was lost passes for the one it was.
    WipedDisksAreMembers,
    /// The least advanced is promoted.
    LeastAdvancedIsPromoted,
    /// Positions of different generations are compared by their length alone.
    LsnAloneDecides,
    /// A wait that was cancelled is an acknowledgement.
    CancelledIsAcknowledged,
    /// A write that is found to be there already is acknowledged at once.
    RepeatsWaitForNothing,
    /// A standby says that it has flushed what it has only received.
    ReceivedCountsAsFlushed,
    /// The one that is wished for is promoted, whatever it has.
    WishesAreOrders,
    /// A disk that was put back to an earlier state passes for the one it was.
    RestoredDisksAreMembers,
    /// What a disk keeps of its stamps is how many there were.
    StampsAreOnlyCounted,
}

impl Broken {
    pub(super) const ALL: [Self; 17] = [
        Self::OneAnswerTooFew,
        Self::OldRecordsAreTaken,
        Self::FencedMembersGoOnReceiving,
        Self::GenerationsAreOld,
        Self::ChangesNameNothing,
        Self::LeavesCatalogFirst,
        Self::LeavesWithoutBarrier,
        Self::JoinsPostgresFirst,
        Self::WipedDisksAreMembers,
        Self::LeastAdvancedIsPromoted,
        Self::LsnAloneDecides,
        Self::CancelledIsAcknowledged,
        Self::RepeatsWaitForNothing,
        Self::ReceivedCountsAsFlushed,
        Self::WishesAreOrders,
        Self::RestoredDisksAreMembers,
        Self::StampsAreOnlyCounted,
    ];
}

/// What was done in a history.
#[derive(Debug, Default)]
pub(super) struct Happened {
    pub(super) acknowledged: u64,
    pub(super) in_doubt: u64,
    pub(super) failovers: u64,
    pub(super) hand_overs: u64,
    /// A primary was given up that only its standbys, or only the leader and they, had lost.
    pub(super) alone: u64,
    pub(super) joins: u64,
    pub(super) leaves: u64,
    pub(super) wiped: u64,
    pub(super) stamps: u64,
    pub(super) put_back: u64,
    pub(super) mended: u64,
    pub(super) slowest_heal_ms: u64,
    /// It ended with too few disks for a fence: one was lost while another was being mended. Only an operator helps.
    pub(super) needs_operator: u64,
}

impl Happened {
    pub(super) fn add(&mut self, more: Self) {
        let Self {
            acknowledged,
            in_doubt,
            failovers,
            hand_overs,
            alone,
            joins,
            leaves,
            wiped,
            stamps,
            put_back,
            mended,
            slowest_heal_ms,
            needs_operator,
        } = more;
        self.acknowledged += acknowledged;
        self.in_doubt += in_doubt;
        self.failovers += failovers;
        self.hand_overs += hand_overs;
        self.alone += alone;
        self.joins += joins;
        self.leaves += leaves;
        self.wiped += wiped;
        self.stamps += stamps;
        self.put_back += put_back;
        self.mended += mended;
        self.needs_operator += needs_operator;
        self.slowest_heal_ms = self.slowest_heal_ms.max(slowest_heal_ms);
    }
}

#[derive(Clone)]
pub(super) enum Message {
    /// A coordinator tells a member what it knows, and whether it has just heard from most others that this is the newest.
    Told { from: usize, to: usize, record: Rc<GroupRecord>, confirmed: bool },
    /// A member says how it is.
    Said { from: usize, to: usize, report: Box<Report> },
    /// A leader proposes.
    Proposed { decided_at: CatalogVersion, change: Change },
    /// A standby tells the server it receives from what it has flushed. It arrives also when the link was cut meanwhile.
    Flushed { to: usize, start: u64, disk: Disk, end: usize },
}

pub(super) struct World {
    random: u64,
    pub(super) broken: Option<Broken>,
    pub(super) now: u64,
    /// All records that there ever were: late views.
    pub(super) records: Vec<Rc<GroupRecord>>,
    pub(super) entries: u64,
    pub(super) members: Vec<Member>,
    pub(super) drivers: Vec<Driver>,
    pub(super) cuts: BTreeSet<(usize, usize)>,
    network: Vec<Message>,
    ids: u64,
    incarnations: u64,
    pub(super) in_doubt: Vec<u64>,
    pub(super) oracle: Oracle,
    pub(super) happened: Happened,
    healed: bool,
}

impl World {
    /// Mostly three members and two copies; sometimes two, or five and three.
    pub(super) fn new(seed: u64, broken: Option<Broken>) -> Self {
        let (count, copies) = match seed % 8 {
            0 => (2, 2),
            1 | 2 => (5, 3),
            _ => (3, 2),
        };
        let workers = (1..=count).map(WorkerId).collect();
        let primary = Disk { worker: WorkerId(1), incarnation: Incarnation(1) };
        let founded = Rc::new(GroupRecord::founded(primary, workers, copies, CatalogVersion(1)));
        Self {
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1234_5678_9abc_def1,
            broken,
            now: 0,
            entries: 1,
            members: (1..=count).map(|worker| Member::new(worker, &founded)).collect(),
            drivers: (0..2).map(|_| Driver::new(founded.clone(), 0)).collect(),
            records: vec![founded],
            cuts: BTreeSet::new(),
            network: Vec::new(),
            ids: 0,
            incarnations: 1,
            in_doubt: Vec::new(),
            oracle: Oracle::default(),
            happened: Happened::default(),
            healed: false,
        }
    }

    /// What happened; an error if something is wrong.
    pub(super) fn run(mut self) -> Result<Happened, String> {
        for _ in 0..STEPS {
            self.step()?;
        }
        self.healed = true;
        self.heal();
        let since = self.now;
        for _ in 0..STEPS_TO_HEAL {
            if self.is_whole() {
                self.oracle.judge(&self.members);
                self.happened.slowest_heal_ms = self.now - since;
                return self.oracle.wrong.take().map_or(Ok(self.happened), Err);
            }
            self.step()?;
        }
        if self.has_too_few_disks() {
            self.happened.needs_operator = 1;
            return Ok(self.happened);
        }
        let servers: Vec<_> = self.members.iter().map(|member| (member.disk, member.server, member.diverged)).collect();
        Err(format!("{STUCK}: {:?} {servers:?}", self.records.last().unwrap()))
    }

    /// A number below `n`, by xorshift.
    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % n
    }

    pub(super) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub(super) fn any_member(&mut self) -> usize {
        self.below(self.members.len() as u64) as usize
    }

    pub(super) fn next_id(&mut self) -> u64 {
        self.ids += 1;
        self.ids
    }

    pub(super) fn next_incarnation(&mut self) -> u64 {
        self.incarnations += 1;
        self.incarnations
    }

    /// Where a leader stands in the network: after the members.
    pub(super) fn end_of(&self, driver: usize) -> usize {
        self.members.len() + driver
    }

    pub(super) fn linked(&self, from: usize, to: usize) -> bool {
        !self.cuts.contains(&(from, to))
    }

    fn step(&mut self) -> Result<(), String> {
        self.now += self.below(20);
        match self.below(100) {
            0..15 => self.drive(),
            15..35 => (0..4).for_each(|_| self.deliver()),
            35..60 => {
                let at = self.any_member();
                self.agent_acts(at);
            }
            60..85 => {
                let at = self.any_member();
                self.stream(at);
            }
            85..96 if !self.healed || self.one_in(10) => self.write(),
            96 if !self.healed => self.cancel_a_wait(),
            97 | 98 if !self.healed => self.something_breaks(),
            _ => {}
        }
        self.oracle.wrong.take().map_or(Ok(()), Err)
    }

    /// An agent does what it should, and says how it is.
    fn agent_acts(&mut self, at: usize) {
        let id = self.next_id();
        match self.members[at].wants(self.now, self.broken) {
            None => {}
            Some(Act::Rewind { from }) if is_half(&self.members[at], true) => self.copy_data(at, from, true),
            Some(Act::BaseBackup { from }) if is_half(&self.members[at], false) => self.copy_data(at, from, false),
            Some(wanted) => {
                if wanted == Act::Stop && self.members[at].serves(self.now) {
                    self.send_all(at);
                }
                let in_doubt = self.members[at].carry_out(wanted, id, self.broken);
                self.is_in_doubt(in_doubt);
            }
        }
        let report = self.members[at].report(self.now, self.broken);
        for driver in 0..self.drivers.len() {
            if let Some(report) = report.clone() {
                let (to, report) = (self.end_of(driver), Box::new(report));
                self.send(Message::Said { from: at, to, report });
            }
        }
    }

    /// What a disk said, and was told, before it was put back has arrived or is lost by the time it is there again.
    pub(super) fn forget_what_was_said(&mut self, at: usize) {
        let disk = self.members[at].disk;
        self.network.retain(|message| match message {
            Message::Flushed { disk: from, .. } => *from != disk,
            Message::Told { to, .. } => *to != at,
            Message::Said { .. } | Message::Proposed { .. } => true,
        });
        self.members.iter_mut().for_each(|member| {
            member.acked.remove(&disk);
        });
    }

    pub(super) fn send(&mut self, message: Message) {
        if self.network.len() >= NETWORK_MAX {
            let lost = self.below(NETWORK_MAX as u64) as usize;
            self.network.swap_remove(lost);
        }
        self.network.push(message);
    }

    /// A message arrives, or is lost, or arrives and will once more.
    fn deliver(&mut self) {
        if self.network.is_empty() {
            return;
        }
        let at = self.below(self.network.len() as u64) as usize;
        let message = self.network.swap_remove(at);
        if !self.healed && self.one_in(8) {
            return;
        }
        if !self.healed && self.one_in(10) {
            self.network.push(message.clone());
        }
        match message {
            Message::Told { from, to, record, confirmed } if self.linked(from, to) => {
                let lot = self.next_id();
                let heard_at = confirmed.then_some(self.now);
                self.members[to].told(&record, self.now, heard_at, lot, self.broken);
            }
            Message::Said { from, to, report } if self.linked(from, to) => {
                let (driver, now) = (to - self.members.len(), self.now);
                if let Some(driver) = self.drivers.get_mut(driver) {
                    driver.hears(*report, now);
                }
            }
            Message::Proposed { decided_at, change } => self.propose(decided_at, change),
            Message::Flushed { to, start, disk, end } => {
                self.heard_flushed(to, start, disk, end);
                self.release_waits(to);
            }
            Message::Told { .. } | Message::Said { .. } => {}
        }
    }
}

/// Whether the data is being copied already, by pg_rewind or by a base backup.
fn is_half(member: &Member, can_rewind: bool) -> bool {
    member.server == atoll_proto::group::Server::Unusable { can_rewind }
}
