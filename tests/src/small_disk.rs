//! A small disk that can be filled to the last byte.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file system of a few megabytes in memory, gone when dropped.
#[derive(Debug)]
pub struct SmallDisk {
    folder: PathBuf,
}

impl SmallDisk {
    /// Mounts one; none without the right to mount.
    pub fn mount(megabytes: u32) -> Option<Self> {
        let folder = std::env::temp_dir().join(format!("small-disk-{}", std::process::id()));
        std::fs::create_dir(&folder).expect("the folder is ours");
        let size = format!("size={megabytes}m");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "none"]).arg(&folder).output();
        if mounted.is_ok_and(|mounted| mounted.status.success()) {
            std::fs::set_permissions(&folder, PermissionsExt::from_mode(0o755)).expect("the folder is ours");
            return Some(Self { folder });
        }
        std::fs::remove_dir(&folder).expect("the folder is ours");
        None
    }

    /// Takes a folder over with all that it holds: from then on it lies here.
    pub fn take(&self, folder: &Path) {
        let owner = std::fs::metadata(folder).expect("the folder is there");
        let own = self.folder.join("taken");
        let copied = Command::new("cp").arg("-a").arg(folder).arg(&own).status();
        assert!(copied.is_ok_and(|copied| copied.success()), "{} fits on a small disk", folder.display());
        std::fs::set_permissions(&own, owner.permissions()).expect("the copy is ours");
        std::fs::remove_dir_all(folder).expect("the folder is ours");
        std::os::unix::fs::symlink(&own, folder).expect("its place is free");
    }

    /// Fills it to the last byte; gives the file that does.
    pub fn fill(&self) -> PathBuf {
        let path = self.folder.join("filler");
        let mut file = std::fs::File::create(&path).expect("the disk is ours");
        let block = [7_u8; 4096];
        while file.write_all(&block).is_ok() {}
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: somebody may still hold its files.
        let _ = Command::new("umount").arg("-l").arg(&self.folder).status();
        let _ = std::fs::remove_dir(&self.folder);
    }
}
