//! Where shards should lie. The first placement is here; plans that move shards between groups belong here too, as pure
//! functions of the catalog and measured loads.

mod first_placement;

pub use first_placement::first_placement;
