//! A coordinator that registers every worker and hands out whatever desired state the story set.

use super::{CLUSTER, GROUP, SECRET, WORKER, desired};
use atoll_proto::WorkerId;
use atoll_proto::agent::{DesiredState, REGISTER_PATH, RegisterWorker, Registered};
use axum::extract::State;
use axum::http::HeaderMap;
use axum::routing::post;
use axum::{Json, Router};
use std::sync::{Arc, Mutex};

#[derive(Clone)]
pub(crate) struct FakeCoordinator {
    pub(crate) port: u16,
    said: Arc<Mutex<Said>>,
}

struct Said {
    cluster_id: String,
    worker: WorkerId,
    desired: DesiredState,
    asked: Vec<RegisterWorker>,
}

impl FakeCoordinator {
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let desired = desired(1, Vec::new(), Vec::new());
        let said = Said { cluster_id: CLUSTER.to_owned(), worker: WORKER, desired, asked: Vec::new() };
        let this = Self { port, said: Arc::new(Mutex::new(said)) };
        let routes = Router::new().route(REGISTER_PATH, post(register)).with_state(this.clone());
        tokio::spawn(axum::serve(listener, routes).into_future());
        this
    }

    pub(crate) fn set_desired(&self, desired: DesiredState) {
        self.said.lock().unwrap().desired = desired;
    }

    /// The id that whoever registers gets.
    pub(crate) fn set_worker(&self, worker: WorkerId) {
        self.said.lock().unwrap().worker = worker;
    }

    pub(crate) fn set_cluster(&self, cluster_id: &str) {
        let mut said = self.said.lock().unwrap();
        said.cluster_id = cluster_id.to_owned();
        said.desired.cluster_id = cluster_id.to_owned();
    }

    pub(crate) fn asked(&self) -> Vec<RegisterWorker> {
        self.said.lock().unwrap().asked.clone()
    }
}

async fn register(
    State(this): State<FakeCoordinator>,
    headers: HeaderMap,
    Json(request): Json<RegisterWorker>,
) -> Json<Registered> {
    assert_eq!(headers["authorization"], format!("Bearer {SECRET}"));
    let mut said = this.said.lock().unwrap();
    said.asked.push(request);
    let (cluster_id, worker, desired) = (said.cluster_id.clone(), said.worker, said.desired.clone());
    Json(Registered { cluster_id, worker, group: GROUP, desired })
}
