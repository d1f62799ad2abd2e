//! Samples of tables' rows: what filtered searches are planned by, and searches of part of a table.

use super::kept::{Kept, Rule};
use crate::targets::{Place, Target};
use crate::workers::sample;
use atoll_core::search::sample::Sample;
use std::sync::Arc;
use std::time::Duration;

/// What is held of a table says less the older it is; drawing takes milliseconds.
const RULE: Rule = Rule {
    name: "sample",
    fresh: Duration::from_secs(60),
    fresh_while_changing: Duration::from_secs(2),
    bytes_max: 128 << 20,
    making_max: 2,
};

/// The samples.
#[derive(Debug)]
pub(super) struct Samples(Arc<Kept<Sample>>);

impl Samples {
    /// None yet.
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self(Kept::new(RULE)))
    }

    /// The sample of a table of so many rows, if there is one by now.
    pub(super) fn of(&self, target: &Target, place: &Place, table_rows: u64) -> Option<Arc<Sample>> {
        self.0.of(target, place, table_rows, |place, deadline| async move {
            let drawn = sample::draw(&place.pool, &place.table, table_rows, deadline).await?;
            let bytes = drawn.bytes();
            Ok(Some((drawn, bytes)))
        })
    }
}
