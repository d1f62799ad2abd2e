//! The statements that shape a server, composed from typed names. Nothing here talks to a server.

use atoll_proto::agent::{COORDINATOR_ROLE, DesiredCollection, IDEMPOTENCY_TABLE};
use atoll_proto::{
    CollectionId, CollectionName, CollectionSettings, Durability, IndexProfile, Metric, Namespace, VectorType,
};
use sha2::{Digest, Sha256};

/// An embedding up to this many bytes stays in the row: a toasted one makes an exact scan 2.7 times slower.
const INLINE_EMBEDDING_BYTES_MAX: u64 = 6_000;
const COMMENT_PREFIX: &str = "atoll collection ";

/// An identifier in quotes.
pub fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A table or index in its schema, in quotes.
pub fn qualified(schema: &str, name: &str) -> String {
    format!("{}.{}", quote(schema), quote(name))
}

/// Name of a collection's vector index.
pub fn vector_index(collection: &CollectionName) -> String {
    index_name(collection, "hnsw")
}

/// Name of a collection's next vector index, while it is built beside the one in use.
pub fn next_vector_index(collection: &CollectionName) -> String {
    index_name(collection, "hnsw_new")
}

/// Name of a namespace's own graph: a namespace may be longer than an identifier.
pub fn namespace_graph(collection: CollectionId, namespace: &Namespace) -> String {
    let digest = Sha256::digest(namespace.as_str());
    let digest: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("_ns_{collection}_{digest}")
}

/// Tables and indexes of a schema share one space of names. A collection begins with a letter, so nothing that begins with
/// an underscore can be another collection's table; what belongs to `_idempotency` begins with two.
fn index_name(collection: &CollectionName, purpose: &str) -> String {
    format!("_{collection}_{purpose}")
}

/// The comment that ties a table to its collection's id: a name may be used again after a drop.
pub fn comment(id: CollectionId) -> String {
    format!("{COMMENT_PREFIX}{id}")
}

/// The id in a table's comment.
pub fn collection_of_comment(comment: &str) -> Option<CollectionId> {
    comment.strip_prefix(COMMENT_PREFIX)?.parse().ok().map(CollectionId)
}

/// `m` and `ef_construction` of a profile.
pub fn graph(profile: IndexProfile) -> (u32, u32) {
    match profile {
        IndexProfile::Accuracy => (32, 128),
        IndexProfile::Balanced => (16, 64),
        IndexProfile::Speed => (12, 40),
    }
}

/// A schema with its table of remembered outcomes.
pub fn create_schema(schema: &str) -> String {
    let role = quote(COORDINATOR_ROLE);
    let outcomes = qualified(schema, IDEMPOTENCY_TABLE);
    let schema = quote(schema);
    format!(
        "create schema if not exists {schema};\n\
         grant usage on schema {schema} to {role};\n\
         create table {outcomes} (\n\
         \x20 key text collate \"C\" constraint \"_{IDEMPOTENCY_TABLE}_pkey\" primary key,\n\
         \x20 request_hash bytea not null,\n\
         \x20 outcome jsonb,\n\
         \x20 created_at timestamptz not null default now()\n\
         );\n\
         create index \"_{IDEMPOTENCY_TABLE}_created\" on {outcomes} (created_at);\n\
         grant select, insert, update, delete on {outcomes} to {role};\n"
    )
}

/// A collection's table with its indexes.
pub fn create_table(schema: &str, collection: &DesiredCollection) -> String {
    let indexes: String = indexes(schema, collection, &[]).into_iter().map(|(_, statement)| statement).collect();
    table(schema, collection) + &indexes + &grant(schema, collection)
}

/// A collection's table with its primary key alone, to be filled.
pub fn create_bare_table(schema: &str, collection: &DesiredCollection) -> String {
    table(schema, collection) + &grant(schema, collection)
}

/// The indexes of a collection's table besides its primary key, by name; `namespaces` have graphs of their own. Each build
/// keeps writers out, and is done whole or not at all.
pub fn indexes(schema: &str, collection: &DesiredCollection, namespaces: &[Namespace]) -> Vec<(String, String)> {
    let DesiredCollection { id, name, settings } = collection;
    let table = qualified(schema, name.as_str());
    let create = |index: String, definition: &str| {
        let statement = format!("create index {} on {table} {definition};\n", quote(&index));
        (index, statement)
    };
    let mut all: Vec<(String, String)> = [
        ("created", "(namespace, created_at, key)"),
        ("updated", "(namespace, updated_at, key)"),
        ("tags", "using gin (tags)"),
        ("meta", "using gin (metadata jsonb_path_ops)"),
        ("expires", "(expires_at) where expires_at is not null"),
    ]
    .into_iter()
    .map(|(purpose, definition)| create(index_name(name, purpose), definition))
    .collect();
    let Some(definition) = vector_index_definition(settings) else { return all };
    if settings.index.scope.has_shard_graph() {
        all.push(create(vector_index(name), &definition));
    }
    // A namespace has no quotes in it, so it can be no syntax: its type sees to that.
    all.extend(namespaces.iter().map(|namespace| {
        create(namespace_graph(*id, namespace), &format!("{definition} where namespace = '{namespace}'"))
    }));
    all
}

fn grant(schema: &str, collection: &DesiredCollection) -> String {
    let table = qualified(schema, collection.name.as_str());
    format!("grant select, insert, update, delete on {table} to {};\n", quote(COORDINATOR_ROLE))
}

fn table(schema: &str, collection: &DesiredCollection) -> String {
    let DesiredCollection { id, name, settings } = collection;
    let table = qualified(schema, name.as_str());
    let unlogged = if is_logged(settings.durability) { "" } else { "unlogged " };
    let embedding = match settings.dimensions {
        Some(dimensions) => format!("\x20 embedding {}({dimensions}) not null,\n", type_name(settings.vector_type)),
        None => String::new(),
    };
    let primary_key = quote(&index_name(name, "pkey"));
    let mut text = format!(
        "create {unlogged}table {table} (\n\
         \x20 namespace text collate \"C\" not null,\n\
         \x20 key text collate \"C\" not null,\n\
         \x20 value text,\n\
         \x20 metadata jsonb not null default '{{}}',\n\
         \x20 tags text[] not null default '{{}}',\n\
         {embedding}\
         \x20 version bigint not null,\n\
         \x20 created_at timestamptz not null,\n\
         \x20 updated_at timestamptz not null,\n\
         \x20 expires_at timestamptz,\n\
         \x20 constraint {primary_key} primary key (namespace, key)\n\
         ) with (autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.02);\n\
         comment on table {table} is '{}';\n\
         alter table {table} alter column namespace set statistics 1000;\n",
        comment(*id)
    );
    if let Some(dimensions) = settings.dimensions {
        let storage = storage(dimensions, settings.vector_type);
        text.push_str(&format!("alter table {table} alter column embedding set storage {storage};\n"));
    }
    text
}

/// Makes a table survive a crash, or not.
pub fn set_durability(schema: &str, collection: &CollectionName, logged: bool) -> String {
    let word = if logged { "logged" } else { "unlogged" };
    format!("alter table {} set {word};\n", qualified(schema, collection.as_str()))
}

/// Drops a collection's table.
pub fn drop_table(schema: &str, collection: &CollectionName) -> String {
    format!("drop table if exists {};\n", qualified(schema, collection.as_str()))
}

/// Builds a collection's next vector index while reads and writes go on; none for a collection without vectors.
pub fn build_next_vector_index(schema: &str, collection: &DesiredCollection) -> Option<String> {
    let definition = vector_index_definition(&collection.settings)?;
    let name = quote(&next_vector_index(&collection.name));
    Some(format!("create index concurrently {name} on {} {definition}", qualified(schema, collection.name.as_str())))
}

/// Builds a namespace's own graph while reads and writes go on; none for a collection without vectors.
pub fn build_namespace_graph(schema: &str, collection: &DesiredCollection, namespace: &Namespace) -> Option<String> {
    let definition = vector_index_definition(&collection.settings)?;
    let name = quote(&namespace_graph(collection.id, namespace));
    let table = qualified(schema, collection.name.as_str());
    // A namespace has no quotes in it, so it can be no syntax: its type sees to that.
    Some(format!("create index concurrently {name} on {table} {definition} where namespace = '{namespace}'"))
}

/// Drops an index while reads and writes go on.
pub fn drop_index(schema: &str, name: &str) -> String {
    format!("drop index concurrently if exists {}", qualified(schema, name))
}

/// Drops what a build that did not finish left behind.
pub fn drop_next_vector_index(schema: &str, collection: &CollectionName) -> String {
    drop_index(schema, &next_vector_index(collection))
}

/// Puts the next vector index in the place of the one in use.
pub fn swap_vector_index(schema: &str, collection: &CollectionName) -> String {
    let (used, next) = (vector_index(collection), next_vector_index(collection));
    format!(
        "drop index if exists {};\nalter index {} rename to {};\n",
        qualified(schema, &used),
        qualified(schema, &next),
        quote(&used)
    )
}

/// Whether tables of this durability survive a crash.
pub fn is_logged(durability: Durability) -> bool {
    match durability {
        Durability::Quorum | Durability::Local => true,
        Durability::Ephemeral => false,
    }
}

fn vector_index_definition(settings: &CollectionSettings) -> Option<String> {
    settings.dimensions?;
    let (m, ef_construction) = graph(settings.index.profile);
    let distance = match settings.metric {
        Metric::Cosine => "cosine",
        Metric::L2 => "l2",
        Metric::Dot => "ip",
    };
    let type_name = type_name(settings.vector_type);
    Some(format!(
        "using hnsw (embedding {type_name}_{distance}_ops) with (m = {m}, ef_construction = {ef_construction})"
    ))
}

fn type_name(vector_type: VectorType) -> &'static str {
    match vector_type {
        VectorType::Float32 => "vector",
        VectorType::Float16 => "halfvec",
    }
}

fn storage(dimensions: u32, vector_type: VectorType) -> &'static str {
    let number_bytes = match vector_type {
        VectorType::Float32 => 4,
        VectorType::Float16 => 2,
    };
    if u64::from(dimensions) * number_bytes <= INLINE_EMBEDDING_BYTES_MAX { "plain" } else { "external" }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use atoll_proto::{IndexScope, IndexSettings};

    fn memories() -> DesiredCollection {
        DesiredCollection {
            id: CollectionId(7),
            name: CollectionName::parse("memories").unwrap(),
            settings: CollectionSettings {
                index: IndexSettings { scope: IndexScope::Both, ..IndexSettings::default() },
                ..CollectionSettings::memory_entries()
            },
        }
    }

    #[test]
    fn a_table_is_written_out_in_full() {
        let expected = r#"create table "s0003_g2"."memories" (
  namespace text collate "C" not null,
  key text collate "C" not null,
  value text,
  metadata jsonb not null default '{}',
  tags text[] not null default '{}',
  embedding vector(384) not null,
  version bigint not null,
  created_at timestamptz not null,
  updated_at timestamptz not null,
  expires_at timestamptz,
  constraint "_memories_pkey" primary key (namespace, key)
) with (autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.02);
comment on table "s0003_g2"."memories" is 'atoll collection 7';
alter table "s0003_g2"."memories" alter column namespace set statistics 1000;
alter table "s0003_g2"."memories" alter column embedding set storage plain;
create index "_memories_created" on "s0003_g2"."memories" (namespace, created_at, key);
create index "_memories_updated" on "s0003_g2"."memories" (namespace, updated_at, key);
create index "_memories_tags" on "s0003_g2"."memories" using gin (tags);
create index "_memories_meta" on "s0003_g2"."memories" using gin (metadata jsonb_path_ops);
create index "_memories_expires" on "s0003_g2"."memories" (expires_at) where expires_at is not null;
create index "_memories_hnsw" on "s0003_g2"."memories" using hnsw (embedding vector_cosine_ops) with (m = 16, ef_construction = 64);
grant select, insert, update, delete on "s0003_g2"."memories" to "atoll_rw";
"#;
        assert_eq!(create_table("s0003_g2", &memories()), expected);
    }

    #[test]
    fn settings_change_the_table() {
        let mut collection = memories();
        collection.settings.durability = Durability::Ephemeral;
        collection.settings.vector_type = VectorType::Float16;
        collection.settings.metric = Metric::Dot;
        collection.settings.index.profile = IndexProfile::Accuracy;
        collection.settings.dimensions = Some(3_001);
        let text = create_table("s0000_g1", &collection);
        assert!(text.starts_with("create unlogged table"));
        assert!(text.contains("embedding halfvec(3001) not null"));
        assert!(text.contains("set storage external"));
        assert!(text.contains("(embedding halfvec_ip_ops) with (m = 32, ef_construction = 128)"));
        collection.settings.dimensions = None;
        let text = create_table("s0000_g1", &collection);
        assert!(!text.contains("embedding") && !text.contains("hnsw"));
    }

    #[test]
    fn embeddings_stay_in_the_row_up_to_the_limit() {
        assert_eq!(storage(1_500, VectorType::Float32), "plain");
        assert_eq!(storage(1_501, VectorType::Float32), "external");
        assert_eq!(storage(3_000, VectorType::Float16), "plain");
        assert_eq!(storage(3_001, VectorType::Float16), "external");
    }

    #[test]
    fn names_fit_and_quotes_hold() {
        let longest = CollectionName::parse(&"c".repeat(48)).unwrap();
        assert!(next_vector_index(&longest).len() <= 63);
        assert_eq!(quote("a\"b"), "\"a\"\"b\"");
        assert_eq!(collection_of_comment(&comment(CollectionId(9))), Some(CollectionId(9)));
        assert_eq!(collection_of_comment("my own table"), None);
    }

    #[test]
    fn a_new_index_is_built_beside_the_old_one_and_swapped_in() {
        let collection = memories();
        assert_eq!(
            build_next_vector_index("s0003_g2", &collection).unwrap(),
            "create index concurrently \"_memories_hnsw_new\" on \"s0003_g2\".\"memories\" using hnsw \
             (embedding vector_cosine_ops) with (m = 16, ef_construction = 64)"
        );
        assert_eq!(
            swap_vector_index("s0003_g2", &collection.name),
            "drop index if exists \"s0003_g2\".\"_memories_hnsw\";\n\
             alter index \"s0003_g2\".\"_memories_hnsw_new\" rename to \"_memories_hnsw\";\n"
        );
    }

    #[test]
    fn a_schema_remembers_outcomes() {
        let text = create_schema("s0003_g2");
        assert!(text.contains("create table \"s0003_g2\".\"_idempotency\" ("));
        // Not those of a collection `idempotency`.
        assert!(text.contains("\"__idempotency_pkey\"") && text.contains("\"__idempotency_created\""));
        assert!(text.contains("grant usage on schema \"s0003_g2\" to \"atoll_rw\";"));
    }

    #[test]
    fn a_namespace_has_a_graph_over_its_rows_alone() {
        let namespace = Namespace::parse("noun.animal").unwrap();
        let name = namespace_graph(CollectionId(7), &namespace);
        assert_eq!(name, "_ns_7_282678be81495406");
        assert_eq!(
            build_namespace_graph("s0003_g2", &memories(), &namespace).unwrap(),
            format!(
                "create index concurrently \"{name}\" on \"s0003_g2\".\"memories\" using hnsw \
                 (embedding vector_cosine_ops) with (m = 16, ef_construction = 64) where namespace = 'noun.animal'"
            )
        );
        let longest = namespace_graph(CollectionId(u64::MAX), &Namespace::parse(&"n".repeat(128)).unwrap());
        assert!(longest.len() <= 63);
        let mut whole = memories();
        whole.settings.index.scope = IndexScope::Namespace;
        assert!(!create_table("s0003_g2", &whole).contains("hnsw"));
    }
}
