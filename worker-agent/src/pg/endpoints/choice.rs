//! Which of several servers is the worker's primary, and which are none of its own. Decided from what they said alone.

use super::seen::Seen;
use crate::identity::Identity;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// What is to be made of those that answered, by their numbers.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Choice {
    /// The one to follow.
    pub(super) primary: Option<usize>,
    /// Others that take writes too.
    pub(super) also_primary: Vec<usize>,
    /// Those that must never be followed.
    pub(super) strangers: BTreeMap<usize, Stranger>,
}

/// Why a server is not the worker's. The text says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Stranger {
    /// Another worker's agent was there first.
    #[error("its database is that of another worker: name servers of this one only")]
    OtherWorker,
    /// PostgreSQL's identity of the data is another one.
    #[error(
        "its data are others (system identifier {theirs}, this worker's is {ours}): name servers of one cluster only"
    )]
    OtherData {
        /// Its own.
        theirs: String,
        /// The worker's.
        ours: String,
    },
    /// Nothing is in its favour.
    #[error(
        "nothing says that its data are this worker's: `grant execute on function pg_control_system()` to the agent's user, \
         or wait until it has what was replicated"
    )]
    Unclaimed,
    /// The worker has no data yet, and these servers do not hold the same.
    #[error(
        "it holds other data than another endpoint, and this worker has none yet: name servers of one cluster only"
    )]
    Differs,
}

/// Chooses among those that answered. `last` is the one that was followed before.
pub(super) fn choose(seen: &BTreeMap<usize, Seen>, identity: &Identity, last: Option<usize>) -> Choice {
    let Some(known) = known(seen, identity) else {
        let strangers = seen.keys().map(|number| (*number, Stranger::Differs)).collect();
        return Choice { strangers, ..Choice::default() };
    };
    let strangers: BTreeMap<_, _> =
        seen.iter().filter_map(|(number, seen)| Some((*number, stranger(seen, identity, &known)?))).collect();
    let takes_writes = |(number, seen): &(&usize, &Seen)| seen.takes_writes && !strangers.contains_key(number);
    let mut primaries: Vec<_> = seen.iter().filter(takes_writes).collect();
    // A promotion begins a timeline. Of the same one, two servers would be two names of one.
    primaries.sort_by_key(|(number, seen)| Reverse((seen.timeline, Some(**number) == last, Reverse(**number))));
    let mut primaries = primaries.into_iter().map(|(number, _)| *number);
    Choice { primary: primaries.next(), also_primary: primaries.collect(), strangers }
}

/// By what the worker's data are known.
enum Known {
    /// By this system identifier, or by the claim where the worker's uid stands for one that could not be read.
    By(String),
    /// It has none yet.
    Nothing,
}

/// None if the worker has no data yet and these servers do not agree which it would be.
fn known(seen: &BTreeMap<usize, Seen>, identity: &Identity) -> Option<Known> {
    if let Some(server) = &identity.server {
        return Some(Known::By(server.clone()));
    }
    let is_claimed = |seen: &&Seen| seen.worker.as_ref() == Some(&identity.uid);
    let any_claimed = seen.values().any(|seen| is_claimed(&seen));
    let in_question: Vec<_> = seen.values().filter(|seen| !any_claimed || is_claimed(seen)).collect();
    let systems: BTreeSet<_> = in_question.iter().map(|seen| &seen.system_identifier).collect();
    let primaries = in_question.iter().filter(|seen| seen.takes_writes).count();
    match systems.first() {
        _ if systems.len() > 1 => None,
        Some(Some(system)) if any_claimed => Some(Known::By(system.clone())),
        Some(None) if any_claimed => Some(Known::By(identity.uid.clone())),
        Some(None) if primaries > 1 => None,
        Some(_) | None => Some(Known::Nothing),
    }
}

fn stranger(seen: &Seen, identity: &Identity, known: &Known) -> Option<Stranger> {
    let is_claimed = seen.worker.as_ref() == Some(&identity.uid);
    if seen.worker.is_some() && !is_claimed {
        return Some(Stranger::OtherWorker);
    }
    let Known::By(ours) = known else { return None };
    match &seen.system_identifier {
        Some(theirs) if theirs == ours => None,
        Some(theirs) if *ours != identity.uid => {
            Some(Stranger::OtherData { theirs: theirs.clone(), ours: ours.clone() })
        }
        Some(_) | None => (!is_claimed).then_some(Stranger::Unclaimed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "uid";

    fn identity(server: Option<&str>) -> Identity {
        Identity { uid: UID.to_owned(), membership: None, server: server.map(str::to_owned) }
    }

    fn server(timeline: Option<u32>, system: Option<&str>, worker: Option<&str>) -> Seen {
        Seen {
            takes_writes: timeline.is_some(),
            system_identifier: system.map(str::to_owned),
            worker: worker.map(str::to_owned),
            timeline,
        }
    }

    fn chosen(seen: &[Seen], identity: &Identity, last: Option<usize>) -> Choice {
        choose(&seen.iter().cloned().enumerate().collect(), identity, last)
    }

    #[test]
    fn the_one_that_takes_writes_is_followed() {
        let (primary, standby) = (server(Some(3), Some("7"), None), server(None, Some("7"), None));
        for own in [identity(None), identity(Some("7"))] {
            let choice = chosen(&[standby.clone(), primary.clone(), standby.clone()], &own, Some(0));
            assert_eq!(choice, Choice { primary: Some(1), ..Choice::default() });
            assert_eq!(chosen(std::slice::from_ref(&standby), &own, Some(0)), Choice::default());
            assert_eq!(chosen(&[], &own, None), Choice::default());
        }
    }

    #[test]
    fn of_two_primaries_the_one_promoted_last_is_followed() {
        let primary = |timeline| server(Some(timeline), Some("7"), Some(UID));
        let own = identity(Some("7"));
        let choice = chosen(&[primary(1), primary(2), primary(1)], &own, Some(0));
        assert_eq!((choice.primary, choice.also_primary), (Some(1), vec![0, 2]));
        // Names of one server, as it seems: there is no reason to leave it.
        for last in [0, 1, 2] {
            assert_eq!(chosen(&[primary(2), primary(2), primary(2)], &own, Some(last)).primary, Some(last));
        }
        assert_eq!(chosen(&[primary(2), primary(2)], &own, None).primary, Some(0));
    }

    #[test]
    fn other_data_is_never_followed() {
        let own = identity(Some("7"));
        let standby = server(None, Some("7"), Some(UID));
        for (stranger, why) in [
            (server(Some(9), Some("8"), None), Stranger::OtherData { theirs: "8".to_owned(), ours: "7".to_owned() }),
            // A copy by statements has the claim, and is another server all the same.
            (
                server(Some(9), Some("8"), Some(UID)),
                Stranger::OtherData { theirs: "8".to_owned(), ours: "7".to_owned() },
            ),
            (server(Some(9), Some("7"), Some("other")), Stranger::OtherWorker),
            (server(Some(9), None, Some("other")), Stranger::OtherWorker),
            (server(Some(9), None, None), Stranger::Unclaimed),
        ] {
            let choice = chosen(&[standby.clone(), stranger.clone()], &own, Some(1));
            assert_eq!(choice, Choice { strangers: [(1, why)].into(), ..Choice::default() }, "{stranger:?}");
        }
    }

    #[test]
    fn where_no_system_identifier_can_be_read_the_claim_counts() {
        let claimed = server(Some(2), None, Some(UID));
        for own in [identity(Some("7")), identity(Some(UID)), identity(None)] {
            assert_eq!(chosen(std::slice::from_ref(&claimed), &own, None).primary, Some(0));
        }
        // It can be read by now.
        assert_eq!(chosen(&[server(Some(2), Some("7"), Some(UID))], &identity(Some(UID)), None).primary, Some(0));
        let unclaimed = chosen(&[server(Some(2), Some("7"), None), claimed.clone()], &identity(Some(UID)), None);
        assert_eq!((unclaimed.primary, unclaimed.strangers), (Some(1), [(0, Stranger::Unclaimed)].into()));
        // The file that says so was written after the claim.
        let unwritten = chosen(&[server(Some(9), None, None), claimed], &identity(None), None);
        assert_eq!((unwritten.primary, unwritten.strangers), (Some(1), [(0, Stranger::Unclaimed)].into()));
    }

    #[test]
    fn who_has_no_data_yet_takes_none_that_endpoints_do_not_agree_on() {
        let own = identity(None);
        for differing in [
            [server(Some(1), Some("7"), None), server(None, Some("8"), None)],
            [server(Some(1), Some("7"), Some(UID)), server(Some(1), Some("8"), Some(UID))],
            [server(Some(1), None, None), server(Some(1), None, None)],
        ] {
            let choice = chosen(&differing, &own, None);
            let strangers = [(0, Stranger::Differs), (1, Stranger::Differs)].into();
            assert_eq!(choice, Choice { strangers, ..Choice::default() }, "{differing:?}");
        }
        // One of them has the claim.
        let claimed = [server(Some(1), Some("7"), Some(UID)), server(Some(2), Some("8"), None)];
        let choice = chosen(&claimed, &own, None);
        assert_eq!((choice.primary, choice.strangers.len()), (Some(0), 1));
    }
}
