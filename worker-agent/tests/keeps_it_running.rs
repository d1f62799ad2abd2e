//! The agent starts its server again when it dies, and adopts it after its own death.
#![allow(clippy::unwrap_used)]

mod support;

use rustix::process::Signal;
use support::{Place, collection, desired, free_port, signal};

const INSERT: &str = "insert into s0001_g1.memories (namespace, key, embedding, version, created_at, updated_at)
    values ('n', 'k', '[1,2,3]', 1, now(), now())";

#[tokio::test(flavor = "multi_thread")]
async fn killed_servers_are_started_again_and_killed_agents_leave_them_running() {
    let mut place = Place::new("running").await;
    place.coordinator.set_desired(desired(2, vec![collection(5, "memories")], Vec::new()));
    let agent = place.start();
    let before = place.until_applied(&agent, 2).await.postgres_pid.unwrap();
    place.connect().await.execute(INSERT, &[]).await.unwrap();

    signal(before, Signal::KILL);
    let seen_again = |status: &atoll_proto::agent::AgentStatus| {
        status.postgres_pid.filter(|pid| *pid != before && status.postgres_up)
    };
    let after = place.until(&agent, "another postmaster that answers", seen_again).await;
    let rows: i64 = count(&place).await;
    assert_eq!(rows, 1);

    // A second agent is not let near the data.
    let port = std::mem::replace(&mut place.agent_port, free_port());
    assert!(!place.start().ended().success());
    place.agent_port = port;
    assert!(place.log().contains("PostgreSQL died") && !place.log().contains("stopping a server"));

    // An agent that is killed takes nothing with it; the next one adopts the server.
    agent.kill();
    assert_eq!(count(&place).await, 1);
    let agent = place.start();
    let adopted = place.until_applied(&agent, 2).await;
    assert_eq!(adopted.postgres_pid, Some(after));

    // An adopted server is watched and stopped like one that was started.
    signal(after, Signal::KILL);
    let seen_again = |status: &atoll_proto::agent::AgentStatus| {
        status.postgres_pid.filter(|pid| *pid != after && status.postgres_up)
    };
    place.until(&agent, "a third postmaster that answers", seen_again).await;
    agent.stop();
    assert!(!place.data_dir().join("postmaster.pid").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_external_server_is_neither_started_nor_stopped() {
    let place = Place::new("external").await;
    let agent = place.start();
    let pid = place.until_applied(&agent, 1).await.postgres_pid.unwrap();
    agent.kill();
    place.coordinator.set_desired(desired(2, vec![collection(5, "memories")], Vec::new()));
    let agent = place.start_external();
    let status = place.until_applied(&agent, 2).await;
    assert_eq!((status.postgres_pid, status.data_dir), (None, None));
    let asked = place.coordinator.asked();
    assert_ne!(asked[0].uid, asked[asked.len() - 1].uid);
    agent.stop();
    let state = std::fs::read_link(format!("/proc/{pid}/cwd"));
    assert_eq!(state.unwrap(), place.data_dir());
    assert_eq!(count(&place).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_loses_data_is_refused() {
    let mut place = Place::new("refused").await;
    place.postgres_lines = "fsync = false\n".to_owned();
    let agent = place.start();
    let refusal = place.until(&agent, "a refusal", |status| status.apply_error.clone()).await;
    assert!(refusal.contains("fsync is off"), "{refusal}");
    let status = agent.status().await.unwrap();
    assert!(status.postgres_up && status.facts.is_some());
    assert_eq!(place.coordinator.asked(), []);
    assert_eq!(agent.put(&desired(1, Vec::new(), Vec::new())).await.0, 503);
    agent.stop();
}

async fn count(place: &Place) -> i64 {
    place.connect().await.query_one("select count(*) from s0001_g1.memories", &[]).await.unwrap().get(0)
}
