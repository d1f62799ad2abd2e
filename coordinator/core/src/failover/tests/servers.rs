//! A member of the simulated group: a PostgreSQL server as far as replication goes, and its agent.

#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

use super::world::Broken;
use atoll_proto::group::{
    Act, Disk, Fit, GroupRecord, Incarnation, Phase, Position, Report, Server, Sight, Stamps, act, takes,
};
use atoll_proto::{CatalogVersion, Generation, Lsn, WorkerId};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// A standby counts as connected for so long after it was last heard, in milliseconds.
const CONNECTED_MS: u64 = 500;

/// Something in a log. Ids are unique, and logs grow by copying: equal entries at one place mean equal logs up to there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    /// The newest generation recorded up to and with this entry.
    pub(super) generation: Generation,
    pub(super) id: u64,
    /// The client's write; none of what PostgreSQL or the agent writes.
    pub(super) write: Option<u64>,
}

/// A commit that waits for standbys.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wait {
    pub(super) write: u64,
    pub(super) end: usize,
    pub(super) begun_at: u64,
}

pub(super) struct Member {
    pub(super) disk: Disk,
    pub(super) log: Vec<Entry>,
    pub(super) flushed: usize,
    pub(super) server: Server,
    /// `synchronous_standby_names`, on disk.
    pub(super) list: Option<BTreeSet<Disk>>,
    /// Counts starts: a connection does not outlive one.
    pub(super) start: u64,
    /// Of a primary: what each standby says it has flushed, and when it said so.
    pub(super) acked: BTreeMap<Disk, (usize, u64)>,
    pub(super) waits: Vec<Wait>,
    pub(super) diverged: bool,
    pub(super) stopped_until: u64,
    pub(super) agent_up: bool,
    pub(super) agent_stopped_until: u64,
    /// The newest record, on disk.
    pub(super) known: Option<Rc<GroupRecord>>,
    /// In the agent's memory: the record whose list is in force, and the end of the log when it came into force.
    listed: Option<(CatalogVersion, usize)>,
    pub(super) heard_at: u64,
    /// Of a standby: when it last had a connection.
    pub(super) connected_at: u64,
    /// On disk.
    stamps: Stamps,
    /// When it was put back to an earlier state, which nobody knows.
    pub(super) put_back_at: Option<u64>,
    /// A state of before that it can be put back to.
    snapshot: Option<Snapshot>,
}

/// What a disk held at some time.
#[derive(Clone)]
struct Snapshot {
    disk: Disk,
    log: Vec<Entry>,
    server: Server,
    list: Option<BTreeSet<Disk>>,
    known: Rc<GroupRecord>,
    stamps: Stamps,
}

impl Member {
    pub(super) fn new(worker: u64, known: &Rc<GroupRecord>) -> Self {
        let disk = Disk { worker: WorkerId(worker), incarnation: Incarnation(1) };
        let primary = known.primary == disk;
        Self {
            disk,
            log: if primary { vec![Entry { generation: Generation(1), id: 0, write: None }] } else { Vec::new() },
            flushed: usize::from(primary),
            server: if primary { Server::Primary } else { Server::Unusable { can_rewind: false } },
            list: None,
            start: 1,
            acked: BTreeMap::new(),
            waits: Vec::new(),
            diverged: false,
            stopped_until: 0,
            agent_up: true,
            agent_stopped_until: 0,
            known: Some(known.clone()),
            listed: None,
            heard_at: 0,
            connected_at: 0,
            stamps: Stamps::first(disk.incarnation, 0),
            put_back_at: None,
            snapshot: None,
        }
    }

    /// Whether the server does anything at all.
    pub(super) fn runs(&self, now: u64) -> bool {
        now >= self.stopped_until
    }

    pub(super) fn serves(&self, now: u64) -> bool {
        self.server == Server::Primary && self.runs(now)
    }

    pub(super) fn agent_runs(&self, now: u64) -> bool {
        self.agent_up && now >= self.agent_stopped_until
    }

    pub(super) fn generation(&self) -> Generation {
        self.log.last().map_or(Generation(0), |entry| entry.generation)
    }

    pub(super) fn holds(&self, write: u64) -> bool {
        self.log.iter().any(|entry| entry.write == Some(write))
    }

    pub(super) fn append(&mut self, generation: Generation, id: u64, write: Option<u64>) {
        self.log.push(Entry { generation, id, write });
        self.flushed = self.log.len();
    }

    fn position(&self, now: u64) -> Option<Position> {
        let can_be_told = match self.server {
            Server::Detached | Server::Following { .. } | Server::Primary => self.runs(now),
            Server::Stopped { .. } | Server::Unusable { .. } => false,
        };
        let generation = self.log[..self.flushed].last()?.generation;
        can_be_told.then_some(Position { generation, lsn: Lsn(self.flushed as u64) })
    }

    /// A record arrives.
    pub(super) fn told(
        &mut self,
        record: &Rc<GroupRecord>,
        now: u64,
        heard_at: Option<u64>,
        lot: u64,
        broken: Option<Broken>,
    ) {
        if !self.agent_runs(now) {
            return;
        }
        self.heard_at = heard_at.unwrap_or(self.heard_at);
        if takes(self.known.as_deref(), record, self.disk) || broken == Some(Broken::OldRecordsAreTaken) {
            let lot = if broken == Some(Broken::StampsAreOnlyCounted) { 0 } else { lot };
            self.stamps = self.stamps.after(record, self.disk, lot);
            self.known = Some(record.clone());
        }
    }

    /// What the agent wants to do; none if it can do nothing.
    pub(super) fn wants(&self, now: u64, broken: Option<Broken>) -> Option<Act> {
        let known = self.known.as_ref().filter(|_| self.agent_runs(now))?;
        let sight = Sight {
            disk: self.disk,
            server: self.server,
            position: self.position(now),
            list: self.list.clone(),
            restored: self.is_restored(known, broken),
            fit: if self.diverged { Fit::Diverged } else { Fit::GoesOn },
            silent_ms: now - self.heard_at,
        };
        let wanted = act(known, &sight);
        match &wanted {
            Act::Detach if broken == Some(Broken::FencedMembersGoOnReceiving) && self.is_no_candidate(known) => None,
            // A process that was stopped can be killed, and nothing else.
            Act::Stop => Some(wanted),
            Act::Nothing
            | Act::StartPrimary
            | Act::StartDetached
            | Act::Detach
            | Act::Follow { .. }
            | Act::Promote
            | Act::RecordGeneration
            | Act::SetList { .. }
            | Act::Rewind { .. }
            | Act::BaseBackup { .. } => self.runs(now).then_some(wanted),
        }
    }

    fn is_no_candidate(&self, known: &GroupRecord) -> bool {
        match known.phase {
            Phase::Fencing { .. } => true,
            Phase::Promoting { candidate } => candidate != self.disk,
            Phase::Steady | Phase::HandingOver { .. } => false,
        }
    }

    /// Carries out what needs no other member. Gives back the writes whose clients learn nothing.
    pub(super) fn carry_out(&mut self, wanted: Act, id: u64, broken: Option<Broken>) -> Vec<u64> {
        let known = self.known.clone().unwrap();
        match wanted {
            Act::Stop => return self.stop(),
            Act::StartPrimary => self.start_as(Server::Primary),
            Act::StartDetached => {
                self.list = None;
                self.start_as(Server::Detached);
            }
            Act::Detach => {
                self.flushed = self.log.len();
                self.server = Server::Detached;
            }
            Act::Follow { worker } => self.server = Server::Following { worker },
            Act::Promote => {
                self.start_as(Server::Primary);
                // The end of recovery: the new timeline, which does not know its generation yet.
                self.append(self.generation(), id, None);
            }
            Act::RecordGeneration => {
                self.append(known.generation, id, None);
                return self.waits.drain(..).map(|wait| wait.write).collect();
            }
            Act::SetList { mut listed } => {
                if broken == Some(Broken::JoinsPostgresFirst) {
                    listed.extend(self.acked.keys());
                }
                self.list = Some(listed);
                self.listed = Some((known.changed_at, self.log.len()));
            }
            Act::Nothing => {
                let current = self.listed.is_some_and(|(at, _)| at == known.changed_at);
                if self.server == Server::Primary && self.list.is_some() && !current {
                    self.listed = Some((known.changed_at, self.log.len()));
                }
            }
            Act::Rewind { .. } => self.is_half(Server::Unusable { can_rewind: true }),
            Act::BaseBackup { .. } => self.is_half(Server::Unusable { can_rewind: false }),
        }
        Vec::new()
    }

    /// Some of the data is what it was, some is not.
    fn is_half(&mut self, server: Server) {
        if self.server != server {
            self.log.truncate(self.log.len() / 2);
        }
        (self.flushed, self.server) = (self.log.len(), server);
    }

    fn start_as(&mut self, server: Server) {
        self.server = server;
        self.start += 1;
        self.diverged = false;
        self.acked.clear();
        self.listed = None;
    }

    /// The server ends, by whatever. What was not flushed is gone, and clients that waited don't know.
    pub(super) fn stop(&mut self) -> Vec<u64> {
        self.log.truncate(self.flushed);
        self.acked.clear();
        self.stopped_until = 0;
        self.server = match self.server {
            Server::Primary => Server::Stopped { standby: false },
            Server::Detached | Server::Following { .. } => Server::Stopped { standby: true },
            Server::Stopped { .. } | Server::Unusable { .. } => self.server,
        };
        self.waits.drain(..).map(|wait| wait.write).collect()
    }

    pub(super) fn agent_dies(&mut self) {
        self.agent_up = false;
        self.listed = None;
    }

    /// The disk is lost. Whoever comes next in its place knows nothing.
    pub(super) fn wipe(&mut self, incarnation: u64, broken: Option<Broken>) -> Vec<u64> {
        let in_doubt = self.stop();
        self.data_is(Vec::new(), incarnation, broken);
        self.server = Server::Unusable { can_rewind: false };
        (self.known, self.listed) = (None, None);
        in_doubt
    }

    /// Somebody takes a snapshot of the disk.
    pub(super) fn is_copied(&mut self) {
        let Some(known) = self.known.clone().filter(|_| !matches!(self.server, Server::Unusable { .. })) else {
            return;
        };
        if self.put_back_at.is_none() {
            let (log, list) = (self.log[..self.flushed].to_vec(), self.list.clone());
            self.snapshot =
                Some(Snapshot { disk: self.disk, log, server: self.server, list, known, stamps: self.stamps });
        }
    }

    /// Whether the snapshot is one of this data, and so old that its stamps tell it.
    pub(super) fn can_be_put_back(&self, newest: &GroupRecord) -> bool {
        let of_disk = self.snapshot.as_ref().filter(|snapshot| snapshot.disk == self.disk);
        of_disk.is_some_and(|snapshot| newest.tells_restored(self.disk, &snapshot.stamps)) && self.put_back_at.is_none()
    }

    fn is_restored(&self, known: &GroupRecord, broken: Option<Broken>) -> bool {
        broken != Some(Broken::RestoredDisksAreMembers) && known.tells_restored(self.disk, &self.stamps)
    }

    /// Its machine is made anew from the snapshot, which takes until then.
    pub(super) fn put_back(&mut self, now: u64, until: u64) -> Vec<u64> {
        let in_doubt = self.stop();
        let snapshot = self.snapshot.clone().unwrap();
        (self.flushed, self.log) = (snapshot.log.len(), snapshot.log);
        (self.list, self.listed) = (snapshot.list, None);
        self.server = match snapshot.server {
            Server::Primary | Server::Stopped { standby: false } => Server::Stopped { standby: false },
            _ => Server::Stopped { standby: true },
        };
        (self.known, self.stamps, self.put_back_at) = (Some(snapshot.known), snapshot.stamps, Some(now));
        (self.stopped_until, self.agent_stopped_until, self.heard_at) = (until, until, 0);
        in_doubt
    }

    /// A base backup is complete.
    pub(super) fn data_is(&mut self, log: Vec<Entry>, incarnation: u64, broken: Option<Broken>) {
        if broken != Some(Broken::WipedDisksAreMembers) {
            self.disk.incarnation = Incarnation(incarnation);
        }
        self.list = None;
        (self.stamps, self.put_back_at) = (Stamps::first(self.disk.incarnation, incarnation), None);
        self.mended(log);
    }

    /// pg_rewind is complete: the data is the primary's.
    pub(super) fn mended(&mut self, log: Vec<Entry>) {
        self.flushed = log.len();
        self.log = log;
        self.diverged = false;
        self.server = Server::Detached;
    }

    /// What the agent says.
    pub(super) fn report(&self, now: u64, broken: Option<Broken>) -> Option<Report> {
        let known = self.known.as_ref().filter(|_| self.agent_runs(now))?;
        let mut server = self.server;
        let mut position = self.position(now);
        let is_fenced = known.phase != Phase::Steady;
        if broken == Some(Broken::FencedMembersGoOnReceiving) && is_fenced && matches!(server, Server::Following { .. })
        {
            server = Server::Detached;
        }
        if broken == Some(Broken::LsnAloneDecides) && server == Server::Detached {
            position = position.map(|position| Position { generation: Generation(1), ..position });
        }
        let connected = self.acked.iter().filter(|(_, (_, at))| now - at < CONNECTED_MS);
        let (streaming, mut caught_up) = (connected.clone().map(|(disk, _)| *disk).collect(), BTreeSet::new());
        if let Some((_, barrier)) = self.listed {
            let nothing = broken == Some(Broken::LeavesWithoutBarrier);
            caught_up = connected.filter(|(_, (end, _))| nothing || *end >= barrier).map(|(disk, _)| *disk).collect();
        }
        Some(Report {
            disk: self.disk,
            generation: known.generation,
            server,
            position,
            diverged: self.diverged,
            listed_at: self.listed.filter(|_| server == Server::Primary).map(|(at, _)| at),
            streaming,
            caught_up,
            age_ms: 0,
            cut: matches!(server, Server::Following { .. }) && now - self.connected_at > CONNECTED_MS,
            leaving: false,
            stamp: Some(self.stamps.now).filter(|_| !matches!(server, Server::Unusable { .. })),
            restored: self.is_restored(known, broken),
        })
    }
}
