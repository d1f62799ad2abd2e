//! The Raft log: a redb file behind one writer thread ([`super::log_writer`]), and all of it in memory for readers. The log
//! of a catalog is short (it is compacted every thousand entries), so nothing ever has to be read back.

use super::log_writer::{self, LOG, LogWrite};
use super::types::{Entry, LogId, StorageError, TypeConfig, Vote, newer_format};
use openraft::storage::{LogFlushed, RaftLogStorage};
use openraft::{LogState, OptionalSend, RaftLogReader, StorageIOError};
use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::ops::RangeBounds;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock, mpsc};
use std::thread::JoinHandle;
use tokio::sync::oneshot;

/// Format of the log file. A program that meets a higher one stops.
const LOG_FORMAT: u32 = 1;

/// Why a log can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenLogError {
    /// Another process has it.
    #[error("the data directory is in use by another process ({})", path.display())]
    InUse {
        /// The log file.
        path: PathBuf,
    },
    /// A newer program wrote it.
    #[error("{} was written by a newer program ({what} format {found}, this program knows {known})", path.display())]
    Newer {
        /// The log file.
        path: PathBuf,
        /// Which number is higher.
        what: &'static str,
        /// The format found.
        found: u64,
        /// The highest format that this program reads.
        known: u64,
    },
    /// Something in it is not what this program writes.
    #[error("{} holds something unreadable at {at}", path.display())]
    Unreadable {
        /// The log file.
        path: PathBuf,
        /// Which entry or value.
        at: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The file can't be read.
    #[error("the raft log {} could not be opened", path.display())]
    Storage {
        /// The log file.
        path: PathBuf,
        /// Why.
        source: Box<redb::Error>,
    },
    /// No thread for the writer.
    #[error("the raft log's writer could not be started")]
    Writer(#[source] std::io::Error),
}

/// What the file holds, for readers.
#[derive(Debug, Default)]
struct LogMemory {
    entries: BTreeMap<u64, Entry>,
    purged: Option<LogId>,
    vote: Option<Vote>,
    committed: Option<LogId>,
}

/// The log, for Raft's core: reads memory, writes through the queue.
pub(super) struct LogStore {
    memory: Arc<RwLock<LogMemory>>,
    writes: mpsc::Sender<LogWrite>,
}

/// The log, for those who replicate it. Holds no sender: the writer ends when Raft's core lets go of its [`LogStore`].
#[derive(Clone)]
pub(super) struct LogReader {
    memory: Arc<RwLock<LogMemory>>,
}

impl LogStore {
    /// Opens or makes the file. The thread ends, and unlocks the file, when the store is dropped.
    pub(super) fn open(path: &Path) -> Result<(Self, JoinHandle<()>), OpenLogError> {
        let storage =
            |source: redb::Error| OpenLogError::Storage { path: path.to_path_buf(), source: Box::new(source) };
        let database = match Database::create(path) {
            Ok(database) => database,
            Err(DatabaseError::DatabaseAlreadyOpen) => return Err(OpenLogError::InUse { path: path.to_path_buf() }),
            Err(error) => return Err(storage(error.into())),
        };
        log_writer::prepare(&database, LOG_FORMAT).map_err(storage)?;
        let found: u32 = meta(&database, path, log_writer::FORMAT_KEY)?.unwrap_or(LOG_FORMAT);
        if found > LOG_FORMAT {
            let (found, known) = (u64::from(found), u64::from(LOG_FORMAT));
            return Err(OpenLogError::Newer { path: path.to_path_buf(), what: "log", found, known });
        }
        let memory = load(&database, path)?;
        let (writes, thread) = log_writer::start(database).map_err(OpenLogError::Writer)?;
        Ok((Self { memory: Arc::new(RwLock::new(memory)), writes }, thread))
    }

    /// Whether nothing was ever written: neither a vote nor an entry.
    pub(super) fn is_pristine(&self) -> bool {
        let memory = self.memory.read().expect(UNPOISONED);
        memory.vote.is_none() && memory.entries.is_empty() && memory.purged.is_none()
    }

    /// The last entry that was compacted away.
    pub(super) fn purged(&self) -> Option<LogId> {
        self.memory.read().expect(UNPOISONED).purged
    }

    fn send(&self, write: LogWrite) -> Result<(), WriterGone> {
        // The writer ends only after every sender is gone, or with the whole process.
        self.writes.send(write).map_err(|_| WriterGone)
    }
}

const UNPOISONED: &str = "no holder of this lock panics: it is held for map operations only";

#[derive(Debug, thiserror::Error)]
#[error("the raft log's writer is gone")]
struct WriterGone;

impl From<WriterGone> for StorageError {
    fn from(error: WriterGone) -> Self {
        StorageIOError::write_logs(&error).into()
    }
}

fn load(database: &Database, path: &Path) -> Result<LogMemory, OpenLogError> {
    let storage = |source: redb::Error| OpenLogError::Storage { path: path.to_path_buf(), source: Box::new(source) };
    let unreadable = |at: String, source| OpenLogError::Unreadable { path: path.to_path_buf(), at, source };
    let mut memory = LogMemory {
        entries: BTreeMap::new(),
        purged: meta(database, path, log_writer::PURGED_KEY)?,
        vote: meta(database, path, log_writer::VOTE_KEY)?,
        committed: meta::<Option<LogId>>(database, path, log_writer::COMMITTED_KEY)?.flatten(),
    };
    let transaction = database.begin_read().map_err(|error| storage(error.into()))?;
    let log = transaction.open_table(LOG).map_err(|error| storage(error.into()))?;
    for row in log.iter().map_err(|error| storage(error.into()))? {
        let (index, bytes) = row.map_err(|error| storage(error.into()))?;
        let index = index.value();
        let at = || format!("entry {index}");
        let value: serde_json::Value =
            serde_json::from_slice(bytes.value()).map_err(|error| unreadable(at(), error))?;
        if let Some(found) = newer_format(&value) {
            let known = u64::from(atoll_core::catalog::FORMAT);
            return Err(OpenLogError::Newer { path: path.to_path_buf(), what: "command", found, known });
        }
        memory.entries.insert(index, serde_json::from_value(value).map_err(|error| unreadable(at(), error))?);
    }
    Ok(memory)
}

fn meta<T: serde::de::DeserializeOwned>(
    database: &Database,
    path: &Path,
    key: &str,
) -> Result<Option<T>, OpenLogError> {
    let bytes = log_writer::read_meta(database, key)
        .map_err(|source| OpenLogError::Storage { path: path.to_path_buf(), source: Box::new(source) })?;
    let Some(bytes) = bytes else { return Ok(None) };
    match serde_json::from_slice(&bytes) {
        Ok(value) => Ok(Some(value)),
        Err(source) => Err(OpenLogError::Unreadable { path: path.to_path_buf(), at: key.to_owned(), source }),
    }
}

fn entries_in(memory: &RwLock<LogMemory>, range: impl RangeBounds<u64>) -> Vec<Entry> {
    memory.read().expect(UNPOISONED).entries.range(range).map(|(_, entry)| entry.clone()).collect()
}

impl RaftLogReader<TypeConfig> for LogReader {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, StorageError> {
        Ok(entries_in(&self.memory, range))
    }
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, StorageError> {
        Ok(entries_in(&self.memory, range))
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = LogReader;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, StorageError> {
        let memory = self.memory.read().expect(UNPOISONED);
        let last = memory.entries.last_key_value().map(|(_, entry)| entry.log_id);
        Ok(LogState { last_purged_log_id: memory.purged, last_log_id: last.or(memory.purged) })
    }

    async fn get_log_reader(&mut self) -> LogReader {
        LogReader { memory: self.memory.clone() }
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        let (durable, written) = oneshot::channel();
        self.send(LogWrite::Vote { vote: *vote, durable })?;
        written.await.map_err(|_| WriterGone)?;
        self.memory.write().expect(UNPOISONED).vote = Some(*vote);
        Ok(())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        Ok(self.memory.read().expect(UNPOISONED).vote)
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), StorageError> {
        self.memory.write().expect(UNPOISONED).committed = committed;
        self.send(LogWrite::Committed(committed))?;
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, StorageError> {
        Ok(self.memory.read().expect(UNPOISONED).committed)
    }

    async fn append<I>(&mut self, entries: I, flushed: LogFlushed<TypeConfig>) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut rows = Vec::new();
        {
            let mut memory = self.memory.write().expect(UNPOISONED);
            for entry in entries {
                rows.push((entry.log_id.index, log_writer::json(&entry)));
                memory.entries.insert(entry.log_id.index, entry);
            }
        }
        self.send(LogWrite::Append { entries: rows, flushed })?;
        Ok(())
    }

    async fn truncate(&mut self, log_id: LogId) -> Result<(), StorageError> {
        self.memory.write().expect(UNPOISONED).entries.split_off(&log_id.index);
        self.send(LogWrite::Truncate { from: log_id.index })?;
        Ok(())
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), StorageError> {
        {
            let mut memory = self.memory.write().expect(UNPOISONED);
            memory.entries = memory.entries.split_off(&(log_id.index + 1));
            memory.purged = Some(log_id);
        }
        self.send(LogWrite::Purge { upto: log_id })?;
        Ok(())
    }
}
