//! Atoll's agent: looks after one PostgreSQL server, joins it to a cluster as a worker, and makes it what the catalog
//! says it should be.
//!
//! [`agent`] starts everything. [`pg`] holds all that knows PostgreSQL, [`desired`] decides and carries out what the
//! server should be, [`register`] talks to coordinators and [`http`] answers them.

pub mod agent;
pub mod config;
pub mod coordinators;
pub mod credentials;
pub mod desired;
pub mod failover;
pub mod http;
pub mod identity;
pub mod logging;
pub mod moves;
pub mod pauses;
pub mod pg;
pub mod register;
pub mod secret;
pub mod status;
pub mod stop;
pub mod telemetry;
pub mod worker;
