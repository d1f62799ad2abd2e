//! Streaming import: NDJSON in, progress out, bounded memory.
//!
//! Lines are checked one by one; a line that is not valid, or of a namespace that the key is not for, is counted and left out.
//! Good rows gather for their shard until a batch
//! is full, then go there by COPY while reading continues, a few batches at a time: when all hands are busy, reading waits, and
//! with it the client. Only committed rows are counted as written, so an import that was cut off may be sent again as a whole.

use super::batch::row;
use super::check::{self, Parts};
use super::lines::{Line, Lines};
use super::loading::Loading;
use super::{PartTerms, SessionLog, Writer, with_retries};
use crate::error::RequestError;
use crate::targets::{Place, Target};
use crate::workers::write::WriteRow;
use crate::workers::{ShardError, copy};
use atoll_core::access::Grant;
use atoll_core::freshness::{MarkSet, SessionToken};
use atoll_proto::entry::{EntryId, ImportFailure, NewEntry};
use atoll_proto::problem::{FieldError, Problem, ProblemCode};
use atoll_proto::{CollectionName, ShardId};
use bytes::Bytes;
use futures::stream::FuturesUnordered;
use futures::{Stream, StreamExt};
use std::collections::BTreeMap;
use std::pin::pin;
use std::time::Duration;
use tokio::time::Instant;

/// Most failures that the last line of the answer names.
const FAILURES_NAMED: usize = 20;
/// Longest that one batch may take; a worker that restarts in the meantime is tried again.
pub(super) const BATCH_TIME: Duration = Duration::from_secs(300);
/// Longest to wait for a worker that can't be reached.
const PATIENCE: Duration = Duration::from_secs(30);

/// How much an import may do at once.
#[derive(Debug, Clone, Copy)]
pub struct ImportSettings {
    /// Rows of a batch.
    pub batch_rows: usize,
    /// Bytes of NDJSON of a batch.
    pub batch_bytes: usize,
    /// Batches under way at once.
    pub parallel: usize,
    /// Longest line, in bytes.
    pub line_bytes: usize,
}

/// How far an import is.
#[derive(Debug, Clone, Default)]
pub struct ImportState {
    /// Rows committed.
    pub written: u64,
    /// Lines refused.
    pub failed: u64,
    /// The first of them.
    pub first_failures: Vec<ImportFailure>,
    /// Names what was committed, when the import has ended.
    pub session: SessionToken,
}

struct Batch {
    place: Place,
    rows: Vec<WriteRow>,
    bytes: usize,
}

impl Writer {
    /// Imports lines until the stream ends, within the client's `session` and `grant`. Calls `progress` whenever a batch was committed. An error
    /// ends the import; the state then says what had been committed before.
    pub async fn import<E: std::error::Error + Send + Sync + 'static>(
        &self,
        collection: &CollectionName,
        session: SessionToken,
        grant: &Grant,
        body: impl Stream<Item = Result<Bytes, E>> + Send,
        mut progress: impl FnMut(&ImportState) + Send,
    ) -> (ImportState, Result<(), RequestError>) {
        let mut state = ImportState::default();
        let session = SessionLog::new(session);
        let done = self.import_lines(collection, &session, grant, body, &mut state, &mut progress).await;
        state.session = session.token();
        (state, done)
    }

    async fn import_lines<E: std::error::Error + Send + Sync + 'static>(
        &self,
        collection: &CollectionName,
        session: &SessionLog,
        grant: &Grant,
        body: impl Stream<Item = Result<Bytes, E>> + Send,
        state: &mut ImportState,
        progress: &mut (impl FnMut(&ImportState) + Send),
    ) -> Result<(), RequestError> {
        let target = Target::find(&self.views, collection, grant)?;
        let loading = Loading::begin(&self.load_agents, &self.views, &target);
        let mut body = pin!(body);
        let mut lines = Lines::new(self.import.line_bytes);
        let mut line_number = 0;
        let mut open: BTreeMap<ShardId, Batch> = BTreeMap::new();
        let mut under_way = FuturesUnordered::new();
        let mut ended = false;
        while !ended {
            let more = loop {
                // What is being committed goes on while the sender thinks: else its deadline would pass meanwhile.
                tokio::select! {
                    more = body.next() => break more,
                    Some(committed) = under_way.next(), if !under_way.is_empty() => {
                        state.written += committed?;
                        progress(state);
                    }
                }
            };
            match more {
                Some(Ok(bytes)) => lines.push(&bytes),
                Some(Err(_)) => return Err(RequestError::invalid("", "the body broke off, or can't be decompressed")),
                None => ended = true,
            }
            while let Some(line) = lines.next(ended) {
                line_number += 1;
                let Line::Whole(line) = line else {
                    let detail = format!("the line is longer than {} bytes", self.import.line_bytes);
                    note(state, line_number, Problem::invalid("", detail));
                    continue;
                };
                if line.iter().all(u8::is_ascii_whitespace) {
                    continue;
                }
                match self.parse(&target, &line) {
                    Err(problem) => note(state, line_number, *problem),
                    Ok(entry) => {
                        let route = target.route(&entry.namespace)?;
                        let shard = route.shard;
                        let batch = open.entry(shard).or_insert_with(|| Batch {
                            place: target.place(&self.workers, route),
                            rows: Vec::new(),
                            bytes: 0,
                        });
                        batch.bytes += line.len();
                        batch.rows.push(row(entry));
                        if batch.rows.len() >= self.import.batch_rows || batch.bytes >= self.import.batch_bytes {
                            let full = open.remove(&shard);
                            under_way.extend(full.map(|batch| self.commit(&target, session, loading.as_ref(), batch)));
                        }
                    }
                }
                while under_way.len() >= self.import.parallel {
                    let Some(committed) = under_way.next().await else { break };
                    state.written += committed?;
                    progress(state);
                }
            }
        }
        for batch in open.into_values() {
            under_way.push(self.commit(&target, session, loading.as_ref(), batch));
            while under_way.len() >= self.import.parallel {
                let Some(committed) = under_way.next().await else { break };
                state.written += committed?;
                progress(state);
            }
        }
        while let Some(committed) = under_way.next().await {
            state.written += committed?;
            progress(state);
        }
        drop(under_way);
        if let Some(loading) = loading {
            loading.end().await;
        }
        Ok(())
    }

    /// Writes a batch, again while its worker can't be reached: rows are written by id, so once more changes nothing.
    async fn commit(
        &self,
        target: &Target,
        session: &SessionLog,
        loading: Option<&Loading>,
        batch: Batch,
    ) -> Result<u64, RequestError> {
        let Batch { mut place, rows, .. } = batch;
        if let Some(loading) = loading {
            loading.may_go_on(place.route.shard).await;
        }
        let patience = Instant::now() + PATIENCE;
        let copies = self.copies(target, Instant::now() + BATCH_TIME).await?;
        let changed = loop {
            let rows = &rows;
            let touched = MarkSet::of_write(&target.name, rows.iter().map(|row| row.namespace.as_str()));
            let write = |place: Place| async move {
                copy::import(&place.pool, &place.table, rows, Instant::now() + BATCH_TIME).await
            };
            let terms = PartTerms { session, deadline: Instant::now() + BATCH_TIME, once: false };
            match with_retries(self, terms, touched, &place, write).await {
                Ok(changed) => break changed,
                Err(
                    ShardError::Unreachable { .. }
                    | ShardError::Broken { .. }
                    | ShardError::InDoubt { .. }
                    | ShardError::Superseded { .. }
                    | ShardError::Overloaded { .. }
                    | ShardError::Fenced { .. }
                    | ShardError::Stale { .. },
                ) if Instant::now() < patience => {
                    tokio::time::sleep(Duration::from_millis(250)).await;
                    place = self.latest(place);
                }
                Err(error) => return Err(place.write_error(error)),
            }
        };
        if let Some(loading) = loading {
            loading.committed(place.route.shard, &rows, changed);
        }
        if let Some(copies) = copies {
            let ids: Vec<EntryId> = rows.iter().filter_map(WriteRow::id).collect();
            copies.spread(&ids, Instant::now() + BATCH_TIME).await?;
        }
        Ok(rows.len() as u64)
    }

    fn parse(&self, target: &Target, line: &[u8]) -> Result<NewEntry, Box<Problem>> {
        let entry: NewEntry = serde_json::from_slice(line).map_err(|error| match error.is_data() {
            true => Box::new(Problem::invalid("", error.to_string())),
            false => Box::new(Problem::new(ProblemCode::MalformedJson, error.to_string())),
        })?;
        target.permit_each(std::iter::once(&entry.namespace)).map_err(|error| Box::new(error.problem()))?;
        let mut errors: Vec<FieldError> = Vec::new();
        let parts = Parts {
            value: entry.value.as_deref(),
            metadata: Some(&entry.metadata),
            tags: Some(&entry.tags),
            vector: entry.vector.as_ref(),
        };
        check::entry(&parts, &target.collection.settings, "", &mut errors);
        if target.collection.settings.dimensions.is_some() && entry.vector.is_none() {
            let detail = "an imported entry needs its vector".to_owned();
            errors.push(FieldError { pointer: "/vector".to_owned(), detail });
        }
        match errors.into_iter().next() {
            Some(FieldError { pointer, detail }) => Err(Box::new(Problem::invalid(pointer, detail))),
            None => Ok(entry),
        }
    }
}

fn note(state: &mut ImportState, line: u64, problem: Problem) {
    state.failed += 1;
    if state.first_failures.len() < FAILURES_NAMED {
        state.first_failures.push(ImportFailure { line, problem });
    }
}
