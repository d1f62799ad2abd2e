//! Questions to one agent.

use crate::internal_client::{CallError, InternalClient};
use atoll_proto::agent::{AgentStatus, Applied, DESIRED_PATH, DesiredState, STATUS_PATH};
use atoll_proto::group::{GROUP_PATH, Report, ToldGroup};
use atoll_proto::load::{LOAD_PATH, LoadHeard, LoadReport};
use atoll_proto::moves::{MOVE_PATH, MoveOrder, MoveReport};
use tokio::time::Instant;

/// Asks agents. A clone shares the connections.
#[derive(Clone)]
pub struct AgentClient {
    client: InternalClient,
}

impl AgentClient {
    /// Asks through this client.
    pub fn new(client: InternalClient) -> Self {
        Self { client }
    }

    /// What the agent at this base URL knows of its server.
    pub async fn status(&self, agent_url: &str, deadline: Instant) -> Result<AgentStatus, CallError> {
        self.client.get(agent_url, STATUS_PATH, deadline).await
    }

    /// Tells the agent what its server should look like; answers when the server does. After an error or a cancelled call
    /// the server may match or not: telling again does no harm.
    pub async fn put_desired(
        &self,
        agent_url: &str,
        desired: &DesiredState,
        deadline: Instant,
    ) -> Result<Applied, CallError> {
        self.client.put(agent_url, DESIRED_PATH, desired, deadline).await
    }

    /// Orders the agent to do its part of a move. After an error or a cancelled call it may be done or not: ordering again does no harm.
    pub async fn put_move(
        &self,
        agent_url: &str,
        order: &MoveOrder,
        deadline: Instant,
    ) -> Result<MoveReport, CallError> {
        self.client.put(agent_url, MOVE_PATH, order, deadline).await
    }

    /// Tells the agent the record of its group; answers with what it says of itself. Telling again does no harm.
    pub async fn put_group(&self, agent_url: &str, told: &ToldGroup, deadline: Instant) -> Result<Report, CallError> {
        self.client.put(agent_url, GROUP_PATH, told, deadline).await
    }

    /// Tells the agent what an import loads; answers when the graphs of that are gone, or do not go soon. Telling again does no harm.
    pub async fn put_load(
        &self,
        agent_url: &str,
        report: &LoadReport,
        deadline: Instant,
    ) -> Result<LoadHeard, CallError> {
        self.client.put(agent_url, LOAD_PATH, report, deadline).await
    }
}
