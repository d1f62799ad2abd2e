//! How good answers are: measured when a client asks ([`measure`]), calibrated beside the traffic ([`calibrate`]), and estimated
//! from a few live searches ([`recheck`]).
//!
//! Each coordinator measures for itself, at its own moments, and keeps what it found in memory: nothing has to be agreed on, for
//! coordinators that took different ef keep the same promise. None of this is on the path of a request but one look at a table.
//! Background work stands back where requests wait for connections.

mod calibrate;
mod measure;
mod probe;
mod recheck;
mod sample;
mod settings;

pub use calibrate::Calibrator;
pub use settings::{CalibrationSettings, SearchSettings};

use super::fanout::Tiers;
use crate::targets::Target;
use atoll_core::findings::BrokenPromise;
use atoll_core::search::calibration::{Calibration, Measured, Tier, promise};
use atoll_core::search::estimate::{Estimate, Shown};
use atoll_core::search::plan::{Calibrated, Wish};
use atoll_core::search::tally::Tally;
use atoll_proto::recall::{ProfileEf, RecallEstimate, RecallPoint, RecallTable, RecallTier};
use atoll_proto::search::Profile;
use atoll_proto::{CatalogVersion, CollectionName};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// Searches that measure at once, on behalf of all clients who asked for recall.
const MEASURING_AT_ONCE: usize = 2;
/// Least time between two searches that are run again.
const RECHECK_EVERY: Duration = Duration::from_secs(1);

const UNPOISONED: &str = "no holder of this lock panics: it is held for a look or a count only";

/// What is known of recall; one for all clones of a searcher.
pub struct Recall {
    settings: SearchSettings,
    started: Instant,
    collections: RwLock<BTreeMap<CollectionName, KnownRecall>>,
    measuring: Semaphore,
    rechecking: Arc<Semaphore>,
    last_recheck: Mutex<Option<Instant>>,
}

/// A kind of live searches that has an estimate of its own: calibration only knows of those without a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Kind {
    profile: Profile,
    filtered: bool,
}

/// What is known of one collection since it last changed: its graphs may be others now.
struct KnownRecall {
    changed_at: CatalogVersion,
    calibration: Calibration,
    estimates: BTreeMap<Kind, Estimate>,
}

impl Recall {
    /// Knows nothing yet.
    pub fn new(settings: SearchSettings) -> Self {
        Self {
            settings,
            started: Instant::now(),
            collections: RwLock::default(),
            measuring: Semaphore::new(MEASURING_AT_ONCE),
            rechecking: Arc::new(Semaphore::new(1)),
            last_recheck: Mutex::default(),
        }
    }

    /// The ef that was measured to give the recall that is wanted.
    pub(super) fn calibrated(&self, target: &Target, tiers: Tiers, wish: &Wish) -> Calibrated {
        let Some(recall) = wish.recall() else { return Calibrated::default() };
        let collections = self.collections.read().expect(UNPOISONED);
        let Some(known) = collections.get(&target.name).filter(|known| known.is_of(target)) else {
            return Calibrated::default();
        };
        let ef = |tier: Option<Tier>| known.calibration.ef(tier?, recall);
        Calibrated { own_graphs: ef(tiers.own_graphs), shard_graphs: ef(tiers.shard_graphs) }
    }

    /// Promises that are broken, as live searches show.
    pub fn broken_promises(&self) -> Vec<BrokenPromise> {
        let collections = self.collections.read().expect(UNPOISONED);
        let of_one = |(name, known): (&CollectionName, &KnownRecall)| {
            let broken = known.estimates.iter().filter(|(_, estimate)| estimate.is_broken());
            let of_kind = |(kind, estimate): (&Kind, &Estimate)| BrokenPromise {
                collection: name.to_string(),
                profile: kind.profile,
                filtered: kind.filtered,
                promise: estimate.promise(),
                recall: estimate.recall().unwrap_or_default(),
            };
            broken.map(of_kind).collect::<Vec<_>>()
        };
        collections.iter().flat_map(of_one).collect()
    }

    /// Whether a tier should be measured (further).
    fn wants(&self, target: &Target, tier: Tier, rows: u64) -> bool {
        let now_s = self.now_s();
        self.with(target, |known| known.calibration.wants(tier, now_s, rows))
    }

    /// Takes in a search that measured: what each ef found of `wanted`, in how many milliseconds.
    fn measured(&self, target: &Target, tier: Tier, found: &[(u32, u32, f64)], wanted: u32, rows: u64) {
        let now_s = self.now_s();
        self.with(target, |known| known.calibration.add(tier, found, wanted, now_s, rows));
    }

    /// Takes in a live search that was run again. Where that breaks a promise, what was calibrated of such searches is not to be
    /// believed.
    fn rechecked(&self, target: &Target, kind: Kind, found: u32, wanted: u32, ms: f64) -> (Shown, Estimate) {
        self.with(target, |known| {
            let estimate = known.estimates.entry(kind).or_insert_with(|| Estimate::new(promise(kind.profile)));
            let shown = estimate.add(found, wanted, ms);
            if shown == Shown::Broken && !kind.filtered {
                known.calibration = Calibration::default();
            }
            (shown, *estimate)
        })
    }

    fn with<T>(&self, target: &Target, change: impl FnOnce(&mut KnownRecall) -> T) -> T {
        let mut collections = self.collections.write().expect(UNPOISONED);
        // Dropped ones, so that nothing is kept for ever.
        collections.retain(|name, _| target.view.collection(name).is_some());
        let known = collections.entry(target.name.clone()).or_insert_with(|| KnownRecall::new(target));
        if !known.is_of(target) {
            *known = KnownRecall::new(target);
        }
        change(known)
    }

    fn now_s(&self) -> u64 {
        self.started.elapsed().as_secs()
    }

    /// All that was measured of a collection.
    fn table(&self, target: &Target) -> RecallTable {
        let enabled = self.settings.calibration.enabled;
        let collections = self.collections.read().expect(UNPOISONED);
        let Some(known) = collections.get(&target.name).filter(|known| known.is_of(target)) else {
            return RecallTable { enabled, tiers: Vec::new(), estimates: Vec::new() };
        };
        let now_s = self.now_s();
        let tiers = known.calibration.tiers().map(|(tier, measured)| row(&known.calibration, tier, measured, now_s));
        let estimate = |(kind, estimate): (&Kind, &Estimate)| {
            Some(RecallEstimate {
                profile: kind.profile,
                filtered: kind.filtered,
                promise: estimate.promise(),
                recall: estimate.recall()?,
                samples: estimate.searches().round() as u32,
                broken: estimate.is_broken(),
            })
        };
        RecallTable {
            enabled,
            tiers: tiers.collect(),
            estimates: known.estimates.iter().filter_map(estimate).collect(),
        }
    }
}

impl KnownRecall {
    fn new(target: &Target) -> Self {
        let changed_at = target.collection.changed_at;
        Self { changed_at, calibration: Calibration::default(), estimates: BTreeMap::new() }
    }

    fn is_of(&self, target: &Target) -> bool {
        self.changed_at == target.collection.changed_at
    }
}

fn row(calibration: &Calibration, tier: Tier, measured: &Measured, now_s: u64) -> RecallTier {
    let ((rows_from, rows_until), (walks_from, walks_until)) = (tier.rows(), tier.walks());
    let point = |(ef, tally): (u32, &Tally)| {
        Some(RecallPoint { ef, recall: tally.recall()?, least: tally.least(), ms: tally.ms()? })
    };
    let ef = |profile: Profile| calibration.ef(tier, promise(profile));
    let of_profiles = || {
        Some(ProfileEf {
            accuracy: ef(Profile::Accuracy)?,
            balanced: ef(Profile::Balanced)?,
            speed: ef(Profile::Speed)?,
        })
    };
    RecallTier {
        rows_from,
        rows_until,
        walks_from,
        walks_until,
        samples: measured.searches().round() as u32,
        believed: measured.is_believed(),
        age_seconds: measured.age_seconds(now_s),
        points: measured.rungs().filter_map(point).collect(),
        ef: of_profiles(),
    }
}
