//! The judgement: every operation against all the others. What cannot be told for certain is not held against anybody.

use super::key::{KeyWrites, Placed};
use super::violation::{Kind, Violation};
use super::{Deed, Operation, Outcome, Promise, Read, Seen};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// By which a history is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// A write whose outcome is unknown may be done so long after it was given up, and not later: coordinators end what nobody waits for.
    pub late: Duration,
    /// What there has to be in it.
    pub least: Least,
}

/// How much has to happen for a history to mean anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Least {
    /// Entries written one by one, acknowledged.
    pub upserts: usize,
    /// Deletes, acknowledged.
    pub deletes: usize,
    /// Batches, acknowledged.
    pub batches: usize,
    /// Reads within a session.
    pub session_reads: usize,
    /// Reads that promise least.
    pub other_reads: usize,
    /// Entries seen when nothing was broken any more.
    pub seen_at_last: usize,
}

/// Everything in a history that must not be.
pub fn check(history: &[Operation], terms: &Terms) -> Vec<Violation> {
    let keys = keys(history, terms.late);
    let batches = batches(history);
    let mut found = Vec::new();
    for (key, writes) in &keys {
        let pairs = writes.out_of_order().into_iter();
        found.extend(pairs.map(|(a, b)| violation(Kind::Order, key, format!("{} then {}", shown(&a), shown(&b)))));
        let pairs = writes.doubled().into_iter();
        found.extend(pairs.map(|(a, b)| violation(Kind::Doubled, key, format!("{} then {}", shown(&a), shown(&b)))));
    }
    for operation in history {
        let Deed::Read(read) = &operation.deed else { continue };
        for (key, seen) in &read.seen {
            found.extend(has_origin(&keys, key, *seen));
            if read.promise == Promise::Everything {
                found.extend(is_newest(&keys, key, *seen, operation));
            }
        }
        found.extend(batches.iter().filter_map(|batch| is_whole(batch, read)));
    }
    let sessions: BTreeSet<u64> = history.iter().map(|operation| operation.session).collect();
    for session in sessions {
        let own: Vec<&Operation> = history.iter().filter(|operation| operation.session == session).collect();
        found.extend(only_goes_forward(&keys, &own));
    }
    found.extend(too_little(history, &terms.least));
    found
}

fn keys(history: &[Operation], late: Duration) -> BTreeMap<&str, KeyWrites> {
    let mut keys = BTreeMap::<&str, KeyWrites>::new();
    for Operation { invoked, ended, deed, .. } in history {
        let Deed::Write(write) = deed else { continue };
        for (place, key) in write.keys.iter().enumerate() {
            keys.entry(key).or_default().note(write, place, *invoked, *ended, late);
        }
    }
    keys
}

/// The entries of each batch.
fn batches(history: &[Operation]) -> BTreeSet<&[String]> {
    let writes = history.iter().filter_map(|operation| match &operation.deed {
        Deed::Write(write) => Some(write.keys.as_slice()),
        Deed::Read(_) => None,
    });
    writes.filter(|keys| keys.len() > 1).collect()
}

/// What is seen was written, and has the version that its writer was told.
fn has_origin(keys: &BTreeMap<&str, KeyWrites>, key: &str, seen: Option<Seen>) -> Option<Violation> {
    let seen = seen?;
    let writes = keys.get(key);
    let Some(write) = writes.and_then(|writes| writes.origin(seen)) else {
        let is_refused = writes.is_some_and(|writes| writes.is_refused(seen));
        let kind = if is_refused { Kind::RefusedYetDone } else { Kind::Phantom };
        return Some(violation(kind, key, format!("{seen:?}")));
    };
    let is_other = write.version.is_some_and(|version| version != seen.version);
    is_other.then(|| violation(Kind::Order, key, format!("{seen:?} of {}", shown(write))))
}

/// What is seen is what was acknowledged last, or came after it, or may have.
fn is_newest(
    keys: &BTreeMap<&str, KeyWrites>,
    key: &str,
    seen: Option<Seen>,
    operation: &Operation,
) -> Option<Violation> {
    let writes = keys.get(key)?;
    let told = |kind, write: &Placed| Some(violation(kind, key, format!("{} but {seen:?} is seen", shown(write))));
    match seen {
        Some(seen) => {
            let write = writes.acknowledged_between(writes.origin(seen)?.over, operation.invoked).last()?;
            told(if write.content.is_some() { Kind::Lost } else { Kind::Undeleted }, write)
        }
        None => {
            let mut newer = writes.acknowledged_between(writes.absent_by(operation.ended), operation.invoked);
            told(Kind::Lost, newer.find(|write| write.content.is_some())?)
        }
    }
}

/// Of a batch that is seen whole, all entries hold the same.
fn is_whole(batch: &[String], read: &Read) -> Option<Violation> {
    let seen: Option<Vec<Option<Seen>>> = batch.iter().map(|key| read.seen.get(key).copied()).collect();
    let contents: BTreeSet<Option<u64>> = seen?.into_iter().map(|seen| seen.map(|seen| seen.content)).collect();
    (contents.len() > 1).then(|| violation(Kind::HalfBatch, &batch[0], format!("its entries hold {contents:?}")))
}

/// The newest that a session knows of an entry.
#[derive(Debug, Clone, Copy)]
struct Known {
    write: Placed,
    is_own: bool,
    /// The highest version that it wrote or saw.
    version: i64,
}

/// A session sees what it wrote, and nothing older than it saw before. What it saw of a write that was never acknowledged does not count: a
/// primary shows what no other member may have.
fn only_goes_forward(keys: &BTreeMap<&str, KeyWrites>, session: &[&Operation]) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut known = BTreeMap::<&str, Known>::new();
    for operation in session {
        match &operation.deed {
            Deed::Write(write) => {
                let Outcome::Done(versions) = &write.outcome else { continue };
                for (place, key) in write.keys.iter().enumerate() {
                    let version = versions.get(place).copied();
                    let placed = Placed {
                        content: write.content,
                        version,
                        invoked: operation.invoked,
                        over: operation.ended,
                        is_done: true,
                    };
                    learn(&mut known, key, placed, true, version.unwrap_or_default());
                }
            }
            Deed::Read(read) => {
                for (key, seen) in &read.seen {
                    let Some(writes) = keys.get(key.as_str()) else { continue };
                    let origin = seen.and_then(|seen| writes.origin(seen));
                    if read.promise != Promise::Something
                        && let Some(known) = known.get(key.as_str())
                        && is_older(writes, known, *seen, origin, operation)
                    {
                        let kind = if known.is_own { Kind::OwnWriteUnseen } else { Kind::WentBack };
                        let told = format!("{} is known, {seen:?} is seen", shown(&known.write));
                        found.push(violation(kind, key, told));
                    }
                    if let (Some(seen), Some(origin)) = (seen, origin)
                        && read.promise != Promise::Something
                        && origin.is_done
                    {
                        learn(&mut known, key, *origin, false, seen.version);
                    }
                }
            }
        }
    }
    found
}

fn learn<'a>(known: &mut BTreeMap<&'a str, Known>, key: &'a str, write: Placed, is_own: bool, version: i64) {
    let before = known.entry(key).or_insert(Known { write, is_own, version });
    before.version = before.version.max(version);
    if write.invoked > before.write.invoked {
        (before.write, before.is_own) = (write, is_own);
    }
}

fn is_older(
    writes: &KeyWrites,
    known: &Known,
    seen: Option<Seen>,
    origin: Option<&Placed>,
    operation: &Operation,
) -> bool {
    match (seen, origin) {
        (Some(seen), Some(origin)) => {
            let is_behind = !writes.is_ever_deleted() && seen.version < known.version;
            is_behind || origin.over < known.write.invoked
        }
        // A phantom, which is told elsewhere.
        (Some(_), None) => false,
        (None, _) => known.write.content.is_some() && writes.absent_by(operation.ended) < known.write.invoked,
    }
}

fn too_little(history: &[Operation], least: &Least) -> Vec<Violation> {
    let mut happened = Least::default();
    for operation in history {
        match &operation.deed {
            Deed::Write(write) if !matches!(write.outcome, Outcome::Done(_)) => {}
            Deed::Write(write) if write.content.is_none() => happened.deletes += 1,
            Deed::Write(write) if write.keys.len() > 1 => happened.batches += 1,
            Deed::Write(_) => happened.upserts += 1,
            Deed::Read(read) => match read.promise {
                Promise::Everything => happened.seen_at_last += read.seen.values().flatten().count(),
                Promise::Session => happened.session_reads += 1,
                Promise::Something => happened.other_reads += 1,
            },
        }
    }
    let Least { upserts, deletes, batches, session_reads, other_reads, seen_at_last } = happened;
    let all = [
        ("upserts", upserts, least.upserts),
        ("deletes", deletes, least.deletes),
        ("batches", batches, least.batches),
        ("session reads", session_reads, least.session_reads),
        ("other reads", other_reads, least.other_reads),
        ("entries seen at last", seen_at_last, least.seen_at_last),
    ];
    let few = all.into_iter().filter(|(_, happened, least)| happened < least);
    few.map(|(what, happened, least)| violation(Kind::TooLittle, what, format!("{happened} of {least}"))).collect()
}

fn violation(kind: Kind, subject: &str, told: String) -> Violation {
    Violation { kind, subject: subject.to_owned(), told }
}

fn shown(write: &Placed) -> String {
    let Placed { content, version, invoked, over, is_done } = write;
    let what = content.map_or("a delete".to_owned(), |content| format!("{content}"));
    let when = format!("{:.3} to {:.3} s", invoked.as_secs_f64(), over.as_secs_f64());
    let told = if *is_done { "acknowledged" } else { "in doubt" };
    match version {
        Some(version) => format!("{what} at version {version}, {when}, {told}"),
        None => format!("{what}, {when}, {told}"),
    }
}
