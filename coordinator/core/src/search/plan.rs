//! What to ask of each shard: strategy, number of candidates and ef, from the request and what is known of the shard.
//!
//! Over-fetch is the pair (k', ef): an HNSW scan yields at most ef rows, so asking for more rows without raising ef changes
//! nothing. Every touched shard is asked for at least k, because namespaces are hashed: one shard can hold the whole top k.
//!
//! A shard's graph is shared by all its namespaces and finds a small one badly (recall of 0.01 to 0.6 was measured for a tenth of
//! the rows), so the rows of named namespaces are scanned exactly up to a generous number, and the graph is for what is larger.

use atoll_proto::limits;
use atoll_proto::search::Profile;

/// Up to this many rows an exact scan costs less than a walk of the graph.
const ALWAYS_EXACT_ROWS: u64 = 1_000;
/// Candidates of an exact scan beyond those wanted: a worker orders by 32-bit distances, and among near ties at the end it may
/// leave out one that is nearer in 64 bits.
const NEAR_TIES: u32 = 8;
/// The same inside each namespace, where hits of a namespace are limited.
const NEAR_TIES_IN_NAMESPACE: u32 = 2;

/// What of a request bears on its plan.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Wish {
    /// Hits wanted.
    pub k: u32,
    /// Candidates as a multiple of k.
    pub overfetch: f64,
    /// Recall against speed.
    pub profile: Profile,
    /// Recall to aim for.
    pub target_recall: Option<f64>,
    /// ef as asked.
    pub ef: Option<u32>,
    /// Look at every entry.
    pub exact: bool,
    /// Whether there is a filter, or namespaces are left out.
    pub filtered: bool,
    /// Most hits of one namespace: the best of each namespace can't be read off one graph.
    pub per_namespace: Option<u32>,
}

/// What is known of the rows that a shard would have to look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShardSize {
    /// Rows of the namespaces asked for, or of the whole table; none if unknown.
    pub rows: Option<u64>,
    /// Whether these are all rows of the table.
    pub whole_table: bool,
}

/// How a shard is searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Strategy {
    /// Look at every matching row.
    Exact,
    /// Walk the graph once.
    Hnsw,
    /// Walk the graph until enough rows match.
    HnswIterative,
}

/// What a shard is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShardPlan {
    /// How.
    pub strategy: Strategy,
    /// Candidates wanted: k'.
    pub candidates: u32,
    /// Most candidates of one namespace.
    pub per_namespace: Option<u32>,
    /// `hnsw.ef_search`; of no effect when exact.
    pub ef: u32,
    /// Why, for people.
    pub why: &'static str,
}

/// Plans one shard. Precedence: `exact`, `ef`, `target_recall`, `profile`.
pub fn plan_shard(wish: &Wish, size: ShardSize) -> ShardPlan {
    let candidates = candidates(wish);
    let ef = ef(wish).max(candidates.min(limits::EF));
    let (strategy, why) = strategy(wish, size, candidates);
    let plan = ShardPlan { strategy, candidates, per_namespace: None, ef, why };
    match (strategy, wish.per_namespace) {
        (Strategy::Exact, None) => plan.exact(),
        (Strategy::Exact, Some(most)) => {
            // Those beyond the limit take up places of other namespaces' candidates, so there are more places.
            let each = most + NEAR_TIES_IN_NAMESPACE;
            let candidates = candidates.max(wish.k * each.div_ceil(most)) + NEAR_TIES;
            ShardPlan { candidates, per_namespace: Some(each), ..plan }
        }
        (Strategy::Hnsw | Strategy::HnswIterative, _) => plan,
    }
}

impl ShardPlan {
    /// The same by looking at every row that matches.
    pub fn exact(self) -> Self {
        Self { strategy: Strategy::Exact, candidates: self.candidates + NEAR_TIES, ..self }
    }
}

fn strategy(wish: &Wish, size: ShardSize, candidates: u32) -> (Strategy, &'static str) {
    if wish.exact {
        return (Strategy::Exact, "asked for");
    }
    if wish.per_namespace.is_some() {
        return (Strategy::Exact, "hits are limited for each namespace");
    }
    let Some(rows) = size.rows else {
        return (Strategy::Exact, "number of rows not known yet");
    };
    if rows <= ALWAYS_EXACT_ROWS {
        return (Strategy::Exact, "few rows");
    }
    if wish.ef.is_some() {
        let plain = size.whole_table && !wish.filtered && candidates <= limits::EF;
        let strategy = if plain { Strategy::Hnsw } else { Strategy::HnswIterative };
        return (strategy, "ef asked for");
    }
    if !size.whole_table || wish.filtered {
        if rows <= exact_rows(wish) {
            return (Strategy::Exact, "few enough rows for this profile");
        }
        return (Strategy::HnswIterative, "many rows, not all of which may match");
    }
    if candidates > limits::EF {
        return (Strategy::HnswIterative, "more candidates than one walk yields");
    }
    (Strategy::Hnsw, "all of many rows")
}

/// k' of every shard.
fn candidates(wish: &Wish) -> u32 {
    let wanted = (f64::from(wish.k) * wish.overfetch).ceil() as u32;
    wanted.max(wish.k)
}

fn ef(wish: &Wish) -> u32 {
    if let Some(ef) = wish.ef {
        return ef;
    }
    if let Some(recall) = wish.target_recall {
        return match recall {
            r if r <= 0.9 => 24,
            r if r <= 0.95 => 40,
            r if r <= 0.98 => 80,
            r if r <= 0.99 => 120,
            _ => 400,
        };
    }
    match wish.profile {
        Profile::Accuracy => 120,
        Profile::Balanced | Profile::Auto => 64,
        Profile::Speed => 40,
    }
}

/// Rows up to which an exact scan is preferred to a shared graph.
fn exact_rows(wish: &Wish) -> u64 {
    let precise = match wish.target_recall {
        Some(recall) => recall > 0.98,
        None => wish.profile == Profile::Accuracy,
    };
    if precise { 50_000 } else { 20_000 }
}

#[cfg(test)]
mod tests {
    use super::Strategy;
    use super::*;
    use proptest::prelude::{any, prop, prop_assert, proptest};

    const WISH: Wish = Wish {
        k: 10,
        overfetch: 2.0,
        profile: Profile::Auto,
        target_recall: None,
        ef: None,
        exact: false,
        filtered: false,
        per_namespace: None,
    };

    fn table(rows: u64) -> ShardSize {
        ShardSize { rows: Some(rows), whole_table: true }
    }

    fn namespaces(rows: u64) -> ShardSize {
        ShardSize { rows: Some(rows), whole_table: false }
    }

    #[test]
    fn small_is_exact_and_large_walks_the_graph() {
        assert_eq!(plan_shard(&WISH, table(1_000)).strategy, Strategy::Exact);
        assert_eq!(plan_shard(&WISH, table(1_001)).strategy, Strategy::Hnsw);
        assert_eq!(plan_shard(&WISH, namespaces(20_000)).strategy, Strategy::Exact);
        assert_eq!(plan_shard(&WISH, namespaces(20_001)).strategy, Strategy::HnswIterative);
        let unknown = ShardSize { rows: None, whole_table: true };
        assert_eq!(plan_shard(&WISH, unknown).strategy, Strategy::Exact);
    }

    #[test]
    fn precedence_is_exact_then_ef_then_target_then_profile() {
        let wish = Wish { exact: true, ef: Some(7), target_recall: Some(0.9), profile: Profile::Accuracy, ..WISH };
        assert_eq!(plan_shard(&wish, table(100_000)).strategy, Strategy::Exact);
        let wish = Wish { exact: false, ..wish };
        // ef is raised to the candidates: fewer would be short.
        assert_eq!(plan_shard(&wish, table(100_000)).ef, 20);
        assert_eq!(plan_shard(&Wish { ef: None, ..wish }, table(100_000)).ef, 24);
        assert_eq!(plan_shard(&Wish { ef: None, target_recall: None, ..wish }, table(100_000)).ef, 120);
        let by_target = Wish { target_recall: Some(0.9), profile: Profile::Accuracy, ..WISH };
        assert_eq!(plan_shard(&by_target, namespaces(20_001)).strategy, Strategy::HnswIterative);
        assert_eq!(
            plan_shard(&Wish { target_recall: None, ..by_target }, namespaces(50_000)).strategy,
            Strategy::Exact
        );
    }

    #[test]
    fn a_filter_makes_the_walk_iterative() {
        let wish = Wish { filtered: true, ..WISH };
        assert_eq!(plan_shard(&wish, table(100_000)).strategy, Strategy::HnswIterative);
        assert_eq!(plan_shard(&Wish { per_namespace: Some(1), ..WISH }, table(100_000)).strategy, Strategy::Exact);
    }

    #[test]
    fn exact_scans_bring_near_ties() {
        let plan = plan_shard(&Wish { exact: true, overfetch: 1.0, ..WISH }, table(5_000));
        assert_eq!((plan.candidates, plan.per_namespace), (18, None));
        let plan = plan_shard(&Wish { per_namespace: Some(1), overfetch: 1.0, ..WISH }, table(5_000));
        assert_eq!((plan.candidates, plan.per_namespace), (38, Some(3)));
        let plan = plan_shard(&Wish { per_namespace: Some(1_000), overfetch: 1.0, ..WISH }, table(5_000));
        assert_eq!((plan.candidates, plan.per_namespace), (28, Some(1_002)));
    }

    proptest! {
        #[test]
        fn every_shard_is_asked_for_at_least_k_and_ef_yields_them(
            k in 1_u32..=1_000, overfetch in 1.0_f64..=10.0, ef in prop::option::of(1_u32..=1_000), rows in prop::option::of(0_u64..10_000_000),
            whole_table in any::<bool>(), filtered in any::<bool>(),
        ) {
            let plan = plan_shard(&Wish { k, overfetch, ef, filtered, ..WISH }, ShardSize { rows, whole_table });
            prop_assert!(plan.candidates >= k);
            prop_assert!(plan.ef <= limits::EF);
            prop_assert!(plan.strategy != Strategy::Hnsw || plan.ef >= plan.candidates);
        }
    }
}
