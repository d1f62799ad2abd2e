//! One keep-alive connection to a coordinator. No pool: a request that waited in a queue of ours would be measured as slow.

use crate::cli::client::Client;
use crate::cli::error::CommandError;
use atoll_proto::limits;
use atoll_trust::{ClientConfig, MaybeTls};
use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

/// Longest that an answer is waited for: more than any coordinator takes.
const PATIENCE: Duration = Duration::from_millis(limits::DEADLINE_MS_MAX + 5_000);

/// A request, ready to be sent as often as one likes.
#[derive(Debug)]
pub(super) struct Request {
    method: Method,
    path: Uri,
    body: Bytes,
}

impl Request {
    /// A request without a body.
    pub(super) fn get(path: &str) -> Self {
        Self { method: Method::GET, path: uri(path), body: Bytes::new() }
    }

    /// A request with JSON.
    pub(super) fn json(method: Method, path: &str, body: String) -> Self {
        Self { method, path: uri(path), body: body.into() }
    }
}

#[cfg(test)]
impl Request {
    pub(super) fn is_get(&self) -> bool {
        self.method == Method::GET
    }

    pub(super) fn body_text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

fn uri(path: &str) -> Uri {
    path.parse().expect("what is no path's character was percent-encoded")
}

/// Why a request was not answered as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// 429: more is asked than the coordinator takes on.
    TooMany,
    /// A problem, by its code.
    Problem(String),
}

/// What a connection needs to know.
#[derive(Debug, Clone)]
pub(super) struct Address {
    host: HeaderValue,
    connect_to: String,
    /// Whom the certificate has to be for, and what TLS is spoken with.
    tls: Option<(String, Arc<ClientConfig>)>,
    timeout_ms: Option<HeaderValue>,
    authorization: Option<HeaderValue>,
}

impl Address {
    /// The coordinator that a client talks to.
    pub(super) fn of(client: &Client) -> Result<Self, CommandError> {
        let refuse = || CommandError::Usage(format!("{} is no coordinator's address", client.base()));
        let uri: Uri = client.base().parse().map_err(|_| refuse())?;
        let authority = uri.authority().ok_or_else(refuse)?;
        let tls = client.tls();
        let usual_port = if tls.is_some() { 443 } else { 80 };
        Ok(Self {
            host: HeaderValue::from_str(authority.as_str()).map_err(|_| refuse())?,
            connect_to: format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(usual_port)),
            tls: tls.map(|tls| (authority.host().to_owned(), tls)),
            timeout_ms: client.timeout_ms().map(HeaderValue::from),
            authorization: client.authorization().cloned(),
        })
    }
}

/// A connection, made when it is first needed and again after it broke.
pub(super) struct Connection {
    address: Address,
    sender: Option<http1::SendRequest<Full<Bytes>>>,
}

impl Connection {
    /// Connects with the first request.
    pub(super) fn new(address: Address) -> Self {
        Self { address, sender: None }
    }

    /// Sends a request; gives the answer's body and how long it took from sending to its last byte. Connecting is not counted.
    pub(super) async fn send(&mut self, request: &Request) -> Result<(Bytes, Duration), Failure> {
        let mut sender = match self.sender.take() {
            Some(sender) if sender.is_ready() => sender,
            _ => self.connect().await?,
        };
        let broken = |_: hyper::Error| failure("connection-broken");
        let wire = self.wire(request);
        let started = Instant::now();
        let exchange = async {
            let answer = sender.send_request(wire).await.map_err(broken)?;
            let status = answer.status();
            Ok((status, answer.into_body().collect().await.map_err(broken)?.to_bytes()))
        };
        let (status, body) = timeout(PATIENCE, exchange).await.map_err(|_| failure("no-answer"))??;
        let took = started.elapsed();
        // The connection is let go by now: its task sees the answer's end before we do.
        if sender.ready().await.is_ok() {
            self.sender = Some(sender);
        }
        if status.is_success() { Ok((body, took)) } else { Err(refusal(status, &body)) }
    }

    async fn connect(&self) -> Result<http1::SendRequest<Full<Bytes>>, Failure> {
        let connecting = async {
            let stream = TcpStream::connect(&self.address.connect_to).await.map_err(drop)?;
            stream.set_nodelay(true).map_err(drop)?;
            let stream = match &self.address.tls {
                Some((host, tls)) => MaybeTls::shaken(stream, tls.clone(), host).await.map_err(drop)?,
                None => MaybeTls::Plain(stream),
            };
            http1::handshake(TokioIo::new(stream)).await.map_err(drop)
        };
        let connected = timeout(PATIENCE, connecting).await.map_err(|_| failure("no-answer"))?;
        let (sender, connection) = connected.map_err(|()| failure("no-connection"))?;
        // What breaks the connection also fails the request that waits for it.
        tokio::spawn(async move { drop(connection.await) });
        Ok(sender)
    }

    fn wire(&self, request: &Request) -> http::Request<Full<Bytes>> {
        let mut wire = http::Request::new(Full::new(request.body.clone()));
        *wire.method_mut() = request.method.clone();
        *wire.uri_mut() = request.path.clone();
        let headers = wire.headers_mut();
        headers.insert(header::HOST, self.address.host.clone());
        if let Some(authorization) = &self.address.authorization {
            headers.insert(header::AUTHORIZATION, authorization.clone());
        }
        if !request.body.is_empty() {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        if let Some(ms) = &self.address.timeout_ms {
            headers.insert("x-timeout-ms", ms.clone());
        }
        wire
    }
}

fn failure(code: &str) -> Failure {
    Failure::Problem(code.to_owned())
}

fn refusal(status: StatusCode, body: &[u8]) -> Failure {
    #[derive(Deserialize)]
    struct Problem {
        code: String,
    }
    if status == StatusCode::TOO_MANY_REQUESTS {
        return Failure::TooMany;
    }
    match serde_json::from_slice::<Problem>(body) {
        Ok(problem) => Failure::Problem(problem.code),
        Err(_) => Failure::Problem(format!("status-{}", status.as_u16())),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::cli::testing::FakeCoordinator;

    #[tokio::test]
    async fn refusals_are_told_apart_and_a_closed_connection_is_made_again() {
        let overloaded = r#"{"code":"overloaded"}"#;
        let fake = FakeCoordinator::in_turn(vec![
            (200, "{}"),
            (429, overloaded),
            (503, r#"{"code":"shard-unavailable"}"#),
            (500, "oops"),
        ])
        .await;
        let mut connection = Connection::new(Address::of(&fake.client()).unwrap());
        let request = Request::json(Method::POST, "/v1/x%20y", "{\"a\":1}".to_owned());
        assert_eq!(connection.send(&request).await.unwrap().0, "{}");
        assert!(fake.request().await.starts_with("POST /v1/x%20y HTTP/1.1\r\nhost: 127.0.0.1:"));
        assert_eq!(connection.send(&request).await, Err(Failure::TooMany));
        assert_eq!(connection.send(&request).await, Err(failure("shard-unavailable")));
        assert_eq!(connection.send(&request).await, Err(failure("status-500")));
        assert_eq!(connection.send(&request).await, Err(failure("connection-broken")));
    }
}
