//! Making a server what the catalog says it should be: `plan` decides, `apply` does.

pub mod apply;
pub mod graphs;
pub mod loads;
pub mod memory;
pub mod plan;
pub mod queue;
pub mod tiers;
pub mod upkeep;
