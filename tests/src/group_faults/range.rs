//! The cluster in which faults are tried, one after the other: a group of three, three coordinators, and everything broken in turn.

use super::clients::{COLLECTION, Clients, namespaces, search_body, sight};
use super::fault::{GroupFault, Victim};
use super::members::{Broken, Roles, coordinator_name};
use super::trial::{Trial, acknowledged, failures, longest_gap};
use super::wires::{End, Wires};
use crate::client::Request;
use crate::faults::Anyone;
use crate::history::{Deed, Least, Operation, Promise, Read, Terms, Violation, check};
use crate::logs::WORKER_LOSS;
use crate::standbys::is_whole;
use crate::{Answer, Client, Cluster, ClusterOptions, CommandLine, poll};
use http::Method;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

pub(super) const WORKERS: u16 = 3;
pub(super) const COORDINATORS: u16 = 3;
/// Successes of each client that prove that it is served.
pub(super) const PROOFS: usize = 30;
/// For another to take over, or for clients to be served.
const OVER_PATIENCE: Duration = Duration::from_secs(30);
/// How long something is broken that nobody takes over for.
const BROKEN_FOR: Duration = Duration::from_secs(6);
/// For everything to be whole again: a member may have to be copied anew.
const WHOLE_PATIENCE: Duration = Duration::from_secs(60);
/// For a coordinator's answer about itself.
const WORD_PATIENCE: Duration = Duration::from_secs(2);
/// Of the trial's sessions, who looks at last.
const LAST_LOOK: u64 = 1_000;

/// What a trial's history is judged by. A coordinator that was stopped may send what its client gave up when it goes on.
const TERMS: Terms = Terms {
    late: Duration::from_secs(15),
    least: Least { upserts: 60, deletes: 8, batches: 12, session_reads: 20, other_reads: 20, seen_at_last: 10 },
};

/// What is said, as it should be, while parts of a group are away.
const EXPECTED: [&str; 13] = [
    "\"target\":\"openraft::",
    "the coordinator cannot be reached",
    r#""code":"shard-unavailable""#,
    r#""code":"write-outcome-unknown""#,
    r#""code":"deadline-exceeded""#,
    r#""code":"no-leader""#,
    r#""code":"not-enough-replicas""#,
    "a statement could not be cancelled in time",
    "a shard's part of a batch was not written",
    "trying again later",
    "some metrics of PostgreSQL are missing",
    "the group's record cannot be followed yet",
    "a group's change could not be recorded; will retry",
];

/// A cluster for faults.
pub struct GroupRange {
    pub(super) cluster: Cluster,
    anyone: Anyone,
    /// Or why none can be cut.
    wires: Result<Wires, String>,
    trials: Vec<(Instant, Vec<Operation>)>,
}

impl GroupRange {
    /// Starts a cluster and waits until its group is whole. With `wires` the primary can be cut off, if this machine lets us.
    pub async fn start(story: &'static str, wires: bool) -> Self {
        let options = ClusterOptions { shards: 4, ..ClusterOptions::new(story) };
        let options = options.workers(WORKERS).replicas(WORKERS).coordinators(COORDINATORS).uncached();
        let mut cluster = Cluster::start(options).await;
        let wires = match wires {
            true => Wires::lay(cluster.first_port(), ends(cluster.first_port())),
            false => Err("nobody asked for wires".to_owned()),
        };
        if let Ok(wires) = &wires {
            cluster.start_in_control_groups(wires.groups());
        }
        let anyone = Anyone::new((1..=COORDINATORS).map(|number| cluster.client_of(number)).collect());
        let range = Self { cluster, anyone, wires, trials: Vec::new() };
        let client = range.cluster.client();
        client.put(&format!("/v1/collections/{COLLECTION}"), &json!({"dimensions": 3})).await.expect(201);
        client.wait_until_active(COLLECTION).await;
        range.wait_whole().await.unwrap_or_else(|waited| panic!("{waited}"));
        range
    }

    /// Why a fault cannot be tried here; nothing if it can.
    pub fn obstacle(&self, fault: GroupFault) -> Option<&str> {
        let wires = self.wires.as_ref().err().map(String::as_str);
        wires.filter(|_| matches!(fault, GroupFault::Cut(_)))
    }

    /// Tries a fault.
    pub async fn run(&mut self, fault: GroupFault) -> Trial {
        if matches!(fault, GroupFault::Cut(_)) && !self.is_wired() {
            self.restart_all().await.unwrap_or_else(|waited| panic!("{waited}"));
        }
        let (number, began) = (self.trials.len() as u32, Instant::now());
        let clients = Clients::begin(&self.anyone, number, began);
        let (mut problems, mut notes) = (Vec::new(), Vec::new());
        problems.extend(clients.wait_for_successes(PROOFS, OVER_PATIENCE).await.err());
        let roles = self.roles().await;
        let struck = began.elapsed();
        if let Err(problem) = self.happen(fault, &roles, &clients).await {
            problems.push(problem);
        }
        let mended = Instant::now();
        let whole = self.wait_whole().await;
        let whole_after = whole.is_ok().then(|| mended.elapsed());
        problems.extend(whole.err());
        problems.extend(clients.wait_for_successes(PROOFS, OVER_PATIENCE).await.err());
        let accounts = clients.end().await;
        let failed = failures(&accounts);
        let repeated: usize = accounts.iter().map(|account| account.repeated).sum();
        notes.extend(
            (repeated > 0)
                .then(|| format!("{repeated} writes in doubt were known to be done when they were sent again")),
        );
        let mut history: Vec<Operation> = accounts.into_iter().flat_map(|account| account.operations).collect();
        let ends = acknowledged(&history);
        match self.look(number, began).await {
            Ok(looks) => history.extend(looks),
            Err(waited) => problems.push(waited),
        }
        let now = self.group().await;
        let violations = check(&history, &TERMS);
        self.trials.push((began, history));
        Trial {
            fault,
            gap: ends.iter().map(|ends| longest_gap(ends.clone(), struck)).max().unwrap_or_default(),
            silence: longest_gap(ends.concat(), struck),
            failed,
            acknowledged: ends.iter().map(Vec::len).sum(),
            whole_after,
            has_failed_over: now.is_ok_and(|group| group["primary"] != roles.primary.name.as_str()),
            violations,
            problems,
            notes,
        }
    }

    /// Looks once more at everything that trials have left: what later trials broke must not have taken it away.
    pub async fn look_again(&mut self) -> Result<Vec<Violation>, String> {
        let mut found = Vec::new();
        for number in 0..self.trials.len() {
            let (began, mut history) = self.trials[number].clone();
            history.extend(self.look(number as u32, began).await?);
            // How much happened was judged already.
            found.extend(check(&history, &Terms { least: Least::default(), ..TERMS }));
        }
        Ok(found)
    }

    /// Ends the cluster in an orderly way.
    pub async fn finish(self) {
        self.cluster.finish(&[&EXPECTED[..], &WORKER_LOSS].concat()).await;
    }

    /// Breaks and mends.
    async fn happen(&mut self, fault: GroupFault, roles: &Roles, clients: &Clients) -> Result<(), String> {
        match fault {
            GroupFault::Break(victim, blow) => {
                let mut broken = Broken::strike(&mut self.cluster, roles, victim, blow).await;
                let over = self.wait_over(fault, roles, clients).await;
                broken.bring_back(&mut self.cluster);
                over
            }
            GroupFault::Cut(cut) => {
                let coordinators: Vec<String> = (1..=COORDINATORS).map(coordinator_name).collect();
                let standbys: Vec<String> = roles.standbys.iter().map(|standby| standby.name.clone()).collect();
                let wires = self.wires.as_ref().map_err(Clone::clone)?;
                wires.cut(&roles.primary.name, &coordinators, &standbys, cut);
                let over = self.wait_over(fault, roles, clients).await;
                wires.mend();
                over
            }
            GroupFault::Unacknowledged => {
                let [one, other] = roles.standbys.as_slice() else {
                    return Err("there are not two standbys".to_owned());
                };
                let mut standbys = Broken::kill_hosts(&mut self.cluster, &[one, other]).await;
                let waits = self.wait_for_a_waiting_write(&roles.primary).await;
                let mut primary = Broken::kill_hosts(&mut self.cluster, &[&roles.primary]).await;
                standbys.bring_back(&mut self.cluster);
                let over = self.wait_over(fault, roles, clients).await;
                let before = self.repairs(&roles.primary.name);
                primary.bring_back(&mut self.cluster);
                waits.and(over)?;
                self.wait_for_a_repair(&roles.primary.name, before).await
            }
            GroupFault::RollingRestart => self.restart_all().await,
        }
    }

    /// Waits until another has taken over where that is needed, and clients are served; else for a while.
    async fn wait_over(&self, fault: GroupFault, roles: &Roles, clients: &Clients) -> Result<(), String> {
        let leads_anew = matches!(fault, GroupFault::Break(Victim::Leader | Victim::LeaderAndPrimary, _));
        if leads_anew {
            let path = "/v1/admin/cluster";
            let old = self.cluster.layout().coordinators[usize::from(roles.leader) - 1].id;
            poll::within("another leader", OVER_PATIENCE, async || {
                let told = self.ask(path).await?;
                if told["leader"].as_u64().is_some_and(|leader| leader != old) { Ok(()) } else { Err(told.to_string()) }
            })
            .await?;
        }
        let primary = &roles.primary.name;
        let another = async || {
            let group = self.group().await?;
            let is_over = group["primary"] != primary.as_str() && group["phase"] == "steady";
            if is_over { Ok(()) } else { Err(group.to_string()) }
        };
        if fault.needs_failover() {
            poll::within("another primary", OVER_PATIENCE, another).await?;
        } else if !leads_anew {
            // As long as it takes for others to notice, or to take over after all.
            let _ = poll::within("another primary", BROKEN_FOR, another).await;
        }
        clients.wait_for_successes(PROOFS, OVER_PATIENCE).await
    }

    /// Looks at all entries of a trial, when everything is whole.
    async fn look(&self, trial: u32, began: Instant) -> Result<Vec<Operation>, String> {
        let mut looks = Vec::new();
        for namespace in namespaces(trial) {
            let path = format!("/v1/collections/{COLLECTION}/search");
            let body = search_body(&namespace, "primary");
            let look = poll::within("a last look", OVER_PATIENCE, async || {
                let invoked = began.elapsed();
                let answer = self.anyone.try_send(|client| client.request(Method::POST, &path).json(&body)).await?;
                if answer.status == 200 { Ok((invoked, answer.json())) } else { Err(answer.text()) }
            });
            let (invoked, answer) = look.await?;
            let deed = Deed::Read(Read { promise: Promise::Everything, seen: sight(&namespace, &answer) });
            looks.push(Operation { session: LAST_LOOK, invoked, ended: began.elapsed(), deed });
        }
        Ok(looks)
    }

    async fn roles(&self) -> Roles {
        let group = self.group().await.unwrap_or_else(|told| panic!("no group: {told}"));
        let (primary, standbys): (Vec<_>, Vec<_>) =
            self.cluster.layout().workers.into_iter().partition(|worker| group["primary"] == worker.name.as_str());
        let primary = primary.into_iter().next().expect("a group has a primary");
        Roles { primary, standbys, leader: self.cluster.leader().await }
    }

    pub(super) async fn group(&self) -> Result<Value, String> {
        Ok(self.ask("/v1/admin/groups").await?["groups"][0].clone())
    }

    async fn ask(&self, path: &str) -> Result<Value, String> {
        let answer = self.send(|client| client.request(Method::GET, path)).await?;
        if answer.status == 200 { Ok(answer.json()) } else { Err(answer.text()) }
    }

    pub(super) async fn send(&self, make: impl Fn(&Client) -> Request<'_>) -> Result<Answer, String> {
        self.anyone.try_send_within(WORD_PATIENCE, make).await
    }

    /// Waits until every coordinator is ready and says that all members are up and in sync, and the command line says so too.
    pub(super) async fn wait_whole(&self) -> Result<(), String> {
        poll::within("the group to be whole", WHOLE_PATIENCE, async || {
            for number in 1..=COORDINATORS {
                let client = self.cluster.client_of(number);
                for path in ["/readyz", "/v1/admin/groups"] {
                    let asked = client.request(Method::GET, path).try_send();
                    let answer = tokio::time::timeout(WORD_PATIENCE, asked).await.map_err(|_| "silent".to_owned());
                    let answer = answer.flatten().map_err(|told| format!("coordinator {number}: {told}"))?;
                    if answer.status != 200 || (path != "/readyz" && !is_whole(&answer.json()["groups"][0], WORKERS)) {
                        return Err(format!("coordinator {number}: {}", answer.text()));
                    }
                }
            }
            Ok(())
        })
        .await?;
        let run = CommandLine::new(self.cluster.client().base()).run(&["group", "list", "--json"]).await;
        if run.code == 0 && is_whole(&run.json()["groups"][0], WORKERS) {
            Ok(())
        } else {
            Err(format!("group list: {} {}", run.out, run.err))
        }
    }

    fn is_wired(&self) -> bool {
        let coordinators = (1..=COORDINATORS).map(coordinator_name);
        let workers = self.cluster.layout().workers.into_iter().map(|worker| worker.name);
        self.wires.is_err() || coordinators.chain(workers).all(|name| self.cluster.extra_pid(&name).is_some())
    }
}

/// Where members listen for others: as `atoll dev` spreads them.
fn ends(first_port: u16) -> Vec<End> {
    let coordinators = (0..COORDINATORS)
        .map(|number| End { name: coordinator_name(number + 1), ports: vec![first_port + 50 + number] });
    let workers = (0..WORKERS).map(|number| End {
        name: format!("w{}", number + 1),
        ports: vec![first_port + 100 + number, first_port + 200 + number],
    });
    coordinators.chain(workers).collect()
}
