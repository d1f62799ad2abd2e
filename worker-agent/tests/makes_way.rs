//! What somebody holds on to keeps nothing back that does not need it, and a table that the catalog dropped goes.
#![allow(clippy::unwrap_used)]

mod support;

use atoll_proto::ShardId;
use atoll_proto::agent::{AgentStatus, TableStats};
use support::{Place, collection, desired};

const LIMIT: std::time::Duration = std::time::Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn readers_give_way_to_a_drop_and_a_stuck_drop_keeps_nothing_back() {
    let place = Place::new("way").await;
    let (memories, notes, late) = (collection(5, "memories"), collection(6, "notes"), collection(7, "late"));
    place.coordinator.set_desired(desired(2, vec![memories.clone(), notes.clone()], Vec::new()));
    let agent = place.start();
    place.until_applied(&agent, 2).await;

    // Such as an export whose client stopped reading.
    let reader = place.connect().await;
    reader.batch_execute("begin; select from s0001_g1.memories").await.unwrap();
    let dropped = desired(3, vec![notes.clone()], vec![memories.clone()]);
    place.coordinator.set_desired(dropped.clone());
    assert_eq!(agent.put(&dropped).await.0, 200, "{}", place.log());
    assert!(reader.batch_execute("select 1").await.is_err());

    // Somebody else's business: it is waited for, and what does not need that table is done all the same.
    let somebody = place.owner().connect(LIMIT).await.unwrap();
    somebody.run("wait", "set idle_in_transaction_session_timeout = 0").await.unwrap();
    somebody.run("lock", "begin; lock table s0000_g1.notes in access exclusive mode").await.unwrap();
    let stuck = desired(4, vec![late.clone()], vec![notes.clone()]);
    place.coordinator.set_desired(stuck.clone());
    assert_eq!(agent.put(&stuck).await.0, 500);
    let exists = "select to_regclass($1) is not null";
    for (table, there) in
        [("s0000_g1.late", true), ("s0002_g1.late", true), ("s0001_g1.notes", false), ("s0000_g1.notes", true)]
    {
        let row = somebody.query_one("look", exists, &[&table]).await.unwrap();
        assert_eq!(row.get::<_, bool>(0), there, "{table}");
    }
    somebody.run("end", "commit").await.unwrap();
    place.until_applied(&agent, 4).await;

    // A name used again at once gets a table of its own.
    let again = desired(5, vec![collection(8, "late")], vec![late]);
    place.coordinator.set_desired(again.clone());
    assert_eq!(agent.put(&again).await.0, 200, "{}", place.log());
    let comment = "select obj_description('s0000_g1.late'::regclass, 'pg_class')";
    let comment: String = somebody.query_one("look", comment, &[]).await.unwrap().get(0);
    assert_eq!(comment, "atoll collection 8");

    // A table that does not say whose it is stays, and the rest is made.
    somebody.run("forget", "comment on table s0001_g1.late is null").await.unwrap();
    let unclaimed = desired(6, vec![collection(9, "other")], vec![collection(8, "late")]);
    place.coordinator.set_desired(unclaimed.clone());
    let (code, problem) = agent.put(&unclaimed).await;
    assert_eq!(code, 409);
    assert!(problem["detail"].as_str().unwrap().contains("'atoll collection 8'"), "{problem}");
    somebody.run("look", "select from s0001_g1.late, s0001_g1.other").await.unwrap();
    agent.stop();
    assert_eq!(place.log().matches("desired state not applied\"").count(), 2, "{}", place.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_table_keeps_its_figures_and_others_are_counted() {
    let place = Place::new("locked").await;
    place.coordinator.set_desired(desired(2, vec![collection(5, "memories")], Vec::new()));
    let agent = place.start();
    place.until_applied(&agent, 2).await;
    let client = place.connect().await;
    let insert = |schema: &str, key: &str| {
        format!(
            "insert into {schema}.memories (namespace, key, embedding, version, created_at, updated_at)
             values ('n', '{key}', '[1,2,3]', 1, now(), now());
             select pg_stat_force_next_flush()"
        )
    };
    client.batch_execute(&insert("s0001_g1", "a")).await.unwrap();
    place.until(&agent, "one row of shard 1", |status| rows(status, 1, 1)).await;

    client.batch_execute(&insert("s0001_g1", "b")).await.unwrap();
    let somebody = place.owner().connect(LIMIT).await.unwrap();
    somebody.run("wait", "set idle_in_transaction_session_timeout = 0").await.unwrap();
    somebody.run("lock", "begin; lock table s0001_g1.memories in access exclusive mode").await.unwrap();
    client.batch_execute(&insert("s0002_g1", "a")).await.unwrap();
    let counted = place.until(&agent, "one row of shard 2", |status| rows(status, 2, 1).map(|_| status.clone())).await;
    let locked = table(&counted, 1).unwrap();
    assert!((1..=2).contains(&locked.rows) && locked.bytes > 0);
    somebody.run("end", "rollback").await.unwrap();
    place.until(&agent, "two rows of shard 1", |status| rows(status, 1, 2)).await;
    agent.stop();
}

fn table(status: &AgentStatus, shard: u32) -> Option<&TableStats> {
    status.tables.iter().find(|table| table.shard == Some(ShardId(shard)))
}

/// The table of a shard, when it has this many rows.
fn rows(status: &AgentStatus, shard: u32, rows: u64) -> Option<TableStats> {
    table(status, shard).filter(|table| table.rows == rows).cloned()
}
