//! The role of coordinators reads and writes rows, and may do nothing else: whoever steals its password, or finds a hole in a
//! coordinator's statements, changes no table and learns nothing of the server.
#![allow(clippy::unwrap_used)]

mod support;

use atoll_proto::agent::COORDINATOR_ROLE;
use support::{PASSWORD, Place, collection, desired};
use tokio_postgres::NoTls;
use tokio_postgres::error::SqlState;

#[tokio::test(flavor = "multi_thread")]
async fn the_role_of_coordinators_may_only_read_and_write_rows() {
    let place = Place::new("rights").await;
    place.coordinator.set_desired(desired(5, vec![collection(5, "memories")], Vec::new()));
    let agent = place.start();
    place.until_applied(&agent, 5).await;
    let client = place.connect().await;
    for allowed in [
        "insert into s0001_g1.memories (namespace, key, embedding, version, created_at, updated_at)
         values ('n', 'k', '[1,2,3]', 1, now(), now())",
        "update s0001_g1.memories set version = 2",
        "select * from s0001_g1.memories for update",
        "delete from s0001_g1.memories",
        // Bulk loads go through one.
        "create temp table mine (x int)",
    ] {
        client.batch_execute(allowed).await.unwrap_or_else(|error| panic!("{allowed}: {error:?}"));
    }
    for forbidden in [
        // Tables and schemas.
        "create schema mine",
        "create table s0001_g1.mine (x int)",
        "create table public.mine (x int)",
        "create view s0001_g1.mine as select 1",
        "create function s0001_g1.f() returns int language sql as 'select 1'",
        "create index on s0001_g1.memories (version)",
        "create trigger t before insert on s0001_g1.memories execute function suppress_redundant_updates_trigger()",
        "alter table s0001_g1.memories add column x int",
        "alter table s0001_g1.memories rename to other",
        "alter table s0001_g1.memories rename column value to other",
        "alter table s0001_g1.memories owner to atoll_rw",
        "alter schema s0001_g1 rename to s0001_g2",
        "drop table s0001_g1.memories",
        "drop schema s0001_g1 cascade",
        "truncate s0001_g1.memories",
        "comment on table s0001_g1.memories is 'another collection'",
        // The server.
        "create database mine",
        "create role mine",
        "drop extension vector",
        "create publication mine for all tables",
        "create subscription mine connection 'host=x' publication x with (connect = false)",
        "alter system set fsync = off",
        "alter role atoll_rw superuser",
        "alter role atoll_move password 'x'",
        "set role atoll_owner",
        "set session authorization atoll_owner",
        "checkpoint",
        "select pg_reload_conf()",
        "select pg_create_logical_replication_slot('mine', 'pgoutput')",
        "select pg_switch_wal()",
        "select lo_create(0)",
        "select lo_from_bytea(0, 'x')",
        // What it need not know.
        "select * from pg_authid",
        "select subconninfo from pg_subscription",
        "select * from pg_hba_file_rules",
        "select pg_read_file('postgresql.conf')",
        "select pg_ls_dir('.')",
        "copy (select 1) to '/tmp/mine'",
        "copy (select 1) to program 'true'",
        "select * from atoll.applied",
        "select * from atoll.moves",
    ] {
        match client.batch_execute(forbidden).await {
            Ok(()) => panic!("{forbidden}: it may"),
            Err(error) => assert_eq!(error.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE), "{forbidden}: {error:?}"),
        }
    }
    // This is no error to PostgreSQL, and gives nothing.
    client.batch_execute("grant select on s0001_g1.memories to public").await.unwrap();
    let public = "select count(*) from pg_class c, aclexplode(c.relacl) a
                   where c.oid = 's0001_g1.memories'::regclass and a.grantee = 0";
    assert_eq!(client.query_one(public, &[]).await.unwrap().get::<_, i64>(0), 0);
    // The server's other databases are closed to it.
    for database in ["postgres", "template1"] {
        let mut config = tokio_postgres::Config::new();
        config.host("127.0.0.1").port(place.postgres_port).dbname(database).user(COORDINATOR_ROLE).password(PASSWORD);
        match config.connect(NoTls).await {
            Ok(_) => panic!("it may enter {database}"),
            Err(error) => assert_eq!(error.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE), "{database}: {error:?}"),
        }
    }
    agent.stop();
}
