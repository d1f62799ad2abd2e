//! A group of three changes its primary by hand, under writers: to a standby that is named, then to the only one that is left.
//! No write fails and nothing acknowledged is lost, whoever was primary follows, and what can't be done is refused
//! with the reason.

#![allow(clippy::unwrap_used)]

use cluster_tests::client::Request;
use cluster_tests::command_line::CommandLine;
use cluster_tests::standbys::{group, holds, primary, whole};
use cluster_tests::traffic::{Asked, Traffic};
use cluster_tests::{Client, Cluster, ClusterOptions, poll};
use http::Method;
use serde_json::json;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

const WRITERS: u64 = 3;
/// Acknowledged writes, of each writer, that make a loss mean something.
const ENOUGH: usize = 40;
const PATIENCE: Duration = Duration::from_secs(60);

/// What is said of servers that stop, of one that is killed, and of members that become what they are not yet.
const EXPECTED: [&str; 11] = [
    r#""code":"shard-unavailable""#,
    r#""code":"write-outcome-unknown""#,
    r#""code":"deadline-exceeded""#,
    r#""code":"not-enough-replicas""#,
    "a shard's part of a batch was not written",
    "the agent does not answer",
    "PostgreSQL does not serve",
    "desired state not applied",
    "the agent could not apply the desired state; will retry",
    "trying again later",
    "the group's record cannot be followed yet",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn switches_over() {
    let options = ClusterOptions::new("switches_over").workers(3).replicas(3);
    let mut cluster = Cluster::start(options).await;
    let (client, atoll) = (cluster.client(), CommandLine::new(cluster.client().base()));
    client.put("/v1/collections/c", &json!({"dimensions": 3})).await.expect(201);
    whole(&client).await;
    let mut acknowledged = BTreeSet::new();

    refuses_what_is_not_needed(&client, &atoll).await;

    // To the one that is named.
    let (old, new) = (primary(&client, "g1").await, standbys(&client).await.remove(1));
    let writers = Writers::begin(&cluster, 0).await;
    let began = Instant::now();
    let shown = atoll.json(&["group", "failover", "g1", "--to", &new]).await;
    assert_eq!((&shown["primary"], &shown["phase"]), (&json!(new), &json!("steady")), "{shown}");
    writers.end("to a named standby", began, &mut acknowledged).await;
    whole(&client).await;
    shows_how_members_stand(&client, &atoll, &new).await;
    holds(&client, "c", &acknowledged).await;

    // To the one that is left, while another is away.
    let away = cluster.layout().workers.into_iter().find(|worker| worker.name == old).unwrap();
    cluster.kill_worker(&away).await;
    poll::until("it leaves the set", PATIENCE, async || {
        let group = group(&client, "g1").await;
        if group["in_sync"].as_array().map_or(0, Vec::len) == 2 { Ok(()) } else { Err(group.to_string()) }
    })
    .await;
    let refused = atoll.run(&["group", "failover", "g1", "--to", &old]).await.expect(1);
    refused.complains(&["is not in sync and may lack acknowledged writes", "atoll group list"]);
    let found = client.get("/v1/admin/findings").await.expect(200).text();
    assert!(found.contains("group-short") && found.contains("worker-down"), "{found}");
    assert_eq!(metric(&client, "atoll_group_in_sync{group=\"g1\"}").await, Some(2.0));
    let writers = Writers::begin(&cluster, 1).await;
    let began = Instant::now();
    atoll.run(&["group", "failover", "g1"]).await.expect(0).prints(&["steady"]);
    writers.end("to the only one left", began, &mut acknowledged).await;
    let now = primary(&client, "g1").await;
    assert!(now != old && now != new, "{now} is the primary");
    cluster.start_member(&old);
    whole(&client).await;
    holds(&client, "c", &acknowledged).await;

    holds(&client, "c", &acknowledged).await;
    let planned = "atoll_failovers_total{group=\"g1\",kind=\"planned\"}";
    let (planned, lost) = (metric(&client, planned).await, metric(&client, &planned.replace("planned", "lost")).await);
    assert!(planned.is_some_and(|planned| planned >= 2.0) && lost.is_none(), "{planned:?} were planned, {lost:?} not");
    assert_eq!(metric(&client, "atoll_group_has_primary{group=\"g1\"}").await, Some(1.0));
    println!("{} acknowledged writes outlived them all", acknowledged.len());
    cluster.finish(&EXPECTED).await;
}

async fn refuses_what_is_not_needed(client: &Client, atoll: &CommandLine) {
    let primary = primary(client, "g1").await;
    let run = async |arguments: &[&str], code| atoll.run(arguments).await.expect(code);
    run(&["group", "failover", "g9"], 1).await.complains(&["there is no group g9"]);
    run(&["group", "failover", "g1", "--to", "w9"], 1).await.complains(&["has no worker w9; it has w1, w2, w3"]);
    run(&["group", "failover", "g1", "--to", &primary], 1).await.complains(&["is the primary of group g1 already"]);
    let standby = standbys(client).await.remove(0);
    let accept = ["group", "accept-loss", "g1", "--survivor", &standby];
    run(&accept, 2).await.complains(&["--yes agrees to the loss"]);
    let yes: Vec<&str> = accept.iter().copied().chain(["--yes"]).collect();
    run(&yes, 1).await.complains(&["has every acknowledged write, so nothing needs to be lost", "choose"]);
    let unknown = json!({"too": "w2"});
    client.post("/v1/admin/groups/g1/failover", &unknown).await.expect_problem(422, "validation-failed");
}

/// By the command and by metrics: who is what, and that nobody who is in sync lies behind for long.
async fn shows_how_members_stand(client: &Client, atoll: &CommandLine, primary: &str) {
    poll::until("nobody to lie behind", PATIENCE, async || {
        let shown = atoll.json(&["group", "list"]).await;
        let group = shown["groups"][0].clone();
        let members = group["members"].as_array().unwrap();
        for member in members {
            let role = if member["worker"] == primary { "primary" } else { "standby" };
            assert_eq!(member["role"], role, "{shown}");
        }
        let none_lags = members.iter().all(|member| member["lag_bytes"] == 0 && member["lag_seconds"] == 0.0);
        let all_told = members.iter().all(|member| member["position"]["generation"] == group["generation"]);
        if none_lags && all_told && members.len() == 3 { Ok(()) } else { Err(shown.to_string()) }
    })
    .await;
    atoll.run(&["group", "list"]).await.expect(0).prints(&[
        "PHASE",
        "steady",
        "ROLE",
        "standby  yes  yes",
        "0 B  0.0 s",
    ]);
    for standby in standbys(client).await {
        let lag = format!("replication_lag_seconds{{group=\"g1\",worker=\"{standby}\"}}");
        assert_eq!(metric(client, &lag).await, Some(0.0), "{lag}");
    }
}

/// Three writers, each in a namespace of its own.
struct Writers {
    round: u64,
    traffic: Vec<(u64, Traffic)>,
}

impl Writers {
    /// Begins, and waits until they have written something.
    async fn begin(cluster: &Cluster, round: u64) -> Self {
        let one = |writer| {
            (writer, Traffic::begin(cluster.client(), move |client, number| write(client, round, writer, number)))
        };
        let traffic: Vec<(u64, Traffic)> = (0..WRITERS).map(one).collect();
        for (_, writer) in &traffic {
            writer.wait_for_successes(ENOUGH, PATIENCE).await;
        }
        Self { round, traffic }
    }

    /// Ends them when they have written on, and notes what was acknowledged.
    async fn end(self, what: &str, began: Instant, acknowledged: &mut BTreeSet<String>) {
        for (writer, traffic) in self.traffic {
            traffic.wait_for_successes(ENOUGH, PATIENCE).await;
            let asked = traffic.end().await;
            println!("{what}: writer {writer} went {} ms without an acknowledged write", gap_ms(&asked, began));
            let failed: Vec<&Asked> = asked.iter().filter(|one| !one.succeeded()).collect();
            assert!(failed.is_empty(), "{what}: writer {writer} was refused, though it had time to wait: {failed:?}");
            let kept = asked.iter().filter(|one| one.succeeded());
            acknowledged.extend(kept.map(|one| key(self.round, writer, one.number)));
        }
    }
}

fn key(round: u64, writer: u64, number: u64) -> String {
    format!("{round}-{writer}-{number}")
}

fn write<'a>(client: &'a Client, round: u64, writer: u64, number: u64) -> Request<'a> {
    let path = format!("/v1/collections/c/namespaces/n{writer}/entries/{}", key(round, writer, number));
    client.request(Method::PUT, &path).header("x-timeout-ms", "15000").json(&json!({"vector": [writer + 1, number, 1]}))
}

/// Longest time between two acknowledged writes, from `began` on.
fn gap_ms(asked: &[Asked], began: Instant) -> u128 {
    let ended: Vec<Instant> = asked.iter().filter(|one| one.succeeded()).map(|one| one.ended).collect();
    let gaps = ended.windows(2).filter(|pair| pair[1] > began).map(|pair| pair[1] - pair[0]);
    gaps.max().unwrap_or_default().as_millis()
}

async fn standbys(client: &Client) -> Vec<String> {
    let group = group(client, "g1").await;
    let members = group["members"].as_array().unwrap();
    let standbys = members.iter().filter(|member| member["role"] == "standby");
    standbys.map(|member| member["worker"].as_str().unwrap().to_owned()).collect()
}

async fn metric(client: &Client, series: &str) -> Option<f64> {
    let text = client.get("/metrics").await.expect(200).text();
    text.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
}
