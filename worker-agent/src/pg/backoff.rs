//! How long to wait before a server that died is started again.

use std::time::{Duration, Instant};

const SHORTEST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(5);
/// A server that lived this long was well: the next death starts with the shortest wait again.
const WELL_AFTER: Duration = Duration::from_secs(30);
/// One that lived this long has served.
const SERVED_AFTER: Duration = Duration::from_secs(5);
/// The processes of a server that was killed hold its shared memory until they notice, and no other can start before. So for this long
/// after one that has served, waits do not grow.
const LEFTOVERS_FOR: Duration = Duration::from_secs(10);

/// Waits that grow while servers die young.
#[derive(Debug)]
pub(super) struct Backoff {
    next: Duration,
    leftovers_until: Option<Instant>,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next: SHORTEST, leftovers_until: None }
    }
}

impl Backoff {
    /// How long to wait after a death.
    pub(super) fn after(&mut self, lived: Duration, now: Instant) -> Duration {
        if lived >= WELL_AFTER {
            self.next = SHORTEST;
        }
        if lived >= SERVED_AFTER {
            self.leftovers_until = Some(now + LEFTOVERS_FOR);
        }
        if self.leftovers_until.is_some_and(|until| now < until) {
            return SHORTEST;
        }
        let wait = self.next;
        self.next = (wait * 2).min(LONGEST);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_unless_leftovers_are_in_the_way() {
        let (begun, mut backoff) = (Instant::now(), Backoff::default());
        let at = |seconds| begun + Duration::from_secs(seconds);
        let short = Duration::from_millis(5);
        let mut waits = |lived, seconds| backoff.after(lived, at(seconds)).as_millis();
        assert_eq!([0, 1, 2].map(|seconds| waits(short, seconds)), [250, 500, 1_000], "it never served");
        assert_eq!(waits(Duration::from_secs(40), 50), 250, "killed");
        assert_eq!([51, 55, 59].map(|seconds| waits(short, seconds)), [250, 250, 250], "its processes are still there");
        assert_eq!([61, 62].map(|seconds| waits(short, seconds)), [250, 500], "that was not it");
        assert_eq!([63, 64, 66, 70, 75].map(|seconds| waits(short, seconds))[4], 5_000);
    }
}
