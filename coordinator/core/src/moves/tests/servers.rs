//! The two servers of a simulated move: what orders do to them, as `docs/moves.md` says.

#![allow(clippy::wildcard_enum_match_arm)]

use super::world::Broken;
use atoll_proto::moves::{MoveReport, MoveWork, TableSum};
use std::collections::BTreeMap;

/// Rows by key, each with the number of the write that made it.
pub(super) type Rows = BTreeMap<u8, u64>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    Put(u8, u64),
    Delete(u8),
    Marker(u64),
}

/// Names that a shard's schema bears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Name {
    /// That of the generation on the source.
    Source,
    /// That of the generation on the target.
    Target,
    /// None that anybody knows.
    Retired,
}

#[derive(Debug, Clone)]
pub(super) struct Source {
    /// The shard, until it is dropped.
    pub(super) shard: Option<(Name, Rows)>,
    /// A schema made anew under the name of the retired one.
    pub(super) anew: Option<Rows>,
    pub(super) log: Vec<Change>,
    pub(super) feed: bool,
    /// The lock that an agent holds: for which order, and the marker written under it.
    pub(super) fence: Option<(u64, u64)>,
    retired_at: Option<u64>,
    newest: u64,
    marker: u64,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Target {
    pub(super) now: State,
    /// What a crash leaves.
    disk: State,
    newest: u64,
    hold: bool,
    held: Option<(u64, TableSum)>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct State {
    pub(super) copy: Option<(Name, Rows)>,
    pub(super) subscribed: bool,
    /// Changes of the source's log that are in the copy; none before the copy.
    pub(super) applied: Option<usize>,
    indexed: bool,
    marker: u64,
}

type Answer = Result<MoveReport, String>;

fn stale() -> Answer {
    Err("stale".to_owned())
}

fn sum(rows: &Rows) -> TableSum {
    let mix = |key: u8, value: u64| (u64::from(key) + 1).wrapping_mul(0x9e37_79b9).wrapping_add(value).rotate_left(17);
    let sum = rows.iter().fold(0_u64, |sum, (key, value)| sum.wrapping_add(mix(*key, *value)));
    TableSum { table: "t".to_owned(), rows: rows.len() as u64, sum: sum.to_string() }
}

impl Source {
    pub(super) fn new() -> Self {
        Self {
            shard: Some((Name::Source, Rows::new())),
            anew: None,
            log: Vec::new(),
            feed: false,
            fence: None,
            retired_at: None,
            newest: 0,
            marker: 0,
        }
    }

    /// A crash of agent or server: the lock is gone, what was committed is not.
    pub(super) fn crash(&mut self) {
        self.fence = None;
    }

    fn mark(&mut self) -> u64 {
        self.marker += 1;
        self.log.push(Change::Marker(self.marker));
        self.marker
    }

    pub(super) fn carry_out(&mut self, work: MoveWork, ordered_at: u64, broken: Option<Broken>) -> Answer {
        if ordered_at < self.newest && broken != Some(Broken::ServersTakeOldOrders) {
            return stale();
        }
        self.newest = self.newest.max(ordered_at);
        match work {
            MoveWork::Feed => self.feed = true,
            MoveWork::Mark => return Ok(MoveReport { marker: Some(self.mark()), ..MoveReport::done() }),
            MoveWork::Sum => {
                let marker = self.mark();
                let Some((_, rows)) = &self.shard else { return Err("no shard".to_owned()) };
                return Ok(MoveReport { marker: Some(marker), sums: Some(vec![sum(rows)]), ..MoveReport::done() });
            }
            MoveWork::Fence { .. } => {
                if self.retired_at.is_none() && self.fence.is_none_or(|(of, _)| of != ordered_at) {
                    self.fence = Some((ordered_at, self.mark()));
                }
                let marker = self.retired_at.or(self.fence.map(|(_, marker)| marker));
                return Ok(MoveReport { marker, ..MoveReport::done() });
            }
            MoveWork::Retire => {
                if self.retired_at.is_none() {
                    let Some((_, marker)) = self.fence.take().filter(|(of, _)| *of == ordered_at) else {
                        return Err("let go".to_owned());
                    };
                    self.retired_at = Some(marker);
                    self.rename(Name::Retired);
                }
            }
            MoveWork::Restore => {
                (self.fence, self.retired_at) = (None, None);
                self.rename(Name::Source);
            }
            MoveWork::RemoveFeed => self.feed = false,
            MoveWork::DropRetired => {
                if self.shard.as_ref().is_some_and(|(name, _)| *name == Name::Retired) {
                    self.shard = None;
                }
            }
            other => return Err(format!("not the source's: {other:?}")),
        }
        Ok(MoveReport::done())
    }

    fn rename(&mut self, to: Name) {
        if let Some((name, _)) = &mut self.shard {
            *name = to;
        }
    }
}

impl Target {
    pub(super) fn crash(&mut self) {
        self.now = self.disk.clone();
        (self.hold, self.held) = (false, None);
    }

    pub(super) fn flush(&mut self) {
        self.disk = self.now.clone();
    }

    /// The subscription takes one step.
    pub(super) fn replicate(&mut self, source: &Source) {
        let State { copy, subscribed, applied, marker, .. } = &mut self.now;
        let (true, true, Some((name, rows))) = (*subscribed, source.feed, copy) else { return };
        let Some(at) = applied else {
            let Some((_, theirs)) = &source.shard else { return };
            *rows = theirs.clone();
            *applied = Some(source.log.len());
            return;
        };
        let Some(change) = source.log.get(*at) else { return };
        if *name == Name::Target && !matches!(change, Change::Marker(_)) {
            // The table that it names is not here.
            return;
        }
        match change {
            Change::Marker(number) => {
                if std::mem::take(&mut self.hold) {
                    self.held = Some((*marker, sum(rows)));
                }
                *marker = *number;
            }
            Change::Put(key, value) => {
                rows.insert(*key, *value);
            }
            Change::Delete(key) => {
                rows.remove(key);
            }
        }
        *applied = Some(*at + 1);
    }

    pub(super) fn carry_out(&mut self, work: MoveWork, ordered_at: u64, broken: Option<Broken>) -> Answer {
        if ordered_at < self.newest && broken != Some(Broken::ServersTakeOldOrders) {
            return stale();
        }
        self.newest = self.newest.max(ordered_at);
        match work {
            MoveWork::Receive => {
                if self.now.copy.is_none() {
                    self.now.copy = Some((Name::Source, Rows::new()));
                }
                self.now.subscribed = true;
            }
            MoveWork::Copied if self.now.applied.is_none() => return Ok(MoveReport::not_yet(None)),
            MoveWork::Copied => return Ok(MoveReport::done()),
            MoveWork::Index => self.now.indexed = true,
            MoveWork::Warm => return Ok(MoveReport::done()),
            MoveWork::Await { marker } => {
                let arrived = self.now.marker >= marker || broken == Some(Broken::LastMarkerIsNotAwaited);
                return Ok(if arrived { MoveReport::done() } else { MoveReport::not_yet(None) });
            }
            MoveWork::Hold => {
                (self.hold, self.held) = (true, None);
                return Ok(MoveReport::done());
            }
            MoveWork::SumAt { marker } => {
                let Some((before, sum)) = self.held.clone() else {
                    return Ok(MoveReport::not_yet(None));
                };
                if before + 1 != marker {
                    return Err("another marker".to_owned());
                }
                return Ok(MoveReport { sums: Some(vec![sum]), ..MoveReport::done() });
            }
            MoveWork::TakeOver { marker } => {
                if self.now.marker < marker && broken != Some(Broken::LastMarkerIsNotAwaited) {
                    return Ok(MoveReport::not_yet(None));
                }
                self.rename(Name::Target);
                if broken == Some(Broken::TargetIsNotFlushed) {
                    // The name alone reaches the disk.
                    if let (Some((name, _)), Some((now, _))) = (&mut self.disk.copy, &self.now.copy) {
                        *name = *now;
                    }
                    return Ok(MoveReport::done());
                }
            }
            MoveWork::StepBack => self.rename(Name::Source),
            MoveWork::RemoveSubscription => self.now.subscribed = false,
            MoveWork::DropCopy => self.now.copy = None,
            other => return Err(format!("not the target's: {other:?}")),
        }
        // Each of these commits by itself, and a commit flushes what came before it.
        self.flush();
        Ok(MoveReport::done())
    }

    fn rename(&mut self, to: Name) {
        if let Some((name, _)) = &mut self.now.copy {
            *name = to;
        }
    }
}
