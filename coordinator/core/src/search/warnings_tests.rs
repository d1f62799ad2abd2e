#![allow(clippy::unwrap_used)]

use super::*;
use atoll_proto::Generation;

/// A shard that was searched without anything to say of it.
fn shard(number: u32) -> ShardExplain {
    ShardExplain {
        shard: ShardId(number),
        group: "g1".to_owned(),
        worker: "w1".to_owned(),
        role: "primary".to_owned(),
        generation: Generation(1),
        strategy: "hnsw".to_owned(),
        why: "large namespaces have graphs of their own".to_owned(),
        ef: Some(64),
        rows_by: None,
        candidates_wanted: 20,
        graphs: Vec::new(),
        rows: Some(12_000),
        cost_us: None,
        rejected: Vec::new(),
        run: Some(RUN),
        pg_plan: None,
    }
}

const RUN: ShardRun =
    ShardRun { started_ms: 0.1, queued_ms: 0.0, ms: 2.0, candidates: 20, hits: 5, moved: 0, added_by_fallback: None };

fn ran(run: ShardRun) -> ShardExplain {
    ShardExplain { run: Some(run), ..shard(0) }
}

fn exact(candidates: u32) -> ShardExplain {
    let (strategy, rows_by) = ("exact".to_owned(), Some("namespaces".to_owned()));
    ShardExplain { strategy, ef: None, rows_by, ..ran(ShardRun { candidates, ..RUN }) }
}

fn namespace(name: &str) -> Namespace {
    Namespace::parse(name).unwrap()
}

struct Search {
    filtered: bool,
    exact: bool,
    overfetch: f64,
    total_ms: Option<f64>,
    known: Option<TableKnown>,
    without_graph: Vec<(Namespace, u64)>,
}

impl Default for Search {
    fn default() -> Self {
        let known = TableKnown { rows: 12_000, counted_seconds_ago: Some(3), large: Vec::new(), graphs: 2 };
        let (filtered, exact) = (false, false);
        Self { filtered, exact, overfetch: 2.0, total_ms: Some(5.0), known: Some(known), without_graph: Vec::new() }
    }
}

impl Search {
    fn warnings(&self, shards: &[ShardExplain]) -> Vec<SearchWarning> {
        let shards: Vec<ShardEvidence<'_>> = shards
            .iter()
            .map(|explained| ShardEvidence {
                explained,
                known: self.known.as_ref(),
                without_graph: self.without_graph.clone(),
            })
            .collect();
        warnings(&Evidence {
            shards: &shards,
            filtered: self.filtered,
            exact: self.exact,
            overfetch: self.overfetch,
            deadline_ms: 2_000.0,
            total_ms: self.total_ms,
        })
    }

    fn codes(&self, shards: &[ShardExplain]) -> Vec<WarningCode> {
        self.warnings(shards).into_iter().map(|warning| warning.code).collect()
    }
}

#[test]
fn a_usual_search_is_not_warned_of() {
    let usual = Search::default();
    assert_eq!(usual.codes(&[shard(0), shard(1), shard(2)]), []);
    assert_eq!(usual.codes(&[exact(20), ShardExplain { run: None, ..shard(1) }]), []);
    assert_eq!(usual.codes(&[]), []);
}

#[test]
fn statistics_are_missing_or_old() {
    let unknown = ShardExplain { rows: None, ..shard(1) };
    let warned =
        Search::default().warnings(&[shard(0), unknown.clone(), ShardExplain { shard: ShardId(2), ..unknown }]);
    assert_eq!(warned.len(), 1, "one for all shards: {warned:?}");
    assert_eq!((warned[0].code, &warned[0].shards), (WarningCode::StatisticsMissing, &vec![ShardId(1), ShardId(2)]));

    let counted = |seconds| TableKnown { counted_seconds_ago: Some(seconds), ..TableKnown::default() };
    let at = |seconds| Search { known: Some(counted(seconds)), ..Search::default() };
    assert_eq!(at(120).codes(&[shard(0)]), []);
    let warned = at(121).warnings(&[shard(0)]);
    assert_eq!(warned[0].code, WarningCode::StatisticsOld);
    assert!(warned[0].detail.contains("121 s"), "{warned:?}");
}

#[test]
fn a_large_namespace_should_have_a_graph() {
    let without = |count: u64| (0..count).map(|i| (namespace(&format!("n{i}")), 999 + i)).collect::<Vec<_>>();
    let search = Search { without_graph: without(1), ..Search::default() };
    assert_eq!(search.codes(&[shard(0)]), [], "999 rows are scanned");
    let search = Search { without_graph: without(8), ..Search::default() };
    let warned = search.warnings(&[shard(0)]);
    assert_eq!(warned[0].code, WarningCode::GraphMissing);
    assert!(warned[0].detail.contains(": n7 (1006 rows), n6 (1005 rows), "), "{warned:?}");
    assert!(warned[0].detail.contains(" and 2 more; it is built when"), "{warned:?}");
    assert_eq!(Search { exact: true, ..search }.codes(&[shard(0)]), [], "nobody wants to walk it");

    let known = Some(TableKnown { graphs: GRAPHS_MAX, ..TableKnown::default() });
    let full = Search { known, without_graph: without(2), ..Search::default() };
    assert!(full.warnings(&[shard(0)])[0].detail.contains("at most 32 graphs"));
}

#[test]
fn work_that_changes_nothing_is_told() {
    assert_eq!(
        Search::default().codes(&[ran(ShardRun { added_by_fallback: Some(0), ..RUN })]),
        [WarningCode::FellBack]
    );

    let filtered = Search { filtered: true, ..Search::default() };
    assert_eq!(filtered.codes(&[exact(19)]), [WarningCode::FilterSelective]);
    assert_eq!(filtered.codes(&[exact(20)]), [], "there may be more");
    let by_index = ShardExplain { rows_by: Some("filter".to_owned()), ..exact(19) };
    assert_eq!(filtered.codes(&[by_index]), [], "an index led to them");
    assert_eq!(filtered.codes(&[ShardExplain { rows: Some(900), ..exact(0) }]), []);
    assert_eq!(Search::default().codes(&[exact(3)]), [], "a small namespace, not a filter");

    let greedy = Search { overfetch: 10.0, ..Search::default() };
    assert_eq!(greedy.codes(&[exact(20)]), [WarningCode::OverfetchIdle]);
    assert_eq!(greedy.codes(&[ShardExplain { candidates_wanted: 100, ..shard(0) }]), [WarningCode::OverfetchIdle]);
    assert_eq!(greedy.codes(&[ShardExplain { candidates_wanted: 64, ..shard(0) }]), []);
}

#[test]
fn lost_time_is_told() {
    let timed = |times: &[f64]| -> Vec<ShardExplain> {
        let one = |(i, ms): (usize, &f64)| ShardExplain {
            run: Some(ShardRun { ms: *ms, ..RUN }),
            ..shard(u32::try_from(i).unwrap())
        };
        times.iter().enumerate().map(one).collect()
    };
    let usual = Search::default();
    let warned = usual.warnings(&timed(&[2.0, 3.0, 9.5]));
    assert_eq!((warned[0].code, &warned[0].shards), (WarningCode::ShardSlow, &vec![ShardId(2)]));
    assert_eq!(usual.codes(&timed(&[0.2, 0.3, 4.9])), [], "nobody feels it");
    assert_eq!(usual.codes(&timed(&[2.0, 90.0])), [], "two have no median");

    assert_eq!(usual.codes(&[ran(ShardRun { ms: 30.0, queued_ms: 20.0, ..RUN })]), [WarningCode::ConnectionsShort]);
    assert_eq!(usual.codes(&[ran(ShardRun { ms: 30.0, queued_ms: 14.0, ..RUN })]), []);

    assert_eq!(Search { total_ms: Some(1_601.0), ..Search::default() }.codes(&[]), [WarningCode::DeadlineClose]);
    assert_eq!(Search { total_ms: Some(1_600.0), ..Search::default() }.codes(&[]), []);
}
