//! How an HTTP client connects: plainly or by TLS.

use crate::certificates::server_name;
use crate::kept::Kept;
use crate::names::Names;
use crate::peers::PeerTls;
use http::Uri;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use std::error::Error;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tower::Service;

/// Longest that a handshake may take.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);

/// Connects to where a URL leads.
#[derive(Debug, Clone)]
pub struct Connector {
    http: HttpConnector<Names>,
    choice: Choice,
}

/// When TLS is spoken.
#[derive(Debug, Clone)]
enum Choice {
    /// To everybody, whatever the URL says; or to nobody.
    Peers(Option<Kept<PeerTls>>),
    /// Where the URL says `https`.
    ByScheme(ByScheme),
}

/// What is needed where a URL says `https`.
#[derive(Debug, Clone, Default)]
pub struct ByScheme {
    /// Whom to trust; none where no URL says so.
    pub tls: Option<Arc<ClientConfig>>,
}

impl Connector {
    /// To programs of the cluster: by TLS if there are certificates, whatever the URL says. The catalog of a cluster that had none
    /// when it was made still says `http`.
    pub fn to_peers(mut http: HttpConnector<Names>, tls: Option<Kept<PeerTls>>) -> Self {
        http.enforce_http(false);
        Self { http, choice: Choice::Peers(tls) }
    }

    /// By TLS where the URL says so.
    pub fn by_scheme(mut http: HttpConnector<Names>, tls: ByScheme) -> Self {
        http.enforce_http(false);
        Self { http, choice: Choice::ByScheme(tls) }
    }

    /// What TLS is to be spoken with, if it is.
    fn tls_for(&self, uri: &Uri) -> Result<Option<Arc<ClientConfig>>, io::Error> {
        let is_https = uri.scheme_str() == Some("https");
        let unset = |what: &str| io::Error::new(io::ErrorKind::InvalidInput, what.to_owned());
        match &self.choice {
            Choice::Peers(Some(kept)) => Ok(Some(Arc::clone(&kept.now().client))),
            Choice::Peers(None) if is_https => Err(unset("it takes TLS only, and [tls] is not set here")),
            Choice::ByScheme(ByScheme { tls: None }) if is_https => Err(unset("TLS was not prepared for")),
            Choice::ByScheme(ByScheme { tls }) if is_https => Ok(tls.clone()),
            Choice::Peers(None) | Choice::ByScheme(_) => Ok(None),
        }
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<MaybeTls>;
    type Error = Box<dyn Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.http.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let tls = self.tls_for(&uri);
        let host = uri.host().unwrap_or_default().to_owned();
        let connecting = self.http.call(uri);
        Box::pin(async move {
            let tls = tls?;
            let stream = connecting.await?.into_inner();
            let Some(tls) = tls else { return Ok(TokioIo::new(MaybeTls::Plain(stream))) };
            Ok(TokioIo::new(MaybeTls::shaken(stream, tls, &host).await?))
        })
    }
}

/// A connection, encrypted or not.
#[derive(Debug)]
pub enum MaybeTls {
    /// Not.
    Plain(TcpStream),
    /// Encrypted.
    Tls(Box<TlsStream<TcpStream>>),
}

impl MaybeTls {
    /// Does the handshake with whoever is at the other end, who must be `host`.
    pub async fn shaken(stream: TcpStream, tls: Arc<ClientConfig>, host: &str) -> io::Result<Self> {
        let name = server_name(host)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, format!("{host:?} is no name of a host")))?;
        let shaking = TlsConnector::from(tls).connect(name, stream);
        match tokio::time::timeout(HANDSHAKE_LIMIT, shaking).await {
            Ok(shaken) => Ok(Self::Tls(Box::new(shaken?))),
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the TLS handshake did not end in time")),
        }
    }
}

impl Connection for MaybeTls {
    fn connected(&self) -> Connected {
        match self {
            Self::Plain(stream) => stream.connected(),
            Self::Tls(stream) => stream.get_ref().0.connected(),
        }
    }
}

impl AsyncRead for MaybeTls {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, into),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, into),
        }
    }
}

impl AsyncWrite for MaybeTls {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, from),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, from),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        from: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(context, from),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(context, from),
        }
    }
}
