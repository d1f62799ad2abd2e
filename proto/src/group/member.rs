//! What a member does with its PostgreSQL, by the newest record it knows.
//!
//! The member keeps that record on its disk, before it acts by it or says anything of it, and never goes back to an older one
//! ([`takes`]). With that, the generation of the record is its promise: it neither serves nor receives under an older one again.

use super::record::{Disk, GroupRecord, Phase, Position};
use crate::WorkerId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// A primary whose agent has not heard from the catalog for so long stops, in milliseconds. No acknowledged `quorum` write depends
/// on it: it bounds for how long a primary that was replaced still answers reads and acknowledges `local` writes.
pub const LEASE_MS: u64 = 2_500;

/// What a member's PostgreSQL is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "server", rename_all = "snake_case")]
pub enum Server {
    /// It does not run.
    Stopped {
        /// Whether it would start as a standby.
        standby: bool,
    },
    /// A standby that receives from nobody, and has replayed all it ever received.
    Detached,
    /// A standby that receives from that worker, or tries to.
    Following {
        /// Whom.
        worker: WorkerId,
    },
    /// It takes writes.
    Primary,
    /// Its data is half of one log and half of another, or not all there.
    Unusable {
        /// Whether pg_rewind may still mend it.
        can_rewind: bool,
    },
}

/// How a log stands to the primary's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// It is the beginning of the primary's, which has the rest.
    GoesOn,
    /// It holds what the primary's has not.
    Diverged,
    /// The primary has thrown away what comes next: more than it keeps was written since (`wal_keep_size`).
    Behind,
}

/// What an agent sees of its PostgreSQL, and of the catalog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sight {
    /// Its data.
    pub disk: Disk,
    /// What its server is doing.
    pub server: Server,
    /// How far its log goes; none where that can't be told.
    pub position: Option<Position>,
    /// Whom `synchronous_standby_names` counts, the primary itself among them; none while it names nobody that exists.
    pub list: Option<BTreeSet<Disk>>,
    /// How its log stands to the primary's, as far as it was compared.
    pub fit: Fit,
    /// Whether its data was put back to an earlier state ([`super::Stamps`]).
    pub restored: bool,
    /// How long ago it last heard from the catalog, in milliseconds.
    pub silent_ms: u64,
}

/// What an agent does next. Each can be done again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// Go on.
    Nothing,
    /// Stop the server; a primary sends what it has first, if it can at once.
    Stop,
    /// Start it as the primary that it is.
    StartPrimary,
    /// Start it as a standby that receives from nobody, and take every name from `synchronous_standby_names`.
    StartDetached,
    /// Stop receiving, and replay what is there.
    Detach,
    /// Receive from this worker.
    Follow {
        /// Whom.
        worker: WorkerId,
    },
    /// `pg_promote`. Still nobody is counted, so nothing is acknowledged.
    Promote,
    /// Write the record's generation into the log, flush it, and end all client connections that are older: a commit that stands before
    /// the row could else be acknowledged later by a standby that has not got the row, and whose position does not tell of it.
    RecordGeneration,
    /// Count these, and nobody else.
    SetList {
        /// Whom, the primary itself among them.
        listed: BTreeSet<Disk>,
    },
    /// Mark the data unusable, then pg_rewind by this primary.
    Rewind {
        /// By whom.
        from: Disk,
    },
    /// Take a new incarnation, then a base backup of this primary. Restored data stays until the primary answers: an operator may have to
    /// go on with it.
    BaseBackup {
        /// Of whom.
        from: Disk,
    },
}

/// What a record asks of a member.
enum Duty {
    Serve,
    TakeOver,
    Detach,
    Follow(Disk),
}

/// Whether a member that knows one record takes the other: refused here, an old order does no harm anywhere. Stamps are recorded beside what
/// members act by, and do not make a record newer; a member takes its own.
pub fn takes(known: Option<&GroupRecord>, told: &GroupRecord, me: Disk) -> bool {
    known.is_none_or(|known| {
        let is_stamped = told.stamp_of(me).is_some_and(|stamp| known.lacks(me, stamp));
        told.changed_at > known.changed_at || (told.changed_at == known.changed_at && is_stamped)
    })
}

/// What a member does next.
pub fn act(known: &GroupRecord, sight: &Sight) -> Act {
    let at_generation = sight.position.is_some_and(|position| position.generation == known.generation);
    let lapsed = sight.silent_ms > LEASE_MS;
    match (duty(known, sight), sight.server) {
        (Duty::Serve, Server::Primary) if lapsed || !at_generation => Act::Stop,
        (Duty::Serve, Server::Primary) if sight.list.as_ref() == Some(&known.listed) => Act::Nothing,
        (Duty::Serve, Server::Primary) => Act::SetList { listed: known.listed.clone() },
        (Duty::Serve, Server::Stopped { standby: false }) if lapsed => Act::Nothing,
        (Duty::Serve, Server::Stopped { standby: false }) => Act::StartPrimary,

        (Duty::TakeOver, Server::Detached) => Act::Promote,
        (Duty::TakeOver, Server::Primary) if at_generation => Act::Nothing,
        // A server that counts standbys was a primary before, and is not what was promoted.
        (Duty::TakeOver, Server::Primary) if sight.list.is_some() => Act::Stop,
        (Duty::TakeOver, Server::Primary) => Act::RecordGeneration,

        // Nobody counts on it, so nobody has to agree.
        (Duty::Follow(primary), Server::Detached) if sight.restored => Act::BaseBackup { from: primary },
        (Duty::Follow(primary), Server::Detached) => match sight.fit {
            Fit::GoesOn => Act::Follow { worker: primary.worker },
            Fit::Diverged | Fit::Behind if !may_give_up_data(known, sight.disk) => Act::Nothing,
            Fit::Diverged => Act::Rewind { from: primary },
            Fit::Behind => Act::BaseBackup { from: primary },
        },
        (Duty::Follow(primary), Server::Following { worker })
            if worker == primary.worker && sight.fit == Fit::GoesOn && !sight.restored =>
        {
            Act::Nothing
        }
        (Duty::Follow(primary), Server::Unusable { can_rewind: true }) => Act::Rewind { from: primary },
        (Duty::Follow(primary), Server::Unusable { can_rewind: false }) => Act::BaseBackup { from: primary },

        (Duty::Detach | Duty::Follow(_), Server::Primary) => Act::Stop,
        (Duty::Serve | Duty::TakeOver | Duty::Detach | Duty::Follow(_), Server::Stopped { .. }) => Act::StartDetached,
        (Duty::Serve | Duty::TakeOver | Duty::Detach | Duty::Follow(_), Server::Following { .. }) => Act::Detach,
        // A primary that lost its place is found out by the driver, which fences.
        (Duty::Serve | Duty::Detach, Server::Detached) => Act::Nothing,
        (Duty::Serve | Duty::TakeOver | Duty::Detach, Server::Unusable { .. }) => Act::Nothing,
    }
}

/// A voter's data may be what the next fence needs, and is no one's while it is being mended.
fn may_give_up_data(known: &GroupRecord, me: Disk) -> bool {
    !known.voters.contains(&me) || known.mending == Some(me)
}

fn duty(known: &GroupRecord, Sight { disk: me, restored, .. }: &Sight) -> Duty {
    let duty = match known.phase {
        Phase::Steady if known.primary == *me => Duty::Serve,
        Phase::Steady => Duty::Follow(known.primary),
        Phase::HandingOver { .. } if known.primary == *me => Duty::Detach,
        Phase::HandingOver { .. } => Duty::Follow(known.primary),
        Phase::Promoting { candidate } if candidate == *me => Duty::TakeOver,
        Phase::Promoting { .. } | Phase::Fencing { .. } => Duty::Detach,
    };
    match duty {
        // What it held since may have been acknowledged.
        Duty::Serve | Duty::TakeOver if *restored => Duty::Detach,
        Duty::Serve | Duty::TakeOver | Duty::Detach | Duty::Follow(_) => duty,
    }
}

#[cfg(test)]
#[path = "member_tests.rs"]
mod tests;
