//! What the stories in `tests/` share: a cluster of real processes on this machine, a client, data, and an oracle.
//!
//! A failed story panics, as tests do: everything here says what it waited for and what it saw last.

#![allow(clippy::missing_panics_doc)]

pub mod balanced;
pub mod bare_postgres;
pub mod certificates;
pub mod client;
pub mod cluster;
pub mod command_line;
pub mod entries;
pub mod faults;
pub mod fourth_worker;
pub mod group_faults;
pub mod history;
pub mod keys;
pub mod logs;
pub mod moves;
pub mod operations;
pub mod oracle;
pub mod poll;
pub mod ports;
pub mod postgres_front;
pub mod processes;
pub mod seeded;
pub mod slow_import;
pub mod small_disk;
pub mod sql;
pub mod standbys;
pub mod traffic;
pub mod wordnet;

pub use client::{Answer, Client};
pub use cluster::{Cluster, ClusterOptions};
pub use command_line::CommandLine;
