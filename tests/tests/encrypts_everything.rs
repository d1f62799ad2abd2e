//! A cluster whose every connection is encrypted: clients to coordinators, coordinators and agents among themselves, coordinators to
//! PostgreSQL. It serves, loses its leader, and changes all its certificates, its authority and its secret while it runs.

#![allow(clippy::unwrap_used)]

use cluster_tests::certificates::Authority;
use cluster_tests::command_line::argument;
use cluster_tests::postgres_front::PostgresFront;
use cluster_tests::processes::signal;
use cluster_tests::{Client, Cluster, ClusterOptions, CommandLine, poll};
use http::Method;
use rustix::process::Signal;
use serde_json::json;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(40);
/// Where workers are dialled: a front with TLS is there, and the server itself elsewhere.
const FRONT: &str = "127.0.0.2";
/// How far above the first port servers begin: see `atoll dev --help`.
const POSTGRES_OFFSET: u16 = 200;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn encrypts_everything() {
    let folder = PathBuf::from(format!("/tmp/encrypts-everything-{}", std::process::id()));
    let postgres = Authority::new("postgres");
    let shown = postgres.certify(&[FRONT], &folder);
    let postgres_ca = postgres.write(&folder.join("ca.pem"));
    let options = ClusterOptions::new("encrypts_everything").coordinators(3).workers(2).encrypted().uncached();
    let options = options
        .environment("ATOLL__POSTGRES__TLS", "verify-full")
        .environment("ATOLL__POSTGRES__CA_FILE", argument(&postgres_ca))
        .environment("ATOLL_AGENT__POSTGRES__ADVERTISE_HOST", FRONT);
    let mut cluster = Cluster::start(options).await;
    let mut fronts = Vec::new();
    for worker in 0..2 {
        let port = cluster.first_port() + POSTGRES_OFFSET + worker;
        let at = |host: &str| SocketAddr::new(host.parse().unwrap(), port);
        fronts.push(PostgresFront::start(at(FRONT), at("127.0.0.1"), &shown).await);
    }

    let first = cluster.client();
    first.put("/v1/collections/c", &json!({"dimensions": 3})).await.expect(201);
    for number in 1..=3 {
        cluster.client_of(number).wait_until_active("c").await;
    }
    serves(&first, "first").await;
    assert!(fronts.iter().all(|front| front.encrypted() > 0), "statements went another way");
    assert!(fronts.iter().all(|front| front.turned_away() == 0), "somebody asked for no TLS");
    let ca_file = cluster.certificates().join("ca.pem");
    let commands = CommandLine::new(first.base());
    commands.run(&["status", "--ca-file", argument(&ca_file)]).await.expect(0).prints(&["https://127.0.0.1:"]);

    // What is asked of it while it has no leader, and of the one that is left by it.
    let leader = cluster.leader().await;
    let survivor = if leader == 1 { 2 } else { 1 };
    cluster.kill(cluster.layout().coordinators[usize::from(leader - 1)].pid).await;
    serves(&cluster.client_of(survivor), "without the leader").await;
    poll::until("a new collection to be taken", PATIENCE, async || {
        let put = cluster.client_of(survivor).put("/v1/collections/after", &json!({"dimensions": 2})).await;
        if [200, 201].contains(&put.status) { Ok(()) } else { Err(put.text()) }
    })
    .await;
    cluster.start_member(&format!("coordinator-{leader}"));
    cluster.wait_ready(leader).await;

    changes_all_it_shows(&cluster, leader).await;
    keeps_what_it_has_when_files_are_broken(&cluster).await;
    drop(fronts);
    let expected = [
        "\"target\":\"openraft::",
        "the coordinator cannot be reached",
        "not registered",
        "does not answer",
        "can't be read anew",
    ];
    cluster.finish(&expected).await;
    std::fs::remove_dir_all(folder).unwrap();
}

/// Writes in many shards and finds what was written.
async fn serves(client: &Client, namespace: &str) {
    let namespace = namespace.replace(' ', "-");
    for number in 0..20 {
        let path = format!("/v1/collections/c/namespaces/{namespace}-{number}/entries/k");
        client.put(&path, &json!({"vector": [1, number, 1]})).await.expect(201);
    }
    let search = json!({"vector": [1, 7, 1], "all": true, "k": 1});
    let hits = client.post("/v1/collections/c/search", &search).await.expect(200).json()["hits"].clone();
    assert_eq!(hits.as_array().unwrap().len(), 1, "{hits}");
}

/// In three steps, in none of which anybody refuses anybody: trust the new, show the new, trust the new alone.
async fn changes_all_it_shows(cluster: &Cluster, restarted: u16) {
    let folder = cluster.certificates();
    let (ca_file, secret_file) = (folder.join("ca.pem"), cluster.folder().join("secrets/cluster.secret"));
    let (old_ca, old_secret) = (read(&ca_file), read(&secret_file));
    let old_ca_file = cluster.scratch().join("old-ca.pem");
    std::fs::write(&old_ca_file, &old_ca).unwrap();
    let kept_open = cluster.client();
    kept_open.get("/version").await.expect(200);
    let authority = Authority::new("cluster, anew");

    write(&ca_file, &format!("{old_ca}{}", authority.pem()));
    write(&secret_file, &format!("{}\nnew secret\n", old_secret.trim()));
    renew_all(cluster, restarted).await;
    all_are_up(cluster, "both").await;

    authority.certify(&["127.0.0.1"], &folder);
    write(&secret_file, &format!("new secret\n{}\n", old_secret.trim()));
    renew_all(cluster, restarted).await;
    all_are_up(cluster, "new").await;

    write(&ca_file, &authority.pem());
    write(&secret_file, "new secret\n");
    renew_all(cluster, restarted).await;
    all_are_up(cluster, "only the new").await;

    // A connection that was there goes on; who trusts the old authority alone makes no new one.
    kept_open.get("/version").await.expect(200);
    let behind = Client::trusting(cluster.client().base(), &old_ca_file, None);
    let refused = behind.request(Method::GET, "/version").try_send().await.unwrap_err();
    assert!(refused.contains("of no authority that is trusted"), "{refused}");
}

/// The key of somebody else and a secret that is empty: both are told of and not taken.
async fn keeps_what_it_has_when_files_are_broken(cluster: &Cluster) {
    let pid = cluster.layout().coordinators[0].pid;
    let pid = cluster.extra_pid("coordinator-1").unwrap_or(pid);
    let key_file = cluster.certificates().join("key.pem");
    let (good, before) = (read(&key_file), log(cluster, "coordinator-1"));
    Authority::new("other").certify(&["127.0.0.1"], &cluster.scratch().join("other"));
    write(&key_file, &read(&cluster.scratch().join("other/key.pem")));
    signal(pid, Signal::HUP);
    poll::until("the coordinator to tell of the key", PATIENCE, async || {
        let log = log(cluster, "coordinator-1").split_off(before.len());
        let told = log.contains("tls.key_file") && log.contains("does not go with");
        if told { Ok(()) } else { Err(log) }
    })
    .await;
    all_are_up(cluster, "with a wrong key").await;
    write(&key_file, &good);
}

/// Has every coordinator and agent read its files anew, and waits until all have.
async fn renew_all(cluster: &Cluster, restarted: u16) {
    let layout = cluster.layout();
    let mut members = Vec::new();
    for (number, coordinator) in (1..).zip(&layout.coordinators) {
        let name = format!("coordinator-{number}");
        let pid = if number == restarted { cluster.extra_pid(&name).unwrap() } else { coordinator.pid };
        members.push((name, pid));
    }
    members.extend(layout.workers.iter().map(|worker| (worker.name.clone(), worker.agent_pid)));
    for (name, pid) in members {
        // The last of what each reads.
        let done =
            |log: &str| log.lines().filter(|line| line.contains("password_file") && line.contains("read anew")).count();
        let before = done(&log(cluster, &name));
        signal(pid, Signal::HUP);
        poll::until(&format!("{name} to read its files anew"), PATIENCE, async || {
            let log = log(cluster, &name);
            if done(&log) > before { Ok(()) } else { Err(log.lines().last().unwrap_or_default().to_owned()) }
        })
        .await;
    }
}

/// Every coordinator reaches every other and every agent, and serves on a new connection.
async fn all_are_up(cluster: &Cluster, namespace: &str) {
    for number in 1..=3 {
        let client = cluster.client_of(number);
        poll::until("all coordinators and workers to be up", PATIENCE, async || {
            let info = client.get("/v1/admin/cluster").await.expect(200).json();
            let workers = client.get("/v1/admin/workers").await.expect(200).json();
            let is_up = |one: &serde_json::Value| one["up"] == true;
            let all = [&info["coordinators"], &workers["workers"]]
                .iter()
                .all(|list| list.as_array().unwrap().iter().all(is_up));
            if all { Ok(()) } else { Err(format!("{info} {workers}")) }
        })
        .await;
    }
    serves(&cluster.client(), namespace).await;
}

fn log(cluster: &Cluster, name: &str) -> String {
    read(&cluster.folder().join("logs").join(format!("{name}.log")))
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}
