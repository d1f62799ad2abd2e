#![allow(clippy::unwrap_used)]
use super::*;
use atoll_core::filter;
use atoll_core::routing::{ShardRoute, WorkerRoute};
use atoll_core::search::filtered::Matching;
use atoll_core::search::plan::{Reach, ShardSize, Wish, plan_shard};
use atoll_proto::agent::PostgresAddress;
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
        standbys: [].into(),
    };
    ShardTable::new(&route, &CollectionName::parse("c").unwrap(), &CollectionSettings::memory_entries())
}

/// A search under a filter that an index answers, in a namespace of 10,000 rows with a graph of its own.
fn query(scope: Scope, share: Option<f64>) -> KnnQuery {
    let filter = json!({"must": [{"field": "metadata.a", "eq": 1}, {"field": "key", "range": {"gt": "k"}}]});
    let wish = Wish { filtered: true, ..Wish::USUAL };
    let size = ShardSize {
        rows: Some(10_000),
        table_rows: 12_000,
        whole_table: false,
        graphs: 1,
        graph_rows: 10_000,
        shard_graph: false,
        matching: share.map(|share| {
            let indexed_rows = Some(share * 12_000.0);
            Matching { share, share_of_graphs: share, indexed_rows }
        }),
    };
    KnnQuery {
        vector: Vector::new(vec![1.0; 384]).unwrap(),
        scope,
        exclude: Arc::default(),
        filter: Some(filter::check(&serde_json::from_value(filter).unwrap(), "").unwrap().into()),
        without: None,
        bring: Bring::Columns(Arc::default()),
        plan: plan_shard(&wish, &Reach { shards: 1, graphs: 1, ..Reach::default() }, size),
        graphs: vec![Namespace::parse("n").unwrap()],
    }
}

fn one() -> Scope {
    Scope::Namespaces(names(&["n"]))
}

fn names(names: &[&str]) -> Vec<Namespace> {
    names.iter().map(|name| Namespace::parse(name).unwrap()).collect()
}

/// The same by looking at rows.
fn exact(query: KnnQuery, path: RowPath) -> KnnQuery {
    let plan = ShardPlan { strategy: Strategy::Exact(path), ..query.plan };
    KnnQuery { plan, ..query }
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
             order by embedding <=> $1 limit $4"
        )
    );
    assert_set(&query, &FIXED);
    assert_set(&query, &[("enable_sort", "off"), ("hnsw.ef_search", "100"), ("hnsw.iterative_scan", "off")]);
}

/// Rows of one graph must not hide that another gave too few.
#[test]
fn several_graphs_say_how_many_rows_each_gave() {
    let mut query = query(Scope::Namespaces(names(&["m", "n", "o"])), Some(0.5));
    (query.filter, query.graphs) = (None, names(&["m", "n"]));
    let text = statement(&table(), &query).text;
    let graph = |name: &str, limit: u32| {
        format!(
            "as materialized (select namespace, key, version, expires_at, embedding, embedding <=> $1 as distance from \"s0003_g1\".\"c\" \
             where namespace = '{name}' and {ALIVE_TEXT} order by embedding <=> $1 limit ${limit})"
        )
    };
    assert_eq!(
        text,
        format!(
            "with graph_0 {}, graph_1 {} select namespace, key, version, expires_at, embedding, \
             least((select count(*) from graph_0), (select count(*) from graph_1)) as fewest from (select * from graph_0 \
             union all select * from graph_1 union all (select namespace, key, version, expires_at, embedding, embedding <=> $1 as distance \
             from \"s0003_g1\".\"c\" where namespace = any($4) and {ALIVE_TEXT} order by (embedding <=> $1) + 0, namespace, key \
             limit $5)) as candidates order by distance, namespace, key limit $6",
            graph("m", 2),
            graph("n", 3)
        )
    );
}

#[test]
fn namespaces_are_scanned_by_the_primary_key_without_planning_anew() {
    let mut query = exact(query(Scope::Namespaces(names(&["m", "n"])), None), RowPath::Namespaces);
    query.filter = None;
    assert_set(&query, &FIXED);
    query.scope = Scope::Prefix("n".to_owned());
    assert_set(&query, &FREE);
}

#[test]
fn a_scan_goes_by_the_namespaces_alone() {
    let mut query = exact(query(one(), Some(0.5)), RowPath::Namespaces);
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

/// No index is in this order, also where the partition is a single one.
#[test]
fn groups_are_ranked_in_an_order_that_no_graph_offers() {
    for (scope, asked) in [(one(), "namespace = $2"), (Scope::Namespaces(names(&["m", "n"])), "namespace = any($2)")] {
        let mut query = exact(query(scope, None), RowPath::Namespaces);
        (query.filter, query.plan.per_namespace) = (None, Some(2));
        assert_eq!(
            statement(&table(), &query).text,
            format!(
                "select namespace, key, version, expires_at, embedding from (select namespace, key, version, expires_at, embedding, \
                 (embedding <=> $1) + 0 as distance, row_number() over (partition by namespace order by (embedding <=> $1) + 0, \
                 key) as place from \"s0003_g1\".\"c\" where {ALIVE_TEXT} and {asked}) as ranked where place <= $3 \
                 order by distance, namespace, key limit $4"
            )
        );
    }
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
        let paths = [RowPath::Namespaces, RowPath::Filter].map(|path| text(&exact(base.clone(), path)));
        assert_ne!(paths[0], paths[1]);
    }
}

#[test]
fn candidates_come_whole_as_long_as_they_are_few_and_light() {
    let brings = |candidates: &[u32], bytes: Option<u64>, wide: Vec<Include>| match Bring::of_fan_out(
        candidates,
        || bytes,
        wide,
    ) {
        Bring::Distance => "distance",
        Bring::Columns(wide) if wide.is_empty() => "vector",
        Bring::Columns(_) => "all",
    };
    let light = Some(WHOLE_BYTES_OF_SEVERAL_MAX);
    for (candidates, bytes, wanted) in [
        (&[14][..], None, "all"),
        (&[64], None, "all"),
        (&[65], None, "distance"),
        (&[18; 5], light, "all"),
        (&[18; 5], light.map(|bytes| bytes + 1), "distance"),
        (&[18; 5], None, "distance"),
        (&[18; 7], light, "all"),
        (&[18; 8], light, "distance"),
    ] {
        assert_eq!(brings(candidates, bytes, Include::usual()), wanted, "{candidates:?} {bytes:?}");
    }
    assert_eq!(brings(&[18; 8], None, Vec::new()), "vector", "there is nothing to fetch");
}
