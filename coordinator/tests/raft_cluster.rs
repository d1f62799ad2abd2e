//! The replicated catalog over real HTTP: one coordinator, three, failover, restart, leave.

#![allow(clippy::unwrap_used)]

mod support;

use atoll::raft::{CatalogNode, FirstStart, Hop, MembershipError, OpenLogError, StartError};
use atoll_core::catalog::{Command, Outcome};
use atoll_proto::CollectionSettings;
use support::{Coordinator, deadline, eventually, settings};

fn put(name: &str) -> Command {
    Command::PutCollection { name: name.parse().unwrap(), settings: CollectionSettings::memory_entries() }
}

async fn put_collection(node: &CatalogNode, name: &str) {
    let proposed = node.propose(put(name), deadline()).await.unwrap();
    assert!(matches!(proposed.outcome, Outcome::CollectionPut { .. }), "{proposed:?}");
    assert!(has(node, name), "who proposes reads its own change");
}

fn has(node: &CatalogNode, name: &str) -> bool {
    node.view().collection(&name.parse().unwrap()).is_some()
}

async fn voters_are(node: &CatalogNode, expected: usize) {
    eventually("the voters are as expected", async || {
        let coordinators = node.cluster_info().coordinators;
        let voters = coordinators.iter().filter(|coordinator| coordinator.role == "voter").count();
        if voters == expected && coordinators.len() == expected { Ok(()) } else { Err(format!("{coordinators:?}")) }
    })
    .await;
}

async fn three() -> [Coordinator; 3] {
    let first = Coordinator::bootstrap(1).await;
    let second = Coordinator::join(&[&first]).await;
    let third = Coordinator::join(&[&second, &first]).await;
    for coordinator in [&first, &second, &third] {
        voters_are(&coordinator.node, 3).await;
    }
    [first, second, third]
}

async fn leader_of(coordinators: &[Coordinator]) -> usize {
    eventually("there is one leader", async || {
        let position = coordinators.iter().position(|coordinator| coordinator.node.is_leader());
        position.ok_or_else(|| {
            format!("{:?}", coordinators.iter().map(|c| c.node.cluster_info().leader).collect::<Vec<_>>())
        })
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_single_coordinator_keeps_its_catalog_over_a_kill() {
    let only = Coordinator::bootstrap(1).await;
    put_collection(&only.node, "notes").await;
    let (cluster_id, before) = (only.node.cluster_id().to_owned(), only.node.view().catalog.clone());
    let remains = only.kill().await;
    let again = remains.restart(FirstStart::Bootstrap { shard_count: 99, initial_groups: 9, replicas: 1 }).await;
    assert_eq!(again.node.cluster_id(), cluster_id);
    assert_eq!(again.node.view().catalog, before, "replayed before start returned");
    put_collection(&again.node, "later").await;
    assert_eq!(again.node.cluster_info().shard_count, 12);
    again.node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proposal_reaches_the_leader_from_every_coordinator_and_survives_it() {
    let mut coordinators = three().await.map(Some);
    let all: Vec<&Coordinator> = coordinators.iter().flatten().collect();
    for (number, coordinator) in all.iter().enumerate() {
        put_collection(&coordinator.node, &format!("from_{number}")).await;
    }
    let before = coordinators[0].as_ref().unwrap().node.cluster_info();
    assert_eq!(before.leader.unwrap().0, 1);

    let dead = coordinators[0].take().unwrap().kill().await;
    let started = std::time::Instant::now();
    let survivor = &coordinators[1].as_ref().unwrap().node;
    put_collection(survivor, "after_failover").await;
    println!("failover and a write took {:?}", started.elapsed());
    assert_ne!(survivor.cluster_info().leader, before.leader);

    let back = dead.restart(FirstStart::Bootstrap { shard_count: 12, initial_groups: 1, replicas: 1 }).await;
    assert!(has(&back.node, "from_0"), "the view of before is there at once");
    eventually("the old leader has caught up", async || match has(&back.node, "after_failover") {
        true => Ok(()),
        false => Err(format!("{:?}", back.node.cluster_info())),
    })
    .await;
    put_collection(&back.node, "from_the_old_leader").await;
    eventually("everyone sees everyone", async || {
        let info = back.node.cluster_info();
        if info.coordinators.iter().all(|coordinator| coordinator.up) { Ok(()) } else { Err(format!("{info:?}")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_joins_after_compaction_has_an_equal_catalog() {
    let first = Coordinator::bootstrap(1).await;
    for number in 0..30 {
        put_collection(&first.node, &format!("collection_{number}")).await;
    }
    assert!(first.node.compact(deadline()).await);
    let second = Coordinator::join(&[&first]).await;
    voters_are(&second.node, 2).await;
    eventually("the catalogs are equal", async || {
        let (theirs, ours) = (second.node.view().catalog.clone(), first.node.view().catalog.clone());
        if theirs == ours { Ok(()) } else { Err(format!("{} and {}", theirs.version, ours.version)) }
    })
    .await;
    let remains = second.kill().await;
    let again = remains.restart(FirstStart::Join(Vec::new())).await;
    assert_eq!(again.node.view().catalog, first.node.view().catalog);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn coordinators_leave_the_leader_too_but_never_the_last() {
    let mut coordinators: Vec<Coordinator> = three().await.into();
    while coordinators.len() > 1 {
        let leader = coordinators.remove(leader_of(&coordinators).await);
        let id = leader.node.id();
        leader.node.remove_coordinator(id, Hop::First, deadline()).await.unwrap();
        for rest in &coordinators {
            eventually("the one that left is forgotten", async || {
                let info = rest.node.cluster_info();
                if info.coordinators.iter().all(|known| known.id != id) { Ok(()) } else { Err(format!("{info:?}")) }
            })
            .await;
        }
        leader.kill().await;
        put_collection(&coordinators[0].node, &format!("without_{id}")).await;
    }
    let last = &coordinators[0].node;
    let error = last.remove_coordinator(last.id(), Hop::First, deadline()).await.unwrap_err();
    assert!(matches!(error, MembershipError::LastVoter { .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_coordinator_without_its_log_does_not_start_and_does_not_get_its_id_again() {
    let first = Coordinator::bootstrap(1).await;
    let second = Coordinator::join(&[&first]).await;
    let third = Coordinator::join(&[&first]).await;
    voters_are(&first.node, 3).await;
    let id = second.node.id();
    let remains = second.kill().await;
    let join = FirstStart::Join(vec![first.internal.clone()]);
    let wiped = settings(remains.dir.path(), &remains.internal, join);
    std::fs::remove_file(remains.dir.path().join("raft.redb")).unwrap();
    let error = CatalogNode::start(wiped).await.err().unwrap();
    assert!(matches!(error, StartError::LogMissing { id: named, .. } if named == id), "{error:?}");

    let asked = atoll_proto::join::JoinCluster { http: "http://h".to_owned(), internal: remains.internal.clone() };
    let error = first.node.join(asked.clone(), Hop::First, deadline()).await.unwrap_err();
    assert!(matches!(error, MembershipError::AlreadyMember { id: named, .. } if named == id), "{error:?}");

    // A removal that is interrupted in its middle leaves an id that Raft knows and the catalog does not.
    first.node.propose(Command::RemoveCoordinator { id }, deadline()).await.unwrap();
    let joined = first.node.join(asked, Hop::First, deadline()).await.unwrap();
    assert!(joined.id > id, "an id is never used again");
    first.node.remove_coordinator(id, Hop::First, deadline()).await.unwrap();
    let error = first.node.remove_coordinator(id, Hop::First, deadline()).await.unwrap_err();
    assert!(matches!(error, MembershipError::NotFound { .. }), "{error:?}");
    drop(third);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_left_of_a_coordinator_is_not_taken_over() {
    let first = Coordinator::bootstrap(1).await;
    for number in 0..3 {
        put_collection(&first.node, &format!("collection_{number}")).await;
    }
    assert!(first.node.compact(deadline()).await);
    let remains = first.kill().await;
    let path = |name: &str| remains.dir.path().join(name);
    let start = || {
        let bootstrap = FirstStart::Bootstrap { shard_count: 12, initial_groups: 1, replicas: 1 };
        let settings = settings(remains.dir.path(), &remains.internal, bootstrap);
        // One that failed lets go of the log a moment later.
        eventually("the log is free", async move || {
            let error = CatalogNode::start(settings.clone()).await.err().unwrap();
            let in_use = matches!(error, StartError::Log(OpenLogError::InUse { .. }));
            if in_use { Err(error.to_string()) } else { Ok(error) }
        })
    };
    let hidden = |name: &str| {
        let (from, to) = (path(name), path(&format!("{name}.hidden")));
        std::fs::rename(&from, &to).unwrap();
        move || std::fs::rename(&to, &from).unwrap()
    };

    let back = hidden("catalog.json");
    let error = start().await;
    assert!(matches!(error, StartError::SnapshotMissing { .. }), "{error:?}");
    back();
    let (identity, log) = (hidden("identity.json"), hidden("raft.redb"));
    assert!(matches!(start().await, StartError::IdentityMissing { .. }));
    std::fs::remove_file(path("raft.redb")).unwrap();
    log();
    assert!(matches!(start().await, StartError::IdentityMissing { .. }));
    identity();

    for (name, newer) in [("catalog.json", r#"{"format":4711}"#), ("identity.json", r#"{"format":4711}"#)] {
        let back = hidden(name);
        std::fs::write(path(name), newer).unwrap();
        let error = start().await;
        let causes = atoll::telemetry::chain(&error);
        assert!(causes.contains("newer program (format 4711"), "{name}: {causes}");
        back();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_was_stopped_while_it_learned_asks_again() {
    let mut coordinators = vec![Coordinator::bootstrap(1).await];
    for _ in 0..5 {
        coordinators.push(Coordinator::join(&[&coordinators[0]]).await);
    }
    let roles = |of: &Coordinator| {
        let known = of.node.cluster_info().coordinators;
        known.into_iter().map(|known| (known.id, known.role == "voter")).collect::<Vec<_>>()
    };
    let learner = eventually("five vote", async || {
        let roles = roles(&coordinators[0]);
        let learner = roles.iter().find(|(_, votes)| !votes).map(|(id, _)| *id);
        let position = coordinators.iter().position(|one| Some(one.node.id()) == learner);
        let heard = position.is_some_and(|one| has(&coordinators[one].node, "memory_entries"));
        if roles.iter().filter(|(_, votes)| *votes).count() == 5 && heard {
            Ok(position.unwrap())
        } else {
            Err(format!("{roles:?}"))
        }
    })
    .await;
    let stopped = coordinators.remove(learner);
    let id = stopped.node.id();
    let remains = stopped.kill().await;
    let gone = coordinators.pop().unwrap();
    let first = &coordinators[0];
    first.node.remove_coordinator(gone.node.id(), Hop::First, deadline()).await.unwrap();
    let again = remains.restart(FirstStart::Join(vec![first.internal.clone()])).await;
    eventually("it votes", async || {
        let roles = roles(first);
        if roles.contains(&(id, true)) { Ok(()) } else { Err(format!("{roles:?}")) }
    })
    .await;
    drop((again, gone));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_vote_and_the_sixth_learns_until_there_is_room() {
    let mut coordinators = vec![Coordinator::bootstrap(1).await];
    for _ in 0..5 {
        coordinators.push(Coordinator::join(&[&coordinators[0]]).await);
    }
    let first = &coordinators[0].node;
    let voters = || {
        let info = first.cluster_info().coordinators;
        info.iter().filter(|known| known.role == "voter").map(|known| known.id).collect::<Vec<_>>()
    };
    let sixth = eventually("five vote, and the sixth hears of it", async || {
        let info = first.cluster_info();
        let learner = coordinators.iter().find(|one| !voters().contains(&one.node.id())).unwrap();
        let heard = learner.node.view().version == info.catalog_version;
        if voters().len() == 5 && heard { Ok(&learner.node) } else { Err(format!("{info:?}")) }
    })
    .await;
    put_collection(sixth, "by_a_learner").await;
    let removed = voters()[4];
    first.remove_coordinator(removed, Hop::First, deadline()).await.unwrap();
    sixth.add_coordinator(sixth.id(), Hop::First, deadline()).await.unwrap();
    eventually("the sixth votes", async || match voters().contains(&sixth.id()) {
        true => Ok(()),
        false => Err(format!("{:?}", voters())),
    })
    .await;
    assert!(!voters().contains(&removed));
}
