//! `atoll bench`: what a cluster can do, and what PostgreSQL alone would do.
//!
//! A closed loop: each client is one connection that sends its next request when it has the answer to the last. The floor is the
//! same SQL sent straight to the workers, by turns with the requests, so that both see the same machine.

mod args;
mod axis;
mod connection;
mod floor;
mod html;
mod import;
mod load;
mod machine;
mod operation;
mod plot;
mod quality;
mod queries;
mod report;
mod run;
mod scenario;
mod scratch;
mod seeded;
mod stop;
mod tally;
mod truth;
mod work;

pub(crate) use args::BenchArgs;
pub(crate) use run::run;
