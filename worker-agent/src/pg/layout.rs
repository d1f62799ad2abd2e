//! Files of a managed server: the data directory, and the agent's own files beside it. They are beside it because the
//! data directory belongs to the user PostgreSQL runs as, and because a copy of the data must not copy secrets.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

/// `sun_path` on the systems with the shortest one, with its end.
const SOCKET_BYTES_MAX: usize = 103;
/// `/.s.PGSQL.65535.lock`
const SOCKET_NAME_BYTES: usize = 20;

/// Paths that follow from a data directory's.
#[derive(Debug, Clone)]
pub struct Layout {
    data_dir: PathBuf,
}

impl Layout {
    /// Of the server whose data is in `data_dir`. A slash at its end is taken away: what lies beside would lie inside.
    pub fn new(data_dir: &Path) -> Self {
        Self { data_dir: data_dir.components().collect() }
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

    /// The settings that follow from the group's record.
    pub fn replica_settings(&self) -> PathBuf {
        self.data_dir.join("atoll.replica.conf")
    }

    /// Its presence makes the server start as a standby.
    pub fn standby_signal(&self) -> PathBuf {
        self.data_dir.join("standby.signal")
    }

    /// What the agent keeps of the group that the data belongs to.
    pub fn group(&self) -> PathBuf {
        self.beside(".group")
    }

    /// The stamp by which the data is known to the agent that keeps [`Self::group`].
    pub fn stamp(&self) -> PathBuf {
        self.data_dir.join("atoll.stamp")
    }

    /// Folder of the server's socket, for the agent alone; none where its name is longer than the system allows.
    pub fn sockets(&self) -> Option<PathBuf> {
        let folder = self.beside(".sock");
        (folder.as_os_str().len() + SOCKET_NAME_BYTES <= SOCKET_BYTES_MAX).then_some(folder)
    }

    /// Folder of the server's own copies of its certificate, its key and the authorities.
    pub fn tls(&self) -> PathBuf {
        self.beside(".tls")
    }

    /// Written by the running server.
    pub fn pid_file(&self) -> PathBuf {
        self.data_dir.join("postmaster.pid")
    }

    /// Major version of PostgreSQL that made the data; none when there is no data. Data that cannot be read is an error,
    /// lest somebody takes it for none.
    pub fn data_major(&self) -> io::Result<Option<u32>> {
        match std::fs::read_to_string(self.version_file()) {
            Ok(text) => text.trim().parse().map(Some).map_err(io::Error::other),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Written by `initdb`.
    pub fn version_file(&self) -> PathBuf {
        self.data_dir.join("PG_VERSION")
    }

    fn beside(&self, ending: &str) -> PathBuf {
        let mut name: OsString = self.data_dir.as_os_str().to_owned();
        name.push(ending);
        PathBuf::from(name)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_agents_files_lie_beside_the_data_however_it_is_spelt() {
        for spelt in ["/x/w1", "/x/w1/", "/x//w1/."] {
            assert_eq!(Layout::new(Path::new(spelt)).secret(), Path::new("/x/w1.secret"), "{spelt}");
        }
    }

    #[test]
    fn data_that_cannot_be_read_is_not_taken_for_none() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path());
        assert_eq!(layout.data_major().unwrap(), None);
        std::fs::write(layout.version_file(), "18\n").unwrap();
        assert_eq!(layout.data_major().unwrap(), Some(18));
        std::fs::write(layout.version_file(), "").unwrap();
        assert!(layout.data_major().is_err());
        // Root may read every file, but no folder as one.
        std::fs::remove_file(layout.version_file()).unwrap();
        std::fs::create_dir(layout.version_file()).unwrap();
        assert!(layout.data_major().is_err());
    }
}
