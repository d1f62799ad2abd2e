//! Leaders of the simulated world, and the catalog.

#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

use super::world::{Broken, Message, World};
use crate::failover::{Change, CutOff, Evidence, Heard, Observed, Step, Word, changed, next_step};
use atoll_proto::group::{Disk, GroupRecord, Phase, Report, Server};
use atoll_proto::{CatalogVersion, WorkerId};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// Stamps of a world that lasts half a minute, in milliseconds.
const STAMP_MS: u64 = 1_000;

/// Who thinks that it leads.
pub(super) struct Driver {
    /// What it has seen of the catalog; an old leader may be far behind.
    pub(super) view: Rc<GroupRecord>,
    since: u64,
    stamped_since: u64,
    heard: BTreeMap<WorkerId, (Report, u64)>,
    /// Since when the primary does not serve by its own word, and has been out of reach.
    down_since: Option<u64>,
    failing_since: Option<u64>,
    absent_since: BTreeMap<Disk, u64>,
    cut_off: CutOff,
    pub(super) lags: bool,
}

impl Driver {
    pub(super) fn new(view: Rc<GroupRecord>, now: u64) -> Self {
        Self {
            view,
            since: now,
            stamped_since: now,
            heard: BTreeMap::new(),
            down_since: None,
            failing_since: None,
            absent_since: BTreeMap::new(),
            cut_off: CutOff::default(),
            lags: false,
        }
    }

    fn looks(&mut self, record: &Rc<GroupRecord>, now: u64) {
        if self.view.changed_at > record.changed_at || self.view == *record {
            return;
        }
        if self.view.primary != record.primary {
            (self.down_since, self.failing_since) = (None, None);
            self.absent_since.clear();
        }
        if self.view.stamps != record.stamps {
            self.stamped_since = now;
        }
        if self.view.changed_at != record.changed_at {
            self.since = now;
        }
        self.view = record.clone();
    }

    pub(super) fn hears(&mut self, report: Report, now: u64) {
        if report.disk == self.view.primary && report.server == Server::Primary {
            self.absent_since.retain(|disk, _| !report.streaming.contains(disk));
            for disk in self.view.voters.iter().filter(|disk| !report.streaming.contains(disk)) {
                self.absent_since.entry(*disk).or_insert(now);
            }
        }
        self.heard.insert(report.disk.worker, (report, now));
    }

    fn observed(&mut self, now: u64, reached: bool) -> Observed {
        let primary = self.heard.get(&self.view.primary.worker).filter(|(said, _)| said.disk == self.view.primary);
        let serves = primary.is_some_and(|(said, _)| {
            said.server == Server::Primary && said.position.is_some_and(|at| at.generation == self.view.generation)
        });
        let silent_ms = now - primary.map_or(self.since, |(_, at)| (*at).max(self.since));
        let age = |since: Option<u64>| since.map_or(0, |since| now - since);
        self.down_since = if serves { None } else { self.down_since.or(Some(now)) };
        self.failing_since = if reached { None } else { self.failing_since.or(Some(now)) };
        let word = primary.map(|_| match serves {
            true => Word::Serves,
            false => Word::Down { for_ms: age(self.down_since) },
        });
        let cut = self.heard.values().filter(|(said, _)| said.disk != self.view.primary);
        let connected = primary.map(|(said, _)| said.streaming.clone()).unwrap_or_default();
        let evidence = Evidence {
            word,
            silent_ms,
            failing_ms: age(self.failing_since),
            refused_ms: 0,
            standbys_cut: cut.clone().filter(|(said, _)| !connected.contains(&said.disk)).count() as u32,
            standbys_heard: cut.count() as u32,
        };
        let heard = self.heard.iter().map(|(worker, (report, at))| {
            let heard = Heard { report: report.clone(), age_ms: now - at };
            (*worker, heard)
        });
        let heard: BTreeMap<WorkerId, Heard> = heard.collect();
        self.cut_off.look(&self.view, &heard, now);
        Observed {
            heard,
            phase_ms: now - self.since,
            evidence,
            absent_ms: self.absent_since.iter().map(|(disk, since)| (*disk, now - since)).collect(),
            cut_ms: self.cut_off.ms(),
            stamp_is_due: now - self.stamped_since >= STAMP_MS,
        }
    }
}

impl World {
    /// One of the leaders looks, asks, decides, and tells what it knows.
    pub(super) fn drive(&mut self) {
        let which = self.below(self.drivers.len() as u64) as usize;
        let looks = !self.drivers[which].lags || self.one_in(20);
        let (now, newest) = (self.now, self.records.last().unwrap().clone());
        if looks {
            self.drivers[which].looks(&newest, now);
        }
        let end = self.end_of(which);
        let primary = self.at(self.drivers[which].view.primary.worker);
        let reached = self.members[primary].serves(now) && self.linked(end, primary) && self.linked(primary, end);
        let mut seen = self.drivers[which].observed(now, reached);
        let view = self.drivers[which].view.clone();
        if let Step::Record(change) = self.decide(&view, &mut seen) {
            self.send(Message::Proposed { decided_at: view.changed_at, change });
        }
        for at in 0..self.members.len() {
            if self.one_in(2) {
                // Any coordinator tells a member what it knows, and may be late.
                let back = if self.one_in(8) { 1 + self.below(4) as usize } else { 0 };
                let late = self.records[self.records.len().saturating_sub(1 + back)].clone();
                let record = if back > 0 { late } else { view.clone() };
                let confirmed = record == newest;
                self.send(Message::Told { from: end, to: at, record, confirmed });
            }
        }
    }

    fn decide(&mut self, view: &GroupRecord, seen: &mut Observed) -> Step {
        let mut view = view.clone();
        match self.broken {
            Some(Broken::OneAnswerTooFew) if matches!(view.phase, Phase::Fencing { .. }) => view.copies += 1,
            Some(Broken::WipedDisksAreMembers) | None => {}
            Some(Broken::LeastAdvancedIsPromoted) => return self.least_advanced(&view, seen),
            Some(Broken::WishesAreOrders) => {
                let step = next_step(&view, seen);
                return match (&step, view.phase) {
                    (Step::Record(Change::Promote { .. }), Phase::Fencing { wish: Some(candidate) }) => {
                        Step::Record(Change::Promote { candidate })
                    }
                    _ => step,
                };
            }
            Some(Broken::LeavesCatalogFirst) => return leaves_catalog_first(&view, seen),
            Some(Broken::GenerationsAreOld) if matches!(view.phase, Phase::Fencing { .. }) => {
                for heard in seen.heard.values_mut() {
                    if heard.report.position.is_some() && heard.report.server != Server::Primary {
                        (heard.report.generation, heard.report.server) = (view.generation, Server::Detached);
                    }
                }
            }
            Some(_) => {}
        }
        next_step(&view, seen)
    }

    /// Enough have answered, and another than the most advanced is taken.
    fn least_advanced(&self, view: &GroupRecord, seen: &Observed) -> Step {
        let step = next_step(view, seen);
        let Step::Record(Change::Promote { .. }) = step else { return step };
        let fenced = seen.heard.values().map(|heard| &heard.report).filter(|report| {
            report.generation == view.generation
                && report.server == Server::Detached
                && view.voters.contains(&report.disk)
        });
        let candidate = fenced.min_by_key(|report| report.position).unwrap().disk;
        Step::Record(Change::Promote { candidate })
    }

    /// The catalog takes a change in, or refuses it.
    pub(super) fn propose(&mut self, decided_at: CatalogVersion, change: Change) {
        let record = self.records.last().unwrap().clone();
        let decided_at = if self.broken == Some(Broken::ChangesNameNothing) { record.changed_at } else { decided_at };
        self.entries += 1;
        let mut record = record;
        if let (Some(Broken::LeavesCatalogFirst), Change::Vote { voters, .. }) = (self.broken, &change) {
            // Such a catalog would not look at whom PostgreSQL counts.
            Rc::make_mut(&mut record).listed = voters.clone();
        }
        let Some(next) = changed(&record, decided_at, change.clone(), CatalogVersion(self.entries)) else { return };
        match change {
            Change::Fence { wish: Some(_) } if record.phase == Phase::Steady => self.happened.alone += 1,
            Change::HandOver { .. } => self.happened.hand_overs += 1,
            Change::Activate => self.happened.failovers += 1,
            Change::Vote { voters, .. } if voters.is_superset(&record.voters) => self.happened.joins += 1,
            Change::Vote { .. } => self.happened.leaves += 1,
            Change::Stamp { .. } => self.happened.stamps += 1,
            Change::Fence { .. }
            | Change::Promote { .. }
            | Change::List { .. }
            | Change::Mend { .. }
            | Change::AcceptLoss { .. } => {}
        }
        self.oracle.changed(&record, &next, self.now, &self.members);
        self.records.push(Rc::new(next));
    }
}

/// Whoever is gone leaves the catalog at once, and PostgreSQL when it hears of that.
fn leaves_catalog_first(view: &GroupRecord, seen: &Observed) -> Step {
    match next_step(view, seen) {
        Step::Record(Change::List { listed }) if listed.len() >= view.copies as usize => {
            let held_by: BTreeSet<Disk> = listed.clone();
            Step::Record(Change::Vote { voters: listed, held_by })
        }
        other => other,
    }
}
