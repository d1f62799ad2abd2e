//! A filtered search gives as many hits as match, up to k, however few or many match, wherever it looks and whichever way it takes
//! there; each hit matches, and nearly all are the true nearest.

#![allow(clippy::unwrap_used)]

use atoll_proto::Metric;
use cluster_tests::oracle::{self, Neighbour};
use cluster_tests::seeded::Seeded;
use cluster_tests::wordnet::{self, Sample};
use cluster_tests::{Client, Cluster, ClusterOptions, poll};
use futures::{StreamExt, stream};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const SEARCH: &str = "/v1/collections/grid/search";
const DIMENSIONS: usize = 24;
const CLUSTERS: usize = 8;
/// Some have graphs of their own, some are scanned.
const NAMESPACES: [(&str, usize); 6] =
    [("large-a", 5_000), ("large-b", 2_500), ("middle-a", 700), ("middle-b", 600), ("small-a", 60), ("small-b", 30)];
const QUERIES: usize = 3;
/// Recall that is promised, on the mean of searches.
const PROMISES: [(&str, f64); 3] = [("exact", 1.0), ("accuracy", 0.99), ("speed", 0.95)];
/// A part of the grid has few searches: one that misses its only hit must not break a promise.
const CHANCE: f64 = 0.05;
/// Counting, building and waiting until searches have heard of it.
const PATIENCE: Duration = Duration::from_secs(90);

/// Where to look.
const SCOPES: [&str; 3] = ["own", "five", "all"];

/// A filter, and what it means.
struct Case {
    name: &'static str,
    filter: Value,
    matches: fn(&Sample) -> bool,
}

fn cases() -> Vec<Case> {
    let case = |name, filter, matches| Case { name, filter, matches };
    vec![
        case("0.1 %", json!({"must": [{"field": "metadata.n", "eq": 7}]}), |e| number(e) == 7),
        case("1 %", json!({"must": [{"field": "tags", "any": ["h7"]}]}), |e| number(e) % 100 == 7),
        case("10 % by an index", json!({"must": [{"field": "tags", "all": ["t3"]}]}), |e| number(e) % 10 == 3),
        case("10 % by none", json!({"must": [{"field": "metadata.n", "range": {"gte": 400, "lt": 500}}]}), |e| {
            (400..500).contains(&number(e))
        }),
        case(
            "20 % in two parts",
            json!({"should": [{"field": "metadata.t", "eq": 1}, {"field": "tags", "any": ["t2"]}]}),
            |e| [1, 2].contains(&(number(e) % 10)),
        ),
        case("90 %", json!({"must_not": [{"field": "metadata.t", "eq": 0}]}), |e| !number(e).is_multiple_of(10)),
        // Most queries are far from where these lie: a walk does not come by.
        // So are these, and in other namespaces rows match that are further off or nearer: they must not be taken for the graph's.
        case("one cluster here, another there", either(5, 6), |e| {
            e.metadata["cluster"] == if is_large(e) { 5 } else { 6 }
        }),
        case("the other way round", either(6, 5), |e| e.metadata["cluster"] == if is_large(e) { 6 } else { 5 }),
        case("one cluster", json!({"must": [{"field": "metadata.cluster", "range": {"gte": 5, "lt": 6}}]}), |e| {
            e.metadata["cluster"] == 5
        }),
    ]
}

/// One cluster of large namespaces, and another of the others.
fn either(of_large: u64, of_others: u64) -> Value {
    let of = |cluster: u64, large: bool| {
        json!({"filter": {"must": [{"field": "metadata.cluster", "range": {"gte": cluster, "lt": cluster + 1}},
                                   {"field": "metadata.large", "eq": large}]}})
    };
    json!({"should": [of(of_large, true), of(of_others, false)]})
}

fn is_large(entry: &Sample) -> bool {
    entry.namespace.starts_with("large")
}

fn number(entry: &Sample) -> u64 {
    entry.metadata["n"].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn never_short() {
    let cluster =
        Cluster::start(ClusterOptions { shards: 2, ..ClusterOptions::new("never_short").workers(2).uncached() }).await;
    let client = cluster.client();
    client.put("/v1/collections/grid", &json!({"dimensions": DIMENSIONS})).await.expect(201);
    let entries = entries();
    let done = client.import("grid", wordnet::ndjson(&entries)).await;
    assert_eq!(done["written"].as_u64(), Some(entries.len() as u64), "{done}");
    // Whatever is known of the rows so far: no answer is short, and exact ones are exact.
    grid(&client, &entries, &[10], &PROMISES).await;
    wait_for_walks(&client, &entries[0]).await;
    let ways = grid(&client, &entries, &[1, 10, 100], &PROMISES).await;
    for way in ["exact", "hnsw", "exact_fallback"] {
        assert!(ways.get(way).is_some_and(|shards| *shards > 0), "{way} was never taken: {ways:?}");
    }
    cluster.finish(&[]).await;
}

/// Entries in clusters, as embeddings lie.
fn entries() -> Vec<Sample> {
    let mut chance = Seeded::new(11);
    let centres: Vec<Vec<f32>> = (0..CLUSTERS).map(|_| chance.vector(DIMENSIONS)).collect();
    let mut entries = Vec::new();
    for (namespace, rows) in NAMESPACES {
        for i in 0..rows {
            let (cluster, n) = (chance.below(CLUSTERS), chance.below(1_000));
            let vector = centres[cluster].iter().map(|x| x + 0.4 * chance.unit()).collect();
            let metadata = json!({"n": n, "t": n % 10, "cluster": cluster, "large": namespace.starts_with("large")});
            entries.push(Sample {
                namespace: namespace.to_owned(),
                key: format!("k{i}"),
                value: String::new(),
                metadata: metadata.as_object().unwrap().clone(),
                tags: vec![format!("t{}", n % 10), format!("h{}", n % 100)],
                vector,
            });
        }
    }
    entries
}

/// Until the large namespaces have graphs, and a search under a filter that most rows pass walks them.
async fn wait_for_walks(client: &Client, entry: &Sample) {
    for namespace in ["large-a", "large-b"] {
        let body = json!({
            "vector": entry.vector, "namespaces": [namespace], "include": [],
            "filter": {"must_not": [{"field": "metadata.t", "eq": 0}]}
        });
        poll::until("searches to walk under a filter", PATIENCE, async || {
            let answer = client.post(SEARCH, &body).await.expect(200).json();
            let strategies = &answer["plan"]["strategies"];
            if strategies["hnsw"] == 1 { Ok(()) } else { Err(strategies.to_string()) }
        })
        .await;
    }
}

/// Searches under every filter, in every scope, at every profile; says how often shards were searched which way. Profiles have at
/// least the recall given: all searches on the mean, and nearly so those of each scope and each k.
async fn grid(client: &Client, entries: &[Sample], ks: &[usize], recalls: &[(&str, f64)]) -> BTreeMap<String, u64> {
    let mut cells = Vec::new();
    for case in &cases() {
        for scope in SCOPES {
            for k in ks {
                for profile in ["exact", "accuracy", "speed"] {
                    cells.push(cell(client, entries, case.name, case.filter.clone(), case.matches, scope, *k, profile));
                }
            }
        }
    }
    let cells: Vec<Cell> = stream::iter(cells).buffer_unordered(4).collect().await;
    let mut ways = BTreeMap::new();
    for (way, shards) in cells.iter().flat_map(|cell| &cell.ways) {
        *ways.entry(way.clone()).or_default() += shards;
    }
    for &(profile, least) in recalls {
        let recall_of = |part: &dyn Fn(&Cell) -> bool| {
            let cells = cells.iter().filter(|cell| cell.profile == profile && part(cell));
            let recalls: Vec<f64> = cells.flat_map(|cell| cell.recalls.iter().copied()).collect();
            recalls.iter().sum::<f64>() / recalls.len() as f64
        };
        for scope in SCOPES {
            for &k in ks {
                let recall = recall_of(&|cell| cell.scope == scope && cell.k == k);
                println!("{profile}, {scope}, k {k}: recall {recall:.4}");
                assert!(
                    recall >= if least == 1.0 { 1.0 } else { least - CHANCE },
                    "{profile}, {scope}, k {k}: recall {recall}"
                );
            }
        }
        let recall = recall_of(&|_| true);
        println!("{profile}: recall {recall:.4}");
        assert!(recall >= least, "{profile}: recall {recall}, {least} promised");
    }
    println!("{ways:?}");
    ways
}

/// What the searches of one cell of the grid gave.
struct Cell {
    profile: &'static str,
    scope: &'static str,
    k: usize,
    /// Of each search that had anything to find.
    recalls: Vec<f64>,
    /// How often shards were searched which way.
    ways: BTreeMap<String, u64>,
}

#[allow(clippy::too_many_arguments)]
async fn cell(
    client: &Client,
    entries: &[Sample],
    name: &'static str,
    filter: Value,
    matches: fn(&Sample) -> bool,
    scope: &'static str,
    k: usize,
    profile: &'static str,
) -> Cell {
    let mut cell = Cell { profile, scope, k, recalls: Vec::new(), ways: BTreeMap::new() };
    // Two of a large namespace, one of a namespace without a graph.
    for query in entries.iter().step_by(entries.len() * 9 / 20).take(QUERIES) {
        let namespaces: Vec<&str> = match scope {
            "own" => vec![query.namespace.as_str()],
            "five" => NAMESPACES[..5].iter().map(|(name, _)| *name).collect(),
            _ => NAMESPACES.map(|(name, _)| name).to_vec(),
        };
        let wanted = |entry: &Sample| namespaces.contains(&entry.namespace.as_str()) && matches(entry);
        let truth = oracle::nearest(Metric::Cosine, &query.vector, entries, k, wanted);
        let mut body = json!({"vector": query.vector, "k": k, "filter": filter, "include": []});
        match scope {
            "all" => body["all"] = json!(true),
            _ => body["namespaces"] = json!(namespaces),
        }
        match profile {
            "exact" => body["exact"] = json!(true),
            _ => body["profile"] = json!(profile),
        }
        let answer = client.post(SEARCH, &body).await.expect(200).json();
        let ids = ids(&answer);
        let place = format!("{name}, {scope}, k {k}, {profile}: {}", answer["plan"]);
        assert_eq!(ids.len(), truth.len(), "short: {place}");
        let short_reason = if truth.len() < k { json!("fewer_matches") } else { Value::Null };
        assert_eq!(answer["short_reason"], short_reason, "{place}");
        let truth: Vec<(String, String)> =
            truth.into_iter().map(|Neighbour { namespace, key, .. }| (namespace, key)).collect();
        if profile == "exact" {
            assert_eq!(ids, truth, "{place}");
        }
        let hits: BTreeSet<&(String, String)> = ids.iter().collect();
        assert_eq!(hits.len(), ids.len(), "twice the same: {place}");
        let right = entries.iter().filter(|entry| wanted(entry));
        let right = right.filter(|entry| hits.contains(&(entry.namespace.clone(), entry.key.clone()))).count();
        assert_eq!(right, ids.len(), "hits that do not match: {place}");
        if !truth.is_empty() {
            let found = truth.iter().filter(|one| hits.contains(one)).count();
            cell.recalls.push(found as f64 / truth.len() as f64);
        }
        for (way, shards) in answer["plan"]["strategies"].as_object().unwrap() {
            *cell.ways.entry(way.clone()).or_default() += shards.as_u64().unwrap();
        }
    }
    cell
}

fn ids(answer: &Value) -> Vec<(String, String)> {
    let text = |hit: &Value, field: &str| hit[field].as_str().unwrap().to_owned();
    let hits = answer["hits"].as_array().unwrap();
    hits.iter().map(|hit| (text(hit, "namespace"), text(hit, "key"))).collect()
}
