//! The user that PostgreSQL runs as. PostgreSQL refuses to run as root, so as root an unprivileged user is taken.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// An unprivileged user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Name, for messages.
    pub name: String,
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// Why no user could be taken, or why the one taken cannot work.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// No file of users.
    #[error("/etc/passwd cannot be read")]
    Users {
        /// What the system said.
        source: io::Error,
    },
    /// Neither of the usual users is there.
    #[error("PostgreSQL does not run as root, and there is neither a user `postgres` nor `nobody` to run it as")]
    Nobody,
    /// A folder on the way is closed to the user.
    #[error(
        "user `{user}`, which PostgreSQL runs as, may not enter {}: use `chmod o+x` there, or choose a path elsewhere",
        folder.display()
    )]
    Closed {
        /// The user.
        user: String,
        /// The closed folder.
        folder: PathBuf,
    },
}

impl Account {
    /// The user to run PostgreSQL as: none (meaning ourselves) unless we are root.
    pub fn for_server() -> Result<Option<Self>, AccountError> {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        let users = std::fs::read_to_string("/etc/passwd").map_err(|source| AccountError::Users { source })?;
        let found = ["postgres", "nobody"].iter().find_map(|name| Self::named(&users, name));
        found.map(Some).ok_or(AccountError::Nobody)
    }

    /// Name of the user that the agent itself runs as, if the system's file of users has it.
    pub fn own_name() -> Option<String> {
        let own = rustix::process::geteuid().as_raw().to_string();
        let users = std::fs::read_to_string("/etc/passwd").ok()?;
        let line = users.lines().find(|line| line.split(':').nth(2) == Some(own.as_str()))?;
        line.split(':').next().map(str::to_owned)
    }

    /// Makes `command` run as this user.
    pub fn take_on(&self, command: &mut Command) {
        command.uid(self.uid).gid(self.gid);
    }

    /// Gives a file or folder to this user.
    pub fn own(&self, path: &Path) -> io::Result<()> {
        std::os::unix::fs::chown(path, Some(self.uid), Some(self.gid))
    }

    /// Checks that every folder above `path` lets this user through.
    pub fn check_way_to(&self, path: &Path) -> Result<(), AccountError> {
        for folder in path.ancestors().skip(1) {
            let Ok(metadata) = std::fs::metadata(folder) else {
                continue;
            };
            let needed = if metadata.uid() == self.uid {
                0o100
            } else if metadata.gid() == self.gid {
                0o010
            } else {
                0o001
            };
            if metadata.mode() & needed == 0 {
                return Err(AccountError::Closed { user: self.name.clone(), folder: folder.to_owned() });
            }
        }
        Ok(())
    }

    fn named(users: &str, name: &str) -> Option<Self> {
        users.lines().find_map(|line| {
            let mut fields = line.split(':');
            if fields.next() != Some(name) {
                return None;
            }
            let uid = fields.nth(1)?.parse().ok()?;
            let gid = fields.next()?.parse().ok()?;
            Some(Self { name: name.to_owned(), uid, gid })
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const USERS: &str = "root:x:0:0:root:/root:/bin/bash\npostgres:x:101:104:PostgreSQL,,,:/var/lib/pg:/bin/bash\n";

    #[test]
    fn users_are_found_by_name() {
        let account = Account::named(USERS, "postgres").unwrap();
        assert_eq!((account.uid, account.gid), (101, 104));
        assert_eq!(Account::named(USERS, "nobody"), None);
    }

    #[test]
    fn a_closed_folder_on_the_way_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let closed = folder.path().join("closed");
        std::fs::create_dir(&closed).unwrap();
        std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o700)).unwrap();
        let stranger = Account { name: "stranger".to_owned(), uid: 4_000_001, gid: 4_000_001 };
        let error = stranger.check_way_to(&closed.join("data")).unwrap_err();
        assert!(matches!(error, AccountError::Closed { folder, .. } if folder == closed));
    }
}
