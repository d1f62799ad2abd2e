//! What operators want changed, recorded in the catalog. The leader carries it out, whoever was asked.

use super::extract::Terms;
use super::problem::Answer;
use super::state::App;
use atoll_core::catalog::{Command, Outcome};
use std::time::Duration;

/// Usual time for the catalog to take note.
const NOTE_TIME: Duration = Duration::from_secs(5);

/// Records a change; one that is refused is an error.
pub(super) async fn record(app: &App, command: Command, terms: &Terms) -> Answer<()> {
    if let Outcome::Refused(refusal) = proposed(app, command, terms).await? {
        return Err(refusal.into());
    }
    Ok(())
}

/// Proposes a change; gives what became of it.
pub(super) async fn proposed(app: &App, command: Command, terms: &Terms) -> Answer<Outcome> {
    Ok(app.node.propose(command, terms.deadline_or(NOTE_TIME)).await?.outcome)
}
