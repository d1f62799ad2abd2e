//! Whether a promise is kept: recall of live searches, of which a few are run again exactly.

use super::tally::Tally;

/// What each new search leaves of the weight of those before: the last hundred or so count.
const KEPT: f64 = 0.99;
/// Fewer searches prove nothing.
const PROOF_FROM: f64 = 20.0;

/// A moving estimate of recall against what was promised.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    promise: f64,
    tally: Tally,
    broken: bool,
}

/// What a search more has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// Nothing new.
    Nothing,
    /// The promise is broken, which it was not before.
    Broken,
    /// It is kept again.
    Kept,
}

impl Estimate {
    /// Nothing seen yet of searches that were promised this recall.
    pub fn new(promise: f64) -> Self {
        Self { promise, tally: Tally::default(), broken: false }
    }

    /// Takes in a search that found so many of the true hits. Broken is a promise that recall surely falls short of; kept again
    /// only when recall itself is as promised.
    pub fn add(&mut self, found: u32, wanted: u32, ms: f64) -> Shown {
        self.tally.fade(KEPT);
        self.tally.add(found, wanted, ms);
        let before = self.broken;
        if self.tally.searches() >= PROOF_FROM && self.tally.most() < self.promise {
            self.broken = true;
        } else if self.tally.recall().is_some_and(|recall| recall >= self.promise) {
            self.broken = false;
        }
        match (before, self.broken) {
            (false, true) => Shown::Broken,
            (true, false) => Shown::Kept,
            (false, false) | (true, true) => Shown::Nothing,
        }
    }

    /// What was promised.
    pub fn promise(&self) -> f64 {
        self.promise
    }

    /// Recall as seen lately; none before the first search.
    pub fn recall(&self) -> Option<f64> {
        self.tally.recall()
    }

    /// Searches that it is worth.
    pub fn searches(&self) -> f64 {
        self.tally.searches()
    }

    /// Whether recall falls short of the promise.
    pub fn is_broken(&self) -> bool {
        self.broken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_promise_breaks_once_and_mends_once() {
        let mut estimate = Estimate::new(0.95);
        let mut add = |found, times: usize| (0..times).map(|_| estimate.add(found, 10, 1.0)).collect::<Vec<_>>();
        assert!(add(8, 19).iter().all(|shown| *shown == Shown::Nothing), "too few to tell");
        let bad = add(8, 20);
        assert_eq!(bad.iter().filter(|shown| **shown == Shown::Broken).count(), 1, "{bad:?}");
        let good = add(10, 400);
        assert_eq!(good.iter().filter(|shown| **shown == Shown::Kept).count(), 1);
        assert!(!estimate.is_broken() && estimate.recall() > Some(0.95));
    }

    #[test]
    fn a_little_below_is_not_broken() {
        let mut estimate = Estimate::new(0.95);
        for i in 0..1_000 {
            // 0.945 on average.
            let found = if i % 20 < 9 { 10 } else { 9 };
            assert_eq!(estimate.add(found, 10, 1.0), Shown::Nothing, "{i}: {estimate:?}");
        }
    }
}
