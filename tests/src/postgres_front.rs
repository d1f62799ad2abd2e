//! TLS in front of a PostgreSQL server that has none: answers the request for TLS, does the handshake, and passes on in plain. Who asks
//! for no TLS is sent away.

use crate::certificates::Files;
use atoll_trust::{Pair, server};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// What a client sends that wants TLS: its length, and a number that is no version of the protocol.
const WANTS_TLS: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// Stands before one server until dropped.
#[derive(Debug)]
pub struct PostgresFront {
    accepting: JoinHandle<()>,
    encrypted: Arc<AtomicU64>,
    turned_away: Arc<AtomicU64>,
}

impl Drop for PostgresFront {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl PostgresFront {
    /// Listens on `listen` for the server at `behind`, and shows this certificate.
    pub async fn start(listen: SocketAddr, behind: SocketAddr, shown: &Files) -> Self {
        let listener = TcpListener::bind(listen).await.unwrap_or_else(|error| panic!("{listen}: {error}"));
        let pair = Pair::read("front", &shown.cert, &shown.key).expect("the story made it");
        let acceptor = TlsAcceptor::from(Arc::new(server(&pair, None)));
        let (encrypted, turned_away) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
        let accepting = tokio::spawn({
            let (encrypted, turned_away) = (Arc::clone(&encrypted), Arc::clone(&turned_away));
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let acceptor = acceptor.clone();
                    let (encrypted, turned_away) = (Arc::clone(&encrypted), Arc::clone(&turned_away));
                    tokio::spawn(async move {
                        match pass_on(stream, behind, &acceptor, &encrypted).await {
                            Ok(()) => {}
                            Err(_) => drop(turned_away.fetch_add(1, Ordering::Relaxed)),
                        }
                    });
                }
            }
        });
        Self { accepting, encrypted, turned_away }
    }

    /// Connections that spoke TLS.
    pub fn encrypted(&self) -> u64 {
        self.encrypted.load(Ordering::Relaxed)
    }

    /// Connections that did not, or did not like the certificate.
    pub fn turned_away(&self) -> u64 {
        self.turned_away.load(Ordering::Relaxed)
    }
}

async fn pass_on(
    mut stream: TcpStream,
    behind: SocketAddr,
    acceptor: &TlsAcceptor,
    encrypted: &AtomicU64,
) -> io::Result<()> {
    let mut first = [0_u8; 8];
    stream.read_exact(&mut first).await?;
    if first != WANTS_TLS {
        return Err(io::Error::other("no TLS was asked for"));
    }
    stream.write_all(b"S").await?;
    let mut stream = acceptor.accept(stream).await?;
    encrypted.fetch_add(1, Ordering::Relaxed);
    let mut server = TcpStream::connect(behind).await?;
    // However it ends: that is between the two.
    drop(copy_bidirectional(&mut stream, &mut server).await);
    Ok(())
}
