//! What handlers share.

use crate::agents::AgentBoard;
use crate::config::Limits;
use crate::raft::CatalogNode;
use crate::read::Reader;
use crate::search::Searcher;
use crate::telemetry::Metrics;
use crate::workers::Workers;
use crate::write::Writer;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// What handlers share; cheap to clone.
#[derive(Clone)]
pub struct App {
    /// The catalog.
    pub node: CatalogNode,
    /// What agents last said.
    pub board: AgentBoard,
    /// Connections to workers.
    pub workers: Arc<Workers>,
    /// Answers searches.
    pub searcher: Searcher,
    /// Carries out writes.
    pub writer: Writer,
    /// Answers reads.
    pub reader: Reader,
    /// Every metric.
    pub metrics: Metrics,
    /// How much a request may do.
    pub limits: Arc<Limits>,
    /// Requests under way.
    pub requests: Arc<Semaphore>,
    /// Imports and exports under way.
    pub streams: Arc<Semaphore>,
}
