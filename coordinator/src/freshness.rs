//! What this coordinator knows of writes: those it sent itself, and how far each group's are known to be visible. The rule is
//! [`atoll_core::freshness`]'s; here it meets the clock and the other tasks.

use atoll_core::freshness::{Basis, KnownPositions, MarkSet, Position, SessionToken, WriteEnd, WriteMarks};
use atoll_proto::{CatalogVersion, GroupId};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Shared by all who write, search, and hear from agents.
#[derive(Debug, Clone)]
pub struct Freshness(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    marks: Mutex<WriteMarks>,
    known: Mutex<KnownPositions>,
    started: Instant,
}

/// A write that is about to be sent, or under way. Its marks tell so until it is dropped; unless [`Self::known`] was called, as when its
/// request is dropped with it, nobody knows how it ended.
#[derive(Debug)]
pub struct Writing {
    freshness: Freshness,
    touched: MarkSet,
    end: WriteEnd,
}

impl Freshness {
    /// Nothing is known yet. A write whose end nobody knows may still be carried out for as long as `late`.
    pub fn new(late: Duration) -> Self {
        let late_ms = u64::try_from(late.as_millis()).unwrap_or(u64::MAX);
        let marks = Mutex::new(WriteMarks::new(late_ms));
        Self(Arc::new(Shared { marks, known: Mutex::default(), started: Instant::now() }))
    }

    /// A write begins that touches these marks. To be called before anything of it is sent.
    pub fn writing(&self, touched: MarkSet) -> Writing {
        self.marks().begin(&touched);
        Writing { freshness: self.clone(), touched, end: WriteEnd::Unknown }
    }

    /// What an answer will have been made from whose fan-out to these groups is about to begin; none if it is not to be kept.
    pub fn basis(
        &self,
        wanted: &MarkSet,
        catalog: CatalogVersion,
        groups: impl IntoIterator<Item = GroupId>,
    ) -> Option<Basis> {
        let sight = self.known().sight(catalog, groups);
        let seen = self.marks().quiet(wanted, self.now_ms())?;
        Some(Basis { seen, sight })
    }

    /// Whether an answer may be given, or kept, for a request with this token.
    pub fn holds(&self, basis: &Basis, token: &SessionToken) -> bool {
        basis.holds(&self.marks(), token)
    }

    /// Every write to the group below this position is seen by reads that begin from now on.
    pub fn learn(&self, group: GroupId, position: Position) {
        self.known().learn(group, position);
    }

    fn marks(&self) -> MutexGuard<'_, WriteMarks> {
        self.0.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self) -> MutexGuard<'_, KnownPositions> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_ms(&self) -> u64 {
        self.0.started.elapsed().as_millis() as u64
    }
}

impl Writing {
    /// The write was committed, or will never be.
    pub fn known(mut self) {
        self.end = WriteEnd::Known;
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        let now_ms = self.freshness.now_ms();
        self.freshness.marks().end(&self.touched, self.end, now_ms);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use atoll_proto::CollectionName;

    #[test]
    fn a_write_that_is_dropped_leaves_a_doubt() {
        let freshness = Freshness::new(Duration::from_secs(1));
        let collection = CollectionName::parse("c").unwrap();
        let basis = || freshness.basis(&MarkSet::of_collection(&collection), CatalogVersion(1), []);
        let write = || freshness.writing(MarkSet::of_write(&collection, ["n"]));
        let before = basis().unwrap();
        let one = write();
        assert!(basis().is_none() && !freshness.holds(&before, &SessionToken::default()));
        one.known();
        let between = basis().unwrap();
        assert!(freshness.holds(&between, &SessionToken::default()));
        drop(write());
        assert!(basis().is_none() && !freshness.holds(&between, &SessionToken::default()));
    }
}
