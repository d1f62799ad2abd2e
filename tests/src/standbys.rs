//! Groups of three workers: asked for, waited for until they are whole, and for what they hold.

use crate::client::Client;
use crate::poll;
use serde_json::Value;
use std::collections::BTreeSet;
use std::time::Duration;

/// A member may have to be copied anew.
const WHOLE_PATIENCE: Duration = Duration::from_secs(90);

/// What is said, as it should be, of a primary that is lost, besides what is said of any worker: of writes that were under way, of what went on
/// on its server, and of members that become what they are not yet.
pub const PRIMARY_LOSS: [&str; 6] = [
    r#""code":"write-outcome-unknown""#,
    r#""code":"deadline-exceeded""#,
    "a shard's part of a batch was not written",
    "trying again later",
    "some metrics of PostgreSQL are missing",
    "the group's record cannot be followed yet",
];

/// All groups, as operators see them.
pub async fn groups(client: &Client) -> Vec<Value> {
    let list = client.get("/v1/admin/groups").await.expect(200).json();
    list["groups"].as_array().expect("a list of groups").clone()
}

/// One of them.
pub async fn group(client: &Client, name: &str) -> Value {
    let found = groups(client).await.into_iter().find(|group| group["group"] == name);
    found.unwrap_or_else(|| panic!("there is no group {name}"))
}

/// Its primary's name.
pub async fn primary(client: &Client, name: &str) -> String {
    group(client, name).await["primary"].as_str().expect("a group has a primary").to_owned()
}

/// Whether so many workers of a group are up and in sync, and the standbys receive from the primary. One that is rewound is in sync too, for
/// only it may have some acknowledged write; but it is one more that is away.
pub fn is_whole(group: &Value, workers: u16) -> bool {
    let members = group["members"].as_array().into_iter().flatten();
    let well = members.filter(|member| member["up"] == true && member["lag_bytes"].is_u64()).count();
    let in_sync = group["in_sync"].as_array().map_or(0, Vec::len);
    group["phase"] == "steady" && in_sync == usize::from(workers) && well == usize::from(workers)
}

/// Waits until all groups have three workers that are up and in sync.
pub async fn whole(client: &Client) {
    poll::until("all groups to be whole", WHOLE_PATIENCE, async || {
        let groups = groups(client).await;
        if groups.iter().all(|group| is_whole(group, 3)) { Ok(()) } else { Err(format!("{groups:?}")) }
    })
    .await;
}

/// Fails if a key is lost that was acknowledged, or if there are two entries of one.
pub async fn holds(client: &Client, collection: &str, acknowledged: &BTreeSet<String>) {
    let mut found = BTreeSet::new();
    for entry in client.export(collection, None).await {
        let key = entry["key"].as_str().expect("an entry has a key").to_owned();
        assert!(found.insert(key), "doubled: {entry}");
    }
    let lost: Vec<&String> = acknowledged.difference(&found).collect();
    assert!(lost.is_empty(), "{} of {} acknowledged writes are lost: {lost:?}", lost.len(), acknowledged.len());
}
