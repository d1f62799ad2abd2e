//! Entries: bodies and answers of the write, read and import endpoints.

use crate::build::GraphBuild;
use crate::filter::Filter;
use crate::problem::Problem;
use crate::{EntryKey, Namespace, ShardId, StoredMetadata, Vector};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

crate::object::only_objects!(
    EntryId,
    NewEntry,
    EntryBody,
    EntryPatch,
    WriteBatch,
    GetEntries,
    DeleteEntries,
    ListEntries,
    CountEntries,
);

/// Metadata of an entry: any JSON object.
pub type Metadata = Map<String, Value>;

/// Names one entry.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct EntryId {
    /// Its namespace.
    pub namespace: Namespace,
    /// Its key.
    pub key: EntryKey,
}

/// An entry to write.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct NewEntry {
    /// Its namespace.
    pub namespace: Namespace,
    /// Its key.
    pub key: EntryKey,
    /// Text; null for none.
    #[serde(default)]
    pub value: Option<String>,
    /// Required where the collection has vectors and the entry is new; left out, the stored one stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vector: Option<Vector>,
    /// Any JSON object.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub metadata: Metadata,
    /// Words to filter by.
    #[serde(default)]
    pub tags: Vec<String>,
}

/// Body of `PUT …/entries/{key}`: the path names the entry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct EntryBody {
    /// Text; null for none.
    #[serde(default)]
    pub value: Option<String>,
    /// Required where the collection has vectors and the entry is new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vector: Option<Vector>,
    /// Any JSON object.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub metadata: Metadata,
    /// Words to filter by.
    #[serde(default)]
    pub tags: Vec<String>,
}

/// Body of `PATCH …/entries/{key}`: what is absent stays.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct EntryPatch {
    /// Replaces the text; null removes it.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub value: Option<Option<String>>,
    /// Replaces the vector.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vector: Option<Vector>,
    /// Merged into the metadata by RFC 7396: null removes a member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Object>))]
    pub metadata: Option<Metadata>,
    /// Replaces the tags.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<Vec<String>>,
}

fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<String>>, D::Error> {
    Option::<String>::deserialize(deserializer).map(Some)
}

/// What a batch does with entries that exist and that don't.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum WriteMode {
    /// Write either way.
    #[default]
    Upsert,
    /// An entry that exists fails with `already-exists`.
    InsertOnly,
    /// An entry that doesn't exist fails with `entry-not-found`.
    UpdateOnly,
}

/// Body of `POST …/entries`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct WriteBatch {
    /// 1 to 1,000 entries, each (namespace, key) once.
    pub entries: Vec<NewEntry>,
    /// What to do with entries that exist and that don't.
    #[serde(default)]
    pub mode: WriteMode,
}

/// What became of one entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum WriteStatus {
    /// It is new.
    Created,
    /// It was changed.
    Updated,
    /// It already was as given.
    Unchanged,
    /// It was not written, or it is unknown whether it was.
    Failed,
}

/// One entry's outcome.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WriteResult {
    /// Its namespace.
    pub namespace: Namespace,
    /// Its key.
    pub key: EntryKey,
    /// What became of it.
    pub status: WriteStatus,
    /// Its version now; null if it failed.
    pub version: Option<i64>,
    /// Why it failed.
    pub problem: Option<Problem>,
}

/// Answer of `POST …/entries` and of the single-entry writes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WriteAnswer {
    /// Entries created, updated or found unchanged.
    pub written: u64,
    /// Entries that failed.
    pub failed: u64,
    /// One for each entry, in the order given.
    pub results: Vec<WriteResult>,
    /// Send it back as `X-Session-Token`: what is found then shows this write, on any coordinator.
    pub session: Option<String>,
    /// Time taken.
    pub took_ms: f64,
}

/// What to give of an entry; what is not named is null.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Include {
    /// The text.
    Value,
    /// The metadata.
    Metadata,
    /// The tags.
    Tags,
    /// The vector.
    Vector,
}

impl Include {
    /// Text, metadata and tags: what most callers want.
    pub fn usual() -> Vec<Self> {
        vec![Self::Value, Self::Metadata, Self::Tags]
    }
}

/// Body of `POST …/entries/get`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct GetEntries {
    /// 1 to 1,000 ids.
    pub ids: Vec<EntryId>,
    /// What to give of each.
    #[serde(default = "Include::usual")]
    pub include: Vec<Include>,
}

/// An entry as stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Entry {
    /// Its namespace.
    pub namespace: String,
    /// Its key.
    pub key: String,
    /// The text.
    pub value: Option<String>,
    /// The metadata.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Object>))]
    pub metadata: Option<StoredMetadata>,
    /// The tags.
    pub tags: Option<Vec<String>>,
    /// The vector.
    pub vector: Option<Vector>,
    /// Grows by one with each change.
    pub version: i64,
    /// When it was first written (RFC 3339, UTC).
    pub created_at: String,
    /// When it was last changed (RFC 3339, UTC).
    pub updated_at: String,
}

/// Answer of `POST …/entries/get`: the ids that exist, in the order asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EntryList {
    /// The entries.
    pub entries: Vec<Entry>,
}

/// Body of `POST …/entries/delete`: ids, or a namespace with an optional filter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct DeleteEntries {
    /// 1 to 1,000 ids.
    #[serde(default)]
    pub ids: Option<Vec<EntryId>>,
    /// The namespace to delete from.
    #[serde(default)]
    pub namespace: Option<Namespace>,
    /// Which entries of it; null for all.
    #[serde(default)]
    pub filter: Option<Filter>,
    /// At most this many, 100,000 unless told.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 100_000))]
    pub limit: Option<u32>,
}

/// Answer of the deletes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Deleted {
    /// Entries that were there and are gone.
    pub deleted: u64,
}

/// Order of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum ListOrder {
    /// By key.
    #[default]
    #[serde(rename = "key:asc")]
    KeyAsc,
    /// By key, backwards.
    #[serde(rename = "key:desc")]
    KeyDesc,
    /// Oldest first.
    #[serde(rename = "created_at:asc")]
    CreatedAsc,
    /// Newest first.
    #[serde(rename = "created_at:desc")]
    CreatedDesc,
    /// Least lately changed first.
    #[serde(rename = "updated_at:asc")]
    UpdatedAsc,
    /// Last changed first.
    #[serde(rename = "updated_at:desc")]
    UpdatedDesc,
}

/// Body of `POST …/entries/list`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct ListEntries {
    /// The namespace.
    pub namespace: Namespace,
    /// Which entries of it; null for all.
    #[serde(default)]
    pub filter: Option<Filter>,
    /// In which order.
    #[serde(default)]
    pub order: ListOrder,
    /// At most this many on the page.
    #[serde(default = "ListEntries::default_limit")]
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 1000))]
    pub limit: u32,
    /// What to give of each.
    #[serde(default = "Include::usual")]
    pub include: Vec<Include>,
    /// `next_cursor` of the page before.
    #[serde(default)]
    pub cursor: Option<String>,
}

impl ListEntries {
    fn default_limit() -> u32 {
        100
    }
}

/// Answer of `POST …/entries/list`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EntryPage {
    /// The page.
    pub entries: Vec<Entry>,
    /// Asks for the next page; null on the last.
    pub next_cursor: Option<String>,
}

/// Body of `POST …/entries/count`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct CountEntries {
    /// The namespace.
    pub namespace: Namespace,
    /// Which entries of it; null for all.
    #[serde(default)]
    pub filter: Option<Filter>,
}

/// Answer of `POST …/entries/count`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Count {
    /// How many match.
    pub count: u64,
}

/// Answer of `GET …/namespaces`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NamespacePage {
    /// Namespaces that hold entries, in byte order.
    pub namespaces: Vec<String>,
    /// Asks for the next page; null on the last.
    pub next_cursor: Option<String>,
}

/// Answer of `GET …/namespaces/{ns}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NamespaceInfo {
    /// The namespace.
    pub namespace: Namespace,
    /// The shard it is hashed onto.
    pub shard: ShardId,
    /// The group that owns the shard.
    pub group: String,
    /// The shard's schema.
    pub schema: String,
    /// Entries it holds.
    pub count: u64,
    /// What its size earned it.
    pub tier: Tier,
    /// Its graph that is not there yet; null if it has one, or will have none.
    pub build: Option<GraphBuild>,
}

/// What a namespace's size earned it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    /// It is scanned.
    Exact,
    /// It is scanned while its graph is being built.
    Building,
    /// It has a graph of its own.
    Graph,
}

/// One line of the answer of `POST …/import`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ImportProgress {
    /// True on the last line. An answer without such a line was cut off.
    pub done: bool,
    /// Entries committed so far.
    pub written: u64,
    /// Lines refused so far.
    pub failed: u64,
    /// The first of them, at most 20; null but on the last line.
    pub first_failures: Option<Vec<ImportFailure>>,
    /// Send it back as `X-Session-Token`: what is found then shows what was imported, on any coordinator. Null but on the last line.
    pub session: Option<String>,
    /// Why the import ended before the end of its input; null if it did not.
    pub problem: Option<Problem>,
}

/// A line of an import that was refused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ImportFailure {
    /// Its number, from 1.
    pub line: u64,
    /// Why.
    pub problem: Problem,
}
