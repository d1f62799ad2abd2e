//! The same search is answered from the cache until something was written that it could show: by whatever kind of write, and at once.

#![allow(clippy::unwrap_used)]

use cluster_tests::entries::entry_path;
use cluster_tests::{Client, Cluster, ClusterOptions, poll};
use http::Method;
use serde_json::{Value, json};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn caches_answers() {
    // Longer than the story: nothing goes by itself.
    let options = ClusterOptions::new("caches_answers").workers(2).environment("ATOLL__CACHE__TTL_SECONDS", "3600");
    let cluster = Cluster::start(options).await;
    let client = cluster.client();
    client.put("/v1/collections/c", &json!({"dimensions": 2})).await.expect(201);
    hits_are_served_and_counted(&client).await;
    every_write_ends_them(&client).await;
    other_namespaces_do_not(&client).await;
    a_stored_entry_is_looked_up_each_time(&client).await;
    an_entry_expires_in_time(&client).await;
    another_collection_has_other_answers(&client).await;
    some_answers_are_not_kept(&client).await;
    cluster.finish(&[]).await;
}

fn near(namespace: &str) -> Value {
    json!({"vector": [1, 0], "k": 3, "namespaces": [namespace]})
}

async fn search(client: &Client, collection: &str, body: &Value) -> Value {
    client.post(&format!("/v1/collections/{collection}/search"), body).await.expect(200).json()
}

fn keys(answer: &Value) -> Vec<String> {
    let hits = answer["hits"].as_array().unwrap_or_else(|| panic!("no hits: {answer}"));
    hits.iter().map(|hit| hit["key"].as_str().unwrap().to_owned()).collect()
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

async fn write(client: &Client, collection: &str, namespace: &str, key: &str, vector: [f32; 2]) {
    let path = entry_path(collection, namespace, key);
    let answer = client.put(&path, &json!({"vector": vector, "value": key})).await;
    assert!([200, 201].contains(&answer.status), "{}", answer.text());
}

/// Searches until the answer comes from the cache. A doubt, as a write that broke off leaves it, would be waited for in vain.
async fn cached(client: &Client, collection: &str, body: &Value) -> Value {
    let first = search(client, collection, body).await;
    let second = search(client, collection, body).await;
    assert_eq!(second["cache"], "hit", "{second}");
    assert_eq!((&second["hits"], &second["plan"]), (&first["hits"], &first["plan"]));
    second
}

async fn metric(client: &Client, name: &str) -> u64 {
    let text = client.get("/metrics").await.expect(200).text();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no metric {name}")).parse().unwrap()
}

async fn hits_are_served_and_counted(client: &Client) {
    write(client, "c", "counted", "k", [1.0, 0.0]).await;
    let (hits, misses) = (metric(client, "cache_hits_total").await, metric(client, "cache_misses_total").await);
    let body = near("counted");
    assert_eq!(search(client, "c", &body).await["cache"], "miss");
    let hit = search(client, "c", &body).await;
    assert_eq!((&hit["cache"], &hit["complete"], keys(&hit)), (&json!("hit"), &json!(true), vec!["k".to_owned()]));
    assert_eq!((&hit["timings"]["fanout_ms"], &hit["session"]), (&json!(0.0), &Value::Null));
    assert_eq!(metric(client, "cache_hits_total").await, hits + 1);
    assert_eq!(metric(client, "cache_misses_total").await, misses + 1);
    assert!(metric(client, "cache_bytes").await > 0);
    // Who wants none reads none, and leaves none behind.
    let mut bypass = body.clone();
    bypass["cache"] = json!("bypass");
    assert_eq!(search(client, "c", &bypass).await["cache"], "bypass");
    bypass["k"] = json!(2);
    search(client, "c", &bypass).await;
    bypass["cache"] = json!("use");
    assert_eq!(search(client, "c", &bypass).await["cache"], "miss");
    assert_eq!(metric(client, "cache_hits_total").await, hits + 1);
}

/// Whatever is written to a namespace shows in the next search of it, and of all.
async fn every_write_ends_them(client: &Client) {
    let (of_one, of_all) = (near("n"), json!({"vector": [1, 0], "k": 3, "all": true, "exclude": ["counted"]}));
    let entries = "/v1/collections/c/entries";
    let batch = json!({"entries": [{"namespace": "n", "key": "batch", "vector": [1, 0.2]}]});
    let ids = json!({"ids": [{"namespace": "n", "key": "put"}]});
    let by_filter = json!({"namespace": "n", "filter": {"must": [{"field": "key", "eq": "batch"}]}});
    let writes = [
        (Method::PUT, entry_path("c", "n", "put"), json!({"vector": [1, 0.1]}), names(&["put"])),
        (Method::POST, entries.to_owned(), batch, names(&["put", "batch"])),
        (Method::PATCH, entry_path("c", "n", "put"), json!({"vector": [1, 0.3]}), names(&["batch", "put"])),
        (Method::PATCH, entry_path("c", "n", "put"), json!({"metadata": {"a": 1}}), names(&["batch", "put"])),
        (Method::POST, format!("{entries}/delete"), ids, names(&["batch"])),
        (Method::POST, format!("{entries}/delete"), by_filter, names(&[])),
        (Method::PUT, entry_path("c", "n", "one"), json!({"vector": [1, 0]}), names(&["one"])),
        (Method::DELETE, entry_path("c", "n", "one"), Value::Null, names(&[])),
        (Method::PUT, entry_path("c", "n", "two"), json!({"vector": [1, 0]}), names(&["two"])),
        (Method::DELETE, "/v1/collections/c/namespaces/n".to_owned(), Value::Null, names(&[])),
    ];
    for (number, (method, path, body, expected)) in writes.into_iter().enumerate() {
        cached(client, "c", &of_one).await;
        cached(client, "c", &of_all).await;
        let what = format!("{number}: {method} {path}");
        // Under a key, so that it can be sent again.
        let request = || client.request(method.clone(), &path).header("idempotency-key", &what).json(&body);
        let answer = request().send().await;
        assert!([200, 201].contains(&answer.status), "{what}: {}", answer.text());
        for search_of in [&of_one, &of_all] {
            let found = search(client, "c", search_of).await;
            assert_eq!((&found["cache"], keys(&found)), (&json!("miss"), expected.clone()), "{what}");
        }
        // Sent again it writes nothing, but who hears of it may have missed the first answer.
        cached(client, "c", &of_one).await;
        request().send().await.expect(answer.status);
        assert_eq!(search(client, "c", &of_one).await["cache"], "miss", "{what}");
    }
    cached(client, "c", &of_one).await;
    client.import("c", "{\"namespace\":\"n\",\"key\":\"imported\",\"vector\":[1,0]}\n").await;
    let found = search(client, "c", &of_one).await;
    assert_eq!((&found["cache"], keys(&found)), (&json!("miss"), vec!["imported".to_owned()]));
}

async fn other_namespaces_do_not(client: &Client) {
    let (of_one, of_prefix) = (near("quiet"), json!({"vector": [1, 0], "k": 3, "prefix": "qui"}));
    write(client, "c", "quiet", "k", [1.0, 0.0]).await;
    cached(client, "c", &of_one).await;
    cached(client, "c", &of_prefix).await;
    write(client, "c", "loud", "k", [1.0, 0.0]).await;
    assert_eq!(search(client, "c", &of_one).await["cache"], "hit");
    assert_eq!(search(client, "c", &of_prefix).await["cache"], "miss");
}

async fn a_stored_entry_is_looked_up_each_time(client: &Client) {
    for (key, vector) in [("east", [1.0, 0.1]), ("north", [0.1, 1.0])] {
        write(client, "c", "compass", key, vector).await;
    }
    write(client, "c", "hand", "needle", [1.0, 0.0]).await;
    let body = json!({"like": {"namespace": "hand", "key": "needle"}, "k": 1, "namespaces": ["compass"]});
    assert_eq!(keys(&cached(client, "c", &body).await), ["east"]);
    // It lies in a namespace that the search does not look at.
    write(client, "c", "hand", "needle", [0.0, 1.0]).await;
    assert_eq!(keys(&search(client, "c", &body).await), ["north"]);
    client.delete(&entry_path("c", "hand", "needle")).await.expect(200);
    client.post("/v1/collections/c/search", &body).await.expect_problem(404, "entry-not-found");
}

async fn an_entry_expires_in_time(client: &Client) {
    client.put("/v1/collections/brief", &json!({"dimensions": 2, "ttl_seconds": 10})).await.expect(201);
    write(client, "brief", "n", "k", [1.0, 0.0]).await;
    for body in [near("n"), json!({"vector": [1, 0], "k": 3, "all": true})] {
        assert_eq!(keys(&cached(client, "brief", &body).await), ["k"]);
    }
    for body in [near("n"), json!({"vector": [1, 0], "k": 3, "all": true})] {
        poll::until("the entry to expire", PATIENCE, async || {
            let found = search(client, "brief", &body).await;
            if keys(&found).is_empty() { Ok(()) } else { Err(found.to_string()) }
        })
        .await;
    }
}

async fn another_collection_has_other_answers(client: &Client) {
    let path = "/v1/collections/remade";
    client.put(path, &json!({"dimensions": 2})).await.expect(201);
    write(client, "remade", "n", "old", [1.0, 0.0]).await;
    cached(client, "remade", &near("n")).await;
    client.delete(path).await.expect(200);
    client.post(&format!("{path}/search"), &near("n")).await.expect_problem(404, "collection-not-found");
    client.put(path, &json!({"dimensions": 2})).await.expect(201);
    let found = search(client, "remade", &near("n")).await;
    assert_eq!((&found["cache"], keys(&found).len()), (&json!("miss"), 0), "{found}");
}

async fn some_answers_are_not_kept(client: &Client) {
    write(client, "c", "odd", "k", [1.0, 0.0]).await;
    let mut explained = near("odd");
    explained["explain"] = json!(true);
    for _ in 0..2 {
        let answer = search(client, "c", &explained).await;
        assert!(answer["cache"] == "miss" && answer["explain"].is_object(), "{answer}");
    }
    let mut other = near("odd");
    cached(client, "c", &other).await;
    other["min_score"] = json!(0.5);
    assert_eq!(search(client, "c", &other).await["cache"], "miss");
    // A batch is answered from the cache search by search.
    let batch = json!({"searches": [near("odd"), other, {"vector": [1], "all": true}]});
    let answers = client.post("/v1/collections/c/search/batch", &batch).await.expect(200).json();
    let of = |i: usize| answers["answers"][i]["answer"]["cache"].clone();
    assert_eq!((of(0), of(1), of(2)), (json!("hit"), json!("hit"), Value::Null), "{answers}");
}
