//! What happens around every request: its id, its place among those under way, its log line, its metrics, its problem document.

use super::problem::{ApiError, problem_of_status, respond};
use super::state::App;
use atoll_proto::problem::{Problem, ProblemCode};
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::error::Error;
use std::time::Instant;
use tracing::Instrument;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// Longest request id taken from a client.
const REQUEST_ID_BYTES: usize = 128;

pub(super) async fn around(State(app): State<App>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str).to_owned();
    let request_id = request_id(&request);
    let traceparent = request.headers().get(&TRACEPARENT).cloned();
    let span = tracing::info_span!("request", request_id, %method, path);

    let response = match admit(&app, &method, &route, &request) {
        Ok(_place) => next.run(request).instrument(span.clone()).await,
        Err(problem) => ApiError::from(problem).into_response(),
    };
    let mut response = span.in_scope(|| with_problem(response, &path, &request_id));

    if let Ok(value) = HeaderValue::from_str(&request_id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    if let Some(traceparent) = traceparent {
        response.headers_mut().insert(TRACEPARENT, traceparent);
    }
    let status = response.status();
    app.metrics.http_requests.with_label_values(&[method.as_str(), &route, status.as_str()]).inc();
    app.metrics.http_seconds.with_label_values(&[method.as_str(), &route]).observe(started.elapsed().as_secs_f64());
    tracing::debug!(parent: &span, status = status.as_u16(), ms = started.elapsed().as_secs_f64() * 1e3, "answered");
    response
}

/// A place among the requests under way, or 429 before it hurts. Service endpoints always answer.
fn admit<'a>(
    app: &'a App,
    method: &Method,
    route: &str,
    request: &Request,
) -> Result<Option<tokio::sync::SemaphorePermit<'a>>, Box<Problem>> {
    if !route.starts_with("/v1/") {
        return Ok(None);
    }
    if !accepts_json(request) {
        return Err(Box::new(Problem::new(ProblemCode::NotAcceptable, "answers are application/json")));
    }
    let streamed = matches!(
        (method, route),
        (&Method::POST, "/v1/collections/{c}/import") | (&Method::GET, "/v1/collections/{c}/export")
    );
    if streamed {
        // They take a place of their own kind, and hold it until their last line.
        return Ok(None);
    }
    match app.requests.try_acquire() {
        Ok(place) => Ok(Some(place)),
        Err(_) => Err(Box::new(crate::error::RequestError::Overloaded.problem())),
    }
}

fn accepts_json(request: &Request) -> bool {
    let mut given = request.headers().get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).peekable();
    if given.peek().is_none() {
        return true;
    }
    given.flat_map(|value| value.split(',')).any(|range| {
        let range = range.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        matches!(
            range.as_str(),
            "*/*" | "application/*" | "application/json" | "application/x-ndjson" | "application/problem+json"
        )
    })
}

fn request_id(request: &Request) -> String {
    let given = request.headers().get(&REQUEST_ID).and_then(|value| value.to_str().ok());
    match given {
        Some(id) if !id.is_empty() && id.len() <= REQUEST_ID_BYTES => id.to_owned(),
        Some(_) | None => format!("{:032x}", rand::random::<u128>()),
    }
}

/// Writes the problem document of a failed request, and logs what the client is not told, once.
fn with_problem(mut response: Response, path: &str, request_id: &str) -> Response {
    let allow = response.headers().get(header::ALLOW).cloned();
    let error = match response.extensions_mut().remove::<ApiError>() {
        Some(error) => error,
        None if response.status().is_client_error() || response.status() == StatusCode::INTERNAL_SERVER_ERROR => {
            ApiError::from(problem_of_status(response.status()))
        }
        None => return response,
    };
    let ApiError { mut problem, cause } = error;
    problem.instance = Some(path.to_owned());
    problem.request_id = Some(request_id.to_owned());
    log(&problem, cause.as_deref());
    let mut response = respond(&problem);
    if let Some(allow) = allow {
        response.headers_mut().insert(header::ALLOW, allow);
    }
    response
}

fn log(problem: &Problem, cause: Option<&(dyn Error + Send + Sync)>) {
    let mut chain = String::new();
    let mut next: Option<&dyn Error> = cause.map(|cause| cause as &dyn Error);
    while let Some(error) = next {
        if !chain.is_empty() {
            chain.push_str(": ");
        }
        chain.push_str(&error.to_string());
        next = error.source();
    }
    let code = problem.code.as_str();
    match problem.status {
        500 => tracing::error!(code, chain, "request failed"),
        501.. => tracing::warn!(code, chain, "request failed"),
        _ => tracing::debug!(code, detail = problem.detail, "request refused"),
    }
}
