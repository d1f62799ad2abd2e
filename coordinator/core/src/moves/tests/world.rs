//! The world: a catalog, two servers, drivers that lead or think so, writers, a network that loses and repeats, and the oracle.

#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

use super::servers::{Change, Name, Source, Target};
use crate::catalog::testing::{init, worker};
use crate::catalog::{Catalog, Command, Outcome};
use crate::moves::{MoveJob, Observed, Side, Step, next_step};
use atoll_proto::moves::{MovePhase, MoveReport, MoveWork};
use atoll_proto::{CatalogVersion, CollectionId, Generation, GroupId, MoveId, ShardId};
use std::collections::BTreeMap;

const SHARD: ShardId = ShardId(1);
const MOVE: MoveId = MoveId(10);
/// Not one that writers use.
const NOBODYS_KEY: u8 = 200;
const STEPS: u32 = 1_500;
const STEPS_TO_END: u32 = 20_000;

/// A rule that is broken on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Broken {
    /// The catalog takes records that were decided on in an earlier phase.
    RecordsNameNothing,
    /// Servers carry out whatever they are told.
    ServersTakeOldOrders,
    /// The source gives its name up before the target has everything.
    LastMarkerIsNotAwaited,
    /// The target's last changes are in memory only when it becomes the owner.
    TargetIsNotFlushed,
    /// Names are put back before the catalog says that the fence was given up.
    RestoredBeforeRecorded,
    /// What may have to go is not written down.
    NoCleanupRecords,
    /// A move that is cancelled leaves the source retired.
    CancelDoesNotRestore,
    /// The settler makes anew what the source has retired.
    RetiredIsMadeAnew,
    /// Writers are let in while the last marker is on its way.
    FenceLetsWritersIn,
    /// Sides that differ are taken for equal.
    DifferencesAreOverlooked,
    /// The owner changes before its schema has its name.
    SwitchedBeforeTakenOver,
}

impl Broken {
    pub(super) const ALL: [Self; 11] = [
        Self::RecordsNameNothing,
        Self::ServersTakeOldOrders,
        Self::LastMarkerIsNotAwaited,
        Self::TargetIsNotFlushed,
        Self::RestoredBeforeRecorded,
        Self::NoCleanupRecords,
        Self::CancelDoesNotRestore,
        Self::RetiredIsMadeAnew,
        Self::FenceLetsWritersIn,
        Self::DifferencesAreOverlooked,
        Self::SwitchedBeforeTakenOver,
    ];
}

struct Driver {
    /// What it has seen of the catalog; an old leader may be far behind.
    job: MoveJob,
    seen: Observed,
    phase: CatalogVersion,
    /// The order or record that it waits for.
    waits_for: Option<u64>,
    lags: bool,
}

#[derive(Clone)]
enum Message {
    Order { side: Side, work: MoveWork, ordered_at: u64 },
    Record(Box<Command>),
}

struct Sent {
    number: u64,
    message: Message,
}

pub(super) struct World {
    random: u64,
    broken: Option<Broken>,
    catalog: Catalog,
    index: u64,
    source: Source,
    target: Target,
    drivers: Vec<Driver>,
    network: Vec<Sent>,
    sent: u64,
    written: u64,
    /// The last acknowledged write of each key, and whether it was a delete.
    acknowledged: BTreeMap<u8, (u64, bool)>,
    /// Where the shard was when some coordinator looked.
    views: Vec<(GroupId, Generation)>,
    meddled: bool,
    healed: bool,
}

impl World {
    pub(super) fn new(seed: u64, broken: Option<Broken>) -> Self {
        let mut catalog = Catalog::default();
        catalog.apply(2, init(4, 2));
        catalog.apply(3, Command::RegisterWorker(worker("w1")));
        catalog.apply(4, Command::RegisterWorker(worker("w2")));
        catalog.apply(5, Command::SettleCollection { id: CollectionId(2), changed_at: CatalogVersion(2) });
        let owner = catalog.placements[&SHARD];
        let to = *catalog.groups.keys().find(|group| **group != owner.group).unwrap();
        let start = Command::StartMove { token: "t".to_owned(), shard: SHARD, to, max_write_pause_ms: 500 };
        assert_eq!(catalog.apply(MOVE.0, start), Outcome::MoveStarted { id: MOVE });
        let mut world = Self {
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1234_5678_9abc_def1,
            broken,
            catalog,
            index: MOVE.0,
            source: Source::new(),
            target: Target::default(),
            drivers: Vec::new(),
            network: Vec::new(),
            sent: 0,
            written: 0,
            acknowledged: BTreeMap::new(),
            views: vec![(owner.group, owner.generation)],
            meddled: false,
            healed: false,
        };
        world.elect();
        world
    }

    /// Whether the shard has moved; an error if something is wrong.
    pub(super) fn run(mut self) -> Result<bool, String> {
        for _ in 0..STEPS {
            self.step();
        }
        self.healed = true;
        self.drivers.clear();
        self.elect();
        for _ in 0..STEPS_TO_END {
            if !self.job().is_open() && self.network.is_empty() {
                return self.judge();
            }
            self.step();
        }
        Err(format!("it does not end: {:?}", self.job()))
    }

    fn job(&self) -> &MoveJob {
        &self.catalog.moves[&MOVE]
    }

    /// A number below `n`, by xorshift.
    fn below(&mut self, n: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % n
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn step(&mut self) {
        match self.below(100) {
            0..30 => self.drive(),
            30..55 => self.deliver(),
            // Faster than writers write, else no copy would ever be close behind.
            55..75 => (0..=self.below(6)).for_each(|_| self.target.replicate(&self.source)),
            75..94 => self.write(),
            94 if !self.healed && self.one_in(20) => self.meddle(),
            94 => {}
            95 => self.target.flush(),
            _ if self.healed => {}
            96 if self.one_in(4) => self.target.crash(),
            97 if self.one_in(4) => self.source.crash(),
            98 if self.one_in(3) => self.elect(),
            99 if self.one_in(25) => drop(self.record(Command::CancelMove { id: MOVE })),
            _ => {}
        }
        if self.broken == Some(Broken::RetiredIsMadeAnew)
            && self.source.shard.as_ref().is_some_and(|(name, _)| *name == Name::Retired)
            && self.source.anew.is_none()
        {
            self.source.anew = Some(BTreeMap::new());
        }
    }

    /// A new leader, who knows nothing. The old one may go on for a while.
    fn elect(&mut self) {
        if let Some(old) = self.drivers.last_mut() {
            old.lags = true;
        }
        let job = self.job().clone();
        let phase = job.changed_at;
        self.drivers.push(Driver { job, seen: Observed::default(), phase, waits_for: None, lags: false });
        if self.drivers.len() > 2 {
            self.drivers.remove(0);
        }
    }

    fn drive(&mut self) {
        let leads = self.drivers.len() - 1;
        let which = if self.one_in(3) { 0 } else { leads };
        let (looks, took) = (!self.drivers[which].lags || self.one_in(5), self.below(60));
        let job = self.job().clone();
        let driver = &mut self.drivers[which];
        if looks {
            driver.job = job;
        }
        if driver.phase != driver.job.changed_at {
            (driver.seen, driver.phase, driver.waits_for) = (Observed::default(), driver.job.changed_at, None);
        }
        driver.seen.phase_ms += took;
        driver.seen.may_begin = true;
        if driver.waits_for.is_some() {
            return;
        }
        let decided_at = driver.job.changed_at;
        let fencing = driver.job.phase == MovePhase::Fencing;
        let message = match next_step(&driver.job, &driver.seen) {
            Step::End => return,
            Step::Wait { ms } => {
                driver.seen.phase_ms += ms;
                return;
            }
            Step::Order(_, work @ MoveWork::TakeOver { .. })
                if self.broken == Some(Broken::SwitchedBeforeTakenOver) =>
            {
                driver.seen.note(work, MoveReport::done(), 1);
                return;
            }
            Step::Order(side, work) => Message::Order { side, work, ordered_at: decided_at.0 },
            Step::Record(to, brings) => {
                if self.broken == Some(Broken::RestoredBeforeRecorded) && fencing && to == MovePhase::CatchingUp {
                    let _ = self.source.carry_out(MoveWork::Restore, decided_at.0, None);
                }
                let overlooked = self.broken == Some(Broken::DifferencesAreOverlooked)
                    && brings.error.as_ref().is_some_and(|error| error.starts_with("verification"));
                let to = if overlooked { MovePhase::Fencing } else { to };
                Message::Record(Box::new(Command::AdvanceMove { id: MOVE, decided_at, to, brings }))
            }
            Step::Cleaned(cleanup) => Message::Record(Box::new(Command::NoteCleaned { id: MOVE, decided_at, cleanup })),
        };
        self.sent += 1;
        self.drivers[which].waits_for = Some(self.sent);
        self.network.push(Sent { number: self.sent, message });
    }

    /// A message arrives, or is lost, or arrives and will once more.
    fn deliver(&mut self) {
        if self.network.is_empty() {
            return;
        }
        let at = self.below(self.network.len() as u64) as usize;
        let sent = self.network.remove(at);
        let (lost, again) = (!self.healed && self.one_in(12), !self.healed && self.one_in(8));
        let answer = match &sent.message {
            _ if lost => Err("lost".to_owned()),
            Message::Order { side, work, ordered_at } => match side {
                Side::Source => self.source.carry_out(*work, *ordered_at, self.broken),
                Side::Target => self.target.carry_out(*work, *ordered_at, self.broken),
            },
            Message::Record(command) => {
                self.record(command.as_ref().clone());
                Ok(MoveReport::done())
            }
        };
        let unheard = !self.healed && self.one_in(12);
        if let Some(driver) = self.drivers.iter_mut().find(|driver| driver.waits_for == Some(sent.number)) {
            driver.waits_for = None;
            if let Message::Order { work, .. } = &sent.message {
                match answer {
                    Ok(report) if !unheard => driver.seen.note(*work, report, 5),
                    Ok(_) => driver.seen.failed(*work, "no answer".to_owned(), 5),
                    Err(reason) => driver.seen.failed(*work, reason, 5),
                }
            }
        }
        if again {
            self.network.push(sent);
        }
    }

    fn record(&mut self, command: Command) -> Outcome {
        let command = match command {
            Command::AdvanceMove { id, to, brings, .. } if self.broken == Some(Broken::RecordsNameNothing) => {
                Command::AdvanceMove { id, decided_at: self.job().changed_at, to, brings }
            }
            other => other,
        };
        self.index += 1;
        let outcome = self.catalog.apply(self.index, command);
        let job = self.catalog.moves.get_mut(&MOVE).unwrap();
        if self.broken == Some(Broken::NoCleanupRecords) && job.phase == MovePhase::Preparing {
            job.cleanups.clear();
        }
        if self.broken == Some(Broken::CancelDoesNotRestore) && job.phase == MovePhase::Cancelling {
            job.cleanups.remove(&crate::moves::Cleanup::Retired);
        }
        let owner = self.catalog.placements[&SHARD];
        if self.views.last() != Some(&(owner.group, owner.generation)) {
            self.views.push((owner.group, owner.generation));
        }
        outcome
    }

    /// A client writes by some coordinator's view, however old.
    fn write(&mut self) {
        let newest = self.views.len() - 1;
        let at = if self.one_in(3) { 0 } else { newest };
        let (group, _) = self.views[at];
        let (key, deletes) = (self.below(12) as u8, self.one_in(5));
        self.written += 1;
        let number = self.written;
        let rows = match group == self.job().from {
            true => {
                let locked = self.source.fence.is_some() && self.broken != Some(Broken::FenceLetsWritersIn);
                match (&mut self.source.shard, &mut self.source.anew) {
                    (Some((Name::Source, rows)), _) if !locked => {
                        self.source.log.push(if deletes { Change::Delete(key) } else { Change::Put(key, number) });
                        rows
                    }
                    (_, Some(anew)) => anew,
                    // It waits, or finds no table, and comes again.
                    _ => return,
                }
            }
            false => match &mut self.target.now.copy {
                Some((Name::Target, rows)) => rows,
                _ => return,
            },
        };
        match deletes {
            true => rows.remove(&key),
            false => rows.insert(key, number),
        };
        if group != self.job().from {
            // The owner's own commits wait for the disk.
            self.target.flush();
        }
        self.acknowledged.insert(key, (number, deletes));
    }

    /// Somebody adds a row to the copy behind everybody's back, before it is verified.
    fn meddle(&mut self) {
        let early = [MovePhase::Indexing, MovePhase::CatchingUp].contains(&self.job().phase) && !self.job().verified;
        if let (true, Some((_, rows))) = (early && !self.meddled, &mut self.target.now.copy) {
            rows.insert(NOBODYS_KEY, 0);
            self.meddled = true;
            self.target.flush();
        }
    }

    /// What has to hold in the end.
    fn judge(&self) -> Result<bool, String> {
        let job = self.job();
        let owner = self.catalog.placements[&SHARD];
        let moved = owner.group == job.to;
        if moved != (job.phase == MovePhase::Done) {
            return Err(format!("the move is {} and the owner {}", job.phase, owner.group));
        }
        let source = self.source.shard.as_ref().map(|(name, rows)| (*name, rows));
        let target = self.target.now.copy.as_ref().map(|(name, rows)| (*name, rows));
        let (rows, other) = match moved {
            true => (target.filter(|(name, _)| *name == Name::Target), source),
            false => (source.filter(|(name, _)| *name == Name::Source), target),
        };
        let Some((_, rows)) = rows else { return Err(format!("the owner has no shard: {source:?} {target:?}")) };
        if let Some(other) = other {
            return Err(format!("a second copy is left: {other:?}"));
        }
        if self.source.feed || self.target.now.subscribed || self.source.anew.is_some() {
            return Err("something is left that nobody owns".to_owned());
        }
        for (key, (number, deleted)) in &self.acknowledged {
            match (rows.get(key), deleted) {
                (Some(found), false) if found == number => {}
                (None, true) => {}
                (found, _) => return Err(format!("key {key}: {found:?} instead of {number} (deleted: {deleted})")),
            }
        }
        match rows.keys().find(|key| !self.acknowledged.contains_key(key)) {
            Some(key) => Err(format!("key {key} was never written")),
            None => Ok(moved),
        }
    }
}
