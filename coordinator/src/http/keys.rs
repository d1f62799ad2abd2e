//! API keys: made, listed, taken away.

use super::extract::{Body, InPath, InQuery, Json, Terms};
use super::middleware::Caller;
use super::problem::{Answer, ApiError};
use super::record::record;
use super::state::App;
use crate::access::NewKey;
use atoll_core::catalog::{ApiKey, Command, Refusal};
use atoll_proto::key::{CreateKey, CreatedKey, KEY_NAME_BYTES, KEY_SECONDS_MAX, KeyId, KeyInfo, KeyList};
use atoll_proto::problem::Problem;
use axum::Extension;
use axum::extract::State;
use jiff::Timestamp;
use serde::Deserialize;

/// List keys. Their secrets are not kept.
#[utoipa::path(get, path = "/v1/admin/keys", tag = "keys", responses((status = 200, body = KeyList)))]
pub(super) async fn list(State(app): State<App>) -> Answer<Json<KeyList>> {
    Ok(Json(all(&app)))
}

/// Make a key. It is told this once. From the first one on, which must have access `admin` and never expire, every request needs one.
#[utoipa::path(post, path = "/v1/admin/keys", tag = "keys", request_body = CreateKey,
    responses((status = 200, body = CreatedKey)))]
pub(super) async fn create(
    State(app): State<App>,
    Extension(Caller(by)): Extension<Caller>,
    terms: Terms,
    body: Body<CreateKey>,
) -> Answer<Json<CreatedKey>> {
    let created_s = Timestamp::now().as_second();
    let CreateKey { name, access, expires_in_seconds } = checked(body.value)?;
    let new = NewKey::random();
    let expires_s = expires_in_seconds.map(|seconds| created_s.saturating_add_unsigned(seconds));
    let key = ApiKey { name, access, digest: new.digest(), created_s, expires_s };
    record(&app, Command::CreateKey { by, id: new.id.clone(), key: key.clone() }, &terms).await?;
    tracing::info!(id = %new.id, name = key.name, %access, "key made");
    Ok(Json(CreatedKey { key: new.reveal().to_owned(), info: info(&new.id, &key, created_s) }))
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct RemoveQuery {
    /// Take the last one away too: nobody is asked for a key any more.
    #[serde(default)]
    open: bool,
}

/// Take a key away: it is worth nothing any more, as soon as each coordinator has heard of it. Answers with those that are left.
#[utoipa::path(delete, path = "/v1/admin/keys/{id}", tag = "keys", params(("id" = String, Path), RemoveQuery),
    responses((status = 200, body = KeyList)))]
pub(super) async fn remove(
    State(app): State<App>,
    Extension(Caller(by)): Extension<Caller>,
    InPath(id): InPath<String>,
    InQuery(query): InQuery<RemoveQuery>,
    terms: Terms,
) -> Answer<Json<KeyList>> {
    let Some(id) = KeyId::parse(&id) else {
        return Err(Problem::invalid("", "an id of a key has twelve hexadecimal digits").into());
    };
    if !app.node.view().catalog.keys.contains_key(&id) {
        return Err(ApiError::from(Refusal::NoSuchKey { id }));
    }
    let by = by.ok_or(Refusal::KeyNotValid)?;
    record(&app, Command::RemoveKey { by, id: id.clone(), open: query.open }, &terms).await?;
    tracing::info!(%id, "key removed");
    Ok(Json(all(&app)))
}

fn checked(asked: CreateKey) -> Result<CreateKey, Box<Problem>> {
    let invalid = |pointer: &str, detail: String| Err(Box::new(Problem::invalid(pointer, detail)));
    let name = &asked.name;
    if name.trim().is_empty() || name.len() > KEY_NAME_BYTES || name.chars().any(char::is_control) {
        return invalid("/name", format!("1 to {KEY_NAME_BYTES} bytes, no control characters"));
    }
    if asked.expires_in_seconds.is_some_and(|seconds| !(1..=KEY_SECONDS_MAX).contains(&seconds)) {
        return invalid("/expires_in_seconds", format!("1 to {KEY_SECONDS_MAX}, or null for never"));
    }
    Ok(asked)
}

fn all(app: &App) -> KeyList {
    let (view, now_s) = (app.node.view(), Timestamp::now().as_second());
    let mut keys: Vec<(i64, KeyInfo)> =
        view.catalog.keys.iter().map(|(id, key)| (key.created_s, info(id, key, now_s))).collect();
    keys.sort_by_key(|(created_s, _)| *created_s);
    KeyList { keys: keys.into_iter().map(|(_, info)| info).collect() }
}

fn info(id: &KeyId, key: &ApiKey, now_s: i64) -> KeyInfo {
    let shown = |seconds: i64| Timestamp::from_second(seconds).map(|at| at.to_string()).unwrap_or_default();
    KeyInfo {
        id: id.clone(),
        name: key.name.clone(),
        access: key.access,
        created_at: shown(key.created_s),
        expires_at: key.expires_s.map(shown),
        expired: key.is_expired(now_s),
    }
}
