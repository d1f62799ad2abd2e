//! The source's side of replication: publication, slot, markers and rights.

use super::fence::clear_way;
use super::{create_markers, drop_markers, literal, schema_exists, tables, unsigned};
use crate::pg::connect::PgError;
use crate::pg::ddl::{qualified, quote};
use crate::pg::session::Session;
use atoll_proto::agent::MOVE_ROLE;
use atoll_proto::moves::MoveSubject;
use std::time::Duration;

const SLOT_TRIES: u32 = 50;
const SLOT_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// Makes what the target subscribes to.
pub async fn make(session: &Session, subject: &MoveSubject) -> Result<(), PgError> {
    let (role, schema, channel) = (quote(MOVE_ROLE), subject.source_schema(), subject.channel());
    let markers = qualified("atoll", &subject.markers());
    let mut published = tables(subject, &schema);
    published.push(markers.clone());
    let published = published.join(", ");
    let is_published = "select exists (select from pg_publication where pubname = $1)";
    let publication = match session.query_one("look for a publication", is_published, &[&channel]).await?.get(0) {
        true => format!("alter publication {} set table {published};\n", quote(&channel)),
        false => format!("create publication {} for table {published};\n", quote(&channel)),
    };
    let statements = format!(
        "{}grant usage on schema {}, atoll to {role};\ngrant select on {published} to {role};\n{publication}",
        create_markers(subject),
        quote(&schema)
    );
    // An autovacuum gives way by itself only after a second (`deadlock_timeout`), in which a small shard is copied.
    clear_way(session, subject).await?;
    session.run("publish a shard", &statements).await?;
    let slot = "select pg_create_logical_replication_slot($1, 'pgoutput')
                 where not exists (select from pg_replication_slots where slot_name = $1)";
    session.query("make a replication slot", slot, &[&channel]).await.map(drop)
}

/// Bytes of the log that the target has not confirmed; none without a slot.
pub async fn lag_bytes(session: &Session, subject: &MoveSubject) -> Result<Option<u64>, PgError> {
    let statement = "select pg_wal_lsn_diff(pg_current_wal_lsn(), confirmed_flush_lsn)::bigint
                       from pg_replication_slots where slot_name = $1";
    let row = session.query_opt("measure a slot's lag", statement, &[&subject.channel()]).await?;
    Ok(row.and_then(|row| row.get::<_, Option<i64>>(0)).map(unsigned))
}

/// Removes it all. `alone`: no other move goes from here, so all slots of the target that copied tables are this one's.
pub async fn remove(session: &Session, subject: &MoveSubject, alone: bool) -> Result<(), PgError> {
    let channel = subject.channel();
    session.run("remove a publication", &format!("drop publication if exists {}", quote(&channel))).await?;
    drop_slots(session, &channel).await?;
    // Those that copied single tables are named by PostgreSQL after subscription, table and the data that subscribes. The subscription
    // is not known of a move that was given up while it was made.
    let subscription = subject.subscription.map(|number| number.to_string()).or(alone.then(|| "%".to_owned()));
    if let Some(subscription) = subscription {
        drop_slots(session, &format!("pg\\_{subscription}\\_sync\\_%\\_{}", subject.target_system)).await?;
    }
    let mut statements = drop_markers(subject);
    let schema = subject.source_schema();
    if schema_exists(session, &schema).await? {
        let (role, schema) = (quote(MOVE_ROLE), quote(&schema));
        statements.push_str(&format!(
            "revoke select on all tables in schema {schema} from {role};\nrevoke usage on schema {schema} from {role};\n"
        ));
    }
    // With the last table of markers. Who makes one at this moment changes the same row, and then this fails and is done again.
    statements.push_str(&format!(
        "do $$ begin
             if not exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace
                             where n.nspname = 'atoll' and c.relname ~ '^move_[0-9]+$') then
                 revoke usage on schema atoll from {};
             end if;
         end $$",
        quote(MOVE_ROLE)
    ));
    session.run("remove markers and rights", &statements).await
}

/// Drops the slots whose names are like `pattern`; who uses one is sent away.
async fn drop_slots(session: &Session, pattern: &str) -> Result<(), PgError> {
    let there = "select slot_name::text, active_pid, pg_terminate_backend(active_pid) is not null
                   from pg_replication_slots where slot_name like $1 and database = current_database()";
    for _ in 0..SLOT_TRIES {
        let slots = session.query("look for slots", there, &[&pattern]).await?;
        if slots.is_empty() {
            return Ok(());
        }
        for slot in slots.iter().filter(|slot| slot.get::<_, Option<i32>>(1).is_none()) {
            let name = literal(slot.get(0));
            match session.run("drop a slot", &format!("select pg_drop_replication_slot({name})")).await {
                Ok(()) => {}
                // Somebody took it, or dropped it, meanwhile.
                Err(error) if error.is_in_use() || error.is_gone() => {}
                Err(error) => return Err(error),
            }
        }
        tokio::time::sleep(SLOT_AGAIN_AFTER).await;
    }
    Err(PgError::Slow { limit: SLOT_TRIES * SLOT_AGAIN_AFTER })
}
