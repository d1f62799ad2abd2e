//! Ranges of ports, one for each cluster: stories run side by side in several processes, so a range is held by a locked file.

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Ports of a range: what `atoll dev` spreads its listeners over, and room for one more coordinator.
const RANGE: u16 = 310;
const FIRST: u16 = 20_000;
/// Ranges end below the ports that the system gives to outgoing connections.
const RANGES: u16 = (32_700 - FIRST) / RANGE;
const FOLDER: &str = "/tmp/cluster-tests-ports";

/// A range of free ports, ours until dropped.
#[derive(Debug)]
pub struct PortRange {
    first: u16,
    _lock: File,
}

impl PortRange {
    /// Takes a range that nobody has.
    pub fn take() -> Self {
        // Users of every kind share the folder, so it belongs to all.
        if std::fs::create_dir(FOLDER).is_ok() {
            let _ = std::fs::set_permissions(FOLDER, PermissionsExt::from_mode(0o777));
        }
        for number in 0..RANGES {
            let first = FIRST + number * RANGE;
            let lock = open(&Path::new(FOLDER).join(format!("{first}.lock")));
            if lock.try_lock().is_ok() && is_free(first) {
                return Self { first, _lock: lock };
            }
        }
        panic!("no range of ports from {FIRST} on is free; see {FOLDER}")
    }

    /// Its first port.
    pub fn first(&self) -> u16 {
        self.first
    }
}

fn open(path: &Path) -> File {
    loop {
        // Made and opened in two steps: the system may refuse to "create" another user's file that is there.
        match OpenOptions::new().read(true).write(true).open(path) {
            Ok(file) => return file,
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => panic!("{} can't be opened: {error}", path.display()),
        }
        if let Ok(file) = OpenOptions::new().write(true).create_new(true).open(path) {
            let _ = file.set_permissions(PermissionsExt::from_mode(0o666));
        }
    }
}

/// Looks at the ports that a cluster of five coordinators and five workers would use.
fn is_free(first: u16) -> bool {
    let offsets = [0, 50, 100, 200].into_iter().flat_map(|start| start..start + 5);
    offsets.into_iter().all(|offset| TcpListener::bind((Ipv4Addr::LOCALHOST, first + offset)).is_ok())
}
