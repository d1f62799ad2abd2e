//! What a plan is made by.

use atoll_proto::limits;
use atoll_proto::rebalance::BalanceBy;

/// What is weighed, and how far from the mean a group may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    by: BalanceBy,
    /// In thousandths, so that all that is decided is decided in whole numbers, alike on every machine.
    threshold_permille: u16,
}

impl Policy {
    /// A policy; none if the threshold is outside [`limits::REBALANCE_THRESHOLD`]. It counts to thousandths.
    pub fn new(by: BalanceBy, threshold: f64) -> Option<Self> {
        let allowed = limits::REBALANCE_THRESHOLD.contains(&threshold);
        allowed.then(|| Self { by, threshold_permille: (threshold * 1000.0).round() as u16 })
    }

    /// What is weighed.
    pub fn by(self) -> BalanceBy {
        self.by
    }

    /// How far from the mean a group may be, as a share of it.
    pub fn threshold(self) -> f64 {
        f64::from(self.threshold_permille) / 1000.0
    }

    /// The same in thousandths.
    pub(super) fn threshold_permille(self) -> u128 {
        u128::from(self.threshold_permille)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_outside_the_limits_are_none() {
        for (threshold, known) in [(0.01, true), (0.2, true), (1.0, true), (0.009, false), (1.001, false)] {
            assert_eq!(Policy::new(BalanceBy::Rows, threshold).map(Policy::threshold), known.then_some(threshold));
        }
        assert_eq!(Policy::new(BalanceBy::Rows, f64::NAN), None);
    }
}
