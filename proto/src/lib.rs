//! The words and wire shapes that coordinators, agents, tests and clients share.
//!
//! Names and vectors check themselves while they are parsed, so a value of one of these types is a valid one; what
//! depends on a collection (dimensions, metric) is checked by the coordinator. Nothing here does I/O.

pub mod admin;
pub mod agent;
pub mod build;
pub mod collection;
pub mod entry;
pub mod explain;
pub mod filter;
pub mod finding;
pub mod group;
pub mod id;
pub mod join;
pub mod key;
pub mod key_namespaces;
pub mod limits;
pub mod load;
pub mod lsn;
pub mod metadata;
pub mod moves;
pub mod name;
mod object;
pub mod problem;
pub mod rebalance;
pub mod recall;
pub mod search;
pub mod vector;

pub use collection::{CollectionSettings, Distribution, Durability, IndexProfile, IndexScope, IndexSettings};
pub use id::{CatalogVersion, CollectionId, CoordinatorId, Generation, GroupId, MoveId, ShardId, WorkerId};
pub use lsn::Lsn;
pub use metadata::StoredMetadata;
pub use name::{CollectionName, EntryKey, GroupName, NameError, Namespace, WorkerName};
pub use vector::{Metric, Vector, VectorError, VectorType};
