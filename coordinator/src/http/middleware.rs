//! What happens around every request: its id, its place among those under way, its log line, its metrics, its problem document.

use super::audit::Audit;
use super::needed::needed;
use super::problem::{Answer, ApiError, problem_of_status, respond};
use super::state::App;
use super::{session, unread};
use crate::access::{Caller, Denied, authorize};
use crate::error::RequestError;
use crate::telemetry::chain;
use atoll_core::freshness::SessionToken;
use atoll_proto::key::KeyAccess;
use atoll_proto::problem::{Problem, ProblemCode};
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use std::time::{Duration, Instant};
use tracing::{Instrument, Span};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TIMEOUT: HeaderName = HeaderName::from_static("x-timeout-ms");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// Longest name of a request taken from a client.
const ID_BYTES: usize = 128;

pub(super) async fn around(State(app): State<App>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route = route.as_ref().map(MatchedPath::as_str);
    let named = Named::of(&request);
    let span = named.span();

    let (mut request, reading) = unread::watch(request);
    let needed = needed(&method, route, named.uri.path());
    let caller = caller(&app, needed, &request);
    let key = caller.as_ref().map_or_else(Denied::key, |caller| caller.key);
    let audit = Audit { method: &method, path: named.uri.path(), span: &span, needed, key, is_noted: false };
    let route = route.unwrap_or("none");
    let admitted = match caller {
        Ok(caller) => admit(&app, &method, route, &request).map(|admitted| (admitted, caller)),
        Err(denied) => {
            reading.deny();
            Err(Problem::from(denied).into())
        }
    };
    let response = match admitted {
        Ok(((_place, session), caller)) => {
            request.extensions_mut().insert(session.clone());
            request.extensions_mut().insert(caller);
            let mut response = next.run(request).instrument(span.clone()).await;
            if !response.status().is_client_error() && !response.status().is_server_error() {
                session::tell(&mut response, &session);
            }
            response
        }
        Err(error) => error.into_response(),
    };
    let mut response = span.in_scope(|| with_problem(response, &method, &named, log));
    reading.tell(&mut response);

    if let Ok(value) = HeaderValue::from_str(&named.request_id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    if let Some(Ok(value)) = named.traceparent.as_deref().map(HeaderValue::from_str) {
        response.headers_mut().insert(TRACEPARENT, value);
    }
    let (label, status) = (method_label(&method), response.status());
    if status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    audit.answered(status);
    app.metrics.http_requests.with_label_values(&[label, route, status.as_str()]).inc();
    app.metrics.http_seconds.with_label_values(&[label, route]).observe(started.elapsed().as_secs_f64());
    tracing::debug!(parent: &span, status = status.as_u16(), ms = started.elapsed().as_secs_f64() * 1e3, "answered");
    response
}

/// Whose request it is, and what it may touch, by the latest view.
fn caller(app: &App, needed: Option<KeyAccess>, request: &Request) -> Result<Caller, Denied> {
    let view = app.node.view();
    if needed.is_some() && view.catalog.keys.is_empty() && !app.node.has_caught_up() {
        // One that was away, or has just come, knows of no keys, and must not take that for an open door.
        return Err(Denied::NotKnownYet);
    }
    let authorization = request.headers().get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
    authorize(&view.catalog, authorization, needed, || Timestamp::now().as_second())
}

/// Around requests of coordinators and agents: a failure is logged here, once, and answered with its document.
pub(super) async fn around_internal(request: Request, next: Next) -> Response {
    let (named, method) = (Named::of(&request), request.method().clone());
    let span = named.span();
    let response = next.run(request).instrument(span.clone()).await;
    span.in_scope(|| with_problem(response, &method, &named, log_internal))
}

/// What logs and problems know a request by.
struct Named {
    uri: Uri,
    request_id: String,
    traceparent: Option<String>,
}

impl Named {
    fn of(request: &Request) -> Self {
        let given = |name: HeaderName| request.headers().get(&name).and_then(|value| value.to_str().ok());
        let taken = |id: &&str| !id.is_empty() && id.len() <= ID_BYTES;
        let request_id = match given(REQUEST_ID).filter(taken) {
            Some(id) => id.to_owned(),
            None => format!("{:032x}", rand::random::<u128>()),
        };
        let traceparent = given(TRACEPARENT).filter(taken).map(str::to_owned);
        Self { uri: request.uri().clone(), request_id, traceparent }
    }

    /// What every line about the request is marked with. Each field is written out for each request, whether a line comes or not:
    /// method and path stand in the lines about failures.
    fn span(&self) -> Span {
        let Self { request_id, traceparent, .. } = self;
        match traceparent {
            Some(traceparent) => tracing::info_span!("request", request_id, traceparent),
            None => tracing::info_span!("request", request_id),
        }
    }
}

/// The methods that routes take. Any token is a method, and each label is a line of metrics for ever.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        _ => "other",
    }
}

/// A place among the requests under way, or 429 before it hurts, and the session that the request belongs to. Service endpoints
/// always answer.
fn admit<'a>(app: &'a App, method: &Method, route: &str, request: &Request) -> Answer<(Place<'a>, SessionToken)> {
    if !route.starts_with("/v1/") {
        return Ok((None, SessionToken::default()));
    }
    if !accepts_json(request) {
        return Err(Problem::new(ProblemCode::NotAcceptable, "answers are application/json").into());
    }
    if !accepts_plain(request) {
        // Only large answers are compressed, and nobody knows yet how large this one will be.
        return Err(Problem::new(ProblemCode::NotAcceptable, "answers may be plain, also where gzip is taken").into());
    }
    let session = session::sent(request.headers())?;
    let streamed = matches!(
        (method, route),
        (&Method::POST, "/v1/collections/{c}/import") | (&Method::GET, "/v1/collections/{c}/export")
    );
    if streamed {
        // They take a place of their own kind, and hold it until their last line.
        return Ok((None, session));
    }
    // Where no worker would come to it, it is not even read: refusing must cost less than answering.
    let needs_workers = route.starts_with("/v1/collections/{c}/") && route != "/v1/collections/{c}/recall";
    // Who names a deadline of its own is looked at when it is known.
    let takes_the_usual_time = !request.headers().contains_key(TIMEOUT);
    if needs_workers && takes_the_usual_time && !app.workers.have_room(Duration::from_millis(app.limits.deadline_ms)) {
        return Err(RequestError::Overloaded.into());
    }
    match app.requests.try_acquire() {
        Ok(place) => Ok((Some(place), session)),
        Err(_) => Err(RequestError::Overloaded.into()),
    }
}

type Place<'a> = Option<tokio::sync::SemaphorePermit<'a>>;

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

fn accepts_plain(request: &Request) -> bool {
    let (mut identity, mut others) = (None, None);
    let given = request.headers().get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    for coding in given.flat_map(|value| value.split(',')) {
        let mut parts = coding.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default().to_ascii_lowercase();
        let weight = parts.find_map(|part| part.strip_prefix("q=").or(part.strip_prefix("Q=")));
        let taken = weight.and_then(|weight| weight.parse::<f32>().ok()).is_none_or(|weight| weight > 0.0);
        match name.as_str() {
            "identity" => identity = Some(taken),
            "*" => others = Some(taken),
            _ => {}
        }
    }
    // What is not named is as `*` says, and plain answers are taken unless refused (RFC 9110, section 12.5.3).
    identity.or(others).unwrap_or(true)
}

/// Writes the problem document of a failed request, and logs what the client is not told, once.
fn with_problem(
    mut response: Response,
    method: &Method,
    named: &Named,
    log: fn(&Problem, &Method, Option<String>),
) -> Response {
    let allow = response.headers().get(header::ALLOW).cloned();
    let error = match response.extensions_mut().remove::<ApiError>() {
        Some(error) => error,
        None if response.status().is_client_error() || response.status() == StatusCode::INTERNAL_SERVER_ERROR => {
            ApiError::from(problem_of_status(response.status()))
        }
        None => return response,
    };
    let ApiError { mut problem, cause } = error;
    problem.instance = Some(named.uri.path().to_owned());
    problem.request_id = Some(named.request_id.clone());
    problem.traceparent = named.traceparent.clone();
    log(&problem, method, cause.map(|cause| chain(&*cause)));
    let mut response = respond(&problem);
    if let Some(allow) = allow {
        response.headers_mut().insert(header::ALLOW, allow);
    }
    response
}

fn log(problem: &Problem, method: &Method, chain: Option<String>) {
    let (code, detail, path) = (problem.code.as_str(), &problem.detail, problem.instance.as_deref());
    match problem.status {
        500 => tracing::error!(code, detail, chain, %method, path, "request failed"),
        501.. => tracing::warn!(code, detail, chain, %method, path, "request failed"),
        _ => tracing::debug!(code, detail, %method, path, "request refused"),
    }
}

/// Coordinators and agents ask again by themselves, and tell when that does not help.
fn log_internal(problem: &Problem, method: &Method, chain: Option<String>) {
    let (code, detail, path) = (problem.code.as_str(), &problem.detail, problem.instance.as_deref());
    match problem.status {
        500 => tracing::error!(code, detail, chain, %method, path, "internal request failed"),
        _ => tracing::debug!(code, detail, chain, %method, path, "internal request refused"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_answer_that_nobody_takes_is_not_worked_for() {
        let accepts = |given: &str| {
            let request = Request::builder().header(header::ACCEPT_ENCODING, given).body(().into()).unwrap();
            accepts_plain(&request)
        };
        let taken = ["", "br", "gzip", "gzip;q=0", "br, *;q=0.1", "identity, *;q=0", "gzip, identity;q=0.1"];
        assert!(taken.into_iter().all(accepts));
        let refused = ["*;q=0, gzip", "identity;q=0", "identity;q=0, gzip", "identity;q=0.000", "br;q=1.0, *; q=0"];
        assert!(!refused.into_iter().any(accepts));
        assert!(accepts_plain(&Request::new(().into())));
    }
}
