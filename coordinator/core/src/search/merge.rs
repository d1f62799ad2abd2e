//! Many shards' candidates into one answer, in one total order: distance, namespace, key. The order does not depend on which
//! shard a candidate came from or when, so the answer is that of one table with all rows.

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
    /// Largest distance of a hit.
    pub max_distance: Option<f64>,
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
    /// Whether a candidate was left out for its distance alone.
    pub cut_by_distance: bool,
}

/// The total order of an answer.
pub fn order<T: Ranked>(a: &T, b: &T) -> Ordering {
    let by_distance = a.distance().total_cmp(&b.distance());
    by_distance.then_with(|| a.namespace().cmp(b.namespace())).then_with(|| a.key().cmp(b.key()))
}

/// Merges candidates of any number of shards, in any order.
pub fn merge<T: Ranked>(mut candidates: Vec<T>, limits: MergeLimits) -> Merged<T> {
    // -0.0 and 0.0 are one distance: total_cmp would tell them apart, but kernels never give -0.0 for equal vectors.
    candidates.sort_unstable_by(order);
    let mut hits = Vec::with_capacity(limits.k.min(candidates.len()));
    let mut reserve = Vec::new();
    let mut cut_by_distance = false;
    let mut of_namespace: HashMap<Box<str>, usize> = HashMap::new();
    for candidate in candidates {
        if limits.max_distance.is_some_and(|max| candidate.distance() > max) {
            cut_by_distance = true;
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
    Merged { hits, reserve, cut_by_distance }
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
            max in prop::option::of(0.0_f64..1.5),
        ) {
            let limits = MergeLimits { k, max_distance: max, per_namespace: group };
            let mut brute = rows.clone();
            brute.retain(|row| max.is_none_or(|max| row.0 <= max));
            brute.sort_by(order);
            let mut seen: HashMap<String, usize> = HashMap::new();
            brute.retain(|row| {
                let n = seen.entry(row.1.clone()).or_default();
                *n += 1;
                group.is_none_or(|most| *n <= most)
            });
            brute.truncate(k);

            // Each shard gives its own best k (per namespace, where grouped): namespaces are whole on a shard.
            let mut candidates = Vec::new();
            for shard in 0..shards {
                let own: Vec<Row> = rows.iter().filter(|row| row.1.as_bytes()[1] as usize % shards == shard).cloned().collect();
                candidates.extend(merge(own, MergeLimits { max_distance: None, ..limits }).hits);
            }
            candidates.reverse();
            prop_assert_eq!(merge(candidates, limits).hits, brute);
        }
    }
}
