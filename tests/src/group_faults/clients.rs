//! Who is at work while a group is broken: writers, a searcher that takes any member's word, and a reader that keeps to its session. All
//! they do goes into a history.

use crate::entries::entry_path;
use crate::faults::Anyone;
use crate::history::{Deed, Operation, Outcome, Promise, Read, Seen, Write};
use crate::seeded::Seeded;
use crate::{Answer, poll};
use http::Method;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// The collection that all is in.
pub(super) const COLLECTION: &str = "c";
pub(super) const WRITERS: usize = 3;
/// Entries of a writer that are written one by one.
const OWN: usize = 12;
/// Batches of a writer, and entries of each.
const BATCHES: usize = 3;
const OF_BATCH: usize = 4;
/// Entries that all writers write, each at the version that it knows.
const SHARED: usize = 3;
/// More than a namespace has.
const K: usize = 100;
/// The session reader goes to another coordinator after so many requests, more or less.
const TURNS_EVERY: usize = 6;
/// Between two requests, so that the cluster has something left of the machine.
const PAUSE: Duration = Duration::from_millis(8);
/// A coordinator that says nothing for so long does not do. Longer than a request's own deadline.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// How often a write is sent under the same key, and how long after the last time.
const SENT_MAX: usize = 8;
const SEND_AGAIN_AFTER: Duration = Duration::from_millis(500);

/// What a client is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    Writer,
    Searcher,
    Reader,
}

/// What one client did.
#[derive(Debug)]
pub(super) struct Account {
    pub(super) role: Role,
    pub(super) operations: Vec<Operation>,
    /// Requests that were not answered as they should be, by what came instead.
    pub(super) failed: BTreeMap<String, usize>,
    /// Writes in doubt that were known to be done when they were sent again.
    pub(super) repeated: usize,
}

/// All clients of a trial, at work.
pub(super) struct Clients {
    stop: Arc<AtomicBool>,
    successes: Vec<Arc<AtomicUsize>>,
    tasks: Vec<JoinHandle<Account>>,
}

impl Clients {
    /// Sets them to work on namespaces of this trial.
    pub(super) fn begin(anyone: &Anyone, trial: u32, began: Instant) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let mut clients = Self { stop: Arc::clone(&stop), successes: Vec::new(), tasks: Vec::new() };
        let roles = [Role::Writer; WRITERS].into_iter().chain([Role::Searcher, Role::Reader]);
        for (number, role) in roles.enumerate() {
            let successes = Arc::<AtomicUsize>::default();
            clients.successes.push(Arc::clone(&successes));
            let asker = Asker {
                anyone: anyone.beginning_at(number),
                began,
                trial,
                number,
                role,
                token: String::new(),
                chance: Seeded::new(u64::from(trial) << 8 | number as u64),
                writes: 0,
                versions: BTreeMap::new(),
                successes,
                account: Account { role, operations: Vec::new(), failed: BTreeMap::new(), repeated: 0 },
            };
            clients.tasks.push(tokio::spawn(asker.work(Arc::clone(&stop))));
        }
        clients
    }

    /// Waits until each has had so many successes more.
    pub(super) async fn wait_for_successes(&self, more: usize, patience: Duration) -> Result<(), String> {
        let so_far = || self.successes.iter().map(|successes| successes.load(Ordering::Relaxed)).collect::<Vec<_>>();
        let before = so_far();
        poll::within("each client to succeed", patience, async || {
            let now = so_far();
            let all = now.iter().zip(&before).all(|(now, before)| *now >= before + more);
            if all { Ok(()) } else { Err(format!("{now:?}, before {before:?}")) }
        })
        .await
    }

    /// Ends their work.
    pub(super) async fn end(mut self) -> Vec<Account> {
        self.stop.store(true, Ordering::Relaxed);
        let mut accounts = Vec::new();
        for task in &mut self.tasks {
            accounts.push(task.await.expect("clients do not panic"));
        }
        accounts
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        // Of a trial that broke off: nobody answers any more.
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// The namespaces of a trial.
pub(super) fn namespaces(trial: u32) -> Vec<String> {
    (0..WRITERS).map(|writer| own_namespace(trial, writer)).chain([shared_namespace(trial)]).collect()
}

fn own_namespace(trial: u32, writer: usize) -> String {
    format!("t{trial}-w{writer}")
}

fn shared_namespace(trial: u32) -> String {
    format!("t{trial}-shared")
}

/// Keys that there may be in any namespace.
fn keys() -> impl Iterator<Item = String> {
    let own = (0..OWN).map(|number| format!("own-{number}"));
    own.chain((0..BATCHES).flat_map(of_batch)).chain((0..SHARED).map(|number| format!("shared-{number}")))
}

fn of_batch(batch: usize) -> Vec<String> {
    (0..OF_BATCH).map(|number| format!("batch-{batch}-{number}")).collect()
}

/// The name of an entry in a history.
fn place(namespace: &str, key: &str) -> String {
    format!("{namespace}/{key}")
}

/// A search that shows everything in a namespace.
pub(super) fn search_body(namespace: &str, consistency: &str) -> Value {
    json!({"vector": [1, 0, 0], "namespaces": [namespace], "exact": true, "k": K, "include": ["value"],
           "consistency": consistency, "cache": "bypass"})
}

/// What such a search showed.
pub(super) fn sight(namespace: &str, answer: &Value) -> BTreeMap<String, Option<Seen>> {
    let absent = keys().map(|key| (place(namespace, &key), None));
    absent.chain(entries_seen(namespace, &answer["hits"])).collect()
}

fn entries_seen(namespace: &str, entries: &Value) -> Vec<(String, Option<Seen>)> {
    let seen = |entry: &Value| {
        let content = entry["value"].as_str()?.parse().ok()?;
        let seen = Seen { content, version: entry["version"].as_i64()? };
        Some((place(namespace, entry["key"].as_str()?), Some(seen)))
    };
    let entries = entries.as_array().into_iter().flatten();
    entries.map(|entry| seen(entry).unwrap_or_else(|| panic!("no entry of ours: {entry}"))).collect()
}

/// One client.
struct Asker {
    anyone: Anyone,
    began: Instant,
    trial: u32,
    number: usize,
    role: Role,
    token: String,
    chance: Seeded,
    writes: u64,
    /// Versions that entries are known to be at, by their names in the history.
    versions: BTreeMap<String, i64>,
    successes: Arc<AtomicUsize>,
    account: Account,
}

/// A request.
struct Ask {
    method: Method,
    path: String,
    body: Option<Value>,
    condition: Option<(&'static str, String)>,
    /// `Idempotency-Key` of a write.
    key: Option<String>,
}

impl Ask {
    fn post(path: &str, body: Value) -> Self {
        let path = format!("/v1/collections/{COLLECTION}/{path}");
        Self { method: Method::POST, path, body: Some(body), condition: None, key: None }
    }
}

impl Asker {
    async fn work(mut self, stop: Arc<AtomicBool>) -> Account {
        while !stop.load(Ordering::Relaxed) {
            match self.role {
                Role::Writer => self.write_something().await,
                Role::Searcher => {
                    let namespaces = namespaces(self.trial);
                    let namespace = &namespaces[self.chance.below(namespaces.len())];
                    self.search(namespace, "eventual", Promise::Something).await;
                }
                Role::Reader => self.read_something().await,
            }
            tokio::time::sleep(PAUSE).await;
        }
        self.account
    }

    async fn write_something(&mut self) {
        let own = own_namespace(self.trial, self.number);
        let (key, batch) = (format!("own-{}", self.chance.below(OWN)), of_batch(self.chance.below(BATCHES)));
        match self.chance.below(12) {
            0..=3 => self.put(&own, &key).await,
            4 => self.delete(&own, vec![key]).await,
            5 => self.delete(&own, batch).await,
            6..=8 => self.put_batch(&own, batch).await,
            9..=10 => {
                let key = format!("shared-{}", self.chance.below(SHARED));
                self.put_at_version(&shared_namespace(self.trial), &key).await;
            }
            _ => self.search(&own, "session", Promise::Session).await,
        }
    }

    /// Now and then of another coordinator: a session is not bound to one.
    async fn read_something(&mut self) {
        if self.chance.below(TURNS_EVERY) == 0 {
            self.anyone.turn();
        }
        let (own, namespaces) = (own_namespace(self.trial, self.number), namespaces(self.trial));
        let namespace = &namespaces[self.chance.below(namespaces.len())];
        let batch = of_batch(self.chance.below(BATCHES));
        match self.chance.below(4) {
            0 => self.put(&own, "own-0").await,
            1 => self.search(&own, "session", Promise::Session).await,
            2 => self.get(namespace, batch).await,
            _ => self.search(namespace, "session", Promise::Session).await,
        }
    }

    /// Writes one entry; at the version that it is known to be at, every other time.
    async fn put(&mut self, namespace: &str, key: &str) {
        let known = self.versions.get(&place(namespace, key)).copied();
        let condition =
            known.filter(|_| self.chance.below(2) == 0).map(|version| ("if-match", format!("\"{version}\"")));
        self.put_if(namespace, key, condition).await;
    }

    /// Writes an entry that others write too: at the version that it is known to be at, or if there is none.
    async fn put_at_version(&mut self, namespace: &str, key: &str) {
        let condition = match self.versions.get(&place(namespace, key)) {
            Some(version) => ("if-match", format!("\"{version}\"")),
            None => ("if-none-match", "*".to_owned()),
        };
        if self.put_if(namespace, key, Some(condition)).await == Outcome::Refused {
            self.get(namespace, vec![key.to_owned()]).await;
        }
    }

    async fn put_if(&mut self, namespace: &str, key: &str, condition: Option<(&'static str, String)>) -> Outcome {
        let (content, path) = (self.next_number(), entry_path(COLLECTION, namespace, key));
        let ask = Ask { method: Method::PUT, path, body: Some(entry(content)), condition, key: None };
        self.write(ask, vec![place(namespace, key)], Some(content)).await
    }

    async fn put_batch(&mut self, namespace: &str, keys: Vec<String>) {
        let content = self.next_number();
        let entries = keys.iter().map(|key| {
            let mut entry = entry(content);
            (entry["namespace"], entry["key"]) = (json!(namespace), json!(key));
            entry
        });
        let body = json!({"entries": entries.collect::<Vec<Value>>(), "mode": "upsert"});
        let places = keys.iter().map(|key| place(namespace, key)).collect();
        self.write(Ask::post("entries", body), places, Some(content)).await;
    }

    async fn delete(&mut self, namespace: &str, keys: Vec<String>) {
        let ask = match keys.as_slice() {
            [key] => {
                let path = entry_path(COLLECTION, namespace, key);
                Ask { method: Method::DELETE, path, body: None, condition: None, key: None }
            }
            keys => Ask::post("entries/delete", json!({"ids": ids(namespace, keys)})),
        };
        self.write(ask, keys.iter().map(|key| place(namespace, key)).collect(), None).await;
    }

    /// Sends a write and notes what became of it. Every other one is sent under a key, and again while nobody knows whether it was done.
    async fn write(&mut self, ask: Ask, keys: Vec<String>, content: Option<u64>) -> Outcome {
        self.writes += 1;
        let is_keyed = self.chance.below(2) == 0;
        let key = is_keyed.then(|| format!("{}-{}-{}", self.trial, self.number, self.writes));
        let ask = Ask { key, ..ask };
        let (invoked, answer) = self.ask(&ask).await;
        let mut outcome = told(answer.as_ref());
        let mut times = 1;
        while is_keyed && outcome == Outcome::Unknown && times < SENT_MAX {
            tokio::time::sleep(SEND_AGAIN_AFTER).await;
            let (_, answer) = self.ask(&ask).await;
            times += 1;
            match told(answer.as_ref()) {
                done @ Outcome::Done(_) => {
                    outcome = done;
                    self.account.repeated += 1;
                }
                // It may have been done before all the same.
                Outcome::Refused => break,
                Outcome::Unknown => {}
            }
        }
        let versions = match &outcome {
            Outcome::Done(versions) => versions.as_slice(),
            Outcome::Refused | Outcome::Unknown => &[],
        };
        for (number, key) in keys.iter().enumerate() {
            match versions.get(number) {
                Some(version) => self.versions.insert(key.clone(), *version),
                None => self.versions.remove(key),
            };
        }
        self.note(invoked, Deed::Write(Write { keys, content, outcome: outcome.clone() }));
        outcome
    }

    async fn search(&mut self, namespace: &str, consistency: &str, promise: Promise) {
        let (invoked, answer) = self.ask(&Ask::post("search", search_body(namespace, consistency))).await;
        let Some(answer) = answer.filter(|answer| answer.status == 200) else { return };
        self.note(invoked, Deed::Read(Read { promise, seen: sight(namespace, &answer.json()) }));
    }

    async fn get(&mut self, namespace: &str, keys: Vec<String>) {
        let body = json!({"ids": ids(namespace, &keys), "include": ["value"]});
        let (invoked, answer) = self.ask(&Ask::post("entries/get", body)).await;
        let Some(answer) = answer.filter(|answer| answer.status == 200) else { return };
        let absent = keys.iter().map(|key| (place(namespace, key), None));
        let seen: BTreeMap<_, _> = absent.chain(entries_seen(namespace, &answer.json()["entries"])).collect();
        for (key, seen) in &seen {
            match seen {
                Some(seen) => self.versions.insert(key.clone(), seen.version),
                None => self.versions.remove(key),
            };
        }
        self.note(invoked, Deed::Read(Read { promise: Promise::Session, seen }));
    }

    /// Asks, and counts. None where no answer came.
    async fn ask(&mut self, ask: &Ask) -> (Duration, Option<Answer>) {
        let invoked = self.began.elapsed();
        let is_session = self.role != Role::Searcher && !self.token.is_empty();
        let answer = self.anyone.try_send_within(ANSWER_WITHIN, |client| {
            let mut request = client.request(ask.method.clone(), &ask.path);
            if let Some(body) = &ask.body {
                request = request.json(body);
            }
            if let Some((name, value)) = &ask.condition {
                request = request.header(name, value);
            }
            if let Some(key) = &ask.key {
                request = request.header("idempotency-key", key);
            }
            if is_session { request.header("x-session-token", &self.token) } else { request }
        });
        let failure = match answer.await {
            Ok(answer) => {
                let is_well = answer.status < 500 && ![207, 400, 422, 429].contains(&answer.status);
                if is_well {
                    self.successes.fetch_add(1, Ordering::Relaxed);
                    let token = answer.header("x-session-token");
                    if !token.is_empty() {
                        self.token = token.to_owned();
                    }
                    return (invoked, Some(answer));
                }
                *self.account.failed.entry(format!("{} {}", answer.status, answer.code())).or_default() += 1;
                return (invoked, Some(answer));
            }
            Err(error) if error.contains("no answer in time") => "no answer in time",
            Err(error) if error.contains("refused") => "connection refused",
            Err(_) => "connection broken",
        };
        *self.account.failed.entry(failure.to_owned()).or_default() += 1;
        (invoked, None)
    }

    fn note(&mut self, invoked: Duration, deed: Deed) {
        let ended = self.began.elapsed();
        self.account.operations.push(Operation { session: self.number as u64, invoked, ended, deed });
    }

    /// A number that no other write has.
    fn next_number(&mut self) -> u64 {
        self.writes += 1;
        self.writes << 8 | self.number as u64
    }
}

fn entry(content: u64) -> Value {
    json!({"value": content.to_string(), "vector": [1, content % 97, 1]})
}

fn ids(namespace: &str, keys: &[String]) -> Vec<Value> {
    keys.iter().map(|key| json!({"namespace": namespace, "key": key})).collect()
}

/// What a writer knows by an answer.
fn told(answer: Option<&Answer>) -> Outcome {
    match answer.map(|answer| answer.status) {
        Some(200 | 201) => Outcome::Done(answer.map(versions).unwrap_or_default()),
        // Nothing was sent, or all that was sent has been undone.
        Some(400..=499 | 503) => Outcome::Refused,
        Some(_) | None => Outcome::Unknown,
    }
}

/// The versions that a write was told to have made; none of a delete.
fn versions(answer: &Answer) -> Vec<i64> {
    let answer = answer.json();
    let results = answer["results"].as_array().into_iter().flatten();
    results.filter_map(|result| result["version"].as_i64()).collect()
}
