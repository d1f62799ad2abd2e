//! A small HTTP client: no retries, no cleverness, so that a story sees what a client would see.

use crate::certificates::Files;
use crate::poll;
use atoll_trust::{ByScheme, Connector, Names, Pair, Roots, explained};
use bytes::Bytes;
use http::{HeaderMap, Method, header};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Longest time for an answer; every deadline of the API is shorter.
const PATIENCE: Duration = Duration::from_secs(100);

/// For a collection's tables to be made, also on a worker that has to recover first.
const COLLECTION_PATIENCE: Duration = Duration::from_secs(60);

/// Speaks to one coordinator.
#[derive(Debug, Clone)]
pub struct Client {
    base: String,
    key: Option<String>,
    http: hyper_util::client::legacy::Client<Connector, Full<Bytes>>,
}

/// A request that is being put together.
#[derive(Debug)]
pub struct Request<'a> {
    client: &'a Client,
    method: Method,
    path: String,
    headers: Vec<(String, Vec<u8>)>,
    body: Bytes,
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body, as it came.
    pub body: Bytes,
    /// What was asked, for messages.
    asked: String,
}

impl Client {
    /// A client of the coordinator at this base URL.
    pub fn new(base: &str) -> Self {
        Self::connecting(base, ByScheme::default())
    }

    /// A client that trusts the authorities in a file, and shows a certificate if it has one.
    pub fn trusting(base: &str, ca_file: &Path, shown: Option<&Files>) -> Self {
        let roots = Roots::File(ca_file.to_owned()).read("ca_file").expect("the story made it");
        let pair = shown.map(|files| Pair::read("shown", &files.cert, &files.key).expect("the story made it"));
        Self::connecting(base, ByScheme { tls: Some(Arc::new(atoll_trust::client(roots, pair.as_ref()))) })
    }

    fn connecting(base: &str, tls: ByScheme) -> Self {
        let connector = Connector::by_scheme(HttpConnector::new_with_resolver(Names::default()), tls);
        let http = hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build(connector);
        Self { base: base.to_owned(), key: None, http }
    }

    /// One that sends this API key with each request.
    pub fn with_key(&self, key: &str) -> Self {
        Self { key: Some(key.to_owned()), ..self.clone() }
    }

    /// The API key that it sends.
    pub fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    /// The coordinator's base URL.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// A request to be put together.
    pub fn request(&self, method: Method, path: &str) -> Request<'_> {
        let request = Request { client: self, method, path: path.to_owned(), headers: Vec::new(), body: Bytes::new() };
        match &self.key {
            Some(key) => request.header(header::AUTHORIZATION.as_str(), format!("Bearer {key}")),
            None => request,
        }
    }

    /// GET.
    pub async fn get(&self, path: &str) -> Answer {
        self.request(Method::GET, path).send().await
    }

    /// DELETE.
    pub async fn delete(&self, path: &str) -> Answer {
        self.request(Method::DELETE, path).send().await
    }

    /// POST of JSON.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.request(Method::POST, path).json(body).send().await
    }

    /// PUT of JSON.
    pub async fn put(&self, path: &str, body: &Value) -> Answer {
        self.request(Method::PUT, path).json(body).send().await
    }

    /// PATCH with JSON.
    pub async fn patch(&self, path: &str, body: &Value) -> Answer {
        self.request(Method::PATCH, path).json(body).send().await
    }

    /// Imports NDJSON; gives the last line of the answer.
    pub async fn import(&self, collection: &str, lines: impl Into<Bytes>) -> Value {
        let path = format!("/v1/collections/{collection}/import");
        let request = self.request(Method::POST, &path).body("application/x-ndjson", lines);
        let answer = request.send().await.expect(200);
        answer.lines().pop().expect("an import's answer has a last line")
    }

    /// Waits until the coordinator knows a collection and its tables are there.
    pub async fn wait_until_active(&self, collection: &str) {
        let path = format!("/v1/collections/{collection}");
        poll::until("the collection to be there", COLLECTION_PATIENCE, async || {
            let answer = self.get(&path).await;
            let active = answer.status == 200 && answer.json()["state"] == "active";
            if active { Ok(()) } else { Err(answer.text()) }
        })
        .await;
    }

    /// Exports a collection, or one namespace of it.
    pub async fn export(&self, collection: &str, namespace: Option<&str>) -> Vec<Value> {
        let query = namespace.map(|namespace| format!("?namespace={namespace}")).unwrap_or_default();
        self.get(&format!("/v1/collections/{collection}/export{query}")).await.expect(200).lines()
    }
}

impl Request<'_> {
    /// Adds a header.
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.to_owned(), value.as_ref().to_vec()));
        self
    }

    /// Sets a JSON body.
    pub fn json(self, body: &Value) -> Self {
        self.body("application/json", body.to_string())
    }

    /// Sets a body.
    pub fn body(mut self, media_type: &str, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self.header(header::CONTENT_TYPE.as_str(), media_type)
    }

    /// Sends it. Panics if no answer comes.
    pub async fn send(self) -> Answer {
        let asked = format!("{} {}{}", self.method, self.client.base, self.path);
        self.try_send().await.unwrap_or_else(|error| panic!("{asked}: no answer: {error}"))
    }

    /// Sends it; the error says why no answer came.
    pub async fn try_send(self) -> Result<Answer, String> {
        let Self { client, method, path, headers, body } = self;
        let asked = format!("{method} {path}");
        let mut request = http::Request::builder().method(method).uri(format!("{}{path}", client.base));
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let request = request.body(Full::new(body)).map_err(|error| error.to_string())?;
        let whole = async {
            let answer = client.http.request(request).await.map_err(|error| chain(explained(error.into()).as_ref()))?;
            let (parts, body) = answer.into_parts();
            let body = body.collect().await.map_err(|error| chain(&error))?.to_bytes();
            Ok(Answer { status: parts.status.as_u16(), headers: parts.headers, body, asked })
        };
        tokio::time::timeout(PATIENCE, whole).await.unwrap_or_else(|_| Err("no answer in time".to_owned()))
    }
}

impl Answer {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{}: {}: no JSON: {error}: {}", self.asked, self.status, self.text()))
    }

    /// The body as lines of JSON.
    pub fn lines(&self) -> Vec<Value> {
        let text = self.text();
        text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A header, or an empty text.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The code of a problem document; empty in another answer.
    pub fn code(&self) -> String {
        let value = serde_json::from_slice::<Value>(&self.body).unwrap_or_default();
        value["code"].as_str().unwrap_or_default().to_owned()
    }

    /// Itself, if the status is this one.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}: {}", self.asked, shortened(&self.text()));
        self
    }

    /// The problem document, if it is this one.
    #[track_caller]
    pub fn expect_problem(self, status: u16, code: &str) -> Value {
        assert_eq!((self.status, self.code().as_str()), (status, code), "{}: {}", self.asked, shortened(&self.text()));
        self.json()
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(2_000).collect()
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
