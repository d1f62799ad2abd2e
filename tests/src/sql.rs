//! Looking and meddling behind the coordinators' backs: plain SQL at a worker.

use tokio_postgres::{NoTls, SimpleQueryMessage};

/// Runs a statement at the database of this DSN; gives the first column of each row as text.
pub async fn rows(dsn: &str, statement: &str) -> Vec<String> {
    let (client, connection) =
        tokio_postgres::connect(dsn, NoTls).await.unwrap_or_else(|error| panic!("{dsn}: {error}"));
    let connection = tokio::spawn(connection);
    let answer = client.simple_query(statement).await.unwrap_or_else(|error| panic!("{statement}: {error}"));
    drop(client);
    connection.await.expect("the connection's task does not panic").expect("the connection ends in an orderly way");
    let mut first = Vec::new();
    for message in &answer {
        if let SimpleQueryMessage::Row(row) = message {
            first.extend(row.get(0).map(str::to_owned));
        }
    }
    first
}
