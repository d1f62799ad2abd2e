//! The agent tells up to which position everything is visible: one more than where the log stands only if no transaction that writes is
//! under way.
#![allow(clippy::unwrap_used)]

mod support;

use atoll_proto::Lsn;
use support::{Place, collection, desired};
use tokio_postgres::Client;

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
    other.execute(insert, &[&"second"]).await.unwrap();
    let second = flushed(&other).await;
    let reached = |status: &atoll_proto::agent::AgentStatus| status.settled.filter(|settled| *settled >= second);
    let settled = place.until(&agent, "a look after the second write", reached).await;
    let now = flushed(&other).await;
    assert!(settled <= now, "{settled} is beyond {now}, and a transaction is under way");

    writer.batch_execute("commit").await.unwrap();
    let last = flushed(&other).await;
    place.until(&agent, "all writes settled", |status| status.settled.filter(|settled| *settled > last)).await;
    agent.stop();
}
