//! The durable snapshot: one JSON file, replaced as a whole. It carries all of the state: the catalog, how much of the log
//! it contains, and the membership.

use super::types::SnapshotMeta;
use atoll_core::catalog::{Catalog, FORMAT};
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// Why a snapshot can't be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadSnapshotError {
    /// A newer program wrote it.
    #[error("the snapshot was written by a newer program (format {found}, this program knows {FORMAT})")]
    Newer {
        /// The format found.
        found: u32,
    },
    /// It is not what this program writes.
    #[error("the snapshot is unreadable")]
    Unreadable(#[source] serde_json::Error),
    /// The file can't be read.
    #[error("the snapshot {} could not be read", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// What a snapshot holds.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SnapshotContent {
    format: u32,
    pub(super) meta: SnapshotMeta,
    pub(super) catalog: Catalog,
}

/// The number that is read before anything else: the rest of a newer program's file may not parse.
#[derive(Deserialize)]
pub(super) struct FormatOnly {
    pub(super) format: u32,
}

impl SnapshotContent {
    pub(super) fn new(meta: SnapshotMeta, catalog: Catalog) -> Self {
        Self { format: catalog.least_format(), meta, catalog }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a catalog is plain structs and maps with number keys, which serialise")
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, ReadSnapshotError> {
        let FormatOnly { format: found } = serde_json::from_slice(bytes).map_err(ReadSnapshotError::Unreadable)?;
        if found > FORMAT {
            return Err(ReadSnapshotError::Newer { found });
        }
        serde_json::from_slice(bytes).map_err(ReadSnapshotError::Unreadable)
    }
}

/// The file, and what it holds.
pub(super) struct SnapshotFile {
    path: PathBuf,
    /// Held while the file is replaced: a snapshot that was built while a newer one was installed must not overwrite it.
    current: Mutex<Option<(SnapshotMeta, Vec<u8>)>>,
}

const UNPOISONED: &str = "no holder of this lock panics";

impl SnapshotFile {
    /// Opens the file; none is fine.
    pub(super) fn open(path: PathBuf) -> Result<(Self, Option<SnapshotContent>), ReadSnapshotError> {
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok((Self { path, current: Mutex::new(None) }, None));
            }
            Err(source) => return Err(ReadSnapshotError::Io { path, source }),
        };
        let content = SnapshotContent::decode(&bytes)?;
        let current = Mutex::new(Some((content.meta.clone(), bytes)));
        Ok((Self { path, current }, Some(content)))
    }

    /// The last one written.
    pub(super) fn current(&self) -> Option<(SnapshotMeta, Vec<u8>)> {
        self.current.lock().expect(UNPOISONED).clone()
    }

    /// Replaces the file, unless what it holds is newer. Blocks until it is on disk.
    pub(super) fn replace(&self, meta: SnapshotMeta, bytes: Vec<u8>) -> std::io::Result<()> {
        let mut current = self.current.lock().expect(UNPOISONED);
        if current.as_ref().is_some_and(|(held, _)| held.last_log_id > meta.last_log_id) {
            return Ok(());
        }
        write_durably(&self.path, &bytes)?;
        *current = Some((meta, bytes));
        Ok(())
    }
}

/// Writes a file so that after a crash either the old or the new content is there, whole.
pub(super) fn write_durably(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let draft = path.with_extension("tmp");
    let mut file = std::fs::File::create(&draft)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&draft, path)?;
    let folder = path.parent().expect("the path of a file has a folder");
    std::fs::File::open(folder)?.sync_all()
}
