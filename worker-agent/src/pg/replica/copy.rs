//! Data by another server: mended by pg_rewind, or copied anew. The caller has said durably that the data is unusable before it begins,
//! and takes that back when it is done. Both end with a standby that follows the server the data is of, for it is consistent only when
//! it has replayed what was written there meanwhile.

use super::settings::{self, Settings};
use super::{Replica, ReplicaError};
use crate::pg::init::{self, clean_environment};
use crate::secret::Secret;
use atoll_proto::WorkerId;
use atoll_proto::agent::PostgresAddress;
use atoll_proto::group::{Disk, Server};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::Duration;
use tokio::time::Instant;

/// Until a standby has replayed what it needs to be asked.
const CONSISTENT_LIMIT: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(100);

impl Replica {
    /// Gives the data what `from` has, and takes from it what `from` has not. Cancel-safe: then it is half done.
    pub async fn rewind(
        &self,
        me: Disk,
        from: WorkerId,
        servers: &BTreeMap<WorkerId, PostgresAddress>,
    ) -> Result<(), ReplicaError> {
        let address = settings::address_of(servers, from)?;
        self.stop().await;
        // A crash is recovered from by a server of its own, which cannot be a standby's.
        init::remove_file(&self.layout.standby_signal())?;
        let source = settings::connection(address, &[], settings::COPY, None, self.authorities.as_deref());
        let arguments = [
            OsStr::new("--target-pgdata"),
            self.layout.data_dir().as_os_str(),
            OsStr::new("--source-server"),
            OsStr::new(&source),
        ];
        self.program("pg_rewind", &arguments).await?;
        self.follow_after_copy(me, from, address).await
    }

    /// Replaces the data by a copy of `from`'s. Cancel-safe: then it is half done.
    pub async fn copy(
        &self,
        me: Disk,
        from: WorkerId,
        servers: &BTreeMap<WorkerId, PostgresAddress>,
    ) -> Result<(), ReplicaError> {
        let address = settings::address_of(servers, from)?;
        let (parent, data) = (self.layout.unfinished(), self.layout.data_dir());
        self.stop().await;
        init::remove_tree(&parent)?;
        std::fs::create_dir(&parent).map_err(init::at(&parent))?;
        std::fs::set_permissions(&parent, Permissions::from_mode(0o755)).map_err(init::at(&parent))?;
        let (copy, old) = (parent.join("copy"), parent.join("old"));
        std::fs::create_dir(&copy).map_err(init::at(&copy))?;
        std::fs::set_permissions(&copy, Permissions::from_mode(0o700)).map_err(init::at(&copy))?;
        init::give(self.account.as_ref(), &copy)?;
        let source = settings::connection(address, &[], settings::COPY, None, self.authorities.as_deref());
        let arguments = [
            OsStr::new("--pgdata"),
            copy.as_os_str(),
            OsStr::new("--wal-method=stream"),
            OsStr::new("--checkpoint=fast"),
            OsStr::new("--dbname"),
            OsStr::new(&source),
        ];
        self.program("pg_basebackup", &arguments).await?;
        if data.exists() {
            std::fs::rename(data, &old).map_err(init::at(data))?;
        }
        std::fs::rename(&copy, data).map_err(init::at(data))?;
        if let Some(above) = data.parent() {
            std::fs::File::open(above).and_then(|folder| folder.sync_all()).map_err(init::at(above))?;
        }
        init::remove_tree(&parent)?;
        self.follow_after_copy(me, from, address).await
    }

    /// The settings came with the data, and are the other server's.
    async fn follow_after_copy(&self, me: Disk, from: WorkerId, address: &PostgresAddress) -> Result<(), ReplicaError> {
        let connection = self.connection_to(me, address, &self.look_up(address).await)?;
        self.be_standby(&Settings::Following { worker: from, connection: &connection })?;
        init::write_settings(&self.layout, self.account.as_ref(), &self.settings)?;
        self.steering.start();
        let begun = Instant::now();
        loop {
            match self.look().await {
                Ok(found) if matches!(found.server, Server::Following { .. }) => return Ok(()),
                Ok(found) if matches!(found.server, Server::Stopped { .. }) => {
                    return Err(ReplicaError::NotYet("the server does not start on the data that it got"));
                }
                Ok(_) | Err(_) if begun.elapsed() > CONSISTENT_LIMIT => {
                    return Err(ReplicaError::NotYet("the data that it got does not become consistent"));
                }
                Ok(_) | Err(_) => tokio::time::sleep(LOOK_EVERY).await,
            }
        }
    }

    /// Runs one of PostgreSQL's programs as the server's account. The password goes by the environment, which others cannot read.
    async fn program(&self, program: &'static str, arguments: &[&OsStr]) -> Result<(), ReplicaError> {
        let path = self.install.bin.join(program);
        let password = Secret::read(&self.password_file)?;
        let mut command = std::process::Command::new(&path);
        command.args(arguments);
        clean_environment(&mut command);
        command.env("PGPASSWORD", password.expose());
        if let Some(account) = &self.account {
            account.take_on(&mut command);
        }
        let mut command = tokio::process::Command::from(command);
        let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await.map_err(init::at(&path))?;
        if output.status.success() {
            return Ok(());
        }
        let said = format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
        Err(ReplicaError::Program { program, said })
    }
}
