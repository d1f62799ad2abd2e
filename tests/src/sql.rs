//! Looking and meddling behind the coordinators' backs: plain SQL at a worker.

use tokio_postgres::{NoTls, SimpleQueryMessage};

/// Runs a statement at the database of this DSN; gives the first column of each row as text.
pub async fn rows(dsn: &str, statement: &str) -> Vec<String> {
    try_rows(dsn, statement).await.unwrap_or_else(|error| panic!("{dsn}: {statement}: {error}"))
}

/// The same; the error says what the server said.
pub async fn try_rows(dsn: &str, statement: &str) -> Result<Vec<String>, String> {
    let told = |error: tokio_postgres::Error| format!("{error:?}");
    let (client, connection) = tokio_postgres::connect(dsn, NoTls).await.map_err(told)?;
    let connection = tokio::spawn(connection);
    let answer = client.simple_query(statement).await;
    drop(client);
    let ended = connection.await.expect("the connection's task does not panic");
    let answer = answer.map_err(told)?;
    ended.map_err(told)?;
    let mut first = Vec::new();
    for message in &answer {
        if let SimpleQueryMessage::Row(row) = message {
            first.extend(row.get(0).map(str::to_owned));
        }
    }
    Ok(first)
}
