//! The HTTP client that commands and `dev` talk to coordinators with.

use super::error::{CommandError, ShownProblem};
use atoll_proto::limits;
use atoll_trust::{ByScheme, ClientConfig, Connector, Names, Pair, Roots, TlsError, explained};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Body of a request: nothing, JSON, or a stream.
pub(crate) type RequestBody = UnsyncBoxBody<Bytes, io::Error>;

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How much longer than the coordinator's own deadline an answer is waited for, so that its word comes first.
const GRACE: Duration = Duration::from_secs(5);

/// Talks to one coordinator.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    base: String,
    timeout_ms: Option<u64>,
    bearer: Option<HeaderValue>,
    tls: ByScheme,
    http: HttpClient<Connector, RequestBody>,
}

/// Whom to trust behind `https://`, and what to show there.
#[derive(Debug, Clone, Default)]
pub(crate) struct Trusted {
    /// File of authorities; none for those of this machine.
    pub(crate) ca_file: Option<PathBuf>,
    /// Files of a certificate and its key, for agents, who let nobody in without one.
    pub(crate) shown: Option<(PathBuf, PathBuf)>,
}

impl Trusted {
    fn read(&self) -> Result<ClientConfig, TlsError> {
        let roots = self.ca_file.clone().map_or(Roots::System, Roots::File).read("--ca-file")?;
        let shown =
            self.shown.as_ref().map(|(cert_file, key_file)| Pair::read("tls", cert_file, key_file)).transpose()?;
        Ok(atoll_trust::client(roots, shown.as_ref()))
    }
}

/// How long the coordinator may take when the user says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    /// Its own default.
    Usual,
    /// The most it takes: for work on every shard.
    Long,
}

/// An answer, whatever its status.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The HTTP status.
    pub(crate) status: StatusCode,
    /// The body.
    pub(crate) text: String,
    url: String,
}

impl Answer {
    /// The body as what it should be.
    pub(crate) fn parse<T: DeserializeOwned>(&self) -> Result<T, CommandError> {
        serde_json::from_str(&self.text).map_err(|source| CommandError::Foreign {
            url: self.url.clone(),
            status: self.status.as_u16(),
            source,
        })
    }

    fn success(self) -> Result<Self, CommandError> {
        if self.status.is_success() { Ok(self) } else { Err(self.refusal()) }
    }

    fn refusal(self) -> CommandError {
        match ShownProblem::parse(&self.text) {
            Ok(problem) => CommandError::Problem(Box::new(problem)),
            Err(source) => CommandError::Foreign { url: self.url, status: self.status.as_u16(), source },
        }
    }
}

impl Client {
    /// Trusts the authorities of this machine.
    #[cfg(test)]
    pub(crate) fn new(url: &str, timeout_ms: Option<u64>) -> Result<Self, CommandError> {
        Self::trusting(url, timeout_ms, &Trusted::default())
    }

    /// Takes a base URL such as `http://127.0.0.1:7700`, or one with `https://`. Connects when first used.
    pub(crate) fn trusting(url: &str, timeout_ms: Option<u64>, trusted: &Trusted) -> Result<Self, CommandError> {
        let (base, is_https) = checked_base(url)?;
        // Only where it is needed: reading a machine's authorities takes its time.
        let tls = is_https.then(|| trusted.read().map(Arc::new)).transpose();
        let tls = ByScheme { tls: tls.map_err(|error| CommandError::failed(&error))? };
        let mut connector = HttpConnector::new_with_resolver(Names::default());
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        connector.set_nodelay(true);
        let http = HttpClient::builder(TokioExecutor::new()).build(Connector::by_scheme(connector, tls.clone()));
        Ok(Self { base, timeout_ms, bearer: None, tls, http })
    }

    /// Sends this API key with every request, if there is one.
    pub(crate) fn with_key(self, key: Option<String>) -> Result<Self, CommandError> {
        match key {
            Some(key) => self.with_bearer(&key),
            None => Ok(self),
        }
    }

    /// The `Authorization` header that is sent.
    pub(crate) fn authorization(&self) -> Option<&HeaderValue> {
        self.bearer.as_ref()
    }

    /// Sends the secret with every request, as agents want it.
    pub(crate) fn with_bearer(mut self, secret: &str) -> Result<Self, CommandError> {
        let mut value = HeaderValue::try_from(format!("Bearer {secret}"))
            .map_err(|_| CommandError::Failed("the secret or key does not fit a header".to_owned()))?;
        value.set_sensitive(true);
        self.bearer = Some(value);
        Ok(self)
    }

    /// The base URL, without a slash at its end.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// What TLS is spoken with, if it is.
    pub(crate) fn tls(&self) -> Option<Arc<ClientConfig>> {
        self.tls.tls.clone()
    }

    /// The deadline of requests in milliseconds, as far as one was asked for.
    pub(crate) fn timeout_ms(&self) -> Option<u64> {
        self.timeout_ms
    }

    /// `GET`; a problem is an error.
    pub(crate) async fn get(&self, path: &str) -> Result<Answer, CommandError> {
        self.get_any(path).await?.success()
    }

    /// `GET`; any status is an answer.
    pub(crate) async fn get_any(&self, path: &str) -> Result<Answer, CommandError> {
        self.whole(self.request(Method::GET, path), empty(), Patience::Usual).await
    }

    /// `DELETE`; a problem is an error.
    pub(crate) async fn delete(&self, path: &str) -> Result<Answer, CommandError> {
        self.whole(self.request(Method::DELETE, path), empty(), Patience::Long).await?.success()
    }

    /// Sends JSON; a problem is an error.
    pub(crate) async fn send<T: Serialize>(
        &self,
        method: Method,
        path: &str,
        headers: &[(header::HeaderName, String)],
        body: &T,
        patience: Patience,
    ) -> Result<Answer, CommandError> {
        let body = serde_json::to_vec(body).expect("wire shapes have text keys only, so they serialise");
        let mut request = self.request(method, path).header(header::CONTENT_TYPE, "application/json");
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let body = Full::new(Bytes::from(body)).map_err(|never| match never {}).boxed_unsync();
        self.whole(request, body, patience).await?.success()
    }

    /// `POST` of JSON without further headers.
    pub(crate) async fn post<T: Serialize>(&self, path: &str, body: &T) -> Result<Answer, CommandError> {
        self.send(Method::POST, path, &[], body, Patience::Usual).await
    }

    /// Sends a stream and gives the answer as a stream, as soon as its head is there: the body may still be on its way.
    /// No deadline: how long it takes depends on how much it is.
    pub(crate) async fn stream(
        &self,
        method: Method,
        path: &str,
        content_type: Option<&'static str>,
        body: RequestBody,
    ) -> Result<Response<Incoming>, CommandError> {
        let mut request = self.request(method, path);
        if let Some(content_type) = content_type {
            request = request.header(header::CONTENT_TYPE, content_type);
        }
        if let Some(ms) = self.timeout_ms {
            request = request.header("x-timeout-ms", ms);
        }
        let response = self.head(request, body).await?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(self.read(response).await?.refusal())
    }

    /// An error of the connection while a streamed answer is read.
    pub(crate) fn broken(&self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> CommandError {
        CommandError::Broken { url: self.base.clone(), source: explained(source.into()) }
    }

    fn request(&self, method: Method, path: &str) -> http::request::Builder {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.base));
        if let Some(bearer) = &self.bearer {
            request = request.header(header::AUTHORIZATION, bearer);
        }
        request
    }

    async fn whole(
        &self,
        mut request: http::request::Builder,
        body: RequestBody,
        patience: Patience,
    ) -> Result<Answer, CommandError> {
        let asked_ms = match patience {
            Patience::Usual => self.timeout_ms,
            Patience::Long => self.timeout_ms.or(Some(limits::DEADLINE_MS_MAX)),
        };
        if let Some(ms) = asked_ms {
            request = request.header("x-timeout-ms", ms);
        }
        let wait = Duration::from_millis(asked_ms.unwrap_or(limits::DEADLINE_MS_MAX)).saturating_add(GRACE);
        let exchange = async { self.read(self.head(request, body).await?).await };
        match tokio::time::timeout(wait, exchange).await {
            Ok(answer) => answer,
            Err(_) => Err(CommandError::NoAnswer { url: self.base.clone(), seconds: wait.as_secs() }),
        }
    }

    async fn head(
        &self,
        request: http::request::Builder,
        body: RequestBody,
    ) -> Result<Response<Incoming>, CommandError> {
        let request = request
            .header(header::USER_AGENT, concat!("atoll/", env!("CARGO_PKG_VERSION")))
            .body(body)
            .map_err(|source| CommandError::Failed(format!("this request cannot be sent: {source}")))?;
        self.http.request(request).await.map_err(|error| {
            if error.is_connect() {
                CommandError::Unreachable { url: self.base.clone(), source: explained(error.into()) }
            } else {
                self.broken(error)
            }
        })
    }

    async fn read(&self, response: Response<Incoming>) -> Result<Answer, CommandError> {
        let status = response.status();
        let body = response.into_body().collect().await.map_err(|error| self.broken(error))?.to_bytes();
        Ok(Answer { status, text: String::from_utf8_lossy(&body).into_owned(), url: self.base.clone() })
    }
}

/// No body.
pub(crate) fn empty() -> RequestBody {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// The address as it is used, and whether it is one for TLS.
fn checked_base(url: &str) -> Result<(String, bool), CommandError> {
    let refuse = |why: &str| CommandError::Usage(format!("{url:?} is no coordinator's address: {why}"));
    let uri: Uri = url.parse().map_err(|_| refuse("expected something like http://127.0.0.1:7700"))?;
    let is_https = match uri.scheme_str() {
        Some("http") => false,
        Some("https") => true,
        Some(_) | None => return Err(refuse("it must begin with http:// or https://")),
    };
    if !uri.path().trim_end_matches('/').is_empty() || uri.query().is_some() {
        return Err(refuse("leave out what follows host and port"));
    }
    Ok((url.trim_end_matches('/').to_owned(), is_https))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_plain_addresses_are_taken() {
        assert_eq!(checked_base("http://127.0.0.1:7700/").unwrap(), ("http://127.0.0.1:7700".to_owned(), false));
        assert_eq!(checked_base("https://host").unwrap(), ("https://host".to_owned(), true));
        for bad in ["127.0.0.1:7700", "http://x/v1", "http://x?y", "ftp://x", "", "http://"] {
            assert!(checked_base(bad).is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn nobody_there_is_told_apart() {
        // A port that was just free: nobody listens on it.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let client = Client::new(&format!("http://127.0.0.1:{port}"), None).unwrap();
        assert!(matches!(client.get("/version").await, Err(CommandError::Unreachable { .. })));
    }
}
