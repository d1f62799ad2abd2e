//! What tests make catalogs of, here and in the crates that use this one.

#![allow(missing_docs, clippy::unwrap_used)]

use super::{Catalog, Command};
use atoll_proto::CoordinatorId;
use atoll_proto::agent::{PostgresAddress, PostgresFacts, RegisterWorker, WorkerMode};
use atoll_proto::group::Incarnation;

pub fn init(shard_count: u32, initial_groups: u32) -> Command {
    init_replicated(shard_count, initial_groups, 1)
}

/// Groups have so many workers.
pub fn init_replicated(shard_count: u32, initial_groups: u32, replicas: u32) -> Command {
    Command::InitCluster {
        cluster_id: "c".to_owned(),
        shard_count,
        initial_groups,
        replicas,
        coordinator: CoordinatorId(1),
        http: "http://127.0.0.1:7700".to_owned(),
        internal: "http://127.0.0.1:7750".to_owned(),
    }
}

/// A worker in a group of its own.
pub fn worker(name: &str) -> RegisterWorker {
    RegisterWorker {
        uid: format!("uid of {name}"),
        name: name.parse().unwrap(),
        group: None,
        mode: WorkerMode::External,
        agent_url: "http://127.0.0.1:7800".to_owned(),
        postgres: PostgresAddress { host: "127.0.0.1".to_owned(), port: 7900, database: "atoll".to_owned() },
        facts: PostgresFacts {
            version: "18.4".to_owned(),
            version_num: 180_004,
            pgvector: "0.8.5".to_owned(),
            system_identifier: format!("system of {name}"),
            max_connections: 100,
            cores: 2,
        },
        capacity: 100,
        incarnation: None,
        follows: false,
    }
}

/// A worker of a group with standbys.
pub fn member(name: &str, group: &str) -> RegisterWorker {
    RegisterWorker { group: Some(group.parse().unwrap()), incarnation: Some(Incarnation(1)), ..worker(name) }
}

/// Four shards on the groups of the first two workers, and all collections settled.
pub fn two_groups(workers: &[&str]) -> Catalog {
    let mut catalog = Catalog::default();
    let names = workers.iter().map(|name| Command::RegisterWorker(worker(name)));
    for (index, command) in (1..).zip(std::iter::once(init(4, 2)).chain(names)) {
        catalog.apply(index, command);
    }
    let (id, changed_at) = catalog.collections.iter().map(|(id, one)| (*id, one.changed_at)).next().unwrap();
    catalog.apply(workers.len() as u64 + 2, Command::SettleCollection { id, changed_at });
    catalog
}
