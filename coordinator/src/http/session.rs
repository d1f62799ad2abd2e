//! Session tokens in headers. Whoever sends one gets it back, merged with what the request has written, or was shown in its session.

use super::problem::{Answer, ApiError};
use atoll_core::freshness::SessionToken;
use atoll_proto::problem::{Problem, ProblemCode};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::Response;

const SESSION: HeaderName = HeaderName::from_static("x-session-token");

/// The token that was sent; the empty one if none was.
pub(super) fn sent(headers: &HeaderMap) -> Answer<SessionToken> {
    let Some(value) = headers.get(SESSION) else { return Ok(SessionToken::default()) };
    let refused = |detail: String| {
        let detail = format!("X-Session-Token: {detail}; send one as it came, or none");
        ApiError::from(Problem::new(ProblemCode::BadSessionToken, detail))
    };
    let text = value.to_str().map_err(|_| refused("it is not plain text".to_owned()))?;
    text.trim().parse().map_err(|error: atoll_core::freshness::BadToken| refused(error.to_string()))
}

/// The same of a token as it stands in an answer's body.
pub(super) fn tell_text(response: &mut Response, token: Option<&str>) {
    if let Some(Ok(value)) = token.map(HeaderValue::from_str) {
        response.headers_mut().insert(SESSION, value);
    }
}

/// Sends the token along with an answer, unless that has a later one.
pub(super) fn tell(response: &mut Response, token: &SessionToken) {
    if let Some(Ok(value)) = token.text().map(HeaderValue::try_from) {
        response.headers_mut().entry(SESSION).or_insert(value);
    }
}
