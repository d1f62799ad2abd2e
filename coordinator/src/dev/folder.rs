//! The folder of a development cluster: where its files are, its lock, its secrets.

use super::topology::{Topology, worker_name};
use crate::cli::CommandError;
use rand::Rng;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

const SECRET_BYTES: usize = 32;

/// The folder, locked for this process.
#[derive(Debug)]
pub(super) struct Folder {
    root: PathBuf,
    /// Locked as long as it is open; the system closes it when we die.
    _lock: File,
}

impl Folder {
    /// The usual place: a system folder for root, because PostgreSQL then runs as another user who must reach it.
    pub(super) fn usual() -> Result<PathBuf, CommandError> {
        if rustix::process::geteuid().is_root() {
            return Ok(PathBuf::from("/var/lib/atoll-dev"));
        }
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        match (set("XDG_DATA_HOME"), set("HOME")) {
            (Some(data), _) => Ok(data.join("atoll-dev")),
            (None, Some(home)) => Ok(home.join(".local/share/atoll-dev")),
            (None, None) => Err(CommandError::Usage("there is no home folder: give --data-dir".to_owned())),
        }
    }

    /// Makes the folder if need be, and takes its lock.
    pub(super) fn open(path: &Path) -> Result<Self, CommandError> {
        let path = std::path::absolute(path).map_err(failed("use", path))?;
        if rustix::process::geteuid().is_root() {
            check_passable(&path)?;
        }
        make(&path, 0o755)?;
        let root = path.canonicalize().map_err(failed("use", &path))?;
        let lock_path = root.join("dev.lock");
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&lock_path)
            .map_err(failed("open", &lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                // Only for the message: without it the message is shorter.
                let _ = lock.read_to_string(&mut pid);
                return Err(CommandError::Failed(format!(
                    "another `atoll dev` (pid {}) runs on {}: stop it, or choose another folder with --data-dir and \
                     another --port",
                    pid.trim(),
                    root.display()
                )));
            }
            Err(TryLockError::Error(source)) => return Err(failed("lock", &lock_path)(source)),
        }
        lock.set_len(0)
            .and_then(|()| lock.write_all(format!("{}\n", std::process::id()).as_bytes()))
            .map_err(failed("write", &lock_path))?;
        let folder = Self { root, _lock: lock };
        for (name, mode) in [("config", 0o755), ("logs", 0o755), ("secrets", 0o700)] {
            make(&folder.root.join(name), mode)?;
        }
        Ok(folder)
    }

    /// The folder itself.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Configurations of the processes.
    pub(super) fn config(&self) -> PathBuf {
        self.root.join("config")
    }

    /// A process's configuration.
    pub(super) fn config_of(&self, name: &str) -> PathBuf {
        self.config().join(format!("{name}.toml"))
    }

    /// Logs of the processes.
    pub(super) fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }

    /// A process's log.
    pub(super) fn log_of(&self, name: &str) -> PathBuf {
        self.logs().join(format!("{name}.log"))
    }

    /// Data directory of a worker's PostgreSQL.
    pub(super) fn postgres_data(&self, worker: u16) -> PathBuf {
        self.root.join(worker_name(worker)).join("postgres")
    }

    /// Major version of PostgreSQL that made the workers' data; none before there is any.
    pub(super) fn data_major(&self, topology: &Topology) -> Result<Option<String>, CommandError> {
        for worker in topology.workers() {
            let path = self.postgres_data(worker).join("PG_VERSION");
            match std::fs::read_to_string(&path) {
                Ok(text) => return Ok(Some(text.trim().to_owned())),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed("read", &path)(error)),
            }
        }
        Ok(None)
    }

    /// What the processes of the cluster show each other.
    pub(super) fn cluster_secret(&self) -> PathBuf {
        self.root.join("secrets/cluster.secret")
    }

    /// The password of the coordinators' role.
    pub(super) fn postgres_password(&self) -> PathBuf {
        self.root.join("secrets/postgres.password")
    }

    /// What runs where, for tests and tools.
    pub(super) fn cluster_file(&self) -> PathBuf {
        self.root.join("cluster.json")
    }

    /// The topology of the first start; none before it.
    pub(super) fn topology(&self) -> Result<Option<Topology>, CommandError> {
        let path = self.topology_file();
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("read", &path)(error)),
        };
        let unusable = |error| CommandError::Failed(format!("{} cannot be used: {error}", path.display()));
        Topology::parse(&text).map(Some).map_err(unusable)
    }

    /// Keeps the topology.
    pub(super) fn keep_topology(&self, topology: &Topology) -> Result<(), CommandError> {
        let text = serde_json::to_string_pretty(topology).expect("numbers and a path serialise");
        write_whole(&self.topology_file(), &text, 0o644)
    }

    /// A secret, made when it is first asked for.
    pub(super) fn secret(&self, path: &Path) -> Result<String, CommandError> {
        match std::fs::read_to_string(path) {
            Ok(text) => return Ok(text.trim().to_owned()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed("read", path)(error)),
        }
        let mut random = [0_u8; SECRET_BYTES];
        rand::rng().fill_bytes(&mut random);
        let secret: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        write_whole(path, &secret, 0o600)?;
        Ok(secret)
    }

    /// Makes a folder inside.
    pub(super) fn make(&self, name: &str) -> Result<(), CommandError> {
        make(&self.root.join(name), 0o755)
    }

    fn topology_file(&self) -> PathBuf {
        self.root.join("topology.json")
    }
}

/// Writes a file so that nobody ever sees half of it.
pub(super) fn write_whole(path: &Path, text: &str, mode: u32) -> Result<(), CommandError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = PathBuf::from(name);
    // Gone first: an old one could have a wider mode.
    if let Err(error) = std::fs::remove_file(&new)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(failed("write", &new)(error));
    }
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(mode).open(&new).map_err(failed("write", &new))?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.write_all(b"\n"))
        .and_then(|()| file.sync_all())
        .and_then(|()| std::fs::rename(&new, path))
        .map_err(failed("write", path))
}

/// Makes a folder and what is missing above it, with this mode whatever the umask says; one that exists stays as it is.
fn make(path: &Path, mode: u32) -> Result<(), CommandError> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        make(parent, 0o755)?;
    }
    DirBuilder::new()
        .mode(mode)
        .create(path)
        .and_then(|()| std::fs::set_permissions(path, PermissionsExt::from_mode(mode)))
        .map_err(failed("make the folder", path))
}

/// As root PostgreSQL runs as another user, who must be able to pass every folder on the way.
fn check_passable(path: &Path) -> Result<(), CommandError> {
    for folder in path.ancestors() {
        let Ok(metadata) = std::fs::metadata(folder) else {
            // It will be made, passable.
            continue;
        };
        if metadata.mode() & 0o001 == 0 {
            return Err(CommandError::Failed(format!(
                "started by root, PostgreSQL runs as an unprivileged user, who cannot reach {}: {} is closed to others. \
                 Choose another folder, for instance --data-dir /var/lib/atoll-dev, or open it: chmod o+x {}",
                path.display(),
                folder.display(),
                folder.display()
            )));
        }
    }
    Ok(())
}

/// Names the file in an error of the system.
pub(super) fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CommandError + use<> {
    let path = path.to_owned();
    move |source| CommandError::File { doing, path, source }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::dev::topology::Wanted;

    #[test]
    fn a_folder_is_for_one_at_a_time_and_keeps_its_secrets() {
        let parent = tempfile::tempdir().unwrap();
        // Passable, as root asks for it.
        std::fs::set_permissions(parent.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let path = parent.path().join("a/b");
        let folder = Folder::open(&path).unwrap();
        let secret = folder.secret(&folder.cluster_secret()).unwrap();
        assert_eq!(secret.len(), 2 * SECRET_BYTES);
        assert_ne!(secret, folder.secret(&folder.postgres_password()).unwrap());
        let mode = |path: &Path| std::fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!(mode(&folder.cluster_secret()), 0o600);
        assert_eq!(mode(&path.join("secrets")), 0o700);
        assert_eq!(mode(&path), 0o755);

        let error = Folder::open(&path).unwrap_err();
        assert!(error.to_string().contains(&format!("pid {}", std::process::id())), "{error}");
        drop(folder);
        let again = Folder::open(&path).unwrap();
        assert_eq!(again.secret(&again.cluster_secret()).unwrap(), secret);
    }

    #[test]
    fn any_workers_data_tells_its_version() {
        let parent = tempfile::tempdir().unwrap();
        std::fs::set_permissions(parent.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let folder = Folder::open(parent.path()).unwrap();
        let topology = Topology::new(&Wanted::default(), "/pg".into());
        assert_eq!(folder.data_major(&topology).unwrap(), None);
        std::fs::create_dir_all(folder.postgres_data(2)).unwrap();
        std::fs::write(folder.postgres_data(2).join("PG_VERSION"), "18\n").unwrap();
        assert_eq!(folder.data_major(&topology).unwrap().as_deref(), Some("18"));
    }

    #[test]
    fn a_closed_folder_on_the_way_is_named() {
        let parent = tempfile::tempdir().unwrap();
        std::fs::set_permissions(parent.path(), PermissionsExt::from_mode(0o700)).unwrap();
        let error = check_passable(&parent.path().join("x/y")).unwrap_err().to_string();
        assert!(error.contains(&format!("chmod o+x {}", parent.path().display())), "{error}");
    }

    #[test]
    fn a_file_is_replaced_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        write_whole(&path, "one", 0o600).unwrap();
        write_whole(&path, "two", 0o600).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "two\n");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
