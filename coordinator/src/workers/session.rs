//! A connection to a worker, with what is set in its session.
//!
//! A read is one statement and needs no transaction of its own, only its settings: which way the server takes, how wide it walks a
//! graph, when it gives up. They are set in the session, ahead of the statement and in the same flight, and are still in force when
//! the next read comes. So what is in force is remembered here, and only what the next one wants otherwise is sent: mostly nothing.
//! That saves the server five statements and the coordinator two answers a read.
//!
//! No setting reaches a statement that did not ask for it. A read says all that bears on it, and what opens a transaction
//! ([`Session::opening`]) begins with a session as it was at first. A connection whose statement failed, or was not waited for, is
//! thrown away, so what is remembered is true.

use super::doubt::{self, Doubt};
use atoll_trust::PostgresTls;
use deadpool::managed::{self, Metrics, RecycleError, RecycleResult};
use deadpool_postgres::ClientWrapper;
use lru::LruCache;
use std::borrow::Cow;
use std::num::NonZeroUsize;
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use tokio_postgres::{Config, Error, Statement};

/// Statements that a connection keeps prepared: the server holds a plan for each. What was not used for the longest goes first, so
/// texts that come once each never push out what is in use.
const PREPARED_MAX: NonZeroUsize = NonZeroUsize::new(512).expect("it is not 0");

/// A connection to a worker.
#[derive(Debug)]
pub struct Session {
    client: ClientWrapper,
    doubt: Doubt,
    /// Settings of reads that are in force, by name.
    in_force: Mutex<Vec<Setting>>,
    prepared: Mutex<Prepared>,
    /// Grows when what is prepared may be outdated.
    outdated: Arc<AtomicU64>,
    tls: PostgresTls,
}

/// Statements by their text.
#[derive(Debug)]
struct Prepared {
    statements: LruCache<Box<str>, Statement>,
    /// What [`Session::outdated`] was when the first of them was prepared.
    since: u64,
}

type Setting = (&'static str, Cow<'static, str>);

/// What a read wants set.
#[derive(Debug, Clone)]
pub(super) struct ReadSettings(Vec<Setting>);

impl ReadSettings {
    /// The server ends the statement at the deadline, or some time after: an exact time would have to be sent each time, and the
    /// coordinator cancels what is late by itself. The way is the server's choice, made for the values at hand.
    pub(super) fn until(deadline: Instant) -> Self {
        let left = deadline.saturating_duration_since(Instant::now());
        Self(vec![("statement_timeout", at_least(left)), ("plan_cache_mode", "force_custom_plan".into())])
            .with("enable_seqscan", "on")
            .with("enable_sort", "on")
    }

    /// There is one right way: by an index, and in its order. The server's statistics have no say, which may be old, and it is
    /// not looked for each time, which takes as long as scanning a hundred rows.
    pub(super) fn fixed_way(self) -> Self {
        self.with("plan_cache_mode", "force_generic_plan").with("enable_seqscan", "off").with("enable_sort", "off")
    }

    /// Walks graphs with this `ef`, once: what they give is then the nearest they know, and too few are seen to be (adr/0013).
    pub(super) fn walk(self, ef: u32) -> Self {
        self.with("hnsw.ef_search", ef.to_string()).with("hnsw.iterative_scan", "off")
    }

    /// Opens a transaction in which they are in force, and after it no more.
    pub(super) fn in_transaction(&self) -> String {
        let mut text = "begin read only".to_owned();
        for (name, value) in &self.0 {
            text.push_str(&format!("; set local {name} = {value}"));
        }
        text
    }

    fn with(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Self {
        put(&mut self.0, (name, value.into()));
        self
    }
}

fn put(settings: &mut Vec<Setting>, setting: Setting) {
    match settings.iter_mut().find(|(name, _)| *name == setting.0) {
        Some(there) => *there = setting,
        None => settings.push(setting),
    }
}

/// The next of a few times, in milliseconds, so that most reads want the same one.
fn at_least(left: Duration) -> Cow<'static, str> {
    const STEPS: [(u64, &str); 8] = [
        (20, "20"),
        (50, "50"),
        (200, "200"),
        (500, "500"),
        (1_000, "1000"),
        (2_000, "2000"),
        (5_000, "5000"),
        (20_000, "20000"),
    ];
    let step = STEPS.iter().find(|(ms, _)| left <= Duration::from_millis(*ms));
    step.map_or("60000".into(), |(_, text)| (*text).into())
}

impl Session {
    /// Connects. Nothing is set yet; what it prepares is forgotten when `outdated` grows.
    pub(super) async fn connect(config: &Config, outdated: Arc<AtomicU64>, tls: PostgresTls) -> Result<Self, Error> {
        let (client, doubt) = doubt::connect(config, tls.clone()).await?;
        let since = outdated.load(Ordering::Relaxed);
        let prepared = Mutex::new(Prepared { statements: LruCache::new(PREPARED_MAX), since });
        Ok(Self { client, doubt, in_force: Mutex::default(), prepared, outdated, tls })
    }

    /// Whether a commit was answered that its standbys may not have: see [`Doubt`].
    pub(super) fn is_in_doubt(&self) -> bool {
        self.doubt.is_there()
    }

    /// How further connections to the same server are made, such as one that cancels a statement.
    pub(super) fn tls(&self) -> PostgresTls {
        self.tls.clone()
    }

    /// The statement of a text, which stays prepared.
    pub(super) async fn prepare_cached(&self, text: &str) -> Result<Statement, Error> {
        if let Some(statement) = self.prepared().statements.get(text) {
            return Ok(statement.clone());
        }
        let statement = self.client.prepare(text).await?;
        // What goes is closed on the server when its last user has dropped it.
        self.prepared().statements.put(text.into(), statement.clone());
        Ok(statement)
    }

    fn prepared(&self) -> MutexGuard<'_, Prepared> {
        let mut prepared = self.prepared.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.outdated.load(Ordering::Relaxed);
        if prepared.since != now {
            prepared.statements.clear();
            prepared.since = now;
        }
        prepared
    }

    /// What to send ahead of a read that wants these settings; none if all are in force.
    pub(super) fn change_to(&self, wanted: &ReadSettings) -> Option<String> {
        let mut in_force = self.in_force.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut in_force, wanted)
    }

    /// What to send to open a transaction by `begin`: nothing that a read left behind is in force in it.
    pub(super) fn opening<'a>(&self, begin: &'a str) -> Cow<'a, str> {
        let mut in_force = self.in_force.lock().unwrap_or_else(PoisonError::into_inner);
        if in_force.is_empty() {
            return begin.into();
        }
        in_force.clear();
        format!("reset all; {begin}").into()
    }
}

fn change(in_force: &mut Vec<Setting>, wanted: &ReadSettings) -> Option<String> {
    let mut text = String::new();
    for setting in &wanted.0 {
        if in_force.contains(setting) {
            continue;
        }
        let (name, value) = setting;
        text.push_str(&format!("set {name} = {value}; "));
        put(in_force, setting.clone());
    }
    (!text.is_empty()).then_some(text)
}

impl Deref for Session {
    type Target = ClientWrapper;

    fn deref(&self) -> &ClientWrapper {
        &self.client
    }
}

/// Makes sessions for a pool.
#[derive(Debug)]
pub(super) struct Sessions {
    config: Config,
    tls: PostgresTls,
    outdated: Arc<AtomicU64>,
}

impl Sessions {
    /// Connects as `config` says.
    pub(super) fn new(config: Config, tls: PostgresTls) -> Self {
        Self { config, tls, outdated: Arc::default() }
    }

    /// What any of its sessions has prepared is not used again.
    pub(super) fn forget_statements(&self) {
        self.outdated.fetch_add(1, Ordering::Relaxed);
    }
}

impl managed::Manager for Sessions {
    type Type = Session;
    type Error = Error;

    async fn create(&self) -> Result<Session, Error> {
        Session::connect(&self.config, self.outdated.clone(), self.tls.clone()).await
    }

    async fn recycle(&self, session: &mut Session, _: &Metrics) -> RecycleResult<Error> {
        match session.is_closed() {
            true => Err(RecycleError::message("the connection is closed")),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_what_is_wanted_otherwise_is_sent() {
        let deadline = Instant::now() + Duration::from_secs(2);
        let mut in_force = Vec::new();
        let walk = ReadSettings::until(deadline).fixed_way().walk(64);
        let all = change(&mut in_force, &walk).unwrap();
        for part in
            ["statement_timeout = 2000;", "force_generic_plan", "enable_sort = off", "ef_search = 64", "scan = off"]
        {
            assert!(all.contains(part), "{part} in {all}");
        }
        assert_eq!(change(&mut in_force, &walk), None);
        assert_eq!(change(&mut in_force, &ReadSettings::until(deadline).fixed_way()), None, "no walk, no ef");
        let wider = change(&mut in_force, &ReadSettings::until(deadline).fixed_way().walk(120));
        assert_eq!(wider.unwrap(), "set hnsw.ef_search = 120; ");
        let free = change(&mut in_force, &ReadSettings::until(deadline)).unwrap();
        assert_eq!(free, "set plan_cache_mode = force_custom_plan; set enable_seqscan = on; set enable_sort = on; ");
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_never_gives_up_before_the_deadline() {
        for (ms, step) in [(1, "20"), (20, "20"), (21, "50"), (1_999, "2000"), (20_001, "60000"), (60_000, "60000")] {
            assert_eq!(at_least(Duration::from_millis(ms)), step);
        }
    }
}
