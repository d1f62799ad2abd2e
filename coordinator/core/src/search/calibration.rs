//! From the recall that is wanted to the ef that gives it, by measurement.
//!
//! What ef finds depends on the data, on how large a graph is, and on how many graphs a search walks. A [`Tier`] is a kind of
//! search by the latter two. Now and then a stored vector is searched for in a tier with every ef of [`LADDER`], and exactly;
//! what each found of the true hits is counted here. Once a tier has enough searches, a search in it takes the least ef of which
//! recall is *at least* as wanted, as far as one can be sure; before that, the constants of the planner. Stored vectors are found more
//! easily than queries that lie between them, so of what may be missed only a part may be missed of them.
//!
//! A larger ef finds no less, so a bound that holds for one ef holds for all above it: the answer falls with no target.
//!
//! Kept in memory by each coordinator for itself. A crash leaves nothing, and the next start begins with the constants. A
//! measurement that comes late, of a tier that was begun anew meanwhile, is one more of many: a tier fades as it is refreshed.

use super::tally::Tally;
use atoll_proto::search::Profile;
use std::collections::BTreeMap;

/// Values of ef that are measured.
pub const LADDER: [u32; 8] = [10, 16, 24, 40, 64, 100, 160, 400];
/// ef of one graph that no measurement goes below.
pub const EF_MIN: u32 = 20;
/// The same of each of several.
pub const EF_MIN_OF_SEVERAL: u32 = LADDER[0];
/// Hits of a search that measures: what it says holds for as many, and with care for more.
pub const MEASURED_K: u32 = 10;
/// So many times as much is missed by queries that are not stored themselves: 1 to 3 was seen, of one corpus at ef from 10 to 40.
const QUERIES_MISS: f64 = 2.0;
/// Searches from which on a tier is believed: a flawless tier then vouches for 0.99.
const BELIEVED_FROM: f64 = 100.0;
/// Searches after which a tier is known well enough.
const ENOUGH: f64 = 200.0;
/// What is left of a tier's searches when it is measured anew: it stays believed meanwhile.
const LEFT_AFTER_REFRESH: f64 = 0.5;
/// After so many seconds a tier is measured anew.
const REFRESH_AFTER_SECONDS: u64 = 3_600;
/// So does growth of the rows behind graphs by this factor.
const REFRESH_AFTER_GROWTH: f64 = 1.25;

const ROWS_FROM: [u64; 6] = [0, 3_000, 10_000, 30_000, 100_000, 1_000_000];
const WALKS_FROM: [u32; 5] = [1, 2, 5, 13, 40];

/// Values of ef to measure in searches that walk so many graphs.
pub fn ladder(walks: usize) -> impl Iterator<Item = u32> {
    let least = if walks <= 1 { EF_MIN } else { EF_MIN_OF_SEVERAL };
    LADDER.into_iter().filter(move |ef| *ef >= least)
}

/// What recall a profile promises.
pub fn promise(profile: Profile) -> f64 {
    match profile {
        Profile::Accuracy => 0.99,
        Profile::Balanced | Profile::Auto => 0.98,
        Profile::Speed => 0.95,
    }
}

/// A kind of search: rows of a graph, and graphs that are walked, each from one bound to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tier {
    rows: usize,
    walks: usize,
}

impl Tier {
    /// The tier of searches that walk so many graphs of so many rows on average.
    pub fn of(rows: u64, walks: u32) -> Self {
        let rows = ROWS_FROM.iter().rposition(|from| rows >= *from).unwrap_or_default();
        let walks = WALKS_FROM.iter().rposition(|from| walks >= *from).unwrap_or_default();
        Self { rows, walks }
    }

    /// Rows of a graph: from, and up to but without; none for no end.
    pub fn rows(self) -> (u64, Option<u64>) {
        (ROWS_FROM[self.rows], ROWS_FROM.get(self.rows + 1).copied())
    }

    /// Graphs walked: from, and up to but without; none for no end.
    pub fn walks(self) -> (u32, Option<u32>) {
        (WALKS_FROM[self.walks], WALKS_FROM.get(self.walks + 1).copied())
    }
}

/// What was measured of one collection.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Calibration {
    tiers: BTreeMap<Tier, Measured>,
}

/// What was measured of one tier.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// By ef.
    rungs: BTreeMap<u32, Tally>,
    /// When this round of measuring began, and how many rows were behind graphs then.
    begun_s: u64,
    begun_rows: u64,
    last_s: u64,
}

impl Calibration {
    /// The least ef that is known to reach the recall, or the largest that was measured if none is; none while too little was
    /// measured.
    pub fn ef(&self, tier: Tier, recall: f64) -> Option<u32> {
        let measured = self.tiers.get(&tier).filter(|measured| measured.is_believed())?;
        let enough = 1.0 - (1.0 - recall) / QUERIES_MISS;
        let reaching = measured.rungs.iter().find(|(_, tally)| tally.least() >= enough);
        reaching.or(measured.rungs.last_key_value()).map(|(ef, _)| *ef)
    }

    /// Whether a tier should be measured (further). Begins its next round where the last is old, or where there are many more
    /// rows behind graphs than there were. `now_s` are seconds since any fixed moment.
    pub fn wants(&mut self, tier: Tier, now_s: u64, rows: u64) -> bool {
        let Some(measured) = self.tiers.get_mut(&tier) else { return true };
        let old = now_s.saturating_sub(measured.begun_s) >= REFRESH_AFTER_SECONDS;
        let grown = rows as f64 > measured.begun_rows as f64 * REFRESH_AFTER_GROWTH;
        if measured.searches() >= ENOUGH && (old || grown) {
            measured.rungs.values_mut().for_each(|tally| tally.fade(LEFT_AFTER_REFRESH));
            (measured.begun_s, measured.begun_rows) = (now_s, rows);
        }
        measured.searches() < ENOUGH
    }

    /// Takes in one search: what each ef found of `wanted` true hits, and in how many milliseconds.
    pub fn add(&mut self, tier: Tier, found: &[(u32, u32, f64)], wanted: u32, now_s: u64, rows: u64) {
        let new = || Measured { rungs: BTreeMap::new(), begun_s: now_s, begun_rows: rows, last_s: now_s };
        let measured = self.tiers.entry(tier).or_insert_with(new);
        measured.last_s = now_s;
        for (ef, found, ms) in found {
            measured.rungs.entry(*ef).or_default().add(*found, wanted, *ms);
        }
    }

    /// Every tier that was measured.
    pub fn tiers(&self) -> impl Iterator<Item = (Tier, &Measured)> {
        self.tiers.iter().map(|(tier, measured)| (*tier, measured))
    }
}

impl Measured {
    /// Whether searches go by it.
    pub fn is_believed(&self) -> bool {
        self.searches() >= BELIEVED_FROM
    }

    /// Searches that every ef had.
    pub fn searches(&self) -> f64 {
        let fewest = self.rungs.values().map(Tally::searches).min_by(f64::total_cmp);
        fewest.unwrap_or_default()
    }

    /// Each ef, and what it found.
    pub fn rungs(&self) -> impl Iterator<Item = (u32, &Tally)> {
        self.rungs.iter().map(|(ef, tally)| (*ef, tally))
    }

    /// Seconds since the last measurement.
    pub fn age_seconds(&self, now_s: u64) -> u64 {
        now_s.saturating_sub(self.last_s)
    }
}

#[cfg(test)]
#[path = "calibration_tests.rs"]
mod tests;
