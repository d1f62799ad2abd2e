//! SQL to workers, and nothing but SQL: the only place in the coordinator that knows tables, statements and tokio-postgres.
//!
//! A statement goes to one placement of one shard. What comes back is rows, or a [`ShardError`] that says what the caller can
//! do; whether a shard's failure fails the request is decided further up.

pub mod copy;
pub mod delete;
mod doubt;
pub mod draw;
mod error;
mod filter_sql;
mod flight;
pub mod idempotency;
pub mod knn;
mod logged;
mod member_load;
mod own_graphs;
mod pace;
pub mod patch;
pub mod pg_plan;
mod pool;
pub mod read;
pub mod reference;
mod row;
pub mod sample;
pub mod sampled_entries;
mod session;
pub mod shard_table;
mod statement;
pub mod straight;
pub mod write;

pub use error::ShardError;
pub use flight::Written;
pub use logged::{Logged, Watch, position};
pub use member_load::Asked;
pub use pool::{Connection, PoolGauge, UNSENT_TIME, WorkerPool, Workers, WorkersSettings};
pub use session::Session;
pub use shard_table::ShardTable;
