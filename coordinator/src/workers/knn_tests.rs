#![allow(clippy::unwrap_used)]
use super::*;
use atoll_core::filter;
use atoll_core::routing::{ShardRoute, WorkerRoute};
use atoll_core::search::filtered::Matching;
use atoll_core::search::plan::{Calibrated, ShardSize, Wish, plan_shard};
use atoll_proto::agent::PostgresAddress;
use atoll_proto::search::Profile;
use atoll_proto::{CollectionName, CollectionSettings, Generation, GroupId, ShardId, WorkerId};
use serde_json::json;
use std::time::Duration;

const ALIVE_TEXT: &str = "(expires_at is null or expires_at > now())";

fn table() -> ShardTable {
    let postgres = PostgresAddress { host: String::new(), port: 1, database: String::new() };
    let primary = WorkerRoute {
        worker: WorkerId(1),
        name: String::new(),
        postgres,
        agent_url: String::new(),
        connections: 2,
        cores: 1,
    };
    let route = ShardRoute {
        shard: ShardId(3),
        generation: Generation(1),
        schema: "s0003_g1".into(),
        group: GroupId(1),
        group_name: "g1".into(),
        group_generation: Generation(1),
        primary: primary.into(),
    };
    ShardTable::new(&route, &CollectionName::parse("c").unwrap(), &CollectionSettings::memory_entries())
}

/// A search under a filter that an index answers, in a namespace of 10,000 rows with a graph of its own.
fn query(scope: Scope, share: Option<f64>) -> KnnQuery {
    let filter = json!({"must": [{"field": "metadata.a", "eq": 1}, {"field": "key", "range": {"gt": "k"}}]});
    let wish = Wish {
        calibrated: Calibrated { own_graphs: None, shard_graphs: None },
        k: 10,
        overfetch: 2.0,
        profile: Profile::Balanced,
        target_recall: None,
        ef: None,
        exact: false,
        filtered: true,
        excluding: false,
        per_namespace: None,
        shards: 1,
        graphs: 1,
    };
    let size = ShardSize {
        rows: Some(10_000),
        whole_table: false,
        graphs: 1,
        graph_rows: 10_000,
        shard_graph: false,
        matching: share.map(|share| Matching { share, indexed_rows: Some(share * 12_000.0) }),
    };
    KnnQuery {
        vector: Vector::new(vec![1.0; 384]).unwrap(),
        scope,
        exclude: Arc::default(),
        filter: Some(filter::check(&serde_json::from_value(filter).unwrap(), "").unwrap().into()),
        without: None,
        bring: Bring::Columns(Arc::default()),
        plan: plan_shard(&wish, size),
        graphs: vec![Namespace::parse("n").unwrap()],
    }
}

fn one() -> Scope {
    Scope::Namespaces(vec![Namespace::parse("n").unwrap()])
}

/// What follows the table's name.
fn text(query: &KnnQuery) -> String {
    let text = statement(&table(), query).text;
    text.strip_prefix("select namespace, key, version, expires_at, embedding from \"s0003_g1\".\"c\" where ")
        .unwrap()
        .to_owned()
}

/// Whether the settings have each of these, such as `("enable_seqscan", "off")`.
#[track_caller]
fn assert_set(query: &KnnQuery, wanted: &[(&str, &str)]) {
    let settings = format!("{:?}", settings(query, Instant::now() + Duration::from_secs(1)));
    for setting in wanted {
        assert!(settings.contains(&format!("{setting:?}")), "{setting:?} is not in {settings}");
    }
}

const FIXED: [(&str, &str); 2] = [("plan_cache_mode", "force_generic_plan"), ("enable_seqscan", "off")];
const FREE: [(&str, &str); 2] = [("plan_cache_mode", "force_custom_plan"), ("enable_seqscan", "on")];

#[test]
fn few_matches_are_reached_through_the_index_on_metadata_alone() {
    let query = query(one(), Some(0.01));
    assert_eq!(
        text(&query),
        format!(
            "{ALIVE_TEXT} and (namespace = $2) is true and ((metadata @> $3::jsonb) and ((key > $4::text) is true)) \
             order by (embedding <=> $1) + 0, namespace, key limit $5"
        )
    );
    assert_set(&query, &FIXED);
}

#[test]
fn many_matches_are_walked_to_by_the_graph_alone() {
    let query = query(one(), Some(0.5));
    assert_eq!(
        text(&query),
        format!(
            "namespace = 'n' and {ALIVE_TEXT} and ((metadata @> $2::jsonb) is true and ((key > $3::text))) \
             order by embedding <=> $1 limit 10"
        )
    );
    assert_set(&query, &FIXED);
    assert_set(
        &query,
        &[
            ("enable_sort", "off"),
            ("hnsw.ef_search", "91"),
            ("hnsw.iterative_scan", "strict_order"),
            ("hnsw.max_scan_tuples", "500"),
        ],
    );
}

#[test]
fn a_scan_goes_by_the_namespaces_alone() {
    let mut query = query(one(), Some(0.5));
    query.plan = ShardPlan { path: RowPath::Namespaces, ..query.plan.exact(10) };
    assert_eq!(
        text(&query),
        format!(
            "{ALIVE_TEXT} and namespace = $2 and ((metadata @> $3::jsonb) is true and ((key > $4::text))) \
             order by (embedding <=> $1) + 0, namespace, key limit $5"
        )
    );
    query.scope = Scope::All;
    // A table is read as it lies.
    assert_set(&query, &FREE);
}

#[test]
fn without_an_estimate_the_server_chooses_for_each_execution() {
    let query = query(Scope::Prefix("n".to_owned()), None);
    assert!(text(&query).starts_with(&format!(
        "{ALIVE_TEXT} and namespace >= $2 and namespace < $3 and ((metadata @> $4::jsonb) and ((key > $5::text))) order by"
    )));
    assert_set(&query, &FREE);
}

/// A kept plan was made under the settings of the first execution: two ways must never share a text.
#[test]
fn each_way_has_a_text_of_its_own() {
    for scope in [one(), Scope::Prefix("n".to_owned()), Scope::All] {
        let base = query(scope, Some(0.5));
        let paths = [RowPath::Namespaces, RowPath::Filter]
            .map(|path| text(&KnnQuery { plan: ShardPlan { path, ..base.plan.exact(10) }, ..base.clone() }));
        assert_ne!(paths[0], paths[1]);
    }
}
