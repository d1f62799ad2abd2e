//! What handlers share.

use super::bodies::Bodies;
use crate::agents::AgentBoard;
use crate::config::Limits;
use crate::findings::Findings;
use crate::raft::CatalogNode;
use crate::read::Reader;
use crate::rebalance::Rebalancer;
use crate::search::Searcher;
use crate::telemetry::Metrics;
use crate::workers::Workers;
use crate::write::Writer;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use tokio::sync::Semaphore;

/// What handlers share; one pointer to clone, as every layer around a request does.
#[derive(Clone)]
pub struct App(Arc<Parts>);

/// What handlers work with.
pub struct Parts {
    /// The catalog.
    pub node: CatalogNode,
    /// What agents last said.
    pub board: AgentBoard,
    /// Connections to workers.
    pub workers: Arc<Workers>,
    /// Says what is wrong or unwise.
    pub findings: Findings,
    /// Plans moves of shards.
    pub rebalancer: Rebalancer,
    /// Answers searches.
    pub searcher: Searcher,
    /// Carries out writes.
    pub writer: Writer,
    /// Answers reads.
    pub reader: Reader,
    /// Every metric.
    pub metrics: Metrics,
    /// How much a request may do.
    pub limits: Limits,
    /// Requests under way.
    pub requests: Semaphore,
    /// Memory for the bodies of requests.
    pub bodies: Bodies,
    /// Whether it was told to stop, and serves only until load balancers have noticed.
    pub leaving: AtomicBool,
    /// Imports and exports under way.
    pub streams: Arc<Semaphore>,
}

impl App {
    /// Shares the parts.
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }
}

impl Deref for App {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}
