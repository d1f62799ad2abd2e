//! An agent without a server: it takes every desired state, unless told to fail, and says so.

use atoll_proto::agent::{AgentStatus, Applied, DESIRED_PATH, DesiredState, STATUS_PATH};
use atoll_proto::problem::{Problem, ProblemCode};
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, put};
use axum::{Json, Router};
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;

#[derive(Clone)]
pub struct FakeAgent {
    pub url: String,
    pub state: Arc<Mutex<Received>>,
}

#[derive(Default)]
pub struct Received {
    pub failing: bool,
    pub last: Option<DesiredState>,
    pub count: usize,
    /// How often its status was asked for.
    pub asked: usize,
}

impl FakeAgent {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(Received::default()));
        let router =
            Router::new().route(STATUS_PATH, get(status)).route(DESIRED_PATH, put(desired)).with_state(state.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, state }
    }
}

async fn status(State(state): State<Arc<Mutex<Received>>>) -> Json<AgentStatus> {
    let mut state = state.lock().unwrap();
    state.asked += 1;
    Json(AgentStatus {
        name: "fake".parse().unwrap(),
        worker: None,
        postgres_up: true,
        facts: None,
        postgres_pid: None,
        data_dir: None,
        applied: state.last.as_ref().map(|desired| desired.catalog_version),
        apply_error: None,
        bytes: 0,
        tables: Vec::new(),
        stats_age_seconds: None,
        builds: Vec::new(),
        counting: false,
        settled: None,
        moves: Vec::new(),
        member: None,
    })
}

async fn desired(
    State(state): State<Arc<Mutex<Received>>>,
    Json(desired): Json<DesiredState>,
) -> Result<Json<Applied>, (StatusCode, Json<Problem>)> {
    let mut state = state.lock().unwrap();
    state.count += 1;
    if state.failing {
        let problem = Problem::new(ProblemCode::Internal, "told to fail");
        return Err((StatusCode::INTERNAL_SERVER_ERROR, Json(problem)));
    }
    let catalog_version = desired.catalog_version;
    state.last = Some(desired);
    Ok(Json(Applied { catalog_version }))
}
