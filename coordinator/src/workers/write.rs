//! Writing entries of one shard: one statement for a whole batch, the rows as arrays, in one transaction and one flight.
//!
//! The statement writes what it may and says what became of each row; a row that its rule forbids is left alone and does not
//! disturb the others. Rows are written in the order of their ids, so that two batches wait for each other, not for both.

use super::idempotency::{Bound, Replay, Ticket, in_transaction};
use super::statement::Embedding;
use super::{ShardError, ShardTable, WorkerPool};
use atoll_proto::entry::{EntryId, Metadata};
use atoll_proto::{EntryKey, Namespace};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tokio_postgres::Row;
use tokio_postgres::types::{Json, ToSql};

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
) -> Result<Replay<Vec<RowOutcome>>, ShardError> {
    // Rows that bring no vector can't be inserted: they are updates, whatever the rule.
    let (whole, partial): (Vec<usize>, Vec<usize>) =
        (0..rows.len()).partition(|i| !table.has_vectors() || rows[*i].vector.is_some());
    let insert = match rule {
        WriteRule::Upsert | WriteRule::InsertOnly => Some(insert_statement(table, rule)),
        WriteRule::UpdateOnly | WriteRule::AtVersion(_) => None,
    };
    let update = update_statement(table, rule);
    let mut parts: Vec<(&str, Vec<usize>)> = Vec::new();
    match &insert {
        Some(insert) => {
            parts.push((insert, whole));
            parts.push((&update, partial));
        }
        None => parts.push((&update, (0..rows.len()).collect())),
    }
    parts.retain(|(_, indexes)| !indexes.is_empty());
    let version = match rule {
        WriteRule::AtVersion(version) => Some(version),
        WriteRule::Upsert | WriteRule::InsertOnly | WriteRule::UpdateOnly => None,
    };

    let columns: Vec<Columns> = parts.iter().map(|(_, indexes)| Columns::new(table, rows, indexes)).collect();
    let ttl = table.settings.ttl_seconds.map(f64::from);
    let statements: Vec<Bound<'_>> = parts
        .iter()
        .zip(&columns)
        .map(|((text, _), columns)| {
            let Columns { namespaces, keys, values, metadata, tags, embeddings } = columns;
            let mut params: Vec<&(dyn ToSql + Sync)> = vec![namespaces, keys, values, metadata, tags, &ttl];
            if table.has_vectors() {
                params.push(embeddings);
            }
            if version.is_some() {
                params.push(&version);
            }
            Bound { text, params, cacheable: true }
        })
        .collect();
    let outcomes = |answers: Vec<Vec<Row>>| {
        let mut outcomes = vec![RowOutcome::Missing; rows.len()];
        for ((_, indexes), answer) in parts.iter().zip(answers) {
            for row in answer {
                let place: i64 = row.try_get(0)?;
                let outcome = outcome(rule, row.try_get(1)?, row.try_get(2)?);
                if let Some(index) = usize::try_from(place - 1).ok().and_then(|place| indexes.get(place)) {
                    outcomes[*index] = outcome;
                }
            }
        }
        Ok(outcomes)
    };
    in_transaction(pool, table, &statements, outcomes, ticket, deadline).await
}

/// `what` is `c`reated, `u`pdated or `k`ept.
fn outcome(rule: WriteRule, what: i8, version: i64) -> RowOutcome {
    match (u8::try_from(what).unwrap_or_default(), rule) {
        (b'c', _) => RowOutcome::Created(version),
        (b'u', _) => RowOutcome::Updated(version),
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
    let quoted = table.quoted();
    let (name, change, excluded, own) = match table.has_vectors() {
        true => (", embedding", ", embedding = excluded.embedding", ", excluded.embedding", ", e.embedding"),
        false => ("", "", "", ""),
    };
    // An entry that has expired is as good as absent: what takes its place is new, and its time of creation tells so.
    let may_replace = match rule {
        WriteRule::InsertOnly => "e.expires_at <= now()".to_owned(),
        WriteRule::Upsert | WriteRule::UpdateOnly | WriteRule::AtVersion(_) => format!(
            "(e.value, e.metadata, e.tags, e.expires_at{own}) is distinct from \
             (excluded.value, excluded.metadata, excluded.tags, excluded.expires_at{excluded})"
        ),
    };
    format!(
        "{input}, written as (insert into {quoted} as e \
         (namespace, key, value, metadata, tags{name}, version, created_at, updated_at, expires_at) \
         select namespace, key, value, metadata, tags{name}, 1, now(), now(), expires_at from input order by namespace, key \
         on conflict (namespace, key) do update set value = excluded.value, metadata = excluded.metadata, \
         tags = excluded.tags{change}, version = e.version + 1, updated_at = excluded.updated_at, \
         expires_at = excluded.expires_at, \
         created_at = case when e.expires_at <= now() then excluded.created_at else e.created_at end \
         where {may_replace} returning namespace, key, version, (xmax = 0 or created_at = now()) as created) \
         {answer}",
        input = input(table),
        answer = answer(&quoted, Some(1)),
    )
}

fn update_statement(table: &ShardTable, rule: WriteRule) -> String {
    let quoted = table.quoted();
    let change = match table.has_vectors() {
        true => ", embedding = coalesce(i.embedding, e.embedding)",
        false => "",
    };
    let (differs, at_version) = match rule {
        WriteRule::AtVersion(_) => {
            ("true".to_owned(), format!(" and e.version = ${}::int8", if table.has_vectors() { 8 } else { 7 }))
        }
        WriteRule::Upsert | WriteRule::InsertOnly | WriteRule::UpdateOnly => {
            let vectors = match table.has_vectors() {
                true => (", e.embedding", ", coalesce(i.embedding, e.embedding)"),
                false => ("", ""),
            };
            let differs = format!(
                "(e.value, e.metadata, e.tags, e.expires_at{}) is distinct from \
                 (i.value, i.metadata, i.tags, i.expires_at{})",
                vectors.0, vectors.1
            );
            // Without a vector nothing can be inserted: what exists is kept.
            let differs = if rule == WriteRule::InsertOnly { "false".to_owned() } else { differs };
            (differs, String::new())
        }
    };
    format!(
        "{input}, written as (update {quoted} as e set value = i.value, metadata = i.metadata, tags = i.tags{change}, \
         version = e.version + 1, updated_at = now(), expires_at = i.expires_at from input as i \
         where e.namespace = i.namespace and e.key = i.key and (e.expires_at is null or e.expires_at > now()) \
         and {differs}{at_version} returning e.namespace, e.key, e.version, false as created) \
         {answer}",
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
        "select i.place, case when w.created then 'c' when w.version is not null then 'u' else 'k' end::\"char\", \
         coalesce(w.version, e.version{version}) from input as i left join written as w using (namespace, key) \
         left join {quoted} as e on e.namespace = i.namespace and e.key = i.key and (e.expires_at is null or e.expires_at > now()){which}"
    )
}
