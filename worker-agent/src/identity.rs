//! Who the worker is: a random uid, made once, and the cluster that it joined. Kept in a file beside the data, because it
//! belongs to the data: a data directory made anew is another worker, even under the old name.

use crate::secret::random_hex;
use atoll_proto::{GroupId, WorkerId};
use serde::{Deserialize, Serialize};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The worker's identity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Random, tells workers of one name apart.
    pub uid: String,
    /// What the cluster knows it by, once it registered.
    pub membership: Option<Membership>,
    /// Of an external server: what its data are known by, once the catalog took them for this worker's. PostgreSQL's own identity of
    /// them, or the worker's uid where that may not be read: then the claim in the database counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
}

/// A worker's place in its cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// The cluster.
    pub cluster_id: String,
    /// The worker's id there.
    pub worker: WorkerId,
    /// Its group's id.
    pub group: GroupId,
}

/// Why the identity could not be read or kept.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file cannot be read or written.
    #[error("the identity file {} cannot be read or written", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file holds something else.
    #[error("the identity file {} is damaged; restore it, or remove it to join as a new worker", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

impl Identity {
    /// Reads the file, or makes an identity and keeps it.
    pub fn load_or_make(path: &Path) -> Result<Self, IdentityError> {
        match std::fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|source| IdentityError::Damaged { path: path.to_owned(), source }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let identity = Self { uid: random_hex::<16>(), membership: None, server: None };
                identity.keep(path)?;
                Ok(identity)
            }
            Err(source) => Err(IdentityError::File { path: path.to_owned(), source }),
        }
    }

    /// Writes the file, whole or not at all.
    pub fn keep(&self, path: &Path) -> Result<(), IdentityError> {
        let text = serde_json::to_vec_pretty(self).expect("strings and numbers always serialise");
        write_whole(path, &text).map_err(|source| IdentityError::File { path: path.to_owned(), source })
    }
}

/// Writes a file readable by its owner alone, through a temporary one, so that a crash leaves the old or the new.
pub(crate) fn write_whole(path: &Path, contents: &[u8]) -> io::Result<()> {
    write_whole_of(path, contents, |_| Ok(()))
}

/// The same, where it is to be another's from the beginning: `own` is given the temporary one before there is anything in it.
pub(crate) fn write_whole_of(
    path: &Path,
    contents: &[u8],
    own: impl FnOnce(&Path) -> io::Result<()>,
) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = PathBuf::from(temporary);
    // Gone first: what a crash left could be open to others.
    if let Err(error) = std::fs::remove_file(&temporary)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    own(&temporary)?;
    file.write_all(contents)?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)?;
    if let Some(folder) = path.parent() {
        std::fs::File::open(folder)?.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn made_once_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w1.identity");
        let mut identity = Identity::load_or_make(&path).unwrap();
        assert_eq!(Identity::load_or_make(&path).unwrap(), identity);
        identity.membership = Some(Membership { cluster_id: "c".to_owned(), worker: WorkerId(3), group: GroupId(4) });
        identity.server = Some("7".to_owned());
        identity.keep(&path).unwrap();
        assert_eq!(Identity::load_or_make(&path).unwrap(), identity);
    }

    #[test]
    fn a_damaged_file_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w1.identity");
        std::fs::write(&path, "{").unwrap();
        assert!(matches!(Identity::load_or_make(&path), Err(IdentityError::Damaged { .. })));
    }

    #[test]
    fn what_a_crash_left_open_is_not_written_to() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w1.secret");
        let left = folder.path().join("w1.secret.new");
        std::fs::write(&left, "").unwrap();
        std::fs::set_permissions(&left, std::fs::Permissions::from_mode(0o644)).unwrap();
        write_whole(&path, b"x").unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
