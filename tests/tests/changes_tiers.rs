//! A namespace grows large and small again under searches and writes. It gets a graph of its own and loses it, by itself, and
//! every answer on the way is whole and right.

#![allow(clippy::unwrap_used)]

use atoll_proto::Metric;
use cluster_tests::oracle::Neighbour;
use cluster_tests::traffic::{Asked, Traffic};
use cluster_tests::wordnet::{self, Sample};
use cluster_tests::{Client, Cluster, ClusterOptions, oracle, poll, sql};
use http::Method;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

const SEARCH: &str = "/v1/collections/memory_entries/search";
const NAMESPACE: &str = "grows";
const SMALL: usize = 10;
/// With the full data set; the sample has fewer.
const LARGE: usize = 20_000;
const K: usize = 10;
/// Counting, building and waiting until searches have heard of it.
const PATIENCE: Duration = Duration::from_secs(90);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_tiers() {
    let options = ClusterOptions { shards: 2, ..ClusterOptions::new("changes_tiers").workers(1).uncached() };
    let cluster = Cluster::start(options.environment("ATOLL_AGENT__STATS__INTERVAL_SECONDS", "1")).await;
    let client = cluster.client();
    let entries: Vec<Sample> =
        wordnet::full().unwrap_or_else(wordnet::sample).into_iter().take(LARGE).map(gathered).collect();
    let (kept, others) = entries.split_at(SMALL);
    let [all_truths, kept_truths] = [&entries, kept].map(|stored| oracle::answers_to_some(Metric::Cosine, stored, K));
    import(&client, kept).await;
    let searcher = keep_searching(&client, &entries[0].vector);
    let writer = keep_writing(&client, &entries[1].vector);

    answers_are_right(&client, &kept_truths, "exact").await;
    import(&client, others).await;
    // Nobody waits for a graph: until there is one, every row is looked at.
    answers_are_right(&client, &all_truths, "any").await;
    wait_for_strategy(&client, &entries[0], "hnsw").await;
    answers_are_right(&client, &all_truths, "hnsw").await;
    lists_and_everything_walk_it_too(&client, &entries).await;
    postgresql_plans_as_it_is_meant_to(&client, &entries).await;
    values_are_no_syntax_in_plans_either(&client, &entries).await;
    assert_eq!(graphs(&cluster).await, [NAMESPACE]);

    for ids in others.chunks(1_000) {
        let ids: Vec<Value> = ids.iter().map(|entry| json!({"namespace": NAMESPACE, "key": entry.key})).collect();
        client.post("/v1/collections/memory_entries/entries/delete", &json!({"ids": ids})).await.expect(200);
    }
    answers_are_right(&client, &kept_truths, "any").await;
    wait_for_strategy(&client, &entries[0], "exact").await;
    poll::until("the graph to go", PATIENCE, async || {
        let graphs = graphs(&cluster).await;
        if graphs.is_empty() { Ok(()) } else { Err(format!("{graphs:?}")) }
    })
    .await;
    answers_are_right(&client, &kept_truths, "exact").await;

    for (who, asked) in [("searcher", searcher.end().await), ("writer", writer.end().await)] {
        assert!(asked.len() > 100, "{who}: {} requests", asked.len());
        let failed: Vec<&Asked> = asked.iter().filter(|one| !one.succeeded()).collect();
        assert!(failed.is_empty(), "{who}: {failed:?}");
    }
    cluster.finish(&[]).await;
}

/// In the one namespace, under a key of its own.
fn gathered(entry: Sample) -> Sample {
    Sample { namespace: NAMESPACE.to_owned(), key: format!("{}:{}", entry.namespace, entry.key), ..entry }
}

async fn import(client: &Client, entries: &[Sample]) {
    let done = client.import("memory_entries", wordnet::ndjson(entries)).await;
    assert_eq!(done["written"].as_u64(), Some(entries.len() as u64), "{done}");
}

fn keep_searching(client: &Client, vector: &[f32]) -> Traffic {
    let body = json!({"vector": vector, "namespaces": [NAMESPACE], "k": K});
    Traffic::begin(client.clone(), move |client, _| client.request(Method::POST, SEARCH).json(&body))
}

fn keep_writing(client: &Client, vector: &[f32]) -> Traffic {
    let body = json!({"vector": vector, "value": "beside it"});
    Traffic::begin(client.clone(), move |client, number| {
        let path = format!("/v1/collections/memory_entries/namespaces/beside/entries/k{}", number % 50);
        client.request(Method::PUT, &path).json(&body)
    })
}

/// Exact answers are the true ones; others miss little, and are never short.
async fn answers_are_right(client: &Client, truths: &[(&Sample, Vec<Neighbour>)], strategy: &str) {
    let mut found = 0;
    for (query, truth) in truths {
        let body = json!({"vector": query.vector, "namespaces": [NAMESPACE], "k": K, "include": [], "explain": true});
        let answer = client.post(SEARCH, &body).await.expect(200).json();
        let keys = keys(&answer);
        assert_eq!(keys.len(), truth.len(), "short: {answer}");
        if strategy != "any" {
            assert_eq!(answer["explain"]["shards"][0]["strategy"], strategy, "{answer}");
        }
        found += truth.iter().filter(|one| keys.contains(&one.key)).count();
        let mut exact = body.clone();
        exact["exact"] = json!(true);
        let exact = client.post(SEARCH, &exact).await.expect(200).json();
        let wanted: BTreeSet<String> = truth.iter().map(|one| one.key.clone()).collect();
        assert_eq!(self::keys(&exact), wanted);
    }
    let recall = found as f64 / truths.iter().map(|(_, truth)| truth.len()).sum::<usize>() as f64;
    println!("{} queries, {strategy}: recall {recall:.3}", truths.len());
    assert!(recall >= if strategy == "exact" { 1.0 } else { 0.95 }, "recall {recall}");
}

async fn lists_and_everything_walk_it_too(client: &Client, entries: &[Sample]) {
    let query = &entries[7];
    let truth = oracle::nearest(Metric::Cosine, &query.vector, entries, K, |_| true);
    for scope in [
        json!({"namespaces": [NAMESPACE, "nothing"]}),
        json!({"prefix": "gr"}),
        json!({"all": true}),
        json!({"all": true, "exclude": ["beside"]}),
    ] {
        let mut body = json!({"vector": query.vector, "k": K, "include": [], "explain": true});
        body.as_object_mut().unwrap().extend(scope.as_object().unwrap().clone());
        let answer = client.post(SEARCH, &body).await.expect(200).json();
        let walked = answer["plan"]["strategies"]["hnsw"].as_u64();
        assert_eq!(walked, Some(1), "{scope}: {answer}");
        let keys = keys(&answer);
        let hit = truth.iter().filter(|one| keys.contains(&one.key)).count();
        assert!(hit >= K - 1 && answer["hits"].as_array().unwrap().len() == K, "{scope}: {answer}");
    }
}

async fn postgresql_plans_as_it_is_meant_to(client: &Client, entries: &[Sample]) {
    let graph = json!({"vector": entries[7].vector, "namespaces": [NAMESPACE], "k": K});
    let planned = explained(client, &graph, false).await;
    let shard = &planned["shards"][0];
    assert_eq!((&shard["strategy"], &shard["graphs"]), (&json!("hnsw"), &json!([NAMESPACE])), "{planned}");
    assert_eq!(shard["rejected"][0]["strategy"], "exact", "{planned}");
    assert!(shard["rejected"][0]["cost_us"].as_f64() > shard["cost_us"].as_f64(), "{planned}");
    assert_eq!(walks(&shard["pg_plan"]["Plan"]), 1, "{planned}");
    assert!(planned["answer"].is_null() && planned["merge"].is_null() && shard["run"].is_null(), "{planned}");
    assert_eq!(planned["plan"]["strategies"]["hnsw"], 1, "{planned}");

    let found = client.post(SEARCH, &graph).await.expect(200).json();
    let ran = explained(client, &graph, true).await;
    assert_eq!(ran["answer"]["hits"], found["hits"]);
    let (shard, merge) = (&ran["shards"][0], &ran["merge"]);
    assert_eq!(walks(&shard["pg_plan"]["Plan"]), 1, "{ran}");
    assert!(shard["pg_plan"]["Execution Time"].is_f64(), "it ran: {ran}");
    assert_eq!((&shard["run"]["hits"], &merge["hits"]), (&json!(K), &json!(K)), "{ran}");
    assert_eq!((&shard["run"]["candidates"], &merge["candidates"]), (&json!(K + 4), &json!(K + 4)), "{ran}");

    let mut exact = graph.clone();
    exact["exact"] = json!(true);
    let exact = explained(client, &exact, true).await;
    assert_eq!(walks(&exact["shards"][0]["pg_plan"]["Plan"]), 0, "{exact}");

    let everything = json!({"vector": entries[7].vector, "all": true, "k": K});
    let everything = explained(client, &everything, true).await;
    let plans = everything["shards"].as_array().unwrap().iter().map(|shard| walks(&shard["pg_plan"]["Plan"]));
    assert_eq!(plans.sum::<usize>(), 1, "{everything}");
    let codes: Vec<&Value> =
        everything["warnings"].as_array().unwrap().iter().map(|warning| &warning["code"]).collect();
    assert!(!codes.contains(&&json!("graph_not_walked")), "{everything}");
}

async fn values_are_no_syntax_in_plans_either(client: &Client, entries: &[Sample]) {
    let key = r"'; \'); drop schema atoll cascade; -- $1 \";
    let entry =
        json!({"namespace": "beside", "key": key, "vector": entries[3].vector, "tags": [key], "metadata": {key: key}});
    let path = "/v1/collections/memory_entries/entries";
    client.post(path, &json!({"entries": [entry]})).await.expect(200);
    let filters = json!([
        {"field": "key", "eq": key}, {"field": "key", "prefix": key}, {"field": "tags", "any": [key, "\"{},'"]},
        {"field": format!("metadata.{key}"), "eq": key}, {"field": format!("metadata.{key}"), "in": [key, 7, null]},
        {"field": format!("metadata.{key}"), "range": {"gte": key}}, {"field": "created_at", "range": {"gt": "2020-01-01T00:00:00Z"}},
    ]);
    let search = json!({"like": {"namespace": "beside", "key": key}, "all": true, "k": 3, "group_by_namespace": 2});
    let mut bodies = vec![search.clone()];
    for filter in filters.as_array().unwrap() {
        let mut body = json!({"vector": entries[3].vector, "namespaces": ["beside", NAMESPACE], "k": 3});
        body["filter"] = json!({"must": [filter]});
        bodies.push(body);
    }
    for body in bodies {
        let ran = explained(client, &body, true).await;
        let found = client.post(SEARCH, &body).await.expect(200).json();
        assert_eq!(ran["answer"]["hits"], found["hits"], "{body}");
        assert!(body["filter"].is_null() || found["hits"][0]["key"] == key, "{body}: {found}");
        for shard in ran["shards"].as_array().unwrap() {
            assert!(shard["pg_plan"]["Plan"].is_object(), "{body}: {ran}");
        }
    }
}

/// What is explained of a search, with PostgreSQL's plans.
async fn explained(client: &Client, search: &Value, analyze: bool) -> Value {
    let mut body = search.clone();
    body["analyze"] = json!(analyze);
    body["pg_plan"] = json!(true);
    client.post(&format!("{SEARCH}/explain"), &body).await.expect(200).json()
}

/// Walks of graphs in a plan.
fn walks(node: &Value) -> usize {
    let here = usize::from(node["Node Type"] == "Index Scan" && node["Order By"].is_string());
    here + node["Plans"].as_array().into_iter().flatten().map(walks).sum::<usize>()
}

async fn wait_for_strategy(client: &Client, query: &Sample, wanted: &str) {
    let body = json!({"vector": query.vector, "namespaces": [NAMESPACE], "include": [], "explain": true});
    poll::until(&format!("searches to be {wanted}"), PATIENCE, async || {
        let answer = client.post(SEARCH, &body).await.expect(200).json();
        let explained = &answer["explain"]["shards"][0];
        if explained["strategy"] == wanted { Ok(()) } else { Err(explained.to_string()) }
    })
    .await;
}

fn keys(answer: &Value) -> BTreeSet<String> {
    let hits = answer["hits"].as_array().unwrap();
    hits.iter().map(|hit| hit["key"].as_str().unwrap().to_owned()).collect()
}

/// Namespaces with an index of their own, on all workers.
async fn graphs(cluster: &Cluster) -> Vec<String> {
    let mut graphs = Vec::new();
    for worker in cluster.layout().workers {
        let of_worker = sql::rows(
            &worker.dsn,
            "select substring(pg_get_expr(indpred, indrelid) from '''([^'']*)''') from pg_index
             where indexrelid::regclass::text like '%\\_ns\\_%' and indisvalid",
        );
        graphs.extend(of_worker.await);
    }
    graphs
}
