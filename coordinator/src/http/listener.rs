//! Serving connections: with a limit on how long a client may take for its headers, which axum's own `serve` has not.

use atoll_trust::{TlsListener, TlsStream};
use axum::Router;
use axum::serve::Listener;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};

/// How long clients are waited for.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For a request's headers to be whole; an idle connection is closed after the same time.
    pub headers: Duration,
    /// For what is under way, once serving is to end.
    pub drain: Duration,
}

/// Where clients come from.
pub enum Door {
    /// As they are.
    Plain(TcpListener),
    /// With their handshake behind them.
    Tls(TlsListener),
}

/// Serves until `stop` resolves, then lets what is under way finish, within limits.
pub async fn serve(door: Door, router: Router, stop: impl Future<Output = ()>, patience: Patience) {
    match door {
        Door::Plain(listener) => serve_from(Plain(listener), router, stop, patience).await,
        Door::Tls(listener) => serve_from(Tls(listener), router, stop, patience).await,
    }
}

async fn serve_from(mut listener: impl Listener, router: Router, stop: impl Future<Output = ()>, patience: Patience) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(patience.headers);
    let connections = GracefulShutdown::new();
    let mut stop = pin!(stop);
    loop {
        let (stream, _) = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stop => break,
        };
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

struct Plain(TcpListener);

impl Listener for Plain {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        let (stream, peer) = Listener::accept(&mut self.0).await;
        // Answers are small and whole: waiting to fill a packet only delays them.
        drop(stream.set_nodelay(true));
        (stream, peer)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

struct Tls(TlsListener);

impl Listener for Tls {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TlsStream<TcpStream>, SocketAddr) {
        self.0.accept().await
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.0.local_addr())
    }
}
