//! Workers register over the internal listener, the leader tells their agents, and collections settle.

#![allow(clippy::unwrap_used)]

mod support;

use atoll::agents::{AgentBoard, AgentClient};
use atoll::freshness::Freshness;
use atoll::internal_client::{CallError, InternalClient};
use atoll::settle::{SettleWait, Settler, wait_settled};
use atoll_core::catalog::{Command, Outcome};
use atoll_proto::CollectionSettings;
use atoll_proto::agent::{REGISTER_PATH, Registered};
use atoll_proto::collection::CollectionState;
use atoll_proto::problem::ProblemCode;
use std::time::Duration;
use support::agent::FakeAgent;
use support::{Coordinator, deadline, eventually, secret, worker};
use tokio::time::Instant;

async fn register(coordinator: &Coordinator, name: &str, agent: &FakeAgent) -> Result<Registered, CallError> {
    let client = InternalClient::new(&secret(), None);
    client.post(&coordinator.internal, REGISTER_PATH, &worker(name, &agent.url), deadline()).await
}

fn board_of(coordinator: &Coordinator) -> AgentBoard {
    AgentBoard::start(
        AgentClient::new(coordinator.node.client().clone()),
        coordinator.node.watch(),
        Freshness::new(std::time::Duration::from_secs(1)),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collection_settles_when_every_agent_has_applied_it() {
    let first = Coordinator::bootstrap(2).await;
    let second = Coordinator::join(&[&first]).await;
    let boards = [board_of(&first), board_of(&second)];
    let _settlers =
        [Settler::start(first.node.clone(), boards[0].clone()), Settler::start(second.node.clone(), boards[1].clone())];
    let agents = [FakeAgent::start().await, FakeAgent::start().await];

    let registered = register(&first, "w1", &agents[0]).await.unwrap();
    assert_eq!(registered.cluster_id, first.node.cluster_id());
    assert!(registered.desired.shards.is_empty(), "one group of two");
    let (id, changed_at) =
        first.node.view().catalog.unsettled().map(|(id, known)| (id, known.changed_at)).next().unwrap();
    eventually("both settlers had a look at the agent", async || match agents[0].state.lock().unwrap().asked {
        0..3 => Err("not yet".to_owned()),
        _ => Ok(()),
    })
    .await;
    let waited = wait_settled(&first.node, &boards[0], id, changed_at, Instant::now()).await;
    assert_eq!(waited, SettleWait::NotPlaced, "nothing settles before shards are placed");
    agents[1].state.lock().unwrap().failing = true;
    let registered = register(&second, "w2", &agents[1]).await.unwrap();
    assert_eq!(registered.desired.shards.len(), 6);

    let (id, changed_at) = {
        let view = second.node.view();
        let (id, collection) = view.catalog.unsettled().next().unwrap();
        (id, collection.changed_at)
    };
    eventually("the first agent was told of its shards", async || {
        let state = agents[0].state.lock().unwrap();
        let shards = state.last.as_ref().map(|desired| desired.shards.len());
        if shards == Some(6) { Ok(()) } else { Err(format!("{shards:?}")) }
    })
    .await;
    eventually("the second agent was asked more than once", async || {
        let count = agents[1].state.lock().unwrap().count;
        if count > 1 { Ok(()) } else { Err(count.to_string()) }
    })
    .await;
    eventually("only the failing group is waited for", async || {
        let soon = Instant::now() + Duration::from_millis(50);
        let waited = wait_settled(&second.node, &boards[1], id, changed_at, soon).await;
        if waited == (SettleWait::Behind { groups: vec!["w2".to_owned()] }) {
            Ok(())
        } else {
            Err(format!("{waited:?}"))
        }
    })
    .await;

    agents[1].state.lock().unwrap().failing = false;
    assert_eq!(wait_settled(&second.node, &boards[1], id, changed_at, deadline()).await, SettleWait::Settled);
    assert_eq!(second.node.view().catalog.collections[&id].state, CollectionState::Active);

    let drop = Command::DropCollection { id };
    let Outcome::CollectionPut { id, changed_at } = second.node.propose(drop, deadline()).await.unwrap().outcome else {
        panic!("it is there");
    };
    assert_eq!(wait_settled(&second.node, &boards[1], id, changed_at, deadline()).await, SettleWait::Settled);
    assert!(second.node.view().catalog.collections.is_empty());
    for agent in &agents {
        let dropping = agent.state.lock().unwrap().last.as_ref().unwrap().dropping.len();
        assert_eq!(dropping, 1, "a table is dropped only when it is named");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_leader_goes_on_settling() {
    let first = Coordinator::bootstrap(1).await;
    let second = Coordinator::join(&[&first]).await;
    let third = Coordinator::join(&[&first]).await;
    let survivors = [&second, &third].map(|coordinator| {
        let board = board_of(coordinator);
        (Settler::start(coordinator.node.clone(), board.clone()), board)
    });
    let agent = FakeAgent::start().await;
    register(&second, "w1", &agent).await.unwrap();
    eventually("both others vote", async || {
        let voters = first.node.cluster_info().coordinators.iter().filter(|known| known.role == "voter").count();
        if voters == 3 { Ok(()) } else { Err(voters.to_string()) }
    })
    .await;
    let put = Command::PutCollection { name: "notes".parse().unwrap(), settings: CollectionSettings::memory_entries() };
    let Outcome::CollectionPut { id, changed_at } = second.node.propose(put, deadline()).await.unwrap().outcome else {
        panic!("a new name");
    };
    first.kill().await;
    let waited = wait_settled(&second.node, &survivors[0].1, id, changed_at, deadline()).await;
    assert_eq!(waited, SettleWait::Settled);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn registering_again_writes_nothing_and_a_refusal_says_why() {
    let only = Coordinator::bootstrap(1).await;
    let agent = FakeAgent::start().await;
    let registered = register(&only, "w1", &agent).await.unwrap();
    let before = only.node.cluster_info().applied_index;
    let again = register(&only, "w1", &agent).await.unwrap();
    assert_eq!((again.worker, again.group), (registered.worker, registered.group));

    let mut stranger = worker("w1", &agent.url);
    stranger.uid = "another".to_owned();
    let client = InternalClient::new(&secret(), None);
    let refused: Result<Registered, _> = client.post(&only.internal, REGISTER_PATH, &stranger, deadline()).await;
    let Err(CallError::Refused { problem, .. }) = refused else { panic!("{refused:?}") };
    assert_eq!(problem.status, 409);
    assert!(problem.detail.contains("belongs to another worker"), "{}", problem.detail);
    assert_eq!(only.node.cluster_info().applied_index, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_gets_in_without_the_secret_or_with_the_wrong_address() {
    let only = Coordinator::bootstrap(1).await;
    let stranger = InternalClient::new(&atoll_trust::ClusterSecret::new("a guess"), None);
    for path in ["/internal/healthz", "/raft/v1/vote", "/nowhere"] {
        let refused: Result<serde_json::Value, _> = stranger.get(&only.internal, path, deadline()).await;
        let Err(CallError::Refused { problem, .. }) = refused else { panic!("{refused:?}") };
        assert_eq!(problem.code, ProblemCode::Unauthenticated, "{path}");
    }
    let member = InternalClient::new(&secret(), None);
    let vote =
        serde_json::json!({"vote": {"leader_id": {"term": 9, "node_id": 2}, "committed": false}, "last_log_id": null});
    // Not even what would stop a coordinator that it is meant for.
    let newer = serde_json::json!({"entries": [{"payload": {"Normal": {"format": 4_711, "command": {}}}}]});
    for (cluster_id, target) in [("another", 1), (only.node.cluster_id(), 2)] {
        let message = serde_json::json!({"cluster_id": cluster_id, "target": target, "message": newer});
        let refused: Result<serde_json::Value, _> =
            member.post(&only.internal, "/raft/v1/append", &message, deadline()).await;
        assert!(matches!(refused, Err(CallError::Refused { .. })), "{refused:?}");
        let message = serde_json::json!({"cluster_id": cluster_id, "target": target, "message": vote});
        let refused: Result<serde_json::Value, _> =
            member.post(&only.internal, "/raft/v1/vote", &message, deadline()).await;
        let Err(CallError::Refused { problem, .. }) = refused else { panic!("{refused:?}") };
        assert_eq!(problem.code, ProblemCode::Forbidden);
    }
    assert_eq!(only.node.cluster_info().term, 1, "nothing reached raft");
}
