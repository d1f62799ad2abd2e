//! Making a server what the catalog says it should be: `plan` decides, `apply` does.

pub mod apply;
pub mod plan;
pub mod upkeep;
