//! How long a phase of a move will take yet, from what was seen of it so far.

use atoll_proto::MoveId;
use atoll_proto::moves::{MoveInfo, MovePhase};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Before it, an estimate says nothing.
const SEEN_FOR: Duration = Duration::from_secs(2);

/// Where moves stood when their phase was first seen.
#[derive(Debug, Default)]
pub(super) struct TimeLeft(HashMap<MoveId, (MovePhase, Instant, u64)>);

impl TimeLeft {
    /// The time that the phase will take yet, in words with a comma before; nothing where that cannot be told.
    pub(super) fn of(&mut self, one: &MoveInfo, now: Instant) -> String {
        match self.estimate(one, now) {
            Some(left) => format!(", about {} left", indicatif::HumanDuration(left)),
            None => String::new(),
        }
    }

    fn estimate(&mut self, one: &MoveInfo, now: Instant) -> Option<Duration> {
        let (done, total) = match (one.phase, &one.indexes) {
            (MovePhase::Copying, _) => (one.rows_done, one.rows_total),
            (MovePhase::Indexing, Some(indexes)) => (u64::from(indexes.percent), 100),
            (_, _) => return None,
        };
        let first = self.0.entry(one.id).or_insert((one.phase, now, done));
        if first.0 != one.phase {
            *first = (one.phase, now, done);
        }
        let (_, since, before) = *first;
        let (took, came) = (now.saturating_duration_since(since), done.saturating_sub(before));
        let known = took >= SEEN_FOR && came > 0;
        known.then(|| took.mul_f64(total.saturating_sub(done) as f64 / came as f64))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn at(phase: &str, rows: u64, percent: u8) -> MoveInfo {
        let indexes = (phase == "indexing").then(|| json!({"done": 1, "total": 3, "percent": percent}));
        serde_json::from_value(
            json!({"id": 12, "shard": 7, "from": "g1", "to": "g3", "phase": phase, "rows_done": rows,
            "rows_total": 1_000, "bytes_done": 0, "bytes_total": 0, "indexes": indexes, "lag_bytes": null,
            "write_pause_ms": null, "attempts": 0, "error": null}),
        )
        .unwrap()
    }

    #[test]
    fn each_phase_is_estimated_by_itself() {
        let (begun, mut left) = (Instant::now(), TimeLeft::default());
        let after = |seconds| begun + Duration::from_secs(seconds);
        assert_eq!(left.of(&at("copying", 100, 0), begun), "");
        assert_eq!(left.of(&at("copying", 300, 0), after(1)), "", "too soon");
        assert_eq!(left.of(&at("copying", 400, 0), after(10)), ", about 20 seconds left");
        assert_eq!(left.of(&at("indexing", 1_000, 0), after(11)), "", "another phase");
        assert_eq!(left.of(&at("indexing", 1_000, 0), after(20)), "", "nothing came");
        assert_eq!(left.of(&at("indexing", 1_000, 25), after(51)), ", about 2 minutes left");
        assert_eq!(left.of(&at("catching-up", 1_000, 0), after(60)), "");
    }
}
