//! What is written is there, as it was written, until it is changed or deleted; and every answer says what happened.

#![allow(clippy::unwrap_used)]

use cluster_tests::poll;
use cluster_tests::{Client, Cluster, ClusterOptions};
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use http::Method;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keeps_entries() {
    let cluster = Cluster::start(ClusterOptions::new("keeps_entries")).await;
    let client = cluster.client();
    collections_come_change_and_go(&client).await;
    client.put("/v1/collections/c", &json!({"dimensions": 3})).await.expect(201);
    batches_tell_what_became_of_each_entry(&client).await;
    one_entry_at_a_time(&client).await;
    preconditions(&client).await;
    patches(&client).await;
    repeated_requests_happen_once(&client).await;
    deletes(&client).await;
    lists_and_counts(&client).await;
    exports_can_be_imported(&client).await;
    namespaces_can_be_listed_and_emptied(&client).await;
    odd_names_are_kept(&client).await;
    kinds_of_collections(&client).await;
    bodies_may_be_packed(&client).await;
    entries_vanish_in_time(&client).await;
    cluster.finish(&[]).await;
}

fn entry_path(collection: &str, namespace: &str, key: &str) -> String {
    let key: String = key.bytes().map(|byte| format!("%{byte:02X}")).collect();
    format!("/v1/collections/{collection}/namespaces/{namespace}/entries/{key}")
}

fn statuses(answer: &Value) -> Vec<&str> {
    answer["results"].as_array().unwrap().iter().map(|result| result["status"].as_str().unwrap()).collect()
}

fn keys(answer: &Value) -> Vec<&str> {
    answer["entries"].as_array().unwrap().iter().map(|entry| entry["key"].as_str().unwrap()).collect()
}

async fn collections_come_change_and_go(client: &Client) {
    let path = "/v1/collections/papers";
    client.get(path).await.expect_problem(404, "collection-not-found");
    client.delete(path).await.expect_problem(404, "collection-not-found");
    let settings = json!({"dimensions": 3, "metric": "l2"});
    let made = client.put(path, &settings).await.expect(201).json();
    assert_eq!(
        made,
        json!({"name": "papers", "state": "active", "dimensions": 3, "metric": "l2", "vector_type": "float32",
               "distribution": "hash", "durability": "quorum", "index": {"profile": "balanced"}, "ttl_seconds": null})
    );
    assert_eq!(client.put(path, &settings).await.expect(200).json(), made, "the same again");
    assert_eq!(client.get(path).await.expect(200).json(), made);
    for other in [
        json!({"dimensions": 4, "metric": "l2"}),
        json!({"dimensions": 3}),
        json!({"dimensions": 3, "metric": "l2", "vector_type": "float16"}),
    ] {
        client.put(path, &other).await.expect_problem(409, "collection-settings-conflict");
    }
    // What may change, may.
    let changed = json!({"dimensions": 3, "metric": "l2", "durability": "local", "index": {"profile": "speed"}, "ttl_seconds": 3600});
    let answer = client.put(path, &changed).await.expect(200).json();
    assert_eq!((&answer["durability"], &answer["ttl_seconds"]), (&json!("local"), &json!(3600)));
    let list = client.get("/v1/collections").await.expect(200).json();
    let names: Vec<&str> =
        list["collections"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["memory_entries", "papers"]);

    client.put(&entry_path("papers", "n", "k"), &json!({"vector": [1, 2, 3]})).await.expect(201);
    assert_eq!(client.delete(path).await.expect(200).json(), json!({"dropped": true}));
    client.get(path).await.expect_problem(404, "collection-not-found");
    client.get(&entry_path("papers", "n", "k")).await.expect_problem(404, "collection-not-found");
    // Made again, it is empty, and may be of another shape.
    client.put(path, &json!({"dimensions": 2})).await.expect(201);
    client.get(&entry_path("papers", "n", "k")).await.expect_problem(404, "entry-not-found");
    assert_eq!(client.export("papers", None).await, Vec::<Value>::new());
    client.delete(path).await.expect(200);
}

async fn batches_tell_what_became_of_each_entry(client: &Client) {
    let path = "/v1/collections/c/entries";
    let entry = |namespace: &str, key: &str, value: &str| json!({"namespace": namespace, "key": key, "value": value, "vector": [1, 0, 0], "tags": ["t"]});
    let first = json!({"entries": [entry("n1", "a", "1"), entry("n2", "b", "1"), entry("n3", "c", "1")]});
    let answer = client.post(path, &first).await.expect(200).json();
    assert_eq!((&answer["written"], &answer["failed"]), (&json!(3), &json!(0)));
    assert_eq!(statuses(&answer), ["created"; 3]);
    assert_eq!(
        answer["results"][1],
        json!({"namespace": "n2", "key": "b", "status": "created", "version": 1, "problem": null}),
        "results come in the order given"
    );
    assert!(answer["took_ms"].is_f64() && answer["session"].is_null());
    assert_eq!(statuses(&client.post(path, &first).await.expect(200).json()), ["unchanged"; 3]);

    let mixed = json!({"entries": [entry("n1", "a", "2"), entry("n2", "b", "1"), entry("n4", "d", "1")]});
    let answer = client.post(path, &mixed).await.expect(200).json();
    assert_eq!(statuses(&answer), ["updated", "unchanged", "created"]);
    assert_eq!((&answer["results"][0]["version"], &answer["results"][1]["version"]), (&json!(2), &json!(1)));

    let insert = json!({"mode": "insert_only", "entries": [entry("n1", "a", "9"), entry("n5", "e", "1")]});
    let answer = client.post(path, &insert).await.expect(207).json();
    assert_eq!(statuses(&answer), ["failed", "created"]);
    assert_eq!((&answer["written"], &answer["failed"]), (&json!(1), &json!(1)));
    assert_eq!(answer["results"][0]["problem"]["code"], "already-exists");
    assert_eq!(answer["results"][0]["version"], Value::Null);

    let update = json!({"mode": "update_only", "entries": [entry("n1", "a", "3"), entry("n6", "f", "1")]});
    let answer = client.post(path, &update).await.expect(207).json();
    assert_eq!(statuses(&answer), ["updated", "failed"]);
    assert_eq!(answer["results"][1]["problem"]["code"], "entry-not-found");
    client.get(&entry_path("c", "n6", "f")).await.expect_problem(404, "entry-not-found");

    // Without a vector an entry that exists keeps its own; a new one can't be written.
    let bare = json!({"entries": [{"namespace": "n1", "key": "a", "value": "4"}, {"namespace": "n7", "key": "g"}]});
    let answer = client.post(path, &bare).await.expect(207).json();
    assert_eq!(statuses(&answer), ["updated", "failed"]);
    let kept = client.get(&entry_path("c", "n1", "a")).await.expect(200).json();
    assert_eq!((&kept["value"], &kept["vector"]), (&json!("4"), &json!([1.0, 0.0, 0.0])));
    client
        .post(path, &json!({"entries": [entry("n", "k", "1"), entry("n", "k", "2")]}))
        .await
        .expect_problem(422, "validation-failed");
}

async fn one_entry_at_a_time(client: &Client) {
    let path = entry_path("c", "one", "k");
    client.get(&path).await.expect_problem(404, "entry-not-found");
    let body = json!({"value": "text", "vector": [0.5, -0.25, 1e-3], "metadata": {"a": {"b": [1, null, "x"]}, "big": 12345678901234567890_u64}, "tags": ["x", "y"]});
    let answer = client.put(&path, &body).await.expect(201);
    assert_eq!(answer.header("etag"), "\"1\"");
    assert_eq!(statuses(&answer.json()), ["created"]);
    let got = client.get(&path).await.expect(200);
    assert_eq!(got.header("etag"), "\"1\"");
    let got = got.json();
    for field in ["value", "metadata", "tags"] {
        assert_eq!(got[field], body[field], "{field}");
    }
    let vector: Vec<f32> = serde_json::from_value(got["vector"].clone()).unwrap();
    assert_eq!(vector, [0.5, -0.25, 1e-3]);
    assert_eq!((&got["namespace"], &got["key"], &got["version"]), (&json!("one"), &json!("k"), &json!(1)));
    assert_eq!(got["created_at"], got["updated_at"]);
    assert!(got["created_at"].as_str().unwrap().ends_with('Z'), "{got}");

    let same = client.put(&path, &body).await.expect(200);
    assert_eq!((statuses(&same.json()), same.header("etag")), (vec!["unchanged"], "\"1\""));
    let changed = client.put(&path, &json!({"value": null, "vector": {"b64": "AACAPwAAAEAAAEBA"}})).await.expect(200);
    assert_eq!((statuses(&changed.json()), changed.header("etag")), (vec!["updated"], "\"2\""));
    let got = client.get(&path).await.expect(200).json();
    assert_eq!(
        (&got["value"], &got["vector"], &got["metadata"], &got["tags"]),
        (&Value::Null, &json!([1.0, 2.0, 3.0]), &json!({}), &json!([]))
    );
    assert_ne!(got["created_at"], got["updated_at"]);

    assert_eq!(client.delete(&path).await.expect(200).json(), json!({"deleted": 1}));
    client.delete(&path).await.expect_problem(404, "entry-not-found");
    client.get(&path).await.expect_problem(404, "entry-not-found");
}

async fn preconditions(client: &Client) {
    let path = entry_path("c", "cond", "k");
    let body = |value: &str| json!({"value": value, "vector": [1, 1, 1]});
    let put = |header: &'static str, value: &'static str, text: &str| {
        client.request(Method::PUT, &path).header(header, value).json(&body(text))
    };
    put("if-match", "\"1\"", "x").send().await.expect_problem(412, "version-mismatch");
    put("if-match", "*", "x").send().await.expect_problem(412, "version-mismatch");
    put("if-none-match", "*", "1").send().await.expect(201);
    put("if-none-match", "*", "2").send().await.expect_problem(412, "version-mismatch");
    put("if-match", "\"7\"", "2").send().await.expect_problem(412, "version-mismatch");
    assert_eq!(put("if-match", "\"1\"", "2").send().await.expect(200).header("etag"), "\"2\"");
    let patch = client.request(Method::PATCH, &path).header("if-match", "\"1\"").json(&json!({"value": "3"}));
    patch.send().await.expect_problem(412, "version-mismatch");
    client
        .request(Method::DELETE, &path)
        .header("if-match", "\"1\"")
        .send()
        .await
        .expect_problem(412, "version-mismatch");
    assert_eq!(client.get(&path).await.json()["value"], "2");
    for bad in ["1", "\"x\"", "W/\"1\"", ""] {
        let answer = client.request(Method::PUT, &path).header("if-match", bad).json(&body("9")).send().await;
        answer.expect_problem(422, "validation-failed");
    }
    // Of writers that all read the same version, one wins.
    let races = (0..8).map(|i| put("if-match", "\"2\"", ["a", "b", "c", "d", "e", "f", "g", "h"][i]).send());
    let outcomes: Vec<u16> = futures::future::join_all(races).await.into_iter().map(|answer| answer.status).collect();
    assert_eq!(outcomes.iter().filter(|status| **status == 200).count(), 1, "{outcomes:?}");
    assert!(outcomes.iter().all(|status| [200, 412].contains(status)), "{outcomes:?}");
    client.request(Method::DELETE, &path).header("if-match", "\"3\"").send().await.expect(200);
}

async fn patches(client: &Client) {
    let path = entry_path("c", "patched", "k");
    client.patch(&path, &json!({"value": "x"})).await.expect_problem(404, "entry-not-found");
    let body = json!({"value": "v", "vector": [1, 2, 3], "tags": ["a"], "metadata": {"keep": 1, "drop": 2, "deep": {"x": 1, "y": 2}}});
    client.put(&path, &body).await.expect(201);
    let merge = json!({"metadata": {"drop": null, "deep": {"y": null, "z": [1]}, "new": "n"}});
    assert_eq!(client.patch(&path, &merge).await.expect(200).header("etag"), "\"2\"");
    let got = client.get(&path).await.json();
    assert_eq!(got["metadata"], json!({"keep": 1, "deep": {"x": 1, "z": [1]}, "new": "n"}));
    assert_eq!((&got["value"], &got["vector"], &got["tags"]), (&json!("v"), &json!([1.0, 2.0, 3.0]), &json!(["a"])));
    client.patch(&path, &json!({"value": null, "tags": ["b", "c"], "vector": [3, 2, 1]})).await.expect(200);
    let got = client.get(&path).await.json();
    assert_eq!(
        (&got["value"], &got["vector"], &got["tags"]),
        (&Value::Null, &json!([3.0, 2.0, 1.0]), &json!(["b", "c"]))
    );
    let same = client.patch(&path, &json!({"tags": ["b", "c"]})).await.expect(200);
    assert_eq!((statuses(&same.json()), same.header("etag")), (vec!["unchanged"], "\"3\""));
    assert_eq!(client.patch(&path, &json!({})).await.expect(200).header("etag"), "\"3\"");
}

async fn repeated_requests_happen_once(client: &Client) {
    let path = "/v1/collections/c/entries";
    let entry =
        |namespace: &str, value: &str| json!({"namespace": namespace, "key": "k", "value": value, "vector": [1, 0, 0]});
    // Namespaces enough to touch several shards.
    let batch = json!({"entries": (0..12).map(|i| entry(&format!("idem-{i}"), "1")).collect::<Vec<_>>()});
    let send = |body: &Value| client.request(Method::POST, path).header("idempotency-key", "batch-1").json(body).send();
    let first = send(&batch).await.expect(200).json();
    assert_eq!(statuses(&first), ["created"; 12]);
    // Changed behind its back: the repeated request must not write again.
    client.patch(&entry_path("c", "idem-3", "k"), &json!({"value": "changed"})).await.expect(200);
    let again = send(&batch).await.expect(200).json();
    assert_eq!(again["results"], first["results"], "the first outcome is given again");
    let got = client.get(&entry_path("c", "idem-3", "k")).await.json();
    assert_eq!((&got["value"], &got["version"]), (&json!("changed"), &json!(2)));
    assert_eq!(client.get(&entry_path("c", "idem-4", "k")).await.json()["version"], 1);
    for other in [json!({"entries": [entry("idem-0", "2")]}), json!({"entries": [entry("elsewhere", "1")]})] {
        send(&other).await.expect_problem(422, "idempotency-key-reused");
    }
    client.get(&entry_path("c", "elsewhere", "k")).await.expect_problem(404, "entry-not-found");

    let path = entry_path("c", "idem", "one");
    let put = |value: &str| {
        client
            .request(Method::PUT, &path)
            .header("idempotency-key", "put-1")
            .json(&json!({"value": value, "vector": [1, 0, 0]}))
            .send()
    };
    put("1").await.expect(201);
    assert_eq!(put("1").await.expect(201).header("etag"), "\"1\"", "the same answer, also its status");
    put("2").await.expect_problem(422, "idempotency-key-reused");
    let delete = || client.request(Method::DELETE, &path).header("idempotency-key", "delete-1").send();
    assert_eq!(delete().await.expect(200).json(), json!({"deleted": 1}));
    assert_eq!(delete().await.expect(200).json(), json!({"deleted": 1}), "deleted once, told twice");

    let race = (0..6).map(|_| {
        let body = json!({"entries": [entry("idem-race", "1")]});
        client.request(Method::POST, "/v1/collections/c/entries").header("idempotency-key", "race-1").json(&body).send()
    });
    for answer in futures::future::join_all(race).await {
        assert_eq!(statuses(&answer.expect(200).json()), ["created"]);
    }
    assert_eq!(client.get(&entry_path("c", "idem-race", "k")).await.json()["version"], 1);
}

async fn deletes(client: &Client) {
    let path = "/v1/collections/c/entries";
    let entries: Vec<Value> = (0..30)
        .map(|i| json!({"namespace": format!("del-{}", i % 3), "key": format!("k{i:02}"), "vector": [1, 0, 0], "metadata": {"i": i}}))
        .collect();
    client.post(path, &json!({"entries": entries})).await.expect(200);
    let ids = json!({"ids": [{"namespace": "del-0", "key": "k00"}, {"namespace": "del-1", "key": "k01"}, {"namespace": "del-2", "key": "no"}]});
    let delete = format!("{path}/delete");
    assert_eq!(client.post(&delete, &ids).await.expect(200).json(), json!({"deleted": 2}));
    assert_eq!(client.post(&delete, &ids).await.expect(200).json(), json!({"deleted": 0}));
    let filter = json!({"namespace": "del-2", "filter": {"must": [{"field": "metadata.i", "range": {"gte": 15}}]}});
    assert_eq!(client.post(&delete, &filter).await.expect(200).json(), json!({"deleted": 5}));
    let limited = json!({"namespace": "del-2", "limit": 2});
    assert_eq!(client.post(&delete, &limited).await.expect(200).json(), json!({"deleted": 2}));
    let count = |namespace: &'static str| async move {
        client.post("/v1/collections/c/entries/count", &json!({"namespace": namespace})).await.expect(200).json()["count"].clone()
    };
    assert_eq!((count("del-2").await, count("del-1").await), (json!(3), json!(9)));
    assert_eq!(client.delete("/v1/collections/c/namespaces/del-1").await.expect(200).json(), json!({"deleted": 9}));
    assert_eq!((count("del-0").await, count("del-1").await), (json!(9), json!(0)));
    for bad in [json!({}), json!({"ids": [], "namespace": "n"}), json!({"filter": {}})] {
        client.post(&delete, &bad).await.expect_problem(422, "validation-failed");
    }
}

async fn lists_and_counts(client: &Client) {
    let path = "/v1/collections/c/entries";
    let put = |key: String| async move {
        let body = json!({"vector": [1, 0, 0], "metadata": {"even": key.len() % 2 == 0}, "value": key});
        client.put(&entry_path("c", "list", &key), &body).await.expect(201);
    };
    let mut keys_in_order: Vec<String> = (0..23).map(|i| format!("k{}", i * i)).collect();
    for key in &keys_in_order {
        put(key.clone()).await;
    }
    let mut by_key = keys_in_order.clone();
    by_key.sort();
    let reversed = |keys: &[String]| keys.iter().rev().cloned().collect::<Vec<_>>();
    for (order, wanted) in [
        ("key:asc", by_key.clone()),
        ("key:desc", reversed(&by_key)),
        ("created_at:asc", keys_in_order.clone()),
        ("created_at:desc", reversed(&keys_in_order)),
        ("updated_at:asc", keys_in_order.clone()),
        ("updated_at:desc", reversed(&keys_in_order)),
    ] {
        assert_eq!(
            all_pages(client, &json!({"namespace": "list", "order": order, "limit": 5})).await,
            wanted,
            "{order}"
        );
    }
    // An update moves an entry to the end of its order.
    client.patch(&entry_path("c", "list", "k0"), &json!({"value": "later"})).await.expect(200);
    keys_in_order.rotate_left(1);
    assert_eq!(
        all_pages(client, &json!({"namespace": "list", "order": "updated_at:asc", "limit": 7})).await,
        keys_in_order
    );

    // A page stays what it was when entries come before it.
    let first =
        client.post(&format!("{path}/list"), &json!({"namespace": "list", "limit": 10})).await.expect(200).json();
    put("a-newcomer".to_owned()).await;
    let next = json!({"namespace": "list", "limit": 10, "cursor": first["next_cursor"]});
    let second = client.post(&format!("{path}/list"), &next).await.expect(200).json();
    let seen: Vec<&str> = keys(&first).into_iter().chain(keys(&second)).collect();
    assert_eq!(seen, by_key[..20].iter().map(String::as_str).collect::<Vec<_>>());

    // The cursor belongs to its list alone.
    for other in [
        json!({"namespace": "another", "limit": 10}),
        json!({"namespace": "list", "limit": 10, "order": "key:desc"}),
        json!({"namespace": "list", "limit": 10, "filter": {"must": [{"field": "key", "prefix": "k"}]}}),
    ] {
        let mut other = other;
        other["cursor"] = first["next_cursor"].clone();
        client.post(&format!("{path}/list"), &other).await.expect_problem(400, "bad-cursor");
    }
    for bad in ["", "x", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"] {
        let body = json!({"namespace": "list", "cursor": bad});
        client.post(&format!("{path}/list"), &body).await.expect_problem(400, "bad-cursor");
    }

    let filter = json!({"must": [{"field": "metadata.even", "eq": true}]});
    let wanted: Vec<String> = by_key.iter().filter(|key| key.len() % 2 == 0).cloned().collect();
    let listed = all_pages(client, &json!({"namespace": "list", "filter": filter, "limit": 4})).await;
    assert_eq!(listed.into_iter().filter(|key| key != "a-newcomer").collect::<Vec<_>>(), wanted);
    let count = client
        .post(
            &format!("{path}/count"),
            &json!({"namespace": "list", "filter": {"must": [{"field": "key", "prefix": "k"}]}}),
        )
        .await;
    assert_eq!(count.expect(200).json(), json!({"count": 23}));

    // Read by id: in the order asked, what exists, what is named.
    let ids = json!({"ids": [{"namespace": "list", "key": "k9"}, {"namespace": "n1", "key": "a"}, {"namespace": "list", "key": "no"}, {"namespace": "list", "key": "k1"}],
                     "include": ["value"]});
    let got = client.post(&format!("{path}/get"), &ids).await.expect(200).json();
    assert_eq!(keys(&got), ["k9", "a", "k1"]);
    assert_eq!(got["entries"][0]["value"], "k9");
    assert_eq!(
        (&got["entries"][0]["metadata"], &got["entries"][0]["vector"], &got["entries"][0]["tags"]),
        (&Value::Null, &Value::Null, &Value::Null)
    );
}

async fn all_pages(client: &Client, first: &Value) -> Vec<String> {
    let mut body = first.clone();
    let mut found = Vec::new();
    loop {
        let page = client.post("/v1/collections/c/entries/list", &body).await.expect(200).json();
        assert!(keys(&page).len() as u64 <= first["limit"].as_u64().unwrap());
        found.extend(keys(&page).into_iter().map(str::to_owned));
        if page["next_cursor"].is_null() {
            return found;
        }
        assert!(found.len() < 1_000, "pages without end");
        body["cursor"] = page["next_cursor"].clone();
    }
}

async fn exports_can_be_imported(client: &Client) {
    client.put("/v1/collections/source", &json!({"dimensions": 3})).await.expect(201);
    client.put("/v1/collections/target", &json!({"dimensions": 3})).await.expect(201);
    let entries: Vec<Value> = (0..400)
        .map(|i| {
            json!({"namespace": format!("ex-{}", i % 9), "key": format!("k\u{202e}'{i}"), "value": if i % 5 == 0 { Value::Null } else { json!(format!("text\n{i}\t\\\"")) },
                   "vector": [f32::from(i as u16) + 0.1, 1e-3, -7.25], "metadata": {"i": i, "s": "\u{1F980}\\"}, "tags": ["a,b", "{c}", "NULL"]})
        })
        .collect();
    let lines: String = entries.iter().map(|entry| format!("{entry}\n")).collect();
    let done = client.import("source", lines.clone()).await;
    assert_eq!(
        (&done["done"], &done["written"], &done["failed"], &done["first_failures"]),
        (&json!(true), &json!(400), &json!(0), &json!([]))
    );
    let exported = client.export("source", None).await;
    assert_same_entries(&exported, &entries);
    let of_one: Vec<Value> = entries.iter().filter(|entry| entry["namespace"] == "ex-4").cloned().collect();
    assert_same_entries(&client.export("source", Some("ex-4")).await, &of_one);

    let again: String = exported.iter().map(|entry| format!("{entry}\n")).collect();
    assert_eq!(client.import("target", again).await["written"], 400);
    assert_same_entries(&client.export("target", None).await, &entries);
    // Once more changes nothing.
    client.import("source", lines).await;
    let got = client
        .post("/v1/collections/source/entries/list", &json!({"namespace": "ex-0", "limit": 1000}))
        .await
        .expect(200)
        .json();
    assert!(
        got["entries"].as_array().unwrap().iter().all(|entry| entry["version"] == 1),
        "an import of what is there changes nothing"
    );

    // Bad lines are told, good ones written; the last needs no line break.
    let lines = "{\"namespace\":\"bad\",\"key\":\"1\",\"vector\":[1,2,3]}\n\nnot json\n{\"namespace\":\"b d\",\"key\":\"2\",\"vector\":[1,2,3]}\n\
                 {\"namespace\":\"bad\",\"key\":\"3\",\"vector\":[1,2]}\n{\"namespace\":\"bad\",\"key\":\"4\"}\n{\"namespace\":\"bad\",\"key\":\"5\",\"vector\":[1,2,3]}";
    let done = client.import("target", lines).await;
    assert_eq!((&done["written"], &done["failed"]), (&json!(2), &json!(4)), "{done}");
    let failures: Vec<(u64, &str)> = done["first_failures"]
        .as_array()
        .unwrap()
        .iter()
        .map(|f| (f["line"].as_u64().unwrap(), f["problem"]["code"].as_str().unwrap()))
        .collect();
    let invalid = "validation-failed";
    assert_eq!(failures, [(3, "malformed-json"), (4, invalid), (5, invalid), (6, invalid)]);
}

/// The same entries, in whatever order: shards are exported side by side.
#[track_caller]
fn assert_same_entries(exported: &[Value], entries: &[Value]) {
    let sorted = |entries: &[Value]| {
        let mut sorted: Vec<(String, String, Value)> = entries
            .iter()
            .map(|entry| {
                let mut entry = entry.clone();
                let vector: Vec<f32> = serde_json::from_value(entry["vector"].clone()).unwrap();
                entry["vector"] = json!(vector);
                (entry["namespace"].to_string(), entry["key"].to_string(), entry)
            })
            .collect();
        sorted.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
        sorted
    };
    let (exported, entries) = (sorted(exported), sorted(entries));
    assert_eq!(exported.len(), entries.len());
    for (one, other) in exported.iter().zip(&entries) {
        assert_eq!(one, other);
    }
}

async fn namespaces_can_be_listed_and_emptied(client: &Client) {
    client.put("/v1/collections/spaces", &json!({})).await.expect(201);
    let mut names: Vec<String> = (0..25).map(|i| format!("team-a:{i}")).collect();
    names.extend((0..5).map(|i| format!("team-b:{i}")));
    names.extend(["team%".to_owned().replace('%', "_"), "T.x".to_owned()]);
    let entries: Vec<Value> = names.iter().map(|name| json!({"namespace": name, "key": "k"})).collect();
    client.post("/v1/collections/spaces/entries", &json!({"entries": entries})).await.expect(200);
    names.sort();
    let mut path = "/v1/collections/spaces/namespaces?limit=7".to_owned();
    let mut found: Vec<String> = Vec::new();
    loop {
        let page = client.get(&path).await.expect(200).json();
        found.extend(page["namespaces"].as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()));
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        assert!(found.len() <= names.len(), "pages without end");
        path = format!("/v1/collections/spaces/namespaces?limit=7&cursor={cursor}");
    }
    assert_eq!(found, names, "in byte order");
    let page = client.get("/v1/collections/spaces/namespaces?prefix=team-b:&limit=100").await.expect(200).json();
    assert_eq!((page["namespaces"].as_array().unwrap().len(), &page["next_cursor"]), (5, &Value::Null));
    // An underscore in a prefix is an underscore, not any character.
    let page = client.get("/v1/collections/spaces/namespaces?prefix=team_").await.expect(200).json();
    assert_eq!(page["namespaces"], json!(["team_"]));
    client.get("/v1/collections/spaces/namespaces?cursor=x").await.expect_problem(400, "bad-cursor");
    for bad in ["limit=0", "limit=1001", "limit=x", "colour=1"] {
        client.get(&format!("/v1/collections/spaces/namespaces?{bad}")).await.expect_problem(422, "validation-failed");
    }

    let shown = client.get("/v1/collections/spaces/namespaces/team-a:3").await.expect(200).json();
    assert_eq!((&shown["namespace"], &shown["count"]), (&json!("team-a:3"), &json!(1)));
    let shards = client.get("/v1/admin/shards").await.expect(200).json();
    let shard = shards["shards"].as_array().unwrap().iter().find(|shard| shard["shard"] == shown["shard"]).unwrap();
    assert_eq!((&shard["group"], &shard["schema"]), (&shown["group"], &shown["schema"]));
    assert_eq!(
        client.delete("/v1/collections/spaces/namespaces/team-a:3").await.expect(200).json(),
        json!({"deleted": 1})
    );
    assert_eq!(
        client.delete("/v1/collections/spaces/namespaces/team-a:3").await.expect(200).json(),
        json!({"deleted": 0})
    );
    assert_eq!(client.get("/v1/collections/spaces/namespaces/team-a:3").await.expect(200).json()["count"], 0);
}

async fn odd_names_are_kept(client: &Client) {
    let long = "é".repeat(256);
    for key in [
        "a/b",
        "..",
        "../../etc/passwd",
        "'; drop table c; --",
        "\"",
        "a\u{202e}b",
        " ",
        "日本語",
        "%2F",
        "a?b#c",
        "\n\t",
        &long,
    ] {
        let path = entry_path("c", "odd", key);
        client.put(&path, &json!({"value": key, "vector": [1, 0, 0]})).await.expect(201);
        let got = client.get(&path).await.expect(200).json();
        assert_eq!((&got["key"], &got["value"]), (&json!(key), &json!(key)));
    }
    let listed = all_pages(client, &json!({"namespace": "odd", "limit": 1000})).await;
    assert_eq!(listed.len(), 12);
    let mut sorted = listed.clone();
    sorted.sort();
    assert_eq!(listed, sorted, "keys are ordered by bytes");
    let namespace = format!("{}:._-", "N".repeat(124));
    client.put(&entry_path("c", &namespace, "k"), &json!({"vector": [1, 0, 0]})).await.expect(201);
    assert_eq!(client.get(&entry_path("c", &namespace, "k")).await.expect(200).json()["namespace"], json!(namespace));
}

async fn kinds_of_collections(client: &Client) {
    // Without vectors: everything but search.
    let bare = "/v1/collections/spaces";
    client.put(&entry_path("spaces", "n", "k"), &json!({"value": "v"})).await.expect(201);
    let got = client.get(&entry_path("spaces", "n", "k")).await.expect(200).json();
    assert_eq!((&got["value"], &got["vector"]), (&json!("v"), &Value::Null));
    client.put(&entry_path("spaces", "n", "k"), &json!({"vector": [1]})).await.expect_problem(422, "validation-failed");
    client
        .post(&format!("{bare}/search"), &json!({"vector": [1], "all": true}))
        .await
        .expect_problem(422, "validation-failed");

    // Half floats give back what they hold.
    client.put("/v1/collections/halves", &json!({"dimensions": 3, "vector_type": "float16"})).await.expect(201);
    client.put(&entry_path("halves", "n", "k"), &json!({"vector": [0.1, 1000.7, -65504]})).await.expect(201);
    let got: Vec<f32> =
        serde_json::from_value(client.get(&entry_path("halves", "n", "k")).await.json()["vector"].clone()).unwrap();
    assert_eq!(got, [0.1_f32, 1000.7, -65504.0].map(|x| half::f16::from_f32(x).to_f32()));
    let again =
        client.put(&entry_path("halves", "n", "k"), &json!({"vector": [0.1, 1000.7, -65504]})).await.expect(200);
    assert_eq!(statuses(&again.json()), ["unchanged"], "rounded to the same");

    // A copy on every group.
    client.put("/v1/collections/ref", &json!({"dimensions": 2, "distribution": "reference"})).await.expect(201);
    let entries: Vec<Value> =
        (0..40).map(|i| json!({"namespace": format!("r{i}"), "key": "k", "value": "v", "vector": [i, 1]})).collect();
    client.post("/v1/collections/ref/entries", &json!({"entries": entries})).await.expect(200);
    let found = client
        .post("/v1/collections/ref/search", &json!({"vector": [7, 1], "all": true, "k": 100}))
        .await
        .expect(200)
        .json();
    assert_eq!(found["hits"].as_array().unwrap().len(), 40);
    assert_eq!(client.export("ref", None).await.len(), 40);
    assert_eq!(client.get(&entry_path("ref", "r7", "k")).await.expect(200).json()["value"], "v");
    assert_eq!(client.delete(&entry_path("ref", "r7", "k")).await.expect(200).json(), json!({"deleted": 1}));
    client.get(&entry_path("ref", "r7", "k")).await.expect_problem(404, "entry-not-found");

    client.put("/v1/collections/scratch", &json!({"dimensions": 2, "durability": "ephemeral"})).await.expect(201);
    client.put(&entry_path("scratch", "n", "k"), &json!({"vector": [1, 2]})).await.expect(201);
    client.get(&entry_path("scratch", "n", "k")).await.expect(200);
}

async fn bodies_may_be_packed(client: &Client) {
    let pack = |text: &str| {
        let mut packer = GzEncoder::new(Vec::new(), Compression::default());
        packer.write_all(text.as_bytes()).unwrap();
        packer.finish().unwrap()
    };
    let entries: Vec<Value> = (0..50)
        .map(|i| json!({"namespace": "gz", "key": format!("k{i}"), "value": "same ".repeat(50), "vector": [1, 0, 0]}))
        .collect();
    let body = json!({"entries": entries}).to_string();
    let packed = client
        .request(Method::POST, "/v1/collections/c/entries")
        .header("content-encoding", "gzip")
        .body("application/json", pack(&body));
    assert_eq!(packed.send().await.expect(200).json()["written"], 50);
    let lines: String = entries.iter().map(|entry| format!("{entry}\n").replace("\"gz\"", "\"gz-import\"")).collect();
    let packed = client
        .request(Method::POST, "/v1/collections/c/import")
        .header("content-encoding", "gzip")
        .body("application/x-ndjson", pack(&lines));
    assert_eq!(packed.send().await.expect(200).lines().pop().unwrap()["written"], 50);

    let list = json!({"namespace": "gz", "limit": 1000});
    let plain = client.post("/v1/collections/c/entries/list", &list).await.expect(200);
    assert_eq!(plain.header("content-encoding"), "");
    let asked =
        client.request(Method::POST, "/v1/collections/c/entries/list").header("accept-encoding", "gzip").json(&list);
    let answer = asked.send().await.expect(200);
    assert_eq!(answer.header("content-encoding"), "gzip");
    assert!(answer.body.len() < plain.body.len() / 4, "{} bytes", answer.body.len());
    let mut text = String::new();
    GzDecoder::new(answer.body.as_ref()).read_to_string(&mut text).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["entries"], plain.json()["entries"]);
}

async fn entries_vanish_in_time(client: &Client) {
    client.put("/v1/collections/fleeting", &json!({"dimensions": 2, "ttl_seconds": 2})).await.expect(201);
    let path = entry_path("fleeting", "n", "k");
    client.put(&path, &json!({"vector": [1, 2]})).await.expect(201);
    client.get(&path).await.expect(200);
    poll::until("the entry to vanish", Duration::from_secs(10), async || match client.get(&path).await.status {
        404 => Ok(()),
        status => Err(status.to_string()),
    })
    .await;
    // Gone everywhere at once, whether its row is still there or not.
    let search = json!({"vector": [1, 2], "all": true});
    assert_eq!(client.post("/v1/collections/fleeting/search", &search).await.expect(200).json()["hits"], json!([]));
    let body = json!({"namespace": "n"});
    assert_eq!(
        client.post("/v1/collections/fleeting/entries/count", &body).await.expect(200).json(),
        json!({"count": 0})
    );
    assert_eq!(
        client.post("/v1/collections/fleeting/entries/list", &body).await.expect(200).json()["entries"],
        json!([])
    );
    assert_eq!(client.export("fleeting", None).await, Vec::<Value>::new());
    assert_eq!(client.get("/v1/collections/fleeting/namespaces").await.expect(200).json()["namespaces"], json!([]));
    client
        .request(Method::PUT, &path)
        .header("if-none-match", "*")
        .json(&json!({"vector": [1, 2]}))
        .send()
        .await
        .expect(201);
}
