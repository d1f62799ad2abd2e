//! API keys: made, listed, taken away; and made by the cluster secret.

use super::extract::{Body, InPath, InQuery, Json, Terms};
use super::problem::{Answer, ApiError};
use super::record::record;
use super::state::App;
use crate::access::{Caller, NewKey};
use crate::raft::CatalogNode;
use atoll_core::catalog::{ApiKey, Command, Outcome, Refusal};
use atoll_proto::key::{
    CreateKey, CreatedKey, KEY_NAME_BYTES, KEY_SECONDS_MAX, KeyAccess, KeyId, KeyInfo, KeyList, RecoverKey,
};
use atoll_proto::key_namespaces::KeyNamespaces;
use atoll_proto::problem::Problem;
use axum::Extension;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::Deserialize;
use tokio::time::Instant;

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
    Extension(caller): Extension<Caller>,
    terms: Terms,
    body: Body<CreateKey>,
) -> Answer<Response> {
    let (new, key) = made(body.value)?;
    record(&app, Command::CreateKey { by: caller.key, id: new.id, key: key.clone() }, &terms).await?;
    Ok(shown(&new, &key))
}

/// Makes a key with full access for who has the cluster secret. The way back where all such keys are lost: no key has to allow it.
pub(super) async fn recover(node: &CatalogNode, asked: RecoverKey, deadline: Instant) -> Answer<Response> {
    let RecoverKey { name } = asked;
    let everything = KeyNamespaces::default();
    let asked = CreateKey { name, access: KeyAccess::Admin, namespaces: everything, expires_in_seconds: None };
    let (new, key) = made(asked)?;
    let command = Command::RecoverKey { id: new.id, key: key.clone() };
    if let Outcome::Refused(refusal) = node.propose(command, deadline).await?.outcome {
        return Err(refusal.into());
    }
    Ok(shown(&new, &key))
}

/// A new key as it was asked for, and what is kept of it.
fn made(asked: CreateKey) -> Answer<(NewKey, ApiKey)> {
    let created_s = Timestamp::now().as_second();
    let CreateKey { name, access, namespaces, expires_in_seconds } = checked(asked)?;
    let new = NewKey::random();
    let expires_s = expires_in_seconds.map(|seconds| created_s.saturating_add_unsigned(seconds));
    let key = ApiKey { name, access, namespaces, digest: new.digest(), created_s, expires_s };
    Ok((new, key))
}

/// The one answer that a key stands in: nobody on its way keeps it.
fn shown(new: &NewKey, key: &ApiKey) -> Response {
    let ApiKey { name, access, namespaces, .. } = key;
    tracing::info!(id = %new.id, name, %access, %namespaces, "key made");
    let created = CreatedKey { key: new.reveal().to_owned(), info: info(new.id, key, key.created_s) };
    ([(header::CACHE_CONTROL, "no-store")], Json(created)).into_response()
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
    Extension(caller): Extension<Caller>,
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
    let by = caller.key.ok_or(Refusal::KeyNotValid)?;
    record(&app, Command::RemoveKey { by, id, open: query.open }, &terms).await?;
    tracing::info!(%id, "key removed");
    Ok(Json(all(&app)))
}

fn checked(asked: CreateKey) -> Result<CreateKey, Box<Problem>> {
    let invalid = |pointer: &str, detail: String| Err(Box::new(Problem::invalid(pointer, detail)));
    let name = &asked.name;
    if name.trim().is_empty() || name.len() > KEY_NAME_BYTES || name.chars().any(char::is_control) {
        return invalid("/name", format!("1 to {KEY_NAME_BYTES} bytes, no control characters"));
    }
    if asked.access == KeyAccess::Admin && !asked.namespaces.are_all() {
        let detail = "a key with access admin is for all namespaces: leave them out, or make one with access write";
        return invalid("/namespaces", detail.to_owned());
    }
    if asked.expires_in_seconds.is_some_and(|seconds| !(1..=KEY_SECONDS_MAX).contains(&seconds)) {
        return invalid("/expires_in_seconds", format!("1 to {KEY_SECONDS_MAX}, or null for never"));
    }
    Ok(asked)
}

fn all(app: &App) -> KeyList {
    let (view, now_s) = (app.node.view(), Timestamp::now().as_second());
    let mut keys: Vec<(i64, KeyInfo)> =
        view.catalog.keys.iter().map(|(id, key)| (key.created_s, info(*id, key, now_s))).collect();
    keys.sort_by_key(|(created_s, _)| *created_s);
    KeyList { keys: keys.into_iter().map(|(_, info)| info).collect() }
}

fn info(id: KeyId, key: &ApiKey, now_s: i64) -> KeyInfo {
    let shown = |seconds: i64| Timestamp::from_second(seconds).map(|at| at.to_string()).unwrap_or_default();
    KeyInfo {
        id,
        name: key.name.clone(),
        access: key.access,
        namespaces: key.namespaces.clone(),
        created_at: shown(key.created_s),
        expires_at: key.expires_s.map(shown),
        expired: key.is_expired(now_s),
    }
}
