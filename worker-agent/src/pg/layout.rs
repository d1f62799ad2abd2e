//! Files of a managed server: the data directory, and the agent's own files beside it. They are beside it because the
//! data directory belongs to the user PostgreSQL runs as, and because a copy of the data must not copy secrets.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Paths that follow from a data directory's.
#[derive(Debug, Clone)]
pub struct Layout {
    data_dir: PathBuf,
}

impl Layout {
    /// Of the server whose data is in `data_dir`.
    pub fn new(data_dir: &Path) -> Self {
        Self { data_dir: data_dir.to_owned() }
    }

    /// PostgreSQL's data directory.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// The owner role's password, for the agent alone.
    pub fn secret(&self) -> PathBuf {
        self.beside(".secret")
    }

    /// The worker's identity.
    pub fn identity(&self) -> PathBuf {
        self.beside(".identity")
    }

    /// What the server prints before its own log is open.
    pub fn start_log(&self) -> PathBuf {
        self.beside(".log")
    }

    /// Folder of the server's own log files.
    pub fn logs(&self) -> PathBuf {
        self.beside(".logs")
    }

    /// Folder in which the data directory is being made.
    pub fn unfinished(&self) -> PathBuf {
        self.beside(".init")
    }

    /// The owner role's password, while `initdb` reads it.
    pub fn password_for_initdb(&self) -> PathBuf {
        self.beside(".pwfile")
    }

    /// Locked by the agent that looks after the data.
    pub fn lock(&self) -> PathBuf {
        self.beside(".lock")
    }

    /// The settings that the agent writes at each start.
    pub fn settings(&self) -> PathBuf {
        self.data_dir.join("atoll.conf")
    }

    /// Written by the running server.
    pub fn pid_file(&self) -> PathBuf {
        self.data_dir.join("postmaster.pid")
    }

    /// Major version of PostgreSQL that made the data; none when there is no data.
    pub fn data_major(&self) -> Option<u32> {
        std::fs::read_to_string(self.data_dir.join("PG_VERSION")).ok()?.trim().parse().ok()
    }

    fn beside(&self, ending: &str) -> PathBuf {
        let mut name: OsString = self.data_dir.as_os_str().to_owned();
        name.push(ending);
        PathBuf::from(name)
    }
}
