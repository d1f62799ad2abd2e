//! A group of a primary and its standbys: the record that the catalog keeps and coordinators send, what a member does by it, and
//! what it says of itself. What a member does is here because it is the contract between both sides: coordinators rely on it when
//! they count who is fenced. `docs/failover.md` is the protocol.

mod member;
mod record;
mod report;
mod seen;
mod stamp;
mod told;

pub use member::{Act, Fit, LEASE_MS, Server, Sight, act, takes};
pub use record::{Disk, GroupRecord, Incarnation, Phase, Position};
pub use report::Report;
pub use seen::{Lag, MemberSeen};
pub use stamp::{Stamp, Stamps};
pub use told::{GROUP_PATH, ToldGroup};
