//! Faults of groups with standbys. A [`GroupFault`] is what is broken and how; a [`GroupRange`] is a cluster in which one after the other is
//! tried, under writers, a searcher and a session reader, and judged by their history. A [`Tally`] sums up many trials.

mod clients;
mod doubt;
mod fault;
mod members;
mod range;
mod rolling;
mod tally;
mod trial;
mod wires;

pub use fault::{Blow, Cut, GroupFault, Part, Victim};
pub use members::{agent, coordinator, coordinator_name, restart};
pub use range::GroupRange;
pub use tally::Tally;
pub use trial::Trial;
