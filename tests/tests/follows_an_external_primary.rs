//! Two PostgreSQL servers that somebody else replicates, as one worker: its agent knows both, and follows the one that takes writes. The
//! primary is killed and the standby promoted under writes; the old one comes back and thinks that it is primary still; another
//! cluster's server listens in its place.

#![allow(clippy::unwrap_used)]

use cluster_tests::bare_postgres::{BarePostgres, USER};
use cluster_tests::client::Request;
use cluster_tests::traffic::{Asked, Traffic, longest_gap};
use cluster_tests::{Client, Cluster, ClusterOptions, CommandLine, poll, sql};
use http::Method;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(90);
const REFUSED: &str = "this server is refused";
const ALSO_PRIMARY: &str = "this server takes writes too, and is not followed";
const NONE_LEFT: &str = "no server can be worked with";
const EXPECTED: [&str; 13] = [
    "\"target\":\"openraft::",
    REFUSED,
    ALSO_PRIMARY,
    NONE_LEFT,
    r#""code":"shard-unavailable""#,
    r#""code":"write-outcome-unknown""#,
    r#""code":"deadline-exceeded""#,
    "a shard's part of a batch was not written",
    "PostgreSQL does not serve",
    "desired state not applied",
    "the agent could not apply the desired state; will retry",
    // Of counts, graphs and whatever else was under way on a server that died.
    "trying again later",
    "some metrics of PostgreSQL are missing",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_external_worker_follows_its_primary() {
    let options = ClusterOptions { shards: 2, ..ClusterOptions::new("follows_external") };
    let mut cluster = Cluster::start(options.coordinators(2).workers(1).uncached()).await;
    let client = cluster.client();
    client.put("/v1/collections/c", &json!({"dimensions": 2})).await.expect(201);
    client.wait_until_active("c").await;
    let ports = [201, 202].map(|offset| cluster.first_port() + offset);
    let first = BarePostgres::make(&cluster, "first", ports[0]).await;
    let second = first.standby(&cluster, "second", ports[1]);
    let synchronous = "alter system set synchronous_standby_names = 'second'";
    sql::rows(&first.dsn("postgres"), synchronous).await;
    sql::rows(&first.dsn("postgres"), "select pg_reload_conf()").await;
    first.wait_for("select sync_state from pg_stat_replication", "sync").await;

    // The one that is no primary is named first.
    let agent = cluster.start_by_config("w2", &configuration(&cluster, &first, [ports[1], ports[0]]));
    group_when(&client, |group| group["members"][0]["up"] == true).await;
    CommandLine::new(client.base()).run(&["group", "drain", "g1"]).await.expect(0);
    let before = group_when(&client, |group| group["shards"] == 2).await;
    assert_eq!(before["generation"], 1);

    // The standby takes over under writes.
    let writers = [1, 2]
        .map(|writer| Traffic::begin(cluster.client_of(writer), move |client, number| write(client, writer, number)));
    for writer in &writers {
        writer.wait_for_successes(30, PATIENCE).await;
    }
    first.kill().await;
    second.promote();
    for writer in &writers {
        writer.wait_for_successes(30, PATIENCE).await;
    }
    group_when(&client, |group| group["generation"] == 2).await;
    for (coordinator, writer) in (1..).zip(writers) {
        let asked = writer.end().await;
        println!("coordinator {coordinator}: longest time without a write {:?}", longest_gap(&asked));
        all_are_there(&cluster.client_of(3 - coordinator), coordinator, &asked).await;
    }
    assert_eq!(cluster.extra_pid("w2"), Some(agent));

    // The old one comes back as it was: a primary.
    first.start();
    wait_for_log(&cluster, ALSO_PRIMARY).await;
    writes(&client, "beside the old primary").await;
    assert_eq!(group_when(&client, |_| true).await["generation"], 2);
    first.kill().await;

    // Another cluster's server in its place is refused, also when it is the only one.
    drop(first);
    let stranger = BarePostgres::make(&cluster, "stranger", ports[0]).await;
    wait_for_log(&cluster, REFUSED).await;
    writes(&client, "beside a stranger").await;
    second.kill().await;
    group_when(&client, |group| group["members"][0]["up"] == false).await;
    wait_for_log(&cluster, NONE_LEFT).await;
    let refused = client.put("/v1/collections/c/namespaces/n/entries/refused", &json!({"vector": [1, 1]})).await;
    assert_eq!(refused.status, 503, "{}", refused.text());
    let touched = "select count(*)::text from pg_namespace where nspname ~ '^(atoll|s[0-9])'";
    assert_eq!(sql::rows(&stranger.dsn("atoll"), touched).await, ["0"]);
    second.start();
    poll::until("writes to go on", PATIENCE, async || {
        let put = client.put("/v1/collections/c/namespaces/n/entries/back", &json!({"vector": [1, 1]})).await;
        if put.status < 300 { Ok(()) } else { Err(put.text()) }
    })
    .await;
    assert_eq!(group_when(&client, |_| true).await["generation"], 2);
    second.kill().await;
    stranger.kill().await;
    cluster.finish(&EXPECTED).await;
}

/// An agent of both servers, with what it shares with the agent of the first worker.
fn configuration(cluster: &Cluster, server: &BarePostgres, ports: [u16; 2]) -> PathBuf {
    let folder = cluster.folder().join("config");
    let others = std::fs::read_to_string(folder.join("w1.toml")).unwrap();
    let shared = ["coordinators = ", "cluster_secret_file = ", "postgres_password_file = "];
    let shared: Vec<&str> = others.lines().filter(|line| shared.iter().any(|key| line.starts_with(key))).collect();
    let endpoints = ports.map(|port| format!("127.0.0.1:{port}"));
    let text = format!(
        "name = \"w2\"\ngroup = \"g2\"\nmode = \"external\"\nlisten = \"127.0.0.1:{}\"\n{}\n\
         [postgres]\nendpoints = {endpoints:?}\nuser = \"{USER}\"\npassword_file = \"{}\"\n",
        cluster.first_port() + 101,
        shared.join("\n"),
        server.password_file().display(),
    );
    let path = folder.join("w2.toml");
    std::fs::write(&path, text).unwrap();
    path
}

fn path_of(writer: u16, number: u64) -> String {
    format!("/v1/collections/c/namespaces/n{writer}-{}/entries/{number}", number % 20)
}

fn write(client: &Client, writer: u16, number: u64) -> Request<'_> {
    client.request(Method::PUT, &path_of(writer, number)).json(&json!({"vector": [1, number % 10]}))
}

/// A write through a coordinator that need not know of anything.
async fn writes(client: &Client, key: &str) {
    let path = format!("/v1/collections/c/namespaces/n/entries/{}", key.replace(' ', "-"));
    client.put(&path, &json!({"vector": [1, 1]})).await.expect(201);
}

async fn all_are_there(client: &Client, writer: u16, asked: &[Asked]) {
    let acknowledged: Vec<&Asked> = asked.iter().filter(|asked| asked.succeeded()).collect();
    assert!(acknowledged.len() >= 60);
    for one in acknowledged {
        client.get(&path_of(writer, one.number)).await.expect(200);
    }
}

/// Waits for something of the external group.
async fn group_when(client: &Client, is_so: impl Fn(&Value) -> bool) -> Value {
    poll::until("the external group to be so", PATIENCE, async || {
        let groups = client.get("/v1/admin/groups").await.expect(200).json();
        let group = groups["groups"].as_array().unwrap().iter().find(|group| group["group"] == "g2").cloned();
        match group {
            Some(group) if is_so(&group) => Ok(group),
            Some(_) | None => Err(groups.to_string()),
        }
    })
    .await
}

async fn wait_for_log(cluster: &Cluster, text: &str) {
    let path = cluster.folder().join("logs/w2.log");
    poll::until(text, PATIENCE, async || {
        let log = std::fs::read_to_string(&path).unwrap_or_default();
        if log.contains(text) { Ok(()) } else { Err(log) }
    })
    .await;
}
