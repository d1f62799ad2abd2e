//! The servers of which one takes writes: an external server's, one or several. Who replicates them and who chooses among them is no
//! matter of ours; we find the one that takes writes, and make sure that it is the worker's.

mod choice;
pub mod claim;
mod seen;

pub use seen::takes_writes;

use crate::config::Endpoint;
use crate::pg::connect::chain;
use crate::worker::Worker;
use choice::{Choice, choose};
use seen::Seen;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

/// Longest that all of them are waited for.
const LOOK_LIMIT: Duration = Duration::from_secs(2);
/// The same once the one that was followed has said that it takes writes still: only a newer primary could be news.
const OTHERS_LIMIT: Duration = Duration::from_secs(1);

/// Why none is followed.
#[derive(Debug, thiserror::Error)]
pub enum NoPrimary {
    /// None takes writes, or none answers: that may change by itself.
    #[error("no server takes writes ({said})")]
    Nobody {
        /// What each said.
        said: String,
    },
    /// What takes writes is not the worker's.
    #[error("no server of this worker takes writes, and others are refused ({said})")]
    Strangers {
        /// What each said, or why it is refused.
        said: String,
    },
}

/// The servers, and which of them is followed.
#[derive(Debug)]
pub struct Endpoints {
    places: Vec<Endpoint>,
    /// The one that was followed last by this process.
    last: Option<usize>,
    told: Told,
}

/// What was logged last: the same again is not worth a line.
#[derive(Debug, Default, PartialEq, Eq)]
struct Told {
    choice: Choice,
    by_claim: bool,
}

impl Endpoints {
    /// One or several.
    pub fn new(places: Vec<Endpoint>) -> Self {
        Self { places, last: None, told: Told::default() }
    }

    /// Whether there is anything to choose.
    pub fn are_several(&self) -> bool {
        self.places.len() > 1
    }

    /// Finds the one that takes writes, and has the worker connect there from now on. A single server is taken whatever it does, but if
    /// it is another worker's: what is wrong with it is judged as of any server.
    pub async fn find(&mut self, worker: &Worker) -> Result<(), NoPrimary> {
        let (choice, said) = self.look(worker).await;
        let any_stranger = !choice.strangers.is_empty();
        let Some(primary) = choice.primary else {
            return match any_stranger {
                true => Err(NoPrimary::Strangers { said }),
                false if self.are_several() => Err(NoPrimary::Nobody { said }),
                false => Ok(()),
            };
        };
        if self.last != Some(primary) {
            let place = &self.places[primary];
            if let Some(last) = self.last {
                tracing::info!(primary = %place, before = %self.places[last], "another server takes writes now");
            } else if self.are_several() {
                tracing::info!(primary = %place, "this server takes writes");
            }
            worker.follow(worker.target().at(place));
            self.last = Some(primary);
        }
        Ok(())
    }

    /// Whether another one is to be followed than the one that is.
    pub async fn is_overtaken(&mut self, worker: &Worker) -> bool {
        self.are_several() && self.look(worker).await.0.primary.is_some_and(|primary| Some(primary) != self.last)
    }

    /// Asks all of them side by side, chooses, and tells what each said.
    async fn look(&mut self, worker: &Worker) -> (Choice, String) {
        let target = worker.target();
        let mut looks = JoinSet::new();
        for (number, place) in self.places.iter().enumerate() {
            let target = target.at(place);
            looks.spawn(async move { (number, Seen::look(&target).await) });
        }
        let mut seen = BTreeMap::new();
        let mut failed = BTreeMap::new();
        let mut until = Instant::now() + LOOK_LIMIT;
        while let Ok(Some(Ok((number, answer)))) = timeout_at(until, looks.join_next()).await {
            match answer {
                Ok(answer) => {
                    if self.last == Some(number) && answer.takes_writes {
                        until = until.min(Instant::now() + OTHERS_LIMIT);
                    }
                    seen.insert(number, answer);
                }
                Err(error) => drop(failed.insert(number, chain(&error))),
            }
        }
        let choice = choose(&seen, &worker.identity(), self.last);
        let said = self.places.iter().enumerate().map(|(number, place)| {
            let said = match (choice.strangers.get(&number), seen.get(&number), failed.get(&number)) {
                (Some(stranger), _, _) => stranger.to_string(),
                (None, Some(Seen { takes_writes: true, .. }), _) => "it takes writes".to_owned(),
                (None, Some(_), _) => "it takes no writes".to_owned(),
                (None, None, Some(error)) => error.clone(),
                (None, None, None) => "no answer in time".to_owned(),
            };
            format!("{place}: {said}")
        });
        let said = said.collect::<Vec<_>>().join("; ");
        let by_claim = choice.primary.is_some_and(|primary| seen[&primary].system_identifier.is_none());
        self.tell(&choice, by_claim);
        (choice, said)
    }

    /// Logs what is new of strangers, of primaries that are not followed, and of what the worker's server is known by.
    fn tell(&mut self, choice: &Choice, by_claim: bool) {
        for (number, stranger) in &choice.strangers {
            if self.told.choice.strangers.get(number) != Some(stranger) {
                tracing::error!(server = %self.places[*number], reason = %stranger, "this server is refused");
            }
        }
        if self.told.choice.also_primary != choice.also_primary {
            for number in &choice.also_primary {
                tracing::error!(server = %self.places[*number], "this server takes writes too, and is not followed");
            }
        }
        if by_claim && !self.told.by_claim {
            tracing::warn!(
                "pg_control_system() may not be read: the server is known by the claim in its database alone"
            );
        }
        // Who does not answer now and comes back is no news.
        self.told.choice.strangers.extend(choice.strangers.clone());
        self.told.choice.also_primary.clone_from(&choice.also_primary);
        self.told.by_claim |= by_claim;
    }
}
