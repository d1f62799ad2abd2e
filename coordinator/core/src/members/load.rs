//! How soon a member would answer, by how soon it did.

/// In so long what was seen loses two thirds of its weight.
const MEMORY_US: f64 = 2_000_000.0;
/// What a failure counts as: its member is left alone for some ten seconds where others answer in milliseconds, and then tried again.
const FAILURE_US: f64 = 1_000_000.0;
/// Answers differ by so much for no reason. Also what a member begins with, of which nothing is known.
const LEAST_US: f64 = 100.0;
/// Answers that are remembered one by one.
const RECENT: usize = 64;
/// Fewer say nothing of what is usual.
const ENOUGH: usize = 20;

/// What was seen of one member. Times are microseconds.
#[derive(Debug, Clone, Default)]
pub struct Load {
    /// A moving average that rises at once.
    latency_us: f64,
    seen_at_us: u64,
    /// The last answers' times, the oldest overwritten first.
    recent_us: Vec<u64>,
    next: usize,
}

impl Load {
    /// An answer came.
    pub fn answered(&mut self, took_us: u64, now_us: u64) {
        self.observe(took_us as f64, now_us);
        self.remember(took_us);
    }

    /// A failure came in place of an answer.
    pub fn failed(&mut self, now_us: u64) {
        self.observe(FAILURE_US, now_us);
    }

    /// Nobody waits any more for an answer that had not come in this time. If it was late it counts among what is usual, too: a member
    /// that has become slower would else be late for ever, and lose the connections that it was just getting used to.
    pub fn given_up(&mut self, waited_us: u64, now_us: u64) {
        if self.late_after_us().is_some_and(|late| waited_us >= late) {
            self.remember(waited_us);
        }
        if waited_us as f64 > self.latency_us(now_us) {
            self.observe(waited_us as f64, now_us);
        }
    }

    /// How long another answer would take, in a measure of its own, with so many asked for already.
    pub fn cost(&self, under_way: usize, now_us: u64) -> u64 {
        let latency = self.latency_us(now_us).max(LEAST_US);
        (latency * (under_way as f64 + 1.0)) as u64
    }

    /// When an answer is late: later than 19 of 20. None if too few came to say.
    pub fn late_after_us(&self) -> Option<u64> {
        if self.recent_us.len() < ENOUGH {
            return None;
        }
        let mut sorted = self.recent_us.clone();
        sorted.sort_unstable();
        sorted.get(sorted.len() * 19 / 20).copied()
    }

    fn remember(&mut self, took_us: u64) {
        match self.recent_us.get_mut(self.next) {
            Some(oldest) => *oldest = took_us,
            None => self.recent_us.push(took_us),
        }
        self.next = (self.next + 1) % RECENT;
    }

    fn observe(&mut self, took_us: f64, now_us: u64) {
        let kept = self.kept(now_us);
        self.latency_us = took_us.max(self.latency_us * kept + took_us * (1.0 - kept));
        self.seen_at_us = self.seen_at_us.max(now_us);
    }

    /// Falls while nothing is seen, so that a member that was slow is tried again.
    fn latency_us(&self, now_us: u64) -> f64 {
        self.latency_us * self.kept(now_us)
    }

    fn kept(&self, now_us: u64) -> f64 {
        (-(now_us.saturating_sub(self.seen_at_us) as f64) / MEMORY_US).exp()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    const SECOND: u64 = 1_000_000;

    #[test]
    fn a_peak_counts_at_once_and_is_forgotten_slowly() {
        let mut load = Load::default();
        (1..=100).for_each(|i| load.answered(2_000, i * 1_000));
        assert_eq!(load.cost(0, 100_000), 2_000);
        load.answered(50_000, 101_000);
        assert_eq!(load.cost(0, 101_000), 50_000);
        load.answered(2_000, 102_000);
        assert!(load.cost(0, 102_000) > 49_000, "one good answer does not make it well");
        let later = load.cost(0, 4 * SECOND);
        assert!((5_000..10_000).contains(&later), "{later}");
    }

    #[test]
    fn a_failure_keeps_others_away_for_some_seconds() {
        let mut load = Load::default();
        load.failed(0);
        assert!(load.cost(0, 5 * SECOND) > 50_000);
        assert!(load.cost(0, 15 * SECOND) < 2_000, "it is tried again");
    }

    #[test]
    fn what_was_given_up_early_says_nothing_and_late_a_lot() {
        let mut load = Load::default();
        load.answered(10_000, 0);
        load.given_up(3_000, 0);
        assert_eq!(load.cost(0, 0), 10_000);
        load.given_up(400_000, 0);
        assert_eq!(load.cost(0, 0), 400_000);
    }

    #[test]
    fn a_member_that_has_become_slower_is_not_late_for_ever() {
        let mut load = Load::default();
        (0..64).for_each(|_| load.answered(1_000, 0));
        load.given_up(900, 0);
        (0..3).for_each(|_| load.given_up(5_000, 0));
        assert_eq!(load.late_after_us(), Some(1_000));
        load.given_up(5_000, 0);
        assert_eq!(load.late_after_us(), Some(5_000));
    }

    #[test]
    fn who_has_much_to_do_costs_more() {
        let mut load = Load::default();
        load.answered(2_000, 0);
        assert_eq!((load.cost(0, 0), load.cost(3, 0)), (2_000, 8_000));
        assert!(Load::default().cost(0, 0) < Load::default().cost(1, 0), "also if nothing is known of it");
    }

    #[test]
    fn late_is_what_one_answer_in_twenty_is() {
        let mut load = Load::default();
        (0..19).for_each(|_| load.answered(1_000, 0));
        assert_eq!(load.late_after_us(), None);
        load.answered(9_000, 0);
        assert_eq!(load.late_after_us(), Some(9_000));
        (0..64).for_each(|i| load.answered(if i % 16 == 0 { 7_000 } else { 1_000 }, 0));
        assert_eq!(load.late_after_us(), Some(7_000), "of the last 64, four are");
        (0..64).for_each(|_| load.answered(1_000, 0));
        assert_eq!(load.late_after_us(), Some(1_000), "what is older is forgotten");
    }

    proptest! {
        #[test]
        fn a_cost_is_never_below_what_one_answer_takes_now(
            answers in proptest::collection::vec((0_u64..5_000_000, 0_u64..10_000_000), 1..200),
        ) {
            let (mut load, mut now) = (Load::default(), 0);
            for (took, pause) in answers {
                now += pause;
                load.answered(took, now);
                prop_assert!(load.cost(0, now) >= took.max(LEAST_US as u64));
                prop_assert!(load.cost(0, now + pause) <= load.cost(0, now), "it falls by itself");
            }
        }
    }
}
