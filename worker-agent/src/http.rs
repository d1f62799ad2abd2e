//! The agent's own HTTP: what it knows, and what its server should be. The only place that knows axum.

use crate::desired::apply::{Applier, ApplyError};
use crate::failover::{Member, TellError};
use crate::moves::{MoveError, Mover};
use crate::pg::connect::{PgError, chain};
use crate::worker::Worker;
use atoll_proto::agent::{AgentStatus, Applied, DESIRED_PATH, DesiredState, STATUS_PATH};
use atoll_proto::group::{GROUP_PATH, Report, ToldGroup};
use atoll_proto::load::{DROP_PATIENCE, LOAD_PATH, LoadHeard, LoadReport};
use atoll_proto::moves::{MOVE_PATH, MoveOrder, MoveReport};
use atoll_proto::problem::{Problem, ProblemCode};
use atoll_trust::{Loudness, TlsListener, TlsStream};
use axum::Json;
use axum::Router;
use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use axum::serve::Listener;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};

/// For the handshake of a coordinator.
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(10);
const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How often it is looked whether graphs are gone.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What requests are about.
#[derive(Clone)]
pub struct Parts {
    /// The worker.
    pub worker: Arc<Worker>,
    /// Shapes the server.
    pub applier: Arc<Applier>,
    /// Takes part in moves.
    pub mover: Arc<Mover>,
    /// Its part of a group's failover; none for an external server.
    pub member: Option<Arc<Member>>,
}

/// Serves until `stopped`.
pub async fn serve(
    listener: TcpListener,
    parts: Parts,
    stopped: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let peers = parts.worker.credentials.peers.clone();
    let routes = Router::new()
        .route(STATUS_PATH, get(status))
        .route(DESIRED_PATH, put(desired))
        .route(LOAD_PATH, put(load))
        .route(MOVE_PATH, put(carry_out))
        .route(GROUP_PATH, put(told_group).get(group_report))
        .layer(from_fn_with_state(parts.clone(), bearer))
        .route("/healthz", get(alive))
        .route("/metrics", get(metrics))
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(parts);
    let Some(peers) = peers else {
        return axum::serve(listener, routes).with_graceful_shutdown(stopped).await;
    };
    let server = move || Arc::clone(&peers.now().server);
    let listener = Encrypted(TlsListener::new(listener, server, HANDSHAKE_PATIENCE, Loudness::Warn)?);
    axum::serve(listener, routes).with_graceful_shutdown(stopped).await
}

/// Coordinators come with their handshake behind them.
struct Encrypted(TlsListener);

impl Listener for Encrypted {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TlsStream<TcpStream>, SocketAddr) {
        self.0.accept().await
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.0.local_addr())
    }
}

async fn status(State(parts): State<Parts>) -> Json<AgentStatus> {
    let Worker { status, config, loads, .. } = &*parts.worker;
    let member = parts.member.as_ref().and_then(|member| member.shown());
    Json(AgentStatus { member, ..status.report(config, &loads.borrow()) })
}

async fn desired(
    State(parts): State<Parts>,
    body: Result<Json<DesiredState>, JsonRejection>,
) -> Result<Json<Applied>, Refused> {
    let Json(desired) = body?;
    let applied = parts.applier.apply(desired).await;
    applied.map(Json).map_err(|error| Refused(problem(&error)))
}

/// Takes the record of its group, and says how it stands.
async fn told_group(
    State(parts): State<Parts>,
    body: Result<Json<ToldGroup>, JsonRejection>,
) -> Result<Json<Report>, Refused> {
    let Json(told) = body?;
    let report = parts.member.as_ref().ok_or_else(external)?.tell(told, parts.worker.membership()).await;
    report.map(Json).map_err(|error| Refused(tell_problem(&error)))
}

/// Says how it stands, also to who has no record of a group yet: a group is founded with the disk that is told here.
async fn group_report(State(parts): State<Parts>) -> Result<Json<Report>, Refused> {
    let not_yet = || Refused(Problem::new(ProblemCode::ShardUnavailable, "the worker has not registered yet"));
    let ours = parts.worker.membership().ok_or_else(not_yet)?;
    parts
        .member
        .as_ref()
        .ok_or_else(external)?
        .report(ours.worker)
        .await
        .map(Json)
        .map_err(|error| Refused(tell_problem(&error)))
}

fn external() -> Refused {
    Refused(Problem::new(ProblemCode::Forbidden, "an external server is no member of a group"))
}

fn tell_problem(error: &TellError) -> Problem {
    let code = match error {
        TellError::NotOurs => ProblemCode::Forbidden,
        TellError::NotSeen(_) => ProblemCode::ShardUnavailable,
        TellError::Kept(_) | TellError::Stamp(_) | TellError::Unstamped(_) => ProblemCode::Internal,
    };
    Problem::new(code, chain(error))
}

/// Does its part of a move.
async fn carry_out(
    State(parts): State<Parts>,
    body: Result<Json<MoveOrder>, JsonRejection>,
) -> Result<Json<MoveReport>, Refused> {
    let Json(order) = body?;
    parts.mover.carry_out(order).await.map(Json).map_err(|error| Refused(move_problem(&error)))
}

/// Hears of a load, and waits a while for its graphs to be gone.
async fn load(
    State(parts): State<Parts>,
    body: Result<Json<LoadReport>, JsonRejection>,
) -> Result<Json<LoadHeard>, Refused> {
    let Json(report) = body?;
    let mut told_at = Instant::now();
    let is_news = parts.worker.loads.send_if_modified(|loads| {
        // Under the lock: whoever counts tells by the time what it has heard of.
        told_at = Instant::now();
        loads.tell(report.clone(), told_at)
    });
    // A look of before knew of nothing.
    let since = is_news.then_some(told_at);
    let graphs_left = loop {
        let left = parts.worker.status.graphs_left(&report, since);
        if report.ended || left == Some(0) || told_at.elapsed() >= DROP_PATIENCE {
            break left.unwrap_or(0);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    };
    Ok(Json(LoadHeard { graphs_left }))
}

async fn metrics(State(parts): State<Parts>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], parts.worker.metrics.render()).into_response()
}

async fn alive(State(parts): State<Parts>) -> Json<serde_json::Value> {
    Json(serde_json::json!({ "status": "ok", "postgres_up": parts.worker.status.postgres_up() }))
}

async fn no_route(uri: Uri) -> Refused {
    Refused(Problem::new(ProblemCode::RouteNotFound, format!("there is no {}", uri.path())))
}

async fn no_method() -> Refused {
    Refused(Problem::new(ProblemCode::MethodNotAllowed, "this path does not take this method"))
}

/// Lets in who knows the cluster's secret.
async fn bearer(State(parts): State<Parts>, headers: HeaderMap, request: Request, next: Next) -> Response {
    let given = headers.get(header::AUTHORIZATION);
    if given.is_some_and(|given| parts.worker.credentials.cluster.is_presented_by(given.as_bytes())) {
        return next.run(request).await;
    }
    let problem = Problem::new(ProblemCode::Unauthenticated, "the cluster's secret is needed as a bearer token");
    Refused(problem).into_response()
}

fn problem(error: &ApplyError) -> Problem {
    let code = match error {
        ApplyError::Stale { .. } => ProblemCode::StalePlan,
        ApplyError::NotOurs { .. } => ProblemCode::Forbidden,
        ApplyError::NotReady { .. } => ProblemCode::ShardUnavailable,
        ApplyError::Conflict { .. } => ProblemCode::AlreadyExists,
        ApplyError::Postgres { source } => match source {
            PgError::Unreachable { .. } | PgError::Slow { .. } => ProblemCode::ShardUnavailable,
            PgError::Rights { .. } | PgError::Refused { .. } => ProblemCode::Internal,
        },
    };
    let detail = match error {
        ApplyError::Conflict { source } => source.to_string(),
        ApplyError::Stale { .. }
        | ApplyError::NotOurs { .. }
        | ApplyError::NotReady { .. }
        | ApplyError::Postgres { .. } => error.to_string(),
    };
    Problem::new(code, detail)
}

fn move_problem(error: &MoveError) -> Problem {
    let code = match error {
        MoveError::Stale { .. } => ProblemCode::StalePlan,
        MoveError::NotOurs => ProblemCode::Forbidden,
        MoveError::NotReady { .. } => ProblemCode::ShardUnavailable,
        MoveError::Secret(_) => ProblemCode::Internal,
        MoveError::Postgres { source } => match source {
            PgError::Unreachable { .. } | PgError::Slow { .. } => ProblemCode::ShardUnavailable,
            PgError::Rights { .. } | PgError::Refused { .. } => ProblemCode::Internal,
        },
    };
    // To the leader, which tells it to operators: with its causes.
    Problem::new(code, chain(error))
}

/// A problem document as an answer.
struct Refused(Problem);

impl From<JsonRejection> for Refused {
    fn from(rejection: JsonRejection) -> Self {
        let code = match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => ProblemCode::BodyTooLarge,
            StatusCode::UNSUPPORTED_MEDIA_TYPE => ProblemCode::UnsupportedMediaType,
            StatusCode::UNPROCESSABLE_ENTITY => ProblemCode::ValidationFailed,
            _ => ProblemCode::MalformedJson,
        };
        Self(Problem::new(code, rejection.body_text()))
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(self.0)).into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        response
    }
}
