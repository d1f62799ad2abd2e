//! A key for some namespaces does what its access allows there, and nothing anywhere else: not by any operation, not by the cache, not by an
//! idempotency key. What is foreign is refused alike whether it exists or not. And nothing secret stands where others look.

#![allow(clippy::unwrap_used)]

use cluster_tests::keys::{KEYS, create, holds, secret};
use cluster_tests::operations::{Needs, OPERATIONS, Operation, Touches, described};
use cluster_tests::{Answer, Client, Cluster, ClusterOptions};
use http::Method;
use serde_json::{Value, json};

/// What the keys are for that are not for all.
const OWN: [&str; 2] = ["own", "own:*"];
/// Of another: one with an entry, one without.
const FOREIGN: [&str; 2] = ["foreign", "absent"];
const NOTES: &str = "/v1/collections/notes";
/// Somebody's words, and a number as it stands in a vector.
const CANARY: &str = "canary-f0e4a9d1";
const CANARY_NUMBER: &str = "0.73912804";

/// A client with a key, and what that is for.
struct Holder {
    client: Client,
    access: Needs,
    everywhere: bool,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keeps_keys_to_their_namespaces() {
    let cluster = Cluster::start(ClusterOptions::new("keeps_keys").workers(1)).await;
    let open = cluster.client();
    open.put(NOTES, &json!({"dimensions": 3})).await.expect(201);
    open.put("/v1/collections/shared", &json!({"dimensions": null, "distribution": "reference"})).await.expect(201);
    let operator = open.with_key(&create(&open, "admin", &[]).await);
    store(&operator).await;

    let mut holders = vec![Holder { client: operator.clone(), access: Needs::Admin, everywhere: true }];
    for (word, access) in [("read", Needs::Read), ("write", Needs::Write)] {
        for (namespaces, everywhere) in [(&[][..], true), (&OWN[..], false)] {
            let client = open.with_key(&create(&operator, word, namespaces).await);
            holders.push(Holder { client, access, everywhere });
        }
    }
    let described = described(&open.get("/openapi.json").await.expect(200).json());
    let mut known: Vec<String> = OPERATIONS.iter().map(Operation::name).collect();
    known.sort();
    assert_eq!(known, described, "each operation has its entry in tests/src/operations.rs");
    for operation in OPERATIONS {
        matrix(&open, &holders, operation).await;
    }

    let reader = &holders[2].client;
    let writer = &holders[4].client;
    store(&operator).await;
    searches(&operator, reader).await;
    reads(reader).await;
    writes(&operator, writer).await;
    reference_collections(&operator, writer).await;
    idempotency(&open, &operator, writer).await;
    secrets(&cluster, &operator, &holders).await;
    cluster.finish(&[]).await;
}

/// An entry in each namespace that there is.
async fn store(operator: &Client) {
    let entry = |namespace: &str| json!({"namespace": namespace, "key": "k", "value": "v", "vector": [1, 0, 0]});
    let entries: Vec<Value> = ["own", "own:1", "own:2", "ownership", "foreign"].map(entry).to_vec();
    operator.post(&format!("{NOTES}/entries"), &json!({"entries": entries})).await.expect(200);
}

/// One operation, without a key and with each, in a namespace of its own and in foreign ones.
async fn matrix(open: &Client, holders: &[Holder], operation: &Operation) {
    let name = operation.name();
    let status = send(open, operation, OWN[0]).await.status;
    assert_eq!(status == 401, operation.needs != Needs::Nothing, "{name} without a key: {status}");
    for Holder { client, access, everywhere } in holders {
        let has_access = *access >= operation.needs;
        for namespace in [OWN[0], "own:1"].iter().chain(&FOREIGN) {
            let is_own = *everywhere || !FOREIGN.contains(namespace);
            let allowed = match operation.touches {
                Touches::None => has_access,
                Touches::One => has_access && is_own,
                Touches::All => has_access && *everywhere,
            };
            let answer = send(client, operation, namespace).await;
            let status = answer.status;
            let told = format!("{name} in {namespace} with {access:?}, everywhere: {everywhere}: {}", answer.text());
            assert_eq!(status == 403, !allowed, "{told}");
            assert!(status != 401 && status < 500, "{told}");
            if allowed && operation.needs < Needs::Admin && *namespace == OWN[0] {
                assert!(status < 300 || status == 404, "{told}");
            }
        }
        // What exists and what does not look the same from outside.
        if operation.touches == Touches::One && has_access && !everywhere {
            let bodies = [send(client, operation, FOREIGN[0]).await, send(client, operation, FOREIGN[1]).await];
            assert_eq!(without_names(&bodies[0]), without_names(&bodies[1]), "{name}");
        }
    }
}

async fn send(client: &Client, operation: &Operation, namespace: &str) -> Answer {
    let method = Method::try_from(operation.method.to_uppercase().as_str()).unwrap();
    let request = client.request(method, &operation.path_of(namespace));
    let body = (operation.body)(namespace);
    let request = match (body.is_null(), operation.path.ends_with("/import")) {
        (true, _) => request,
        (false, true) => request.body("application/x-ndjson", body.to_string()),
        (false, false) => request.json(&body),
    };
    request.send().await
}

/// A problem without what names the request.
fn without_names(answer: &Answer) -> Value {
    let mut problem = answer.json();
    for name in ["instance", "request_id", "traceparent"] {
        problem.as_object_mut().unwrap().remove(name);
    }
    problem
}

#[track_caller]
fn forbidden(answer: Answer) {
    answer.expect_problem(403, "forbidden");
}

/// Searches of several namespaces: within the key's own, or not at all.
async fn searches(operator: &Client, reader: &Client) {
    let search = |more: Value| {
        let mut body = json!({"vector": [1, 0, 0], "k": 10});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let path = format!("{NOTES}/search");
    let ask = async |more: Value| reader.post(&path, &search(more)).await;
    let like = |namespace: &str| json!({"like": {"namespace": namespace, "key": "k"}, "namespaces": ["own"], "k": 10});
    for (more, found) in [
        (json!({"namespaces": ["own", "own:1"]}), 2),
        (json!({"namespaces": ["own:absent"]}), 0),
        (json!({"prefix": "own:"}), 2),
        (json!({"prefix": "own:1"}), 1),
        (json!({"prefix": "own:", "exclude": ["own:1"]}), 1),
    ] {
        let answer = ask(more.clone()).await.expect(200).json();
        assert_eq!(answer["hits"].as_array().unwrap().len(), found, "{more}: {answer}");
    }
    reader.post(&path, &like("own:1")).await.expect(200);
    // The operator has it in the cache already: that is nobody else's.
    for more in [json!({"all": true}), json!({"prefix": "own"}), json!({"namespaces": ["foreign"]})] {
        for cache in ["miss", "hit"] {
            assert_eq!(operator.post(&path, &search(more.clone())).await.expect(200).json()["cache"], cache, "{more}");
        }
    }
    let longest = "own:".to_owned() + &"a".repeat(124);
    ask(json!({"prefix": longest})).await.expect(200);
    for more in [
        json!({"all": true}),
        json!({"all": true, "exclude": ["foreign"]}),
        json!({"prefix": "own"}),
        json!({"prefix": "o"}),
        json!({"prefix": "foreign"}),
        json!({"prefix": "own:", "exclude": ["foreign"]}),
        json!({"namespaces": ["foreign"]}),
        json!({"namespaces": ["own", "foreign"]}),
        json!({"namespaces": ["Own"]}),
        json!({"namespaces": ["ownership"]}),
    ] {
        let refused = ask(more.clone()).await;
        assert!(refused.text().contains("name namespaces, or a prefix"), "{more}: {}", refused.text());
        forbidden(refused);
        forbidden(reader.post(&format!("{path}/explain"), &search(more)).await);
    }
    for foreign in FOREIGN {
        forbidden(reader.post(&path, &like(foreign)).await);
    }
    for tricky in ["", "*", "own:*", "own%", "\u{f6}wn:", &"a".repeat(129)] {
        ask(json!({"prefix": tricky})).await.expect_problem(422, "validation-failed");
    }
    let batch = json!({"searches": [search(json!({"prefix": "own:"})), search(json!({"all": true}))]});
    let answers = reader.post(&format!("{path}/batch"), &batch).await.expect(200).json()["answers"].clone();
    assert_eq!(answers[0]["answer"]["hits"].as_array().unwrap().len(), 2);
    assert_eq!((&answers[1]["answer"], &answers[1]["problem"]["code"]), (&Value::Null, &json!("forbidden")));
    for (body, allowed) in [
        (json!({"namespaces": ["own"], "sample": 1, "k": 1}), true),
        (json!({"namespaces": ["own", "foreign"], "sample": 1, "k": 1}), false),
        (json!({"namespaces": ["own"], "sample": 1, "k": 1, "scope": "all"}), false),
        (json!({"sample": 1, "k": 1}), false),
    ] {
        let status = reader.post(&format!("{NOTES}/recall"), &body).await.status;
        assert_eq!(status, if allowed { 200 } else { 403 }, "{body}");
    }
}

/// Reads of several namespaces, and the list of them.
async fn reads(reader: &Client) {
    let ids = json!({"ids": [{"namespace": "own", "key": "k"}, {"namespace": "foreign", "key": "k"}]});
    forbidden(reader.post(&format!("{NOTES}/entries/get"), &ids).await);
    assert_eq!(reader.export("notes", Some("own")).await.len(), 1);
    for query in ["", "?namespace=foreign", "?namespace=absent"] {
        forbidden(reader.get(&format!("{NOTES}/export{query}")).await);
    }
    let list = async |query: &str| {
        let page = reader.get(&format!("{NOTES}/namespaces?{query}")).await.expect(200).json();
        (page["namespaces"].clone(), page["next_cursor"].as_str().map(str::to_owned))
    };
    assert_eq!(list("").await, (json!(["own", "own:1", "own:2"]), None));
    assert_eq!(list("prefix=own:").await.0, json!(["own:1", "own:2"]));
    assert_eq!(list("prefix=o").await.0, json!(["own", "own:1", "own:2"]));
    assert_eq!(list("prefix=own:1").await.0, json!(["own:1"]));
    assert_eq!((list("prefix=foreign").await.0, list("prefix=owners").await.0), (json!([]), json!([])));
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let (page, next) = list(&format!("limit=1{cursor}")).await;
        seen.extend(page.as_array().unwrap().clone());
        let Some(next) = next else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(seen, ["own", "own:1", "own:2"], "page by page");
}

/// Writes to several namespaces: all of them the key's own, or nothing is written; of an import, the lines that are.
async fn writes(operator: &Client, writer: &Client) {
    let entry = |namespace: &str| json!({"namespace": namespace, "key": "new", "value": "w", "vector": [0, 1, 0]});
    let both = [entry("own"), entry("foreign")];
    let ids = json!({"ids": [{"namespace": "own", "key": "k"}, {"namespace": "foreign", "key": "k"}]});
    forbidden(writer.post(&format!("{NOTES}/entries"), &json!({"entries": both})).await);
    forbidden(writer.post(&format!("{NOTES}/entries/delete"), &ids).await);
    forbidden(writer.post(&format!("{NOTES}/entries/delete"), &json!({"namespace": "foreign"})).await);
    // Refused by its path, before a body is asked for.
    let path = format!("{NOTES}/namespaces/foreign/entries/k");
    forbidden(writer.request(Method::PUT, &path).body("application/json", "no JSON").send().await);
    assert_eq!((count(operator, "own").await, count(operator, "foreign").await), (1, 1), "nothing has changed");

    let lines = both.map(|entry| entry.to_string() + "\n").concat();
    let end = writer.import("notes", lines).await;
    assert_eq!((&end["written"], &end["failed"]), (&json!(1), &json!(1)), "{end}");
    let failure = &end["first_failures"][0];
    assert_eq!((&failure["line"], &failure["problem"]["code"]), (&json!(2), &json!("forbidden")), "{end}");
    assert_eq!((count(operator, "own").await, count(operator, "foreign").await), (2, 1));
    writer.post(&format!("{NOTES}/entries"), &json!({"entries": [entry("own:1"), entry("own:new")]})).await.expect(200);
}

async fn count(operator: &Client, namespace: &str) -> u64 {
    let counted = operator.post(&format!("{NOTES}/entries/count"), &json!({"namespace": namespace})).await;
    counted.expect(200).json()["count"].as_u64().unwrap()
}

/// Entries of a reference collection have namespaces as any others have.
async fn reference_collections(operator: &Client, writer: &Client) {
    let path = |namespace: &str| format!("/v1/collections/shared/namespaces/{namespace}/entries/k");
    operator.put(&path("foreign"), &json!({"value": "v"})).await.expect(201);
    writer.put(&path("own"), &json!({"value": "v"})).await.expect(201);
    writer.get(&path("own")).await.expect(200);
    for foreign in FOREIGN {
        forbidden(writer.get(&path(foreign)).await);
        forbidden(writer.put(&path(foreign), &json!({"value": "w"})).await);
    }
    forbidden(writer.get("/v1/collections/shared/export").await);
    let list = writer.get("/v1/collections/shared/namespaces").await.expect(200).json();
    assert_eq!(list["namespaces"], json!(["own"]));
}

/// Who writes elsewhere neither learns that an idempotency key was used nor is kept from using it; who writes here sends a request again
/// with the key that followed.
async fn idempotency(open: &Client, operator: &Client, writer: &Client) {
    let elsewhere = open.with_key(&create(operator, "write", &["foreign"]).await);
    let successor = open.with_key(&create(operator, "write", &["own:*", "own"]).await);
    let put = async |client: &Client, namespace: &str, value: &str| {
        let path = format!("{NOTES}/namespaces/{namespace}/entries/once");
        let request = client.request(Method::PUT, &path).header("idempotency-key", "same");
        request.json(&json!({"value": value, "vector": [0, 0, 1]})).send().await
    };
    put(writer, "own", "first").await.expect(201);
    put(&elsewhere, "foreign", "theirs").await.expect(201);
    put(operator, "own:9", "anywhere").await.expect(201);
    put(&successor, "own", "first").await.expect(201);
    put(&successor, "own", "second").await.expect_problem(422, "idempotency-key-reused");
}

/// Nothing that is somebody's secret stands in a log, a metric, an error or an answer to who manages the cluster.
async fn secrets(cluster: &Cluster, operator: &Client, holders: &[Holder]) {
    let read = |name: &str| std::fs::read_to_string(cluster.folder().join("secrets").join(name)).unwrap();
    let (cluster_secret, password) = (read("cluster.secret"), read("postgres.password"));
    let number: f64 = CANARY_NUMBER.parse().unwrap();
    let mut answers = Vec::new();
    let path = format!("{NOTES}/namespaces/own/entries/canary");
    let entry = json!({"value": CANARY, "vector": [number, 0, 0], "metadata": {"word": CANARY}, "tags": [CANARY]});
    operator.put(&path, &entry).await.expect(201);
    operator.post(&format!("{NOTES}/search"), &json!({"vector": [number, 0, 0], "all": true})).await.expect(200);
    let mut wrong = vec![];
    for (field, value) in [("vector", json!([number])), ("tags", json!([CANARY, ""])), ("unknown", json!(1))] {
        let mut entry = entry.clone();
        entry[field] = value;
        wrong.push(entry);
    }
    wrong.push(json!({"value": format!("{CANARY}\0"), "vector": [number, 0, 0]}));
    for entry in &wrong {
        answers.push(operator.put(&path, entry).await.expect(422));
    }
    let request = operator.request(Method::PUT, &path).header("if-match", "\"4711\"").json(&entry);
    answers.push(request.send().await.expect(412));
    answers.push(holders[1].client.put(&path, &entry).await.expect(403));
    answers.push(operator.with_key(&format!("atoll_000000000000_{CANARY}")).get(&path).await.expect(401));
    for operation in OPERATIONS.iter().filter(|operation| operation.method == "get") {
        if operation.path.starts_with("/v1/admin/") || operation.needs == Needs::Nothing {
            answers.push(send(operator, operation, "own").await);
        }
    }
    answers.push(operator.get(KEYS).await.expect(200));
    answers.push(operator.get("/metrics").await.expect(200));

    let keys = holders.iter().map(|holder| secret(holder.client.key().unwrap()));
    let mut texts: Vec<&str> = keys.collect();
    texts.extend([CANARY, CANARY_NUMBER, cluster_secret.trim(), password.trim()]);
    for answer in &answers {
        let found: Vec<&&str> = texts.iter().filter(|text| holds(&answer.body, text)).collect();
        assert!(found.is_empty(), "{found:?} in {}", answer.text());
    }
    let found = cluster_tests::keys::files_with(&cluster.folder().join("logs"), &texts);
    assert!(found.is_empty(), "secrets in {found:?}");
    assert!(answers.len() > 20, "{} answers", answers.len());
}
