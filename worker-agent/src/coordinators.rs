//! Requests to coordinators.

use atoll_proto::problem::Problem;
use atoll_trust::{ClusterSecret, Connector, Kept, Names, PeerTls, explained};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::time::Duration;

const ANSWER_LIMIT: Duration = Duration::from_secs(5);
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Sends requests to coordinators.
#[derive(Debug, Clone)]
pub struct Coordinators {
    client: Client<Connector, Full<Bytes>>,
    cluster_secret: ClusterSecret,
}

/// Why a coordinator gave no answer to use.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// It refused, and said why.
    #[error("the coordinator refused: {0}")]
    Refused(Box<Problem>),
    /// No answer in time, or none at all: another one may do.
    #[error("the coordinator cannot be reached: {detail}")]
    Unreachable {
        /// What happened.
        detail: String,
    },
    /// The answer is not what was asked for: perhaps no coordinator listens there.
    #[error("the answer (status {status}) is no coordinator's: {detail}")]
    Garbled {
        /// HTTP status.
        status: u16,
        /// What is wrong with it.
        detail: String,
    },
    /// It is a coordinator, but not one of ours.
    #[error("the coordinator speaks for cluster {theirs}, this worker belongs to {ours}")]
    OtherCluster {
        /// Its cluster.
        theirs: String,
        /// The worker's.
        ours: String,
    },
}

impl Coordinators {
    /// With the cluster's bearer token, and a certificate where there is `tls`.
    pub fn new(cluster_secret: ClusterSecret, tls: Option<Kept<PeerTls>>) -> Self {
        let connector = Connector::to_peers(HttpConnector::new_with_resolver(Names::default()), tls);
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Self { client, cluster_secret }
    }

    /// Posts `body` as JSON.
    pub async fn post<T: Serialize, R: DeserializeOwned>(&self, url: &str, body: &T) -> Result<R, CallError> {
        let answer = tokio::time::timeout(ANSWER_LIMIT, self.post_unlimited(url, body)).await;
        let slow = || CallError::Unreachable { detail: format!("no answer within {} s", ANSWER_LIMIT.as_secs()) };
        let (status, bytes) = answer.map_err(|_| slow())??;
        let garbled = |error: serde_json::Error| CallError::Garbled { status, detail: error.to_string() };
        if (200..300).contains(&status) {
            return serde_json::from_slice(&bytes).map_err(garbled);
        }
        Err(CallError::Refused(Box::new(serde_json::from_slice(&bytes).map_err(garbled)?)))
    }

    async fn post_unlimited<T: Serialize>(&self, url: &str, body: &T) -> Result<(u16, Bytes), CallError> {
        let unreachable =
            |error: &dyn std::error::Error| CallError::Unreachable { detail: crate::pg::connect::chain(error) };
        let body = serde_json::to_vec(body).map_err(|error| unreachable(&error))?;
        let request = http::Request::post(url)
            .header(http::header::AUTHORIZATION, self.cluster_secret.bearer())
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| unreachable(&error))?;
        let asked = self.client.request(request).await;
        let response = asked.map_err(|error| unreachable(explained(error.into()).as_ref()))?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| unreachable(error.as_ref()))?;
        Ok((status, body.to_bytes()))
    }
}
