//! What is written is there, as it was written, until it is changed or deleted; and every answer says what happened.

#![allow(clippy::unwrap_used)]

use cluster_tests::cluster::WorkerPlace;
use cluster_tests::entries::{entry_path, statuses};
use cluster_tests::{Client, Cluster, ClusterOptions, sql};
use http::Method;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keeps_entries() {
    let cluster = Cluster::start(ClusterOptions::new("keeps_entries")).await;
    let client = cluster.client();
    collections_come_change_and_go(&client).await;
    client.put("/v1/collections/c", &json!({"dimensions": 3})).await.expect(201);
    batches_tell_what_became_of_each_entry(&client).await;
    batches_of_which_nothing_is_written(&client).await;
    one_entry_at_a_time(&client).await;
    preconditions(&client).await;
    patches(&client).await;
    repeated_requests_happen_once(&client).await;
    deletes(&client).await;
    copies_lose_the_same_entries(&client, &cluster).await;
    // A drop that meets an index that is just being built anew is tried again.
    cluster.finish(&["tuple concurrently updated", "the agent could not apply the desired state; will retry"]).await;
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
               "distribution": "hash", "durability": "quorum", "index": {"profile": "balanced", "scope": "namespace"},
               "ttl_seconds": null})
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
    assert!(answer["took_ms"].is_f64() && answer["session"].is_string());
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
    let problem = &answer["results"][1]["problem"];
    assert_eq!((&problem["code"], pointers(problem)), (&json!("validation-failed"), vec!["/entries/1/vector"]));
    let kept = client.get(&entry_path("c", "n1", "a")).await.expect(200).json();
    assert_eq!((&kept["value"], &kept["vector"]), (&json!("4"), &json!([1.0, 0.0, 0.0])));
    client
        .post(path, &json!({"entries": [entry("n", "k", "1"), entry("n", "k", "2")]}))
        .await
        .expect_problem(422, "validation-failed");
}

/// A batch of which nothing was written is a problem, by the first entry's code, that names each.
async fn batches_of_which_nothing_is_written(client: &Client) {
    let path = "/v1/collections/c/entries";
    let entry = |namespace: &str, key: &str| json!({"namespace": namespace, "key": key, "vector": [1, 0, 0]});
    let bare = |namespace: &str| json!({"namespace": namespace, "key": "new"});
    let (first, second) = ("/entries/0", "/entries/1");
    for (mode, entries, (status, code), named) in [
        ("insert_only", [entry("n1", "a"), entry("n2", "b")], (409, "already-exists"), [first, second]),
        ("insert_only", [entry("n1", "a"), bare("n9")], (409, "already-exists"), [first, "/entries/1/vector"]),
        ("update_only", [entry("n8", "no"), entry("n9", "no")], (404, "entry-not-found"), [first, second]),
        ("upsert", [bare("n8"), bare("n9")], (422, "validation-failed"), ["/entries/0/vector", "/entries/1/vector"]),
    ] {
        let answer = client.post(path, &json!({"mode": mode, "entries": entries})).await;
        assert_eq!(pointers(&answer.expect_problem(status, code)), named, "{mode}");
    }
}

fn pointers(problem: &Value) -> Vec<&str> {
    problem["errors"].as_array().unwrap().iter().map(|error| error["pointer"].as_str().unwrap()).collect()
}

async fn one_entry_at_a_time(client: &Client) {
    let path = entry_path("c", "one", "k");
    client.get(&path).await.expect_problem(404, "entry-not-found");
    let body = json!({"value": "text", "vector": [0.5, -0.25, 1e-3], "metadata": {"a": {"b": [1, null, "x"]}, "big": 12345678901234567890_u64, "double": 1.6590187499750757}, "tags": ["x", "y"]});
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
    let same = put("if-match", "\"2\"", "2").send().await.expect(200);
    assert_eq!((statuses(&same.json()), same.header("etag")), (vec!["unchanged"], "\"2\""), "as given already");
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
    // Writers of the same new entry: one creates it, the others find it as they want it, and nobody is refused.
    for round in 0..5 {
        let path = entry_path("c", "cond", &format!("race-{round}"));
        let body = body("same");
        let races = (0..8).map(|_| client.put(&path, &body));
        let answers: Vec<Value> =
            futures::future::join_all(races).await.into_iter().map(|answer| answer.json()).collect();
        let count = |status: &str| answers.iter().filter(|answer| answer["results"][0]["status"] == status).count();
        assert_eq!((count("created"), count("unchanged")), (1, 7), "{answers:#?}");
        let insert = json!({"mode": "insert_only", "entries": [{"namespace": "cond", "key": format!("insert-{round}"), "vector": [1, 0, 0]}]});
        let races = (0..8).map(|_| client.post("/v1/collections/c/entries", &insert));
        let answers: Vec<Value> =
            futures::future::join_all(races).await.into_iter().map(|answer| answer.json()).collect();
        let failed = answers.iter().filter(|answer| answer["code"] == "already-exists").count();
        assert_eq!(failed, 7, "{answers:#?}");
    }
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
    let same = client.patch(&path, &json!({"vector": [3, 2, 1]})).await.expect(200);
    assert_eq!((statuses(&same.json()), same.header("etag")), (vec!["unchanged"], "\"3\""), "the same vector");
    let keyed = client.request(Method::PATCH, &path).header("idempotency-key", "patch-same").json(&json!({}));
    assert_eq!(statuses(&keyed.send().await.expect(200).json()), ["unchanged"], "nothing changes, under a key too");
    // Writers at the same moment take turns: none is lost, none refused, with a key or without.
    let counts = (0..12).map(|i| {
        let patch = client.request(Method::PATCH, &path).json(&json!({"metadata": {format!("w{i}"): i}}));
        let keyed = if i % 2 == 0 { patch } else { patch.header("idempotency-key", format!("patch-race-{i}")) };
        keyed.send()
    });
    for answer in futures::future::join_all(counts).await {
        answer.expect(200);
    }
    let got = client.get(&path).await.json();
    assert_eq!(got["version"], 15);
    assert!((0..12).all(|i| got["metadata"][format!("w{i}")] == i), "{got}");
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

    // A patch sent again finds its outcome first, whatever became of the entry since.
    let path = entry_path("c", "idem", "patched");
    let patch = |key: &'static str| {
        let body = json!({"metadata": {"more": "x".repeat(1_000)}});
        client.request(Method::PATCH, &path).header("idempotency-key", key).json(&body).send()
    };
    patch("patch-early").await.expect_problem(404, "entry-not-found");
    client.put(&path, &json!({"vector": [1, 0, 0]})).await.expect(201);
    patch("patch-early").await.expect_problem(404, "entry-not-found");
    assert_eq!(patch("patch-1").await.expect(200).header("etag"), "\"2\"");
    let full = json!({"vector": [1, 0, 0], "metadata": {"full": "x".repeat(64 * 1024 - 20)}});
    client.put(&path, &full).await.expect(200);
    assert_eq!(patch("patch-1").await.expect(200).header("etag"), "\"2\"", "it has grown since");
    patch("patch-2").await.expect_problem(422, "validation-failed");
    client.delete(&path).await.expect(200);
    assert_eq!(patch("patch-1").await.expect(200).header("etag"), "\"2\"", "it is gone since");
    client.get(&path).await.expect_problem(404, "entry-not-found");

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

/// A delete by filter takes the same entries from every copy, also from one that had been left behind.
async fn copies_lose_the_same_entries(client: &Client, cluster: &Cluster) {
    client.put("/v1/collections/ref", &json!({"dimensions": 2, "distribution": "reference"})).await.expect(201);
    let entries: Vec<Value> =
        (0..9).map(|i| json!({"namespace": "many", "key": format!("k{i}"), "vector": [i, 1]})).collect();
    client.post("/v1/collections/ref/entries", &json!({"entries": entries})).await.expect(200);
    let workers = cluster.layout().workers;
    let first = client.get("/v1/admin/shards").await.json()["shards"][0]["group"].clone();
    let (first, others): (Vec<_>, Vec<_>) = workers.iter().partition(|worker| json!(worker.group) == first);
    sql::rows(&first[0].dsn, "delete from atoll_reference.ref where key in ('k0', 'k8')").await;
    assert_eq!(others.len(), 2);

    let path = "/v1/collections/ref/entries/delete";
    let left =
        async |worker: &WorkerPlace| sql::rows(&worker.dsn, "select key from atoll_reference.ref order by 1").await;
    let delete = json!({"namespace": "many", "limit": 3});
    assert_eq!(client.post(path, &delete).await.expect(200).json(), json!({"deleted": 3}));
    assert_eq!(left(first[0]).await, ["k4", "k5", "k6", "k7"]);
    for other in &others {
        assert_eq!(left(other).await, ["k4", "k5", "k6", "k7", "k8"], "{}", other.name);
    }
    assert_eq!(client.delete("/v1/collections/ref/namespaces/many").await.expect(200).json(), json!({"deleted": 4}));
    for worker in &workers {
        assert_eq!(left(worker).await, Vec::<String>::new(), "{}", worker.name);
    }
}
