//! Batches: grouped by shard, each shard's part one transaction, all parts side by side.

use super::check::{self, Parts};
use super::{Writer, outcome, with_retries};
use crate::error::RequestError;
use crate::targets::{Place, Target};
use crate::workers::idempotency::Ticket;
use crate::workers::write::{self, RowOutcome, WriteRow, WriteRule};
use atoll_proto::entry::{EntryId, NewEntry, WriteAnswer, WriteBatch, WriteMode, WriteResult, WriteStatus};
use atoll_proto::problem::{FieldError, Problem, ProblemCode};
use atoll_proto::{CollectionName, EntryKey, Namespace, ShardId, limits};
use futures::future::join_all;
use std::collections::{BTreeMap, HashMap};
use tokio::time::Instant;

/// One shard's part of a batch: positions of its entries, and what became of them.
struct Part {
    indexes: Vec<usize>,
    outcomes: Result<Vec<RowOutcome>, RequestError>,
}

impl Writer {
    /// Writes a batch. Refused whole if any entry is not valid; otherwise each entry has a result of its own.
    pub async fn batch(
        &self,
        collection: &CollectionName,
        batch: WriteBatch,
        ticket: Option<&Ticket>,
        deadline: Instant,
    ) -> Result<WriteAnswer, RequestError> {
        let started = Instant::now();
        let target = Target::find(&self.views, collection)?;
        check_batch(&batch, &target)?;
        self.claim(&target, ticket, deadline).await?;

        let rule = match batch.mode {
            WriteMode::Upsert => WriteRule::Upsert,
            WriteMode::InsertOnly => WriteRule::InsertOnly,
            WriteMode::UpdateOnly => WriteRule::UpdateOnly,
        };
        let ids: Vec<(Namespace, EntryKey)> =
            batch.entries.iter().map(|entry| (entry.namespace.clone(), entry.key.clone())).collect();
        let copies = self.copies(&target, deadline).await?;
        let parts = self.write_parts(&target, batch.entries, rule, ticket, deadline).await;
        let mut results: Vec<Option<WriteResult>> = vec![None; ids.len()];
        let mut first_failure = None;
        let mut any_part_answered = false;
        for Part { indexes, outcomes } in parts {
            match outcomes {
                Ok(outcomes) => {
                    any_part_answered = true;
                    for (index, outcome) in indexes.into_iter().zip(outcomes) {
                        results[index] = Some(result(&ids[index], outcome));
                    }
                }
                Err(error) => {
                    let problem = error.problem();
                    for index in indexes {
                        results[index] = Some(failed(&ids[index], problem.clone()));
                    }
                    first_failure = first_failure.or(Some(error));
                }
            }
        }
        if let (false, Some(error)) = (any_part_answered, first_failure) {
            return Err(error);
        }
        if let Some(copies) = copies {
            let ids: Vec<EntryId> =
                ids.iter().map(|(namespace, key)| EntryId { namespace: namespace.clone(), key: key.clone() }).collect();
            copies.spread(&ids, deadline).await?;
        }
        let results: Vec<WriteResult> = results.into_iter().flatten().collect();
        let failed = results.iter().filter(|result| result.status == WriteStatus::Failed).count() as u64;
        Ok(WriteAnswer {
            written: results.len() as u64 - failed,
            failed,
            results,
            session: None,
            took_ms: started.elapsed().as_secs_f64() * 1_000.0,
        })
    }

    async fn write_parts(
        &self,
        target: &Target,
        entries: Vec<NewEntry>,
        rule: WriteRule,
        ticket: Option<&Ticket>,
        deadline: Instant,
    ) -> Vec<Part> {
        let mut by_shard: BTreeMap<ShardId, (Place, Vec<usize>, Vec<WriteRow>)> = BTreeMap::new();
        for (index, entry) in entries.into_iter().enumerate() {
            let route = target.route(&entry.namespace);
            let (_, indexes, rows) = by_shard
                .entry(route.shard)
                .or_insert_with(|| (target.place(&self.workers, route), Vec::new(), Vec::new()));
            indexes.push(index);
            rows.push(row(entry));
        }
        let writes = by_shard.into_values().map(|(place, indexes, rows)| async move {
            let rows = &rows;
            let write = |place: Place| async move {
                write::write(&place.pool, &place.table, rows, rule, ticket, deadline).await
            };
            let outcomes = match with_retries(self, target, &place, write).await {
                Ok(replay) => outcome(replay),
                Err(error) => Err(place.write_error(error)),
            };
            Part { indexes, outcomes }
        });
        join_all(writes).await
    }
}

pub(super) fn row(entry: NewEntry) -> WriteRow {
    let NewEntry { namespace, key, value, vector, metadata, tags } = entry;
    WriteRow { namespace: namespace.into(), key: key.into(), value, metadata, tags, vector }
}

fn check_batch(batch: &WriteBatch, target: &Target) -> Result<(), RequestError> {
    let count = batch.entries.len();
    if count == 0 || count > limits::BATCH_ENTRIES {
        let detail = format!("1 to {} entries, {count} given", limits::BATCH_ENTRIES);
        return Err(RequestError::invalid("/entries", detail));
    }
    let mut errors: Vec<FieldError> = Vec::new();
    let mut seen: HashMap<(&str, &str), usize> = HashMap::with_capacity(count);
    for (i, entry) in batch.entries.iter().enumerate() {
        let pointer = format!("/entries/{i}");
        let parts = Parts {
            value: entry.value.as_deref(),
            metadata: Some(&entry.metadata),
            tags: Some(&entry.tags),
            vector: entry.vector.as_ref(),
        };
        check::entry(&parts, &target.collection.settings, &pointer, &mut errors);
        if let Some(first) = seen.insert((entry.namespace.as_str(), entry.key.as_str()), i) {
            let detail = format!("the same namespace and key as /entries/{first}");
            errors.push(FieldError { pointer, detail });
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(RequestError::Invalid(errors)) }
}

fn result(id: &(Namespace, EntryKey), outcome: RowOutcome) -> WriteResult {
    let (status, version, problem) = match outcome {
        RowOutcome::Created(version) => (WriteStatus::Created, Some(version), None),
        RowOutcome::Updated(version) => (WriteStatus::Updated, Some(version), None),
        RowOutcome::Unchanged(version) => (WriteStatus::Unchanged, Some(version), None),
        RowOutcome::Exists(_) => {
            return failed(id, Problem::new(ProblemCode::AlreadyExists, "the entry exists already"));
        }
        RowOutcome::Missing => {
            let detail = "there is no such entry to update; a new one needs its vector";
            return failed(id, Problem::new(ProblemCode::EntryNotFound, detail));
        }
    };
    WriteResult { namespace: id.0.clone(), key: id.1.clone(), status, version, problem }
}

fn failed(id: &(Namespace, EntryKey), problem: Problem) -> WriteResult {
    WriteResult {
        namespace: id.0.clone(),
        key: id.1.clone(),
        status: WriteStatus::Failed,
        version: None,
        problem: Some(problem),
    }
}
