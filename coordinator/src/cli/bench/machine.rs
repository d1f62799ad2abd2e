//! What the figures were measured on.

use serde::Serialize;

/// The machine of the benchmark itself; coordinators and workers may be elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Machine {
    /// The system, as it calls itself.
    pub(super) os: String,
    pub(super) architecture: &'static str,
    /// The processor, as it calls itself; none where it does not.
    pub(super) processor: Option<String>,
    pub(super) cores: usize,
    pub(super) memory_bytes: Option<u64>,
}

impl Machine {
    /// Looks at it.
    pub(super) fn look() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let kib = field(&read("/proc/meminfo"), "MemTotal", ':').and_then(|size| size.split(' ').next()?.parse().ok());
        Self {
            os: field(&read("/etc/os-release"), "PRETTY_NAME", '=').unwrap_or_else(|| std::env::consts::OS.to_owned()),
            architecture: std::env::consts::ARCH,
            processor: field(&read("/proc/cpuinfo"), "model name", ':'),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: kib.map(|kib: u64| kib * 1024),
        }
    }

    /// In a line.
    pub(super) fn line(&self) -> String {
        let mut parts = vec![self.os.clone(), self.architecture.to_owned()];
        parts.extend(self.processor.clone());
        parts.push(crate::cli::output::count(self.cores as u64, "core"));
        parts.extend(self.memory_bytes.map(crate::cli::output::bytes));
        parts.join(", ")
    }
}

/// The value of a field in lines such as `name: value`, without quotes.
fn field(text: &str, name: &str, separator: char) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    let (_, value) = line.split_once(separator)?;
    Some(value.trim().trim_matches('"').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read() {
        assert_eq!(field("A=1\nPRETTY_NAME=\"Debian 12\"", "PRETTY_NAME", '=').as_deref(), Some("Debian 12"));
        assert_eq!(field("MemTotal:   2048 kB", "MemTotal", ':').as_deref(), Some("2048 kB"));
        assert_eq!(field("", "MemTotal", ':'), None);
        assert!(Machine::look().cores > 0);
    }
}
