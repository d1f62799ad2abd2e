//! A listener whose connections have their TLS handshake behind them. Each handshake has a task and a time of its own, so one that is
//! slow or says nothing holds up nobody.

use crate::fault::explained;
use atoll_proto::problem::{Problem, ProblemCode};
use rustls::ServerConfig;
use std::error::Error;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Handshakes under way at once. Who comes beyond is turned away: to wait for the others would stop everybody.
const HANDSHAKES_MAX: usize = 512;
/// Connections that are ready and not taken yet.
const READY_MAX: usize = 64;
/// Between two accepts of which the first failed for want of something, such as file descriptors.
const SHORT_OF_SOMETHING: Duration = Duration::from_secs(1);
/// Between two lines in the log about those who were turned away.
const TELL_EVERY: Duration = Duration::from_secs(10);
/// The first byte of every TLS connection.
const HANDSHAKE_RECORD: u8 = 0x16;
/// Most of a plain request that is read before its connection is closed, so that the answer is not lost.
const PLAIN_BYTES_MAX: u64 = 64 * 1024;

/// How a listener tells of those whom it turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loudness {
    /// Programs of the cluster should come here and nobody else: a warning, every ten seconds at most.
    Warn,
    /// Anybody may come here: for those who look for it.
    Debug,
}

/// Accepts connections and does their handshakes.
pub struct TlsListener {
    ready: mpsc::Receiver<(TlsStream<TcpStream>, SocketAddr)>,
    accepting: JoinHandle<()>,
    address: SocketAddr,
}

impl Drop for TlsListener {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl TlsListener {
    /// Takes a listener over. `server` gives what new connections are served with; a handshake may take `patience`.
    pub fn new(
        listener: TcpListener,
        server: impl Fn() -> Arc<ServerConfig> + Send + Sync + 'static,
        patience: Duration,
        loudness: Loudness,
    ) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let (give, ready) = mpsc::channel(READY_MAX);
        let turned_away = Arc::new(TurnedAway { address, loudness, told: Mutex::default() });
        let accepting = tokio::spawn(async move {
            let places = Arc::new(Semaphore::new(HANDSHAKES_MAX));
            loop {
                let (stream, peer) = accept(&listener).await;
                let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                    turned_away.tell(peer, "too many handshakes are under way");
                    continue;
                };
                let (config, give, turned_away) = (server(), give.clone(), Arc::clone(&turned_away));
                tokio::spawn(async move {
                    match tokio::time::timeout(patience, handshake(stream, config)).await {
                        Ok(Ok(stream)) => {
                            drop(place);
                            // An error means that nobody takes connections any more.
                            drop(give.send((stream, peer)).await);
                        }
                        Ok(Err(NoTls::Left)) => {}
                        Ok(Err(NoTls::Refused(error))) => turned_away.tell(peer, &explained(error).to_string()),
                        Err(_) => turned_away.tell(peer, "the handshake did not end in time"),
                    }
                });
            }
        });
        Ok(Self { ready, accepting, address })
    }

    /// The next connection that is ready. Cancel-safe.
    pub async fn accept(&mut self) -> (TlsStream<TcpStream>, SocketAddr) {
        match self.ready.recv().await {
            Some(accepted) => accepted,
            // The task that accepts is gone, which only a panic brings about.
            None => std::future::pending().await,
        }
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }
}

/// Waits for the next connection, through all that can go wrong with one or with the machine.
async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                tracing::error!(%error, "a connection can't be accepted");
                tokio::time::sleep(SHORT_OF_SOMETHING).await;
            }
        }
    }
}

/// Whether the next connection may do better at once.
fn is_of_one_connection(error: &io::Error) -> bool {
    let of_one = [ErrorKind::ConnectionAborted, ErrorKind::ConnectionReset, ErrorKind::ConnectionRefused];
    of_one.contains(&error.kind())
}

/// Why a connection came to nothing.
enum NoTls {
    /// It was closed before anything was said: somebody only looked whether there is a listener.
    Left,
    /// It may not come in, or could not.
    Refused(Box<dyn Error + Send + Sync>),
}

impl From<io::Error> for NoTls {
    fn from(error: io::Error) -> Self {
        let left = [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe].contains(&error.kind());
        if left { Self::Left } else { Self::Refused(error.into()) }
    }
}

async fn handshake(mut stream: TcpStream, config: Arc<ServerConfig>) -> Result<TlsStream<TcpStream>, NoTls> {
    // Answers are small and whole: waiting to fill a packet only delays them.
    drop(stream.set_nodelay(true));
    let mut first = [0_u8];
    match stream.peek(&mut first).await? {
        0 => Err(NoTls::Left),
        _ if first[0] == HANDSHAKE_RECORD => Ok(TlsAcceptor::from(config).accept(stream).await?),
        _ => {
            answer_plainly(&mut stream).await?;
            Err(NoTls::Refused("it spoke no TLS: this port takes https:// only".into()))
        }
    }
}

/// Tells who speaks plain HTTP what to do instead.
async fn answer_plainly(stream: &mut TcpStream) -> io::Result<()> {
    let problem =
        Problem::new(ProblemCode::TlsRequired, "this port takes TLS only: write https:// in place of http://");
    let body = serde_json::to_string(&problem).expect("a problem is plain text and numbers");
    let head = format!(
        "HTTP/1.1 {} Bad Request\r\ncontent-type: application/problem+json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        problem.status,
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes()).await?;
    stream.shutdown().await?;
    // Closed with something unread, the connection would be reset and the answer lost.
    tokio::io::copy(&mut stream.take(PLAIN_BYTES_MAX), &mut tokio::io::sink()).await.map(drop)
}

/// Tells of those who were turned away, but not of each.
struct TurnedAway {
    address: SocketAddr,
    loudness: Loudness,
    told: Mutex<Option<Instant>>,
}

impl TurnedAway {
    fn tell(&self, peer: SocketAddr, reason: &str) {
        let listener = self.address;
        {
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            let is_due = told.is_none_or(|told| told.elapsed() >= TELL_EVERY);
            if self.loudness == Loudness::Warn && is_due {
                *told = Some(Instant::now());
                tracing::warn!(%listener, %peer, reason, "a connection was turned away");
                return;
            }
        }
        tracing::debug!(%listener, %peer, reason, "a connection was turned away");
    }
}
