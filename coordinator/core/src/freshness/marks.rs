//! Write marks: what this coordinator has sent to be written, by namespace and by collection.
//!
//! There is a mark for each stripe of namespaces and each stripe of collections. A write touches the marks of its namespaces and that of
//! its collection; an answer depends on those of the namespaces it looked at, or, of all and of prefixes, on that of the collection. Names
//! that share a stripe share a mark: answers are dropped for nothing then, never kept too long.
//!
//! States of a mark:
//!
//! | state | from | until | answers that depend on it |
//! | --- | --- | --- | --- |
//! | quiet | | a write begins | are kept, and given while it is unchanged |
//! | under way | before the write is sent | its outcome is known, or will not be | are not kept; those from before are not given again |
//! | doubtful | a write ended and nobody knows how: no answer came, or its client went away | it can't be carried out any more | are not kept; those from before are not given again |
//!
//! A write changes its marks before anything of it is sent, so no answer from before is given once the write may have been seen. A fan-out
//! that begins while it is under way may look before the commit or after it, and nothing tells which: the mark is not quiet for it. As a
//! write ends before it is acknowledged, and begins before that, an answer whose marks were quiet when its fan-out began, and
//! have not changed since, lacks no write of this coordinator.
//!
//! **Late messages.** A write whose end nobody knows may be carried out later still: it lies in a socket's buffer, or its cancellation
//! does. It was acknowledged to nobody, and who sends it again sends a write of its own. So that it does not make an answer old
//! unnoticed either, the mark stays doubtful for longer than such a write lives: the socket gives up data that nobody takes after a while, and
//! the server each statement at its time. How long that is depends on the configuration: see [`WriteMarks::new`].

use atoll_proto::{CollectionName, Namespace};
use xxhash_rust::xxh3::Xxh3;

/// Marks; a power of two. With 32,768 a name shares its mark with few others, and all take 768 KiB.
const MARKS: u64 = 1 << 15;

/// The marks of one coordinator.
#[derive(Debug, Clone)]
pub struct WriteMarks {
    marks: Vec<Mark>,
    late_ms: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Mark {
    /// Writes that have ever begun.
    changes: u64,
    /// Writes that have begun and not ended.
    under_way: u32,
    /// When the last write whose end nobody knows has been carried out, or never will be.
    doubtful_until_ms: u64,
}

/// Which marks a write touches, or an answer depends on; sorted, each once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MarkSet(Box<[u32]>);

/// Marks as an answer's fan-out found them: which, and how often each had changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen(Box<[(u32, u64)]>);

/// How a write ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteEnd {
    /// It was committed, or was not and will not be.
    Known,
    /// Nobody knows.
    Unknown,
}

impl MarkSet {
    /// What a write to these namespaces touches.
    pub fn of_write<'a>(collection: &CollectionName, namespaces: impl IntoIterator<Item = &'a str>) -> Self {
        let of_namespaces = namespaces.into_iter().map(|namespace| mark_of(collection, namespace));
        Self::new(of_namespaces.chain([mark_of_all(collection)]).collect())
    }

    /// What an answer about these namespaces depends on.
    pub fn of_namespaces(collection: &CollectionName, namespaces: &[Namespace]) -> Self {
        Self::new(namespaces.iter().map(|namespace| mark_of(collection, namespace.as_str())).collect())
    }

    /// What an answer about all namespaces depends on, or about those that begin so.
    pub fn of_collection(collection: &CollectionName) -> Self {
        Self::new(vec![mark_of_all(collection)])
    }

    fn new(mut marks: Vec<u32>) -> Self {
        marks.sort_unstable();
        marks.dedup();
        Self(marks.into())
    }
}

impl Seen {
    /// Bytes that it holds.
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.0)
    }
}

impl WriteMarks {
    /// All quiet. A write whose end nobody knows may still be carried out for so many milliseconds.
    pub fn new(late_ms: u64) -> Self {
        Self { marks: vec![Mark::default(); MARKS as usize], late_ms }
    }

    /// A write begins; nothing of it has been sent yet.
    pub fn begin(&mut self, touched: &MarkSet) {
        for mark in &touched.0 {
            let mark = &mut self.marks[*mark as usize];
            mark.changes += 1;
            mark.under_way += 1;
        }
    }

    /// A write that began has ended; nobody has been told of it yet.
    pub fn end(&mut self, touched: &MarkSet, end: WriteEnd, now_ms: u64) {
        for mark in &touched.0 {
            let mark = &mut self.marks[*mark as usize];
            mark.under_way -= 1;
            if end == WriteEnd::Unknown {
                mark.doubtful_until_ms = mark.doubtful_until_ms.max(now_ms.saturating_add(self.late_ms));
            }
        }
    }

    /// The marks, for an answer whose fan-out is about to begin; none if one of them is not quiet, so that it is not to be kept.
    pub fn quiet(&self, wanted: &MarkSet, now_ms: u64) -> Option<Seen> {
        let look = |number: &u32| {
            let Mark { changes, under_way, doubtful_until_ms } = self.marks[*number as usize];
            (under_way == 0 && doubtful_until_ms <= now_ms).then_some((*number, changes))
        };
        wanted.0.iter().map(look).collect::<Option<_>>().map(Seen)
    }

    /// Whether nothing was written since.
    pub fn unchanged(&self, seen: &Seen) -> bool {
        seen.0.iter().all(|(number, changes)| self.marks[*number as usize].changes == *changes)
    }
}

fn mark_of_all(collection: &CollectionName) -> u32 {
    stripe(&[collection.as_str()])
}

fn mark_of(collection: &CollectionName, namespace: &str) -> u32 {
    stripe(&[collection.as_str(), namespace])
}

fn stripe(names: &[&str]) -> u32 {
    let mut hasher = Xxh3::new();
    for name in names {
        hasher.update(&(name.len() as u64).to_le_bytes());
        hasher.update(name.as_bytes());
    }
    (hasher.digest() % MARKS) as u32
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const LATE_MS: u64 = 150_000;

    fn collection() -> CollectionName {
        CollectionName::parse("c").unwrap()
    }

    fn of(namespace: &str) -> MarkSet {
        MarkSet::of_namespaces(&collection(), &[Namespace::parse(namespace).unwrap()])
    }

    fn write(namespaces: &[&str]) -> MarkSet {
        MarkSet::of_write(&collection(), namespaces.iter().copied())
    }

    #[test]
    fn a_write_is_known_to_its_namespaces_and_to_the_collection() {
        let mut marks = WriteMarks::new(LATE_MS);
        let (a, b, all) = (of("a"), of("b"), MarkSet::of_collection(&collection()));
        let before = [&a, &b, &all].map(|set| marks.quiet(set, 0).unwrap());
        let touched = write(&["a", "a"]);
        marks.begin(&touched);
        assert_eq!([0, 1, 2].map(|i| marks.unchanged(&before[i])), [false, true, false]);
        assert_eq!([&a, &b, &all].map(|set| marks.quiet(set, 0).is_some()), [false, true, false]);
        marks.end(&touched, WriteEnd::Known, 0);
        assert!([&a, &b, &all].iter().all(|set| marks.quiet(set, 0).is_some_and(|seen| marks.unchanged(&seen))));
        let other = MarkSet::of_collection(&CollectionName::parse("d").unwrap());
        assert_ne!(other, all);
    }

    #[test]
    fn an_answer_made_beside_a_write_is_not_kept() {
        let mut marks = WriteMarks::new(LATE_MS);
        let touched = write(&["a"]);
        // Begun after the fan-out, and ended before or after it.
        let seen = marks.quiet(&of("a"), 0).unwrap();
        marks.begin(&touched);
        assert!(!marks.unchanged(&seen));
        marks.end(&touched, WriteEnd::Known, 0);
        assert!(!marks.unchanged(&seen));
        // Two at once: the end of one leaves the other.
        marks.begin(&touched);
        marks.begin(&touched);
        marks.end(&touched, WriteEnd::Known, 0);
        assert_eq!(marks.quiet(&of("a"), 0), None);
        marks.end(&touched, WriteEnd::Known, 0);
        assert!(marks.quiet(&of("a"), 0).is_some());
    }

    #[test]
    fn a_write_whose_end_nobody_knows_is_waited_for() {
        let mut marks = WriteMarks::new(LATE_MS);
        let touched = write(&["a"]);
        marks.begin(&touched);
        marks.end(&touched, WriteEnd::Unknown, 1_000);
        marks.begin(&touched);
        marks.end(&touched, WriteEnd::Known, 1_000 + LATE_MS);
        assert_eq!(marks.quiet(&of("a"), 999 + LATE_MS), None);
        assert!(marks.quiet(&of("a"), 1_000 + LATE_MS).is_some());
    }
}
