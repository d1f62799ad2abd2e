//! Bad input is refused with a problem document that says what is wrong and where, and leaves no trace; every limit holds at n and
//! at n + 1.

#![allow(clippy::unwrap_used)]

use cluster_tests::client::Answer;
use cluster_tests::{Client, Cluster, ClusterOptions};
use flate2::Compression;
use flate2::write::GzEncoder;
use http::Method;
use serde_json::{Value, json};
use std::io::Write;

const ENTRIES: &str = "/v1/collections/c/entries";
const SEARCH: &str = "/v1/collections/c/search";
const ONE: &str = "/v1/collections/c/namespaces/n/entries/k";
const BODY_BYTES: usize = 32 * 1024 * 1024;
const INVALID: (u16, &str) = (422, "validation-failed");
const MALFORMED: (u16, &str) = (400, "malformed-json");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refuses_bad_input() {
    let cluster = Cluster::start(ClusterOptions::new("refuses_bad_input")).await;
    let client = cluster.client();
    // What is refused is aimed at `c`, what is at a limit at `limits`.
    client.put("/v1/collections/c", &json!({"dimensions": 3})).await.expect(201);
    client.put("/v1/collections/limits", &json!({"dimensions": 3})).await.expect(201);

    bodies_that_are_no_json(&client).await;
    vectors_that_are_none(&client).await;
    hostile_names(&client).await;
    fields_nobody_knows(&client).await;
    searches_that_make_no_sense(&client).await;
    headers_and_methods(&client).await;
    sizes_at_and_beyond_their_limits(&client).await;
    counts_at_and_beyond_their_limits(&client).await;
    dimensions_at_and_beyond_their_limits(&client).await;

    assert_eq!(client.export("c", None).await, Vec::<Value>::new(), "refused, and yet stored");
    let list = client.get("/v1/collections").await.expect(200).json();
    assert_eq!(list["collections"].as_array().unwrap().len(), 3, "{list}");
    client.put(ONE, &json!({"vector": [1, 2, 3]})).await.expect(201);
    cluster.finish(&[]).await;
}

/// Checks a problem document to the last member; gives the pointers of its errors.
#[track_caller]
fn refused(answer: &Answer, path: &str, (status, code): (u16, &str), what: &str) -> Vec<String> {
    let text: String = answer.text().chars().take(600).collect();
    assert_eq!((answer.status, answer.code().as_str()), (status, code), "{what}: {text}");
    assert_eq!(answer.header("content-type"), "application/problem+json", "{what}");
    let problem = answer.json();
    let members: Vec<&str> = problem.as_object().unwrap().keys().map(String::as_str).collect();
    let wanted: Vec<&str> =
        "code detail errors failures instance request_id retryable status title traceparent type".split(' ').collect();
    assert_eq!(members, wanted, "{what}: {text}");
    assert_eq!(problem["type"], format!("urn:atoll:problem:{code}"));
    assert_eq!(problem["status"], status);
    assert_eq!(problem["instance"], path.split('?').next().unwrap(), "{what}");
    assert_eq!(problem["request_id"], answer.header("x-request-id"));
    assert!(!answer.header("x-request-id").is_empty());
    assert!(problem["title"].as_str().is_some_and(|title| !title.is_empty()));
    assert!(problem["detail"].as_str().is_some_and(|detail| !detail.is_empty()));
    assert_eq!(problem["retryable"], status == 429 || status >= 503);
    let errors = problem["errors"].as_array().unwrap();
    assert!(code != "validation-failed" || !errors.is_empty(), "{what}: no field is named: {text}");
    errors.iter().map(|error| error["pointer"].as_str().unwrap().to_owned()).collect()
}

/// Sends JSON, and expects it to be refused with the first error at `pointer`.
async fn refuse(client: &Client, method: Method, path: &str, body: &str, wanted: (u16, &str), pointer: &str) {
    let answer = client.request(method, path).body("application/json", body.to_owned()).send().await;
    let what: String = format!("{path} {}", body.chars().take(200).collect::<String>());
    let pointers = refused(&answer, path, wanted, &what);
    assert_eq!(pointers.first().map_or("", String::as_str), pointer, "{what}: {}", answer.text());
}

async fn refuse_post(client: &Client, path: &str, body: &Value, pointer: &str) {
    refuse(client, Method::POST, path, &body.to_string(), INVALID, pointer).await;
}

async fn bodies_that_are_no_json(client: &Client) {
    for (body, wanted, pointer) in [
        ("", MALFORMED, ""),
        ("{", MALFORMED, ""),
        ("nonsense", MALFORMED, ""),
        ("{\"vector\":[NaN,1,1]}", MALFORMED, ""),
        ("{\"vector\":[Infinity,1,1]}", MALFORMED, ""),
        ("{\"vector\":[1,2,3]} {}", MALFORMED, ""),
        ("{\"value\":\"\u{1}\"}", MALFORMED, ""),
        ("{\"value\":\"\\ud800\"}", MALFORMED, ""),
        ("[]", INVALID, ""),
        ("null", INVALID, ""),
        ("{\"vector\":\"x\"}", INVALID, "/vector"),
        ("{\"vector\":[1,2,3],\"value\":7}", INVALID, "/value"),
        ("{\"vector\":[1,2,3],\"tags\":\"t\"}", INVALID, "/tags"),
        ("{\"vector\":[1,2,3],\"tags\":[1]}", INVALID, "/tags/0"),
        ("{\"vector\":[1,2,3],\"metadata\":[]}", INVALID, "/metadata"),
        ("{\"vector\":[1,2,3],\"vector\":[1,2,3]}", INVALID, ""),
    ] {
        refuse(client, Method::PUT, ONE, body, wanted, pointer).await;
    }
    for deep in [
        "[".repeat(200_000),
        format!("{{\"metadata\":{}", "{\"a\":".repeat(200_000)),
        format!("{{\"metadata\":{}1{}}}", "{\"a\":".repeat(500), "}".repeat(500)),
    ] {
        refuse(client, Method::PUT, ONE, &deep, MALFORMED, "").await;
    }
    let answer = client.request(Method::PUT, ONE).body("application/json", vec![b'"', 0xff, b'"']).send().await;
    refused(&answer, ONE, MALFORMED, "not UTF-8");
    let answer = client
        .request(Method::PUT, ONE)
        .header("content-encoding", "gzip")
        .body("application/json", "plain")
        .send()
        .await;
    refused(&answer, ONE, MALFORMED, "not gzip");
}

async fn vectors_that_are_none(client: &Client) {
    for (vector, pointer) in [
        ("[1,2]", "/vector"),
        ("[1,2,3,4]", "/vector"),
        ("[]", "/vector"),
        ("[0,0,0]", "/vector"),
        ("[1e-40,0,0]", "/vector"),
        ("[1e39,0,0]", "/vector"),
        ("[-1e39,0,0]", "/vector"),
        ("[1e38,1e38,1e38]", "/vector"),
        ("[1,null,3]", "/vector/1"),
        ("[1,\"2\",3]", "/vector/1"),
        ("[1,2,1e999]", "/vector/2"),
        ("{\"b64\":\"AACAPw==\"}", "/vector"),
        ("{\"b64\":\"AADAfwAAgD8AAIA/\"}", "/vector"),
        ("{\"b64\":\"AACAfwAAgD8AAIA/\"}", "/vector"),
        ("{\"b64\":\"!\"}", "/vector"),
        ("{\"b64\":\"AACAPwAAAEAAAEBA\",\"x\":1}", "/vector"),
        ("{}", "/vector"),
    ] {
        for (method, path, body, pointer) in [
            (Method::PUT, ONE, format!("{{\"vector\":{vector}}}"), pointer.to_owned()),
            (
                Method::POST,
                ENTRIES,
                format!("{{\"entries\":[{{\"namespace\":\"n\",\"key\":\"k\",\"vector\":{vector}}}]}}"),
                format!("/entries/0{pointer}"),
            ),
            (Method::POST, SEARCH, format!("{{\"all\":true,\"vector\":{vector}}}"), pointer.to_owned()),
        ] {
            let answer = client.request(method, path).body("application/json", body.clone()).send().await;
            let pointers = refused(&answer, path, INVALID, &body);
            assert_eq!(pointers, [pointer], "{body}");
        }
        let line = format!("{{\"namespace\":\"n\",\"key\":\"k\",\"vector\":{vector}}}");
        let done = client.import("c", line.clone()).await;
        assert_eq!((&done["written"], &done["failed"]), (&json!(0), &json!(1)), "{line}");
    }
    // One bad entry refuses the batch, and every fault is named.
    let batch = json!({"entries": [{"namespace": "n", "key": "a", "vector": [1, 2, 3]}, {"namespace": "n", "key": "b", "vector": [1]},
                                   {"namespace": "n", "key": "c", "vector": [1, 2, 3], "value": "\0"}, {"namespace": "n", "key": "a", "vector": [1, 2, 3]}]});
    let answer = client.post(ENTRIES, &batch).await;
    assert_eq!(refused(&answer, ENTRIES, INVALID, "batch"), ["/entries/1/vector", "/entries/2/value", "/entries/3"]);
    refuse_post(client, ENTRIES, &json!({"entries": []}), "/entries").await;
    refuse(client, Method::PUT, ONE, "{}", INVALID, "/vector").await;
}

async fn hostile_names(client: &Client) {
    let path = |collection: &str, namespace: &str, key: &str| {
        format!("/v1/collections/{collection}/namespaces/{namespace}/entries/{key}")
    };
    for bad in [
        "a%22b",
        "a%27b",
        "a%00b",
        "a%E2%80%AEb",
        "..%2F..%2Fetc",
        "a%2Fb",
        "a%20b",
        "%C3%A4",
        "a%5Cb",
        "%FF",
        &"n".repeat(129),
    ] {
        let path = path("c", bad, "k");
        refuse(client, Method::PUT, &path, "{\"vector\":[1,2,3]}", INVALID, "").await;
        refused(&client.get(&path).await, &path, INVALID, bad);
    }
    for bad in ["C", "_c", "9c", "c-d", "c%22", "c.d", "..%2Fc", "pg_class%22;drop", "%D1%81", &"c".repeat(49)] {
        let path = format!("/v1/collections/{bad}");
        refuse(client, Method::PUT, &path, "{\"dimensions\":3}", INVALID, "").await;
        refused(&client.get(&path).await, &path, INVALID, bad);
    }
    for bad in ["%00", "a%00b", "%FF", &"k".repeat(513)] {
        let path = path("c", "n", bad);
        refuse(client, Method::PUT, &path, "{\"vector\":[1,2,3]}", INVALID, "").await;
    }
    let entry =
        |namespace: &str, key: &str| json!({"entries": [{"namespace": namespace, "key": key, "vector": [1, 2, 3]}]});
    for bad in ["", "a b", "a\"b", "a'; drop table c; --", "a\0", "\u{202e}a", "../a", &"n".repeat(129)] {
        refuse_post(client, ENTRIES, &entry(bad, "k"), "/entries/0/namespace").await;
        refuse_post(client, SEARCH, &json!({"vector": [1, 2, 3], "namespaces": [bad]}), "/namespaces/0").await;
        refuse_post(client, SEARCH, &json!({"vector": [1, 2, 3], "prefix": bad}), "/prefix").await;
    }
    for bad in ["", "a\0b", &"k".repeat(513), &format!("a{}", "é".repeat(256))] {
        refuse_post(client, ENTRIES, &entry("n", bad), "/entries/0/key").await;
        refuse_post(client, &format!("{ENTRIES}/get"), &json!({"ids": [{"namespace": "n", "key": bad}]}), "/ids/0/key")
            .await;
    }
    // As long as may be.
    let (namespace, key) = ("n".repeat(128), "k".repeat(512));
    client.put(&path("limits", &namespace, &key), &json!({"vector": [1, 2, 3]})).await.expect(201);
}

async fn fields_nobody_knows(client: &Client) {
    for (method, path, body, pointer) in [
        (Method::PUT, "/v1/collections/x", json!({"dimensions": 3, "colour": 1}), "/colour"),
        (
            Method::PUT,
            "/v1/collections/x",
            json!({"dimensions": 3, "index": {"profile": "balanced", "m": 4}}),
            "/index/m",
        ),
        (Method::PUT, "/v1/collections/x", json!({"dimensions": 3, "metric": "manhattan"}), "/metric"),
        (Method::PUT, "/v1/collections/x", json!({"dimensions": -1}), "/dimensions"),
        (Method::PUT, "/v1/collections/x", json!({"dimensions": 3, "ttl_seconds": 0}), "/ttl_seconds"),
        (Method::PUT, ONE, json!({"vector": [1, 2, 3], "colour": 1}), "/colour"),
        (Method::PATCH, ONE, json!({"colour": 1}), "/colour"),
        (
            Method::POST,
            ENTRIES,
            json!({"entries": [{"namespace": "n", "key": "k", "vector": [1, 2, 3], "colour": 1}]}),
            "/entries/0/colour",
        ),
        (
            Method::POST,
            ENTRIES,
            json!({"entries": [{"namespace": "n", "key": "k", "vector": [1, 2, 3]}], "mode": "maybe"}),
            "/mode",
        ),
        (
            Method::POST,
            "/v1/collections/c/entries/get",
            json!({"ids": [{"namespace": "n", "key": "k", "colour": 1}]}),
            "/ids/0/colour",
        ),
        (
            Method::POST,
            "/v1/collections/c/entries/get",
            json!({"ids": [{"namespace": "n", "key": "k"}], "include": ["colour"]}),
            "/include/0",
        ),
        (Method::POST, "/v1/collections/c/entries/list", json!({"namespace": "n", "order": "value:asc"}), "/order"),
        (Method::POST, "/v1/collections/c/entries/list", json!({}), ""),
        (Method::POST, "/v1/collections/c/entries/count", json!({"namespace": "n", "colour": 1}), "/colour"),
        (Method::POST, "/v1/collections/c/entries/delete", json!({"namespace": "n", "colour": 1}), "/colour"),
        (Method::POST, SEARCH, json!({"vector": [1, 2, 3], "all": true, "colour": 1}), "/colour"),
        (Method::POST, SEARCH, json!({"vector": [1, 2, 3], "all": true, "partial": {"colour": 1}}), "/partial/colour"),
        (Method::POST, SEARCH, json!({"vector": [1, 2, 3], "all": true, "profile": "best"}), "/profile"),
        // An array of the fields' values, in whatever order, is no object.
        (Method::POST, ENTRIES, json!({"entries": [["n", "k", null, [1, 2, 3]]]}), "/entries/0"),
        (Method::POST, SEARCH, json!({"like": ["n", "k"], "all": true}), "/like"),
        (Method::POST, SEARCH, json!({"vector": [1, 2, 3], "all": true, "filter": {"must": [[]]}}), "/filter/must/0"),
    ] {
        refuse(client, method, path, &body.to_string(), INVALID, pointer).await;
    }
    client.get("/v1/collections/x").await.expect_problem(404, "collection-not-found");
}

async fn searches_that_make_no_sense(client: &Client) {
    let search = |more: Value| {
        let mut body = json!({"vector": [1, 2, 3], "all": true});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    for (more, pointer) in [
        (json!({"k": 0}), "/k"),
        (json!({"k": -1}), "/k"),
        (json!({"k": 1.5}), "/k"),
        (json!({"ef": 0}), "/ef"),
        (json!({"overfetch": 0.5}), "/overfetch"),
        (json!({"overfetch": 10.5}), "/overfetch"),
        (json!({"target_recall": 1.1}), "/target_recall"),
        (json!({"partial": {"allow": true, "min_coverage": 2}}), "/partial/min_coverage"),
        (json!({"group_by_namespace": 0}), "/group_by_namespace"),
        (json!({"all": false}), "/namespaces"),
        (json!({"prefix": "a"}), "/namespaces"),
        (json!({"namespaces": ["a"]}), "/namespaces"),
        (json!({"like": {"namespace": "n", "key": "k"}}), "/like"),
        (json!({"filter": {"must": [{"field": "value", "eq": 1}]}}), "/filter/must/0/field"),
        (json!({"filter": {"must": [{"field": "metadata.a"}]}}), "/filter/must/0"),
        (json!({"filter": {"must": [{"field": "created_at", "eq": "-000001-12-31T00:00:00Z"}]}}), "/filter/must/0/eq"),
        (json!({"filter": {"must": [{"field": "metadata.a", "eq": 1, "ne": 2}]}}), "/filter/must/0"),
        (json!({"filter": {"must": [{"field": "metadata.a", "like": "x"}]}}), "/filter/must/0/like"),
    ] {
        refuse_post(client, SEARCH, &search(more), pointer).await;
    }
    refuse_post(client, SEARCH, &json!({"all": true}), "/vector").await;
    refuse_post(client, SEARCH, &json!({"vector": [1, 2, 3]}), "/namespaces").await;
    refuse_post(client, SEARCH, &json!({"vector": [1, 2, 3], "namespaces": []}), "/namespaces").await;
    refuse_post(client, SEARCH, &json!({"vector": [1, 2, 3], "namespaces": ["a"], "exclude": ["b"]}), "/exclude").await;
    refuse_post(client, &format!("{SEARCH}/batch"), &json!({"searches": []}), "/searches").await;
    let unknown = "/v1/collections/unknown/search";
    refuse(client, Method::POST, unknown, &search(json!({})).to_string(), (404, "collection-not-found"), "").await;
}

async fn headers_and_methods(client: &Client) {
    for path in ["/", "/v1", "/v1/nothing", "/v1/collections/c/nothing", "/v1/collections/c/", "/admin"] {
        refused(&client.get(path).await, path, (404, "route-not-found"), path);
    }
    for (method, path, allowed) in [
        (Method::POST, "/v1/collections", "GET"),
        (Method::PATCH, "/v1/collections/c", "PUT"),
        (Method::GET, SEARCH, "POST"),
        (Method::PUT, ENTRIES, "POST"),
        (Method::DELETE, "/healthz", "GET"),
    ] {
        let answer = client.request(method.clone(), path).send().await;
        refused(&answer, path, (405, "method-not-allowed"), path);
        let allow = answer.header("allow");
        assert!(allow.split(',').any(|one| one.trim() == allowed), "{path}: Allow is {allow:?}");
        assert!(!allow.contains(method.as_str()), "{path}: Allow is {allow:?}");
    }
    for media_type in ["text/plain", "application/x-www-form-urlencoded", "application/xml", ""] {
        let answer = client.request(Method::PUT, ONE).body(media_type, "{\"vector\":[1,2,3]}").send().await;
        refused(&answer, ONE, (415, "unsupported-media-type"), media_type);
    }
    let import = "/v1/collections/c/import";
    let answer = client.request(Method::POST, import).body("application/json", "{}").send().await;
    refused(&answer, import, (415, "unsupported-media-type"), "import of JSON");
    let answer = client
        .request(Method::PUT, ONE)
        .header("content-encoding", "br")
        .json(&json!({"vector": [1, 2, 3]}))
        .send()
        .await;
    refused(&answer, ONE, (415, "unsupported-media-type"), "brotli");
    let answer = client.request(Method::GET, "/v1/collections").header("accept", "text/html").send().await;
    refused(&answer, "/v1/collections", (406, "not-acceptable"), "text/html");
    let answer =
        client.request(Method::PUT, ONE).header("accept", "text/html").json(&json!({"vector": [1, 2, 3]})).send().await;
    refused(&answer, ONE, (406, "not-acceptable"), "a write whose answer nobody would understand");

    for bad in ["0", "60001", "-1", "1.5", "soon", ""] {
        let answer = client.request(Method::GET, ONE).header("x-timeout-ms", bad).send().await;
        refused(&answer, ONE, INVALID, bad);
    }
    for good in ["1000", "60000"] {
        client
            .request(Method::GET, ONE)
            .header("x-timeout-ms", good)
            .send()
            .await
            .expect_problem(404, "entry-not-found");
    }
    let long = "i".repeat(256);
    for bad in ["", long.as_str()] {
        let answer = client
            .request(Method::PUT, ONE)
            .header("idempotency-key", bad)
            .json(&json!({"vector": [1, 2, 3]}))
            .send()
            .await;
        refused(&answer, ONE, INVALID, "idempotency key");
    }
    let path = "/v1/collections/limits/namespaces/n/entries/idem";
    client
        .request(Method::PUT, path)
        .header("idempotency-key", "i".repeat(255))
        .json(&json!({"vector": [1, 2, 3]}))
        .send()
        .await
        .expect(201);
    let both = client.request(Method::PUT, ONE).header("if-match", "\"1\"").header("if-none-match", "*");
    refused(&both.json(&json!({"vector": [1, 2, 3]})).send().await, ONE, INVALID, "both preconditions");
}

async fn sizes_at_and_beyond_their_limits(client: &Client) {
    let one = "/v1/collections/limits/namespaces/n/entries/k";
    let entry = |field: &str, value: Value| json!({"vector": [1, 2, 3], field: value});
    let metadata = |bytes: usize| json!({"a": "x".repeat(bytes - 8)});
    for (field, good, bad) in [
        ("value", json!("x".repeat(1024 * 1024)), json!("x".repeat(1024 * 1024 + 1))),
        ("metadata", metadata(64 * 1024), metadata(64 * 1024 + 1)),
        ("tags", json!(vec!["t"; 256]), json!(vec!["t"; 257])),
        ("tags", json!(["t".repeat(256)]), json!(["t".repeat(257)])),
    ] {
        assert!(client.put(one, &entry(field, good)).await.status < 300, "{field}");
        refuse(client, Method::PUT, ONE, &entry(field, bad).to_string(), INVALID, &format!("/{field}")).await;
    }
    // A patch may not make metadata grow beyond its limit either.
    client.put(one, &entry("metadata", metadata(64 * 1024))).await.expect(200);
    let answer = client.patch(one, &json!({"metadata": {"b": 1}})).await;
    assert_eq!(refused(&answer, one, INVALID, "patch"), ["/metadata"]);

    // A body is counted after it was unpacked.
    let padded = |bytes: usize| {
        let body = "{\"ids\":[{\"namespace\":\"n\",\"key\":\"k\"}]}";
        format!("{body}{}", " ".repeat(bytes - body.len()))
    };
    let get = "/v1/collections/limits/entries/get";
    let too_large = (413, "body-too-large");
    client.request(Method::POST, get).body("application/json", padded(BODY_BYTES)).send().await.expect(200);
    refuse(client, Method::POST, get, &padded(BODY_BYTES + 1), too_large, "").await;
    let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
    packer.write_all(padded(8 * BODY_BYTES).as_bytes()).unwrap();
    let bomb = client
        .request(Method::POST, get)
        .header("content-encoding", "gzip")
        .body("application/json", packer.finish().unwrap());
    refused(&bomb.send().await, get, too_large, "a small body that unpacks to a huge one");

    // So has a line of an import. One that is too long is left out, and the import goes on.
    let line = |key: &str, bytes: usize| {
        let line = format!("{{\"namespace\":\"n\",\"key\":\"{key}\",\"vector\":[1,2,3]}}");
        format!("{line}{}\n", " ".repeat(bytes - line.len()))
    };
    let most = 2 * 1024 * 1024;
    let lines = [line("at", most), line("beyond", most + 1), line("far", 5 * most), line("after", 100)].concat();
    let done = client.import("limits", lines).await;
    assert_eq!((&done["written"], &done["failed"], &done["problem"]), (&json!(2), &json!(2), &Value::Null), "{done}");
    assert_eq!((&done["first_failures"][0]["line"], &done["first_failures"][1]["line"]), (&json!(2), &json!(3)));
}

async fn counts_at_and_beyond_their_limits(client: &Client) {
    let path = |rest: &str| format!("/v1/collections/limits/{rest}");
    let entries = |count: usize| json!({"entries": (0..count).map(|i| json!({"namespace": "n", "key": format!("k{i}"), "vector": [1, 2, 3]})).collect::<Vec<_>>()});
    client.post(&path("entries"), &entries(1_000)).await.expect(200);
    refuse_post(client, ENTRIES, &entries(1_001), "/entries").await;
    let ids = |count: usize| json!({"ids": (0..count).map(|i| json!({"namespace": "n", "key": format!("no{i}")})).collect::<Vec<_>>()});
    for what in ["get", "delete"] {
        client.post(&path(&format!("entries/{what}")), &ids(1_000)).await.expect(200);
        refuse_post(client, &format!("{ENTRIES}/{what}"), &ids(1_001), "/ids").await;
        refuse_post(client, &format!("{ENTRIES}/{what}"), &ids(0), "/ids").await;
    }
    let search = |more: Value| {
        let mut body = json!({"vector": [1, 2, 3], "include": []});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let names = |count: usize| (0..count).map(|i| format!("n{i}")).collect::<Vec<_>>();
    let conditions = |count: usize| json!({"must": vec![json!({"field": "key", "eq": "k"}); count]});
    let nested = |depth: usize| {
        (1..depth).fold(json!({"must": [{"field": "key", "eq": "k"}]}), |inner, _| json!({"must": [{"filter": inner}]}))
    };
    let values = |count: usize| json!({"must": [{"field": "key", "in": names(count)}]});
    for (good, bad, pointer) in [
        (json!({"all": true, "k": 1_000}), json!({"all": true, "k": 1_001}), "/k"),
        (json!({"all": true, "ef": 1_000}), json!({"all": true, "ef": 1_001}), "/ef"),
        (json!({"namespaces": names(1_000)}), json!({"namespaces": names(1_001)}), "/namespaces"),
        (json!({"all": true, "exclude": names(1_000)}), json!({"all": true, "exclude": names(1_001)}), "/exclude"),
        (json!({"all": true, "filter": conditions(64)}), json!({"all": true, "filter": conditions(65)}), "/filter"),
        (
            json!({"all": true, "filter": values(1_000)}),
            json!({"all": true, "filter": values(1_001)}),
            "/filter/must/0/in",
        ),
    ] {
        client.post(&path("search"), &search(good)).await.expect(200);
        refuse_post(client, SEARCH, &search(bad), pointer).await;
    }
    client.post(&path("search"), &search(json!({"all": true, "filter": nested(5)}))).await.expect(200);
    let answer = client.post(SEARCH, &search(json!({"all": true, "filter": nested(6)}))).await;
    let pointers = refused(&answer, SEARCH, INVALID, "six filters deep");
    assert!(pointers[0].starts_with("/filter"), "{pointers:?}");

    let batch = |count: usize| json!({"searches": vec![search(json!({"all": true, "k": 1})); count]});
    client.post(&path("search/batch"), &batch(32)).await.expect(200);
    refuse_post(client, &format!("{SEARCH}/batch"), &batch(33), "/searches").await;
    client.post(&path("entries/list"), &json!({"namespace": "n", "limit": 1_000})).await.expect(200);
    for bad in [0, 1_001] {
        refuse_post(client, &format!("{ENTRIES}/list"), &json!({"namespace": "n", "limit": bad}), "/limit").await;
    }
    client.post(&path("entries/delete"), &json!({"namespace": "empty", "limit": 100_000})).await.expect(200);
    for bad in [0, 100_001] {
        refuse_post(client, &format!("{ENTRIES}/delete"), &json!({"namespace": "n", "limit": bad}), "/limit").await;
    }
}

async fn dimensions_at_and_beyond_their_limits(client: &Client) {
    for (vector_type, most) in [("float32", 2_000_usize), ("float16", 4_000)] {
        let path = format!("/v1/collections/wide_{vector_type}");
        let settings = |dimensions: usize| json!({"dimensions": dimensions, "vector_type": vector_type}).to_string();
        refuse(client, Method::PUT, &path, &settings(most + 1), INVALID, "/dimensions").await;
        refuse(client, Method::PUT, &path, &settings(0), INVALID, "/dimensions").await;
        client.get(&path).await.expect_problem(404, "collection-not-found");
        client.request(Method::PUT, &path).body("application/json", settings(most)).send().await.expect(201);
        let vector: Vec<f32> = (0..most).map(|i| (i % 17) as f32 - 8.0).collect();
        client.put(&format!("{path}/namespaces/n/entries/k"), &json!({"vector": vector})).await.expect(201);
        let found =
            client.post(&format!("{path}/search"), &json!({"vector": vector, "all": true})).await.expect(200).json();
        assert_eq!(found["hits"].as_array().unwrap().len(), 1);
        client.delete(&path).await.expect(200);
    }
}
