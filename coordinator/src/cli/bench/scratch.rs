//! The namespaces that a benchmark writes to, and takes away again.

use crate::cli::client::Client;
use crate::cli::error::CommandError;
use crate::cli::path;
use atoll_proto::entry::NamespacePage;
use atoll_proto::{CollectionName, Namespace, limits};

/// What namespaces of benchmarks begin with.
pub(super) const PREFIX: &str = "bench:";

/// The namespaces of this run: two at once don't take away each other's.
#[derive(Debug, Clone)]
pub(super) struct Scratch {
    prefix: String,
}

impl Scratch {
    /// Names that no other run has.
    pub(super) fn new() -> Self {
        Self { prefix: format!("{PREFIX}{}-{}:", jiff::Timestamp::now().as_second(), std::process::id()) }
    }

    /// One of its namespaces.
    pub(super) fn namespace(&self, name: impl std::fmt::Display) -> Namespace {
        Namespace::parse(&format!("{}{name}", self.prefix)).expect("the prefix and short words make a name")
    }

    /// Takes all of them away.
    pub(super) async fn clean(&self, client: &Client, collection: &CollectionName) -> Result<(), CommandError> {
        let mut before = Vec::new();
        loop {
            let query =
                path::query(&[("prefix", Some(self.prefix.clone())), ("limit", Some(limits::LIST_PAGE.to_string()))]);
            let page: NamespacePage =
                client.get(&path::collection(collection, &format!("/namespaces{query}"))).await?.parse()?;
            if page.namespaces.is_empty() {
                return Ok(());
            }
            // Nobody else writes to them, so there are fewer each time.
            if page.namespaces == before {
                let prefix = &self.prefix;
                return Err(CommandError::Failed(format!(
                    "namespaces that begin with {prefix} could not all be deleted"
                )));
            }
            for name in &page.namespaces {
                let namespace = Namespace::parse(name).map_err(|error| CommandError::failed(&error))?;
                client.delete(&path::namespace(collection, &namespace)).await?;
            }
            before = page.namespaces;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::cli::testing::FakeCoordinator;

    #[tokio::test]
    async fn everything_of_the_run_goes() {
        let scratch = Scratch::new();
        let page = format!("{{\"namespaces\":[\"{}\"],\"next_cursor\":null}}", scratch.namespace(7));
        let fake = FakeCoordinator::in_turn(vec![
            (200, page.as_str()),
            (200, "{\"deleted\":3}"),
            (200, "{\"namespaces\":[],\"next_cursor\":null}"),
        ])
        .await;
        scratch.clean(&fake.client(), &"c".parse().unwrap()).await.unwrap();
        assert!(fake.request().await.contains("prefix=bench%3A"));
        assert!(fake.request().await.starts_with("DELETE /v1/collections/c/namespaces/bench%3A"));
    }
}
