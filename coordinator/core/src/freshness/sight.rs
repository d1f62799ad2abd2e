//! What an answer shows for certain, by positions in the logs of the groups that were asked.
//!
//! A position is read from a primary as a clock is: later readings are no less. Only a later reading proves that a write was
//! visible, not one that is as high: PostgreSQL flushes a commit first and shows it to others after that (while it waits for
//! a standby this can take long), so that a reading in between already has the position that the write's own reading will have.
//! Hence the bound below is exclusive:
//!
//! - A token names a write by a reading `t` made *after* the write was visible.
//! - A coordinator learns `r`: every write named by less than `r` is seen by reads that begin from then on. It may take any reading of
//!   its own writes for `r`: if `t < r`, the reading `t` came before it, and the write was visible before that.
//! - Where nothing is written a reading stays as it is, and `t < r` never comes true. So agents look once a second: they read the
//!   position, and *then* whether any transaction that writes is under way. If none is, whatever was committed up to that reading is
//!   visible, and they say one more than it.
//!
//! Readings of the flushed position may be learned; those of the inserted one, by which writes that are not flushed are named, may not:
//! they run ahead of commits that are not visible yet. As a name they only ask for more.

use super::session::{Position, SessionToken};
use atoll_proto::{CatalogVersion, GroupId, Lsn};
use std::collections::BTreeMap;

/// Below which position each group is known to show every write.
#[derive(Debug, Clone, Default)]
pub struct KnownPositions(BTreeMap<GroupId, Position>);

/// What an answer shows: for each group that was asked, every write below this position, as far as that was known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sight {
    /// The view of the catalog that it was made by.
    pub catalog: CatalogVersion,
    /// The groups that were asked.
    pub groups: Box<[(GroupId, Option<Position>)]>,
}

impl KnownPositions {
    /// Reads of the group that begin from now on see every write below this position.
    pub fn learn(&mut self, group: GroupId, position: Position) {
        if position.lsn == Lsn::UNKNOWN {
            return;
        }
        let known = self.0.entry(group).or_insert(position);
        *known = position.max(*known);
    }

    /// What reads of these groups see that begin now.
    pub fn sight(&self, catalog: CatalogVersion, groups: impl IntoIterator<Item = GroupId>) -> Sight {
        let groups = groups.into_iter().map(|group| (group, self.0.get(&group).copied())).collect();
        Sight { catalog, groups }
    }
}

impl Sight {
    /// Whether every write that the token names, and that could be among what was looked at, is shown.
    ///
    /// Groups that were not asked do not matter: their shards were none of the search's. Which shards lie where is told by the catalog,
    /// so a token of a newer one than the view is never sure to be shown: a shard may have moved to the group that it names.
    pub fn shows(&self, token: &SessionToken) -> bool {
        let shown = |(group, known): &(GroupId, Option<Position>)| match (token.of(*group), known) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(wanted), Some(known)) => wanted.generation == known.generation && wanted.lsn < known.lsn,
        };
        token.is_empty() || (token.catalog() <= self.catalog && self.groups.iter().all(shown))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use atoll_proto::Generation;

    fn position(generation: u64, lsn: u64) -> Position {
        Position { generation: Generation(generation), lsn: Lsn(lsn) }
    }

    fn token(group: u64, generation: u64, lsn: u64, catalog: u64) -> SessionToken {
        let mut token = SessionToken::default();
        token.add(GroupId(group), position(generation, lsn), CatalogVersion(catalog));
        token
    }

    fn sight(known: &KnownPositions) -> Sight {
        known.sight(CatalogVersion(5), [GroupId(1), GroupId(2)])
    }

    #[test]
    fn only_what_is_below_what_was_known_is_shown() {
        let mut known = KnownPositions::default();
        assert!(sight(&known).shows(&SessionToken::default()));
        assert!(!sight(&known).shows(&token(1, 1, 0, 5)), "nothing is known of the group");
        known.learn(GroupId(1), position(1, 100));
        known.learn(GroupId(1), position(1, 90));
        known.learn(GroupId(1), position(1, Lsn::UNKNOWN.0));
        assert!(sight(&known).shows(&token(1, 1, 99, 5)));
        assert!(!sight(&known).shows(&token(1, 1, 100, 5)), "as high is not later");
        assert!(!sight(&known).shows(&token(2, 1, 1, 5)));
        assert!(sight(&known).shows(&token(3, 9, 999, 5)), "a group that was not asked");
    }

    #[test]
    fn another_primary_or_a_newer_catalog_is_never_sure() {
        let mut known = KnownPositions::default();
        known.learn(GroupId(1), position(2, 100));
        known.learn(GroupId(1), position(1, 500));
        assert!(sight(&known).shows(&token(1, 2, 99, 5)));
        for other in [token(1, 1, 99, 5), token(1, 3, 99, 5), token(1, 2, 99, 6), token(3, 2, 99, 6)] {
            assert!(!sight(&known).shows(&other), "{other:?}");
        }
    }
}
