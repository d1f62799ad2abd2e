//! Brings the cluster up: starts its processes, waits until every coordinator is ready, and says what is waited for.

use super::Cluster;
use super::cluster_file::ClusterFile;
use super::member::Member;
use super::supervisor::Supervisor;
use super::topology::{coordinator_name, worker_name};
use crate::cli::{Client, CommandError};
use atoll::raft::{Alive, HEALTH_PATH};
use atoll_proto::admin::Readiness;
use atoll_proto::agent::{AgentStatus, STATUS_PATH};
use atoll_proto::collection::{CollectionList, CollectionState};
use atoll_proto::{CoordinatorId, WorkerId};
use http::StatusCode;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

/// How long the whole may take; making the data directories of many workers on a busy machine takes minutes.
const PATIENCE: Duration = Duration::from_secs(300);
/// How long one question may take.
const ANSWER_PATIENCE: Duration = Duration::from_secs(3);
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// A process that dies this often before the cluster is ready won't recover.
const DEATHS_MAX: u32 = 5;

/// Starts everything and waits. Gives what is then known of it.
pub(super) async fn bring_up(cluster: &Cluster, supervisor: &mut Supervisor) -> Result<ClusterFile, CommandError> {
    let deadline = Instant::now() + PATIENCE;
    let clients: Vec<Client> = cluster
        .topology
        .coordinators()
        .map(|number| {
            let client = Client::trusting(&cluster.topology.client_url(number), None, &cluster.topology.trusted())?;
            client.with_key(cluster.key.clone())
        })
        .collect::<Result<_, _>>()?;
    let (first, others) = clients.split_first().expect("a cluster has at least one coordinator");

    supervisor.start(cluster.coordinator(1));
    for number in cluster.topology.workers() {
        supervisor.start(cluster.agent(number));
    }
    let mut wait = Wait { cluster, supervisor, deadline, deaths: BTreeMap::new(), told: String::new() };
    if !others.is_empty() {
        // The others join the first one, so it must be there; an earlier start would only fill their logs.
        wait.until(async || match ask(first.get_any("/healthz")).await {
            Some(answer) if answer.status.is_success() => Ok(()),
            Some(_) | None => Err("coordinator-1: no answer yet".to_owned()),
        })
        .await?;
        for number in cluster.topology.coordinators().skip(1) {
            wait.supervisor.start(cluster.coordinator(number));
        }
    }
    wait.until(async || {
        let mut waiting: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (number, client) in (1..).zip(&clients) {
            if let Some(reason) = unready(client).await {
                waiting.entry(reason).or_default().push(coordinator_name(number));
            }
        }
        if waiting.is_empty() { Ok(()) } else { Err(in_words(&waiting, clients.len())) }
    })
    .await?;
    let coordinators = wait.until(async || coordinator_ids(cluster).await).await?;
    let workers = wait.until(async || worker_ids(cluster).await).await?;
    let password = cluster.folder.secret(&cluster.folder.postgres_password())?;
    let mut file = ClusterFile::new(&cluster.folder, &cluster.topology, &password, &coordinators, &workers);
    loop {
        file.refresh(wait.supervisor);
        if file.is_complete() {
            break;
        }
        wait.pause("the process ids of all servers").await?;
    }
    file.write(&cluster.folder)?;
    Ok(file)
}

/// Patience with a cluster that is starting: shared by all that is waited for.
struct Wait<'a> {
    cluster: &'a Cluster,
    supervisor: &'a mut Supervisor,
    deadline: Instant,
    deaths: BTreeMap<String, u32>,
    told: String,
}

impl Wait<'_> {
    /// Looks until there is a result.
    async fn until<T>(&mut self, mut look: impl AsyncFnMut() -> Result<T, String>) -> Result<T, CommandError> {
        loop {
            match look().await {
                Ok(found) => return Ok(found),
                Err(missing) => self.pause(&missing).await?,
            }
        }
    }

    /// Waits a moment, unless it has lasted too long or a process won't live.
    async fn pause(&mut self, missing: &str) -> Result<(), CommandError> {
        if self.told != missing {
            eprintln!("waiting: {missing}");
            self.told = missing.to_owned();
        }
        if Instant::now() >= self.deadline {
            return Err(CommandError::Failed(format!(
                "the cluster is not ready after {} s, still waiting: {missing}; see the logs in {}",
                PATIENCE.as_secs(),
                self.cluster.folder.logs().display()
            )));
        }
        tokio::select! {
            died = self.supervisor.death() => {
                super::tell(&died);
                let times = self.deaths.entry(died.name.clone()).or_default();
                *times += 1;
                if died.again_in.is_none() || *times >= DEATHS_MAX {
                    return Err(self.hopeless(&died.name));
                }
            }
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        Ok(())
    }

    fn hopeless(&self, name: &str) -> CommandError {
        let coordinators = self.cluster.topology.coordinators().map(|number| self.cluster.coordinator(number));
        let agents = self.cluster.topology.workers().map(|number| self.cluster.agent(number));
        match coordinators.chain(agents).find(|member| member.name == name) {
            Some(member) => CommandError::Failed(format!(
                "{name} does not stay up; the end of its log ({}):{}",
                member.log().display(),
                Member::last_words(&member)
            )),
            None => CommandError::Failed(format!("{name} does not stay up")),
        }
    }
}

/// Reasons with those who give them; a reason that all give stands alone.
fn in_words(waiting: &BTreeMap<String, Vec<String>>, coordinators: usize) -> String {
    let parts = waiting.iter().map(|(reason, names)| {
        if names.len() == coordinators { reason.clone() } else { format!("{}: {reason}", names.join(", ")) }
    });
    parts.collect::<Vec<_>>().join("; ")
}

/// An answer in time, or none.
async fn ask<T>(question: impl Future<Output = Result<T, CommandError>>) -> Option<T> {
    tokio::time::timeout(ANSWER_PATIENCE, question).await.ok()?.ok()
}

/// What a coordinator still lacks; none if it is ready.
async fn unready(client: &Client) -> Option<String> {
    let Some(answer) = ask(client.get_any("/readyz")).await else {
        return Some("no answer yet".to_owned());
    };
    if answer.status.is_success() {
        return being_made(client).await;
    }
    match answer.parse::<Readiness>() {
        Ok(readiness) if !readiness.reasons.is_empty() => Some(readiness.reasons.join(", ")),
        Ok(_) | Err(_) => Some("not ready yet".to_owned()),
    }
}

/// Collections that have no tables yet; none if all have. A cluster is ready without them, but who starts one means to use it.
async fn being_made(client: &Client) -> Option<String> {
    let asked = ask(client.get_any("/v1/collections")).await;
    if asked.as_ref().is_some_and(|answer| answer.status == StatusCode::UNAUTHORIZED) {
        // An earlier run left keys, and we were given none that is valid. The cluster runs all the same.
        return None;
    }
    let list = asked.and_then(|answer| answer.parse::<CollectionList>().ok());
    let Some(CollectionList { collections }) = list else {
        return Some("no answer yet".to_owned());
    };
    let creating = collections.iter().filter(|collection| collection.state == CollectionState::Creating);
    let names: Vec<String> =
        creating.map(|collection| format!("collection {} is being made", collection.name)).collect();
    (!names.is_empty()).then(|| names.join(", "))
}

/// By the cluster secret, as those of workers: no API key is needed.
async fn coordinator_ids(cluster: &Cluster) -> Result<Vec<CoordinatorId>, String> {
    let secret = cluster.folder.secret(&cluster.folder.cluster_secret()).map_err(|error| error.to_string())?;
    let mut ids = Vec::new();
    for number in cluster.topology.coordinators() {
        let (url, trusted) = (cluster.topology.internal_url(number), cluster.topology.trusted());
        let alive = ask(async {
            Client::trusting(&url, None, &trusted)?.with_bearer(&secret)?.get(HEALTH_PATH).await?.parse::<Alive>()
        });
        ids.push(alive.await.ok_or_else(|| format!("the id of {}", coordinator_name(number)))?.id);
    }
    Ok(ids)
}

async fn worker_ids(cluster: &Cluster) -> Result<Vec<WorkerId>, String> {
    let secret = cluster.folder.secret(&cluster.folder.cluster_secret()).map_err(|error| error.to_string())?;
    let mut ids = Vec::new();
    for number in cluster.topology.workers() {
        let (url, trusted) = (cluster.topology.agent_url(number), cluster.topology.trusted());
        let status = ask(async {
            Client::trusting(&url, None, &trusted)?.with_bearer(&secret)?.get(STATUS_PATH).await?.parse::<AgentStatus>()
        });
        let id = status.await.and_then(|status| status.worker);
        ids.push(id.ok_or_else(|| format!("the id of {}", worker_name(number)))?);
    }
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_all_wait_for_is_said_once() {
        let mut waiting = BTreeMap::from([("no leader".to_owned(), vec!["a".to_owned(), "b".to_owned()])]);
        assert_eq!(in_words(&waiting, 2), "no leader");
        waiting.insert("no answer yet".to_owned(), vec!["c".to_owned()]);
        assert_eq!(in_words(&waiting, 3), "c: no answer yet; a, b: no leader");
    }
}
