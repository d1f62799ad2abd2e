//! The cluster in which cells are tried, one after the other: a shard with a few thousand rows moves from group to group.

use super::anyone::Anyone;
use super::cell::{Cell, Deed, Fault, Moment, Victim};
use super::ledger::Ledger;
use super::once::{Held, Once};
use super::slow_copy::SlowCopy;
use super::traffic::{self, Clients, Seen};
use crate::cluster::WorkerPlace;
use crate::logs::WORKER_LOSS;
use crate::moves::{GRAPH_SENT_AWAY, wait_nothing_left};
use crate::processes::{self, signal, signal_tree};
use crate::wordnet::{self, Sample};
use crate::{Cluster, ClusterOptions, poll, sql};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

const ENTRIES: usize = 2_500;
const NAMESPACE: &str = "moving";
/// Long enough for a fault to hit a fence that is held.
const MAX_WRITE_PAUSE_MS: u32 = 3_000;
const STOPPED_FOR: Duration = Duration::from_secs(8);
const STEP_PATIENCE: Duration = Duration::from_secs(60);
const END_PATIENCE: Duration = Duration::from_secs(240);
const BACK_PATIENCE: Duration = Duration::from_secs(90);
/// Requests that have to succeed before a move, and after it.
const PROOFS: usize = 10;

/// What is said, as it should be, while parts of a cluster are away.
const EXPECTED: [&str; 11] = [
    "\"target\":\"openraft::",
    "the coordinator cannot be reached",
    GRAPH_SENT_AWAY,
    "a step of a move could not be recorded",
    "not registered",
    r#""code":"shard-unavailable""#,
    r#""code":"write-outcome-unknown""#,
    r#""code":"deadline-exceeded""#,
    r#""code":"write-fenced""#,
    "a shard's part of a batch was not written",
    ", trying again later",
];

/// A cluster for cells.
pub struct Range {
    cluster: Cluster,
    anyone: Anyone,
    entries: Vec<Sample>,
    ledger: Ledger,
    once: Once,
}

/// What became of a cell.
pub struct Told {
    ended: Value,
    seen: Seen,
    took: Duration,
}

impl Range {
    /// Starts a cluster and fills one shard.
    pub async fn start(story: &'static str) -> Self {
        let options = ClusterOptions::new(story).coordinators(3).uncached().restarting();
        let cluster = Cluster::start(options).await;
        let anyone = Anyone::new((1..=3).map(|number| cluster.client_of(number)).collect());
        let client = cluster.client();
        client.wait_until_active("memory_entries").await;
        let into_one = |entry| Sample { namespace: NAMESPACE.to_owned(), ..entry };
        let entries: Vec<Sample> = wordnet::sample().into_iter().take(ENTRIES).map(into_one).collect();
        assert_eq!(client.import("memory_entries", wordnet::ndjson(&entries)).await["written"], ENTRIES);
        Self { cluster, anyone, entries, ledger: Ledger::default(), once: Once::default() }
    }

    /// Tries a cell. Panics where something is not as it should be.
    pub async fn run(&mut self, cell: Cell) -> Told {
        let began = Instant::now();
        let (shard, schema, source, target) = self.places().await;
        let clients = self.clients();
        clients.wait_for_successes(PROOFS).await;

        let early = (cell.moment == Moment::Cancelling).then_some(Moment::CatchingUp.step());
        let step = early.unwrap_or(cell.moment.step());
        self.hold(step);
        let body = json!({"shard": shard, "to": target.group, "max_write_pause_ms": MAX_WRITE_PAUSE_MS});
        let id = self.anyone.post("/v1/admin/moves", &body).await.expect(200).json()["id"].clone();
        let slow = self.reach(cell, step, &target, &schema, &id).await;
        self.happen(cell, &source, &target, &schema, &id, slow.as_ref()).await;
        let ended = self.wait_over(&id).await;
        self.wait_all_back(&id, &ended["phase"]).await;
        clients.wait_for_successes(PROOFS).await;
        let (seen, ledger, once) = clients.end().await;
        (self.ledger, self.once) = (ledger, once);
        if let Some(slow) = slow {
            slow.end().await;
        }
        judge(cell, &ended, &seen);
        self.look_over(ended["phase"] == "done", &source, &target).await;
        Told { ended, seen, took: began.elapsed() }
    }

    /// Sets clients to work.
    fn clients(&mut self) -> Clients {
        let (wanted, other) = (&self.entries[11], &self.entries[3].vector);
        let (ledger, once) = (std::mem::take(&mut self.ledger), std::mem::take(&mut self.once));
        let searched = (wanted.key.clone(), wanted.vector.clone());
        Clients {
            writer: traffic::write(self.anyone.clone(), NAMESPACE, other.clone(), ledger),
            once: traffic::write_once(self.anyone.alone(), NAMESPACE, other.clone(), once),
            searcher: traffic::search(self.anyone.clone(), NAMESPACE, searched.0, searched.1),
        }
    }

    /// Ends the cluster in an orderly way.
    pub async fn finish(self) {
        self.cluster.finish(&[&EXPECTED[..], &WORKER_LOSS].concat()).await;
    }

    /// The shard, its schema, the worker that has it and one that shall have it.
    async fn places(&self) -> (Value, String, WorkerPlace, WorkerPlace) {
        let path = format!("/v1/collections/memory_entries/namespaces/{NAMESPACE}");
        let shard = self.anyone.get(&path).await["shard"].clone();
        let shards = self.anyone.get("/v1/admin/shards").await;
        let place = shards["shards"].as_array().into_iter().flatten().find(|one| one["shard"] == shard);
        let place = place.expect("every shard is listed");
        let workers = self.cluster.layout().workers;
        let at = workers.iter().position(|worker| place["group"] == worker.group.as_str());
        let at = at.expect("every group has a worker");
        let schema = place["schema"].as_str().expect("a shard has a schema").to_owned();
        (shard, schema, workers[at].clone(), workers[(at + 1) % workers.len()].clone())
    }

    fn hold(&self, step: &str) {
        let _ = std::fs::remove_file(self.reached(step));
        std::fs::write(self.cluster.pauses().join(step), "").expect("the folder is ours");
    }

    fn let_go(&self, step: &str) {
        let _ = std::fs::remove_file(self.cluster.pauses().join(step));
    }

    fn reached(&self, step: &str) -> std::path::PathBuf {
        self.cluster.pauses().join(format!("{step}.reached"))
    }

    async fn wait_reached(&self, step: &str, id: &Value) {
        let deadline = Instant::now() + STEP_PATIENCE;
        // Often: under a fence there is no time to lose.
        while !self.reached(step).exists() {
            if Instant::now() >= deadline {
                panic!("{step} was not reached: {}", self.anyone.get(&format!("/v1/admin/moves/{id}")).await);
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Waits until the move is in the moment; in that of the copy with the copy made slow.
    async fn reach(&self, cell: Cell, step: &str, target: &WorkerPlace, schema: &str, id: &Value) -> Option<SlowCopy> {
        self.wait_reached(step, id).await;
        match cell.moment {
            Moment::Copying => {
                let slow = SlowCopy::begin(target, schema, self.cluster.pauses().join("slow")).await;
                self.let_go(step);
                slow.wait_for_the_middle().await;
                Some(slow)
            }
            Moment::Cancelling => {
                self.hold(cell.moment.step());
                self.anyone.post(&format!("/v1/admin/moves/{id}/cancel"), &json!({})).await.expect(200);
                self.let_go(step);
                self.wait_reached(cell.moment.step(), id).await;
                None
            }
            Moment::Preparing
            | Moment::Indexing
            | Moment::CatchingUp
            | Moment::Verifying
            | Moment::Locked
            | Moment::Retiring
            | Moment::Retired
            | Moment::TakenOver
            | Moment::BeforeSwitch
            | Moment::Switched
            | Moment::Cleaning => None,
        }
    }

    /// Does the deed, and lets the step go on in what it left.
    async fn happen(
        &mut self,
        cell: Cell,
        source: &WorkerPlace,
        target: &WorkerPlace,
        schema: &str,
        id: &Value,
        slow: Option<&SlowCopy>,
    ) {
        let go_on = |range: &Self| {
            range.let_go(cell.moment.step());
            if let Some(slow) = slow {
                slow.let_go();
            }
        };
        let (victim, fault) = match cell.deed {
            Deed::Cancel => {
                let answer = self.anyone.post(&format!("/v1/admin/moves/{id}/cancel"), &json!({})).await;
                go_on(self);
                let _ = answer.expect(if cell.moment.is_past_switch() { 422 } else { 200 });
                return;
            }
            Deed::Meddle => {
                let altered = format!(
                    "update {schema}.memory_entries set value = value || '?' where key = '{}' returning key",
                    self.entries[5].key
                );
                assert_eq!(sql::rows(&target.owner_dsn(), &altered).await.len(), 1);
                return go_on(self);
            }
            Deed::Break(victim, fault) => (victim, fault),
        };
        let (pid, is_server) = match victim {
            Victim::Leader => {
                (self.cluster.layout().coordinators[usize::from(self.cluster.leader().await) - 1].pid, false)
            }
            Victim::SourcePostgres => (self.cluster.postmaster(source).expect("it runs"), true),
            Victim::TargetPostgres => (self.cluster.postmaster(target).expect("it runs"), true),
            Victim::SourceAgent => (self.agent(source), false),
            Victim::TargetAgent => (self.agent(target), false),
        };
        let send = |what| if is_server { signal_tree(pid, what) } else { signal(pid, what) };
        match fault {
            Fault::Kill if is_server => {
                let killed = processes::kill_tree(pid);
                go_on(self);
                processes::wait_gone(&killed).await;
            }
            Fault::Kill => {
                signal(pid, Signal::KILL);
                go_on(self);
                processes::wait_gone(&[pid]).await;
            }
            Fault::Stop => {
                send(Signal::STOP);
                go_on(self);
                tokio::time::sleep(STOPPED_FOR).await;
                send(Signal::CONT);
            }
        }
    }

    /// The process of a worker's agent, as it is now.
    fn agent(&self, worker: &WorkerPlace) -> u32 {
        let workers = self.cluster.layout().workers;
        workers.iter().find(|one| one.name == worker.name).expect("workers stay").agent_pid
    }

    async fn wait_over(&self, id: &Value) -> Value {
        let path = format!("/v1/admin/moves/{id}");
        poll::until("the move to be over", END_PATIENCE, async || {
            let told = self.anyone.get(&path).await;
            let over = ["done", "cancelled", "failed"].iter().any(|phase| told["phase"] == **phase);
            if over { Ok(told) } else { Err(told.to_string()) }
        })
        .await
    }

    /// Waits until all that was broken runs again, a file says as what, and every coordinator knows how the move ended.
    async fn wait_all_back(&self, id: &Value, phase: &Value) {
        poll::until("everything to be back", BACK_PATIENCE, async || {
            let layout = self.cluster.layout();
            let agents = layout.workers.iter().map(|worker| worker.agent_pid);
            let coordinators = layout.coordinators.iter().map(|coordinator| coordinator.pid);
            if let Some(pid) = agents.chain(coordinators).find(|pid| !processes::runs(*pid)) {
                return Err(format!("{pid} does not run"));
            }
            if let Some(worker) = layout.workers.iter().find(|worker| self.cluster.postmaster(worker).is_none()) {
                return Err(format!("PostgreSQL of {} does not run", worker.name));
            }
            for number in 1..=3 {
                let client = self.cluster.client_of(number);
                for path in ["/readyz".to_owned(), "/v1/admin/workers".to_owned(), format!("/v1/admin/moves/{id}")] {
                    let answer = client.request(http::Method::GET, &path).try_send().await?;
                    let is_down = path.ends_with("workers") && answer.text().contains(r#""up":false"#);
                    let is_late = path.contains("moves") && answer.json()["phase"] != *phase;
                    if answer.status != 200 || is_down || is_late {
                        return Err(format!("coordinator {number}: {}", answer.text()));
                    }
                }
            }
            Ok(())
        })
        .await;
    }

    /// Looks whether everything is there, once, and nothing else.
    async fn look_over(&self, moved: bool, source: &WorkerPlace, target: &WorkerPlace) {
        let (shard, schema, owner, _) = self.places().await;
        let wanted = if moved { target } else { source };
        assert_eq!(owner.group, wanted.group, "shard {shard}");
        let client = self.cluster.client();
        let exported = client.export("memory_entries", Some(NAMESPACE)).await;
        let mut found: BTreeMap<&str, &str> = BTreeMap::new();
        for entry in &exported {
            let (key, value) = (entry["key"].as_str(), entry["value"].as_str());
            let doubled = found.insert(key.expect("an entry has a key"), value.expect("these have a value"));
            assert!(doubled.is_none(), "doubled: {entry}");
        }
        for entry in &self.entries {
            assert_eq!(found.remove(entry.key.as_str()), Some(entry.value.as_str()), "{}", entry.key);
        }
        let number = |value: &str| value.parse().expect("the writers write numbers");
        let numbers = found.iter().map(|(key, value)| ((*key).to_owned(), number(value)));
        let (once, written): (BTreeMap<String, u64>, BTreeMap<String, u64>) =
            numbers.partition(|(key, _)| Once::owns(key));
        let mut differences = self.ledger.differences(&written);
        let mut held = BTreeMap::new();
        for (key, content) in once {
            let path = format!("/v1/collections/memory_entries/namespaces/{NAMESPACE}/entries/{key}");
            let version = client.get(&path).await.expect(200).json()["version"].as_i64();
            held.insert(key, Held { content, version: version.expect("an entry has a version") });
        }
        differences.extend(self.once.differences(&held));
        assert!(differences.is_empty(), "{differences:?}");

        let table = format!("{schema}.memory_entries");
        let namespace = format!("where namespace = '{NAMESPACE}'");
        let counts = format!(
            "set enable_indexscan = off; set enable_indexonlyscan = off; set enable_bitmapscan = off;
             select count(*) from {table} {namespace};
             select count(distinct key) from {table} {namespace};
             reset enable_indexscan; reset enable_indexonlyscan; reset enable_bitmapscan; set enable_seqscan = off;
             select count(*) from {table} {namespace}"
        );
        let counts = sql::rows(&owner.owner_dsn(), &counts).await;
        assert_eq!(counts, vec![exported.len().to_string(); 3], "rows by scan, keys, rows by index");

        wait_nothing_left(&self.cluster, &client).await;
        poll::until("no finding about moves", BACK_PATIENCE, async || {
            let findings = self.anyone.get("/v1/admin/findings").await;
            let all = findings["findings"].as_array().into_iter().flatten();
            let left = all.filter(|one| one["subject"].as_str().is_some_and(|subject| subject.starts_with("move ")));
            match left.map(Value::to_string).collect::<Vec<_>>() {
                none if none.is_empty() => Ok(()),
                some => Err(some.join(" ")),
            }
        })
        .await;
    }
}

/// Panics where the protocol promises something else.
fn judge(cell: Cell, ended: &Value, seen: &Seen) {
    let end = cell.end();
    assert!(end.is_told_by(ended), "it has to end as {end:?}: {ended}");
    let wrong = [&seen.writes.wrong, &seen.once.wrong, &seen.searches.wrong].map(|wrong| wrong.iter().take(5));
    let wrong: Vec<&String> = wrong.into_iter().flatten().collect();
    assert!(wrong.is_empty(), "wrong answers: {wrong:?}");
    if let Some(most) = cell.witnesses().failures_max() {
        assert!(
            seen.writes.failed <= most && seen.searches.failed <= most,
            "more than {most} of a client failed: {seen}"
        );
    }
    let most = cell.longest_gaps();
    assert!(
        seen.writes.longest_gap <= most.writes && seen.searches.longest_gap <= most.searches,
        "longer gaps than {most:?}: {seen}"
    );
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ended, seen, took } = self;
        write!(
            f,
            "{:<10} pause {:>5} ms, attempts {}, {seen}, {:.1} s",
            ended["phase"].as_str().unwrap_or_default(),
            ended["write_pause_ms"].to_string(),
            ended["attempts"],
            took.as_secs_f32()
        )?;
        match ended["error"].as_str() {
            Some(error) => write!(f, ": {error}"),
            None => Ok(()),
        }
    }
}
