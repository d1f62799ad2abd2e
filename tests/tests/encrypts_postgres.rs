//! Managed PostgreSQL servers that take connections by TLS alone, with certificates that their agents hand over: coordinators write and
//! search, a shard moves from one server to the other, a certificate is changed. Needs an installed PostgreSQL that was built with TLS,
//! with pgvector: as packages of distributions are, and the bundle that tests fetch is not. Without one it tries nothing, and says so.

#![allow(clippy::unwrap_used)]

use cluster_tests::certificates::Authority;
use cluster_tests::command_line::argument;
use cluster_tests::moves::{begin, shard_of, wait_over};
use cluster_tests::processes::signal;
use cluster_tests::{Client, Cluster, ClusterOptions, poll, sql};
use rustix::process::Signal;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(30);
const HOST: &str = "127.0.0.1";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn encrypts_postgres() {
    let Some(bin) = postgres_with_tls() else {
        println!("no PostgreSQL with TLS and pgvector is installed here: nothing was tried");
        return;
    };
    println!("with the programs in {}", bin.display());
    let folder = PathBuf::from(format!("/tmp/encrypts-postgres-{}", std::process::id()));
    let authority = Authority::new("postgres");
    let shown = authority.certify(&[HOST], &folder);
    let ca_file = authority.write(&folder.join("ca.pem"));
    let options = ClusterOptions::new("encrypts_postgres").coordinators(1).workers(2).encrypted().uncached();
    let options = options
        .environment("ATOLL_PG_BIN", argument(&bin))
        .environment("ATOLL__POSTGRES__TLS", "verify-full")
        .environment("ATOLL__POSTGRES__CA_FILE", argument(&ca_file))
        .environment("ATOLL_AGENT__POSTGRES__TLS", "verify-full")
        .environment("ATOLL_AGENT__POSTGRES__CA_FILE", argument(&ca_file))
        .environment("ATOLL_AGENT__POSTGRES__CERT_FILE", argument(&shown.cert))
        .environment("ATOLL_AGENT__POSTGRES__KEY_FILE", argument(&shown.key));
    let cluster = Cluster::start(options).await;
    let client = cluster.client();
    client.put("/v1/collections/c", &json!({"dimensions": 3})).await.expect(201);
    client.wait_until_active("c").await;
    write(&client, "first").await;
    finds(&client, 20).await;

    // Nobody comes in without TLS, whatever he knows.
    for worker in cluster.layout().workers {
        let plain = sql::try_rows(&worker.owner_dsn(), "select 1").await.unwrap_err();
        assert!(plain.contains("no encryption"), "{plain}");
    }

    // The target subscribes by TLS, and reads indexes of the source by it.
    let (shard, from) = shard_of(&client, "c", "first-0").await;
    let to = cluster.layout().workers.into_iter().find(|worker| worker.group != from).unwrap().group;
    let id = begin(&client, shard, &to).await;
    let over = wait_over(&client, id).await;
    assert_eq!(over["phase"], "done", "{over}");
    assert_eq!(shard_of(&client, "c", "first-0").await, (shard, to));
    finds(&client, 20).await;

    // A new certificate is handed over to the server; a broken one is not.
    let worker = cluster.layout().workers.into_iter().next().unwrap();
    let copy = worker.data_dir.with_extension("tls").join("server.crt");
    authority.certify(&[HOST], &folder);
    signal(worker.agent_pid, Signal::HUP);
    poll::until("the server to have its new certificate", PATIENCE, async || {
        if read(&copy) == read(&shown.cert) { Ok(()) } else { Err(log(&cluster, &worker.name)) }
    })
    .await;
    Authority::new("other").certify(&[HOST], &folder);
    signal(worker.agent_pid, Signal::HUP);
    poll::until("the agent to tell of a certificate that nobody would take", PATIENCE, async || {
        let log = log(&cluster, &worker.name);
        let told =
            log.contains("would be refused by those who connect") && log.contains("no authority that is trusted");
        if told { Ok(()) } else { Err(log) }
    })
    .await;
    assert_ne!(read(&copy), read(&shown.cert));
    write(&client, "second").await;
    finds(&client, 40).await;
    cluster.finish(&["can't be read anew"]).await;
    std::fs::remove_dir_all(folder).unwrap();
}

/// Programs of an installed server that has both.
fn postgres_with_tls() -> Option<PathBuf> {
    let majors = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = majors.map(|major| major.path().join("bin")).filter(|bin| is_fit(bin)).collect();
    found.sort();
    found.pop()
}

/// The agent itself judges pgvector; here it is only looked whether the libraries are linked.
fn is_fit(bin: &Path) -> bool {
    let linked = Command::new("ldd").arg(bin.join("postgres")).output();
    let with_tls = linked.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("libssl"));
    let agent = cluster_tests::processes::program("atoll-agent");
    let taken = Command::new(agent).args(["pg", "--no-fetch", "--pg-bin"]).arg(bin).output();
    with_tls && taken.is_ok_and(|output| output.status.success())
}

async fn write(client: &Client, namespace: &str) {
    for number in 0..20 {
        let path = format!("/v1/collections/c/namespaces/{namespace}-{number}/entries/k");
        client.put(&path, &json!({"vector": [1, number, 1]})).await.expect(201);
    }
}

async fn finds(client: &Client, entries: usize) {
    let search = json!({"vector": [1, 7, 1], "all": true, "k": 100});
    let hits = client.post("/v1/collections/c/search", &search).await.expect(200).json()["hits"].clone();
    assert_eq!(hits.as_array().unwrap().len(), entries, "{hits}");
}

fn log(cluster: &Cluster, name: &str) -> String {
    read(&cluster.folder().join("logs").join(format!("{name}.log")))
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
