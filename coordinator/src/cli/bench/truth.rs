//! What the answer to a query should be, and how much of it an answer holds.

use serde::Deserialize;
use std::collections::BTreeSet;

/// The ids of an answer's hits. Lenient: it reads answers of other versions too.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Found {
    hits: Vec<Id>,
    timings: Option<Timings>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
struct Timings {
    total_ms: f64,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
struct Id {
    namespace: String,
    key: String,
}

impl Found {
    /// Whether nothing was found.
    pub(super) fn is_empty(&self) -> bool {
        self.hits.is_empty()
    }

    /// How long it took inside the coordinator, if it said so.
    pub(super) fn inside_ms(&self) -> Option<f64> {
        self.timings.map(|timings| timings.total_ms)
    }
}

/// The exact answer.
#[derive(Debug, Clone)]
pub(super) struct Truth(BTreeSet<Id>);

/// What an answer is worth.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Score {
    /// Share of the true nearest that it holds.
    pub(super) recall: f64,
    /// Whether it holds fewer hits than the exact one.
    pub(super) short: bool,
}

impl Truth {
    /// Takes an exact answer for the truth.
    pub(super) fn new(exact: Found) -> Self {
        Self(exact.hits.into_iter().collect())
    }

    /// How many hits it has.
    pub(super) fn hits(&self) -> usize {
        self.0.len()
    }

    /// How much of it an answer holds; none if there is nothing to hold.
    pub(super) fn score(&self, answer: &Found) -> Option<Score> {
        if self.0.is_empty() {
            return None;
        }
        let right = answer.hits.iter().filter(|hit| self.0.contains(hit)).count();
        Some(Score { recall: right as f64 / self.0.len() as f64, short: answer.hits.len() < self.0.len() })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn found(keys: &[&str]) -> Found {
        let hits = keys.iter().map(|key| Id { namespace: "n".to_owned(), key: (*key).to_owned() }).collect();
        Found { hits, timings: None }
    }

    #[test]
    fn recall_is_the_share_of_the_truth() {
        let truth = Truth::new(found(&["a", "b", "c", "d"]));
        let score = |keys: &[&str]| truth.score(&found(keys)).unwrap();
        assert_eq!(score(&["d", "c", "b", "a"]), Score { recall: 1.0, short: false });
        assert_eq!(score(&["a", "b", "x", "y"]), Score { recall: 0.5, short: false });
        assert_eq!(score(&["a"]), Score { recall: 0.25, short: true });
        assert_eq!(Truth::new(found(&[])).score(&found(&["a"])), None);
    }

    #[test]
    fn an_answer_of_another_version_is_read() {
        let text = r#"{"hits":[{"namespace":"n","key":"a","score":1.0}],"new":1}"#;
        let found: Found = serde_json::from_str(text).unwrap();
        assert_eq!((found.hits.len(), found.inside_ms()), (1, None));
        let found: Found = serde_json::from_str(r#"{"hits":[],"timings":{"total_ms":1.5,"merge_ms":0.1}}"#).unwrap();
        assert_eq!(found.inside_ms(), Some(1.5));
    }
}
