//! Waiting until a collection is settled, for a client that asked for a change.

use super::decide::groups_that_matter;
use crate::agents::AgentBoard;
use crate::raft::CatalogNode;
use atoll_core::catalog::Catalog;
use atoll_proto::{CatalogVersion, CollectionId};
use tokio::time::{Instant, timeout_at};

/// What became of the wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SettleWait {
    /// Every server matches the change, or a later one.
    Settled,
    /// The deadline passed first: no shard is placed, so nobody has tables yet.
    NotPlaced,
    /// The deadline passed first: these do not match, as far as this coordinator knows.
    Behind {
        /// Names of the groups.
        groups: Vec<String>,
    },
    /// The deadline passed first: every server matches, but no leader has noted it.
    NotNoted,
}

/// Waits until every server matches a collection as of `changed_at`; for a drop, until its tables are gone.
pub async fn wait_settled(
    node: &CatalogNode,
    board: &AgentBoard,
    id: CollectionId,
    changed_at: CatalogVersion,
    deadline: Instant,
) -> SettleWait {
    let mut views = node.watch();
    // A view older than the change may not know the collection yet, which must not pass for "gone".
    let settled = views.wait_for(|view| view.version >= changed_at && is_settled(&view.catalog, id));
    if let Ok(Ok(_)) = timeout_at(deadline, settled).await {
        return SettleWait::Settled;
    }
    let view = node.view();
    if !view.is_placed() {
        return SettleWait::NotPlaced;
    }
    match groups_behind(&view.catalog, board, id, changed_at) {
        groups if groups.is_empty() => SettleWait::NotNoted,
        groups => SettleWait::Behind { groups },
    }
}

fn is_settled(catalog: &Catalog, id: CollectionId) -> bool {
    catalog.collections.get(&id).is_none_or(|collection| collection.settled)
}

fn groups_behind(catalog: &Catalog, board: &AgentBoard, id: CollectionId, changed_at: CatalogVersion) -> Vec<String> {
    let Some(collection) = catalog.collections.get(&id) else { return Vec::new() };
    let behind = groups_that_matter(catalog, collection).filter_map(|group| {
        let group = &catalog.groups[&group];
        let applied = board.status(group.primary).and_then(|status| status.applied);
        let matches = applied.is_some_and(|applied| applied >= changed_at);
        (!matches).then(|| group.name.to_string())
    });
    behind.collect()
}
