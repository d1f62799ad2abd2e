//! What one writer was told: what each of its keys must hold.

use std::collections::BTreeMap;

/// Writes to a few keys, one after the other, and what became of them.
#[derive(Debug, Default)]
pub struct Ledger {
    next: u64,
    keys: BTreeMap<String, Fate>,
}

/// What a key may hold.
#[derive(Debug, Default)]
struct Fate {
    /// What was acknowledged last.
    certain: Content,
    /// What came after it, and may have been done.
    possible: Vec<Content>,
}

/// The number of the write that it is of, or nothing.
type Content = Option<u64>;

/// One write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// The key.
    pub key: String,
    /// What it shall hold: this, or nothing.
    pub content: Option<u64>,
}

/// Keys come by turns. One is written again after so many writes, which takes longer than a write that nobody waits for any more.
const KEYS: u64 = 600;
const DELETED_EVERY: u64 = 7;

impl Ledger {
    /// The next write.
    pub fn next_write(&mut self) -> Write {
        let number = self.next;
        self.next += 1;
        let deletes = number % DELETED_EVERY == 3;
        Write { key: format!("written-{}", number % KEYS), content: (!deletes).then_some(number) }
    }

    /// Notes what became of it.
    pub fn note(&mut self, write: Write, acknowledged: bool) {
        let fate = self.keys.entry(write.key).or_default();
        if acknowledged {
            *fate = Fate { certain: write.content, possible: Vec::new() };
        } else {
            fate.possible.push(write.content);
        }
    }

    /// Compares with the keys and contents that were found; gives everything that is not as it should be.
    pub fn differences(&self, found: &BTreeMap<String, u64>) -> Vec<String> {
        let mut differences = Vec::new();
        for (key, fate) in &self.keys {
            let content = found.get(key).copied();
            if content != fate.certain && !fate.possible.contains(&content) {
                differences.push(format!("{key} holds {content:?} instead of {:?} {:?}", fate.certain, fate.possible));
            }
        }
        let unknown = found.keys().filter(|key| !self.keys.contains_key(*key));
        differences.extend(unknown.map(|key| format!("{key} was never written")));
        differences
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_tells_what_is_lost_old_back_or_made_up() {
        let mut ledger = Ledger::default();
        let put = |content| Write { key: "k".to_owned(), content };
        let holds = |content: Option<u64>| content.map(|content| ("k".to_owned(), content)).into_iter().collect();
        let is_fine = |ledger: &Ledger, content| ledger.differences(&holds(content)).is_empty();
        assert!(!is_fine(&ledger, Some(1)), "made up");
        ledger.note(put(Some(1)), true);
        assert!(is_fine(&ledger, Some(1)) && !is_fine(&ledger, None) && !is_fine(&ledger, Some(2)));
        ledger.note(put(None), false);
        ledger.note(put(Some(3)), false);
        assert!([None, Some(1), Some(3)].into_iter().all(|content| is_fine(&ledger, content)));
        ledger.note(put(None), true);
        assert!(is_fine(&ledger, None) && !is_fine(&ledger, Some(3)), "back");
    }

    #[test]
    fn keys_are_put_and_deleted_by_turns() {
        let mut ledger = Ledger::default();
        let writes: Vec<Write> = (0..KEYS + 4).map(|_| ledger.next_write()).collect();
        assert_eq!(writes[KEYS as usize].key, writes[0].key);
        assert!(writes[3].content.is_none() && writes[0].content == Some(0));
        assert!(writes.iter().filter(|write| write.key == "written-3").any(|write| write.content.is_some()));
    }
}
