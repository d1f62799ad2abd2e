//! From the first API key on nobody does anything without one, and with one only what it allows; keys end, follow one another and go; and
//! their secrets stand nowhere.

#![allow(clippy::unwrap_used)]

use cluster_tests::command_line::{CommandLine, argument};
use cluster_tests::{Client, Cluster, ClusterOptions, poll};
use http::Method;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;

const KEYS: &str = "/v1/admin/keys";
const ENTRY: &str = "/v1/collections/memory_entries/namespaces/n/entries/k";
const PATIENCE: Duration = Duration::from_secs(20);
/// What may be done, the least first.
const ACCESS: [&str; 3] = ["read", "write", "admin"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn asks_for_keys() {
    let mut cluster = Cluster::start(ClusterOptions::new("asks_for_keys").workers(1).coordinators(2)).await;
    let (client, other) = (cluster.client(), cluster.client_of(2));
    one_that_knows_nothing_lets_nobody_in(&mut cluster, &other).await;
    client.put(ENTRY, &json!({"value": "open", "vector": vec![1; 384]})).await.expect(201);
    for wrong in
        [json!({"name": "x", "access": "read"}), json!({"name": "x", "access": "admin", "expires_in_seconds": 60})]
    {
        client.post(KEYS, &wrong).await.expect_problem(422, "validation-failed");
    }
    client.get(ENTRY).await.expect(200);

    let file = cluster.scratch().join("operator.key");
    let command = CommandLine::new(client.base());
    command.run(&["key", "create", "operator", "--access", "admin", "--out", argument(&file)]).await.expect(0);
    let operator = std::fs::read_to_string(&file).unwrap().trim().to_owned();
    poll::until("the other coordinator to ask for keys too", PATIENCE, async || match other.get(ENTRY).await.status {
        401 => Ok(()),
        status => Err(status.to_string()),
    })
    .await;
    let refused = client.get(ENTRY).await;
    assert_eq!(refused.header("www-authenticate"), "Bearer");
    refused.expect_problem(401, "unauthenticated");
    command.run(&["get", "n", "k"]).await.expect(1).complains(&["--key-file"]);
    command.run(&["--key-file", argument(&file), "get", "n", "k"]).await.expect(0).prints(&["open"]);
    assert_eq!(client.get("/readyz").await.status, 200, "whatever looks after processes needs no key");

    let mut keys = vec![operator.clone()];
    for access in ["write", "read"] {
        keys.insert(0, create(&client, &operator, access, None).await);
    }
    matrix(&client, &keys).await;
    command.run(&["--key-file", argument(&file), "key", "list"]).await.expect(0).prints(&["operator", "admin", "read"]);

    let short = create(&client, &operator, "read", Some(1)).await;
    poll::until("a key to end", PATIENCE, async || match ask(&client, Method::GET, ENTRY, &short).await {
        401 => Ok(()),
        status => Err(status.to_string()),
    })
    .await;

    let successor = create(&client, &operator, "admin", None).await;
    keys.extend([short, successor.clone()]);
    assert_eq!(ask(&client, Method::DELETE, &path_of(&operator), &successor).await, 200, "one follows another");
    assert_eq!(ask(&client, Method::GET, KEYS, &operator).await, 401);
    for key in &keys[..2] {
        assert_eq!(ask(&client, Method::DELETE, &path_of(key), &successor).await, 200);
        poll::until("the other coordinator to hear of it", PATIENCE, async || {
            match ask(&other, Method::GET, ENTRY, key).await {
                401 => Ok(()),
                status => Err(status.to_string()),
            }
        })
        .await;
    }
    assert_eq!(ask(&client, Method::DELETE, &path_of(&keys[3]), &successor).await, 200, "one that has ended");
    assert_eq!(
        ask(&client, Method::DELETE, &path_of(&successor), &successor).await,
        409,
        "nobody would be asked any more"
    );
    assert_eq!(ask(&client, Method::DELETE, &format!("{}?open=true", path_of(&successor)), &successor).await, 200);
    client.get(ENTRY).await.expect(200);

    std::fs::remove_file(&file).unwrap();
    let found: Vec<PathBuf> = files_with(&cluster.folder(), &keys.iter().map(|key| secret(key)).collect::<Vec<_>>());
    assert_eq!(found, Vec::<PathBuf>::new(), "secrets stand nowhere");
    let kept = files_with(&cluster.folder().join("coordinator-1"), &[id(&successor).to_owned()]);
    assert!(!kept.is_empty(), "where a key is kept, one looks");
    let noted = files_with(&cluster.folder().join("logs"), &[format!("\"key\":\"{}\"", id(&successor))]);
    assert!(!noted.is_empty(), "who removed keys is noted");
    cluster.finish(&["\"target\":\"openraft::", "\"code\":\"no-leader\""]).await;
}

/// The second coordinator starts without the first: there may be keys that it has not heard of.
async fn one_that_knows_nothing_lets_nobody_in(cluster: &mut Cluster, second: &Client) {
    for place in cluster.layout().coordinators {
        cluster.kill(place.pid).await;
    }
    cluster.start_member("coordinator-2");
    poll::until("it to answer", PATIENCE, async || {
        let answer = second.request(Method::GET, "/v1/collections").try_send().await?;
        if answer.status == 503 && answer.code() == "no-leader" { Ok(()) } else { Err(answer.text()) }
    })
    .await;
    second.request(Method::POST, KEYS).json(&json!({"name": "x", "access": "admin"})).send().await.expect(503);
    cluster.start_member("coordinator-1");
    cluster.wait_ready(1).await;
    cluster.wait_ready(2).await;
}

/// Every operation of the API, with no key and with each kind.
async fn matrix(client: &Client, keys: &[String]) {
    let api = client.get("/openapi.json").await.expect(200).json();
    let mut asked = 0;
    for (path, item) in api["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys().filter(|key| !["parameters", "summary"].contains(&key.as_str()))
        {
            let needed = needed(method, path);
            let method = Method::try_from(method.to_uppercase().as_str()).unwrap();
            let plain = path.replace("{c}", "nothing").replace(['{', '}'], "");
            let without = client.request(method.clone(), &plain).send().await.status;
            assert_eq!(without == 401, needed.is_some(), "{method} {path} without a key: {without}");
            for (has, key) in keys.iter().enumerate() {
                let status = ask(client, method.clone(), &plain, key).await;
                let forbidden = needed.is_some_and(|needed| has < needed);
                assert_eq!(status == 403, forbidden, "{method} {path} with {}: {status}", ACCESS[has]);
                assert!(forbidden || status != 401, "{method} {path} with {}", ACCESS[has]);
                asked += 1;
            }
        }
    }
    assert!(asked > 150, "{asked} requests");
}

/// The place in [`ACCESS`] of what an operation needs, by what it does.
fn needed(method: &str, path: &str) -> Option<usize> {
    let Some(within) = path.strip_prefix("/v1/collections") else {
        return path.starts_with("/v1/").then_some(2);
    };
    let reads = ["/get", "/list", "/count", "/search", "/explain", "/batch", "/recall"];
    Some(match method {
        "get" => 0,
        "post" if reads.iter().any(|end| within.ends_with(end)) => 0,
        "put" | "delete" if within == "/{c}" => 2,
        _ => 1,
    })
}

async fn create(client: &Client, with: &str, access: &str, expires_in_seconds: Option<u64>) -> String {
    let body = json!({"name": format!("{access}er"), "access": access, "expires_in_seconds": expires_in_seconds});
    let request = client.request(Method::POST, KEYS).header("authorization", format!("Bearer {with}"));
    let created: Value = request.json(&body).send().await.expect(200).json();
    created["key"].as_str().unwrap().to_owned()
}

async fn ask(client: &Client, method: Method, path: &str, key: &str) -> u16 {
    client.request(method, path).header("authorization", format!("Bearer {key}")).send().await.status
}

fn id(key: &str) -> &str {
    key.split('_').nth(1).unwrap()
}

/// What nobody but the owner may have. It may have underscores in it.
fn secret(key: &str) -> String {
    key.splitn(3, '_').nth(2).unwrap().to_owned()
}

fn path_of(key: &str) -> String {
    format!("{KEYS}/{}", id(key))
}

/// Files below a folder that hold one of these texts.
fn files_with(folder: &Path, texts: &[String]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(files_with(&path, texts));
        } else if let Ok(bytes) = std::fs::read(&path)
            && texts.iter().any(|text| bytes.windows(text.len()).any(|window| window == text.as_bytes()))
        {
            found.push(path);
        }
    }
    found
}
