//! What the server counts of itself, for whoever looks after it: what an exporter beside it would tell. It is read at an interval and not
//! when somebody asks, so that nobody who asks often costs the server anything. Each statement has its own time to answer, and one that
//! fails leaves out its own metrics only.

mod growth;
mod statements;

use crate::pg::connect::{PgError, chain};
use crate::stop::Stop;
use crate::telemetry::{PgMetric, PgSample, postgres};
use crate::worker::Worker;
use growth::{Growth, ObjectSample};
use statements::{Statement, for_version};
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_postgres::Row;

const STATEMENT_LIMIT: Duration = Duration::from_secs(3);
/// The pause after a reading is this many times as long as the reading at least: on a server of very many tables it takes a
/// twentieth of one connection's time, not more.
const PAUSES_PER_READING: u32 = 19;

/// Reads at each interval, until `stop`.
pub async fn read_always(worker: Arc<Worker>, mut stop: Stop) {
    let mut reader = Reader::default();
    loop {
        let begun = Instant::now();
        let samples = tokio::select! {
            samples = reader.read(&worker) => samples,
            () = stop.told() => return,
        };
        worker.metrics.postgres(samples);
        let pause = worker.config.stats_interval().max(begun.elapsed() * PAUSES_PER_READING);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.told() => return,
        }
    }
}

/// Reads, remembering what was counted of each object, and what was told of failures.
#[derive(Debug, Default)]
struct Reader {
    growth: Growth,
    /// Statements that failed last time: each failure is told once.
    failing: HashSet<&'static str>,
}

impl Reader {
    async fn read(&mut self, worker: &Worker) -> Vec<PgSample> {
        let version = worker.server.version_num();
        let mut samples = vec![one(&postgres::UP, f64::from(u8::from(version.is_some())))];
        samples.extend(worker.config.data_dir().and_then(disk).into_iter().flatten());
        if let Some(version) = version
            && let Err(error) = self.ask(worker, version, &mut samples).await
        {
            // Whether the server serves is told by who watches it.
            tracing::debug!(error = chain(&error), "what PostgreSQL counts was not read");
        }
        samples
    }

    /// An error means that the connection is of no more use.
    async fn ask(&mut self, worker: &Worker, version: u32, samples: &mut Vec<PgSample>) -> Result<(), PgError> {
        let session = worker.target().connect(STATEMENT_LIMIT).await?;
        for statement in for_version(version) {
            match session.query(statement.what, statement.text, &[]).await {
                Ok(rows) => {
                    self.failing.remove(statement.what);
                    samples.extend(self.samples_of(&statement, &rows));
                }
                Err(error) if error.is_lost() => return Err(error),
                Err(error) => {
                    let (what, error) = (statement.what, chain(&error));
                    if self.failing.insert(what) {
                        tracing::warn!(what, error, "some metrics of PostgreSQL are missing");
                    } else {
                        tracing::debug!(what, error, "some metrics of PostgreSQL are missing still");
                    }
                }
            }
        }
        Ok(())
    }

    fn samples_of(&mut self, statement: &Statement, rows: &[Row]) -> Vec<PgSample> {
        if !statement.is_per_object {
            return rows.iter().flat_map(|row| samples_of_row(statement, row)).collect();
        }
        let of_objects = rows.iter().flat_map(|row| {
            let object: i64 = row.get("object");
            samples_of_row(statement, row).map(move |sample| ObjectSample { object, sample })
        });
        self.growth.put_together(of_objects)
    }
}

/// Every metric that the row has a value of.
fn samples_of_row(statement: &Statement, row: &Row) -> impl Iterator<Item = PgSample> {
    statement.metrics.iter().filter_map(|metric| {
        let value = row.get::<_, Option<f64>>(metric.name)?;
        let labels = metric.labels.iter().map(|label| row.get::<_, String>(*label)).collect();
        Some(PgSample { metric, labels, value })
    })
}

/// Size and free space of the file system that holds `folder`; nothing if it does not tell.
fn disk(folder: &Path) -> Option<[PgSample; 2]> {
    let told = rustix::fs::statvfs(folder).ok()?;
    // What only root may take is not free for PostgreSQL.
    let bytes = |blocks: u64| blocks.saturating_mul(told.f_frsize) as f64;
    Some([one(&postgres::DISK_BYTES, bytes(told.f_blocks)), one(&postgres::DISK_FREE_BYTES, bytes(told.f_bavail))])
}

fn one(metric: &'static PgMetric, value: f64) -> PgSample {
    PgSample { metric, labels: Vec::new(), value }
}
