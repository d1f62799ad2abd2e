//! Recall counted over searches, and how sure one can be of it.

/// How sure a bound is: nine in ten, to one side.
const Z: f64 = 1.28;
/// What one search misses is not independent of what else it misses: so many hits tell as much as one that is.
const HITS_OF_ONE_TRIAL: f64 = 2.0;

/// Searches whose answers were compared with the true ones.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Tally {
    searches: f64,
    found: f64,
    wanted: f64,
    ms: f64,
}

impl Tally {
    /// Counts one search: of `wanted` true hits it found `found`, in `ms` milliseconds.
    pub fn add(&mut self, found: u32, wanted: u32, ms: f64) {
        self.searches += 1.0;
        self.found += f64::from(found.min(wanted));
        self.wanted += f64::from(wanted);
        self.ms += ms;
    }

    /// Makes what was counted so far weigh less: `share` of it, 0 to 1.
    pub fn fade(&mut self, share: f64) {
        let Self { searches, found, wanted, ms } = self;
        for sum in [searches, found, wanted, ms] {
            *sum *= share;
        }
    }

    /// Searches that it is worth.
    pub fn searches(&self) -> f64 {
        self.searches
    }

    /// Share of the true hits that were found; none if there were none to find.
    pub fn recall(&self) -> Option<f64> {
        (self.wanted > 0.0).then(|| self.found / self.wanted)
    }

    /// Mean milliseconds of a search; none without one.
    pub fn ms(&self) -> Option<f64> {
        (self.searches > 0.0).then(|| self.ms / self.searches)
    }

    /// What recall is at least (Wilson's bound); 0 without a search.
    pub fn least(&self) -> f64 {
        self.bound(-Z)
    }

    /// What recall is at most; 1 without a search.
    pub fn most(&self) -> f64 {
        self.bound(Z)
    }

    fn bound(&self, z: f64) -> f64 {
        let Some(recall) = self.recall() else { return if z < 0.0 { 0.0 } else { 1.0 } };
        let trials = self.wanted / HITS_OF_ONE_TRIAL;
        let square = z * z;
        let middle = recall + square / (2.0 * trials);
        let spread = (recall * (1.0 - recall) / trials + square / (4.0 * trials * trials)).sqrt();
        ((middle + z * spread) / (1.0 + square / trials)).clamp(0.0, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bounds_enclose_the_recall_and_close_in(found in 0_u32..=10, searches in 1_u32..200) {
            let of = |searches: u32| {
                let mut tally = Tally::default();
                (0..searches).for_each(|_| tally.add(found, 10, 1.0));
                tally
            };
            let (few, many) = (of(searches), of(searches * 4));
            for tally in [few, many] {
                let recall = tally.recall().unwrap_or_default();
                prop_assert!(tally.least() <= recall + 1e-9 && recall <= tally.most() + 1e-9, "{tally:?}");
            }
            prop_assert!(many.least() >= few.least() - 1e-9 && many.most() <= few.most() + 1e-9);
        }
    }

    #[test]
    fn nothing_counted_says_nothing() {
        let mut tally = Tally::default();
        assert_eq!((tally.recall(), tally.ms(), tally.least(), tally.most()), (None, None, 0.0, 1.0));
        tally.add(0, 0, 2.0);
        assert_eq!((tally.recall(), tally.ms(), tally.least()), (None, Some(2.0), 0.0), "nothing was to be found");
    }

    #[test]
    fn what_fades_weighs_less_and_says_the_same() {
        let mut tally = Tally::default();
        (0..100).for_each(|_| tally.add(9, 10, 3.0));
        let (recall, least) = (tally.recall(), tally.least());
        tally.fade(0.5);
        assert_eq!((tally.recall(), tally.ms(), tally.searches()), (recall, Some(3.0), 50.0));
        assert!(tally.least() < least);
    }
}
