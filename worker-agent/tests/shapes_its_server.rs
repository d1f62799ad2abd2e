//! The agent registers its server, makes it what the desired state says, and refuses what is older.
#![allow(clippy::unwrap_used)]

mod support;

use atoll_agent::desired::upkeep::schemas_of;
use atoll_agent::pg::sweep::sweep;
use atoll_proto::agent::STATUS_PATH;
use atoll_proto::{CatalogVersion, Distribution, Durability, IndexProfile, IndexScope, IndexSettings};
use support::coordinator::FakeCoordinator;
use support::{Place, SECRET, collection, desired, request};

const INSERT: &str =
    "insert into s0001_g1.memories (namespace, key, embedding, version, created_at, updated_at, expires_at)
    select $1, 'k' || n, '[1,2,3]', 1, now(), now(), null from generate_series(1, $2::int) n";

#[tokio::test(flavor = "multi_thread")]
async fn a_server_follows_the_desired_state() {
    let place = Place::new("shapes").await;
    let mut countries = collection(6, "countries");
    countries.settings.distribution = Distribution::Reference;
    let mut bare = collection(7, "bare");
    bare.settings.dimensions = None;
    bare.settings.durability = Durability::Ephemeral;
    let first = desired(5, vec![collection(5, "memories"), countries.clone(), bare.clone()], Vec::new());
    place.coordinator.set_desired(first.clone());
    let agent = place.start();
    let status = place.until_applied(&agent, 5).await;
    assert!(status.postgres_up && status.postgres_pid.is_some() && status.facts.is_some());

    // Coordinators can read and write rows, and nothing else.
    let client = place.connect().await;
    client.execute(INSERT, &[&"big", &3000]).await.unwrap();
    client.execute(INSERT, &[&"small", &10]).await.unwrap();
    client.execute("select from atoll_reference.countries", &[]).await.unwrap();
    client.execute("insert into s0000_g1._idempotency (key, request_hash) values ('k', '')", &[]).await.unwrap();
    for forbidden in [
        "drop table s0001_g1.memories",
        "create table s0001_g1.mine (x int)",
        "create table public.mine (x int)",
        "truncate s0001_g1.memories",
        "create schema mine",
        "select * from atoll.applied",
    ] {
        assert!(client.batch_execute(forbidden).await.is_err(), "{forbidden}");
    }
    let nearest =
        "select key from s0001_g1.memories where namespace = 'small' order by embedding <=> '[1,2,3]' limit 1";
    assert_eq!(client.query(nearest, &[]).await.unwrap().len(), 1);

    // The same again does nothing, the next version changes what changed.
    assert_eq!(agent.put(&first).await.0, 200);
    let mut logged = bare.clone();
    logged.settings.durability = Durability::Local;
    let mut dense = collection(5, "memories");
    dense.settings.index = IndexSettings { profile: IndexProfile::Accuracy, scope: IndexScope::Both };
    // Tables that are named as indexes of others could be.
    let named_alike = ["notes", "notes_tags", "notes_pkey", "idempotency"];
    let mut wanted = vec![dense, logged];
    wanted.extend((9..).zip(named_alike).map(|(id, name)| collection(id, name)));
    let second = desired(6, wanted, vec![countries]);
    place.coordinator.set_desired(second.clone());
    let (code, body) = agent.put(&second).await;
    assert_eq!((code, &body["catalog_version"]), (200, &6.into()), "{}", place.log());
    assert!(client.execute("select from atoll_reference.countries", &[]).await.is_err());
    for name in named_alike {
        client.execute(&format!("select namespace, key from s0002_g1.{name}"), &[]).await.unwrap();
    }
    let persistence = "select relpersistence::text from pg_class where oid = 's0002_g1.bare'::regclass";
    assert_eq!(client.query_one(persistence, &[]).await.unwrap().get::<_, String>(0), "p");

    // What is older is refused.
    let (code, body) = agent.put(&first).await;
    assert_eq!((code, body["code"].as_str()), (409, Some("stale-plan")));
    let mut foreign = second.clone();
    foreign.cluster_id = "another".to_owned();
    assert_eq!(agent.put(&foreign).await.0, 403);

    // Large namespaces are named, and the changed index is built anew by itself.
    let rows = |status: &atoll_proto::agent::AgentStatus| {
        let table = status.tables.iter().find(|t| t.collection.as_str() == "memories" && t.rows == 3010)?;
        Some(table.clone())
    };
    let counted = place.until(&agent, "3010 rows", rows).await;
    assert_eq!(counted.large_namespaces.len(), 1);
    assert_eq!((counted.large_namespaces[0].namespace.as_str(), counted.large_namespaces[0].rows), ("big", 3000));
    assert!(counted.vector_index_bytes > 0 && counted.bytes > counted.vector_index_bytes);
    let options =
        "select array_to_string(reloptions, ',') from pg_class where oid = to_regclass('s0001_g1._memories_hnsw')";
    for _ in 0..600 {
        let options: Option<String> = client.query_one(options, &[]).await.unwrap().get(0);
        if options.as_deref() == Some("m=32,ef_construction=128") {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let built: String = client.query_one(options, &[]).await.unwrap().get(0);
    assert_eq!(built, "m=32,ef_construction=128", "{}", place.log());

    // What is over is swept away, and nothing else.
    let expired = "update s0001_g1.memories set expires_at = now() - interval '1 s' where namespace = 'small'";
    assert_eq!(client.execute(expired, &[]).await.unwrap(), 10);
    let aged = "insert into s0000_g1._idempotency (key, request_hash, created_at)
        values ('old', '', now() - interval '25 hours')";
    client.execute(aged, &[]).await.unwrap();
    let owner = place.owner().connect(std::time::Duration::from_secs(30)).await.unwrap();
    assert_eq!(sweep(&owner, &schemas_of(&second)).await.unwrap(), 11);
    drop(owner);

    // Also after the agent and its server were stopped and started again.
    drop(client);
    agent.stop();
    assert!(!place.data_dir().join("postmaster.pid").exists());
    let agent = place.start();
    let status = place.until_applied(&agent, 6).await;
    assert_eq!(status.worker, Some(support::WORKER));
    place.until(&agent, "ready", |status| status.postgres_up.then_some(())).await;
    let code = loop {
        let (code, _) = agent.put(&first).await;
        if code != 503 {
            break code;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    };
    assert_eq!(code, 409);
    let rows: i64 =
        place.connect().await.query_one("select count(*) from s0001_g1.memories", &[]).await.unwrap().get(0);
    assert_eq!(rows, 3000);

    // Strangers learn nothing.
    let url = format!("{}{STATUS_PATH}", agent.url);
    for bearer in [None, Some("wrong")] {
        assert_eq!(request::send("GET", &url, bearer, None).await.unwrap().0, 401);
    }
    assert_eq!(request::send("GET", &format!("{}/healthz", agent.url), None, None).await.unwrap().0, 200);
    assert_eq!(request::send("GET", &format!("{}/other", agent.url), Some(SECRET), None).await.unwrap().0, 404);
    agent.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_belongs_to_one_cluster() {
    let mut place = Place::new("member").await;
    // What an agent left that was killed while it made the data directory.
    let unfinished = place.data_dir().with_extension("init");
    std::fs::create_dir(&unfinished).unwrap();
    std::fs::write(unfinished.join("PG_VERSION"), "1").unwrap();
    let agent = place.start();
    place.until_applied(&agent, 1).await;
    let uid = place.coordinator.asked()[0].uid.clone();
    let asked_before = place.coordinator.asked().len();
    place.coordinator.set_desired(support::desired(99, Vec::new(), Vec::new()));
    place.coordinator.set_cluster("another");
    let asked_again = |_: &_| (place.coordinator.asked().len() > asked_before + 1).then_some(());
    place.until(&agent, "registered again", asked_again).await;
    assert_eq!(agent.status().await.unwrap().applied, Some(CatalogVersion(1)));
    assert!(place.coordinator.asked().iter().all(|request| request.uid == uid));
    agent.stop();

    // The other cluster's coordinator is passed over for the next one.
    place.first_coordinator_port = std::mem::replace(&mut place.coordinator, FakeCoordinator::start().await).port;
    place.coordinator.set_desired(support::desired(2, Vec::new(), Vec::new()));
    let agent = place.start();
    place.until_applied(&agent, 2).await;
    agent.stop();
}
