//! What is on the server now: the schemas of shards and of reference collections, their tables and vector indexes.

use crate::pg::connect::PgError;
use crate::pg::ddl::collection_of_comment;
use crate::pg::session::Session;
use atoll_proto::CollectionId;
use serde::Deserialize;
use std::collections::BTreeMap;

/// Tables of each schema, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Existing {
    /// Schemas by name.
    pub schemas: BTreeMap<String, BTreeMap<String, ExistingTable>>,
}

/// A table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExistingTable {
    /// The collection it was made for, by its comment.
    pub collection: Option<CollectionId>,
    /// Whether it survives a crash.
    pub logged: bool,
    /// Its HNSW indexes, by name.
    pub vector_indexes: BTreeMap<String, ExistingVectorIndex>,
}

/// An HNSW index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExistingVectorIndex {
    /// False when its build did not finish.
    pub valid: bool,
    /// Whether somebody builds it right now.
    pub building: bool,
    /// `m` and `ef_construction`.
    pub graph: (u32, u32),
    /// The one namespace whose rows it holds; none for all.
    pub namespace: Option<String>,
}

#[derive(Debug, Deserialize)]
struct IndexRow {
    name: String,
    valid: bool,
    #[serde(default)]
    building: bool,
    options: Option<Vec<String>>,
    namespace: Option<String>,
}

impl Existing {
    /// Reads the server's catalog.
    pub async fn read(session: &Session) -> Result<Self, PgError> {
        let mut existing = Self::default();
        for row in session.query("list its schemas", include_str!("existing.sql"), &[]).await? {
            let tables = existing.schemas.entry(row.get("schema")).or_default();
            // A schema without tables comes as a row without a table.
            let Some(name) = row.get::<_, Option<String>>("table_name") else {
                continue;
            };
            let comment: Option<String> = row.get("comment");
            let indexes: Option<String> = row.get("vector_indexes");
            tables.insert(
                name,
                ExistingTable {
                    collection: comment.as_deref().and_then(collection_of_comment),
                    logged: row.get("logged"),
                    vector_indexes: indexes.map(|text| parse_indexes(&text)).unwrap_or_default(),
                },
            );
        }
        Ok(existing)
    }
}

fn parse_indexes(text: &str) -> BTreeMap<String, ExistingVectorIndex> {
    let rows: Vec<IndexRow> = serde_json::from_str(text).unwrap_or_default();
    rows.into_iter()
        .map(|row| {
            let options = row.options.unwrap_or_default();
            let option = |name: &str, default: u32| {
                let value = options.iter().find_map(|option| option.strip_prefix(name)?.strip_prefix('='));
                value.and_then(|value| value.parse().ok()).unwrap_or(default)
            };
            // pgvector's own defaults.
            let graph = (option("m", 16), option("ef_construction", 64));
            (
                row.name,
                ExistingVectorIndex { valid: row.valid, building: row.building, graph, namespace: row.namespace },
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn index_options_are_read() {
        let text = r#"[{"name":"_c_hnsw","valid":true,"options":["m=32","ef_construction=128"],"namespace":"a"},
                       {"name":"_c_hnsw_new","valid":false,"building":true,"options":null}]"#;
        let indexes = parse_indexes(text);
        assert_eq!(
            indexes["_c_hnsw"],
            ExistingVectorIndex { valid: true, building: false, graph: (32, 128), namespace: Some("a".to_owned()) }
        );
        let unfinished = ExistingVectorIndex { valid: false, building: true, graph: (16, 64), namespace: None };
        assert_eq!(indexes["_c_hnsw_new"], unfinished);
    }
}
