//! Serving connections: with a limit on how long a client may take for its headers, which axum's own `serve` has not.

use axum::Router;
use axum::serve::Listener;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use std::pin::pin;
use std::time::Duration;
use tokio::net::TcpListener;

/// How long clients are waited for.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For a request's headers to be whole; an idle connection is closed after the same time.
    pub headers: Duration,
    /// For what is under way, once serving is to end.
    pub drain: Duration,
}

/// Serves until `stop` resolves, then lets what is under way finish, within limits.
pub async fn serve(mut listener: TcpListener, router: Router, stop: impl Future<Output = ()>, patience: Patience) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(patience.headers);
    let connections = GracefulShutdown::new();
    let mut stop = pin!(stop);
    loop {
        let (stream, _) = tokio::select! {
            accepted = Listener::accept(&mut listener) => accepted,
            () = &mut stop => break,
        };
        // Answers are small and whole: waiting to fill a packet only delays them.
        drop(stream.set_nodelay(true));
        let connection = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router.clone()));
        // Who breaks off, or speaks another protocol, is its own client's to tell of.
        let connection = connections.watch(connection);
        tokio::spawn(async move { drop(connection.await) });
    }
    drop(listener);
    if tokio::time::timeout(patience.drain, connections.shutdown()).await.is_err() {
        tracing::warn!("requests under way did not finish in time and are cut off");
    }
}
