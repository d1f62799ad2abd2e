//! How far builds of indexes are, as PostgreSQL tells.

use crate::pg::connect::PgError;
use crate::pg::session::Session;
use atoll_proto::build::WaitsFor;
use std::collections::HashMap;

/// What one session does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// In PostgreSQL's words; none if it builds nothing, as one that drops an index.
    pub phase: Option<String>,
    /// Rows that the index holds, while they are being added.
    pub tuples_done: u64,
    /// Whose end it waits for.
    pub waits_for: Option<WaitsFor>,
}

impl Progress {
    /// Reads what the sessions of these processes do. Those that ended are missing.
    pub async fn read(session: &Session, pids: &[i32]) -> Result<HashMap<i32, Self>, PgError> {
        let rows = session.query("tell how far builds are", include_str!("progress.sql"), &[&pids]).await?;
        let progress = |row: &tokio_postgres::Row| {
            let waits_for = row.get::<_, Option<i32>>("waits_pid").map(|pid| WaitsFor {
                pid: pid.unsigned_abs(),
                seconds: row.get::<_, Option<i64>>("waits_seconds").map(|seconds| seconds.try_into().unwrap_or(0)),
                application: row.get("waits_application"),
            });
            let tuples_done = row.get::<_, i64>("tuples_done").try_into().unwrap_or(0);
            (row.get("pid"), Self { phase: row.get("phase"), tuples_done, waits_for })
        };
        Ok(rows.iter().map(progress).collect())
    }

    /// Whether it waits for others, with most of its work behind it. One that waits before it builds is not meant: several of them
    /// would begin to build in the same moment, each with memory for itself.
    pub fn waits(&self) -> bool {
        matches!(self.phase.as_deref(), Some("waiting for writers before validation" | "waiting for old snapshots"))
    }

    /// The share of the graph that is built, where `rows` is how many there are: rows that were counted, so it is a good guess.
    pub fn share(&self, rows: u64) -> f64 {
        match self.phase.as_deref() {
            None | Some("initializing" | "waiting for writers before build") => 0.0,
            Some(phase) if phase.starts_with("building index") => {
                (self.tuples_done as f64 / rows.max(1) as f64).min(1.0)
            }
            // What follows is short, unless others' transactions are waited for.
            Some(_) => 1.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_follows_the_phases() {
        let at = |phase: &str, tuples_done| Progress { phase: Some(phase.to_owned()), tuples_done, waits_for: None };
        assert_eq!(Progress::default().share(10), 0.0);
        assert_eq!(at("waiting for writers before build", 0).share(10), 0.0);
        assert_eq!(at("building index: loading tuples", 4).share(10), 0.4);
        assert_eq!(at("building index: loading tuples", 40).share(10), 1.0, "it grew since it was counted");
        assert_eq!(at("waiting for old snapshots", 0).share(10), 1.0);
    }

    #[test]
    fn only_what_is_built_waits() {
        let other = WaitsFor { pid: 7, seconds: None, application: String::new() };
        let waits = |phase: Option<&str>| {
            Progress { phase: phase.map(str::to_owned), tuples_done: 0, waits_for: Some(other.clone()) }.waits()
        };
        assert!(waits(Some("waiting for writers before validation")) && waits(Some("waiting for old snapshots")));
        assert!(!waits(Some("building index: loading tuples")));
        assert!(!waits(Some("waiting for writers before build")), "its work is still to come");
        assert!(!waits(None), "it waits for the table");
    }
}
