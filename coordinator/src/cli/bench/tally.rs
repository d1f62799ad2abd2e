//! What was seen of one side: how long answers took, what failed, how good answers were.

use super::connection::Failure;
use super::truth::{Found, Score};
use hdrhistogram::Histogram;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// Percentiles of a curve.
const CURVE: [f64; 14] = [0.0, 5.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 97.5, 99.0, 99.5, 99.9, 99.99, 100.0];

/// What was seen.
#[derive(Debug, Clone)]
pub(super) struct Tally {
    /// Nanoseconds of requests that were answered as they should be, to three digits.
    nanos: Histogram<u32>,
    /// Time spent waiting for answers of any kind.
    busy: Duration,
    too_many: u64,
    failures: BTreeMap<String, u64>,
    scores: Vec<Score>,
    /// Milliseconds that answers took inside the coordinator: of those that were looked at.
    inside_ms: Vec<f64>,
}

impl Tally {
    /// Nothing seen yet.
    pub(super) fn new() -> Self {
        Self {
            nanos: Histogram::new(3).expect("three digits are among what a histogram has"),
            busy: Duration::ZERO,
            too_many: 0,
            failures: BTreeMap::new(),
            scores: Vec::new(),
            inside_ms: Vec::new(),
        }
    }

    /// A request was answered as it should be.
    pub(super) fn answered(&mut self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.nanos.record(nanos).expect("a histogram that resizes takes any number");
        self.busy += took;
    }

    /// A request was not, after so long.
    pub(super) fn failed(&mut self, failure: Failure, after: Duration) {
        self.busy += after;
        match failure {
            Failure::TooMany => self.too_many += 1,
            Failure::Problem(code) => *self.failures.entry(code).or_default() += 1,
        }
    }

    /// How good an answer was.
    pub(super) fn scored(&mut self, score: Score) {
        self.scores.push(score);
    }

    /// How long an answer took inside the coordinator, if it says so.
    pub(super) fn took_inside(&mut self, found: &Found) {
        self.inside_ms.extend(found.inside_ms());
    }

    /// Takes over what another client saw.
    pub(super) fn add(&mut self, other: Self) {
        let Self { nanos, busy, too_many, failures, scores, inside_ms } = other;
        self.nanos.add(nanos).expect("a histogram that resizes takes any other");
        self.busy += busy;
        self.too_many += too_many;
        for (code, count) in failures {
            *self.failures.entry(code).or_default() += count;
        }
        self.scores.extend(scores);
        self.inside_ms.extend(inside_ms);
    }

    /// Time that one client spent waiting for answers.
    pub(super) fn busy(&self) -> Duration {
        self.busy
    }

    /// What it comes to, when it took so long.
    pub(super) fn summary(&self, elapsed: Duration) -> Summary {
        let requests = self.nanos.len();
        Summary {
            requests,
            seconds: elapsed.as_secs_f64(),
            per_second: requests as f64 / elapsed.as_secs_f64().max(f64::MIN_POSITIVE),
            latency: (requests > 0).then(|| Latency::of(&self.nanos)),
            errors: self.failures.clone(),
            too_many_requests: self.too_many,
        }
    }

    /// The median of what answers took inside the coordinator; none if none was looked at.
    pub(super) fn inside_p50_ms(&self) -> Option<f64> {
        let mut sorted = self.inside_ms.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied()
    }

    /// Mean recall and the number of short answers, of the answers that were scored; none if none were.
    pub(super) fn recall(&self) -> Option<Recall> {
        let answers = self.scores.len() as u64;
        let sum: f64 = self.scores.iter().map(|score| score.recall).sum();
        let short = self.scores.iter().filter(|score| score.short).count() as u64;
        (answers > 0).then(|| Recall { mean: sum / answers as f64, answers, short })
    }
}

/// One side of a measurement.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Summary {
    /// Requests that were answered as they should be.
    pub(super) requests: u64,
    /// How long it took. Where requests and statements took turns, the time of this side alone.
    pub(super) seconds: f64,
    pub(super) per_second: f64,
    pub(super) latency: Option<Latency>,
    /// Requests that failed, by the problem's code.
    pub(super) errors: BTreeMap<String, u64>,
    /// Requests refused with 429.
    pub(super) too_many_requests: u64,
}

impl Summary {
    /// Requests that failed.
    pub(super) fn error_count(&self) -> u64 {
        self.errors.values().sum()
    }
}

/// How long answers took, in milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Latency {
    pub(super) mean_ms: f64,
    pub(super) p50_ms: f64,
    pub(super) p95_ms: f64,
    pub(super) p99_ms: f64,
    pub(super) max_ms: f64,
    /// Percentile and milliseconds.
    pub(super) curve: Vec<(f64, f64)>,
}

impl Latency {
    fn of(nanos: &Histogram<u32>) -> Self {
        let ms = |nanos: u64| nanos as f64 / 1e6;
        let at = |percentile: f64| ms(nanos.value_at_percentile(percentile));
        Self {
            mean_ms: nanos.mean() / 1e6,
            p50_ms: at(50.0),
            p95_ms: at(95.0),
            p99_ms: at(99.0),
            max_ms: ms(nanos.max()),
            curve: CURVE.iter().map(|percentile| (*percentile, at(*percentile))).collect(),
        }
    }
}

/// How good answers were.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Recall {
    /// Mean share of the true nearest.
    pub(super) mean: f64,
    /// Answers that it is the mean of.
    pub(super) answers: u64,
    /// Those with fewer hits than the exact answer.
    pub(super) short: u64,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn near(value: f64, wanted: f64) -> bool {
        (value - wanted).abs() <= wanted * 0.002
    }

    #[test]
    fn percentiles_are_those_of_all_clients() {
        let (mut one, mut other) = (Tally::new(), Tally::new());
        (1..=50).for_each(|ms| one.answered(Duration::from_millis(ms)));
        (51..=100).for_each(|ms| other.answered(Duration::from_millis(ms)));
        one.add(other);
        let summary = one.summary(Duration::from_secs(2));
        let latency = summary.latency.unwrap();
        assert_eq!((summary.requests, summary.per_second), (100, 50.0));
        assert!(near(latency.p50_ms, 50.0) && near(latency.p95_ms, 95.0) && near(latency.p99_ms, 99.0), "{latency:?}");
        assert!(near(latency.max_ms, 100.0) && near(latency.mean_ms, 50.5), "{latency:?}");
        assert!(latency.curve.is_sorted_by(|a, b| a.1 <= b.1), "{latency:?}");
        assert_eq!(one.busy(), Duration::from_millis(5_050));
    }

    #[test]
    fn failures_are_counted_by_code_and_429_apart() {
        let mut tally = Tally::new();
        for failure in [Failure::TooMany, Failure::Problem("a".to_owned()), Failure::Problem("a".to_owned())] {
            tally.failed(failure, Duration::from_millis(1));
        }
        let summary = tally.summary(Duration::from_secs(1));
        assert_eq!((summary.error_count(), summary.too_many_requests, summary.latency), (2, 1, None));
        assert_eq!(summary.errors["a"], 2);
    }

    #[test]
    fn the_time_inside_is_a_median_of_all_clients() {
        let (mut one, mut other) = (Tally::new(), Tally::new());
        assert_eq!(one.inside_p50_ms(), None);
        let found =
            |ms: f64| serde_json::from_value(serde_json::json!({"hits": [], "timings": {"total_ms": ms}})).unwrap();
        [9.0, 1.0].into_iter().for_each(|ms| one.took_inside(&found(ms)));
        other.took_inside(&found(2.0));
        one.add(other);
        assert_eq!(one.inside_p50_ms(), Some(2.0));
    }

    #[test]
    fn recall_is_a_mean_and_short_answers_are_counted() {
        let mut tally = Tally::new();
        assert_eq!(tally.recall(), None);
        tally.scored(Score { recall: 1.0, short: false });
        tally.scored(Score { recall: 0.5, short: true });
        assert_eq!(tally.recall(), Some(Recall { mean: 0.75, answers: 2, short: 1 }));
    }
}
