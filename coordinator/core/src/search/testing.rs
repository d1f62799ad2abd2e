//! What tests plan for.

use super::plan::{Calibrated, Wish};
use atoll_proto::search::Profile;

/// A usual search of one shard.
pub(super) const WISH: Wish = Wish {
    k: 10,
    overfetch: 2.0,
    profile: Profile::Auto,
    target_recall: None,
    ef: None,
    exact: false,
    filtered: false,
    excluding: false,
    per_namespace: None,
    shards: 1,
    graphs: 0,
    calibrated: Calibrated { own_graphs: None, shard_graphs: None },
};
