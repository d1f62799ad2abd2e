//! Which member of a group answers a read that any of several may answer: the one that seems to be free first.
//!
//! A member's [`Load`] is a moving average of how long its answers took, quick to rise and slow to fall, as Finagle's "peak EWMA" has
//! it. Of two members drawn by lot the one with less of it is asked ([`in_order`]): who always asked the very best would send it all
//! there is, and so would every other coordinator. An answer that is late by what is usual of its member is asked for once more,
//! of another; [`Hedges`] keeps that rare.

mod hedges;
mod load;
mod order;

pub use hedges::Hedges;
pub use load::Load;
pub use order::in_order;
