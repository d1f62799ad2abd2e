//! How full a group is.

use std::cmp::Ordering;

/// Load by capacity, compared without division: all that is decided is decided in whole numbers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fullness {
    /// What the group holds.
    pub(super) load: u64,
    /// Its relative capacity, at least 1.
    pub(super) capacity: u32,
}

impl Fullness {
    /// As full as the group is with so much more.
    pub(super) fn with(self, load: u64) -> Self {
        Self { load: self.load.saturating_add(load), ..self }
    }

    /// As full as the group is with so much less.
    pub(super) fn without(self, load: u64) -> Self {
        Self { load: self.load.saturating_sub(load), ..self }
    }
}

impl Ord for Fullness {
    fn cmp(&self, other: &Self) -> Ordering {
        // a/b < c/d is a*d < c*b.
        let own = u128::from(self.load) * u128::from(other.capacity);
        own.cmp(&(u128::from(other.load) * u128::from(self.capacity)))
    }
}

impl PartialOrd for Fullness {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Fullness {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Fullness {}
