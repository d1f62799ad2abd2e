//! How fast a worker works off what it is asked, so that what could not be answered in time is refused before it begins.
//!
//! A search that waits for connections until its deadline has taken time of workers from others, and gives nothing. Once more is asked
//! than workers can do, all searches would end so. What is refused at once costs nothing, and the rest is answered.
//!
//! Many at once are no such thing: a queue that was empty a moment ago may well be worked off in time, however long it is, so it may take nearly
//! all of the time there is. One that stands is kept short, for whoever is behind it would wait so long each time (as CoDel tells good queues
//! from bad ones, RFC 8289).

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Part of the old value that a new one replaces, as a power of two.
const WEIGHT: u32 = 4;
/// Part of what is left for a round of a search that it may wait for connections: the rest is for its answers. Where the queue stands.
const WAIT_SHARE: f64 = 0.5;
/// Where it was empty a moment ago.
const BURST_WAIT_SHARE: f64 = 0.85;
/// There has to be time for so many answers after it: its own, and some for those that take longer than most.
const ANSWERS_LEFT: u32 = 3;
/// It was if that is no longer ago.
const BURST: Duration = Duration::from_secs(1);
/// A worker that has answered nobody for so long hangs, and its queue says nothing of a pace: who asks it is to learn that.
const SILENCE: Duration = Duration::from_secs(1);

/// What one worker was seen to do.
#[derive(Debug)]
pub(super) struct Pace {
    since: Instant,
    answers: AtomicU64,
    /// When the last one came, in milliseconds since `since`.
    answered_ms: AtomicU64,
    /// When somebody last came and nobody waited, likewise.
    idle_ms: AtomicU64,
    /// How long a search's answer held its connection, in microseconds: a moving average.
    held_us: AtomicU64,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self {
            since: Instant::now(),
            answers: AtomicU64::new(0),
            answered_ms: AtomicU64::new(0),
            idle_ms: AtomicU64::new(0),
            held_us: AtomicU64::new(0),
        }
    }

    /// An answer came, good or bad.
    pub(super) fn answered(&self) {
        self.answers.fetch_add(1, Ordering::Relaxed);
        self.answered_ms.store(self.now_ms(), Ordering::Relaxed);
    }

    fn now_ms(&self) -> u64 {
        self.since.elapsed().as_millis() as u64
    }

    /// How long a search held its connection: other statements, which may wait for locks or load rows, say little of how long the next
    /// takes. Updates that meet may lose one of them.
    pub(super) fn held(&self, time: Duration) {
        let (old, new) = (self.held_us.load(Ordering::Relaxed), time.as_micros() as u64);
        let next = if old == 0 { new } else { old - (old >> WEIGHT) + (new >> WEIGHT) };
        self.held_us.store(next, Ordering::Relaxed);
    }

    /// How many answers came so far.
    pub(super) fn answers(&self) -> u64 {
        self.answers.load(Ordering::Relaxed)
    }

    /// Whether nobody has had an answer for a while.
    pub(super) fn is_silent(&self) -> bool {
        self.ago(&self.answered_ms) > SILENCE
    }

    fn ago(&self, ms: &AtomicU64) -> Duration {
        Duration::from_millis(self.now_ms().saturating_sub(ms.load(Ordering::Relaxed)))
    }

    /// Whether so many statements can be begun while there is time enough for their answers, where `waiting` others come first and
    /// `places` are worked on at once. A search of two `rounds` waits twice.
    pub(super) fn has_room(
        &self,
        statements: usize,
        waiting: usize,
        places: usize,
        left: Duration,
        rounds: u32,
    ) -> bool {
        if waiting == 0 {
            self.idle_ms.store(self.now_ms(), Ordering::Relaxed);
            return true;
        }
        if self.is_silent() {
            return true;
        }
        let turns = (waiting + statements) as u64 / places.max(1) as u64;
        let held = Duration::from_micros(self.held_us.load(Ordering::Relaxed));
        let wait = held.saturating_mul(u32::try_from(turns).unwrap_or(u32::MAX));
        let share = if self.ago(&self.idle_ms) < BURST { BURST_WAIT_SHARE } else { WAIT_SHARE };
        let for_round = left / rounds;
        wait <= for_round.mul_f64(share) && wait + held * ANSWERS_LEFT <= for_round
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEFT: Duration = Duration::from_secs(2);

    /// Of a worker that has always had a queue, and answers.
    fn pace(held_ms: u64) -> Pace {
        let long_ago = Instant::now().checked_sub(BURST * 10).expect("the machine runs for longer");
        let pace = Pace { since: long_ago, ..Pace::new() };
        (0..100).for_each(|_| pace.held(Duration::from_millis(held_ms)));
        pace.answered();
        pace
    }

    #[test]
    fn a_queue_that_is_worked_off_in_time_takes_more() {
        // 20 ms each, five at once: 125 take half a second.
        assert!(pace(20).has_room(4, 100, 5, LEFT, 2));
        assert!(!pace(20).has_room(4, 150, 5, LEFT, 2));
        assert!(!pace(20).has_room(4, 100, 5, LEFT / 2, 2), "who has less time is refused sooner");
        assert!(pace(20).has_room(4, 150, 5, LEFT, 1), "who asks once waits once");
        assert!(pace(2).has_room(4, 1_000, 5, LEFT, 2));
    }

    #[test]
    fn a_queue_that_was_empty_a_moment_ago_may_take_most_of_the_time() {
        let pace = pace(20);
        assert!(!pace.has_room(4, 200, 5, LEFT, 2));
        assert!(pace.has_room(4, 0, 5, LEFT, 2));
        // 20 ms each, five at once: 212 take 0.85 s.
        assert!(pace.has_room(4, 200, 5, LEFT, 2) && !pace.has_room(4, 215, 5, LEFT, 2));
        pace.idle_ms.store(pace.now_ms() - BURST.as_millis() as u64, Ordering::Relaxed);
        assert!(!pace.has_room(4, 200, 5, LEFT, 2));
    }

    #[test]
    fn where_nobody_waits_nobody_is_refused() {
        assert!(pace(30_000).has_room(12, 0, 5, LEFT, 2));
        assert!(Pace::new().has_room(4, 1_000, 5, LEFT, 2), "nothing is known yet");
    }

    #[test]
    fn a_worker_that_hangs_is_not_one_that_is_busy() {
        let mut pace = pace(20);
        assert!(!pace.has_room(4, 300, 5, LEFT, 2));
        pace.since -= SILENCE * 2;
        assert!(pace.has_room(4, 300, 5, LEFT, 2));
        pace.answered();
        assert!(!pace.has_room(4, 300, 5, LEFT, 2));
    }

    #[test]
    fn it_follows_what_it_sees() {
        let pace = pace(1);
        assert!(pace.has_room(4, 500, 5, LEFT, 2));
        (0..40).for_each(|_| pace.held(Duration::from_millis(50)));
        assert!(!pace.has_room(4, 500, 5, LEFT, 2));
        (0..100).for_each(|_| pace.held(Duration::from_millis(1)));
        assert!(pace.has_room(4, 500, 5, LEFT, 2));
    }
}
