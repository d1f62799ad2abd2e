//! What the machine has, or the container that we run in.

use std::path::{Path, PathBuf};

/// What the machine has.
#[derive(Debug, Clone, Copy)]
pub struct Machine {
    /// Bytes of memory that may be used, where the system tells.
    pub memory_bytes: Option<u64>,
    /// Bytes that processes may share through `/dev/shm`, where the system tells.
    pub shared_memory_bytes: Option<u64>,
    /// Cores that may be used, at least one.
    pub cores: u32,
}

impl Default for Machine {
    /// One of which nothing is known.
    fn default() -> Self {
        Self { memory_bytes: None, shared_memory_bytes: None, cores: 1 }
    }
}

impl Machine {
    /// This one.
    pub fn this() -> Self {
        let shared = rustix::fs::statvfs("/dev/shm").ok().map(|found| found.f_blocks.saturating_mul(found.f_frsize));
        let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let allowed = cgroup_limit_bytes(&groups, Path::new("/sys/fs/cgroup"));
        let memory_bytes = installed_bytes().into_iter().chain(allowed).min();
        Self { memory_bytes, shared_memory_bytes: shared, cores: Self::cores() }
    }

    /// What is one server's of so many that share it. Each may use all cores: seldom do all of them work.
    pub fn shared_by(self, servers: u32) -> Self {
        let part = |bytes: Option<u64>| bytes.map(|bytes| bytes / u64::from(servers.max(1)));
        Self {
            memory_bytes: part(self.memory_bytes),
            shared_memory_bytes: part(self.shared_memory_bytes),
            cores: self.cores,
        }
    }

    /// Cores of this one that may be used.
    pub fn cores() -> u32 {
        std::thread::available_parallelism().ok().and_then(|cores| cores.get().try_into().ok()).unwrap_or(1)
    }
}

fn installed_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// The smallest memory limit of the control groups that a process is in (`groups` is its `/proc/PID/cgroup`) and of those
/// above them: version 2 has one tree, version 1 one for memory alone. A container may see its own group as the root.
fn cgroup_limit_bytes(groups: &str, root: &Path) -> Option<u64> {
    let mut files: Vec<PathBuf> = Vec::new();
    for line in groups.lines() {
        // `number:controllers:path`
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else {
            continue;
        };
        let (tree, file) = if controllers.is_empty() {
            (root.to_owned(), "memory.max")
        } else if controllers.split(',').any(|controller| controller == "memory") {
            (root.join("memory"), "memory.limit_in_bytes")
        } else {
            continue;
        };
        let path = Path::new(path.trim_start_matches('/'));
        files.extend(path.ancestors().map(|group| tree.join(group).join(file)));
    }
    // No limit reads `max`, which is no number.
    files.iter().filter_map(|file| std::fs::read_to_string(file).ok()?.trim().parse().ok()).min()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn write(path: &Path, text: &str) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    #[test]
    fn the_tightest_group_counts() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        assert_eq!(cgroup_limit_bytes("0::/a/b\n", root), None);
        write(&root.join("a/b/memory.max"), "max\n");
        write(&root.join("a/memory.max"), "2147483648\n");
        assert_eq!(cgroup_limit_bytes("0::/a/b\n", root), Some(2 << 30));
        write(&root.join("memory.max"), "1073741824\n");
        assert_eq!(cgroup_limit_bytes("0::/\n", root), Some(1 << 30));

        write(&root.join("memory/docker/x/memory.limit_in_bytes"), "536870912\n");
        let first_version = "9:cpu,cpuacct:/docker/x\n5:memory:/docker/x\n";
        assert_eq!(cgroup_limit_bytes(first_version, root), Some(512 << 20));
    }
}
