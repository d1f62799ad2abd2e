//! Entries come back whole: in lists, page by page, in exports, from every kind of collection; and those with a time to live go.

#![allow(clippy::unwrap_used)]

use cluster_tests::entries::{entry_path, statuses};
use cluster_tests::{Client, Cluster, ClusterOptions, poll, sql};
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use http::Method;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gives_entries_back() {
    let cluster = Cluster::start(ClusterOptions::new("gives_entries_back")).await;
    let client = cluster.client();
    client.put("/v1/collections/c", &json!({"dimensions": 3})).await.expect(201);
    lists_and_counts(&client).await;
    exports_can_be_imported(&client).await;
    namespaces_can_be_listed_and_emptied(&client).await;
    odd_names_are_kept(&client).await;
    kinds_of_collections(&client).await;
    what_need_not_last_is_not_logged(&cluster).await;
    bodies_may_be_packed(&client).await;
    entries_vanish_in_time(&client, &cluster).await;
    cluster.finish(&[]).await;
}

fn keys(answer: &Value) -> Vec<&str> {
    answer["entries"].as_array().unwrap().iter().map(|entry| entry["key"].as_str().unwrap()).collect()
}

async fn lists_and_counts(client: &Client) {
    let path = "/v1/collections/c/entries";
    let put = |key: String| async move {
        let body = json!({"vector": [1, 0, 0], "metadata": {"even": key.len().is_multiple_of(2)}, "value": key});
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
    let wanted: Vec<String> = by_key.iter().filter(|key| key.len().is_multiple_of(2)).cloned().collect();
    let listed = all_pages(client, &json!({"namespace": "list", "filter": filter, "limit": 4})).await;
    assert_eq!(listed.into_iter().filter(|key| key != "a-newcomer").collect::<Vec<_>>(), wanted);
    let count = client
        .post(
            &format!("{path}/count"),
            &json!({"namespace": "list", "filter": {"must": [{"field": "key", "prefix": "k"}]}}),
        )
        .await;
    assert_eq!(count.expect(200).json(), json!({"count": 23}));

    // A path goes through objects alone: a number is a name, no position.
    let body = json!({"vector": [1, 0, 0], "metadata": {"a": [7, "text"], "o": {"0": 7, "1": "text"}}});
    client.put(&entry_path("c", "paths", "k"), &body).await.expect(201);
    for (condition, count) in [
        (json!({"field": "metadata.a.0", "exists": true}), 0),
        (json!({"field": "metadata.a.0", "range": {"gte": 1}}), 0),
        (json!({"field": "metadata.a.1", "range": {"gte": "a"}}), 0),
        (json!({"field": "metadata.a.1", "prefix": "t"}), 0),
        (json!({"field": "metadata.o.0", "exists": true}), 1),
        (json!({"field": "metadata.o.0", "range": {"gte": 7, "lt": 8}}), 1),
        (json!({"field": "metadata.o.1", "range": {"gte": "text"}}), 1),
        (json!({"field": "metadata.o.1", "prefix": "te"}), 1),
        (json!({"field": "created_at", "range": {"gte": "0000-01-01T00:00:00Z", "lte": "9999-12-30T22:00:00Z"}}), 1),
    ] {
        let body = json!({"namespace": "paths", "filter": {"must": [condition]}});
        let found = client.post(&format!("{path}/count"), &body).await.expect(200).json();
        assert_eq!(found, json!({"count": count}), "{body}");
    }

    client.put(&entry_path("c", "elsewhere", "a"), &json!({"vector": [1, 0, 0]})).await.expect(201);
    // Read by id: in the order asked, what exists, what is named.
    let ids = json!({"ids": [{"namespace": "list", "key": "k9"}, {"namespace": "elsewhere", "key": "a"}, {"namespace": "list", "key": "no"}, {"namespace": "list", "key": "k1"}],
                     "include": vec!["value"; 1_700]});
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
    assert!(done.get("problem").is_some(), "every line has every field: {done}");
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

/// By PostgreSQL's own account of the tables that were made just before.
async fn what_need_not_last_is_not_logged(cluster: &Cluster) {
    let (unlogged, permanent) = ("u", "p");
    for (collection, wanted) in [("scratch", unlogged), ("halves", permanent), ("ref", permanent)] {
        let mut tables = 0;
        for worker in cluster.layout().workers {
            let how = format!("select relpersistence from pg_class where relname = '{collection}' and relkind = 'r'");
            let found = sql::rows(&worker.dsn, &how).await;
            assert!(found.iter().all(|how| how == wanted), "{collection}: {found:?}");
            tables += found.len();
        }
        let copies = if collection == "ref" { 3 } else { 12 };
        assert_eq!(tables, copies, "tables of {collection}");
    }
}

async fn bodies_may_be_packed(client: &Client) {
    let pack = |text: &str| {
        let mut packer = GzEncoder::new(Vec::new(), Compression::default());
        packer.write_all(text.as_bytes()).unwrap();
        packer.finish().unwrap()
    };
    let entries: Vec<Value> = (0..50)
        .map(|i| json!({"namespace": "gz", "key": format!("k{i}"), "value": "same ".repeat(200), "vector": [1, 0, 0]}))
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
    // Packing a small answer would take longer than sending it.
    let one = json!({"namespace": "gz", "limit": 1});
    let asked =
        client.request(Method::POST, "/v1/collections/c/entries/list").header("accept-encoding", "gzip").json(&one);
    assert_eq!(asked.send().await.expect(200).header("content-encoding"), "");

    // What is streamed is packed too, to its end, if there is anything or not.
    for namespace in ["gz", "nobody"] {
        let plain = client.export("c", Some(namespace)).await;
        let path = format!("/v1/collections/c/export?namespace={namespace}");
        let answer = client.request(Method::GET, &path).header("accept-encoding", "gzip").send().await.expect(200);
        assert_eq!(answer.header("content-encoding"), "gzip");
        let lines = BufReader::new(GzDecoder::new(answer.body.as_ref())).lines();
        let packed: Vec<Value> = lines.map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect();
        assert_same_entries(&packed, &plain);
    }
}

async fn entries_vanish_in_time(client: &Client, cluster: &Cluster) {
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
    // What has expired is no entry: it uses up no limit, and what takes its place is new.
    client.put("/v1/collections/fleeting", &json!({"dimensions": 2, "ttl_seconds": 600})).await.expect(200);
    client.put(&entry_path("fleeting", "n", "z"), &json!({"vector": [1, 2]})).await.expect(201);
    let delete = json!({"namespace": "n", "limit": 1});
    let deleted = client.post("/v1/collections/fleeting/entries/delete", &delete).await.expect(200).json();
    assert_eq!(deleted, json!({"deleted": 1}), "not the row of what has expired before it");
    let absent = client.request(Method::PUT, &path).header("if-none-match", "*").json(&json!({"vector": [1, 2]}));
    absent.send().await.expect(201);
    let line = r#"{"namespace":"n","key":"k","vector":[1,2]}"#;
    let before = client.get(&path).await.expect(200).json();
    everywhere(cluster, "update %I.fleeting set expires_at = now()").await;
    client.get(&path).await.expect_problem(404, "entry-not-found");
    client.import("fleeting", line).await;
    let after = client.get(&path).await.expect(200).json();
    assert_eq!(after["created_at"], after["updated_at"]);
    assert!(after["created_at"].as_str() > before["created_at"].as_str(), "{after} is not newer than {before}");

    // What is as given keeps its version, though it lives longer for it.
    let version = after["version"].clone();
    let short_lived = "update %I.fleeting set expires_at = now() + interval $$60 s$$";
    let body = json!({"vector": [1, 2]});
    let patch = json!({"vector": [1, 2]});
    for write in ["put", "patch", "import"] {
        everywhere(cluster, short_lived).await;
        match write {
            "put" => assert_eq!(statuses(&client.put(&path, &body).await.expect(200).json()), ["unchanged"]),
            "patch" => assert_eq!(statuses(&client.patch(&path, &patch).await.expect(200).json()), ["unchanged"]),
            _ => drop(client.import("fleeting", line).await),
        }
        let got = client.get(&path).await.expect(200).json();
        assert_eq!((&got["version"], &got["updated_at"]), (&version, &after["updated_at"]), "{write}");
        let longer = "select key from %I.fleeting where expires_at > now() + interval $$120 s$$";
        assert_eq!(everywhere(cluster, longer).await, ["k"], "{write}");
    }
}

/// Runs a statement on each shard's table of the collection `fleeting`; `%I` is the schema.
async fn everywhere(cluster: &Cluster, statement: &str) -> Vec<String> {
    let mut rows = Vec::new();
    for worker in cluster.layout().workers {
        let each = format!("select format('{statement}', schemaname) from pg_tables where tablename = 'fleeting'");
        for one in sql::rows(&worker.dsn, &each).await {
            rows.extend(sql::rows(&worker.dsn, &one).await);
        }
    }
    rows
}
