//! `atoll.replica.conf`: whom the server receives from, and whom it waits for. Written whole. Beside PostgreSQL's own settings it
//! says in ours what they are made of, so that whoever asks the server sees what is in force and need not take them apart.

use super::{REPLICA_ROLE, ReplicaError};
use crate::pg::conf::quoted;
use crate::secret::Secret;
use atoll_proto::WorkerId;
use atoll_proto::agent::PostgresAddress;
use atoll_proto::group::{Disk, Incarnation};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;

/// Nobody has this name, so a commit that waits for it waits on.
const NOBODY: &str = "ANY 1 (atoll_nobody)";

/// Whoever copies a server has this name, which is no disk's: PostgreSQL takes a base backup for a standby that may confirm commits.
pub(super) const COPY: &str = "atoll_copy";

/// A disk's name in `application_name` and `synchronous_standby_names`.
pub(super) fn name(disk: Disk) -> String {
    format!("w{}_i{}", disk.worker.0, disk.incarnation.0)
}

/// The disk of such a name.
pub(super) fn named(name: &str) -> Option<Disk> {
    let (worker, incarnation) = name.strip_prefix('w')?.split_once("_i")?;
    Some(Disk { worker: WorkerId(worker.parse().ok()?), incarnation: Incarnation(incarnation.parse().ok()?) })
}

/// In the connection of a standby: a primary gives up one that falls silent after so long, and not only after its own minute, which others
/// need who are slower to answer.
pub(super) const SOON_GIVEN_UP: &str = "options='-c wal_sender_timeout=5s'";

/// What the file says.
pub(super) enum Settings<'a> {
    /// Receives from nobody, waits for nobody who exists.
    Closed,
    /// Receives from that worker by that connection.
    Following { worker: WorkerId, connection: &'a str },
    /// Has `copies - 1` of the listed confirm what is committed.
    Counting { me: Disk, listed: &'a BTreeSet<Disk>, copies: u32 },
    /// The same, and begins no transactions that write.
    Retiring { me: Disk, listed: &'a BTreeSet<Disk>, copies: u32 },
}

impl Settings<'_> {
    pub(super) fn text(&self) -> String {
        let (follows, connection) = match self {
            Self::Following { worker, connection } => (worker.0.to_string(), quoted(connection)),
            Self::Closed | Self::Counting { .. } | Self::Retiring { .. } => (String::new(), quoted("")),
        };
        let (listed, waits_for) = match self {
            Self::Counting { me, listed, copies } | Self::Retiring { me, listed, copies } => {
                (names(listed.iter()), waits_for(*me, listed, *copies))
            }
            Self::Closed | Self::Following { .. } => (String::new(), NOBODY.to_owned()),
        };
        let read_only = matches!(self, Self::Retiring { .. });
        // A primary's is that of the workers which copy shards to it: they only look once a second, and sources may be busy for long.
        let given_up_after = match self {
            Self::Closed | Self::Following { .. } => "1s",
            Self::Counting { .. } | Self::Retiring { .. } => "60s",
        };
        // Standbys are read. The primary keeps what their statements may still want to see; where that is not all (a lock, a table that
        // goes), replay waits for them no longer than a promotion can, and coordinators ask another member for what it ended.
        // Who follows nobody looks this often whether it may again: nothing is acknowledged by a new primary before.
        format!(
            "# Written by atoll-agent as the group's record changes; changes here are lost.\n\
             primary_conninfo = {connection}\n\
             atoll.follows = '{follows}'\n\
             synchronous_standby_names = {}\n\
             atoll.listed = '{listed}'\n\
             default_transaction_read_only = {read_only}\n\
             hot_standby_feedback = on\n\
             max_standby_streaming_delay = 500ms\n\
             max_standby_archive_delay = 500ms\n\
             wal_keep_size = 1GB\n\
             wal_receiver_timeout = {given_up_after}\n\
             wal_receiver_status_interval = 1s\n\
             wal_retrieve_retry_interval = 100ms\n",
            quoted(&waits_for)
        )
    }
}

fn names<'a>(disks: impl Iterator<Item = &'a Disk>) -> String {
    disks.map(|disk| name(*disk)).collect::<Vec<_>>().join(", ")
}

fn waits_for(me: Disk, listed: &BTreeSet<Disk>, copies: u32) -> String {
    let others: Vec<&Disk> = listed.iter().filter(|disk| **disk != me).collect();
    match copies.saturating_sub(1) as usize {
        0 => String::new(),
        // PostgreSQL would take what there is: too few.
        needed if others.len() < needed => NOBODY.to_owned(),
        needed => format!("ANY {needed} ({})", names(others.into_iter())),
    }
}

/// The disks of a list as the file has it; none of the empty one.
pub(super) fn listed(text: &str) -> Option<BTreeSet<Disk>> {
    text.split(", ").map(named).collect()
}

/// How a server is reached as [`REPLICA_ROLE`], for `libpq`. Where `found` says at which addresses its host is, nobody looks its name up.
pub(super) fn connection(
    address: &PostgresAddress,
    found: &[IpAddr],
    application_name: &str,
    password: Option<&Secret>,
    authorities: Option<&Path>,
) -> String {
    let value = |text: &str| format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"));
    let password = password.map(|password| format!(" password={}", value(password.expose()))).unwrap_or_default();
    let tls = match authorities {
        Some(file) => format!("verify-full sslrootcert={}", value(&file.to_string_lossy())),
        None => "disable".to_owned(),
    };
    // One name for each address.
    let hosts = vec![address.host.as_str(); found.len().max(1)].join(",");
    let found = found.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let found = if found.is_empty() { found } else { format!(" hostaddr={}", value(&found)) };
    format!(
        "host={}{found} port={} dbname={} user={REPLICA_ROLE} application_name={} connect_timeout=5 keepalives_idle=10 sslmode={tls}{password}",
        value(&hosts),
        address.port,
        value(&address.database),
        value(application_name)
    )
}

/// The address of a worker, or why it can't be followed.
pub(super) fn address_of(
    servers: &std::collections::BTreeMap<WorkerId, PostgresAddress>,
    worker: WorkerId,
) -> Result<&PostgresAddress, ReplicaError> {
    servers.get(&worker).ok_or(ReplicaError::NotYet("nobody has said where the primary listens"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn disk(worker: u64) -> Disk {
        Disk { worker: WorkerId(worker), incarnation: Incarnation(1_764_480_000_000) }
    }

    #[test]
    fn a_list_is_closed_until_enough_can_confirm() {
        let text = |listed: &BTreeSet<Disk>, copies| waits_for(disk(1), listed, copies);
        let three: BTreeSet<Disk> = (1..=3).map(disk).collect();
        assert_eq!(text(&three, 2), "ANY 1 (w2_i1764480000000, w3_i1764480000000)");
        assert_eq!(text(&three, 3), "ANY 2 (w2_i1764480000000, w3_i1764480000000)");
        assert_eq!(text(&[disk(1)].into(), 2), NOBODY);
        assert_eq!(text(&[disk(1)].into(), 1), "");
        assert!(Settings::Closed.text().contains("synchronous_standby_names = 'ANY 1 (atoll_nobody)'\n"));
    }

    #[test]
    fn who_retires_counts_as_before_and_takes_no_more_writes() {
        let three: BTreeSet<Disk> = (1..=3).map(disk).collect();
        let counting = Settings::Counting { me: disk(1), listed: &three, copies: 2 }.text();
        let retiring = Settings::Retiring { me: disk(1), listed: &three, copies: 2 }.text();
        assert_eq!(counting.replace("read_only = false", "read_only = true"), retiring);
        assert!(
            counting.contains("wal_receiver_timeout = 60s"),
            "a second would end what copies a shard from an idle group"
        );
        assert!(Settings::Closed.text().contains("default_transaction_read_only = false"));
    }

    #[test]
    fn a_host_is_not_looked_up_where_it_was_found() {
        let address = PostgresAddress { host: "db".to_owned(), port: 5432, database: "atoll".to_owned() };
        let text = |found: &[IpAddr]| connection(&address, found, COPY, None, None);
        assert!(text(&[]).starts_with("host='db' port=5432 "));
        let both = [IpAddr::from([192, 0, 2, 1]), "2001:db8::1".parse().unwrap()];
        assert!(text(&both).starts_with("host='db,db' hostaddr='192.0.2.1,2001:db8::1' port=5432 "));
    }

    #[test]
    fn lists_are_read_as_they_were_written() {
        let three: BTreeSet<Disk> = (1..=3).map(disk).collect();
        assert_eq!(listed(&names(three.iter())), Some(three));
        assert_eq!(listed(""), None);
        assert_eq!(named("w1_i2"), Some(Disk { worker: WorkerId(1), incarnation: Incarnation(2) }));
        assert_eq!(named("atoll_move_3"), None);
        assert_eq!(named(COPY), None);
    }
}
