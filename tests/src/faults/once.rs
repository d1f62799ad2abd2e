//! Writes that happen once. Each has an idempotency key, and is sent until it is known what became of it; then there is only one outcome
//! that it may have, and one version that its entry may be at.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Few, so that a write that comes late meets one that came after it.
const KEYS: u64 = 12;
const NAMED: &str = "once-";
/// An entry is deleted at this version, and made anew.
const LAST_VERSION: i64 = 7;
/// Every so many writes nobody waits for the first answer.
const HASTY_EVERY: u64 = 5;

/// What each of the keys must hold.
#[derive(Debug, Default)]
pub(super) struct Once {
    next: u64,
    held: BTreeMap<String, Held>,
}

/// What an entry holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Held {
    /// The number of the write that it is of.
    pub(super) content: u64,
    /// Its version.
    pub(super) version: i64,
}

/// On which condition a write is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Condition {
    /// None.
    Any,
    /// There must be no entry.
    Absent,
    /// It must be at this version: carried out twice, the second time is refused.
    At(i64),
}

/// One write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OnceWrite {
    /// The entry's key.
    pub(super) key: String,
    /// The idempotency key.
    pub(super) idempotency_key: String,
    /// When it may be carried out.
    pub(super) condition: Condition,
    /// What it leaves: this, or nothing.
    pub(super) leaves: Option<Held>,
    /// How long the first answer is waited for, where it is not for as long as it takes.
    pub(super) patience: Option<Duration>,
}

impl Once {
    /// The next write: it makes an entry, changes it several times, with a condition and without, and deletes it.
    pub(super) fn next_write(&mut self) -> OnceWrite {
        let number = self.next;
        self.next += 1;
        let key = format!("{NAMED}{}", number % KEYS);
        let version = self.held.get(&key).map_or(0, |held| held.version);
        let leaves = (version < LAST_VERSION).then_some(Held { content: number, version: version + 1 });
        let condition = match version {
            0 => Condition::Absent,
            odd if odd % 2 == 1 => Condition::At(odd),
            _ => Condition::Any,
        };
        // Some milliseconds: before it is sent on, while it is carried out, or just after.
        let patience = number.is_multiple_of(HASTY_EVERY).then(|| Duration::from_millis(number % 17));
        OnceWrite { key, idempotency_key: format!("{NAMED}{number}"), condition, leaves, patience }
    }

    /// Notes what a write was answered in the end, by status and version; an error if that can't be.
    pub(super) fn note(&mut self, write: OnceWrite, status: u16, version: Option<i64>) -> Result<(), String> {
        let is_right = (status, version) == write.answer();
        let told = format!("{write:?} was answered {status}, version {version:?}");
        match write.leaves {
            Some(held) => self.held.insert(write.key, held),
            None => self.held.remove(&write.key),
        };
        if is_right { Ok(()) } else { Err(told) }
    }

    /// Whether an entry's key is one of its own.
    pub(super) fn owns(key: &str) -> bool {
        key.starts_with(NAMED)
    }

    /// Compares with what was found; gives everything that is not as it should be.
    pub(super) fn differences(&self, found: &BTreeMap<String, Held>) -> Vec<String> {
        let keys: BTreeSet<&String> = self.held.keys().chain(found.keys()).collect();
        let pairs = keys.into_iter().map(|key| (key, self.held.get(key), found.get(key)));
        let different = pairs.filter(|(_, held, found)| held != found);
        different.map(|(key, held, found)| format!("{key} holds {found:?} instead of {held:?}")).collect()
    }
}

impl OnceWrite {
    /// The status and version that it has to be answered, however often it is sent.
    fn answer(&self) -> (u16, Option<i64>) {
        let version = self.leaves.map(|held| held.version);
        (if version == Some(1) { 201 } else { 200 }, version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Found = BTreeMap<String, Held>;

    /// Carries a write out; gives the answer.
    fn carried_out(found: &mut Found, write: &OnceWrite) -> (u16, Option<i64>) {
        let version = found.get(&write.key).map_or(0, |held| held.version);
        match (write.condition, write.leaves) {
            (Condition::Absent, _) if version > 0 => (412, None),
            (Condition::At(at), _) if version != at => (412, None),
            (_, None) if version == 0 => (404, None),
            (_, None) => {
                found.remove(&write.key);
                (200, None)
            }
            // It already is as given.
            (_, Some(held)) if found.get(&write.key).is_some_and(|found| found.content == held.content) => {
                (200, Some(version))
            }
            (_, Some(held)) => {
                found.insert(write.key.clone(), Held { version: version + 1, ..held });
                (if version == 0 { 201 } else { 200 }, Some(version + 1))
            }
        }
    }

    fn writes(once: &mut Once, found: &mut Found, number: u64) -> Vec<OnceWrite> {
        let mut all = Vec::new();
        for _ in 0..number {
            let write = once.next_write();
            let (status, version) = carried_out(found, &write);
            assert_eq!(once.note(write.clone(), status, version), Ok(()));
            all.push(write);
        }
        all
    }

    #[test]
    fn entries_are_made_changed_and_deleted() {
        let (mut once, mut found) = (Once::default(), BTreeMap::new());
        let all = writes(&mut once, &mut found, KEYS * 20);
        assert_eq!(once.differences(&found), Vec::<String>::new());
        let has = |condition: fn(&OnceWrite) -> bool| all.iter().any(condition);
        assert!(has(|write| write.leaves.is_none() && write.condition != Condition::Any));
        assert!(has(|write| write.condition == Condition::Any) && has(|write| write.condition == Condition::At(3)));
        let keys: BTreeSet<&str> = all.iter().map(|write| write.idempotency_key.as_str()).collect();
        assert_eq!(keys.len(), all.len(), "no idempotency key comes twice");
    }

    /// At each version an entry has: the next write, and what there was before and after it.
    fn at_each_version() -> Vec<(Once, OnceWrite, Found, Found)> {
        let at = |rounds| {
            let (mut once, mut found) = (Once::default(), BTreeMap::new());
            writes(&mut once, &mut found, KEYS * rounds);
            let before = found.clone();
            let write = once.next_write();
            let _ = carried_out(&mut found, &write);
            (once, write, before, found)
        };
        (0..=LAST_VERSION.unsigned_abs()).map(at).collect()
    }

    #[test]
    fn what_is_lost_or_done_anew_is_told() {
        for (mut once, write, before, mut after) in at_each_version() {
            assert!(Once::owns(&write.key));
            let (status, version) = carried_out(&mut after, &write);
            let told = once.note(write.clone(), status, version);
            // Without a condition doing it at once again is the same as doing it once.
            assert_eq!(told.is_err(), write.condition != Condition::Any, "{write:?}: {status} {version:?}");
            assert_eq!((once.differences(&after).len(), once.differences(&before).len()), (0, 1), "lost");
        }
    }

    #[test]
    fn what_comes_late_is_told() {
        for (mut once, write, _, mut after) in at_each_version() {
            let (status, version) = write.answer();
            assert_eq!(once.note(write.clone(), status, version), Ok(()));
            writes(&mut once, &mut after, KEYS);
            let (status, _) = carried_out(&mut after, &write);
            assert!(status == 412 || once.differences(&after).len() == 1, "{write:?}");
        }
    }
}
