//! Which texts of statements are worth keeping prepared, where there may be any number of them: those with filters, and those that
//! walk the graphs of several namespaces, which they name.
//!
//! Values are bound, so clients mostly send few shapes of filters over and over; but nothing keeps one from sending ever new
//! ones, and a connection's cache is emptied when it is full. So a text is kept prepared from its second time on, and when too many have
//! been seen, all are forgotten and begin anew: texts that come once each never push out what is in use.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, PoisonError};

/// Texts seen once that are remembered.
const SEEN_MAX: usize = 4_096;
/// Texts that are kept prepared: fewer than a connection holds.
const KEPT_MAX: usize = 256;

/// The texts that came to one worker, by their hashes. A collision keeps a text prepared too early, or too long.
#[derive(Debug, Default)]
pub(super) struct Shapes(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    seen: HashSet<u64>,
    kept: HashSet<u64>,
}

impl Shapes {
    /// Takes note of a text, and says whether to keep it prepared.
    pub(super) fn keeps(&self, text: &str) -> bool {
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        let hash = hasher.finish();
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.kept.contains(&hash) {
            return true;
        }
        if known.seen.len() >= SEEN_MAX {
            known.seen.clear();
        }
        if known.seen.insert(hash) {
            return false;
        }
        if known.kept.len() >= KEPT_MAX {
            known.kept.clear();
        }
        known.kept.insert(hash);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_kept_from_its_second_time_on() {
        let shapes = Shapes::default();
        assert_eq!(
            [shapes.keeps("a"), shapes.keeps("b"), shapes.keeps("a"), shapes.keeps("a")],
            [false, false, true, true]
        );
    }

    #[test]
    fn a_flood_of_new_texts_pushes_nothing_out_and_memory_is_bounded() {
        let shapes = Shapes::default();
        shapes.keeps("in use");
        assert!(shapes.keeps("in use"));
        for i in 0..2 * SEEN_MAX {
            assert!(!shapes.keeps(&format!("once {i}")));
        }
        assert!(shapes.keeps("in use"));
        for i in 0..2 * KEPT_MAX {
            shapes.keeps(&format!("twice {i}"));
            shapes.keeps(&format!("twice {i}"));
        }
        let known = shapes.0.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(known.kept.len() <= KEPT_MAX && known.seen.len() <= SEEN_MAX);
    }
}
