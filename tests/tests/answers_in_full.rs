//! Every answer has exactly the members that docs/api.md shows: null, not missing, and none that is not described.

#![allow(clippy::unwrap_used)]

use cluster_tests::entries::entry_path;
use cluster_tests::{Client, Cluster, ClusterOptions};
use http::Method;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_in_full() {
    let cluster = Cluster::start(ClusterOptions::new("answers_in_full").workers(2)).await;
    let client = cluster.client();
    let documented = Documented::read();
    of_collections(&client, &documented).await;
    of_writes(&client, &documented).await;
    of_reads(&client, &documented).await;
    of_imports(&client, &documented).await;
    of_searches(&client, &documented).await;
    of_recall(&client, &documented).await;
    of_namespaces_and_deletes(&client, &documented).await;
    of_administration(&client, &documented).await;
    cluster.finish(&[]).await;
}

/// The answers that docs/api.md shows, each as the names in it.
struct Documented(Vec<BTreeSet<String>>);

impl Documented {
    fn read() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/api.md");
        let text = std::fs::read_to_string(path).unwrap();
        let blocks = text.split("```").skip(1).step_by(2).filter_map(|block| block.strip_prefix("json"));
        let shown = blocks.flat_map(|block| serde_json::Deserializer::from_str(block).into_iter::<Value>());
        Self(shown.map(|shown| names(&shown.unwrap())).collect())
    }

    #[track_caller]
    fn holds(&self, what: &str, answer: &Value) {
        assert!(self.0.contains(&names(answer)), "docs/api.md shows no such {what}: {answer}");
    }
}

/// Where members are, and by which names: `hits[].key`.
fn names(value: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    collect("", value, &mut found);
    found
}

fn collect(at: &str, value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                let path = format!("{at}.{name}");
                // Metadata is anybody's, a plan PostgreSQL's, and what stands here has a section of its own.
                if !["metadata", "pg_plan", "problem", "answer"].contains(&name.as_str()) {
                    collect(&path, member, found);
                }
                found.insert(path);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| collect(&format!("{at}[]"), value, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

async fn of_collections(client: &Client, documented: &Documented) {
    let path = "/v1/collections/full";
    let made = client.put(path, &json!({"dimensions": 2})).await.expect(201).json();
    documented.holds("collection that was made", &made);
    documented.holds("collection", &client.get(path).await.expect(200).json());
    documented.holds("list of collections", &client.get("/v1/collections").await.expect(200).json());
    client.put("/v1/collections/short_lived", &json!({})).await.expect(201);
    let dropped = client.delete("/v1/collections/short_lived").await.expect(200).json();
    documented.holds("drop of a collection", &dropped);
}

async fn of_writes(client: &Client, documented: &Documented) {
    let one = entry_path("full", "n", "bare");
    let put = client.put(&one, &json!({"vector": [1, 2]})).await.expect(201).json();
    documented.holds("put of an entry", &put);
    documented.holds("patch of an entry", &client.patch(&one, &json!({"value": null})).await.expect(200).json());
    let entry = |key: &str| json!({"namespace": "n", "key": key, "value": "v", "vector": [2, 1], "metadata": {"a": 1}, "tags": ["t"]});
    let batch = json!({"entries": [entry("a"), entry("b")], "mode": "insert_only"});
    let written = client.post("/v1/collections/full/entries", &batch).await.expect(200).json();
    documented.holds("batch", &written);
    let batch = json!({"entries": [entry("a"), entry("c")], "mode": "insert_only"});
    let failed = client.post("/v1/collections/full/entries", &batch).await.expect(207).json();
    documented.holds("batch that failed in part", &failed);
}

async fn of_reads(client: &Client, documented: &Documented) {
    for key in ["bare", "a"] {
        let entry = client.get(&entry_path("full", "n", key)).await.expect(200).json();
        documented.holds("entry", &entry);
    }
    let path = |what: &str| format!("/v1/collections/full/entries/{what}");
    let get = json!({"ids": [{"namespace": "n", "key": "a"}], "include": []});
    documented.holds("get", &client.post(&path("get"), &get).await.expect(200).json());
    let page = client.post(&path("list"), &json!({"namespace": "n", "limit": 1})).await.expect(200).json();
    assert!(page["next_cursor"].is_string(), "{page}");
    documented.holds("page of a list", &page);
    let last = client.post(&path("list"), &json!({"namespace": "n"})).await.expect(200).json();
    assert!(last["next_cursor"].is_null(), "{last}");
    documented.holds("last page of a list", &last);
    documented.holds("count", &client.post(&path("count"), &json!({"namespace": "n"})).await.expect(200).json());
}

async fn of_imports(client: &Client, documented: &Documented) {
    let good = "{\"namespace\":\"n\",\"key\":\"i\",\"vector\":[1,1]}\n";
    documented.holds("last line of an import", &client.import("full", good).await);
    let done = client.import("full", format!("{good}no JSON\n")).await;
    documented.holds("last line of an import with a bad line", &done);
}

async fn of_searches(client: &Client, documented: &Documented) {
    let search = json!({"vector": [1, 1], "all": true, "explain": true, "include": ["vector"]});
    let mut answer = client.post("/v1/collections/full/search", &search).await.expect(200).json();
    assert!(answer["explain"].is_object() && !answer["hits"].as_array().unwrap().is_empty(), "{answer}");
    without_warnings(&mut answer["explain"]);
    documented.holds("search", &answer);
    let mut bare = search.clone();
    bare["explain"] = json!(false);
    let searches = json!({"searches": [search, bare, {"vector": [1], "all": true}]});
    let mut batch = client.post("/v1/collections/full/search/batch", &searches).await.expect(200).json();
    documented.holds("batch of searches", &batch);
    without_warnings(&mut batch["answers"][0]["answer"]["explain"]);
    documented.holds("search of a batch", &batch["answers"][0]["answer"]);
    // What was not asked for is there all the same.
    assert_eq!(batch["answers"][1]["answer"].get("explain"), Some(&Value::Null), "{batch}");
    let refused = client.post("/v1/collections/full/search", &json!({"vector": [1], "all": true})).await;
    documented.holds("problem", &refused.expect_problem(422, "validation-failed"));
    for analyze in [false, true] {
        let explain = json!({"vector": [1, 1], "all": true, "analyze": analyze, "pg_plan": true});
        let mut explained = client.post("/v1/collections/full/search/explain", &explain).await.expect(200).json();
        without_warnings(&mut explained);
        assert_eq!(
            (explained["answer"].is_object(), explained["merge"].is_object()),
            (analyze, analyze),
            "{explained}"
        );
        documented.holds(if analyze { "explanation" } else { "plan" }, &explained);
    }
    // Whatever else there is to warn of: nothing is gained by over-fetching where every row is looked at.
    let idle = json!({"vector": [1, 1], "all": true, "exact": true, "overfetch": 10, "explain": true});
    let answer = client.post("/v1/collections/full/search", &idle).await.expect(200).json();
    let mut warnings = answer["explain"]["warnings"].as_array().unwrap().iter();
    let warning = warnings.find(|warning| warning["code"] == "overfetch_idle");
    documented.holds("warning", warning.unwrap_or_else(|| panic!("{answer}")));
    for (wrong, pointer) in [("analyse", ""), ("k", "/k")] {
        let mut body = json!({"vector": [1, 1], "all": true});
        body[wrong] = json!("x");
        let refused = client.post("/v1/collections/full/search/explain", &body).await;
        let problem = refused.expect_problem(422, "validation-failed");
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{problem}");
    }
}

/// Warnings come and go with the agents' counts.
fn without_warnings(explanation: &mut Value) {
    assert!(explanation["warnings"].is_array(), "{explanation}");
    explanation["warnings"] = json!([]);
}

async fn of_recall(client: &Client, documented: &Documented) {
    let path = "/v1/collections/full/recall";
    documented.holds("measured recall", &client.post(path, &json!({"sample": 2})).await.expect(200).json());
    documented.holds("table of recall", &client.get(path).await.expect(200).json());
}

async fn of_namespaces_and_deletes(client: &Client, documented: &Documented) {
    let path = "/v1/collections/full/namespaces";
    documented.holds("list of namespaces", &client.get(path).await.expect(200).json());
    documented.holds("namespace", &client.get(&format!("{path}/n")).await.expect(200).json());
    let ids = json!({"ids": [{"namespace": "n", "key": "a"}]});
    for (method, path, body) in [
        (Method::DELETE, entry_path("full", "n", "bare"), Value::Null),
        (Method::POST, "/v1/collections/full/entries/delete".to_owned(), ids),
        (Method::DELETE, format!("{path}/n"), Value::Null),
    ] {
        let deleted = client.request(method, &path).json(&body).send().await.expect(200).json();
        documented.holds("delete", &deleted);
    }
}

async fn of_administration(client: &Client, documented: &Documented) {
    for what in ["cluster", "workers", "groups", "shards", "findings", "builds"] {
        documented.holds(what, &client.get(&format!("/v1/admin/{what}")).await.expect(200).json());
    }
    documented.holds("version", &client.get("/version").await.expect(200).json());
    let readiness = client.get("/readyz").await.expect(200).json();
    documented.holds("readiness", &readiness);
}
