//! Everything about PostgreSQL: finding, fetching, initialising and supervising a server, and every SQL statement.

pub mod account;
pub mod admission;
pub mod applied;
pub mod bootstrap;
pub mod conf;
pub mod connect;
pub mod ddl;
pub mod existing;
pub mod facts;
pub mod fetch;
pub mod find;
pub mod health;
pub mod index;
pub mod init;
pub mod layout;
pub mod machine;
pub mod patience;
pub mod position;
pub mod process;
pub mod progress;
pub mod session;
pub mod shape;
pub mod stats;
pub mod supervise;
pub mod sweep;
pub mod version;
