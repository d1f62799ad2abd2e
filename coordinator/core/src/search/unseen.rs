//! Whether rows that a fan-out has not shown can be missing in an answer.
//!
//! A shard gives its nearest rows, and none that it did not give lies nearer than the last of them. So the answer is whole as long
//! as all candidates are what they were. But between being found and being fetched some may go, or move away from the query, and
//! others take their places: then a row may belong to the answer that no shard has given. It does not if the last hit lies
//! nearer than all that was not given.

use super::distance::score;
use super::merge::{MergeLimits, Ranked};

/// What some shards have not given.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Unseen {
    /// No row of it lies nearer; infinite if there is none.
    from: f64,
}

impl Unseen {
    /// What is unseen of no shard.
    pub const NOTHING: Self = Self { from: f64::INFINITY };

    /// What a shard has not given that was asked for `wanted` candidates and gave these, at these distances. Only who looked at
    /// `every_row` can have given all.
    pub fn of_shard(every_row: bool, wanted: usize, given: &[impl Ranked]) -> Self {
        if every_row && given.len() < wanted {
            return Self::NOTHING;
        }
        let last = given.iter().map(Ranked::distance).max_by(f64::total_cmp);
        Self { from: last.unwrap_or(f64::NEG_INFINITY) }
    }

    /// What is unseen of these shards and of others.
    pub fn and(self, other: Self) -> Self {
        Self { from: self.from.min(other.from) }
    }

    /// Whether a row of it may belong among these hits, which are in order. Where hits of a namespace are limited it always may:
    /// merging leaves out rows beyond the limit, wherever they lie.
    pub fn may_belong_to(self, hits: &[impl Ranked], limits: MergeLimits) -> bool {
        if limits.per_namespace.is_some() {
            return true;
        }
        if self.from == f64::INFINITY || limits.min_score.is_some_and(|least| score(limits.metric, self.from) < least) {
            return false;
        }
        let last = hits.get(limits.k.saturating_sub(1)).map(Ranked::distance);
        last.is_none_or(|last| last >= self.from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::merge::merge;
    use atoll_proto::Metric;
    use proptest::prelude::*;

    #[derive(Debug, Clone, PartialEq)]
    struct Row(f64, String);

    impl Ranked for Row {
        fn distance(&self) -> f64 {
            self.0
        }
        fn namespace(&self) -> &str {
            "n"
        }
        fn key(&self) -> &str {
            &self.1
        }
    }

    fn limits(k: usize, min_score: Option<f64>, per_namespace: Option<usize>) -> MergeLimits {
        MergeLimits { k, metric: Metric::Cosine, min_score, per_namespace }
    }

    fn rows(distances: &[f64]) -> Vec<Row> {
        distances.iter().enumerate().map(|(i, distance)| Row(*distance, format!("{i:03}"))).collect()
    }

    #[test]
    fn who_gave_all_there_is_hides_nothing() {
        let few = rows(&[0.1, 0.2]);
        assert_eq!(Unseen::of_shard(true, 3, &few), Unseen::NOTHING);
        assert!(!Unseen::NOTHING.may_belong_to(&few, limits(10, None, None)));
        assert!(Unseen::of_shard(true, 2, &few).may_belong_to(&few, limits(10, None, None)));
        assert!(Unseen::of_shard(false, 3, &few).may_belong_to(&few, limits(10, None, None)), "a walk may miss rows");
        assert!(Unseen::of_shard(false, 3, &rows(&[])).may_belong_to(&few, limits(1, None, None)));
    }

    #[test]
    fn what_lies_beyond_the_last_hit_or_the_least_score_does_not_matter() {
        let unseen = Unseen::of_shard(true, 2, &rows(&[0.5, 0.4]));
        assert!(!unseen.may_belong_to(&rows(&[0.1, 0.49]), limits(2, None, None)));
        assert!(unseen.may_belong_to(&rows(&[0.1, 0.5]), limits(2, None, None)), "by its key it may come first");
        assert!(unseen.may_belong_to(&rows(&[0.1]), limits(2, None, None)));
        assert!(!unseen.may_belong_to(&rows(&[0.1]), limits(2, Some(0.6), None)));
        assert!(unseen.may_belong_to(&rows(&[0.1]), limits(2, Some(0.5), None)));
        assert!(Unseen::NOTHING.may_belong_to(&rows(&[0.1]), limits(1, None, Some(1))));
    }

    proptest! {
        /// Shards give their nearest, then some of what they gave goes. If nothing unseen may belong to the rest's answer, that is
        /// the answer of all rows that are left.
        #[test]
        fn an_answer_that_nothing_unseen_belongs_to_is_that_of_all_rows(
            shards in prop::collection::vec(prop::collection::vec(0.0_f64..2.0, 0..12), 1..4),
            gone in prop::collection::vec(any::<bool>(), 48),
            (k, wanted) in (1_usize..6, 1_usize..9),
        ) {
            let mut next = 0;
            let mut unseen = Unseen::NOTHING;
            let (mut given, mut left) = (Vec::new(), Vec::new());
            for distances in shards {
                let mut stored: Vec<Row> = distances.iter().map(|distance| {
                    next += 1;
                    Row(*distance, format!("{next:03}"))
                }).collect();
                stored.sort_by(|a, b| a.0.total_cmp(&b.0));
                let sent: Vec<Row> = stored.iter().take(wanted).cloned().collect();
                unseen = unseen.and(Unseen::of_shard(true, wanted, &sent));
                let stays = |row: &&Row| !gone[row.1.parse::<usize>().unwrap_or_default() % 48];
                given.extend(sent.iter().filter(stays).cloned());
                left.extend(stored.iter().skip(wanted).cloned());
            }
            let limits = limits(k, None, None);
            let hits = merge(given.clone(), limits).hits;
            left.extend(given);
            let all = merge(left, limits).hits;
            if !unseen.may_belong_to(&hits, limits) {
                prop_assert_eq!(hits, all);
            }
        }
    }
}
