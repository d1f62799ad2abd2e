//! Counts and order-independent sums of a shard's rows, on both sides as of one marker.

use super::fence::{clear_way, lock};
use super::{copy, last_marker, mark, session, unsigned};
use crate::pg::connect::{PgError, Target};
use crate::pg::ddl::{qualified, quote};
use crate::pg::session::Session;
use atoll_proto::agent::IDEMPOTENCY_TABLE;
use atoll_proto::moves::{MoveSubject, TableSum};
use std::time::{Duration, Instant};

const LOCK_WAIT: Duration = Duration::from_millis(200);
/// How long a target waits for the marker at which it is to stop.
const MARKER_WAIT: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(5);
const SHORT: Duration = Duration::from_secs(60);
const ANY_TIME: Duration = Duration::ZERO;
const SNAPSHOT: &str = "begin isolation level repeatable read read only";

/// The source's sums, and the marker they are as of. Writes wait for some milliseconds.
pub async fn of_source(target: &Target, subject: &MoveSubject) -> Result<(u64, Vec<TableSum>), PgError> {
    let holder = session(target, subject, SHORT).await?;
    let marking = session(target, subject, SHORT).await?;
    let summing = session(target, subject, ANY_TIME).await?;
    clear_way(&marking, subject).await?;
    lock(&holder, subject, "share", LOCK_WAIT).await?;
    let marker = mark(&marking, subject).await?;
    summing.run("take a snapshot", SNAPSHOT).await?;
    last_marker(&summing, subject).await?;
    holder.run("let go of a shard", "rollback").await?;
    drop((holder, marking));
    Ok((marker, sums(&summing, subject, &subject.source_schema()).await?))
}

/// A target that is ready to stop at the next marker.
pub struct Stopper {
    holder: Session,
    looking: Session,
    summing: Session,
    subject: MoveSubject,
}

impl Stopper {
    /// Makes ready: the next marker will have to wait.
    pub async fn ready(target: &Target, subject: &MoveSubject) -> Result<Self, PgError> {
        let holder = session(target, subject, SHORT).await?;
        let looking = session(target, subject, SHORT).await?;
        let summing = session(target, subject, ANY_TIME).await?;
        let statements = format!(
            "begin;
             set local idle_in_transaction_session_timeout = '60s';
             lock table {} in share mode",
            qualified("atoll", &subject.markers())
        );
        holder.run("make ready to stop at a marker", &statements).await?;
        Ok(Self { holder, looking, summing, subject: subject.clone() })
    }

    /// Waits for the marker, takes a snapshot, lets the subscription go on, and sums up. Also tells the last marker before it.
    pub async fn sums(self) -> Result<(u64, Vec<TableSum>), PgError> {
        let Self { holder, looking, summing, subject } = self;
        let waits = format!(
            "select exists (select from pg_locks where not granted and relation = '{}'::regclass
                               and database = (select oid from pg_database where datname = current_database()))",
            qualified("atoll", &subject.markers())
        );
        let began = Instant::now();
        while !looking.query_one("look for a waiting marker", &waits, &[]).await?.get::<_, bool>(0) {
            if began.elapsed() > MARKER_WAIT {
                return Err(PgError::Slow { limit: MARKER_WAIT });
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        summing.run("take a snapshot", SNAPSHOT).await?;
        let last = last_marker(&summing, &subject).await?;
        holder.run("let a subscription go on", "rollback").await?;
        drop((holder, looking));
        let schema = copy::owned(&summing, &subject).await?.unwrap_or_else(|| subject.source_schema());
        Ok((last, sums(&summing, &subject, &schema).await?))
    }
}

async fn sums(session: &Session, subject: &MoveSubject, schema: &str) -> Result<Vec<TableSum>, PgError> {
    let mut sums = Vec::new();
    let outcomes = (IDEMPOTENCY_TABLE, false);
    let collections = subject.collections.iter().map(|one| (one.name.as_str(), one.settings.dimensions.is_some()));
    for (table, has_vectors) in [outcomes].into_iter().chain(collections) {
        // A vector as the bytes that it is: as text it would take many times as long.
        let row = match (table == IDEMPOTENCY_TABLE, has_vectors) {
            (true, _) => "row(t.*)::text".to_owned(),
            (false, with) => {
                let columns =
                    "row(namespace, key, value, metadata, tags, version, created_at, updated_at, expires_at)::text";
                match with {
                    true => format!("{columns} || md5({}(embedding))", send_function(subject, table)),
                    false => columns.to_owned(),
                }
            }
        };
        let statement = format!(
            "select count(*), coalesce(sum(hashtextextended({row}, 0)), 0)::text from {}.{} as t",
            quote(schema),
            quote(table)
        );
        let row = session.query_one("sum up a table", &statement, &[]).await?;
        sums.push(TableSum { table: table.to_owned(), rows: unsigned(row.get(0)), sum: row.get(1) });
    }
    Ok(sums)
}

fn send_function(subject: &MoveSubject, table: &str) -> &'static str {
    let collection = subject.collections.iter().find(|one| one.name.as_str() == table);
    match collection.map(|one| one.settings.vector_type) {
        Some(atoll_proto::VectorType::Float16) => "halfvec_send",
        Some(atoll_proto::VectorType::Float32) | None => "vector_send",
    }
}
