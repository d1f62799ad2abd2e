//! HTTP: the public API and the internal listener. What a request means is decided elsewhere; here it is taken apart and its
//! answer put together. axum's names stay in this folder.

mod admin;
mod audit;
mod bodies;
mod builds;
mod collections;
mod entries;
mod extract;
mod failover;
mod groups;
pub mod internal;
mod keys;
mod listener;
mod middleware;
mod moves;
mod namespaces;
mod ndjson;
mod needed;
mod openapi;
mod problem;
mod rebalance;
mod rebalance_policy;
mod rebalance_run;
mod recall;
mod record;
mod search;
mod service;
mod session;
mod state;
mod streams;
mod unread;

pub use bodies::Bodies;
pub use listener::{Door, Patience, serve};
pub use openapi::openapi;
pub use state::{App, Parts};

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use tower::ServiceBuilder;
use tower_http::CompressionLevel;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::SizeAbove;
use tower_http::decompression::RequestDecompressionLayer;

/// Answers of this size and more are compressed for clients that take it. The hits of a usual search are not: it would cost
/// more time than it saves on any network that a coordinator is near to.
const COMPRESSED_FROM_BYTES: u64 = 32 * 1024;

fn compression() -> CompressionLayer<SizeAbove> {
    CompressionLayer::new().quality(CompressionLevel::Fastest).compress_when(SizeAbove::new(COMPRESSED_FROM_BYTES))
}

/// The public API.
pub fn router(app: App) -> Router {
    // The outermost first. One stack: each layer of a router by itself boxes and clones what is inside it, for every request.
    let around = ServiceBuilder::new()
        .layer(from_fn_with_state(app.clone(), middleware::around))
        .layer(compression())
        .layer(CatchPanicLayer::custom(problem::panicked))
        .layer(RequestDecompressionLayer::new())
        .layer(DefaultBodyLimit::max(app.limits.body_bytes));
    let (router, _) = openapi::routes().with_state(app.clone()).split_for_parts();
    router
        .merge(service::untyped_routes(app))
        .fallback(problem::route_not_found)
        .method_not_allowed_fallback(problem::method_not_allowed)
        .layer(around)
}
