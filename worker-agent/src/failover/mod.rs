//! The agent's part of a group's failover: it keeps the newest record it was told, looks at its server, and does what the record asks of
//! it. `docs/failover.md` is the protocol, `atoll_proto::group` what a member decides, [`crate::pg::replica`] how it is done.

mod kept;
mod lags;
mod leave;
mod member;
mod round;
mod stamp;

pub use kept::Kept;
pub use member::{Member, TellError};
