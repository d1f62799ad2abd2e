//! From the first API key on nobody does anything without one. Keys end, follow one another and go; coordinators that were away or have
//! just come ask for them too; who lost them all makes another by the cluster secret; and their own secrets stand nowhere.

#![allow(clippy::unwrap_used)]

use cluster_tests::command_line::{CommandLine, argument};
use cluster_tests::keys::{KEYS, create, create_until, files_with, id, path_of, secret};
use cluster_tests::logs::WORKER_LOSS;
use cluster_tests::slow_import::SlowImport;
use cluster_tests::{Client, Cluster, ClusterOptions, poll};
use http::Method;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::Duration;

const ENTRY: &str = "/v1/collections/memory_entries/namespaces/n/entries/k";
const PATIENCE: Duration = Duration::from_secs(20);

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
    answers(&other, 401).await;
    let refused = client.get(ENTRY).await;
    assert_eq!(refused.header("www-authenticate"), "Bearer");
    refused.expect_problem(401, "unauthenticated");
    command.run(&["get", "n", "k"]).await.expect(1).complains(&["--key-file"]);
    command.run(&["--key-file", argument(&file), "get", "n", "k"]).await.expect(0).prints(&["open"]);
    for open in ["/readyz", "/healthz", "/metrics", "/version", "/openapi.json"] {
        assert_eq!(client.get(open).await.status, 200, "{open}: whatever looks after processes needs no key");
    }
    malformed(&client, &operator).await;
    let with_operator = client.with_key(&operator);
    wrong_keys_are_refused(&with_operator).await;
    command
        .run(&["--key-file", argument(&file), "key", "create", "team", "--access", "read", "--namespace", "a:*"])
        .await
        .expect(0)
        .prints(&["namespaces a:*"]);
    command.run(&["--key-file", argument(&file), "key", "list"]).await.expect(0).prints(&["operator", "admin", "a:*"]);

    let short = create_until(&with_operator, "read", &[], Some(1)).await;
    answers(&client.with_key(&short), 401).await;
    a_key_that_goes_takes_an_import_along(&with_operator).await;

    // One follows another: both are valid meanwhile, and then the first one goes.
    let (first, second) = (create(&with_operator, "read", &[]).await, create(&with_operator, "read", &[]).await);
    for key in [&first, &second] {
        client.with_key(key).get(ENTRY).await.expect(200);
        answers(&other.with_key(key), 200).await;
    }
    with_operator.delete(&path_of(&first)).await.expect(200);
    client.with_key(&first).get(ENTRY).await.expect(401);
    answers(&other.with_key(&first), 401).await;
    client.with_key(&second).get(ENTRY).await.expect(200);

    // Everything dies, and nothing is open when it comes back, nor where a coordinator joins.
    cluster.kill_everything().await;
    cluster.start_all().await;
    client.get(ENTRY).await.expect(401);
    one_that_joins_lets_nobody_in(&mut cluster).await;

    let recovered = recover(&cluster, &file).await;
    let with_recovered = client.with_key(&recovered);
    with_recovered.delete(&path_of(&operator)).await.expect(200);
    with_operator.get(KEYS).await.expect(401);
    let keys = with_recovered.get(KEYS).await.expect(200).json();
    for key in keys["keys"].as_array().unwrap().iter().filter(|key| key["id"] != id(&recovered)) {
        with_recovered.delete(&format!("{KEYS}/{}", key["id"].as_str().unwrap())).await.expect(200);
    }
    let last = with_recovered.delete(&path_of(&recovered)).await;
    last.expect_problem(409, "key-in-use");
    with_recovered.delete(&format!("{}?open=true", path_of(&recovered))).await.expect(200);
    client.get(ENTRY).await.expect(200);

    std::fs::remove_file(&file).unwrap();
    let secrets: Vec<&str> = [&operator, &short, &first, &second, &recovered].map(|key| secret(key)).to_vec();
    assert_eq!(files_with(&cluster.folder(), &secrets), Vec::<PathBuf>::new(), "secrets stand nowhere");
    let kept = files_with(&cluster.folder().join("coordinator-1"), &[id(&recovered)]);
    assert!(!kept.is_empty(), "where a key is kept, one looks");
    is_noted(&cluster, &format!("\"key\":\"{}\"", id(&recovered)), "\"status\":200");
    is_noted(&cluster, "\"key\":\"the cluster secret\"", "\"status\":200");
    is_noted(&cluster, "/internal/v1/keys/recover", "\"status\":401");
    is_noted(&cluster, &format!("\"key\":\"{}\"", id(&first)), "\"status\":401");
    let of_coordinators = ["\"target\":\"openraft::", "\"code\":\"no-leader\""];
    cluster.finish(&[&of_coordinators[..], &WORKER_LOSS[..]].concat()).await;
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

/// From its first answer on it asks for a key, or for patience.
async fn one_that_joins_lets_nobody_in(cluster: &mut Cluster) {
    let folder = cluster.folder();
    let text = std::fs::read_to_string(folder.join("config/coordinator-2.toml")).unwrap();
    let port = cluster.first_port();
    let text = text.replace(&format!(":{}\"", port + 1), &format!(":{}\"", port + 3));
    let text = text.replace("/coordinator-2\"", "/coordinator-4\"");
    let own = format!("internal_listen = \"127.0.0.1:{}\"", port + 51);
    let text = text.replace(&own, &own.replace(&(port + 51).to_string(), &(port + 53).to_string()));
    let path = folder.join("config/coordinator-4.toml");
    std::fs::write(&path, text).unwrap();
    cluster.start_by_config("coordinator-4", &path);
    let joining = cluster.client_of(4);
    poll::until("it to ask for a key", Duration::from_secs(60), async || {
        match joining.request(Method::GET, "/v1/collections").try_send().await {
            Ok(answer) => {
                assert!([401, 503].contains(&answer.status), "{}: {}", answer.status, answer.text());
                if answer.status == 401 { Ok(()) } else { Err(answer.text()) }
            }
            Err(error) => Err(error),
        }
    })
    .await;
}

/// Headers that are nearly right.
async fn malformed(client: &Client, key: &str) {
    let wrong = [
        String::new(),
        "Bearer".to_owned(),
        key.to_owned(),
        format!("Basic {key}"),
        format!("Bearer {}", key.to_uppercase()),
        format!("Bearer {key}x"),
        format!("Bearer {key},{key}"),
        format!("Bearer {}", "a".repeat(10_000)),
        format!("Bearer atoll_{}_", id(key)),
        "Bearer \u{e4}\u{1f511}".to_owned(),
    ];
    for value in wrong {
        let request = client.request(Method::GET, ENTRY).header("authorization", &value);
        request.send().await.expect_problem(401, "unauthenticated");
    }
    let request = client.request(Method::GET, ENTRY).header("authorization", [0xff, 0xfe]);
    request.send().await.expect_problem(401, "unauthenticated");
    for (path, status) in [("/v1/nothing", 401), ("/v1/collections/", 401), ("/nothing", 404), ("/v2/collections", 404)]
    {
        client.get(path).await.expect(status);
    }
    client.with_key(key).get("/v1/nothing").await.expect_problem(404, "route-not-found");
    client.request(Method::PUT, "/v1/collections").send().await.expect(401);
}

/// Keys that can't be made.
async fn wrong_keys_are_refused(admin: &Client) {
    let too_long = format!("{}*", "a".repeat(129));
    for pattern in ["", "*", "**", "a**", "*a", "a b", "\u{e4}*", "a/*", &too_long] {
        let body = json!({"name": "x", "access": "read", "namespaces": ["fine", pattern]});
        let problem = admin.post(KEYS, &body).await.expect_problem(422, "validation-failed");
        assert_eq!(problem["errors"][0]["pointer"], "/namespaces/1", "{pattern}: {problem}");
    }
    let many: Vec<String> = (0..65).map(|i| format!("n{i}")).collect();
    for (field, value) in
        [("namespaces", json!(many)), ("namespaces", json!("a")), ("name", json!("")), ("expires_in_seconds", json!(0))]
    {
        let mut body = json!({"name": "x", "access": "read"});
        body[field] = value;
        admin.post(KEYS, &body).await.expect_problem(422, "validation-failed");
    }
    let admin_of_some = json!({"name": "x", "access": "admin", "namespaces": ["a*"]});
    let problem = admin.post(KEYS, &admin_of_some).await.expect_problem(422, "validation-failed");
    assert_eq!(problem["errors"][0]["pointer"], "/namespaces");
}

/// It goes while an import with it is under way: what comes then is not written.
async fn a_key_that_goes_takes_an_import_along(admin: &Client) {
    let key = create(admin, "write", &["slow:*"]).await;
    let line = |i: u32| json!({"namespace": "slow:1", "key": i.to_string(), "vector": vec![1; 384]}).to_string() + "\n";
    let import = SlowImport::begin(&admin.with_key(&key), "memory_entries");
    import.send(line(0)).await;
    import.answered().await;
    admin.delete(&path_of(&key)).await.expect(200);
    import.send(line(1)).await;
    let end = import.end().await.unwrap();
    assert_eq!((&end["written"], &end["problem"]["code"]), (&json!(0), &json!("unauthenticated")), "{end}");
    let counted = admin.post("/v1/collections/memory_entries/entries/count", &json!({"namespace": "slow:1"})).await;
    assert_eq!(counted.expect(200).json()["count"], 0);
}

/// A new admin key, by the cluster secret alone.
async fn recover(cluster: &Cluster, known: &Path) -> String {
    let internal = format!("http://127.0.0.1:{}", cluster.first_port() + 50);
    let command = CommandLine::new(cluster.client().base());
    let with = async |secret: &Path, out: &Path| {
        let recover = ["key", "recover", "--internal-url", &internal, "--secret-file", argument(secret)];
        command.run(&[&recover[..], &["--out", argument(out)]].concat()).await
    };
    let out = cluster.scratch().join("recovered.key");
    // An API key is no cluster secret, and a coordinator's public address makes no keys by it.
    with(known, &out).await.expect(1);
    assert!(!out.exists());
    let secret = cluster.folder().join("secrets/cluster.secret");
    let public = cluster.client();
    let recover = public.request(Method::POST, "/internal/v1/keys/recover").json(&json!({"name": "x"}));
    let bearer = format!("Bearer {}", std::fs::read_to_string(&secret).unwrap().trim());
    recover.header("authorization", bearer).send().await.expect(404);
    with(&secret, &out).await.expect(0);
    let key = std::fs::read_to_string(&out).unwrap().trim().to_owned();
    answers_keys(&public.with_key(&key)).await;
    key
}

async fn answers(client: &Client, status: u16) {
    poll::until(&format!("it to answer {status}"), PATIENCE, async || match client.get(ENTRY).await.status {
        found if found == status => Ok(()),
        other => Err(other.to_string()),
    })
    .await;
}

async fn answers_keys(admin: &Client) {
    poll::until("the key to be known", PATIENCE, async || match admin.get(KEYS).await.status {
        200 => Ok(()),
        other => Err(other.to_string()),
    })
    .await;
}

/// There is an audit line with both in it.
fn is_noted(cluster: &Cluster, one: &str, other: &str) {
    let logs = std::fs::read_dir(cluster.folder().join("logs")).unwrap().flatten();
    let texts: Vec<String> = logs.map(|log| std::fs::read_to_string(log.path()).unwrap_or_default()).collect();
    let mut lines = texts.iter().flat_map(|text| text.lines()).filter(|line| line.contains("\"target\":\"audit\""));
    assert!(lines.any(|line| line.contains(one) && line.contains(other)), "no audit line has {one} and {other}");
}
