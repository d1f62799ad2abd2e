//! Who this coordinator is: the cluster and its id in it, kept with its data. Written once, before Raft first starts, and
//! never changed: an id that votes with a log it does not remember could elect two leaders.

use super::snapshot_file::{FormatOnly, write_durably};
use atoll_proto::CoordinatorId;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Format of the identity file.
const FORMAT: u32 = 1;

/// Contents of the identity file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    format: u32,
    pub(super) cluster_id: String,
    pub(super) id: CoordinatorId,
}

/// Why the identity can't be had.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A newer program wrote it.
    #[error("{} was written by a newer program (format {found}, this program knows {FORMAT})", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// The format found.
        found: u32,
    },
    /// It is not what this program writes.
    #[error("{} is unreadable", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The file can't be read or written.
    #[error("{} could not be read or written", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl Identity {
    pub(super) fn new(cluster_id: String, id: CoordinatorId) -> Self {
        Self { format: FORMAT, cluster_id, id }
    }

    /// Reads the file; none if there is no such file.
    pub(super) fn read(path: &Path) -> Result<Option<Self>, IdentityError> {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(IdentityError::Io { path: path.to_path_buf(), source }),
        };
        let unreadable = |source| IdentityError::Unreadable { path: path.to_path_buf(), source };
        let FormatOnly { format: found } = serde_json::from_slice(&bytes).map_err(unreadable)?;
        if found > FORMAT {
            return Err(IdentityError::Newer { path: path.to_path_buf(), found });
        }
        serde_json::from_slice(&bytes).map(Some).map_err(unreadable)
    }

    /// Writes the file durably.
    pub(super) fn write(&self, path: &Path) -> Result<(), IdentityError> {
        let bytes = serde_json::to_vec_pretty(self).expect("a plain struct serialises");
        write_durably(path, &bytes).map_err(|source| IdentityError::Io { path: path.to_path_buf(), source })
    }
}
