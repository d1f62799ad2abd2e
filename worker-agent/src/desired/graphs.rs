//! Keeps namespaces' own graphs as [`tiers`](crate::desired::tiers) says, beside everything else: looks after each count, when a
//! coordinator tells of a load, and when something is done; begins what [`queue`] lets begin, and tells how far it is. Each piece
//! of work has a connection of its own.

use crate::desired::apply::Applier;
use crate::desired::memory::{Look, Memory, not_begun};
use crate::desired::queue::{self, Doing, Failures, UnderWay, Work};
use crate::pg::connect::{PgError, chain};
use crate::pg::existing::Existing;
use crate::pg::index;
use crate::pg::machine::Machine;
use crate::pg::progress::Progress;
use crate::pg::session::Session;
use crate::status::{GraphsSeen, TableKey};
use crate::stop::Stop;
use crate::worker::Worker;
use atoll_proto::agent::DesiredState;
use atoll_proto::build::{BuildState, GraphBuild};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinSet};

const LOOK_LIMIT: Duration = Duration::from_secs(30);
/// How often builds under way are asked how far they are.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// Keeps them until `stop`.
pub async fn keep_graphs(worker: Arc<Worker>, applier: Arc<Applier>, mut stop: Stop) {
    let (mut counted, mut loads) = (worker.status.counted_watch(), worker.loads.subscribe());
    // Counts wake it: this is for when they fail.
    let at_least_every = 2 * worker.config.stats_interval();
    let mut keeper = Keeper::new(worker, applier.current());
    loop {
        counted.mark_unchanged();
        loads.mark_unchanged();
        let looked = tokio::select! {
            looked = keeper.look() => looked,
            () = stop.told() => return,
        };
        keeper.tell(looked, "graphs of namespaces not looked after, trying again later");
        let next = tokio::time::sleep(at_least_every);
        tokio::pin!(next);
        loop {
            tokio::select! {
                () = stop.told() => return,
                () = &mut next => break,
                _ = counted.changed() => break,
                _ = loads.changed() => break,
                Some(ended) = keeper.tasks.join_next_with_id() => {
                    keeper.end(ended);
                    break;
                }
                () = tokio::time::sleep(PROGRESS_EVERY), if !keeper.under_way.is_empty() => {
                    let asked = keeper.ask_progress().await;
                    keeper.tell(asked, "builds not asked how far they are");
                    // One that only waits has left its place to another.
                    if keeper.has_places() {
                        break;
                    }
                }
            }
        }
    }
}

struct Keeper {
    worker: Arc<Worker>,
    current: watch::Receiver<Option<Arc<DesiredState>>>,
    /// What is looked through; what is worked on has others.
    session: Option<Session>,
    memory: Memory,
    failures: Failures,
    tasks: JoinSet<Result<(), PgError>>,
    under_way: HashMap<Id, Running>,
    /// What is to be done, by the last look.
    works: Vec<Work>,
    held_back: Vec<GraphBuild>,
}

struct Running {
    work: Work,
    begun: Instant,
    pid: i32,
    progress: Progress,
    /// Whether it was told to go: then its end is no failure.
    sent_away: bool,
}

impl Keeper {
    fn new(worker: Arc<Worker>, current: watch::Receiver<Option<Arc<DesiredState>>>) -> Self {
        Self {
            worker,
            current,
            session: None,
            memory: Memory::default(),
            failures: Failures::default(),
            tasks: JoinSet::new(),
            under_way: HashMap::new(),
            works: Vec::new(),
            held_back: Vec::new(),
        }
    }

    /// Says which graphs there are, and begins what may be begun.
    async fn look(&mut self) -> Result<(), PgError> {
        let desired = self.current.borrow().clone();
        let (Some(desired), Some((counted_at, tables))) = (desired, self.worker.status.tables()) else {
            return Ok(());
        };
        if self.worker.server.ready().is_err() {
            return Ok(());
        }
        self.memory.remember(counted_at, &tables);
        let looked_at = Instant::now();
        let existing = Existing::read(self.session().await?).await?;
        let look = {
            let loads = self.worker.loads.borrow();
            self.memory.look(&desired, &existing, &tables, &loads, looked_at)
        };
        let Look { walkable, there, loading, works, held_back } = look;
        self.worker.status.graphs(GraphsSeen { walkable, there, looked_at, counted_at });
        (self.works, self.held_back) = (works, held_back);
        self.make_way_for_loads(&loading).await?;
        self.begin().await?;
        self.report();
        Ok(())
    }

    /// Sends builds away that are in the way of loads. At each look, as long as they run: a cancel that comes before the statement
    /// it is meant for is lost.
    async fn make_way_for_loads(&mut self, loading: &HashMap<TableKey, BTreeSet<String>>) -> Result<(), PgError> {
        let in_the_way = |running: &Running| {
            let Doing::Build { rows } = running.work.doing else { return false };
            queue::makes_way(&running.work, running.progress.share(rows), loading, &self.works)
        };
        let ids: Vec<Id> =
            self.under_way.iter().filter(|(_, running)| in_the_way(running)).map(|(id, _)| *id).collect();
        if ids.is_empty() {
            return Ok(());
        }
        let pids: Vec<i32> = ids.iter().map(|id| self.under_way[id].pid).collect();
        index::send_away(self.session().await?, &pids).await?;
        for id in ids {
            self.under_way.entry(id).and_modify(|running| running.sent_away = true);
        }
        Ok(())
    }

    /// Begins what may be begun.
    async fn begin(&mut self) -> Result<(), PgError> {
        let chosen = queue::next(&self.works, &self.summary(), &self.failures, self.places(), Instant::now());
        let builds = |work: &Work| matches!(work.doing, Doing::Build { .. });
        let working = self.under_way.values().filter(|running| builds(&running.work) && !running.progress.waits());
        let begun = chosen.iter().filter(|place| builds(&self.works[**place]));
        // All cores build, shared out evenly: a lone build of a large namespace gets all of them.
        let share = u32::try_from((working.count() + begun.count()).max(1)).unwrap_or(u32::MAX);
        let helpers = (Machine::cores() / share).saturating_sub(1);
        for place in chosen {
            let work = self.works[place].clone();
            let session = self.worker.target().connect(Duration::ZERO).await?;
            let pid = index::prepare(&session, helpers).await?;
            let (index, statement) = (work.index.clone(), work.statement.clone());
            let task = self.tasks.spawn(async move { session.run(format!("work on index {index}"), &statement).await });
            let progress = Progress::default();
            self.under_way.insert(task.id(), Running { work, begun: Instant::now(), pid, progress, sent_away: false });
        }
        Ok(())
    }

    fn end(&mut self, ended: Result<(Id, Result<(), PgError>), JoinError>) {
        let id = match &ended {
            Ok((id, _)) => *id,
            Err(error) => error.id(),
        };
        let Some(Running { work, begun, sent_away, .. }) = self.under_way.remove(&id) else { return };
        let doing = match work.doing {
            Doing::Build { .. } => "build",
            Doing::Drop => "drop",
        };
        let (schema, collection, namespace) = (&work.schema, &work.table.1, &work.namespace);
        let (is_error, error) = match ended {
            Ok((_, Ok(()))) => {
                let took = begun.elapsed();
                let took_ms = took.as_millis();
                tracing::info!(schema, %collection, namespace, doing, took_ms, "graph of a namespace done");
                self.failures.forget(&work);
                if matches!(work.doing, Doing::Build { .. }) {
                    self.worker.metrics.build_seconds.observe(took.as_secs_f64());
                }
                return;
            }
            // A load came first, or the table was dropped: then there is nothing to do. So it is with a drop whose server is down, which
            // is told elsewhere. A build may be why the server went down: it must not be begun again each time the server is back.
            Ok((_, Err(error))) if sent_away || error.is_gone() || (error.is_lost() && work.doing == Doing::Drop) => {
                tracing::debug!(schema, %collection, namespace, doing, error = chain(&error), "graph of a namespace not done");
                return;
            }
            // A desired state needs the table: it is to get it.
            Ok((_, Err(error))) => (!error.is_cancelled(), chain(&error)),
            Err(panic) => (true, panic.to_string()),
        };
        self.failures.note(&work, Instant::now());
        match is_error {
            true => {
                tracing::warn!(schema, %collection, namespace, doing, error, "graph of a namespace not done, trying again later")
            }
            false => tracing::debug!(schema, %collection, namespace, doing, error, "graph of a namespace not done"),
        }
    }

    async fn ask_progress(&mut self) -> Result<(), PgError> {
        let pids: Vec<i32> = self.under_way.values().map(|running| running.pid).collect();
        let mut progress = Progress::read(self.session().await?, &pids).await?;
        for running in self.under_way.values_mut() {
            running.progress = progress.remove(&running.pid).unwrap_or_default();
        }
        self.report();
        Ok(())
    }

    /// Tells how far everything is.
    fn report(&self) {
        let now = Instant::now();
        let mut builds: Vec<GraphBuild> = self.under_way.values().filter_map(Running::report).collect();
        let active = builds.len();
        let begun = |work: &Work| {
            self.under_way.values().any(|one| (&one.work.schema, &one.work.index) == (&work.schema, &work.index))
        };
        for work in self.works.iter().filter(|work| !begun(work)) {
            let Doing::Build { rows } = work.doing else { continue };
            let state = match self.failures.holds_back(work, now) {
                true => BuildState::Failed,
                false => BuildState::Waiting,
            };
            builds.push(not_begun(&work.table, work.namespace.clone(), rows, state));
        }
        self.worker.metrics.builds_active.set(active as i64);
        self.worker.metrics.builds_waiting.set((builds.len() - active) as i64);
        builds.extend(self.held_back.iter().cloned());
        self.worker.status.builds(builds);
    }

    fn has_places(&self) -> bool {
        !queue::next(&self.works, &self.summary(), &self.failures, self.places(), Instant::now()).is_empty()
    }

    fn places(&self) -> usize {
        self.worker.config.builds_at_once(Machine::cores()) as usize
    }

    fn summary(&self) -> Vec<UnderWay<'_>> {
        self.under_way.values().map(Running::under_way).collect()
    }

    /// The connection to look through, anew if it broke.
    async fn session(&mut self) -> Result<&Session, PgError> {
        if self.session.as_ref().is_none_or(Session::is_closed) {
            self.session = None;
        }
        let session = match self.session.take() {
            Some(session) => session,
            None => self.worker.target().connect(LOOK_LIMIT).await?,
        };
        Ok(self.session.insert(session))
    }

    fn tell(&mut self, outcome: Result<(), PgError>, what: &'static str) {
        if let Err(error) = outcome {
            let error_text = chain(&error);
            if error.is_lost() {
                // Of a server that is down others tell.
                self.session = None;
                tracing::debug!(error = error_text, "{what}");
            } else {
                tracing::warn!(error = error_text, "{what}");
            }
        }
    }
}

impl Running {
    fn under_way(&self) -> UnderWay<'_> {
        let builds = matches!(self.work.doing, Doing::Build { .. });
        UnderWay { table: (&self.work.schema, &self.work.table), builds, waits: self.progress.waits() }
    }

    /// How far a build is; none of a drop.
    fn report(&self) -> Option<GraphBuild> {
        let Doing::Build { rows } = self.work.doing else { return None };
        Some(GraphBuild {
            phase: self.progress.phase.clone(),
            progress: Some(self.progress.share(rows)),
            seconds: Some(self.begun.elapsed().as_secs()),
            waits_for: self.progress.waits_for.clone(),
            ..not_begun(&self.work.table, self.work.namespace.clone(), rows, BuildState::Building)
        })
    }
}
