//! Makes a server ready for shards: database, extension, bookkeeping, and the role that coordinators connect as, which
//! owns nothing and may only read and write rows. Every step looks first, so it can be repeated at each connection, and
//! so that on a server that is not ours it needs no right for what is there already.

use crate::pg::connect::{PgError, Target};
use crate::pg::ddl::quote;
use crate::pg::replica::REPLICA_ROLE;
use crate::pg::session::Session;
use crate::secret::Secret;
use atoll_proto::agent::{COORDINATOR_ROLE, MOVE_ROLE};
use postgres_protocol::password::scram_sha_256;
use std::time::Duration;

const STATEMENT_LIMIT: Duration = Duration::from_secs(60);

/// Makes the worker's database if it is missing and if that is ours to do.
pub async fn make_database(target: &Target) -> Result<(), PgError> {
    let Some(first) = &target.first_database else {
        return Ok(());
    };
    let session = target.connect_to(first, STATEMENT_LIMIT).await?;
    if exists(&session, "select exists (select from pg_database where datname = $1)", &target.database).await? {
        return Ok(());
    }
    session.run("create the database", &format!("create database {}", quote(&target.database))).await
}

/// Makes extension, bookkeeping and role in the worker's database.
pub async fn make_ready(target: &Target, password: &Secret) -> Result<(), PgError> {
    let session = target.connect(STATEMENT_LIMIT).await?;
    // Whoever takes over makes it again, so no standby is waited for.
    session.run("choose what commits wait for", "set synchronous_commit = local").await?;
    make_extension(&session).await?;
    if !exists(&session, "select to_regclass($1) is not null", "atoll.worker").await? {
        let what = "create the schema `atoll`; grant `create` on the database, or create it for the agent's user";
        session.run(what, include_str!("bookkeeping.sql")).await?;
    }
    make_role(&session, COORDINATOR_ROLE, "", password).await?;
    match make_role(&session, MOVE_ROLE, " replication", password).await {
        Err(error) if error.is_rights() => tracing::warn!(%error, "no shard can move away from this server"),
        done => done?,
    }
    grant(&session, target).await?;
    let has_standbys = "select exists (select from pg_roles where rolname = $1)";
    if target.first_database.is_some() && exists(&session, has_standbys, REPLICA_ROLE).await? {
        let_standbys_copy(&session, &target.database, password).await?;
    }
    Ok(())
}

/// Makes the role that standbys receive and copy the server as. It may read all that the server may, so it is made only where there
/// are standbys: elsewhere the coordinators' password, which is its password too, opens no more than rows. And lets coordinators see
/// which generation a log is of.
pub(super) async fn let_standbys_copy(session: &Session, database: &str, password: &Secret) -> Result<(), PgError> {
    make_role(session, REPLICA_ROLE, " replication", password).await?;
    let statements = include_str!("replica/rights.sql");
    let statements = statements.replace("DATABASE", &quote(database)).replace("ROLE", REPLICA_ROLE);
    session.run("let standbys copy the server", &statements).await?;
    // Of a group that begins it is made a moment later, and this comes again then.
    if exists(session, "select exists (select from pg_roles where rolname = $1)", COORDINATOR_ROLE).await? {
        let role = quote(COORDINATOR_ROLE);
        let statements = format!("grant usage on schema atoll to {role}; grant select on atoll.generation to {role}");
        session.run("let coordinators see its generations", &statements).await?;
    }
    Ok(())
}

async fn make_extension(session: &Session) -> Result<(), PgError> {
    let row = session.query_one("describe itself", include_str!("facts.sql"), &[]).await?;
    let installed: Option<String> = row.get("pgvector_installed");
    let available: Option<String> = row.get("pgvector_available");
    match (installed, available) {
        (None, _) => {
            let what = "create the extension; run `create extension vector` as a superuser";
            session.run(what, "create extension if not exists vector").await
        }
        (Some(installed), Some(available)) if installed != available => {
            tracing::info!(installed, available, "updating the extension vector");
            let what = "update the extension; run `alter extension vector update` as its owner";
            match session.run(what, "alter extension vector update").await {
                // The installed version is judged afterwards; if it is good enough the update can wait.
                Err(error) if error.is_rights() => {
                    tracing::warn!(%error, "extension vector stays as it is");
                    Ok(())
                }
                done => done,
            }
        }
        (Some(_), _) => Ok(()),
    }
}

/// Makes the role, or brings it to what it should be. What it is already is not mentioned: to say `nosuperuser` takes a
/// superuser even where nothing changes. Its password cannot be read, so it is set each time.
async fn make_role(session: &Session, role: &str, extra: &str, password: &Secret) -> Result<(), PgError> {
    let statement = "select rolcanlogin, rolsuper, rolcreatedb, rolcreaterole, rolbypassrls, rolreplication
                       from pg_roles where rolname = $1";
    let there = session.query_opt("look into its catalog", statement, &[&role]).await?;
    let (verb, options) = match &there {
        None => ("create", format!(" login{extra}")),
        Some(row) => {
            let [can_login, others @ ..] =
                [row.get::<_, bool>(0), row.get(1), row.get(2), row.get(3), row.get(4), row.get(5) && extra.is_empty()];
            let login = if can_login { "" } else { " login" };
            let rights = [" nosuperuser", " nocreatedb", " nocreaterole", " nobypassrls", " noreplication"];
            let too_much = rights.into_iter().zip(others);
            ("alter", too_much.filter(|(_, has)| *has).fold(login.to_owned(), |text, (word, _)| text + word))
        }
    };
    // A statement that is refused is logged as it is, so it carries what the server stores and not the password. There is
    // no quote in a verifier.
    let verifier = scram_sha_256(password.expose().as_bytes());
    let statement = format!("{verb} role {}{options} password '{verifier}'", quote(role));
    let what = format!("{verb} the role `{role}` with its password; grant `createrole`, or do it by hand");
    match session.run(what, &statement).await {
        Err(error) if there.is_some() && error.is_rights() => {
            tracing::warn!(%error, "the role keeps the password it has");
            Ok(())
        }
        done => done,
    }
}

async fn grant(session: &Session, target: &Target) -> Result<(), PgError> {
    let (database, role) = (quote(&target.database), quote(COORDINATOR_ROLE));
    let moving = quote(MOVE_ROLE);
    // Types and operators of the extension are in `public`, so its use stays; making things there does not.
    let statements = [
        format!("revoke all on database {database} from public"),
        format!("grant connect, temporary on database {database} to {role}"),
        "revoke all on schema public from public".to_owned(),
        format!("grant usage on schema public to {role}"),
        format!("grant connect on database {database} to {moving}"),
        format!("grant usage on schema public to {moving}"),
    ];
    let ours = target.first_database.is_some();
    if !ours {
        // Somebody else's database may serve others too: give, but do not take away.
        for statement in [&statements[1], &statements[3], &statements[4], &statements[5]] {
            grant_or_warn(session, statement).await?;
        }
        return Ok(());
    }
    session.run("grant rights on the database", &statements.join(";\n")).await?;
    // What PostgreSQL gives everybody and nobody here needs: to make large objects, and the databases that come with a server.
    let statement =
        "revoke execute on function lo_creat(integer), lo_create(oid), lo_from_bytea(oid, bytea) from public;
                     revoke all on database postgres, template1 from public";
    session.run("take away what everybody may do", statement).await
}

async fn grant_or_warn(session: &Session, statement: &str) -> Result<(), PgError> {
    match session.run(format!("`{statement}`; do it by hand"), statement).await {
        Err(error) if error.is_rights() => {
            tracing::warn!(%error, "right not granted");
            Ok(())
        }
        done => done,
    }
}

async fn exists(session: &Session, question: &str, name: &str) -> Result<bool, PgError> {
    Ok(session.query_one("look into its catalog", question, &[&name]).await?.get(0))
}
