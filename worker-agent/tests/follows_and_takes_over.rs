//! Three real servers as a group, with the story as their catalog: two follow the first, which is killed with its agent; the more
//! advanced takes over with all that was acknowledged; the old one comes back, gives up what only it had, and follows.
#![allow(clippy::unwrap_used)]

mod support;

use atoll_proto::agent::PostgresAddress;
use atoll_proto::group::{Disk, GROUP_PATH, GroupRecord, Phase, Report, Server, ToldGroup};
use atoll_proto::{CatalogVersion, Generation, WorkerId};
use rustix::process::Signal;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use support::{CLUSTER, Place, SECRET, collection, desired, request, signal};

const DEADLINE: Duration = Duration::from_secs(60);
const INSERT: &str = "insert into s0001_g1.memories (namespace, key, embedding, version, created_at, updated_at)
    values ('n', $1, '[1,2,3]', 1, now(), now())";

/// What the catalog would be: the record, sent to all again and again, and what they answered last.
#[derive(Clone)]
struct Catalog {
    record: Arc<Mutex<GroupRecord>>,
    reports: Arc<Mutex<BTreeMap<WorkerId, Report>>>,
}

impl Catalog {
    fn start(record: GroupRecord, places: &BTreeMap<WorkerId, Place>) -> Self {
        let this = Self { record: Arc::new(Mutex::new(record)), reports: Arc::default() };
        let address = |place: &Place| PostgresAddress {
            host: "127.0.0.1".to_owned(),
            port: place.postgres_port,
            database: "atoll".to_owned(),
        };
        let servers: BTreeMap<_, _> = places.iter().map(|(worker, place)| (*worker, address(place))).collect();
        for (worker, place) in places {
            let (this, servers, worker) = (this.clone(), servers.clone(), *worker);
            let url = format!("http://127.0.0.1:{}{GROUP_PATH}", place.agent_port);
            tokio::spawn(async move {
                loop {
                    let record = this.record.lock().unwrap().clone();
                    let (cluster_id, servers) = (CLUSTER.to_owned(), servers.clone());
                    let told = ToldGroup { cluster_id, worker, record, servers, confirmed: true };
                    let body = serde_json::to_vec(&told).unwrap();
                    match request::send("PUT", &url, Some(SECRET), Some(body)).await {
                        Some((200, body)) => {
                            this.reports.lock().unwrap().insert(worker, serde_json::from_slice(&body).unwrap());
                        }
                        Some(_) | None => {
                            this.reports.lock().unwrap().remove(&worker);
                        }
                    }
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            });
        }
        this
    }

    fn change(&self, change: impl FnOnce(&mut GroupRecord)) -> CatalogVersion {
        let mut record = self.record.lock().unwrap();
        change(&mut record);
        record.changed_at = CatalogVersion(record.changed_at.0 + 1);
        record.changed_at
    }

    async fn until<T>(&self, what: &str, look: impl Fn(&BTreeMap<WorkerId, Report>) -> Option<T>) -> T {
        let begun = Instant::now();
        while begun.elapsed() < DEADLINE {
            let found = look(&self.reports.lock().unwrap());
            if let Some(found) = found {
                println!("{what}: after {} ms", begun.elapsed().as_millis());
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("not seen: {what}\n{:#?}", self.reports.lock().unwrap());
    }

    /// Waits until these workers follow that one.
    async fn until_follow(&self, workers: &[WorkerId], primary: WorkerId) -> BTreeSet<Disk> {
        let follows = |report: &&Report| report.server == Server::Following { worker: primary };
        self.until(&format!("{workers:?} follow {primary}"), |reports| {
            let all = workers.iter().map(|worker| reports.get(worker).filter(follows).map(|report| report.disk));
            all.collect()
        })
        .await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_takes_over_and_the_old_primary_follows_it() {
    let [first, second, third] = [11, 12, 13].map(WorkerId);
    let (mut places, mut agents) = (BTreeMap::new(), BTreeMap::new());
    for worker in [first, second, third] {
        let place = Place::new(&format!("group{worker}")).await;
        place.coordinator.set_worker(worker);
        place.coordinator.set_desired(desired(2, vec![collection(5, "memories")], Vec::new()));
        agents.insert(worker, place.start());
        places.insert(worker, place);
    }
    for (worker, place) in &places {
        place.until_applied(&agents[worker], 2).await;
    }

    // The group is founded with the disk that the first one names.
    let url = format!("{}{GROUP_PATH}", agents[&first].url);
    let (code, body) = request::send("GET", &url, Some(SECRET), None).await.unwrap();
    assert_eq!(code, 200, "{}", String::from_utf8_lossy(&body));
    let founder: Report = serde_json::from_slice(&body).unwrap();
    assert_eq!((founder.generation, founder.server), (Generation(0), Server::Primary));
    let workers = places.keys().copied().collect();
    let catalog = Catalog::start(GroupRecord::founded(founder.disk, workers, 2, CatalogVersion(10)), &places);
    let logs = Logs::of(&places);
    let standbys = catalog.until_follow(&[second, third], first).await;

    // They are let in, and from then on each write is on one of them.
    let at = catalog.change(|record| {
        record.voters.extend(&standbys);
        record.listed.extend(&standbys);
    });
    let both_caught_up = |reports: &BTreeMap<WorkerId, Report>| {
        let report = reports.get(&first)?;
        (report.listed_at == Some(at) && report.caught_up == standbys).then_some(())
    };
    catalog.until("both have caught up", both_caught_up).await;
    let client = places[&first].connect().await;
    for row in 0..20 {
        client.execute(INSERT, &[&format!("acknowledged {row}")]).await.unwrap();
    }

    // What only the first one has: nobody receives it any more.
    let owner = places[&first].owner().connect(Duration::from_secs(5)).await.unwrap();
    let senders = owner.query("look", "select pid from pg_stat_replication", &[]).await.unwrap();
    let senders: Vec<u32> = senders.iter().map(|row| row.get::<_, i32>(0).try_into().unwrap()).collect();
    assert_eq!(senders.len(), 2);
    senders.iter().for_each(|pid| signal(*pid, Signal::STOP));
    client.batch_execute("set synchronous_commit = local").await.unwrap();
    client.execute(INSERT, &[&"only here"]).await.unwrap();
    let postmaster = agents[&first].status().await.unwrap().postgres_pid.unwrap();
    agents.remove(&first).unwrap().kill();
    signal(postmaster, Signal::KILL);
    senders.iter().for_each(|pid| signal(*pid, Signal::KILL));
    let begun = Instant::now();

    // Fenced, they say how far they go. The more advanced takes over.
    catalog.change(|record| {
        record.generation = Generation(2);
        record.phase = Phase::Fencing { wish: None };
    });
    let fenced = |report: &Report| report.generation == Generation(2) && report.server == Server::Detached;
    let (_, candidate) = catalog
        .until("two are fenced", |reports| {
            let fenced: Vec<_> = reports.values().filter(|report| fenced(report)).collect();
            (fenced.len() == 2).then(|| fenced.iter().map(|report| (report.position, report.disk)).max().unwrap())
        })
        .await;
    catalog.change(|record| record.phase = Phase::Promoting { candidate });
    let active = |report: &Report| {
        report.server == Server::Primary && report.position.is_some_and(|at| at.generation == Generation(2))
    };
    let is_active = |reports: &BTreeMap<WorkerId, Report>| {
        reports.get(&candidate.worker).filter(|report| active(report)).map(|_| ())
    };
    catalog.until("the candidate recorded the generation", is_active).await;
    let at = catalog.change(|record| {
        record.primary = candidate;
        record.phase = Phase::Steady;
    });
    let serves = |reports: &BTreeMap<WorkerId, Report>| {
        let report = reports.get(&candidate.worker)?;
        (report.listed_at == Some(at) && report.caught_up.len() == 1).then_some(())
    };
    catalog.until("it serves", serves).await;
    println!("from death to service: {} ms", begun.elapsed().as_millis());
    let client = places[&candidate.worker].connect().await;
    assert_eq!(keys(&client).await.len(), 20, "what was acknowledged is there, and nothing else");
    client.execute(INSERT, &[&"acknowledged later"]).await.unwrap();
    let place = &places[&candidate.worker];
    place.until(&agents[&candidate.worker], "the agent works with it", |status| status.settled).await;

    // The old one may not give its data up by itself: it is a voter.
    agents.insert(first, places[&first].start());
    let waits = |reports: &BTreeMap<WorkerId, Report>| {
        let report = reports.get(&first)?;
        (report.diverged && report.server == Server::Detached).then_some(report.disk)
    };
    let old = catalog.until("the old one has diverged", waits).await;
    assert_eq!(old, founder.disk);
    catalog.change(|record| record.mending = Some(old));
    assert_eq!(catalog.until_follow(&[first], candidate.worker).await, [old].into());
    let begun = Instant::now();
    let client = places[&first].connect().await;
    while keys(&client).await.len() != 21 {
        assert!(begun.elapsed() < DEADLINE, "{:?}", keys(&client).await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(!keys(&client).await.contains("only here"));
    logs.well();
    agents.into_values().for_each(support::RunningAgent::stop);
}

async fn keys(client: &tokio_postgres::Client) -> BTreeSet<String> {
    let rows = client.query("select key from s0001_g1.memories", &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

/// Prints the agents' logs of a story that failed.
struct Logs<'a>(&'a BTreeMap<WorkerId, Place>, bool);

impl<'a> Logs<'a> {
    fn of(places: &'a BTreeMap<WorkerId, Place>) -> Self {
        Self(places, false)
    }

    fn well(mut self) {
        self.1 = true;
    }
}

impl Drop for Logs<'_> {
    fn drop(&mut self) {
        for (worker, place) in self.0.iter().filter(|_| !self.1) {
            println!("--- worker {worker}\n{}", place.log());
        }
    }
}
