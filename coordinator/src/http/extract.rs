//! Taking requests apart: bodies, paths, queries and headers, each with its problem when it is not as it should be.

use super::bodies::{Held, NoBody};
use super::problem::{Answer, ApiError};
use super::state::App;
use crate::access::Caller;
use crate::error::RequestError;
use crate::workers::idempotency::Ticket;
use crate::write::{Precondition, SessionLog, WriteTerms};
use atoll_core::access::{Grant, Touched};
use atoll_core::freshness::SessionToken;
use atoll_proto::entry::EntryId;
use atoll_proto::problem::{Problem, ProblemCode};
use atoll_proto::{CollectionName, EntryKey, Namespace, limits};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap, Method, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// A JSON body.
pub(super) struct Body<T> {
    pub(super) value: T,
    /// As it came, to tell a repeated request from another one.
    pub(super) raw: Bytes,
    /// The memory that it counts for.
    _held: Held,
}

impl<T: DeserializeOwned> FromRequest<App> for Body<T> {
    type Rejection = ApiError;

    /// Reads the body, by the request's deadline: who sends slowly holds no place for longer.
    async fn from_request(request: Request, app: &App) -> Result<Self, ApiError> {
        if !is_json(request.headers()) {
            let detail = "the body must be application/json";
            return Err(Problem::new(ProblemCode::UnsupportedMediaType, detail).into());
        }
        let asked = timeout(request.headers(), app)?;
        if announced(request.headers()) > app.limits.body_bytes {
            return Err(body_problem(NoBody::TooLarge, app));
        }
        let deadline = Instant::now() + asked.unwrap_or_else(|| usual_timeout(app));
        let reading = app.bodies.read(request.into_body(), app.limits.body_bytes);
        let (raw, held) = match timeout_at(deadline, reading).await {
            Ok(Ok(read)) => read,
            Ok(Err(why)) => return Err(body_problem(why, app)),
            Err(_) => {
                let detail = "the body was not whole before the deadline; X-Timeout-Ms sets it";
                return Err(Problem::new(ProblemCode::DeadlineExceeded, detail).into());
            }
        };
        Ok(Self { value: parse(&raw)?, raw, _held: held })
    }
}

/// Bytes of the body, as far as the client says.
fn announced(headers: &HeaderMap) -> usize {
    let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    length.and_then(|length| length.parse().ok()).unwrap_or(0)
}

fn is_json(headers: &HeaderMap) -> bool {
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = given.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    media_type == "application/json" || (media_type.starts_with("application/") && media_type.ends_with("+json"))
}

fn body_problem(why: NoBody, app: &App) -> ApiError {
    match why {
        NoBody::TooLarge => {
            let detail = format!("a body may have {} bytes; send fewer entries, or use import", app.limits.body_bytes);
            Problem::new(ProblemCode::BodyTooLarge, detail).into()
        }
        NoBody::Overloaded => RequestError::Overloaded.into(),
        NoBody::BrokeOff => {
            Problem::new(ProblemCode::MalformedJson, "the body broke off, or can't be decompressed").into()
        }
    }
}

/// Parses JSON; the path to a fault is looked for only when there is one.
fn parse<T: DeserializeOwned>(raw: &[u8]) -> Answer<T> {
    // serde would take an array for an object whose fields have no names.
    let is_array = raw.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[');
    if is_array {
        return Err(match serde_json::from_slice::<serde::de::IgnoredAny>(raw) {
            Ok(_) => Problem::invalid("", "the body must be an object, not an array").into(),
            Err(error) => Problem::new(ProblemCode::MalformedJson, format!("the body is no JSON: {error}")).into(),
        });
    }
    let error = match serde_json::from_slice::<T>(raw) {
        Ok(value) => return Ok(value),
        Err(error) => error,
    };
    let out_of_range = error.to_string().starts_with("number out of range");
    if !error.is_data() && !out_of_range {
        return Err(Problem::new(ProblemCode::MalformedJson, format!("the body is no JSON: {error}")).into());
    }
    let mut deserializer = serde_json::Deserializer::from_slice(raw);
    let pointer = match serde_path_to_error::deserialize::<_, T>(&mut deserializer) {
        Ok(_) => String::new(),
        Err(error) => pointer(error.path()),
    };
    let detail = match out_of_range {
        true => "a number does not fit a finite 32-bit float".to_owned(),
        false => error.to_string(),
    };
    Err(Problem::invalid(pointer, detail).into())
}

fn pointer(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    let mut pointer = String::new();
    for segment in path.iter() {
        match segment {
            Segment::Seq { index } => pointer.push_str(&format!("/{index}")),
            Segment::Map { key } => pointer.push_str(&format!("/{}", key.replace('~', "~0").replace('/', "~1"))),
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    pointer
}

/// Names in the path, checked.
pub(super) struct InPath<T>(pub(super) T);

impl<T: DeserializeOwned + Send> FromRequestParts<App> for InPath<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        match Path::<T>::from_request_parts(parts, app).await {
            Ok(Path(value)) => Ok(Self(value)),
            Err(rejection) => Err(Problem::invalid("", format!("the path: {}", rejection.body_text())).into()),
        }
    }
}

/// The entry that the path names. Refused before the body is read, if the key is not for its namespace.
pub(super) struct OneEntry {
    pub(super) collection: CollectionName,
    pub(super) id: EntryId,
}

impl FromRequestParts<App> for OneEntry {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let named = InPath::<(CollectionName, Namespace, EntryKey)>::from_request_parts(parts, app).await?;
        let InPath((collection, namespace, key)) = named;
        if !caller(&parts.extensions)?.grant.covers(Touched::Namespace(&namespace)) {
            return Err(RequestError::Foreign.into());
        }
        Ok(Self { collection, id: EntryId { namespace, key } })
    }
}

/// The query string.
pub(super) struct InQuery<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequestParts<App> for InQuery<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        match Query::<T>::from_request_parts(parts, app).await {
            Ok(Query(value)) => Ok(Self(value)),
            Err(rejection) => Err(Problem::invalid("", format!("the query: {}", rejection.body_text())).into()),
        }
    }
}

/// What headers say about how to carry out a request.
pub(super) struct Terms {
    /// When an answer is due.
    pub(super) deadline: Instant,
    /// When an answer is due, if the client named it.
    pub(super) asked: Option<Instant>,
    /// The session it belongs to.
    pub(super) session: SessionToken,
    /// What it may touch.
    pub(super) grant: Grant,
    idempotency_key: Option<String>,
    method: String,
    path: String,
}

impl FromRequestParts<App> for Terms {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        if parts.method != Method::GET {
            refuse_preconditions(&parts.headers)?;
        }
        Self::of(parts, app)
    }
}

/// The terms of a write of one entry, and when it may happen.
pub(super) struct EntryTerms {
    pub(super) terms: Terms,
    pub(super) precondition: Precondition,
}

impl FromRequestParts<App> for EntryTerms {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        Ok(Self { terms: Terms::of(parts, app)?, precondition: precondition(&parts.headers)? })
    }
}

impl Terms {
    fn of(parts: &Parts, app: &App) -> Answer<Self> {
        let asked = timeout(&parts.headers, app)?.map(|timeout| Instant::now() + timeout);
        Ok(Self {
            deadline: asked.unwrap_or_else(|| Instant::now() + usual_timeout(app)),
            asked,
            session: session(&parts.extensions),
            grant: caller(&parts.extensions)?.grant.clone(),
            idempotency_key: idempotency_key(&parts.headers)?,
            method: parts.method.to_string(),
            path: parts.uri.path().to_owned(),
        })
    }

    /// The terms of a write with this body.
    pub(super) fn of_write(self, body: &[u8]) -> WriteTerms {
        let ticket = self.ticket(body);
        WriteTerms { ticket, deadline: self.deadline, session: SessionLog::new(self.session), grant: self.grant }
    }

    /// Names the request, if the client wants it to happen once.
    fn ticket(&self, body: &[u8]) -> Option<Ticket> {
        let key = within_grant(&self.grant, self.idempotency_key.as_deref()?);
        let mut digest = Sha256::new();
        for part in [self.method.as_bytes(), self.path.as_bytes(), body] {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
        Some(Ticket { key, digest: digest.finalize().to_vec() })
    }

    /// When an answer is due to what takes longer than a search by nature.
    pub(super) fn deadline_or(&self, usual: Duration) -> Instant {
        self.asked.unwrap_or_else(|| Instant::now() + usual)
    }
}

/// An idempotency key as it is kept: who is let in to other namespaces does not learn that it was used, nor is he kept from using it. Keys
/// to the same namespaces share them, so a request may be sent again with the key that followed the first one.
fn within_grant(grant: &Grant, idempotency_key: &str) -> String {
    let Some(namespaces) = grant.namespaces() else { return idempotency_key.to_owned() };
    let digest = Sha256::digest(namespaces.to_string());
    // No header has this character, so that nobody can name another one's key.
    const BETWEEN: char = '\u{1f}';
    let mut kept: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    kept.push(BETWEEN);
    kept.push_str(idempotency_key);
    kept
}

/// Whose request it is, as the middleware has found out.
pub(super) fn caller(extensions: &Extensions) -> Answer<&Caller> {
    let caller = extensions.get::<Caller>();
    caller.ok_or_else(|| Problem::new(ProblemCode::Internal, "it was not looked whose request this is").into())
}

/// The session that a request belongs to, as the middleware has read it.
pub(super) fn session(extensions: &Extensions) -> SessionToken {
    extensions.get().cloned().unwrap_or_default()
}

fn header_text<'a>(headers: &'a HeaderMap, name: &str) -> Answer<Option<&'a str>> {
    match headers.get(name) {
        None => Ok(None),
        Some(value) => match value.to_str() {
            Ok(text) => Ok(Some(text.trim())),
            Err(_) => Err(Problem::invalid("", format!("header {name} is not plain text")).into()),
        },
    }
}

fn timeout(headers: &HeaderMap, app: &App) -> Answer<Option<Duration>> {
    let Some(text) = header_text(headers, "x-timeout-ms")? else { return Ok(None) };
    let max = app.limits.deadline_ms_max;
    match text.parse::<u64>() {
        Ok(ms) if (1..=max).contains(&ms) => Ok(Some(Duration::from_millis(ms))),
        Ok(_) | Err(_) => Err(Problem::invalid("", format!("X-Timeout-Ms must be 1 to {max}")).into()),
    }
}

fn usual_timeout(app: &App) -> Duration {
    Duration::from_millis(app.limits.deadline_ms)
}

fn idempotency_key(headers: &HeaderMap) -> Answer<Option<String>> {
    let Some(key) = header_text(headers, "idempotency-key")? else { return Ok(None) };
    if key.is_empty() || key.len() > limits::IDEMPOTENCY_KEY_BYTES {
        let detail = format!("Idempotency-Key must have 1 to {} bytes", limits::IDEMPOTENCY_KEY_BYTES);
        return Err(Problem::invalid("", detail).into());
    }
    Ok(Some(key.to_owned()))
}

fn precondition(headers: &HeaderMap) -> Answer<Precondition> {
    match (header_text(headers, "if-match")?, header_text(headers, "if-none-match")?) {
        (None, None) => Ok(Precondition::None),
        (Some("*"), None) => Ok(Precondition::Exists),
        (Some(etag), None) => {
            let version = etag.strip_prefix('"').and_then(|etag| etag.strip_suffix('"')).and_then(|v| v.parse().ok());
            let detail = "If-Match must be \"<version>\", as in an entry's ETag, or *";
            version.map(Precondition::AtVersion).ok_or_else(|| Problem::invalid("", detail).into())
        }
        (None, Some("*")) => Ok(Precondition::Absent),
        (None, Some(_)) => Err(Problem::invalid("", "If-None-Match must be *").into()),
        (Some(_), Some(_)) => Err(Problem::invalid("", "give If-Match or If-None-Match, not both").into()),
    }
}

/// Refuses what only a write of one entry can promise to keep.
pub(super) fn refuse_preconditions(headers: &HeaderMap) -> Answer<()> {
    if headers.contains_key(header::IF_MATCH) || headers.contains_key(header::IF_NONE_MATCH) {
        let detail = "If-Match and If-None-Match go with one entry: its PUT, PATCH or DELETE";
        return Err(Problem::invalid("", detail).into());
    }
    Ok(())
}

/// Whether a reader has this version already: `If-None-Match` names its ETag.
pub(super) fn is_known(headers: &HeaderMap, etag: &str) -> bool {
    let given = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    given.flat_map(|tags| tags.split(',')).map(str::trim).any(|tag| tag == "*" || tag.trim_start_matches("W/") == etag)
}

/// A JSON answer.
pub(super) struct Json<T>(pub(super) T);

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        // Room for the hits of a usual search, so that it does not grow six times.
        let mut body = Vec::with_capacity(8 * 1024);
        match serde_json::to_writer(&mut body, &self.0) {
            Ok(()) => ([(header::CONTENT_TYPE, "application/json")], body).into_response(),
            Err(error) => {
                let problem = Problem::new(ProblemCode::Internal, "the answer could not be written");
                ApiError { problem: Box::new(problem), cause: Some(std::sync::Arc::new(error)) }.into_response()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use atoll_proto::entry::WriteBatch;
    use atoll_proto::key_namespaces::KeyNamespaces;

    fn fault(body: &str) -> (ProblemCode, String) {
        let problem = parse::<WriteBatch>(body.as_bytes()).unwrap_err().problem;
        (problem.code, problem.errors.first().map_or_else(String::new, |error| error.pointer.clone()))
    }

    #[test]
    fn idempotency_keys_of_other_namespaces_are_others() {
        let grant = |patterns: &str| Grant::of(&serde_json::from_str::<KeyNamespaces>(patterns).unwrap());
        let kept = |patterns: &str| within_grant(&grant(patterns), "k");
        assert_eq!(kept("[]"), "k", "as before there were keys");
        let different = [kept("[]"), kept(r#"["a"]"#), kept(r#"["a*"]"#), kept(r#"["a","b"]"#)];
        assert_eq!(std::collections::BTreeSet::from(different.clone()).len(), different.len());
        assert_eq!(kept(r#"["b","a"]"#), different[3], "of the same namespaces");
        assert!(axum::http::HeaderValue::from_str(&different[1]).is_err(), "nobody can send it");
    }

    #[test]
    fn a_reader_names_what_it_has() {
        let known = |given: &'static str| {
            let headers = HeaderMap::from_iter([(header::IF_NONE_MATCH, given.parse().unwrap())]);
            is_known(&headers, "\"7\"")
        };
        assert!(["\"7\"", "W/\"7\"", "\"6\", \"7\"", "*"].into_iter().all(known));
        assert!(!["\"6\"", "7", "\"77\"", ""].into_iter().any(known));
        assert!(!is_known(&HeaderMap::new(), "\"7\""));
    }

    #[test]
    fn faults_are_told_apart_and_located() {
        let at = |pointer: &str| (ProblemCode::ValidationFailed, pointer.to_owned());
        let malformed = (ProblemCode::MalformedJson, String::new());
        assert_eq!(fault("{"), malformed);
        assert_eq!(fault(""), malformed);
        assert_eq!(fault(&"[".repeat(100_000)), malformed);
        assert_eq!(fault("{\"entries\":[]} x"), malformed);
        assert_eq!(fault(" [[]]"), at(""));
        assert_eq!(fault("{\"entries\":[{\"namespace\":\"a b\",\"key\":\"k\"}]}"), at("/entries/0/namespace"));
        assert_eq!(
            fault("{\"entries\":[{\"namespace\":\"a\",\"key\":\"k\",\"vector\":[1e39]}]}"),
            at("/entries/0/vector")
        );
        assert_eq!(fault("{\"entries\":[{\"namespace\":\"a\",\"key\":\"k\",\"colour\":1}]}"), at("/entries/0/colour"));
        assert_eq!(
            fault("{\"entries\":[{\"namespace\":\"a\",\"key\":\"k\",\"vector\":[1e999]}]}").0,
            ProblemCode::ValidationFailed
        );
    }
}
