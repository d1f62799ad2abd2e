//! Moves of shards: begun, waited for, and what they must not leave behind.

use crate::client::Client;
use crate::cluster::Cluster;
use crate::poll;
use crate::sql;
use serde_json::{Value, json};
use std::time::Duration;

const MOVE_PATIENCE: Duration = Duration::from_secs(180);

/// What an agent says of a build that had to make way for a fence.
pub const GRAPH_SENT_AWAY: &str = "graph of a namespace not done, trying again later";

/// What there may be of a move on a server.
const LEFT: &str = "
    select 'slot ' || slot_name from pg_replication_slots where not temporary
    union all select 'publication ' || pubname from pg_publication
    union all select 'subscription ' || subname from pg_subscription
    union all select 'schema ' || nspname from pg_namespace where nspname like 'retired%'
    union all select 'right to ' || nspname from pg_namespace
               where nspname ~ '^(atoll|s[0-9]{4}_)' and has_schema_privilege('atoll_move', oid, 'usage')
    union all select 'markers ' || c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace
               where n.nspname = 'atoll' and c.relname ~ '^move_[0-9]+$'";

/// The shard of a namespace, and the group that owns it.
pub async fn shard_of(client: &Client, collection: &str, namespace: &str) -> (u64, String) {
    let shown = client.get(&format!("/v1/collections/{collection}/namespaces/{namespace}")).await.expect(200).json();
    let group = shown["group"].as_str().expect("a namespace lies on a group").to_owned();
    (shown["shard"].as_u64().expect("a namespace lies in a shard"), group)
}

/// Begins a move; gives its id.
pub async fn begin(client: &Client, shard: u64, to: &str) -> u64 {
    let answer = client.post("/v1/admin/moves", &json!({"shard": shard, "to": to})).await.expect(200).json();
    answer["id"].as_u64().expect("a move has an id")
}

/// Waits until a move is over; gives its last word.
pub async fn wait_over(client: &Client, id: u64) -> Value {
    poll::until("the move to be over", MOVE_PATIENCE, async || {
        let answer = client.get(&format!("/v1/admin/moves/{id}")).await;
        let told = answer.text();
        let over = answer.status == 200
            && ["done", "cancelled", "failed"].iter().any(|phase| answer.json()["phase"] == **phase);
        if over { Ok(answer.json()) } else { Err(told) }
    })
    .await
}

/// Waits until a move is in this phase or a later one of those named.
pub async fn wait_for_phase(client: &Client, id: u64, phases: &[&str]) -> Value {
    poll::until("the move to get there", MOVE_PATIENCE, async || {
        let answer = client.get(&format!("/v1/admin/moves/{id}")).await;
        let told = answer.text();
        let there = answer.status == 200 && phases.iter().any(|phase| answer.json()["phase"] == **phase);
        if there { Ok(answer.json()) } else { Err(told) }
    })
    .await
}

/// Waits until each server has the schemas of the shards that its group owns, and nothing else of shards or of moves.
pub async fn wait_nothing_left(cluster: &Cluster, client: &Client) {
    poll::until("nothing to be left of moves", Duration::from_secs(60), async || {
        let shards = client.get("/v1/admin/shards").await.expect(200).json();
        for worker in cluster.layout().workers {
            let mut left = sql::try_rows(&worker.dsn, LEFT).await?;
            let schemas = "select nspname from pg_namespace where nspname ~ '^s[0-9]{4}_g'";
            let mut there = sql::try_rows(&worker.dsn, schemas).await?;
            let all = shards["shards"].as_array().into_iter().flatten();
            let own = all.filter(|shard| shard["group"] == worker.group.as_str());
            let mut owned: Vec<String> = own.filter_map(|shard| Some(shard["schema"].as_str()?.to_owned())).collect();
            there.sort();
            owned.sort();
            if there != owned {
                left.push(format!("schemas {there:?} instead of {owned:?}"));
            }
            if !left.is_empty() {
                return Err(format!("{}: {left:?}", worker.name));
            }
        }
        Ok(())
    })
    .await;
}
