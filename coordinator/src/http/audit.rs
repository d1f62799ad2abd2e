//! What is noted of requests that manage the cluster, and of those that are denied: who, what, and how it ended. No bodies, so no vectors,
//! values or secrets.

use atoll_proto::key::{KeyAccess, KeyId};
use axum::http::{Method, StatusCode};

/// Where these lines go: `RUST_LOG=info,audit=off` silences them, a subscriber may keep them elsewhere.
const TARGET: &str = "audit";

/// Notes how a request ended, if it is one to be noted.
pub(super) fn audit(method: &Method, path: &str, needed: Option<KeyAccess>, key: Option<&KeyId>, status: StatusCode) {
    let is_denied = matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
    let changes = needed == Some(KeyAccess::Admin) && !matches!(*method, Method::GET | Method::HEAD);
    if is_denied || changes {
        let key = key.map_or("none", KeyId::as_str);
        tracing::info!(target: TARGET, %method, path, key, status = status.as_u16(), "audit");
    }
}
