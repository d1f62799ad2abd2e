//! What moves cost, as far as it can be told before: estimates, from what a move is built to reach.

use atoll_proto::rebalance::MoveCost;

/// What a move gets done at least under load, its vector indexes built anew.
const BYTES_PER_SECOND: f64 = 6_000_000.0;
/// What a move takes however little it carries: schemas, publication, subscription, checks.
const SECONDS_A_MOVE: f64 = 5.0;
/// What writes usually wait for at the end of a move: a drain of some 40 ms, and room.
const WRITE_PAUSE_MS: u32 = 50;
/// What they wait for at most, unless told otherwise.
const WRITE_PAUSE_MS_MAX: u32 = 500;

/// What moves of shards of so many rows and bytes cost.
pub(super) fn cost(shards: impl Iterator<Item = (u64, u64)>) -> MoveCost {
    let mut cost =
        MoveCost { write_pause_ms: WRITE_PAUSE_MS, write_pause_ms_max: WRITE_PAUSE_MS_MAX, ..MoveCost::default() };
    for (rows, bytes) in shards {
        cost.moves += 1;
        cost.rows += rows;
        cost.bytes += bytes;
    }
    let seconds = f64::from(cost.moves) * SECONDS_A_MOVE + cost.bytes as f64 / BYTES_PER_SECOND;
    cost.minutes = seconds / 60.0;
    cost
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_moves_take_their_time() {
        assert_eq!(cost([].into_iter()).minutes, 0.0);
        let two = cost([(10, 360_000_000), (5, 0)].into_iter());
        assert_eq!((two.moves, two.rows, two.bytes), (2, 15, 360_000_000));
        assert!((two.minutes - 70.0 / 60.0).abs() < 1e-9, "{two:?}");
    }
}
