//! Summaries of shards' vectors: where the hits of a search of everything are likely. A shard without one counts as promising, and what
//! is written meanwhile is found all the same, because every shard is asked.

use super::kept::{Kept, Rule};
use crate::targets::{Place, Target};
use crate::workers::draw;
use atoll_core::search::summary::{self, Summary};
use atoll_proto::Metric;
use std::sync::Arc;
use std::time::Duration;

/// A summary of 384 dimensions has 48 KiB, and takes tens of milliseconds to make.
const RULE: Rule = Rule {
    name: "summary",
    fresh: Duration::from_secs(3_600),
    fresh_while_changing: Duration::from_secs(10),
    bytes_max: 64 << 20,
    making_max: 1,
};

/// The summaries.
#[derive(Debug)]
pub(super) struct Summaries(Arc<Kept<Summary>>);

impl Summaries {
    /// None yet.
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self(Kept::new(RULE)))
    }

    /// How much each place, a table of so many rows, gets of what is shared out.
    pub(super) fn weights(&self, target: &Target, query: &[f32], places: &[(&Place, u64)]) -> Vec<f64> {
        let metric = target.collection.settings.metric;
        let summaries: Vec<Option<Arc<Summary>>> = match metric {
            // An inner product is no distance that a centroid could have.
            Metric::Dot => vec![None; places.len()],
            Metric::Cosine | Metric::L2 => places.iter().map(|(place, rows)| self.of(target, place, *rows)).collect(),
        };
        summary::weights(metric, query, summaries.iter().map(Option::as_deref))
    }

    fn of(&self, target: &Target, place: &Place, table_rows: u64) -> Option<Arc<Summary>> {
        self.0.of(target, place, table_rows, |place, deadline| async move {
            let vectors = draw::vectors(&place.pool, &place.table, table_rows, summary::SAMPLE, deadline).await?;
            let metric = place.table.settings.metric;
            let made = tokio::task::spawn_blocking(move || Summary::of(metric, vectors)).await;
            // None of too few vectors.
            let made = made.expect("making a summary does not panic");
            Ok(made.map(|made| {
                let bytes = made.bytes();
                (made, bytes)
            }))
        })
    }
}
