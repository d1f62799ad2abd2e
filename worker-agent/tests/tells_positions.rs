//! The agent tells up to which position everything is visible: one more than where the log stands only if no transaction that writes is
//! under way. A server that cannot tell in time does not answer.
#![allow(clippy::unwrap_used)]

mod support;

use atoll_proto::Lsn;
use atoll_proto::agent::AgentStatus;
use std::time::Duration;
use support::{Place, collection, desired};
use tokio_postgres::Client;

/// What the server writes to its log by itself may hide once that a position is one too many, and not each time.
const LOOKS: usize = 4;

async fn flushed(client: &Client) -> Lsn {
    let row = client.query_one("select pg_current_wal_flush_lsn()::text", &[]).await.unwrap();
    row.get::<_, &str>(0).parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_visible_yet_is_not_settled() {
    let place = Place::new("positions").await;
    place.coordinator.set_desired(desired(5, vec![collection(5, "memories")], Vec::new()));
    let agent = place.start();
    place.until_applied(&agent, 5).await;
    let (writer, other) = (place.connect().await, place.connect().await);
    let insert = "insert into s0001_g1.memories (namespace, key, embedding, version, created_at, updated_at)
                  select 'n', $1, '[1,2,3]', 1, now(), now()";

    // Nobody writes, and so nothing stands between the log and what can be seen.
    other.execute(insert, &[&"first"]).await.unwrap();
    let first = flushed(&other).await;
    place.until(&agent, "the first write settled", |status| status.settled.filter(|settled| *settled > first)).await;

    // Somebody does, and is not done when the log goes on.
    writer.batch_execute("begin").await.unwrap();
    writer.execute(insert, &[&"open"]).await.unwrap();
    for i in 0..LOOKS {
        other.execute(insert, &[&format!("beside-{i}")]).await.unwrap();
        let written = flushed(&other).await;
        let reached = |status: &AgentStatus| status.settled.filter(|settled| *settled >= written);
        let settled = place.until(&agent, "a look after a write beside it", reached).await;
        let now = flushed(&other).await;
        assert!(settled <= now, "{settled} is beyond {now}, and a transaction is under way");
    }

    writer.batch_execute("commit").await.unwrap();
    let last = flushed(&other).await;
    place.until(&agent, "all writes settled", |status| status.settled.filter(|settled| *settled > last)).await;
    agent.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_cannot_tell_in_time_does_not_answer() {
    let place = Place::new("slow-positions").await;
    place.coordinator.set_desired(desired(5, vec![collection(5, "memories")], Vec::new()));
    let agent = place.start();
    place.until_applied(&agent, 5).await;
    place.until(&agent, "a position", |status| status.settled).await;

    let holder = place.owner().connect(Duration::ZERO).await.unwrap();
    holder.run("hold the locks' view", "begin; lock table pg_catalog.pg_locks in access exclusive mode").await.unwrap();
    place.until(&agent, "a server that is down", |status| (!status.postgres_up).then_some(())).await;
    drop(holder);
    let up = |status: &AgentStatus| status.settled.filter(|_| status.postgres_up);
    place.until(&agent, "a server that is up again", up).await;
    agent.stop();
}
