//! The limits that both sides of the wire know. What an operator may change is the coordinator's configuration; its
//! defaults are these.

/// Longest namespace, in bytes.
pub const NAMESPACE_BYTES: usize = 128;
/// Longest entry key, in bytes of UTF-8.
pub const KEY_BYTES: usize = 512;
/// Longest collection name, in bytes.
pub const COLLECTION_NAME_BYTES: usize = 48;
/// Longest group or worker name, in bytes.
pub const MEMBER_NAME_BYTES: usize = 63;
/// Most dimensions of a float32 vector: what pgvector can index.
pub const DIMENSIONS_FLOAT32: u32 = 2_000;
/// Most dimensions of a float16 vector: what pgvector can index.
pub const DIMENSIONS_FLOAT16: u32 = 4_000;
/// Largest request body, in bytes, after decompression. Import is streamed and has no such limit.
pub const BODY_BYTES: usize = 32 * 1024 * 1024;
/// Most entries in one batch.
pub const BATCH_ENTRIES: usize = 1_000;
/// Longest value, in bytes of UTF-8.
pub const VALUE_BYTES: usize = 1024 * 1024;
/// Largest metadata object, in bytes of compact JSON.
pub const METADATA_BYTES: usize = 64 * 1024;
/// Most tags of one entry.
pub const TAGS: usize = 256;
/// Longest tag, in bytes of UTF-8.
pub const TAG_BYTES: usize = 256;
/// Most hits a search may ask for.
pub const K: u32 = 1_000;
/// Largest `hnsw.ef_search` that pgvector takes.
pub const EF: u32 = 1_000;
/// Most namespaces named in one search.
pub const SEARCH_NAMESPACES: usize = 1_000;
/// Most searches in one batch.
pub const SEARCH_BATCH: usize = 32;
/// Most entries that recall is measured by in one request.
pub const RECALL_SAMPLE: u32 = 1_000;
/// Deepest nesting of a filter.
pub const FILTER_DEPTH: usize = 5;
/// Most conditions in a filter.
pub const FILTER_CONDITIONS: usize = 64;
/// Most values of `in`, `not_in`, `any` and `all`.
pub const FILTER_VALUES: usize = 1_000;
/// Most entries on a page of a list.
pub const LIST_PAGE: u32 = 1_000;
/// Most entries one delete by filter removes.
pub const DELETE_ENTRIES: u32 = 100_000;
/// Default deadline of a request, in milliseconds.
pub const DEADLINE_MS: u64 = 2_000;
/// Longest deadline a client may ask for, in milliseconds.
pub const DEADLINE_MS_MAX: u64 = 60_000;
/// Longest silence of a client that is waited for, in milliseconds.
pub const IDLE_MS: u64 = 60_000;
/// Longest `Idempotency-Key`, in bytes.
pub const IDEMPOTENCY_KEY_BYTES: usize = 255;
/// Longest line of an import, in bytes.
pub const IMPORT_LINE_BYTES: usize = 2 * 1024 * 1024;
/// How far from the mean a group may be in a plan of moves, as a share of it.
pub const REBALANCE_THRESHOLD: std::ops::RangeInclusive<f64> = 0.01..=1.0;
/// Moves that are under way at a time in the whole cluster; later ones wait.
pub const PARALLEL_MOVES_MAX: u32 = 2;
/// Minutes that a run which the schedule begins may begin moves for: to a week.
pub const REBALANCE_WINDOW_MINUTES: std::ops::RangeInclusive<u32> = 1..=10_080;
/// Most shards of a cluster.
pub const SHARDS: u32 = 9_999;
