//! The target's side of replication: the copy and its subscription.

use super::{create_markers, drop_markers, literal, rate, schema_exists, unsigned};
use crate::pauses;
use crate::pg::connect::PgError;
use crate::pg::ddl::{self, quote};
use crate::pg::session::Session;
use crate::secret::Secret;
use atoll_proto::agent::MOVE_ROLE;
use atoll_proto::moves::{MoveSeen, MoveSubject};
use std::path::Path;

/// Makes an empty copy that subscribes to the source, and is filled by so many bytes a second (0 for as fast as it goes); gives the
/// subscription's number. With `authorities`, a file of this server's machine, it speaks TLS and judges the source by them.
pub async fn make(
    session: &Session,
    subject: &MoveSubject,
    password: &Secret,
    authorities: Option<&Path>,
    bytes_per_second: u64,
) -> Result<Option<u32>, PgError> {
    if owned(session, subject).await?.is_none() {
        let schema = subject.source_schema();
        let mut statements = ddl::create_schema(&schema);
        statements.push_str(&format!("comment on schema {} is {};\n", quote(&schema), literal(&comment(subject))));
        for collection in &subject.collections {
            statements.push_str(&ddl::create_bare_table(&schema, collection));
        }
        statements.push_str(&rate::limit(subject, &schema, bytes_per_second));
        statements.push_str(&create_markers(subject));
        session.run("make a copy's tables", &statements).await?;
    }
    let there = subscription(session, subject).await?;
    if there.is_some() {
        return Ok(there);
    }
    pauses::let_through("subscribe").await;
    // Whoever copies a table drops its slot on the source and then commits that it is done: a server that dies and has forgotten the
    // commit would ask for the slot for ever.
    let channel = quote(&subject.channel());
    let statement = format!(
        "create subscription {channel} connection {} publication {channel} with (create_slot = false, slot_name = {}, \
         copy_data = true, binary = true, synchronous_commit = on)",
        literal(&connection(subject, password, authorities)),
        literal(&subject.channel())
    );
    keep_out_of_log(session, true).await?;
    session.run("subscribe to a shard", &statement).await?;
    keep_out_of_log(session, false).await?;
    subscription(session, subject).await
}

async fn subscription(session: &Session, subject: &MoveSubject) -> Result<Option<u32>, PgError> {
    let statement = "select oid from pg_subscription where subname = $1";
    let row = session.query_opt("look for a subscription", statement, &[&subject.channel()]).await?;
    Ok(row.map(|row| row.get(0)))
}

/// What of a statement may reach a server's log or its statistics, and how it does not.
const TELLERS: [(&str, &str); 7] = [
    ("log_statement", "none"),
    ("log_min_error_statement", "panic"),
    ("log_min_duration_statement", "-1"),
    ("log_min_duration_sample", "-1"),
    ("log_transaction_sample_rate", "0"),
    ("pg_stat_statements.track_utility", "off"),
    ("pgaudit.log", "none"),
];

/// Whether the statements that follow stay out of the log: those that carry a password. Settings of their own, because a server logs a
/// statement before it carries out any part of it. On a server that is not ours we may lack the right.
async fn keep_out_of_log(session: &Session, out: bool) -> Result<(), PgError> {
    for (name, value) in TELLERS {
        let statement = if out { format!("set {name} = '{value}'") } else { format!("reset {name}") };
        match session.run("keep a password out of its log", &statement).await {
            Err(error) if error.is_rights() && out => {
                let shown = "select coalesce(current_setting($1, true), $2)";
                let set: String = session.query_one("look at a setting", shown, &[&name, &value]).await?.get(0);
                if set != value {
                    tracing::warn!(setting = name, set, "the server's log may tell the password that replication uses");
                }
            }
            Err(error) if error.is_rights() => {}
            done => done?,
        }
    }
    Ok(())
}

/// How the subscription reaches its source.
fn connection(subject: &MoveSubject, password: &Secret, authorities: Option<&Path>) -> String {
    let value = |text: &str| format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"));
    let source = &subject.source;
    let tls = authorities.map(|file| format!(" sslmode=verify-full sslrootcert={}", value(&file.to_string_lossy())));
    format!(
        "host={} port={} dbname={} user={} password={} connect_timeout=5 keepalives_idle=10{}",
        value(&source.host),
        source.port,
        value(&source.database),
        value(MOVE_ROLE),
        value(password.expose()),
        tls.unwrap_or_default()
    )
}

fn comment(subject: &MoveSubject) -> String {
    format!("atoll move {}", subject.id)
}

/// The schema that holds this move's copy, under whichever of its names.
pub async fn owned(session: &Session, subject: &MoveSubject) -> Result<Option<String>, PgError> {
    let statement = "select nspname::text from pg_namespace
                      where nspname = any ($1) and obj_description(oid, 'pg_namespace') = $2";
    let names = [subject.source_schema(), subject.target_schema()];
    let row = session.query_opt("look for a copy", statement, &[&&names[..], &comment(subject)]).await?;
    Ok(row.map(|row| row.get(0)))
}

/// How a subscription stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Tables that are not copied yet.
    pub tables_left: u64,
    /// Errors that it met since the server began to count.
    pub errors: u64,
    /// Whether it has heard from the source lately.
    pub is_heard: bool,
}

/// How the subscription stands; none if there is none.
pub async fn standing(session: &Session, subject: &MoveSubject) -> Result<Option<Standing>, PgError> {
    // The source says something every half minute, unless told otherwise.
    let statement = "select count(*), count(*) filter (where r.srsubstate <> 'r'),
                            coalesce(max(s.apply_error_count + s.sync_error_count), 0)::bigint,
                            exists (select from pg_stat_subscription h
                                     where h.subname = $1 and h.last_msg_receipt_time > now() - interval '2 minutes')
                       from pg_subscription p
                       join pg_subscription_rel r on r.srsubid = p.oid
                       left join pg_stat_subscription_stats s on s.subid = p.oid
                      where p.subname = $1";
    let row = session.query_one("look how far a copy is", statement, &[&subject.channel()]).await?;
    let known = row.get::<_, i64>(0) > 0;
    let standing =
        || Standing { tables_left: unsigned(row.get(1)), errors: unsigned(row.get(2)), is_heard: row.get(3) };
    Ok(known.then(standing))
}

/// Rows and bytes of the copy.
pub async fn progress(session: &Session, subject: &MoveSubject) -> Result<MoveSeen, PgError> {
    let statement = "select coalesce(sum(greatest(coalesce(p.tuples_processed, 0), s.n_live_tup)), 0)::bigint,
                            coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint
                       from pg_class c
                       join pg_namespace n on n.oid = c.relnamespace
                       left join pg_stat_all_tables s on s.relid = c.oid
                       left join pg_stat_progress_copy p on p.relid = c.oid
                      where n.nspname = any ($1) and c.relkind = 'r' and c.relname <> '_idempotency'";
    let names = [subject.source_schema(), subject.target_schema()];
    let row = session.query_one("measure a copy", statement, &[&&names[..]]).await?;
    let (rows, bytes) = (Some(unsigned(row.get(0))), Some(unsigned(row.get(1))));
    Ok(MoveSeen { id: subject.id, rows, bytes, indexes: None, lag_bytes: None })
}

/// What follows are changes, which the copy takes as fast as it can: without a limit of its rate, and without waiting for the disk at
/// each transaction. The session must have no limit of locks.
pub async fn is_complete(session: &Session, subject: &MoveSubject) -> Result<(), PgError> {
    if let Some(schema) = owned(session, subject).await? {
        rate::lift(session, &schema).await?;
    }
    let statement = format!("alter subscription {} set (synchronous_commit = off)", quote(&subject.channel()));
    session.run("let changes come without waiting for the disk", &statement).await
}

/// Removes the subscription and the markers. The source need not be there.
pub async fn remove_subscription(session: &Session, subject: &MoveSubject) -> Result<(), PgError> {
    let what = "remove a subscription";
    if subscription(session, subject).await?.is_some() {
        let channel = quote(&subject.channel());
        session.run(what, &format!("alter subscription {channel} disable")).await?;
        // The slot is the source's to drop: the source may be away.
        session.run(what, &format!("alter subscription {channel} set (slot_name = none)")).await?;
        session.run(what, &format!("drop subscription {channel}")).await?;
    }
    session.run("remove markers", &drop_markers(subject)).await
}

/// Removes the copy, if it is this move's.
pub async fn drop(session: &Session, subject: &MoveSubject) -> Result<(), PgError> {
    let Some(schema) = owned(session, subject).await? else { return Ok(()) };
    session.run("remove a copy", &format!("drop schema {} cascade", quote(&schema))).await
}

/// Removes the source's retired schema.
pub async fn drop_retired(session: &Session, subject: &MoveSubject) -> Result<(), PgError> {
    let schema = subject.retired_schema();
    if !schema_exists(session, &schema).await? {
        return Ok(());
    }
    session.run("remove a retired schema", &format!("drop schema {} cascade", quote(&schema))).await
}
