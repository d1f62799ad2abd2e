//! Session tokens: what a client has written, for whoever it asks next.
//!
//! A token is a set of (group, generation, position), and the catalog's version by which that was written. A write adds the position
//! of its group's primary, read after the commit was visible; of two positions of one group the later one stays. Clients hand tokens
//! about and look into none of them. They are not signed: who makes one up gets answers that are newer than need be, or that show
//! less than he asked for, and nothing that he could not get without.

use atoll_proto::{CatalogVersion, Generation, GroupId, Lsn};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

const FORMAT: u8 = 1;
/// Most groups of a token that is read: more than a cluster has.
const GROUPS_MAX: u64 = 4_096;

/// A position in the log of a group's primary. Positions of a later primary come after all of an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Of the group: which primary.
    pub generation: Generation,
    /// Where in its log.
    pub lsn: Lsn,
}

/// What a client has written. The empty one names nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionToken {
    catalog: CatalogVersion,
    positions: BTreeMap<GroupId, Position>,
}

/// Why a text is no token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadToken {
    /// It was cut off, or never was one.
    #[error("it is not a session token")]
    Malformed,
    /// A newer program made it.
    #[error("it has format {0}, which this version does not know")]
    Format(u8),
}

impl Default for SessionToken {
    fn default() -> Self {
        Self { catalog: CatalogVersion(0), positions: BTreeMap::new() }
    }
}

impl SessionToken {
    /// Whether it names nothing.
    pub fn is_empty(&self) -> bool {
        self.positions.is_empty()
    }

    /// Something was written to a group, by a view of the catalog that is no newer than `catalog`.
    pub fn add(&mut self, group: GroupId, position: Position, catalog: CatalogVersion) {
        self.catalog = self.catalog.max(catalog);
        let there = self.positions.entry(group).or_insert(position);
        *there = position.max(*there);
    }

    /// With what was written after all that this token names was acknowledged.
    ///
    /// A position that could not be read gives way to one that was read later on the same primary: what had become visible by then lies
    /// below that, whatever its own position was. Else it would stay for ever, and nothing would be known to show it.
    #[must_use]
    pub fn followed_by(&self, later: &Self) -> Self {
        let mut token = self.clone();
        for (group, position) in &later.positions {
            if token.of(*group) == Some(Position { lsn: Lsn::UNKNOWN, ..*position }) {
                token.positions.remove(group);
            }
            token.add(*group, *position, later.catalog);
        }
        token
    }

    /// The least version of the catalog that knows where everything that it names was written.
    pub fn catalog(&self) -> CatalogVersion {
        self.catalog
    }

    /// The position to be shown of a group; none if nothing of it is named.
    pub fn of(&self, group: GroupId) -> Option<Position> {
        self.positions.get(&group).copied()
    }

    /// As it travels; none if it names nothing.
    pub fn text(&self) -> Option<String> {
        (!self.is_empty()).then(|| self.to_string())
    }
}

impl fmt::Display for SessionToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = vec![FORMAT];
        push(&mut bytes, self.catalog.0);
        push(&mut bytes, self.positions.len() as u64);
        for (group, Position { generation, lsn }) in &self.positions {
            [group.0, generation.0, lsn.0].into_iter().for_each(|number| push(&mut bytes, number));
        }
        f.write_str(&URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl FromStr for SessionToken {
    type Err = BadToken;

    fn from_str(text: &str) -> Result<Self, BadToken> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| BadToken::Malformed)?;
        match bytes.split_first() {
            Some((&FORMAT, rest)) => read(rest).ok_or(BadToken::Malformed),
            Some((format, _)) => Err(BadToken::Format(*format)),
            None => Err(BadToken::Malformed),
        }
    }
}

/// Reads all of `bytes`: one that was cut off would promise less than its client was told.
fn read(mut bytes: &[u8]) -> Option<SessionToken> {
    let mut token = SessionToken { catalog: CatalogVersion(take(&mut bytes)?), positions: BTreeMap::new() };
    let groups = take(&mut bytes).filter(|groups| (1..=GROUPS_MAX).contains(groups))?;
    for _ in 0..groups {
        let group = GroupId(take(&mut bytes)?);
        let position = Position { generation: Generation(take(&mut bytes)?), lsn: Lsn(take(&mut bytes)?) };
        if token.positions.insert(group, position).is_some() {
            return None;
        }
    }
    bytes.is_empty().then_some(token)
}

/// Seven bits a byte, the lowest first; the eighth says that more follow.
fn push(bytes: &mut Vec<u8>, mut number: u64) {
    while number > 0x7f {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..u64::BITS).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let bits = u64::from(byte & 0x7f);
        if bits << shift >> shift != bits {
            return None;
        }
        number |= bits << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn position(generation: u64, lsn: u64) -> Position {
        Position { generation: Generation(generation), lsn: Lsn(lsn) }
    }

    fn token(positions: &[(u64, u64, u64)]) -> SessionToken {
        let mut token = SessionToken::default();
        for (group, generation, lsn) in positions {
            token.add(GroupId(*group), position(*generation, *lsn), CatalogVersion(7));
        }
        token
    }

    #[test]
    fn the_later_position_of_a_group_stays() {
        let token = token(&[(1, 1, 50), (1, 1, 40), (2, 1, 90), (2, 2, 10), (2, 1, 95)]);
        assert_eq!((token.of(GroupId(1)), token.of(GroupId(2))), (Some(position(1, 50)), Some(position(2, 10))));
        assert_eq!((token.of(GroupId(3)), token.catalog()), (None, CatalogVersion(7)));
    }

    #[test]
    fn a_position_that_could_not_be_read_gives_way_to_a_later_one_of_the_same_primary() {
        let unknown = Lsn::UNKNOWN.0;
        let sent = token(&[(1, 1, unknown), (2, 2, unknown), (3, 1, unknown), (4, 1, unknown), (5, 1, 70)]);
        let later = token(&[(1, 1, 50), (2, 1, 50), (3, 2, 10), (5, 1, 60), (6, 1, unknown), (6, 1, 50)]);
        let expected = token(&[(1, 1, 50), (2, 2, unknown), (3, 2, 10), (4, 1, unknown), (5, 1, 70), (6, 1, unknown)]);
        assert_eq!(sent.followed_by(&later), expected, "group 6: of two of one request nobody knows the order");
        assert_eq!(sent.followed_by(&SessionToken::default()), sent);
        assert_eq!(SessionToken::default().followed_by(&later), later);
    }

    #[test]
    fn a_token_is_short_and_frozen() {
        // What clients hold must be readable for as long as the format has this number.
        let text = token(&[(3, 1, 0x16_B374_D848), (12, 2, 0x1A_0000)]).to_string();
        assert_eq!(text, "AQcCAwHIsNOb6wIMAoCAaA");
        assert_eq!(text.parse(), Ok(token(&[(3, 1, 0x16_B374_D848), (12, 2, 0x1A_0000)])));
        assert_eq!(SessionToken::default().text(), None);
    }

    #[test]
    fn what_is_no_token_is_told() {
        let text = token(&[(3, 1, 0x16_B374_D848), (12, 2, 0x1A_0000)]).to_string();
        for length in 0..text.len() {
            assert_eq!(text[..length].parse::<SessionToken>(), Err(BadToken::Malformed), "{length} characters");
        }
        for wrong in ["?", "AQcCAwHIsNOb6wIMAoCAaAA", "AQcA", "AQcCAwEBAwEB", "AQcBAwH___________8C"] {
            assert_eq!(wrong.parse::<SessionToken>(), Err(BadToken::Malformed), "{wrong}");
        }
        assert_eq!("AgcB".parse::<SessionToken>(), Err(BadToken::Format(2)));
    }

    proptest! {
        #[test]
        fn tokens_come_back_as_they_went(positions in proptest::collection::vec((any::<u64>(), any::<u64>(), any::<u64>()), 1..20)) {
            let token = token(&positions);
            prop_assert_eq!(token.to_string().parse::<SessionToken>(), Ok(token));
        }

        #[test]
        fn no_text_is_too_strange(text in "[A-Za-z0-9_-]{0,60}") {
            if let Ok(token) = text.parse::<SessionToken>() {
                prop_assert_eq!(token.to_string().parse::<SessionToken>(), Ok(token));
            }
        }
    }
}
