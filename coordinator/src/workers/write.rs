//! Writing entries of one shard: one statement for a whole batch, the rows as arrays, in one transaction and one flight.
//!
//! The statement writes what it may and says what became of each row; a row that its rule forbids is left alone and does not
//! disturb the others. Rows are written in the order of their ids, so that two batches wait for each other, not for both.

use super::flight::{Bound, Written};
use super::idempotency::{Replay, Ticket, in_transaction};
use super::statement::Embedding;
use super::{ShardError, ShardTable, WorkerPool};
use atoll_proto::entry::{EntryId, Metadata};
use atoll_proto::{EntryKey, Namespace};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tokio_postgres::types::{Json, ToSql};
use tokio_postgres::{Error, Row};

/// Which rows may be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteRule {
    /// New ones and those that exist.
    Upsert,
    /// New ones only.
    InsertOnly,
    /// Those that exist only.
    UpdateOnly,
    /// Those that exist at this version.
    AtVersion(i64),
}

/// A row to write.
#[derive(Debug, Clone)]
pub struct WriteRow {
    /// Its namespace.
    pub namespace: String,
    /// Its key.
    pub key: String,
    /// Text.
    pub value: Option<String>,
    /// Metadata.
    pub metadata: Metadata,
    /// Tags.
    pub tags: Vec<String>,
    /// Vector; none keeps the stored one, so such a row can only be an update.
    pub vector: Option<atoll_proto::Vector>,
}

impl WriteRow {
    /// Its id; none if it is no valid one.
    pub fn id(&self) -> Option<EntryId> {
        Some(EntryId { namespace: Namespace::parse(&self.namespace).ok()?, key: EntryKey::parse(&self.key).ok()? })
    }
}

/// What became of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RowOutcome {
    /// It is new, at this version.
    Created(i64),
    /// It was changed, to this version.
    Updated(i64),
    /// It already was as given, at this version.
    Unchanged(i64),
    /// It exists, at this version, and the rule wanted otherwise.
    Exists(i64),
    /// It does not exist, and the rule or the missing vector wanted it to.
    Missing,
}

/// Writes rows of one shard, atomically. Outcomes come in the order of the rows.
pub async fn write(
    pool: &WorkerPool,
    table: &ShardTable,
    rows: &[WriteRow],
    rule: WriteRule,
    ticket: Option<&Ticket>,
    deadline: Instant,
) -> Result<Written<Replay<Vec<RowOutcome>>>, ShardError> {
    let parts = Parts::new(table, rows, rule);
    in_transaction(pool, table, &parts.statements(), |answers| parts.outcomes(&answers), ticket, deadline).await
}

/// The statements that write rows: an insert and an update, or one of them.
pub(super) struct Parts {
    rule: WriteRule,
    rows: usize,
    has_vectors: bool,
    ttl: Option<f64>,
    version: Option<i64>,
    parts: Vec<Part>,
}

/// One statement, and the rows it writes.
struct Part {
    text: String,
    indexes: Vec<usize>,
    columns: Columns,
}

impl Parts {
    pub(super) fn new(table: &ShardTable, rows: &[WriteRow], rule: WriteRule) -> Self {
        // Rows that bring no vector can't be inserted: they are updates, whatever the rule.
        let (whole, partial): (Vec<usize>, Vec<usize>) =
            (0..rows.len()).partition(|i| !table.has_vectors() || rows[*i].vector.is_some());
        let parts = match rule {
            WriteRule::Upsert | WriteRule::InsertOnly => {
                vec![(insert_statement(table, rule), whole), (update_statement(table, rule), partial)]
            }
            WriteRule::UpdateOnly | WriteRule::AtVersion(_) => {
                vec![(update_statement(table, rule), (0..rows.len()).collect())]
            }
        };
        let parts = parts.into_iter().filter(|(_, indexes)| !indexes.is_empty()).map(|(text, indexes)| {
            let columns = Columns::new(table, rows, &indexes);
            Part { text, indexes, columns }
        });
        Self {
            rule,
            rows: rows.len(),
            has_vectors: table.has_vectors(),
            ttl: table.settings.ttl_seconds.map(f64::from),
            version: match rule {
                WriteRule::AtVersion(version) => Some(version),
                WriteRule::Upsert | WriteRule::InsertOnly | WriteRule::UpdateOnly => None,
            },
            parts: parts.collect(),
        }
    }

    pub(super) fn statements<'a>(&'a self) -> Vec<Bound<'a>> {
        let statement = |part: &'a Part| {
            let Columns { namespaces, keys, values, metadata, tags, embeddings } = &part.columns;
            let mut params: Vec<&(dyn ToSql + Sync)> = vec![namespaces, keys, values, metadata, tags, &self.ttl];
            if self.has_vectors {
                params.push(embeddings);
            }
            if self.version.is_some() {
                params.push(&self.version);
            }
            Bound { text: &part.text, params }
        };
        self.parts.iter().map(statement).collect()
    }

    /// What became of the rows, in their order, by the answers to the statements.
    pub(super) fn outcomes(&self, answers: &[Vec<Row>]) -> Result<Vec<RowOutcome>, Error> {
        let mut outcomes = vec![RowOutcome::Missing; self.rows];
        for (part, answer) in self.parts.iter().zip(answers) {
            for row in answer {
                let place: i64 = row.try_get(0)?;
                let outcome = outcome(self.rule, row.try_get(1)?, row.try_get(2)?);
                if let Some(index) = usize::try_from(place - 1).ok().and_then(|place| part.indexes.get(place)) {
                    outcomes[*index] = outcome;
                }
            }
        }
        Ok(outcomes)
    }
}

/// `what` is `c`reated, `u`pdated, the `s`ame as before, or `k`ept because the rule said so or nothing was to do.
fn outcome(rule: WriteRule, what: i8, version: i64) -> RowOutcome {
    match (u8::try_from(what).unwrap_or_default(), rule) {
        (b'c', _) => RowOutcome::Created(version),
        (b'u', _) => RowOutcome::Updated(version),
        (b's', _) => RowOutcome::Unchanged(version),
        (_, WriteRule::InsertOnly | WriteRule::AtVersion(_)) => RowOutcome::Exists(version),
        (_, WriteRule::Upsert | WriteRule::UpdateOnly) => RowOutcome::Unchanged(version),
    }
}

/// One array a column: what `unnest` makes rows of.
struct Columns {
    namespaces: Vec<String>,
    keys: Vec<String>,
    values: Vec<Option<String>>,
    metadata: Vec<Json<Metadata>>,
    tags: Vec<Json<Vec<String>>>,
    embeddings: Vec<Option<Embedding>>,
}

impl Columns {
    fn new(table: &ShardTable, rows: &[WriteRow], indexes: &[usize]) -> Self {
        let rows = || indexes.iter().map(|i| &rows[*i]);
        let embedding = |row: &WriteRow| {
            row.vector.as_ref().map(|vector| Embedding::new(vector.as_slice(), table.settings.vector_type))
        };
        Self {
            namespaces: rows().map(|row| row.namespace.clone()).collect(),
            keys: rows().map(|row| row.key.clone()).collect(),
            values: rows().map(|row| row.value.clone()).collect(),
            metadata: rows().map(|row| Json(row.metadata.clone())).collect(),
            // Lists of lists can't be an array of PostgreSQL's, where all have one length.
            tags: rows().map(|row| Json(row.tags.clone())).collect(),
            embeddings: rows().map(embedding).collect(),
        }
    }
}

/// `$1` namespaces … `$5` tags, `$6` seconds to live, `$7` embeddings.
fn input(table: &ShardTable) -> String {
    let (array, name) = match table.has_vectors() {
        true => (format!(", $7::{}[]", table.vector_type()), ", embedding"),
        false => (String::new(), ""),
    };
    format!(
        "with input as materialized (select place, namespace, key, value, metadata, \
         array(select jsonb_array_elements_text(tags)) as tags{name}, now() + make_interval(secs => $6::float8) as expires_at \
         from unnest($1::text[], $2::text[], $3::text[], $4::jsonb[], $5::jsonb[]{array}) \
         with ordinality as t(namespace, key, value, metadata, tags{name}, place))"
    )
}

fn insert_statement(table: &ShardTable, rule: WriteRule) -> String {
    let may_replace = match rule {
        WriteRule::InsertOnly => MayReplace::Expired,
        WriteRule::Upsert | WriteRule::UpdateOnly | WriteRule::AtVersion(_) => MayReplace::Any,
    };
    format!(
        "{input}, written as ({merge} returning namespace, key, version, (xmax = 0 or created_at = now()) as created, \
         updated_at = now() as changed) {answer}",
        input = input(table),
        merge = merge(table, "input", may_replace),
        answer = answer(&table.quoted(), Some(1)),
    )
}

/// Which rows that are there a merge may write over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MayReplace {
    /// Any.
    Any,
    /// Those that have expired.
    Expired,
}

/// Merges `rows`, a relation with an entry's columns and `expires_at`, into the table.
///
/// What is there as given keeps its version and times, though not its time to live. An entry that has expired is as good as
/// absent: what takes its place is new, and its time of creation tells so.
pub(super) fn merge(table: &ShardTable, rows: &str, may_replace: MayReplace) -> String {
    let (name, change, own, excluded) = match table.has_vectors() {
        true => (", embedding", ", embedding = excluded.embedding", ", e.embedding", ", excluded.embedding"),
        false => ("", "", "", ""),
    };
    let changed = format!(
        "((e.expires_at <= now()) is true or (e.value, e.metadata, e.tags{own}) is distinct from \
         (excluded.value, excluded.metadata, excluded.tags{excluded}))"
    );
    let may_replace = match may_replace {
        MayReplace::Any => format!("{changed} or e.expires_at is distinct from excluded.expires_at"),
        MayReplace::Expired => "e.expires_at <= now()".to_owned(),
    };
    format!(
        "insert into {quoted} as e \
         (namespace, key, value, metadata, tags{name}, version, created_at, updated_at, expires_at) \
         select namespace, key, value, metadata, tags{name}, 1, now(), now(), expires_at from {rows} order by namespace, key \
         on conflict (namespace, key) do update set value = excluded.value, metadata = excluded.metadata, \
         tags = excluded.tags{change}, version = e.version + {changed}::int, \
         updated_at = case when {changed} then now() else e.updated_at end, expires_at = excluded.expires_at, \
         created_at = case when e.expires_at <= now() then now() else e.created_at end where {may_replace}",
        quoted = table.quoted(),
    )
}

fn update_statement(table: &ShardTable, rule: WriteRule) -> String {
    let quoted = table.quoted();
    let (change, own, given) = match table.has_vectors() {
        true => (
            ", embedding = coalesce(i.embedding, e.embedding)",
            ", e.embedding",
            ", coalesce(i.embedding, e.embedding)",
        ),
        false => ("", "", ""),
    };
    let changed = format!("((e.value, e.metadata, e.tags{own}) is distinct from (i.value, i.metadata, i.tags{given}))");
    let may = match rule {
        // Written even if nothing changes: only a row that was locked is known to be at its version.
        WriteRule::AtVersion(_) => format!("e.version = ${}::int8", if table.has_vectors() { 8 } else { 7 }),
        // Without a vector nothing can be inserted: what exists is kept.
        WriteRule::InsertOnly => "false".to_owned(),
        WriteRule::Upsert | WriteRule::UpdateOnly => {
            format!("({changed} or e.expires_at is distinct from i.expires_at)")
        }
    };
    format!(
        "{input}, written as (update {quoted} as e set value = i.value, metadata = i.metadata, tags = i.tags{change}, \
         version = e.version + {changed}::int, updated_at = case when {changed} then now() else e.updated_at end, \
         expires_at = i.expires_at from input as i \
         where e.namespace = i.namespace and e.key = i.key and (e.expires_at is null or e.expires_at > now()) \
         and {may} returning e.namespace, e.key, e.version, false as created, e.updated_at = now() as changed) {answer}",
        input = input(table),
        answer = answer(&quoted, None),
    )
}

/// One row for each that was written or exists: its place in the input, what became of it, its version.
///
/// An insert either writes a row or meets one. A row that it met and that the statement's snapshot does not show came from another
/// writer at the same moment: it was kept, at `version_of_newcomer`. An update that finds no row has none to tell of.
fn answer(quoted: &str, version_of_newcomer: Option<i64>) -> String {
    let (version, which) = match version_of_newcomer {
        Some(version) => (format!(", {version}"), ""),
        None => (String::new(), " where w.version is not null or e.version is not null"),
    };
    format!(
        "select i.place, case when w.created then 'c' when w.changed then 'u' when w.version is not null then 's' else 'k' end::\"char\", \
         coalesce(w.version, e.version{version}) from input as i left join written as w using (namespace, key) \
         left join {quoted} as e on e.namespace = i.namespace and e.key = i.key and (e.expires_at is null or e.expires_at > now()){which}"
    )
}
