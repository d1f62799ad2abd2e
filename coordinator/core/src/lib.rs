//! Atoll's decisions, and nothing else: no clock, no randomness, no I/O, no async. Values in, values out, so that each rule
//! can be proved by a test that needs no server.
//!
//! - [`access`]: what an API key allows.
//! - [`catalog`]: the replicated state machine. What may change, and who may change it.
//! - [`routing`]: from a namespace to the schema and the server that hold it, as one immutable table a request.
//! - [`failover`]: who is a group's primary, and how another takes its place.
//! - [`filter`]: a client's conditions, checked and typed.
//! - [`freshness`]: whether an answer is new enough, out of the cache or of a standby.
//! - [`members`]: which member of a group answers a read.
//! - [`findings`]: what is wrong or unwise, by what a coordinator knows.
//! - [`search`]: what to ask of each shard, and how to make one answer of theirs.
//! - [`loads`]: which namespaces an import adds so much to that their graphs should go meanwhile.
//! - [`moves`]: how a shard goes from one group to another.
//! - [`rebalance`]: where shards should lie, and which to move so that groups are evenly full.

pub mod access;
pub mod catalog;
pub mod failover;
pub mod filter;
pub mod findings;
pub mod freshness;
pub mod loads;
pub mod members;
pub mod moves;
pub mod rebalance;
pub mod routing;
pub mod search;
