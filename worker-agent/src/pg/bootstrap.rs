//! Makes a server ready for shards: database, extension, bookkeeping, and the role that coordinators connect as, which
//! owns nothing and may only read and write rows. Every step looks first, so it can be repeated at each connection, and
//! so that on a server that is not ours it needs no right for what is there already.

use crate::pg::connect::{PgError, Target};
use crate::pg::ddl::quote;
use crate::secret::Secret;
use atoll_proto::agent::COORDINATOR_ROLE;
use std::time::Duration;
use tokio_postgres::Client;

const STATEMENT_LIMIT: Duration = Duration::from_secs(60);

/// Makes the worker's database if it is missing and if that is ours to do.
pub async fn make_database(target: &Target) -> Result<(), PgError> {
    let Some(first) = &target.first_database else {
        return Ok(());
    };
    let client = target.connect_to(first, STATEMENT_LIMIT).await?;
    if exists(&client, "select exists (select from pg_database where datname = $1)", &target.database).await? {
        return Ok(());
    }
    let statement = format!("create database {}", quote(&target.database));
    client.batch_execute(&statement).await.map_err(PgError::of("create the database"))
}

/// Makes extension, bookkeeping and role in the worker's database.
pub async fn make_ready(target: &Target, password: &Secret) -> Result<(), PgError> {
    let client = target.connect(STATEMENT_LIMIT).await?;
    make_extension(&client).await?;
    if !exists(&client, "select to_regclass($1) is not null", "atoll.applied").await? {
        let what = "create the schema `atoll`; grant `create` on the database, or create it for the agent's user";
        client.batch_execute(include_str!("bookkeeping.sql")).await.map_err(PgError::of(what))?;
    }
    make_role(&client, password).await?;
    grant(&client, target).await
}

async fn make_extension(client: &Client) -> Result<(), PgError> {
    let row = client.query_one(include_str!("facts.sql"), &[]).await.map_err(PgError::of("describe itself"))?;
    let installed: Option<String> = row.get("pgvector_installed");
    let available: Option<String> = row.get("pgvector_available");
    match (installed, available) {
        (None, _) => {
            let what = "create the extension; run `create extension vector` as a superuser";
            client.batch_execute("create extension if not exists vector").await.map_err(PgError::of(what))
        }
        (Some(installed), Some(available)) if installed != available => {
            tracing::info!(installed, available, "updating the extension vector");
            let what = "update the extension; run `alter extension vector update` as its owner";
            match client.batch_execute("alter extension vector update").await.map_err(PgError::of(what)) {
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

async fn make_role(client: &Client, password: &Secret) -> Result<(), PgError> {
    let is_there = exists(client, "select exists (select from pg_roles where rolname = $1)", COORDINATOR_ROLE).await?;
    let verb = if is_there { "alter" } else { "create" };
    // The server quotes the password, so that no other text can come out of it.
    let compose = "select format('%s role %I login nosuperuser nocreatedb nocreaterole password %L', $1::text, $2::text, $3::text)";
    let row = client
        .query_one(compose, &[&verb, &COORDINATOR_ROLE, &password.expose()])
        .await
        .map_err(PgError::of("quote a password"))?;
    let statement: String = row.get(0);
    let what = format!("{verb} the role `{COORDINATOR_ROLE}` with its password; grant `createrole`, or do it by hand");
    match client.batch_execute(&statement).await.map_err(PgError::of(what)) {
        Err(error) if is_there && error.is_rights() => {
            tracing::warn!(%error, "the role keeps the password it has");
            Ok(())
        }
        done => done,
    }
}

async fn grant(client: &Client, target: &Target) -> Result<(), PgError> {
    let (database, role) = (quote(&target.database), quote(COORDINATOR_ROLE));
    // Types and operators of the extension are in `public`, so its use stays; making things there does not.
    let statements = [
        format!("revoke all on database {database} from public"),
        format!("grant connect, temporary on database {database} to {role}"),
        "revoke all on schema public from public".to_owned(),
        format!("grant usage on schema public to {role}"),
    ];
    let ours = target.first_database.is_some();
    if !ours {
        // Somebody else's database may serve others too: give, but do not take away.
        for statement in [&statements[1], &statements[3]] {
            grant_or_warn(client, statement).await?;
        }
        return Ok(());
    }
    client.batch_execute(&statements.join(";\n")).await.map_err(PgError::of("grant rights on the database"))
}

async fn grant_or_warn(client: &Client, statement: &str) -> Result<(), PgError> {
    match client.batch_execute(statement).await.map_err(PgError::of(format!("`{statement}`; do it by hand"))) {
        Err(error) if error.is_rights() => {
            tracing::warn!(%error, "right not granted");
            Ok(())
        }
        done => done,
    }
}

async fn exists(client: &Client, question: &str, name: &str) -> Result<bool, PgError> {
    let row = client.query_one(question, &[&name]).await.map_err(PgError::of("look into its catalog"))?;
    Ok(row.get(0))
}
