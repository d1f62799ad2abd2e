//! Namespaces: listed, located, emptied.

use super::builds::tier;
use super::entries::within;
use super::extract::{InPath, InQuery, Json, Terms};
use super::problem::Answer;
use super::state::App;
use crate::read::Located;
use crate::write::WriteTerms;
use atoll_proto::entry::{Deleted, NamespaceInfo, NamespacePage};
use atoll_proto::{CollectionName, Namespace};
use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use std::time::Duration;

/// Usual time to empty a namespace.
const DELETE_TIME: Duration = Duration::from_secs(60);

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Page {
    /// Namespaces that begin with this.
    #[serde(default)]
    prefix: String,
    /// At most this many, 1 to 1,000.
    #[serde(default = "default_limit")]
    #[param(minimum = 1, maximum = 1000)]
    limit: u32,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

fn default_limit() -> u32 {
    100
}

/// List namespaces that hold entries; those alone that the key is for.
#[utoipa::path(get, path = "/v1/collections/{c}/namespaces", tag = "namespaces", params(("c" = CollectionName, Path), Page),
    responses((status = 200, body = NamespacePage)))]
pub(super) async fn list(
    State(app): State<App>,
    InPath(collection): InPath<CollectionName>,
    InQuery(page): InQuery<Page>,
    terms: Terms,
) -> Answer<Json<NamespacePage>> {
    let Page { prefix, limit, cursor } = page;
    let cursor = cursor.as_deref();
    let page = app.reader.namespaces(&collection, &prefix, limit, cursor, &terms.grant, terms.deadline).await?;
    Ok(Json(page))
}

/// Show where a namespace lies, how many entries it holds, and how it is searched.
#[utoipa::path(get, path = "/v1/collections/{c}/namespaces/{ns}", tag = "namespaces",
    params(("c" = CollectionName, Path), ("ns" = Namespace, Path)),
    responses((status = 200, body = NamespaceInfo)))]
pub(super) async fn show(
    State(app): State<App>,
    InPath((collection, namespace)): InPath<(CollectionName, Namespace)>,
    terms: Terms,
) -> Answer<Json<NamespaceInfo>> {
    let Located { route, table, count } =
        app.reader.namespace(&collection, &namespace, &terms.grant, terms.deadline).await?;
    let (tier, build) = tier(&app, route.primary.worker, table, &collection, &namespace);
    let (group, schema) = (route.group_name.to_string(), route.schema.to_string());
    Ok(Json(NamespaceInfo { namespace, shard: route.shard, group, schema, count, tier, build }))
}

/// Delete every entry of a namespace.
#[utoipa::path(delete, path = "/v1/collections/{c}/namespaces/{ns}", tag = "namespaces",
    params(("c" = CollectionName, Path), ("ns" = Namespace, Path)),
    responses((status = 200, body = Deleted)))]
pub(super) async fn delete(
    State(app): State<App>,
    InPath((collection, namespace)): InPath<(CollectionName, Namespace)>,
    terms: Terms,
) -> Answer<Response> {
    let deadline = terms.deadline_or(DELETE_TIME);
    let terms = WriteTerms { deadline, ..terms.of_write(b"") };
    let deleted = app.writer.delete_namespace(&collection, &namespace, &terms).await?;
    Ok(within(&terms, Json(Deleted { deleted })))
}
