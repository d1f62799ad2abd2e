//! The one thread that writes the log file. Everything that has to be durable goes through its queue, so a vote and the
//! entries around it reach the disk in the order Raft asked for; what waits in the queue shares one transaction, and
//! nobody is told before it is on disk. A failed write ends the process: after a failed fsync nobody knows what the disk
//! holds, and a second fsync may claim success falsely.

use super::types::{LogId, TypeConfig, Vote, stop_process};
use openraft::storage::LogFlushed;
use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition};
use std::sync::mpsc;
use std::thread::JoinHandle;
use tokio::sync::oneshot;

/// Entries by index, as JSON.
pub(super) const LOG: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log");
/// Everything else by name, as JSON.
pub(super) const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
pub(super) const FORMAT_KEY: &str = "format";
pub(super) const VOTE_KEY: &str = "vote";
pub(super) const COMMITTED_KEY: &str = "committed";
pub(super) const PURGED_KEY: &str = "purged";

/// Operations that share a transaction, at most.
const OPERATIONS_MAX: usize = 256;

/// A change of the log file.
pub(super) enum LogWrite {
    /// Adds entries; Raft is told when they are durable.
    Append { entries: Vec<(u64, Vec<u8>)>, flushed: LogFlushed<TypeConfig> },
    /// Remembers a vote.
    Vote { vote: Vote, durable: oneshot::Sender<()> },
    /// Remembers how far the log is committed, so that a restart replays it at once.
    Committed(Option<LogId>),
    /// Removes the entries from this index on.
    Truncate { from: u64 },
    /// Removes the entries up to this one.
    Purge { upto: LogId },
}

/// Whom to tell once the transaction is durable.
enum Waiting {
    Append(LogFlushed<TypeConfig>),
    Vote(oneshot::Sender<()>),
}

/// Starts the thread. It ends, and lets go of the file, when the last sender is gone and everything is written.
pub(super) fn start(database: Database) -> std::io::Result<(mpsc::Sender<LogWrite>, JoinHandle<()>)> {
    let (queue, writes) = mpsc::channel();
    let thread = std::thread::Builder::new().name("raft-log".to_owned()).spawn(move || run(&database, &writes))?;
    Ok((queue, thread))
}

fn run(database: &Database, writes: &mpsc::Receiver<LogWrite>) {
    while let Ok(first) = writes.recv() {
        let mut batch = vec![first];
        while batch.len() < OPERATIONS_MAX
            && let Ok(next) = writes.try_recv()
        {
            batch.push(next);
        }
        match write(database, batch) {
            Ok(waiting) => waiting.into_iter().for_each(tell),
            Err(error) => stop_process("the raft log could not be written", &error),
        }
    }
}

fn tell(waiting: Waiting) {
    match waiting {
        Waiting::Append(flushed) => flushed.log_io_completed(Ok(())),
        Waiting::Vote(durable) => {
            // Raft may have stopped waiting because it shuts down.
            let _ = durable.send(());
        }
    }
}

fn write(database: &Database, batch: Vec<LogWrite>) -> Result<Vec<Waiting>, redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    let mut waiting = Vec::new();
    {
        let mut log = transaction.open_table(LOG)?;
        let mut meta = transaction.open_table(META)?;
        for operation in batch {
            match operation {
                LogWrite::Append { entries, flushed } => {
                    for (index, entry) in &entries {
                        log.insert(index, entry.as_slice())?;
                    }
                    waiting.push(Waiting::Append(flushed));
                }
                LogWrite::Vote { vote, durable } => {
                    meta.insert(VOTE_KEY, json(&vote).as_slice())?;
                    waiting.push(Waiting::Vote(durable));
                }
                LogWrite::Committed(committed) => {
                    meta.insert(COMMITTED_KEY, json(&committed).as_slice())?;
                }
                LogWrite::Truncate { from } => log.retain_in(from.., |_, _| false)?,
                LogWrite::Purge { upto } => {
                    log.retain_in(..=upto.index, |_, _| false)?;
                    meta.insert(PURGED_KEY, json(&upto).as_slice())?;
                }
            }
        }
    }
    transaction.commit()?;
    Ok(waiting)
}

/// Makes the tables of a new file, durably. A file that names a format, readable or not, is left as it is.
pub(super) fn prepare(database: &Database, format: u32) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut meta = transaction.open_table(META)?;
        if meta.get(FORMAT_KEY)?.is_none() {
            transaction.open_table(LOG)?;
            meta.insert(FORMAT_KEY, json(&format).as_slice())?;
        }
    }
    transaction.commit()?;
    Ok(())
}

/// Reads one of the values in [`META`].
pub(super) fn read_meta(database: &Database, key: &str) -> Result<Option<Vec<u8>>, redb::Error> {
    let transaction = database.begin_read()?;
    let meta = transaction.open_table(META)?;
    Ok(meta.get(key)?.map(|value| value.value().to_vec()))
}

/// Log ids, votes and entries are plain structs with string keys: JSON can hold them all.
pub(super) fn json<T: serde::Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("plain structs with string keys serialise")
}
