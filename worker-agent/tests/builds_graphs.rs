//! The agent builds graphs of large namespaces side by side, says whom they wait for, and keeps them out of the way of loads.
#![allow(clippy::unwrap_used)]

mod support;

use atoll_proto::agent::{AgentStatus, TableStats};
use atoll_proto::build::BuildState;
use atoll_proto::load::{LOAD_PATH, LoadHeard, LoadReport, LoadedTable};
use atoll_proto::{IndexScope, IndexSettings, ShardId};
use std::time::Duration;
use support::{Place, RunningAgent, SECRET, collection, desired, request};

const PATIENCE: Duration = Duration::from_secs(90);
const LOOK_EVERY: Duration = Duration::from_millis(100);

#[tokio::test(flavor = "multi_thread")]
async fn graphs_come_and_make_way_for_loads() {
    let place = Place::new("graphs").await;
    let mut memories = collection(5, "memories");
    memories.settings.index = IndexSettings { scope: IndexScope::Namespace, ..memories.settings.index };
    place.coordinator.set_desired(desired(5, vec![memories], Vec::new()));
    let agent = place.start();
    place.until_applied(&agent, 5).await;

    // A transaction that is older than the builds.
    let reader = place.connect().await;
    reader.batch_execute("set application_name = 'pg_dump'; begin isolation level repeatable read").await.unwrap();
    reader.batch_execute("set local idle_in_transaction_session_timeout = 0; select 1").await.unwrap();
    let writer = place.connect().await;
    for (schema, namespace, rows) in [("s0000_g1", "a", 3_000), ("s0001_g1", "b", 2_000), ("s0001_g1", "small", 900)] {
        insert(&writer, schema, namespace, rows).await;
    }
    let waits = |status: &AgentStatus| {
        let waits = status.builds.iter().find_map(|build| build.waits_for.clone())?;
        (waits.application == "pg_dump").then_some(waits)
    };
    let waits = place.until(&agent, "a build that waits for a transaction", waits).await;
    assert!(waits.pid > 0 && waits.seconds.is_some());
    // One that waits holds no place: the other is begun beside it, however few cores there are.
    let both = |status: &AgentStatus| {
        let building = status.builds.iter().filter(|build| build.state == BuildState::Building);
        (building.count() == 2).then_some(())
    };
    place.until(&agent, "both builds under way", both).await;
    assert!(graphs(&agent.status().await.unwrap()).is_empty(), "not before they are whole");
    reader.batch_execute("commit").await.unwrap();
    place.until(&agent, "both graphs", |status| (graphs(status) == ["a", "b"]).then_some(())).await;
    place.until(&agent, "nothing to build", |status| status.builds.is_empty().then_some(())).await;
    let url = format!("{}/metrics", agent.url);
    let metrics = String::from_utf8(request::send("GET", &url, None, None).await.unwrap().1.to_vec()).unwrap();
    assert!(metrics.contains("hnsw_index_build_duration_seconds_count 2\n"), "{metrics}");

    // A load sends its graph away and no other, and has it built again when it is over.
    tell(&agent, false).await;
    place.until(&agent, "the graph to go", |status| (graphs(status) == ["b"]).then_some(())).await;
    insert(&writer, "s0000_g1", "a", 6_000).await;
    let held_back = |status: &AgentStatus| {
        let mut builds = status.builds.iter();
        builds.any(|build| (build.namespace.as_str(), build.state, build.rows) == ("a", BuildState::Loading, 6_000))
    };
    // It runs out unless it is told again.
    let telling = async {
        while !agent.status().await.is_some_and(|status| held_back(&status)) {
            tell(&agent, false).await;
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    tokio::time::timeout(PATIENCE, telling).await.unwrap();
    tell(&agent, true).await;
    place.until(&agent, "the graph again", |status| (graphs(status) == ["a", "b"]).then_some(())).await;
    assert!(!agent.status().await.unwrap().counting);

    // One that nobody speaks of any more is over too.
    tell(&agent, false).await;
    place.until(&agent, "the graph to go", |status| (graphs(status) == ["b"]).then_some(())).await;
    place
        .until(&agent, "the graph after the load ran out", |status| (graphs(status) == ["a", "b"]).then_some(()))
        .await;
    agent.stop();
}

/// Rows `k1` to `k…`; those that are there stay.
async fn insert(client: &tokio_postgres::Client, schema: &str, namespace: &str, rows: i32) {
    let statement = format!(
        "insert into {schema}.memories (namespace, key, embedding, version, created_at, updated_at)
         select $1, 'k' || n, array[1, n % 97, n % 89]::vector, 1, now(), now() from generate_series(1, $2::int) n
         on conflict do nothing"
    );
    client.execute(&statement, &[&namespace, &rows]).await.unwrap();
}

/// Namespaces with graphs that searches may walk.
fn graphs(status: &AgentStatus) -> Vec<String> {
    let mut graphs: Vec<String> = status.tables.iter().flat_map(|table: &TableStats| table.graphs.clone()).collect();
    graphs.sort();
    graphs
}

/// Tells of a load of namespace `a`.
async fn tell(agent: &RunningAgent, ended: bool) {
    let namespaces = vec!["a".to_owned()];
    let table = LoadedTable { shard: ShardId(0), collection: "memories".parse().unwrap(), namespaces };
    let report = LoadReport { import: "one".to_owned(), ended, tables: vec![table] };
    let (url, body) = (format!("{}{LOAD_PATH}", agent.url), serde_json::to_vec(&report).unwrap());
    let (code, answer) = request::send("PUT", &url, Some(SECRET), Some(body)).await.unwrap();
    assert_eq!(code, 200);
    let LoadHeard { graphs_left: _ } = serde_json::from_slice(&answer).unwrap();
}
