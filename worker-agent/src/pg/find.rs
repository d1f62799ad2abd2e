//! Finds a PostgreSQL with a safe pgvector: the one that is configured, else the newest installed one, else the cached
//! bundle, else the bundle fetched now.

use crate::pg::account::Account;
use crate::pg::fetch::{Bundle, FetchError, cache_folder};
use crate::pg::version::PgvectorVersion;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Oldest major version of PostgreSQL that a worker may have.
pub const POSTGRES_MAJOR_MIN: u32 = 15;

/// Folders that hold one folder an installed version, and what of that folder's name is fixed.
const SYSTEM_FOLDERS: [(&str, &str, &str); 6] = [
    ("/usr/lib/postgresql", "", "bin"),
    ("/usr", "pgsql-", "bin"),
    ("/opt/homebrew/opt", "postgresql@", "bin"),
    ("/usr/local/opt", "postgresql@", "bin"),
    ("/usr/local", "pgsql", "bin"),
    ("/Applications/Postgres.app/Contents/Versions", "", "bin"),
];

/// Programs of a PostgreSQL server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Install {
    /// Their folder.
    pub bin: PathBuf,
    /// Major version.
    pub major: u32,
    /// Version of pgvector that comes with it.
    pub pgvector: PgvectorVersion,
}

/// What is looked for.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Folder of programs, when the operator chose it.
    pub bin: Option<PathBuf>,
    /// Oldest pgvector that will do.
    pub pgvector_min: PgvectorVersion,
    /// Major version, when there is data of it already.
    pub major: Option<u32>,
    /// Who runs the server, if not we.
    pub account: Option<Account>,
    /// Whether to fetch the bundle when there is nothing else.
    pub fetch: bool,
}

/// Why nothing was found.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// What the operator chose will not do.
    #[error("the configured PostgreSQL in {} cannot be used: {reason}", bin.display())]
    Chosen {
        /// The folder.
        bin: PathBuf,
        /// Why.
        reason: String,
    },
    /// Nothing will do.
    #[error(
        "no PostgreSQL {POSTGRES_MAJOR_MIN} or newer with pgvector {} or newer was found.\ntried:\n{tried}\
         install one (Debian, Ubuntu: postgresql-18-pgvector of apt.postgresql.org; Fedora, RHEL: pgvector_18 of \
         yum.postgresql.org; macOS: brew install postgresql@18 pgvector), or name its folder in ATOLL_PG_BIN",
        PgvectorVersion::OLDEST_SAFE
    )]
    Nothing {
        /// One line for each thing tried.
        tried: String,
        /// Why fetching failed, if it was tried.
        source: Option<FetchError>,
    },
}

impl Wanted {
    /// A server for ourselves or `account`, with a safe pgvector, fetched if need be.
    pub fn safe(account: Option<Account>) -> Self {
        Self { bin: None, pgvector_min: PgvectorVersion::OLDEST_SAFE, major: None, account, fetch: true }
    }

    /// Looks through all places in order. Blocks, for minutes if it has to fetch.
    pub fn find(&self) -> Result<Install, FindError> {
        let chosen = self
            .bin
            .clone()
            .or_else(|| std::env::var_os("ATOLL_PG_BIN").filter(|value| !value.is_empty()).map(PathBuf::from));
        if let Some(bin) = chosen {
            return self.examine(&bin).map_err(|reason| FindError::Chosen { bin, reason });
        }
        let mut tried = String::new();
        let mut found = Vec::new();
        for bin in installed() {
            match self.examine(&bin) {
                Ok(install) => found.push(install),
                Err(reason) => tried.push_str(&format!("  {}: {reason}\n", bin.display())),
            }
        }
        if let Some(newest) = found.into_iter().max_by_key(|install| install.major) {
            return Ok(newest);
        }
        match self.bundle() {
            Ok(Some(bin)) => match self.examine(&bin) {
                Ok(install) => return Ok(install),
                Err(reason) => tried.push_str(&format!("  {}: {reason}\n", bin.display())),
            },
            Ok(None) => tried.push_str(&format!("  {}: no bundle there\n", cache_folder().display())),
            Err(error) => {
                // The reason is the source, which whoever prints this prints too.
                tried.push_str("  the bundle: it could not be fetched\n");
                return Err(FindError::Nothing { tried, source: Some(error) });
            }
        }
        Err(FindError::Nothing { tried, source: None })
    }

    fn bundle(&self) -> Result<Option<PathBuf>, FetchError> {
        let (bundle, cache) = (Bundle::for_this_machine()?, cache_folder());
        match bundle.cached(&cache) {
            Some(bin) => Ok(Some(bin)),
            None if self.fetch => bundle.fetch(&cache).map(Some),
            None => Ok(None),
        }
    }

    /// What is in `bin`, or why it will not do.
    fn examine(&self, bin: &Path) -> Result<Install, String> {
        // Its programs are run from another folder.
        let bin = &std::path::absolute(bin).map_err(|error| error.to_string())?;
        for program in ["postgres", "initdb"] {
            if !bin.join(program).is_file() {
                return Err(format!("no `{program}` there"));
            }
        }
        let printed = output(&bin.join("postgres"), "--version").ok_or("`postgres --version` does not run")?;
        let major = major_of(&printed).ok_or_else(|| format!("{printed:?} is no version of PostgreSQL"))?;
        if major < POSTGRES_MAJOR_MIN {
            return Err(format!("PostgreSQL {major} is older than {POSTGRES_MAJOR_MIN}"));
        }
        if let Some(wanted) = self.major
            && wanted != major
        {
            return Err(format!("PostgreSQL {major} cannot serve data made by {wanted}"));
        }
        let control = share_folders(bin).into_iter().map(|share| share.join("extension/vector.control"));
        let text = control.filter_map(|path| std::fs::read_to_string(path).ok()).next();
        let text = text.ok_or("it has no pgvector (extension/vector.control)")?;
        let pgvector = PgvectorVersion::of_control_file(&text).map_err(|error| error.to_string())?;
        if pgvector < self.pgvector_min {
            return Err(format!("pgvector {pgvector} is older than {}", self.pgvector_min));
        }
        if let Some(account) = &self.account {
            let real = bin.canonicalize().unwrap_or_else(|_| bin.to_owned());
            account.check_way_to(&real.join("postgres")).map_err(|error| error.to_string())?;
        }
        Ok(Install { bin: bin.clone(), major, pgvector })
    }
}

fn installed() -> Vec<PathBuf> {
    let mut folders = Vec::new();
    if let Some(bin) = output(Path::new("pg_config"), "--bindir") {
        folders.push(PathBuf::from(bin));
    }
    for (parent, prefix, below) in SYSTEM_FOLDERS {
        let Ok(entries) = std::fs::read_dir(parent) else {
            continue;
        };
        for entry in entries.flatten() {
            let bin = entry.path().join(below);
            if entry.file_name().to_string_lossy().starts_with(prefix) && bin.join("postgres").is_file() {
                folders.push(bin);
            }
        }
    }
    folders.sort();
    folders.dedup();
    folders
}

/// Where an installation may keep its shared files: it says so itself, or by the usual layouts.
fn share_folders(bin: &Path) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    if let Some(share) = output(&bin.join("pg_config"), "--sharedir") {
        folders.push(PathBuf::from(share));
    }
    if let Some(root) = bin.parent() {
        folders.push(root.join("share/postgresql"));
        folders.push(root.join("share"));
        // Debian keeps programs in /usr/lib/postgresql/18/bin and shared files in /usr/share/postgresql/18.
        if let Some(version) = root.file_name() {
            folders.push(Path::new("/usr/share/postgresql").join(version));
        }
    }
    folders
}

fn output(program: &Path, argument: &str) -> Option<String> {
    let output = Command::new(program).arg(argument).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}

/// 18 of `postgres (PostgreSQL) 18.4 (Debian …)`.
fn major_of(printed: &str) -> Option<u32> {
    let (_, version) = printed.split_once("(PostgreSQL) ")?;
    let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn fake_install(folder: &Path, version: &str, pgvector: &str) -> PathBuf {
        let bin = folder.join("bin");
        let extension = folder.join("share/extension");
        std::fs::create_dir_all(&bin).unwrap();
        std::fs::create_dir_all(&extension).unwrap();
        for program in ["postgres", "initdb"] {
            let path = bin.join(program);
            std::fs::write(&path, format!("#!/bin/sh\necho 'postgres (PostgreSQL) {version}'\n")).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        std::fs::write(extension.join("vector.control"), format!("default_version = '{pgvector}'\n")).unwrap();
        bin
    }

    #[test]
    fn majors_are_read_from_what_postgres_prints() {
        assert_eq!(major_of("postgres (PostgreSQL) 18.4"), Some(18));
        assert_eq!(major_of("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)"), Some(15));
        assert_eq!(major_of("postgres (PostgreSQL) 19beta1"), Some(19));
        assert_eq!(major_of("something else"), None);
    }

    #[test]
    fn a_relative_folder_is_made_absolute() {
        let here = std::env::current_dir().unwrap();
        let folder = tempfile::tempdir_in(&here).unwrap();
        let bin = fake_install(folder.path(), "18.4", "0.8.5");
        let relative = bin.strip_prefix(&here).unwrap();
        assert_eq!(Wanted::safe(None).examine(relative).unwrap().bin, bin);
    }

    #[test]
    fn what_will_not_do_is_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let wanted = Wanted::safe(None);
        let good = fake_install(&folder.path().join("good"), "18.4", "0.8.5");
        assert_eq!(wanted.examine(&good).unwrap().major, 18);
        let old = fake_install(&folder.path().join("old"), "18.4", "0.8.3");
        assert!(wanted.examine(&old).unwrap_err().contains("0.8.3 is older than 0.8.4"));
        let ancient = fake_install(&folder.path().join("ancient"), "14.9", "0.8.5");
        assert!(wanted.examine(&ancient).unwrap_err().contains("14 is older"));
        let other_data = Wanted { major: Some(16), ..wanted };
        assert!(other_data.examine(&good).unwrap_err().contains("data made by 16"));
    }
}
