//! Faults in the middle of moves. A [`Cell`] is a moment of a move and what happens in it; a [`Range`] is a cluster in which one cell
//! after the other is tried, under a writer and a searcher, and looked over afterwards.

mod anyone;
mod cell;
mod expected;
mod ledger;
mod once;
mod range;
mod slow_copy;
mod traffic;

pub use anyone::Anyone;
pub use cell::{Cell, Deed, Fault, Moment, Victim};
pub use ledger::Ledger;
pub use range::{Range, Told};
