//! HTTP: the public API and the internal listener. What a request means is decided elsewhere; here it is taken apart and its
//! answer put together. axum's names stay in this folder.

mod admin;
mod collections;
mod entries;
mod extract;
pub mod internal;
mod middleware;
mod namespaces;
mod openapi;
mod problem;
mod search;
mod service;
mod state;
mod streams;

pub use openapi::openapi;
pub use state::{App, Parts};

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::serve::ListenerExt;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpListener;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::decompression::RequestDecompressionLayer;

/// The public API.
pub fn router(app: App) -> Router {
    let (router, _) = openapi::routes().with_state(app.clone()).split_for_parts();
    router
        .merge(service::untyped_routes(app.clone()))
        .fallback(problem::route_not_found)
        .method_not_allowed_fallback(problem::method_not_allowed)
        .layer(DefaultBodyLimit::max(app.limits.body_bytes))
        .layer(RequestDecompressionLayer::new())
        .layer(CatchPanicLayer::custom(problem::panicked))
        .layer(CompressionLayer::new())
        .layer(from_fn_with_state(app, middleware::around))
}

/// Serves until `stop` resolves, then lets what is under way finish, at most for `drain`.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    stop: impl Future<Output = ()> + Send + 'static,
    drain: Duration,
) -> std::io::Result<()> {
    let (stopping, stopped) = tokio::sync::oneshot::channel();
    let stop = async move {
        stop.await;
        // The receiver is gone only when serving has ended.
        let _ = stopping.send(());
    };
    // Answers are small and whole: waiting to fill a packet only delays them.
    let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    let serving = axum::serve(listener, service).with_graceful_shutdown(stop);
    let overdue = async {
        match stopped.await {
            Ok(()) => tokio::time::sleep(drain).await,
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        served = serving.into_future() => served,
        () = overdue => {
            tracing::warn!("requests under way did not finish in time and are cut off");
            Ok(())
        }
    }
}
