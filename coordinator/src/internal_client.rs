//! The HTTP client that a coordinator asks other coordinators and agents with: JSON, the cluster secret as bearer, an
//! absolute deadline, and errors that say whether the question can have arrived.

use atoll_proto::problem::Problem;
use atoll_trust::{ClusterSecret, Connector, Kept, Names, PeerTls, explained};
use bytes::Bytes;
use http::{Method, Request, Response, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// Set on a request that a follower passed on: whoever gets it answers itself or refuses, so nothing goes in circles.
pub(crate) const FORWARDED_HEADER: &str = "x-atoll-forwarded";
/// Silence on a connection before it is asked whether it is still there, and between two such questions.
const KEEPALIVE: Duration = Duration::from_secs(10);
const KEEPALIVE_RETRIES: u32 = 3;
/// Bytes that a body may have, either way. A snapshot is the largest.
pub(crate) const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The client; a clone shares the connections.
#[derive(Clone)]
pub struct InternalClient {
    client: Client<Connector, Full<Bytes>>,
    secret: ClusterSecret,
    names: Names,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Nobody listens there: the question was not delivered.
    #[error("{url} can't be reached")]
    Unreachable {
        /// What was asked.
        url: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The connection broke: the question may have been delivered.
    #[error("{url} did not answer")]
    Broken {
        /// What was asked.
        url: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No answer in time: the question may have been delivered.
    #[error("{url} did not answer in time")]
    Deadline {
        /// What was asked.
        url: String,
    },
    /// It was understood and not done.
    #[error("{url} refused")]
    Refused {
        /// What was asked.
        url: String,
        /// Why not.
        #[source]
        problem: Box<Problem>,
    },
    /// The answer is not what was asked for: another program listens there, or another version.
    #[error("{url} gave an unexpected answer ({status})")]
    Unexpected {
        /// What was asked.
        url: String,
        /// HTTP status.
        status: u16,
    },
}

impl CallError {
    /// Whether the question can have had an effect.
    pub fn may_have_arrived(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Refused { .. } => false,
            Self::Broken { .. } | Self::Deadline { .. } | Self::Unexpected { .. } => true,
        }
    }
}

impl InternalClient {
    /// A client that presents the secret, and a certificate where there is `tls`.
    pub fn new(secret: &ClusterSecret, tls: Option<Kept<PeerTls>>) -> Self {
        let names = Names::default();
        let mut connector = HttpConnector::new_with_resolver(names.clone());
        // Heartbeats are small; waiting to fill a packet would eat their deadline.
        connector.set_nodelay(true);
        // A host that is gone says nothing, and some answers are waited for for hours.
        connector.set_keepalive(Some(KEEPALIVE));
        connector.set_keepalive_interval(Some(KEEPALIVE));
        connector.set_keepalive_retries(Some(KEEPALIVE_RETRIES));
        let connector = Connector::to_peers(connector, tls);
        let client = Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).build(connector);
        Self { client, secret: secret.clone(), names }
    }

    /// Where hosts are, as this client knows it.
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// `GET` of a JSON document.
    pub async fn get<T: DeserializeOwned>(&self, base: &str, path: &str, deadline: Instant) -> Result<T, CallError> {
        let request = self.request(Method::GET, base, path).body(Full::default());
        parsed(base, path, self.call(base, path, request, deadline).await?)
    }

    /// `PUT` of one JSON document for another.
    pub async fn put<T: DeserializeOwned>(
        &self,
        base: &str,
        path: &str,
        body: &impl Serialize,
        deadline: Instant,
    ) -> Result<T, CallError> {
        self.send(self.request(Method::PUT, base, path), base, path, body, deadline).await
    }

    /// `POST` of one JSON document for another.
    pub async fn post<T: DeserializeOwned>(
        &self,
        base: &str,
        path: &str,
        body: &impl Serialize,
        deadline: Instant,
    ) -> Result<T, CallError> {
        self.send(self.request(Method::POST, base, path), base, path, body, deadline).await
    }

    /// `POST` that the receiver must answer itself.
    pub(crate) async fn forward<T: DeserializeOwned>(
        &self,
        base: &str,
        path: &str,
        body: &impl Serialize,
        deadline: Instant,
    ) -> Result<T, CallError> {
        let request = self.request(Method::POST, base, path).header(FORWARDED_HEADER, "true");
        self.send(request, base, path, body, deadline).await
    }

    async fn send<T: DeserializeOwned>(
        &self,
        request: http::request::Builder,
        base: &str,
        path: &str,
        body: &impl Serialize,
        deadline: Instant,
    ) -> Result<T, CallError> {
        parsed(base, path, self.call(base, path, request.body(json_body(body)), deadline).await?)
    }

    fn request(&self, method: Method, base: &str, path: &str) -> http::request::Builder {
        Request::builder()
            .method(method)
            .uri(url(base, path))
            .header(header::AUTHORIZATION, self.secret.bearer())
            .header(header::CONTENT_TYPE, "application/json")
    }

    async fn call(
        &self,
        base: &str,
        path: &str,
        request: http::Result<Request<Full<Bytes>>>,
        deadline: Instant,
    ) -> Result<Bytes, CallError> {
        let url = url(base, path);
        let request = match request {
            Ok(request) => request,
            Err(error) => return Err(CallError::Unreachable { url, source: error.into() }),
        };
        let answer = match timeout_at(deadline, self.client.request(request)).await {
            Err(_) => return Err(CallError::Deadline { url }),
            Ok(Err(error)) if error.is_connect() => {
                return Err(CallError::Unreachable { url, source: explained(error.into()) });
            }
            Ok(Err(error)) => return Err(CallError::Broken { url, source: explained(error.into()) }),
            Ok(Ok(answer)) => answer,
        };
        let status = answer.status();
        let body = match timeout_at(deadline, body_of(answer)).await {
            Err(_) => return Err(CallError::Deadline { url }),
            Ok(Err(source)) => return Err(CallError::Broken { url, source }),
            Ok(Ok(body)) => body,
        };
        if status.is_success() {
            return Ok(body);
        }
        match serde_json::from_slice(&body) {
            Ok(problem) => Err(CallError::Refused { url, problem: Box::new(problem) }),
            Err(_) => Err(CallError::Unexpected { url, status: status.as_u16() }),
        }
    }
}

fn url(base: &str, path: &str) -> String {
    format!("{}{path}", base.trim_end_matches('/'))
}

fn json_body(body: &impl Serialize) -> Full<Bytes> {
    let bytes = serde_json::to_vec(body).expect("wire shapes are plain structs with string keys, which serialise");
    Full::new(bytes.into())
}

async fn body_of(answer: Response<Incoming>) -> Result<Bytes, Box<dyn std::error::Error + Send + Sync>> {
    Ok(Limited::new(answer.into_body(), BODY_BYTES_MAX).collect().await?.to_bytes())
}

fn parsed<T: DeserializeOwned>(base: &str, path: &str, body: Bytes) -> Result<T, CallError> {
    serde_json::from_slice(&body).map_err(|_| CallError::Unexpected { url: url(base, path), status: 200 })
}
