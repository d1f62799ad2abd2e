//! The processes of a group's cluster: found as they are now, broken, and brought back.

use super::fault::{Blow, Part, Victim};
use crate::Cluster;
use crate::cluster::WorkerPlace;
use crate::processes::{signal, signal_tree, wait_gone};
use rustix::process::Signal;

/// What was broken, and has to be brought back.
#[derive(Debug, Default)]
pub(super) struct Broken {
    /// Members to be started again.
    dead: Vec<String>,
    /// Processes to be continued.
    stopped: Vec<u32>,
    /// Servers to be continued, with all their processes.
    stopped_servers: Vec<u32>,
}

/// Those that a fault may meet.
#[derive(Debug)]
pub(super) struct Roles {
    pub(super) primary: WorkerPlace,
    pub(super) standbys: Vec<WorkerPlace>,
    /// The coordinator's number.
    pub(super) leader: u16,
}

impl Broken {
    /// Breaks.
    pub(super) async fn strike(cluster: &mut Cluster, roles: &Roles, victim: Victim, blow: Blow) -> Self {
        let mut broken = Self::default();
        let leader = matches!(victim, Victim::Leader | Victim::LeaderAndPrimary).then_some(roles.leader);
        let member = match victim {
            Victim::Primary(part) => Some((&roles.primary, part)),
            Victim::LeaderAndPrimary => Some((&roles.primary, Part::Host)),
            Victim::Standby(part) => Some((&roles.standbys[0], part)),
            Victim::Leader => None,
        };
        let (mut dead, mut pids, mut servers) = (Vec::new(), Vec::new(), Vec::new());
        if let Some((worker, part)) = member {
            if part != Part::Server {
                dead.push(worker.name.clone());
                pids.push(agent(cluster, worker));
            }
            if part != Part::Agent {
                servers.push(cluster.postmaster(worker).expect("it runs"));
            }
        }
        if let Some(number) = leader {
            dead.push(coordinator_name(number));
            pids.push(coordinator(cluster, number));
        }
        match blow {
            Blow::Kill => {
                cluster.kill_together(&pids, &servers).await;
                broken.dead = dead;
            }
            Blow::Stop => {
                pids.iter().for_each(|pid| signal(*pid, Signal::STOP));
                servers.iter().for_each(|pid| signal_tree(*pid, Signal::STOP));
                (broken.stopped, broken.stopped_servers) = (pids, servers);
            }
        }
        broken
    }

    /// Kills members as a whole.
    pub(super) async fn kill_hosts(cluster: &mut Cluster, workers: &[&WorkerPlace]) -> Self {
        let agents: Vec<u32> = workers.iter().map(|worker| agent(cluster, worker)).collect();
        let servers: Vec<u32> = workers.iter().filter_map(|worker| cluster.postmaster(worker)).collect();
        cluster.kill_together(&agents, &servers).await;
        Self { dead: workers.iter().map(|worker| worker.name.clone()).collect(), ..Self::default() }
    }

    /// Starts again what is dead, and continues what is stopped.
    pub(super) fn bring_back(&mut self, cluster: &mut Cluster) {
        for name in self.dead.drain(..) {
            cluster.start_member(&name);
        }
        self.stopped.drain(..).for_each(|pid| signal(pid, Signal::CONT));
        self.stopped_servers.drain(..).for_each(|pid| signal_tree(pid, Signal::CONT));
    }
}

/// The process of a worker's agent, whoever started it.
pub fn agent(cluster: &Cluster, worker: &WorkerPlace) -> u32 {
    cluster.extra_pid(&worker.name).unwrap_or(worker.agent_pid)
}

/// The process of a coordinator, whoever started it.
pub fn coordinator(cluster: &Cluster, number: u16) -> u32 {
    let started = cluster.extra_pid(&coordinator_name(number));
    started.unwrap_or_else(|| cluster.layout().coordinators[usize::from(number) - 1].pid)
}

/// Its name as a member.
pub fn coordinator_name(number: u16) -> String {
    format!("coordinator-{number}")
}

/// Stops a member in an orderly way, whoever started it, and starts it again.
pub async fn restart(cluster: &mut Cluster, name: &str, pid: u32) {
    let is_ours = cluster.extra_pid(name).is_some();
    signal(pid, Signal::TERM);
    if is_ours {
        cluster.wait_ended(name).await;
    } else {
        wait_gone(&[pid]).await;
    }
    cluster.start_member(name);
}
