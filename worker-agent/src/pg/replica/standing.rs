//! How a server stands.

use super::{LOOK_LIMIT, Replica, ReplicaError, settings};
use crate::pg::connect::PgError;
use crate::pg::session::Session;
use crate::pg::steer::Run;
use atoll_proto::group::{Disk, Position, Server};
use atoll_proto::{Generation, Lsn, WorkerId};
use std::collections::{BTreeMap, BTreeSet};
use tokio_postgres::types::PgLsn;

/// What a group begins with, so what a log is of that has recorded none.
pub(super) const FIRST: Generation = Generation(1);

/// What a look found.
#[derive(Debug, Clone)]
pub struct Look {
    /// What the server is doing.
    pub server: Server,
    /// How far its log goes; none while it does not run.
    pub position: Option<Position>,
    /// Of a standby: whether it receives from its primary.
    pub connected: bool,
    /// PostgreSQL's number of the history that its newest generation began, if it recorded one.
    pub(super) timeline: Option<i32>,
    /// Whom it counts, as its settings in force have it; none where they name nobody.
    pub list: Option<BTreeSet<Disk>>,
    /// Of a primary: the standbys that stream from it.
    pub streaming: BTreeMap<Disk, Reached>,
}

/// How far a standby has got with what its primary sends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reached {
    /// It is on its disk.
    pub flushed: Lsn,
    /// Its readers see it.
    pub replayed: Lsn,
}

impl Replica {
    /// Looks at the server. An error means that it can't be told: it starts, or replays.
    pub async fn look(&self) -> Result<Look, ReplicaError> {
        if matches!(self.steering.now(), Run::Stop | Run::Stopped) {
            let standby = self.layout.standby_signal().exists();
            let server = Server::Stopped { standby };
            return Ok(Look {
                server,
                position: None,
                connected: false,
                timeline: None,
                list: None,
                streaming: BTreeMap::new(),
            });
        }
        let mut kept = self.session.lock().await;
        let session = match kept.take().filter(|session| !session.is_closed()) {
            Some(session) => session,
            None => self.owner()?.connect(LOOK_LIMIT).await?,
        };
        let look = look(&session).await?;
        // One that failed is not kept.
        *kept = Some(session);
        look
    }
}

async fn look(session: &Session) -> Result<Result<Look, ReplicaError>, PgError> {
    let row = session.query_one("tell how it stands", include_str!("standing.sql"), &[]).await?;
    let lsn = |name: &str| row.get::<_, Option<PgLsn>>(name).map_or(Lsn(0), |lsn| Lsn(lsn.into()));
    let (whole, received) = (lsn("whole"), lsn("received"));
    let newest = match row.get("has_generations") {
        true => {
            let statement = "select generation, timeline from atoll.generation order by generation desc limit 1";
            session.query_opt("read its generation", statement, &[]).await?
        }
        false => None,
    };
    let follows = row.get::<_, Option<String>>("follows").and_then(|text| text.parse().ok()).map(WorkerId);
    let server = match (row.get("in_recovery"), row.get("receives"), follows) {
        (false, _, _) => Server::Primary,
        (true, true, Some(worker)) => Server::Following { worker },
        // Between two settings, or by somebody's hand.
        (true, true, None) => return Ok(Err(ReplicaError::NotYet("it still receives"))),
        (true, false, _) if row.get("has_replayed") => Server::Detached,
        (true, false, _) => return Ok(Err(ReplicaError::NotYet("it replays what it has"))),
    };
    // What was received beyond the last whole record says nothing that could have been acknowledged.
    let lsn = if matches!(server, Server::Following { .. }) { whole.max(received) } else { whole };
    let generation = newest.as_ref().map_or(FIRST, |row| Generation(u64::try_from(row.get::<_, i64>(0)).unwrap_or(0)));
    let streaming = match server {
        Server::Primary => streaming(session).await?,
        Server::Stopped { .. } | Server::Detached | Server::Following { .. } | Server::Unusable { .. } => {
            BTreeMap::new()
        }
    };
    Ok(Ok(Look {
        server,
        position: Some(Position { generation, lsn }),
        connected: row.get("connected"),
        timeline: newest.map(|row| row.get(1)),
        list: row.get::<_, Option<String>>("listed").and_then(|text| settings::listed(&text)),
        streaming,
    }))
}

async fn streaming(session: &Session) -> Result<BTreeMap<Disk, Reached>, PgError> {
    let statement = "select application_name, flush_lsn, replay_lsn from pg_stat_replication where state = 'streaming'";
    let rows = session.query("tell who streams from it", statement, &[]).await?;
    let one = |row: &tokio_postgres::Row| {
        let lsn = |column: usize| row.get::<_, Option<PgLsn>>(column).map_or(Lsn(0), |lsn| Lsn(lsn.into()));
        Some((settings::named(row.get(0))?, Reached { flushed: lsn(1), replayed: lsn(2) }))
    };
    Ok(rows.iter().filter_map(one).collect())
}
