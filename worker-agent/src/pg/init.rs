//! Makes a managed server's data directory. It is made under another name and renamed when it is complete, so a crash in
//! the middle leaves nothing that looks like a cluster.

use crate::identity::write_whole;
use crate::pg::account::{Account, AccountError};
use crate::pg::conf::ServerSettings;
use crate::pg::find::Install;
use crate::pg::layout::Layout;
use crate::secret::{Secret, SecretError, random_hex};
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// The managed server's superuser: the agent's own.
pub const OWNER_ROLE: &str = "atoll_owner";

const REMOVE_TRIES: u32 = 50;
const REMOVE_AGAIN_AFTER: Duration = Duration::from_millis(100);
const INCLUDE: &str = "include 'atoll.conf'";

/// Why there is no data directory to start a server on.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// A file or folder cannot be read, made or written.
    #[error("{} cannot be read, made or written", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The server's user cannot work there.
    #[error("the data directory cannot be used")]
    Account {
        /// Why.
        #[from]
        source: AccountError,
    },
    /// Something else is there.
    #[error("{} holds files but no PostgreSQL data; it is left alone: choose an empty folder", path.display())]
    Foreign {
        /// The folder.
        path: PathBuf,
    },
    /// Another agent looks after it.
    #[error("another agent looks after {}", path.display())]
    Claimed {
        /// The data directory.
        path: PathBuf,
    },
    /// The data was made by another major version.
    #[error("{} was made by PostgreSQL {data}, which {program} cannot read", path.display())]
    Major {
        /// The data directory.
        path: PathBuf,
        /// The data's version.
        data: u32,
        /// The program's version.
        program: u32,
    },
    /// The password of the owner role is gone.
    #[error("the password of role `{OWNER_ROLE}` is not where it belongs")]
    Secret {
        /// Why.
        #[from]
        source: SecretError,
    },
    /// `initdb` failed.
    #[error("initdb failed: {said}")]
    Initdb {
        /// What it printed.
        said: String,
    },
}

/// Claims the data directory for this agent, as long as the answer is held: two agents would each start what the other
/// stops.
pub fn claim(layout: &Layout) -> Result<File, InitError> {
    let path = layout.lock();
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(at(parent))?;
    }
    let file = File::create(&path).map_err(at(&path))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(Errno::WOULDBLOCK) => Err(InitError::Claimed { path: layout.data_dir().to_owned() }),
        Err(error) => Err(at(&path)(error.into())),
    }
}

/// Makes the data directory if there is none, and writes the server's settings. With data made anew, the identity in
/// `identity_file` goes. Blocks for seconds.
pub fn prepare(
    layout: &Layout,
    identity_file: &Path,
    install: &Install,
    account: Option<&Account>,
    settings: &ServerSettings,
) -> Result<Secret, InitError> {
    let data_dir = layout.data_dir();
    if let Some(account) = account {
        account.check_way_to(data_dir)?;
    }
    match data_major(layout)? {
        Some(major) if major == install.major => {}
        Some(major) => {
            return Err(InitError::Major { path: data_dir.to_owned(), data: major, program: install.major });
        }
        None => make(layout, identity_file, install, account)?,
    }
    write_settings(layout, account, settings)?;
    Ok(Secret::read(&layout.secret())?)
}

/// Major version of PostgreSQL that made the data; none when there is no data.
pub fn data_major(layout: &Layout) -> Result<Option<u32>, InitError> {
    layout.data_major().map_err(at(&layout.version_file()))
}

fn make(layout: &Layout, identity_file: &Path, install: &Install, account: Option<&Account>) -> Result<(), InitError> {
    let data_dir = layout.data_dir();
    match std::fs::read_dir(data_dir).map(|mut entries| entries.next().is_some()) {
        Ok(true) => return Err(InitError::Foreign { path: data_dir.to_owned() }),
        Ok(false) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(at(data_dir)(error)),
    }
    tracing::info!(data_dir = %data_dir.display(), postgres = install.major, "making the data directory");
    // An initdb that outlived a killed agent may still write: it loses its folder, and the new one has another name.
    let parent = layout.unfinished();
    remove_tree(&parent)?;
    std::fs::create_dir(&parent).map_err(at(&parent))?;
    std::fs::set_permissions(&parent, Permissions::from_mode(0o755)).map_err(at(&parent))?;
    let unfinished = parent.join(random_hex::<8>());
    std::fs::create_dir(&unfinished).map_err(at(&unfinished))?;
    std::fs::set_permissions(&unfinished, Permissions::from_mode(0o700)).map_err(at(&unfinished))?;
    give(account, &unfinished)?;

    let password = Secret::random();
    let password_file = layout.password_for_initdb();
    write_whole(&password_file, password.expose().as_bytes()).map_err(at(&password_file))?;
    give(account, &password_file)?;

    let outcome = run_initdb(&unfinished, &password_file, install, account);
    remove_file(&password_file)?;
    outcome?;

    let main = unfinished.join("postgresql.conf");
    let text = std::fs::read_to_string(&main).map_err(at(&main))?;
    for (path, text) in [(main, format!("{text}\n{INCLUDE}\n")), (unfinished.join("atoll.conf"), String::new())] {
        write_whole(&path, text.as_bytes()).map_err(at(&path))?;
        give(account, &path)?;
    }
    // New data is a new worker: password and identity of the data that was here before must not live on. Only now, when
    // nothing else can fail any more.
    remove_file(identity_file)?;
    remove_file(&layout.group())?;
    write_whole(&layout.secret(), password.expose().as_bytes()).map_err(at(&layout.secret()))?;
    std::fs::rename(&unfinished, data_dir).map_err(at(data_dir))?;
    if let Some(above) = data_dir.parent() {
        File::open(above).and_then(|folder| folder.sync_all()).map_err(at(above))?;
    }
    remove_tree(&parent)
}

fn run_initdb(
    data_dir: &Path,
    password_file: &Path,
    install: &Install,
    account: Option<&Account>,
) -> Result<(), InitError> {
    let program = install.bin.join("initdb");
    let mut command = Command::new(&program);
    command.args(["--encoding=UTF8", "--locale=C", "--auth=scram-sha-256", "--data-checksums", "--no-instructions"]);
    command.arg(format!("--username={OWNER_ROLE}"));
    command.arg("--pwfile").arg(password_file).arg("--pgdata").arg(data_dir);
    clean_environment(&mut command);
    if let Some(account) = account {
        account.take_on(&mut command);
    }
    let output = command.stdin(Stdio::null()).output().map_err(at(&program))?;
    if output.status.success() {
        return Ok(());
    }
    let said = format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    Err(InitError::Initdb { said })
}

/// Writes all settings but those of the group.
pub(super) fn write_settings(
    layout: &Layout,
    account: Option<&Account>,
    settings: &ServerSettings,
) -> Result<(), InitError> {
    let logs = layout.logs();
    std::fs::create_dir_all(&logs).map_err(at(&logs))?;
    give(account, &logs)?;
    let sockets = layout.sockets();
    if let Some(folder) = &sockets {
        std::fs::create_dir_all(folder).map_err(at(folder))?;
        std::fs::set_permissions(folder, Permissions::from_mode(0o700)).map_err(at(folder))?;
        give(account, folder)?;
    }
    let inside = |name| layout.data_dir().join(name);
    let files = [
        (layout.settings(), settings.text(&logs, sockets.as_deref())),
        (inside("pg_hba.conf"), settings.access()),
        (inside("pg_ident.conf"), settings.own_login(Account::own_name().as_deref())),
    ];
    for (path, text) in files {
        write_whole(&path, text.as_bytes()).map_err(at(&path))?;
        give(account, &path)?;
    }
    Ok(())
}

/// Takes the client's environment (`PGDATA`, `PGPORT`…) and the locale away, and stands where every user may stand.
pub(crate) fn clean_environment(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PG") {
            command.env_remove(name);
        }
    }
    // A server that subscribes looks there for a certificate to show: in the home of whoever started us it may not even look.
    command.env("LC_ALL", "C").env("HOME", "/").current_dir("/");
}

pub(super) fn give(account: Option<&Account>, path: &Path) -> Result<(), InitError> {
    match account {
        Some(account) => account.own(path).map_err(at(path)),
        None => Ok(()),
    }
}

pub(super) fn remove_tree(path: &Path) -> Result<(), InitError> {
    let mut tries_left = REMOVE_TRIES;
    loop {
        tries_left -= 1;
        match std::fs::remove_dir_all(path) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            // Somebody makes files there faster than they are removed.
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty && tries_left > 0 => {
                std::thread::sleep(REMOVE_AGAIN_AFTER);
            }
            Err(error) => return Err(at(path)(error)),
        }
    }
}

pub(super) fn remove_file(path: &Path) -> Result<(), InitError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(path)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

pub(crate) fn at(path: &Path) -> impl FnOnce(io::Error) -> InitError {
    let path = path.to_owned();
    move |source| InitError::File { path, source }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::pg::machine::Machine;
    use crate::pg::version::PgvectorVersion;

    #[test]
    fn a_failed_initdb_leaves_secret_and_identity_as_they_were() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(&folder.path().join("w1"));
        let identity_file = folder.path().join("elsewhere.identity");
        std::fs::write(layout.secret(), "old").unwrap();
        std::fs::write(&identity_file, "old").unwrap();
        // There is no `initdb` there.
        let install = Install { bin: folder.path().join("bin"), major: 18, pgvector: PgvectorVersion::OLDEST_SAFE };
        let host = "127.0.0.1".parse().unwrap();
        let settings = ServerSettings::for_machine(host, 1, 16, true, 1, Machine::default());
        assert!(prepare(&layout, &identity_file, &install, None, &settings).is_err());
        for kept in [layout.secret(), identity_file] {
            assert_eq!(std::fs::read_to_string(&kept).unwrap(), "old", "{}", kept.display());
        }
    }
}
