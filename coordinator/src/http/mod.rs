//! HTTP: the public API and the internal listener. What a request means is decided elsewhere; here it is taken apart and its
//! answer put together. axum's names stay in this folder.

mod admin;
mod builds;
mod collections;
mod entries;
mod extract;
pub mod internal;
mod listener;
mod middleware;
mod namespaces;
mod ndjson;
mod openapi;
mod problem;
mod recall;
mod search;
mod service;
mod session;
mod state;
mod streams;
mod unread;

pub use listener::{Patience, serve};
pub use openapi::openapi;
pub use state::{App, Parts};

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use tower::ServiceBuilder;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::decompression::RequestDecompressionLayer;

/// The public API.
pub fn router(app: App) -> Router {
    // The outermost first. One stack: each layer of a router by itself boxes and clones what is inside it, for every request.
    let around = ServiceBuilder::new()
        .layer(from_fn_with_state(app.clone(), middleware::around))
        .layer(CompressionLayer::new())
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
