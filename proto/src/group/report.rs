//! What a member says of itself.

use super::member::Server;
use super::record::{Disk, Position};
use super::stamp::Stamp;
use crate::{CatalogVersion, Generation};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// What a member says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Its data.
    pub disk: Disk,
    /// The generation of the newest record that it keeps: its promise.
    pub generation: Generation,
    /// What its server is doing.
    pub server: Server,
    /// How far its log goes; none where that can't be told.
    pub position: Option<Position>,
    /// Whether its log holds what the primary's has not, or lacks what the primary does not have any more: its data has to be mended.
    pub diverged: bool,
    /// Of a primary: the record whose list PostgreSQL has had since before `caught_up` was judged.
    pub listed_at: Option<CatalogVersion>,
    /// Of a primary: the standbys that are connected to it.
    pub streaming: BTreeSet<Disk>,
    /// Of a primary: those of them that have flushed all it had written when it got that list.
    pub caught_up: BTreeSet<Disk>,
    /// How long before the answer all this was seen, in milliseconds: a server that hangs is not seen anew.
    #[serde(default)]
    pub age_ms: u64,
    /// Of a member that follows: whether it has no connection to the primary.
    #[serde(default)]
    pub cut: bool,
    /// Whether its agent was told to stop and waits for another to take over.
    #[serde(default)]
    pub leaving: bool,
    /// The stamp that it has drawn last; none of data that is not whole.
    #[serde(default)]
    pub stamp: Option<Stamp>,
    /// Whether its data was put back to an earlier state: it answers for nothing that it held since.
    #[serde(default)]
    pub restored: bool,
}

impl Report {
    /// A report of a moment ago that says nothing more than this.
    pub fn bare(disk: Disk, generation: Generation, server: Server, position: Option<Position>) -> Self {
        Self {
            disk,
            generation,
            server,
            position,
            diverged: false,
            listed_at: None,
            streaming: BTreeSet::new(),
            caught_up: BTreeSet::new(),
            age_ms: 0,
            cut: false,
            leaving: false,
            stamp: None,
            restored: false,
        }
    }
}
