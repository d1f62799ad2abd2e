#![allow(clippy::unwrap_used)]

use super::*;

fn worker(name: &str) -> KnownWorker {
    KnownWorker {
        name: name.to_owned(),
        group: "g".to_owned(),
        is_standby: false,
        up: true,
        pgvector: "0.8.5".to_owned(),
        refusal: None,
        statistics_age_seconds: Some(9),
    }
}

fn healthy() -> Known {
    Known {
        has_leader: true,
        groups: (2, 2),
        placed: (12, 12),
        workers: vec![worker("w1"), worker("w2")],
        shard_rows: vec![(0, 100), (1, 90_000), (2, 80_000)],
        ..Known::default()
    }
}

fn codes(known: &Known) -> Vec<FindingCode> {
    let found = findings(known);
    assert!(found.iter().all(|finding| !finding.action.is_empty() && !finding.subject.is_empty()));
    assert!(found.is_sorted_by_key(|finding| finding.severity));
    found.into_iter().map(|finding| finding.code).collect()
}

#[test]
fn nothing_is_wrong_with_a_healthy_cluster() {
    assert_eq!(codes(&healthy()), []);
    assert_eq!(codes(&Known { has_leader: true, ..Known::default() }), [], "nor with an empty one");
}

#[test]
fn the_catalog_is_looked_at() {
    let down = vec![(2, "http://b".to_owned())];
    for (known, code) in [
        (Known { has_leader: false, ..healthy() }, FindingCode::NoLeader),
        (Known { open_to_all: true, ..healthy() }, FindingCode::OpenToAll),
        (Known { coordinators_down: down, ..healthy() }, FindingCode::CoordinatorDown),
        (Known { groups: (1, 2), placed: (0, 12), ..healthy() }, FindingCode::NotPlaced),
        (Known { placed: (11, 12), ..healthy() }, FindingCode::NotPlaced),
        (
            Known { unsettled: vec![("c".to_owned(), CollectionState::Creating)], ..healthy() },
            FindingCode::CollectionUnsettled,
        ),
    ] {
        assert_eq!(codes(&known), [code]);
    }
}

#[test]
fn groups_may_be_fewer_than_at_first_once_shards_are_placed() {
    assert_eq!(codes(&Known { groups: (2, 3), placed: (12, 12), ..healthy() }), []);
}

#[test]
fn each_worker_is_looked_at() {
    let found = |worker: KnownWorker| codes(&Known { workers: vec![worker], ..healthy() });
    let pgvector = |version: &str| found(KnownWorker { pgvector: version.to_owned(), ..worker("w") });
    assert_eq!(pgvector("0.8.4"), []);
    assert_eq!(pgvector("0.8.10"), []);
    assert_eq!(pgvector("0.9"), []);
    for old in ["0.8.3", "0.9-dev", ""] {
        assert_eq!(pgvector(old), [FindingCode::PgvectorOld], "{old}");
    }
    let refuses = KnownWorker { refusal: Some("fsync is off".to_owned()), ..worker("w") };
    assert_eq!(found(refuses), [FindingCode::WorkerRefuses]);
    let stale = KnownWorker { statistics_age_seconds: Some(601), ..worker("w") };
    assert_eq!(found(stale.clone()), [FindingCode::StatisticsStale]);
    assert_eq!(found(KnownWorker { up: false, ..stale }), [FindingCode::WorkerDown], "one reason is enough");
}

fn broken(filtered: bool) -> BrokenPromise {
    BrokenPromise { collection: "c".to_owned(), profile: Profile::Speed, filtered, promise: 0.95, recall: 0.8 }
}

#[test]
fn only_searches_without_a_filter_are_calibrated_anew() {
    let known = Known { promises_broken: vec![broken(false), broken(true)], ..healthy() };
    let found = findings(&known);
    assert_eq!(
        found[1].detail,
        "searches with a filter by speed lately found 0.800 of the true hits, 0.95 is promised"
    );
    let anew = [0, 1].map(|i: usize| found[i].action.contains("calibrated anew"));
    assert_eq!(anew, [true, false]);
}

#[test]
fn the_data_is_looked_at_the_worst_first() {
    let missing =
        |seconds| MissingGraph { collection: "c".to_owned(), namespace: "n".to_owned(), rows: 5_000, seconds };
    assert_eq!(codes(&Known { graphs_missing: vec![missing(1_799)], ..healthy() }), []);
    let broken = broken(false);
    let known = Known {
        graphs_missing: vec![missing(1_800)],
        promises_broken: vec![broken],
        shard_rows: vec![(0, 100), (1, 200_000), (2, 100), (3, 100)],
        workers: vec![KnownWorker { up: false, ..worker("w") }],
        ..healthy()
    };
    let all =
        [FindingCode::WorkerDown, FindingCode::RecallBelowPromise, FindingCode::GraphMissing, FindingCode::ShardSkew];
    assert_eq!(codes(&known), all);
    let said = findings(&known).remove(1).detail;
    assert_eq!(said, "searches by speed lately found 0.800 of the true hits, 0.95 is promised");
    let small = Known { shard_rows: vec![(0, 0), (1, 40_000), (2, 0), (3, 0)], ..healthy() };
    assert_eq!(codes(&small), [], "so few rows lie as they fall");
}

#[test]
fn graphs_that_are_missing_are_one_finding_a_collection() {
    let missing = |collection: &str, namespace: &str, rows, seconds| MissingGraph {
        collection: collection.to_owned(),
        namespace: namespace.to_owned(),
        rows,
        seconds,
    };
    let known = Known {
        graphs_missing: vec![
            missing("c", "small", 1_000, 9_000),
            missing("c", "large", 5_000, 1_860),
            missing("c", "young", 9_000, 1_799),
            missing("d", "one", 2_000, 1_800),
        ],
        ..healthy()
    };
    let found = findings(&known);
    let said: Vec<(&str, &str)> = found.iter().map(|one| (one.subject.as_str(), one.detail.as_str())).collect();
    let of_c =
        "2 large namespaces have no whole graph, large with 5000 rows for 31 min: their searches look at every row";
    let of_d = "one has 2000 rows and no whole graph for 30 min: its searches look at every row";
    assert_eq!(said, [("collection c", of_c), ("collection d", of_d)]);
}

#[test]
fn moves_that_do_not_get_through_or_left_something_are_told() {
    let one = |attempts, is_over| KnownMove { id: 12, shard: 7, attempts, is_over };
    assert_eq!(codes(&Known { moves: vec![one(2, false)], ..healthy() }), []);
    let both = vec![one(3, false), one(0, true)];
    let wanted = [FindingCode::MoveStuck, FindingCode::MoveLeftThings];
    assert_eq!(codes(&Known { moves: both, ..healthy() }), wanted);
}
