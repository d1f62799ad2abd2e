//! Coordinators in this process, talking over real loopback HTTP.

#![allow(clippy::unwrap_used, missing_docs, unreachable_pub, dead_code)]

pub mod agent;

use atoll::raft::{CatalogNode, FirstStart, RaftSettings};
use atoll_proto::agent::RegisterWorker;
use atoll_trust::ClusterSecret;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

pub const PATIENCE: Duration = Duration::from_secs(40);

pub fn secret() -> ClusterSecret {
    ClusterSecret::new("test secret")
}

pub fn deadline() -> Instant {
    Instant::now() + PATIENCE
}

/// One coordinator and its internal listener.
pub struct Coordinator {
    pub node: CatalogNode,
    pub internal: String,
    pub dir: TempDir,
    address: SocketAddr,
    server: JoinHandle<()>,
}

/// What a coordinator leaves behind when it dies.
pub struct Remains {
    pub dir: TempDir,
    address: SocketAddr,
    pub internal: String,
}

impl Coordinator {
    pub async fn bootstrap(initial_groups: u32) -> Self {
        let first_start = FirstStart::Bootstrap { shard_count: 12, initial_groups, replicas: 1 };
        Self::start(tempfile::tempdir().unwrap(), "127.0.0.1:0".parse().unwrap(), first_start).await
    }

    pub async fn join(others: &[&Self]) -> Self {
        let first_start = FirstStart::Join(others.iter().map(|other| other.internal.clone()).collect());
        Self::start(tempfile::tempdir().unwrap(), "127.0.0.1:0".parse().unwrap(), first_start).await
    }

    pub async fn start(dir: TempDir, address: SocketAddr, first_start: FirstStart) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let internal = format!("http://{address}");
        let settings = settings(dir.path(), &internal, first_start);
        let node =
            eventually("the data directory is free", async || match CatalogNode::start(settings.clone()).await {
                Ok(node) => Ok(node),
                Err(error) => Err(format!("{error:?}")),
            })
            .await;
        let router = atoll::http::internal::router(node.clone(), secret());
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { node, internal, dir, address, server }
    }

    /// Ends it without telling Raft, as far as that can be had in one process.
    pub async fn kill(self) -> Remains {
        self.server.abort();
        let _ = self.server.await;
        Remains { dir: self.dir, address: self.address, internal: self.internal }
    }
}

impl Remains {
    pub async fn restart(self, first_start: FirstStart) -> Coordinator {
        Coordinator::start(self.dir, self.address, first_start).await
    }
}

pub fn settings(dir: &Path, internal: &str, first_start: FirstStart) -> RaftSettings {
    RaftSettings {
        tls: None,
        data_dir: dir.to_path_buf(),
        first_start,
        secret: secret(),
        http: format!("{internal}/http"),
        internal: internal.to_owned(),
    }
}

/// Asks until the answer is good; fails with the last bad one.
pub async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Result<T, String>) -> T {
    let deadline = deadline();
    loop {
        match ask().await {
            Ok(found) => return found,
            Err(last) if Instant::now() > deadline => panic!("not in time: {what}: {last}"),
            Err(_) => sleep(Duration::from_millis(20)).await,
        }
    }
}

pub fn worker(name: &str, agent_url: &str) -> RegisterWorker {
    RegisterWorker { agent_url: agent_url.to_owned(), ..atoll_core::catalog::testing::worker(name) }
}
