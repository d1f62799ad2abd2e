//! An agent tells what its server counts of itself: all that docs/metrics.md names, of what happens, and nothing of a server that is gone. The
//! statements are tried on every PostgreSQL that the machine has, older ones too.
#![allow(clippy::unwrap_used)]

mod support;

use atoll_agent::pg::account::Account;
use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use support::{Place, RunningAgent, collection, desired, free_port, request, signal};
use tokio_postgres::{Client, NoTls, types::Type};

const DEADLINE: Duration = Duration::from_secs(60);

/// Lines of the agent's `/metrics` that are about PostgreSQL, by name and labels.
async fn vitals(agent: &RunningAgent) -> Vec<(String, f64)> {
    let Some((_, body)) = request::send("GET", &format!("{}/metrics", agent.url), None, None).await else {
        // It does not listen yet.
        return Vec::new();
    };
    let text = String::from_utf8(body.to_vec()).unwrap();
    let samples = text.lines().filter(|line| line.starts_with("postgres_"));
    samples
        .map(|line| line.rsplit_once(' ').unwrap())
        .map(|(key, value)| (key.to_owned(), value.parse().unwrap()))
        .collect()
}

fn value(vitals: &[(String, f64)], key: &str) -> Option<f64> {
    vitals.iter().find(|(known, _)| known == key).map(|(_, value)| *value)
}

/// Waits until the value of `key` is as wished.
async fn until(agent: &RunningAgent, key: &str, wish: impl Fn(f64) -> bool) -> f64 {
    let begun = Instant::now();
    loop {
        let seen = vitals(agent).await;
        if let Some(value) = value(&seen, key).filter(|value| wish(*value)) {
            return value;
        }
        assert!(begun.elapsed() < DEADLINE, "{key} is not as wished: {seen:#?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Names, and labels' names, of the metrics of PostgreSQL in the documentation.
fn documented() -> Vec<(String, Vec<String>)> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("docs/metrics.md");
    let page = std::fs::read_to_string(page).unwrap();
    let section = page.split("\n## ").find(|section| section.starts_with("PostgreSQL\n")).unwrap();
    let quoted = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    let rows = section.lines().filter(|line| line.starts_with("| `")).map(|line| {
        let cells: Vec<&str> = line.split('|').collect();
        (quoted(cells[1]).remove(0), quoted(cells[3]))
    });
    rows.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_on_the_server_is_told() {
    let place = Place::new("vitals").await;
    place.coordinator.set_desired(desired(5, vec![collection(5, "memories")], Vec::new()));
    let agent = place.start();
    place.until_applied(&agent, 5).await;
    until(&agent, "postgres_up", |up| up == 1.0).await;
    until(&agent, "postgres_live_rows{kind=\"entries\"}", |_| true).await;

    let seen = vitals(&agent).await;
    let names: BTreeSet<&str> = seen.iter().map(|(key, _)| key.split('{').next().unwrap()).collect();
    let documented = documented();
    assert_eq!(names, documented.iter().map(|(name, _)| name.as_str()).collect());
    assert!(seen.len() < 150, "as many series as there are tables? {seen:#?}");
    assert_eq!(value(&seen, "postgres_connections_max"), Some(100.0));
    let disk = |name| value(&seen, name).unwrap();
    assert!(disk("postgres_disk_bytes") >= disk("postgres_disk_free_bytes"));

    // Rows, dead ones, and scans of either kind. Small tables are read from end to end unless that is forbidden.
    let client = place.connect().await;
    let insert = "insert into s0001_g1.memories (namespace, key, embedding, version, created_at, updated_at)
                  select 'n', 'k' || i, '[1,2,3]', 1, now(), now() from generate_series(1, 400) as i";
    client.batch_execute(insert).await.unwrap();
    client.batch_execute("delete from s0001_g1.memories where key > 'k2'").await.unwrap();
    until(&agent, "postgres_dead_rows{kind=\"entries\"}", |rows| rows > 100.0).await;
    let heap = "postgres_scans_total{kind=\"entries\",method=\"heap\"}";
    let btree = "postgres_scans_total{kind=\"entries\",method=\"btree\"}";
    let (heap_before, btree_before) =
        (value(&vitals(&agent).await, heap).unwrap(), value(&vitals(&agent).await, btree).unwrap());
    for _ in 0..10 {
        client
            .batch_execute("set enable_seqscan = on; select count(*) from s0001_g1.memories where version = 1")
            .await
            .unwrap();
        let by_key = "set enable_seqscan = off; select from s0001_g1.memories where namespace = 'n' and key = 'k1'";
        client.batch_execute(by_key).await.unwrap();
    }
    until(&agent, heap, |scans| scans >= heap_before + 10.0).await;
    until(&agent, btree, |scans| scans >= btree_before + 10.0).await;

    // A transaction that is left open, and one that waits for it.
    client.batch_execute("begin; select from s0001_g1.memories where key = 'k1' for update").await.unwrap();
    let waiting = place.connect().await;
    let waits = tokio::spawn(async move {
        waiting.batch_execute("update s0001_g1.memories set version = 2 where key = 'k1'").await
    });
    until(&agent, "postgres_connections{state=\"idle in transaction\"}", |connections| connections == 1.0).await;
    until(&agent, "postgres_locks_waiting", |locks| locks == 1.0).await;
    until(&agent, "postgres_lock_wait_seconds", |seconds| seconds > 1.0).await;
    until(&agent, "postgres_oldest_transaction_seconds", |seconds| seconds > 1.0).await;
    client.batch_execute("commit").await.unwrap();
    waits.await.unwrap().unwrap();
    until(&agent, "postgres_locks_waiting", |locks| locks == 0.0).await;

    // A slot that nobody reads keeps the log.
    let owner = place.owner().connect(Duration::ZERO).await.unwrap();
    let slot = "select pg_create_logical_replication_slot('atoll_move_9', 'pgoutput')";
    owner.query("make a slot", slot, &[]).await.unwrap();
    client.batch_execute(&insert.replace("'k'", "'x'")).await.unwrap();
    until(&agent, "postgres_slots_inactive{purpose=\"move\"}", |slots| slots == 1.0).await;
    until(&agent, "postgres_slot_retained_bytes{purpose=\"move\"}", |bytes| bytes > 10_000.0).await;
    assert_eq!(value(&vitals(&agent).await, "postgres_slots{purpose=\"other\"}"), Some(0.0));
    owner.query("drop a slot", "select pg_drop_replication_slot('atoll_move_9')", &[]).await.unwrap();

    // Counts do not fall when what was counted is dropped.
    let counted = value(&vitals(&agent).await, heap).unwrap();
    place.coordinator.set_desired(desired(6, Vec::new(), vec![collection(5, "memories")]));
    drop((client, owner));
    place.until_applied(&agent, 6).await;
    until(&agent, "postgres_relation_bytes{kind=\"tickets\",method=\"heap\"}", |_| true).await;
    if let Some(now) = value(&vitals(&agent).await, heap) {
        assert!(now >= counted, "{now} after {counted}");
    }

    // A server that is gone tells nothing. An agent that only connects does not start it again.
    agent.stop();
    let agent = place.start_external();
    until(&agent, "postgres_up", |up| up == 0.0).await;
    assert_eq!(vitals(&agent).await, [("postgres_up".to_owned(), 0.0)]);
    agent.stop();
}

/// A bare server of its own folder.
struct Server {
    folder: PathBuf,
    postgres: Child,
}

impl Server {
    fn start(bin: &Path, port: u16) -> Self {
        let folder = PathBuf::from(format!("/tmp/atoll-agent-vitals-{port}-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755)).unwrap();
        let account = Account::for_server().unwrap();
        let data = folder.join("data");
        let run = |program: &str, arguments: &[&str]| {
            let mut command = Command::new(bin.join(program));
            command.args(arguments).arg("-D").arg(&data).env("LC_ALL", "C").current_dir("/");
            if let Some(account) = &account {
                account.own(&folder).unwrap();
                account.take_on(&mut command);
            }
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
        };
        assert!(run("initdb", &["-A", "trust", "-U", "owner", "--locale=C"]).wait().unwrap().success());
        let (port, sockets) = (port.to_string(), "unix_socket_directories=");
        let postgres = run("postgres", &["-p", &port, "-c", "listen_addresses=127.0.0.1", "-c", sockets]);
        Self { folder, postgres }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        signal(self.postgres.id(), rustix::process::Signal::QUIT);
        let _ = self.postgres.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

async fn connected(port: u16) -> Client {
    let mut config = tokio_postgres::Config::new();
    config.host("127.0.0.1").port(port).user("owner").dbname("postgres");
    let begun = Instant::now();
    loop {
        match config.connect(NoTls).await {
            Ok((client, connection)) => {
                tokio::spawn(connection);
                return client;
            }
            Err(error) => assert!(begun.elapsed() < DEADLINE, "{error:?}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Where Debian keeps its servers, and those that `ATOLL_TEST_PG_BINS` names, with colons between them.
fn installed() -> Vec<PathBuf> {
    let given = std::env::var("ATOLL_TEST_PG_BINS").unwrap_or_default();
    let given = given.split(':').filter(|bin| !bin.is_empty()).map(PathBuf::from);
    let debian =
        std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|entry| entry.path().join("bin"));
    debian.chain(given).filter(|bin| bin.join("initdb").exists()).collect()
}

/// The statements as they are, without the agent: it would ask for pgvector.
#[tokio::test(flavor = "multi_thread")]
async fn the_statements_fit_every_version() {
    let documented = documented();
    let labels: BTreeSet<&str> = documented.iter().flat_map(|(_, labels)| labels).map(String::as_str).collect();
    let statements = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/pg/vitals");
    let servers = installed();
    if servers.is_empty() {
        println!("SKIPPED: no PostgreSQL but the one that agents are tried with");
    }
    for bin in servers {
        let port = free_port();
        let _server = Server::start(&bin, port);
        let client = connected(port).await;
        let version: i32 =
            client.query_one("select current_setting('server_version_num')::int", &[]).await.unwrap().get(0);
        println!("{}: {version}", bin.display());
        let mut given = BTreeSet::new();
        for entry in std::fs::read_dir(&statements).unwrap().flatten() {
            let file = entry.file_name().into_string().unwrap();
            let of_another = if version >= 170_000 { "checkpoints_before_17.sql" } else { "checkpoints.sql" };
            if !file.ends_with(".sql") || file == of_another {
                continue;
            }
            let text = std::fs::read_to_string(entry.path()).unwrap();
            let rows = client.query(&text, &[]).await.unwrap_or_else(|error| panic!("{version} {file}: {error:?}"));
            assert!(!rows.is_empty(), "{version} {file}");
            for column in rows[0].columns() {
                match column.name() {
                    "object" => assert_eq!(*column.type_(), Type::INT8, "{file}"),
                    label if labels.contains(label) => assert_eq!(*column.type_(), Type::TEXT, "{file} {label}"),
                    metric => {
                        assert_eq!(*column.type_(), Type::FLOAT8, "{file} {metric}");
                        given.insert(metric.to_owned());
                    }
                }
            }
        }
        // These are no column: the agent knows them by itself.
        let by_agent = ["postgres_up", "postgres_disk_bytes", "postgres_disk_free_bytes"];
        let told: BTreeSet<String> =
            documented.iter().map(|(name, _)| name.clone()).filter(|name| !by_agent.contains(&name.as_str())).collect();
        assert_eq!(given, told, "{version}");
    }
}
