//! The managed server's settings, written anew at each start of the agent. A server that it starts runs with them; one that
//! it adopts takes up those that need no restart, and of the others the agent warns.

use crate::pg::init::OWNER_ROLE;
use crate::pg::machine::Machine;
use crate::pg::replica::REPLICA_ROLE;
use crate::pg::server_tls;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// What the settings depend on.
#[derive(Debug, Clone)]
pub struct ServerSettings {
    /// Address to listen on.
    pub host: IpAddr,
    /// TCP port.
    pub port: u16,
    /// Shared buffers in MiB.
    pub shared_buffers_mb: u64,
    /// Memory for building one index, in MiB.
    pub maintenance_work_mem_mb: u64,
    /// Whether commits reach the disk.
    pub fsync: bool,
    /// Processes that help to build an index.
    pub parallel_builders: u32,
    /// Folder of its certificate, if it has one: then it takes no connection without TLS.
    pub tls: Option<PathBuf>,
}

/// Name of the map in `pg_ident.conf`.
const OWN_LOGIN: &str = "atoll_agent";
const MEBIBYTE: u64 = 1024 * 1024;

impl ServerSettings {
    /// Settings for this machine, or a server's share of it; `shared_buffers_mb` 0 takes a quarter of its memory, 128 MiB to 8 GiB. `builds_at_once` graphs
    /// are built at a time, in an eighth of the memory together.
    pub fn for_machine(
        host: IpAddr,
        port: u16,
        shared_buffers_mb: u32,
        fsync: bool,
        builds_at_once: u32,
        machine: Machine,
    ) -> Self {
        let memory_mb = machine.memory_bytes.map_or(512, |bytes| bytes / MEBIBYTE);
        let shared_buffers_mb = match shared_buffers_mb {
            0 => (memory_mb / 4).clamp(128, 8 * 1024),
            given => u64::from(given),
        };
        let builds = u64::from(builds_at_once.max(1));
        let maintenance_work_mem_mb = (memory_mb / 8 / builds).clamp(64, 1024);
        // A parallel build shares its graph through /dev/shm and fails where that is too small, as it is in containers
        // by default.
        let needed_bytes = builds * maintenance_work_mem_mb * MEBIBYTE;
        let parallel_builders = match machine.shared_memory_bytes {
            Some(bytes) if bytes < needed_bytes => 0,
            // The most that one build may have: how many it takes is decided when it begins. PostgreSQL has eight for everything.
            Some(_) | None => machine.cores.saturating_sub(1).min(7),
        };
        Self { host, port, shared_buffers_mb, maintenance_work_mem_mb, fsync, parallel_builders, tls: None }
    }

    /// The text of `atoll.conf`; `sockets` is the folder of the socket by which the agent logs in on a copy of another's data. What
    /// the group's record says is in a file of its own, and wins.
    pub fn text(&self, logs: &Path, sockets: Option<&Path>) -> String {
        let Self { host, port, shared_buffers_mb, maintenance_work_mem_mb, fsync, parallel_builders, tls } = self;
        let tls = tls.as_deref().map(server_tls::settings).unwrap_or_default();
        let fsync = if *fsync { "on" } else { "off" };
        let logs = quoted(&logs.to_string_lossy());
        let sockets = quoted(&sockets.map(Path::to_string_lossy).unwrap_or_default());
        format!(
            "# Written by atoll-agent at each start; changes here are lost.\n\
             listen_addresses = '{host}'\n\
             port = {port}\n\
             unix_socket_directories = {sockets}\n\
             max_connections = 100\n\
             password_encryption = scram-sha-256\n\
             tcp_keepalives_idle = 30\n\
             tcp_keepalives_interval = 10\n\
             tcp_keepalives_count = 3\n\
             shared_buffers = {shared_buffers_mb}MB\n\
             maintenance_work_mem = {maintenance_work_mem_mb}MB\n\
             max_parallel_maintenance_workers = {parallel_builders}\n\
             random_page_cost = 1.1\n\
             jit = off\n\
             fsync = {fsync}\n\
             full_page_writes = on\n\
             wal_level = logical\n\
             max_wal_size = 2GB\n\
             max_wal_senders = 20\n\
             max_replication_slots = 20\n\
             max_worker_processes = 24\n\
             max_logical_replication_workers = 12\n\
             max_sync_workers_per_subscription = 2\n\
             wal_retrieve_retry_interval = 1s\n\
             max_slot_wal_keep_size = 4GB\n\
             hot_standby = on\n\
             autovacuum = on\n\
             autovacuum_naptime = 30s\n\
             statement_timeout = 0\n\
             idle_in_transaction_session_timeout = 10s\n\
             timezone = 'UTC'\n\
             log_timezone = 'UTC'\n\
             logging_collector = on\n\
             log_directory = {logs}\n\
             log_filename = 'postgresql-%a.log'\n\
             log_rotation_age = 1d\n\
             log_rotation_size = 0\n\
             log_truncate_on_rotation = on\n\
             log_checkpoints = off\n\
             log_line_prefix = '%m [%p] %q%a '\n\
             {tls}\
             include_if_exists 'atoll.replica.conf'\n"
        )
    }

    /// The text of `pg_ident.conf`: which user of the system is the owner role on the socket. That is the agent's, named `own`; the
    /// owner's password comes with a copy of another's data, and is not ours there.
    pub fn own_login(&self, own: Option<&str>) -> String {
        let line = own.map(|own| format!("{OWN_LOGIN} \"{own}\" {OWNER_ROLE}\n")).unwrap_or_default();
        format!("# Written by atoll-agent at each start; changes here are lost.\n{line}")
    }

    /// The text of `pg_hba.conf`: by TCP with a password only, by the socket as the agent only; from elsewhere only if the server listens there, and to copy the
    /// whole server (`pg_basebackup`) from this machine only, unless it is a standby that does.
    pub fn access(&self) -> String {
        let host = if self.tls.is_some() { "hostssl" } else { "host" };
        // The last one is for backups of the whole server.
        let mut text = format!(
            "# Written by atoll-agent at each start; changes here are lost.\n\
             local all {OWNER_ROLE} peer map={OWN_LOGIN}\n\
             {host} all all 127.0.0.1/32 scram-sha-256\n\
             {host} all all ::1/128 scram-sha-256\n\
             {host} replication all samehost scram-sha-256\n"
        );
        if !self.host.is_loopback() {
            text.push_str(&format!("{host} replication {REPLICA_ROLE} all scram-sha-256\n"));
            text.push_str(&format!("{host} all all all scram-sha-256\n"));
        }
        text
    }

    /// The address to connect to from this machine.
    pub fn reachable_host(&self) -> IpAddr {
        match self.host {
            IpAddr::V4(address) if address.is_unspecified() => IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
            IpAddr::V6(address) if address.is_unspecified() => IpAddr::V6(std::net::Ipv6Addr::LOCALHOST),
            IpAddr::V4(_) | IpAddr::V6(_) => self.host,
        }
    }
}

pub(super) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn settings(host: &str, shared_buffers_mb: u32) -> ServerSettings {
        let machine = Machine { memory_bytes: Some(16 << 30), shared_memory_bytes: Some(8 << 30), cores: 8 };
        ServerSettings::for_machine(host.parse().unwrap(), 7900, shared_buffers_mb, true, 4, machine)
    }

    #[test]
    fn memory_follows_the_machine_unless_given() {
        assert_eq!(settings("127.0.0.1", 0).shared_buffers_mb, 4096);
        assert_eq!(settings("127.0.0.1", 32).shared_buffers_mb, 32);
        let small = ServerSettings::for_machine("127.0.0.1".parse().unwrap(), 7900, 0, true, 1, Machine::default());
        assert_eq!((small.shared_buffers_mb, small.parallel_builders), (128, 0));
    }

    #[test]
    fn builds_share_an_eighth_of_the_memory() {
        let shared = settings("127.0.0.1", 0);
        assert_eq!((shared.maintenance_work_mem_mb, shared.parallel_builders), (512, 7));
        let machine = Machine { memory_bytes: Some(4 << 30), shared_memory_bytes: None, cores: 2 };
        let alone = ServerSettings::for_machine("127.0.0.1".parse().unwrap(), 7900, 0, true, 1, machine);
        assert_eq!((alone.maintenance_work_mem_mb, alone.parallel_builders), (512, 1));
        let many = ServerSettings::for_machine("127.0.0.1".parse().unwrap(), 7900, 0, true, 64, machine);
        assert_eq!(many.maintenance_work_mem_mb, 64, "too little makes a build slower than it saves");
    }

    #[test]
    fn servers_on_one_machine_share_its_memory() {
        let machine = Machine { memory_bytes: Some(24 << 30), shared_memory_bytes: Some(12 << 30), cores: 2 };
        let one_of_three =
            ServerSettings::for_machine("127.0.0.1".parse().unwrap(), 7900, 0, true, 1, machine.shared_by(3));
        assert_eq!((one_of_three.shared_buffers_mb, one_of_three.maintenance_work_mem_mb), (2048, 1024));
        assert_eq!(one_of_three.parallel_builders, 1);
    }

    #[test]
    fn little_shared_memory_means_no_parallel_builds() {
        let container = Machine { memory_bytes: Some(16 << 30), shared_memory_bytes: Some(64 << 20), cores: 8 };
        let settings = ServerSettings::for_machine("127.0.0.1".parse().unwrap(), 7900, 0, true, 4, container);
        assert!(settings.text(Path::new("/x"), None).contains("max_parallel_maintenance_workers = 0\n"));
    }

    #[test]
    fn text_holds_what_was_decided() {
        let text = settings("127.0.0.1", 32).text(Path::new("/x/it's.logs"), None);
        for line in ["port = 7900\n", "shared_buffers = 32MB\n", "fsync = on\n", "log_directory = '/x/it''s.logs'\n"] {
            assert!(text.contains(line), "{line}");
        }
    }

    #[test]
    fn strangers_are_let_in_only_where_the_server_listens() {
        assert!(!settings("127.0.0.1", 0).access().contains("all all all"));
        assert!(settings("10.0.0.5", 0).access().contains("host replication all samehost scram-sha-256\n"));
        assert!(settings("10.0.0.5", 0).access().contains("host all all all scram-sha-256"));
        assert!(!settings("0.0.0.0", 0).access().contains("trust"));
        let encrypted = ServerSettings { tls: Some("/x/w1.tls".into()), ..settings("10.0.0.5", 0) };
        let access = encrypted.access();
        let (by_socket, by_tcp): (Vec<&str>, Vec<&str>) =
            access.lines().skip(1).partition(|line| line.starts_with("local"));
        assert_eq!(by_socket, ["local all atoll_owner peer map=atoll_agent"], "nobody but the agent");
        assert!(by_tcp.iter().all(|line| line.starts_with("hostssl ")), "{access}");
        assert!(encrypted.text(Path::new("/x"), None).contains("ssl_key_file = '/x/w1.tls/server.key'\n"));
        assert!(!settings("10.0.0.5", 0).text(Path::new("/x"), None).contains("ssl"));
        assert_eq!(settings("0.0.0.0", 0).reachable_host().to_string(), "127.0.0.1");
    }
}
