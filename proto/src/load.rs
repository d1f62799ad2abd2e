//! Loads: how an import and the agents keep row-by-row insertion into graphs out of each other's way.
//!
//! A row that goes into a namespace with a graph is inserted into the graph, which takes a millisecond; building the graph anew
//! over all rows takes a third of that for each. So an import that adds many rows to a namespace (a **load**) tells the agent of
//! that namespace's shard, the agent drops the graph, and builds it again when the load is over. Searches scan meanwhile: they
//! are slower and as right as ever.
//!
//! - A coordinator says again every [`RENEW_EVERY`] all that one import loads on the agent's server, each time whole, under the
//!   import's random id ([`LoadReport`]). What is not said again lasts [`LOAD_LASTS`] at most.
//! - **Loading**, as long as any import says so: the namespace's graph is named no more, dropped at once (a plan that still
//!   counts on it sorts the rows instead), a build of it under way is sent away, and none is begun.
//! - **Ended**, when the import says that it is: the agent counts the tables it wrote to, at once, and builds what they have earned.
//! - A coordinator or an agent that dies in the middle leaves nothing behind: what the coordinator said runs out, and the agent
//!   remembers loads in memory alone. Without a load the usual rule holds: a namespace that does not grow fast gets its graph.
//! - A late message revives a load that has ended for [`LOAD_LASTS`]: the graph comes that much later, and nothing else happens.
//!   A lost one, or an agent that does not answer, makes the import slow and no more.

use crate::{CollectionName, ShardId};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Path on an agent: `PUT` [`LoadReport`] gives [`LoadHeard`].
pub const LOAD_PATH: &str = "/agent/v1/loads";
/// How often a coordinator says what it loads.
pub const RENEW_EVERY: Duration = Duration::from_secs(2);
/// How long that is believed.
pub const LOAD_LASTS: Duration = Duration::from_secs(7);
/// How long an agent that heard of a load waits for the graphs to be gone before it answers.
pub const DROP_PATIENCE: Duration = Duration::from_secs(3);
/// From this many rows on, an import that ended is told to the agent, and its tables are counted.
pub const TOLD_FROM_ROWS: u64 = 500;

/// All that one import does to the tables of one server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadReport {
    /// The import: random, its own.
    pub import: String,
    /// Whether it is over.
    pub ended: bool,
    /// The tables it writes to.
    pub tables: Vec<LoadedTable>,
}

/// A table that an import writes to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadedTable {
    /// The shard.
    pub shard: ShardId,
    /// The collection.
    pub collection: CollectionName,
    /// Namespaces that it adds many rows to.
    pub namespaces: Vec<String>,
}

/// The agent heard of a load.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadHeard {
    /// Graphs of the loaded namespaces that are still there.
    pub graphs_left: u32,
}
