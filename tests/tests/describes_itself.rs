//! The service says what it can do, how it is, and when it has enough; and it ends without cutting anybody off.

#![allow(clippy::unwrap_used)]

use cluster_tests::processes;
use cluster_tests::wordnet;
use cluster_tests::{Client, Cluster, ClusterOptions};
use http::Method;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const SEARCH: &str = "/v1/collections/memory_entries/search";
/// Few, so that a burst is too much.
const CONCURRENCY: usize = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn describes_itself() {
    let options = ClusterOptions::new("describes_itself").workers(2);
    let mut cluster = Cluster::start(options.environment("ATOLL__LIMITS__CONCURRENCY", CONCURRENCY.to_string())).await;
    let client = cluster.client();
    its_description_is_whole(&client).await;
    health_and_version(&client).await;
    ids_of_requests_are_echoed(&client).await;
    let entries = wordnet::sample();
    assert_eq!(client.import("memory_entries", wordnet::ndjson(&entries[..500])).await["written"], 500);
    too_much_is_told(&client, &entries[0].vector).await;
    metrics_count(&client).await;
    what_is_under_way_finishes(&mut cluster, &entries[500..700]).await;
    cluster.finish(&["request failed"]).await;
}

/// The routes of the API that are delivered.
fn routes() -> BTreeSet<(String, String)> {
    let listed = "
        get /v1/collections
        get put delete /v1/collections/{c}
        post /v1/collections/{c}/entries
        get put patch delete /v1/collections/{c}/namespaces/{ns}/entries/{key}
        post /v1/collections/{c}/entries/get
        post /v1/collections/{c}/entries/delete
        post /v1/collections/{c}/entries/list
        post /v1/collections/{c}/entries/count
        post /v1/collections/{c}/import
        get /v1/collections/{c}/export
        get /v1/collections/{c}/namespaces
        get delete /v1/collections/{c}/namespaces/{ns}
        post /v1/collections/{c}/search
        post /v1/collections/{c}/search/batch
        get /v1/admin/cluster
        post /v1/admin/coordinators
        delete /v1/admin/coordinators/{id}
        get /v1/admin/workers
        get /v1/admin/groups
        get /v1/admin/shards
        get /healthz
        get /readyz
        get /version";
    let mut routes = BTreeSet::new();
    for line in listed.lines().filter(|line| !line.trim().is_empty()) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (path, methods) = words.split_last().unwrap();
        routes.extend(methods.iter().map(|method| ((*path).to_owned(), (*method).to_owned())));
    }
    routes
}

async fn its_description_is_whole(client: &Client) {
    let answer = client.get("/openapi.json").await.expect(200);
    assert_eq!(answer.header("content-type"), "application/json");
    let document = answer.json();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"), "{}", document["openapi"]);
    let mut found = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            if ["get", "put", "post", "patch", "delete"].contains(&method.as_str()) {
                found.insert((path.clone(), method.clone()));
                assert!(operation["operationId"].is_string() && operation["summary"].is_string(), "{method} {path}");
                assert!(operation["responses"].as_object().is_some_and(|responses| !responses.is_empty()));
            }
        }
    }
    assert_eq!(found, routes());
    // Whatever it refers to is there.
    let mut references = BTreeSet::new();
    collect_references(&document, &mut references);
    for reference in references {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference} is not there");
    }
    // And each route is: asked with names of nothing, none of them is unknown.
    for (path, method) in routes() {
        if method == "get" {
            let path = path.replace("{c}", "memory_entries").replace("{ns}", "n").replace("{key}", "k");
            let answer = client.get(&path).await;
            assert!(answer.status == 200 || answer.code() == "entry-not-found", "{path}: {}", answer.text());
        }
    }
}

fn collect_references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                match member.as_str() {
                    Some(reference) if name == "$ref" => _ = found.insert(reference.to_owned()),
                    Some(_) | None => collect_references(member, found),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| collect_references(value, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

async fn health_and_version(client: &Client) {
    client.get("/healthz").await.expect(200);
    assert_eq!(client.get("/readyz").await.expect(200).json(), json!({"ready": true, "reasons": []}));
    let version = client.get("/version").await.expect(200).json();
    assert_eq!((&version["name"], &version["version"]), (&json!("atoll"), &json!(env!("CARGO_PKG_VERSION"))));
    let cluster = client.get("/v1/admin/cluster").await.expect(200).json();
    assert_eq!((&cluster["leader"], &cluster["shard_count"]), (&cluster["answered_by"], &json!(12)));
    let groups = client.get("/v1/admin/groups").await.expect(200).json();
    let shards: u64 = groups["groups"].as_array().unwrap().iter().map(|group| group["shards"].as_u64().unwrap()).sum();
    assert_eq!(shards, 12);
    let of_one = client.get("/v1/admin/shards?group=g1").await.expect(200).json();
    assert!(of_one["shards"].as_array().unwrap().iter().all(|shard| shard["group"] == "g1"));
    assert_eq!(of_one["shards"].as_array().unwrap().len(), 6);
    for worker in client.get("/v1/admin/workers").await.expect(200).json()["workers"].as_array().unwrap() {
        assert_eq!(
            (&worker["up"], &worker["mode"], &worker["role"]),
            (&json!(true), &json!("managed"), &json!("primary"))
        );
        assert!(worker["postgres"].as_str().is_some_and(|version| !version.is_empty()), "{worker}");
    }
}

async fn ids_of_requests_are_echoed(client: &Client) {
    let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let asked =
        client.request(Method::GET, "/v1/nothing").header("x-request-id", "my-id").header("traceparent", traceparent);
    let answer = asked.send().await;
    assert_eq!((answer.header("x-request-id"), answer.header("traceparent")), ("my-id", traceparent));
    assert_eq!(answer.json()["request_id"], "my-id");
    let (one, other) = (client.get("/healthz").await, client.get("/healthz").await);
    assert!(!one.header("x-request-id").is_empty());
    assert_ne!(one.header("x-request-id"), other.header("x-request-id"));
}

async fn too_much_is_told(client: &Client, query: &[f32]) {
    let body = json!({"vector": query, "all": true, "exact": true, "k": 500, "include": ["value", "vector"]});
    let burst = (0..CONCURRENCY * 10).map(|_| client.post(SEARCH, &body));
    let answers = futures::future::join_all(burst).await;
    let (mut done, mut refused) = (0, 0);
    for answer in answers {
        match answer.status {
            200 => done += 1,
            _ => {
                assert_eq!(answer.header("retry-after"), "1", "{}", answer.text());
                let problem = answer.expect_problem(429, "overloaded");
                assert_eq!(problem["retryable"], true);
                refused += 1;
            }
        }
    }
    println!("of a burst, {done} were answered and {refused} refused");
    assert!(done >= CONCURRENCY && refused > 0, "{done} answered, {refused} refused");
    // Who looks after the service gets an answer all the same, and later so does everybody.
    client.get("/readyz").await.expect(200);
    for _ in 0..5 {
        client.post(SEARCH, &body).await.expect(200);
    }
}

async fn metrics_count(client: &Client) {
    let answer = client.get("/metrics").await.expect(200);
    assert!(answer.header("content-type").starts_with("text/plain"));
    let text = answer.text();
    for name in [
        "vector_search_duration_seconds_bucket",
        "vector_search_results_total",
        "shard_query_latency_seconds_bucket",
        "shard_size_bytes",
        "shard_row_count",
        "db_connections_active",
        "db_connections_idle",
        "db_connections_max",
        "atoll_http_requests_total",
        "atoll_http_request_duration_seconds_bucket",
        "atoll_entries_written_total",
        "atoll_worker_up",
        "atoll_catalog_version",
        "atoll_raft_leader",
    ] {
        assert!(text.lines().any(|line| line.starts_with(name)), "no {name}");
        let described = name.trim_end_matches("_bucket");
        assert!(text.contains(&format!("# HELP {described} ")), "{described} is not described");
    }
    let value = |start: &str| {
        let line = text.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("no {start}"));
        line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()
    };
    assert_eq!(value("atoll_entries_written_total{outcome=\"imported\"}"), 500.0);
    assert_eq!(value("atoll_worker_up{worker=\"w1\"}"), 1.0);
    assert!(value("vector_search_duration_seconds_count{scope=\"all\"}") >= 5.0);
    let shards = text.lines().filter(|line| line.starts_with("shard_row_count{")).count();
    assert_eq!(shards, 12);
}

/// Told to stop in the middle of an import, a coordinator takes the rest of it, answers, and is gone.
async fn what_is_under_way_finishes(cluster: &mut Cluster, entries: &[wordnet::Sample]) {
    let coordinator = cluster.layout().coordinators[0].clone();
    let address = coordinator.http.trim_start_matches("http://").to_owned();
    let mut stream = TcpStream::connect(&address).await.unwrap();
    let head = format!(
        "POST /v1/collections/memory_entries/import HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/x-ndjson\r\n\
         transfer-encoding: chunked\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let (first, second) = entries.split_at(entries.len() / 2);
    send_chunk(&mut stream, &wordnet::ndjson(first)).await;
    // It has begun when its head has come.
    let mut answer = vec![0_u8; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&answer), "HTTP/1.1 200");
    processes::signal(coordinator.pid, Signal::TERM);
    // New connections are taken no more, so it is stopping; the import is not cut off.
    cluster_tests::poll::until("the listener to close", Duration::from_secs(5), async || {
        match TcpStream::connect(&address).await {
            Ok(_) => Err("it listens".to_owned()),
            Err(_) => Ok(()),
        }
    })
    .await;
    assert!(processes::runs(coordinator.pid), "it left the import behind");
    send_chunk(&mut stream, &wordnet::ndjson(second)).await;
    stream.write_all(b"0\r\n\r\n").await.unwrap();
    let mut rest = Vec::new();
    tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut rest)).await.expect("in time").unwrap();
    let text = String::from_utf8_lossy(&rest);
    let done = text.lines().rev().find_map(|line| serde_json::from_str::<Value>(line).ok().filter(Value::is_object));
    let done = done.unwrap_or_else(|| panic!("no last line: {text}"));
    assert_eq!(
        (&done["done"], &done["written"], &done["problem"]),
        (&json!(true), &json!(entries.len()), &Value::Null),
        "{done}"
    );
    processes::wait_gone(&[coordinator.pid]).await;

    cluster.start_member("coordinator-1");
    cluster.wait_ready(1).await;
    assert_eq!(cluster.client().export("memory_entries", None).await.len(), 500 + entries.len());
}

async fn send_chunk(stream: &mut TcpStream, text: &str) {
    stream.write_all(format!("{:x}\r\n{text}\r\n", text.len()).as_bytes()).await.unwrap();
}
