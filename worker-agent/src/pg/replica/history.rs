//! Whether a log can go on by the primary's: it holds nothing that the primary's has not, and the primary has what comes next. PostgreSQL's numbers of timelines do not tell it alone: servers that are promoted
//! apart from each other take the same one. With the generation that each of them began they do, for a generation has one primary.
//! Where that leaves a doubt (a timeline that recorded no generation) the log is taken to have diverged: pg_rewind is then done needlessly.

use super::standing::Look;
use super::{REPLICA_ROLE, Replica, ReplicaError};
use crate::pg::connect::Target;
use crate::pg::init;
use crate::secret::Secret;
use atoll_proto::Lsn;
use atoll_proto::agent::PostgresAddress;
use atoll_proto::group::Fit;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio_postgres::types::PgLsn;

const ASK_LIMIT: Duration = Duration::from_secs(2);

/// Where a log ends.
#[derive(Debug, Clone, Copy)]
struct Mine {
    timeline: i32,
    lsn: Lsn,
    /// Its newest generation and the timeline that began with it, if it recorded one.
    newest: Option<(i64, i32)>,
}

/// What the primary's log went through.
#[derive(Debug, Default)]
struct Theirs {
    timeline: i32,
    lsn: u64,
    /// Where it left older timelines.
    left: BTreeMap<i32, Lsn>,
    /// Generations and their timelines.
    generations: BTreeMap<i64, i32>,
    /// Whether what comes next is gone.
    lacks_next: bool,
}

impl Replica {
    /// Compares the log of a standby, as [`Replica::look`] found it, with that of the primary at `address`.
    pub async fn compare(&self, found: &Look, address: &PostgresAddress) -> Result<Fit, ReplicaError> {
        let Some(position) = found.position else { return Err(ReplicaError::NotYet("its log is not known")) };
        let generation = i64::try_from(position.generation.0).unwrap_or(i64::MAX);
        let newest = found.timeline.map(|timeline| (generation, timeline));
        let timeline = self.newest_timeline()?.max(newest.map_or(1, |(_, timeline)| timeline));
        let theirs = self.ask(address, position.lsn).await?;
        Ok(match diverged(Mine { timeline, lsn: position.lsn, newest }, &theirs) {
            true => Fit::Diverged,
            false if theirs.lacks_next => Fit::Behind,
            false => Fit::GoesOn,
        })
    }

    /// The newest timeline that is known here: each but the first has a file that says where it comes from.
    fn newest_timeline(&self) -> Result<i32, ReplicaError> {
        let folder = self.layout.data_dir().join("pg_wal");
        let names = std::fs::read_dir(&folder).map_err(init::at(&folder))?.flatten().map(|entry| entry.file_name());
        let number = |name: std::ffi::OsString| i32::from_str_radix(name.to_str()?.strip_suffix(".history")?, 16).ok();
        Ok(names.filter_map(number).max().unwrap_or(1))
    }

    async fn ask(&self, address: &PostgresAddress, from: Lsn) -> Result<Theirs, ReplicaError> {
        let file = self.password_file.clone();
        let target = Target {
            host: address.host.clone(),
            address: None,
            port: address.port,
            user: REPLICA_ROLE.to_owned(),
            password: Some(atoll_trust::Kept::new(move || Secret::read(&file))?),
            database: address.database.clone(),
            first_database: None,
            tls: self.tls.clone(),
        };
        let session = target.connect(ASK_LIMIT).await?;
        let statement = "select ('x' || substr(pg_walfile_name(pg_current_wal_flush_lsn()), 1, 8))::bit(32)::integer,
                                pg_current_wal_flush_lsn()";
        let row = session.query_one("tell where its log is", statement, &[]).await?;
        let mut theirs = Theirs { timeline: row.get(0), lsn: row.get::<_, PgLsn>(1).into(), ..Theirs::default() };
        if theirs.timeline > 1 {
            let statement = "select convert_from(pg_read_binary_file(
                                 'pg_wal/' || lpad(upper(to_hex($1::integer)), 8, '0') || '.history'), 'UTF8')";
            let text: String = session.query_one("read its history", statement, &[&theirs.timeline]).await?.get(0);
            theirs.left = left(&text);
        }
        let statement = "select generation, timeline from atoll.generation";
        let rows = session.query("tell its generations", statement, &[]).await?;
        theirs.generations = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        // Of a segment's name the first eight digits are the timeline's.
        let statement =
            "select coalesce(substr(pg_walfile_name($1), 9) collate \"C\" < min(substr(name, 9) collate \"C\"), false)
                           from pg_ls_dir('pg_wal', true, false) as name where name ~ '^[0-9A-F]{24}$'";
        theirs.lacks_next = session.query_one("tell what it keeps", statement, &[&PgLsn::from(from.0)]).await?.get(0);
        Ok(theirs)
    }
}

/// Lines of a history: a timeline, where it was left, and a reason.
fn left(text: &str) -> BTreeMap<i32, Lsn> {
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
    };
    text.lines().filter_map(line).collect()
}

fn diverged(mine: Mine, theirs: &Theirs) -> bool {
    let same_past = match mine.newest {
        Some((generation, timeline)) => {
            theirs.generations.get(&generation) == Some(&timeline) && timeline == mine.timeline
        }
        None => theirs.generations.values().all(|timeline| *timeline > mine.timeline),
    };
    let end = match mine.timeline == theirs.timeline {
        true => Some(Lsn(theirs.lsn)),
        false => theirs.left.get(&mine.timeline).copied(),
    };
    !same_past || end.is_none_or(|end| mine.lsn > end)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_log_diverged_unless_it_is_the_beginning_of_the_primarys() {
        let theirs = Theirs {
            timeline: 3,
            lsn: 900,
            left: left("1\t0/64\tno recovery target specified\n\n2\t0/C8\tno\n"),
            generations: [(2, 2), (4, 3)].into(),
            lacks_next: false,
        };
        let mine = |timeline, lsn, newest| diverged(Mine { timeline, lsn: Lsn(lsn), newest }, &theirs);
        assert!(!mine(1, 100, None) && mine(1, 101, None), "the first one was left at 100");
        assert!(!mine(2, 200, Some((2, 2))) && mine(2, 201, Some((2, 2))));
        assert!(!mine(3, 900, Some((4, 3))) && mine(3, 901, Some((4, 3))));
        assert!(mine(3, 300, Some((3, 3))), "the same number, given apart");
        assert!(mine(2, 150, None), "promoted, and recorded nothing");
        assert!(mine(4, 150, Some((2, 2))));
    }

    #[test]
    fn a_group_that_never_failed_over_has_one_log() {
        let theirs = Theirs { timeline: 1, lsn: 500, ..Theirs::default() };
        assert!(!diverged(Mine { timeline: 1, lsn: Lsn(500), newest: None }, &theirs));
        assert!(diverged(Mine { timeline: 1, lsn: Lsn(501), newest: None }, &theirs));
    }
}
