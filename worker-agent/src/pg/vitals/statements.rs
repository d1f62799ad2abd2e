//! The statements, and which metrics each gives. A column is named as its metric, or as a label of it; where it is null there is no value.

use crate::telemetry::{PgMetric, postgres};

/// Since this version checkpoints are counted in a view of their own.
const CHECKPOINTER_SINCE: u32 = 170_000;

/// One statement.
#[derive(Debug)]
pub(super) struct Statement {
    /// Completes "PostgreSQL could not …".
    pub(super) what: &'static str,
    /// The statement; it has no parameters.
    pub(super) text: &'static str,
    /// What it gives.
    pub(super) metrics: &'static [PgMetric],
    /// Whether it gives a row for each object, told apart by the column `object`, to be put together by labels.
    pub(super) is_per_object: bool,
}

/// Those for a server of this version, such as 180004.
pub(super) fn for_version(version_num: u32) -> [Statement; 8] {
    let whole = |what, text, metrics| Statement { what, text, metrics, is_per_object: false };
    [
        whole("count by database", include_str!("databases.sql"), DATABASES),
        whole("tell its limits and ages", include_str!("server.sql"), SERVER),
        whole("count connections", include_str!("connections.sql"), &[postgres::CONNECTIONS]),
        whole("look for who waits", include_str!("waits.sql"), WAITS),
        whole("look at slots", include_str!("replication.sql"), REPLICATION),
        whole(
            "count checkpoints",
            match version_num >= CHECKPOINTER_SINCE {
                true => include_str!("checkpoints.sql"),
                false => include_str!("checkpoints_before_17.sql"),
            },
            &[postgres::CHECKPOINTS, postgres::CHECKPOINT_SECONDS],
        ),
        // Alone: it takes a right that an external server's user may lack.
        whole("measure its log", include_str!("wal_files.sql"), &[postgres::WAL_FILES_BYTES]),
        Statement {
            what: "look at tables and indexes",
            text: include_str!("relations.sql"),
            metrics: RELATIONS,
            is_per_object: true,
        },
    ]
}

const DATABASES: &[PgMetric] = &[
    postgres::BLOCKS_HIT,
    postgres::BLOCKS_READ,
    postgres::COMMITS,
    postgres::ROLLBACKS,
    postgres::ROWS_WRITTEN,
    postgres::DEADLOCKS,
    postgres::TEMP_FILES,
    postgres::TEMP_BYTES,
];

const SERVER: &[PgMetric] = &[
    postgres::STARTED_AT,
    postgres::CONNECTIONS_MAX,
    postgres::DATABASE_BYTES,
    postgres::TRANSACTION_ID_AGE,
    postgres::MULTIXACT_ID_AGE,
    postgres::WAL_BYTES,
];

const WAITS: &[PgMetric] = &[postgres::OLDEST_TRANSACTION, postgres::LOCKS_WAITING, postgres::LOCK_WAIT];

const REPLICATION: &[PgMetric] = &[
    postgres::SLOTS,
    postgres::SLOTS_INACTIVE,
    postgres::SLOT_RETAINED,
    postgres::SENDERS,
    postgres::LAG_BYTES,
    postgres::LAG_SECONDS,
];

const RELATIONS: &[PgMetric] = &[
    postgres::SCANS,
    postgres::RELATION_BYTES,
    postgres::LIVE_ROWS,
    postgres::DEAD_ROWS,
    postgres::VACUUM_DUE_TABLES,
    postgres::VACUUM_AGE,
];
