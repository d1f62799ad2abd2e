//! Batches: grouped by shard, each shard's part one transaction, all parts side by side.

use super::check::{self, Parts};
use super::{WriteTerms, Writer, joined, outcome, with_retries};
use crate::error::RequestError;
use crate::targets::{Place, Target};
use crate::workers::write::{self, RowOutcome, WriteRow, WriteRule};
use atoll_core::freshness::MarkSet;
use atoll_proto::entry::{EntryId, NewEntry, WriteAnswer, WriteBatch, WriteMode, WriteResult, WriteStatus};
use atoll_proto::problem::{FieldError, Problem, ProblemCode};
use atoll_proto::{CollectionName, ShardId, limits};
use futures::future::join_all;
use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

/// An entry of a batch, as its result needs it.
struct Asked {
    id: EntryId,
    /// Whether it can't be written as a new one.
    lacks_vector: bool,
}

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
        terms: &WriteTerms,
    ) -> Result<WriteAnswer, RequestError> {
        let started = Instant::now();
        let target = Target::find(&self.views, collection, &terms.grant)?;
        target.permit_each(batch.entries.iter().map(|entry| &entry.namespace))?;
        check_batch(&batch, &target)?;
        self.claim(&target, terms).await?;

        let rule = match batch.mode {
            WriteMode::Upsert => WriteRule::Upsert,
            WriteMode::InsertOnly => WriteRule::InsertOnly,
            WriteMode::UpdateOnly => WriteRule::UpdateOnly,
        };
        let needs_vector = target.collection.settings.dimensions.is_some() && batch.mode != WriteMode::UpdateOnly;
        let asked: Vec<Asked> = batch
            .entries
            .iter()
            .map(|entry| Asked {
                id: EntryId { namespace: entry.namespace.clone(), key: entry.key.clone() },
                lacks_vector: needs_vector && entry.vector.is_none(),
            })
            .collect();
        let copies = self.copies(&target, terms.deadline).await?;
        let parts = self.write_parts(&target, batch.entries, rule, terms).await?;
        let shards = parts.len();
        let mut results: Vec<Option<WriteResult>> = vec![None; asked.len()];
        let mut errors = Vec::new();
        for Part { indexes, outcomes } in parts {
            match outcomes {
                Ok(outcomes) => {
                    for (index, outcome) in indexes.into_iter().zip(outcomes) {
                        results[index] = Some(result(index, &asked[index], outcome));
                    }
                }
                Err(error) => {
                    let problem = error.problem();
                    for index in indexes {
                        results[index] = Some(failed(&asked[index], problem.clone()));
                    }
                    errors.push(error);
                }
            }
        }
        let results: Vec<WriteResult> = results.into_iter().flatten().collect();
        let failed = results.iter().filter(|result| result.status == WriteStatus::Failed).count() as u64;
        let written = results.len() as u64 - failed;
        if written == 0 {
            return Err(joined(errors, shards).unwrap_or_else(|| none_written(&results)));
        }
        for error in &errors {
            tracing::warn!(error = error as &dyn std::error::Error, "a shard's part of a batch was not written");
        }
        if let Some(copies) = copies {
            let ids: Vec<EntryId> = asked.into_iter().map(|asked| asked.id).collect();
            copies.spread(&ids, terms.deadline).await?;
        }
        let session = terms.session.token().text();
        Ok(WriteAnswer { written, failed, results, session, took_ms: started.elapsed().as_secs_f64() * 1_000.0 })
    }

    async fn write_parts(
        &self,
        target: &Target,
        entries: Vec<NewEntry>,
        rule: WriteRule,
        terms: &WriteTerms,
    ) -> Result<Vec<Part>, RequestError> {
        let mut by_shard: BTreeMap<ShardId, (Place, Vec<usize>, Vec<WriteRow>)> = BTreeMap::new();
        for (index, entry) in entries.into_iter().enumerate() {
            let route = target.route(&entry.namespace)?;
            let (_, indexes, rows) = by_shard
                .entry(route.shard)
                .or_insert_with(|| (target.place(&self.workers, route), Vec::new(), Vec::new()));
            indexes.push(index);
            rows.push(row(entry));
        }
        let writes = by_shard.into_values().map(|(place, indexes, rows)| async move {
            let rows = &rows;
            let touched = MarkSet::of_write(&target.name, rows.iter().map(|row| row.namespace.as_str()));
            let write = |place: Place| async move {
                write::write(&place.pool, &place.table, rows, rule, terms.ticket(), terms.deadline).await
            };
            let outcomes = match with_retries(self, terms.of_part(), touched, &place, write).await {
                Ok(replay) => outcome(replay),
                Err(error) => Err(place.write_error(error)),
            };
            Part { indexes, outcomes }
        });
        Ok(join_all(writes).await)
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

fn result(index: usize, asked: &Asked, outcome: RowOutcome) -> WriteResult {
    let (status, version) = match outcome {
        RowOutcome::Created(version) => (WriteStatus::Created, version),
        RowOutcome::Updated(version) => (WriteStatus::Updated, version),
        RowOutcome::Unchanged(version) => (WriteStatus::Unchanged, version),
        RowOutcome::Exists(_) => {
            return failed(asked, Problem::new(ProblemCode::AlreadyExists, "the entry exists already"));
        }
        RowOutcome::Missing if asked.lacks_vector => {
            let detail = "a new entry of this collection needs its vector";
            return failed(asked, Problem::invalid(format!("/entries/{index}/vector"), detail));
        }
        RowOutcome::Missing => {
            return failed(asked, Problem::new(ProblemCode::EntryNotFound, "there is no such entry to update"));
        }
    };
    let EntryId { namespace, key } = asked.id.clone();
    WriteResult { namespace, key, status, version: Some(version), problem: None }
}

fn failed(asked: &Asked, problem: Problem) -> WriteResult {
    let EntryId { namespace, key } = asked.id.clone();
    WriteResult { namespace, key, status: WriteStatus::Failed, version: None, problem: Some(problem) }
}

/// Every shard answered, and each entry was refused.
fn none_written(results: &[WriteResult]) -> RequestError {
    let problems = results.iter().enumerate().filter_map(|(i, result)| Some((i, result.problem.as_ref()?)));
    let code = problems.clone().next().map_or(ProblemCode::Internal, |(_, problem)| problem.code);
    let error = |(i, problem): (usize, &Problem)| match problem.errors.first() {
        Some(error) => error.clone(),
        None => FieldError { pointer: format!("/entries/{i}"), detail: problem.detail.clone() },
    };
    RequestError::NoneWritten { code, errors: problems.map(error).collect() }
}
