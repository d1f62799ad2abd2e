//! Many shards' candidates into one answer, in one total order: distance, namespace, key. The order does not depend on which
//! shard a candidate came from or when, so the answer is that of one table with all rows.

use super::distance::score;
use atoll_proto::Metric;
use std::cmp::Ordering;
use std::collections::HashMap;

/// What merging needs to know of a candidate.
pub trait Ranked {
    /// Exact distance, lower is nearer; never NaN.
    fn distance(&self) -> f64;
    /// Its namespace.
    fn namespace(&self) -> &str;
    /// Its key.
    fn key(&self) -> &str;
}

/// What the answer may hold.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MergeLimits {
    /// Hits wanted.
    pub k: usize,
    /// What distances mean.
    pub metric: Metric,
    /// Least score of a hit.
    pub min_score: Option<f64>,
    /// Most hits of one namespace.
    pub per_namespace: Option<usize>,
}

/// The answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Merged<T> {
    /// At most k hits, best first.
    pub hits: Vec<T>,
    /// The best of the rest in order, for hits that turn out to be gone.
    pub reserve: Vec<T>,
    /// Whether a candidate was left out for its score alone.
    pub cut_by_score: bool,
}

/// The total order of an answer.
pub fn order<T: Ranked>(a: &T, b: &T) -> Ordering {
    let by_distance = a.distance().total_cmp(&b.distance());
    by_distance.then_with(|| a.namespace().cmp(b.namespace())).then_with(|| a.key().cmp(b.key()))
}

/// How many of a shard's candidates stand elsewhere in the order they came in than in that of an answer.
pub fn moved<T: Ranked>(as_given: &[T]) -> usize {
    let mut ordered: Vec<&T> = as_given.iter().collect();
    ordered.sort_by(|a, b| order(*a, *b));
    ordered.iter().zip(as_given).filter(|(ordered, given)| !std::ptr::eq(**ordered, *given)).count()
}

/// Merges candidates of any number of shards, in any order.
pub fn merge<T: Ranked>(mut candidates: Vec<T>, limits: MergeLimits) -> Merged<T> {
    candidates.sort_unstable_by(order);
    let mut hits = Vec::with_capacity(limits.k.min(candidates.len()));
    let mut reserve = Vec::new();
    let mut cut_by_score = false;
    let mut of_namespace: HashMap<Box<str>, usize> = HashMap::new();
    for candidate in candidates {
        // By the score that a client is told, so that a hit of just that score stays. It falls as the distance grows.
        if limits.min_score.is_some_and(|least| score(limits.metric, candidate.distance()) < least) {
            cut_by_score = true;
            break;
        }
        if let Some(most) = limits.per_namespace {
            let taken = of_namespace.entry(candidate.namespace().into()).or_default();
            if *taken >= most {
                continue;
            }
            *taken += 1;
        }
        if hits.len() < limits.k {
            hits.push(candidate);
        } else {
            reserve.push(candidate);
        }
    }
    Merged { hits, reserve, cut_by_score }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, Clone, PartialEq)]
    struct Row(f64, String, String);

    impl Ranked for Row {
        fn distance(&self) -> f64 {
            self.0
        }
        fn namespace(&self) -> &str {
            &self.1
        }
        fn key(&self) -> &str {
            &self.2
        }
    }

    fn rows() -> impl Strategy<Value = Vec<Row>> {
        // Few distinct distances, so that ties are common.
        let row = (0_u8..6, 0_u8..4, 0_u16..500);
        prop::collection::btree_set(row, 0..80).prop_map(|set| {
            set.into_iter().map(|(d, ns, key)| Row(f64::from(d) / 4.0, format!("n{ns}"), format!("k{key}"))).collect()
        })
    }

    proptest! {
        #[test]
        fn any_split_gives_the_one_table_answer(
            rows in rows(), shards in 1_usize..7, k in 1_usize..20, group in prop::option::of(1_usize..4),
            min_score in prop::option::of(0.0_f64..1.0),
        ) {
            let limits = MergeLimits { k, metric: Metric::L2, min_score, per_namespace: group };
            let far_enough = |row: &Row| min_score.is_none_or(|least| score(Metric::L2, row.0) >= least);
            let mut brute: Vec<Row> = rows.iter().filter(|row| far_enough(row)).cloned().collect();
            brute.sort_by(order);
            let mut seen: HashMap<String, usize> = HashMap::new();
            brute.retain(|row| {
                let n = seen.entry(row.1.clone()).or_default();
                *n += 1;
                group.is_none_or(|most| *n <= most)
            });

            let whole = merge(rows.clone(), limits);
            prop_assert_eq!(&whole.hits[..], &brute[..brute.len().min(k)]);
            prop_assert_eq!(&whole.reserve[..], &brute[brute.len().min(k)..]);
            prop_assert_eq!(whole.cut_by_score, rows.iter().any(|row| !far_enough(row)));

            // Each shard gives its own best k (per namespace, where grouped): namespaces are whole on a shard.
            let mut candidates = Vec::new();
            for shard in 0..shards {
                let own: Vec<Row> = rows.iter().filter(|row| row.1.as_bytes()[1] as usize % shards == shard).cloned().collect();
                candidates.extend(merge(own, MergeLimits { min_score: None, ..limits }).hits);
            }
            candidates.reverse();
            let merged = merge(candidates, limits);
            prop_assert_eq!(merged.hits, whole.hits);
            prop_assert!(merged.reserve.iter().all(|row| whole.reserve.contains(row)));
        }
    }

    #[test]
    fn what_stands_elsewhere_than_it_should_has_moved() {
        let row = |distance: f64, key: &str| Row(distance, "n".to_owned(), key.to_owned());
        assert_eq!(moved::<Row>(&[]), 0);
        assert_eq!(moved(&[row(0.1, "a"), row(0.1, "b"), row(0.2, "a")]), 0);
        assert_eq!(moved(&[row(0.1, "a"), row(0.3, "c"), row(0.2, "b"), row(0.4, "d")]), 2);
        assert_eq!(moved(&[row(0.2, "b"), row(0.3, "c"), row(0.1, "a")]), 3, "a late one moves all before it");
    }

    #[test]
    fn a_hit_of_just_the_least_score_stays() {
        for metric in [Metric::Cosine, Metric::L2, Metric::Dot] {
            for distance in [0.1, 0.3, 1.0 / 3.0, 0.7] {
                let row = || Row(distance, "n".to_owned(), "k".to_owned());
                let at = |least: f64| MergeLimits { k: 1, metric, min_score: Some(least), per_namespace: None };
                let least = score(metric, distance);
                assert_eq!(merge(vec![row()], at(least)).hits.len(), 1, "{metric:?} {distance}");
                let cut = merge(vec![row()], at(least.next_up()));
                assert!(cut.hits.is_empty() && cut.cut_by_score, "{metric:?} {distance}");
            }
        }
    }
}
