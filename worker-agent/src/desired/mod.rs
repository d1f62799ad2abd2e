//! Making a server what the catalog says it should be: `plan` decides, `apply` does.

pub mod apply;
pub mod graphs;
pub mod plan;
pub mod tiers;
pub mod upkeep;
