//! Whether a member of a group shows all that a session was shown.
//!
//! **What a session is promised.** A session is the writes and the searches of consistency `session` that a client sends along with
//! the token of the one before. Each such search shows every write that the token names, and whatever earlier searches of the
//! session showed. What came of reads that ask for `primary` or `eventual` is no part of it.
//!
//! A token names positions in the logs of groups. A write adds one from after it was visible, a search one from after it was
//! answered: nothing that it showed lies behind that. A standby that has replayed its log up to a position shows all that lies before.
//!
//! **After a failover.** The log of a new primary holds all that was acknowledged under the one before, but its positions can't be
//! compared with those of a log that went on elsewhere. So a standby is believed only if three agree on the generation: the token, the
//! view of the catalog, and the standby's own log, where each primary has recorded its own. In any doubt the primary is asked.
//!
//! **What is not promised.** A standby shows a write as soon as it has replayed it, which may be some moments before the primary shows
//! and acknowledges it. A search that then has to go to the primary, for no standby answers in time, may lack it for these
//! moments; and a failover may take back what was not acknowledged. What was acknowledged is never lacking.

use super::session::{Position, SessionToken};
use atoll_proto::{CatalogVersion, Generation, GroupId, Lsn};

/// What a standby has to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted(Position);

/// Where a server's log stood around a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogSpan {
    /// Whether it was a standby.
    pub is_standby: bool,
    /// All up to here was visible before the read began, if it was a standby.
    pub before: Lsn,
    /// Nothing from behind this was visible to it.
    pub after: Lsn,
    /// The newest generation that was recorded in the log after the read; none if it was not asked for.
    pub generation: Option<Generation>,
}

/// Whether a standby's answer will do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// It shows what is wanted.
    All,
    /// It will, in a moment.
    NotYet,
    /// Nobody can tell.
    Doubtful,
}

impl Wanted {
    /// What a session wants of a standby, by a view of the catalog in which the group has this generation. None if only the primary
    /// will do.
    pub fn of(token: &SessionToken, group: GroupId, generation: Generation, view: CatalogVersion) -> Option<Self> {
        if token.catalog() > view {
            // What it names may have lain elsewhere than this view says.
            return None;
        }
        match token.of(group) {
            None => Some(Self(Position { generation, lsn: Lsn(0) })),
            Some(named) => (named.generation == generation && named.lsn != Lsn::UNKNOWN).then_some(Self(named)),
        }
    }

    /// Up to where a log has to be replayed.
    pub fn lsn(&self) -> Lsn {
        self.0.lsn
    }

    /// Whether it was shown.
    pub fn is_shown(&self, span: &LogSpan) -> Shown {
        let same_log = span.is_standby && span.generation == Some(self.0.generation);
        match (same_log, span.before >= self.0.lsn) {
            (false, _) => Shown::Doubtful,
            (true, true) => Shown::All,
            (true, false) => Shown::NotYet,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const GROUP: GroupId = GroupId(1);
    const VIEW: CatalogVersion = CatalogVersion(9);

    fn token(generation: u64, lsn: u64) -> SessionToken {
        let mut token = SessionToken::default();
        token.add(GROUP, Position { generation: Generation(generation), lsn: Lsn(lsn) }, CatalogVersion(7));
        token
    }

    fn wanted(token: &SessionToken, generation: u64) -> Option<Wanted> {
        Wanted::of(token, GROUP, Generation(generation), VIEW)
    }

    fn standby(generation: u64, before: u64) -> LogSpan {
        let (before, after) = (Lsn(before), Lsn(before + 50));
        LogSpan { is_standby: true, before, after, generation: Some(Generation(generation)) }
    }

    #[test]
    fn a_standby_shows_what_it_had_replayed_before() {
        let wanted = wanted(&token(3, 100), 3).unwrap();
        assert_eq!(wanted.is_shown(&standby(3, 100)), Shown::All);
        assert_eq!(wanted.is_shown(&standby(3, 99)), Shown::NotYet, "what comes while it reads may come too late");
    }

    #[test]
    fn who_was_shown_nothing_takes_any_standby_of_the_primary() {
        let wanted = wanted(&SessionToken::default(), 3).unwrap();
        assert_eq!(wanted.is_shown(&standby(3, 0)), Shown::All);
        assert_eq!(wanted.is_shown(&standby(2, 500)), Shown::Doubtful);
    }

    #[test]
    fn another_generation_is_for_the_primary() {
        assert_eq!(wanted(&token(2, 100), 3), None, "written before the failover");
        assert_eq!(wanted(&token(4, 100), 3), None, "this view is late");
        let wanted = wanted(&token(3, 100), 3).unwrap();
        for span in [standby(2, 500), standby(4, 500), LogSpan { is_standby: false, ..standby(3, 500) }] {
            assert_eq!(wanted.is_shown(&span), Shown::Doubtful, "{span:?}");
        }
    }

    #[test]
    fn so_is_what_nobody_knows_the_place_of() {
        assert_eq!(wanted(&token(3, Lsn::UNKNOWN.0), 3), None);
        assert_eq!(Wanted::of(&token(3, 100), GROUP, Generation(3), CatalogVersion(6)), None);
        assert!(Wanted::of(&token(3, 100), GROUP, Generation(3), CatalogVersion(7)).is_some());
    }
}
