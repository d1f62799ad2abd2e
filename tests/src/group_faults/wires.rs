//! Cuts between members of a cluster on one machine, by the kernel: packets are lost, as on a broken wire, and nobody is told.
//!
//! All members share one address, so a packet does not say whose it is. A connection belongs to the member that listens on its port, and to
//! the one that began it: members run in control groups, and netfilter marks each connection by the group of who began it.

use super::fault::Cut;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Somebody between whom and others wires can be cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct End {
    /// The member's name.
    pub(super) name: String,
    /// The ports that it listens on for others.
    pub(super) ports: Vec<u16>,
}

/// The wires of one cluster; mended, and gone, when dropped.
#[derive(Debug)]
pub(super) struct Wires {
    chain: String,
    groups: PathBuf,
    ends: Vec<End>,
    first_mark: u32,
}

impl Wires {
    /// Lays them between these, for a cluster with this first port. None without the right to, or without what it takes; why is told.
    pub(super) fn lay(first_port: u16, ends: Vec<End>) -> Result<Self, String> {
        let mounts = fs::read_to_string("/proc/mounts").map_err(|error| error.to_string())?;
        let unified = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        let unified =
            unified.filter(|fields| fields.get(2) == Some(&"cgroup2")).find_map(|fields| fields.get(1).copied());
        let root = Path::new(unified.ok_or("no cgroup2 is mounted")?);
        let chain = format!("cluster-tests-{first_port}");
        let wires = Self { groups: root.join(&chain), chain, ends, first_mark: u32::from(first_port) << 4 };
        wires.tear_down();
        for (number, end) in (1..).zip(&wires.ends) {
            let group = wires.groups.join(&end.name);
            fs::create_dir_all(&group).map_err(|error| format!("{}: {error}", group.display()))?;
            if number == 1 {
                wires.begin()?;
            }
            let (path, mark) = (format!("{}/{}", wires.chain, end.name), (wires.first_mark + number).to_string());
            let begins = ["-t", "mangle", "-A", &wires.chain, "-p", "tcp", "--syn", "-m", "cgroup", "--path", &path];
            iptables(&[&begins[..], &["-j", "CONNMARK", "--set-mark", &mark]].concat())?;
        }
        Ok(wires)
    }

    /// The control group to start each member in: a folder of its name in this one.
    pub(super) fn groups(&self) -> &Path {
        &self.groups
    }

    /// Cuts `from` off from those, by what is lost.
    pub(super) fn cut(&self, primary: &str, coordinators: &[String], standbys: &[String], cut: Cut) {
        let (from, to, others): (bool, bool, Vec<&String>) = match cut {
            Cut::Coordinators => (true, true, coordinators.iter().collect()),
            Cut::FromCoordinators => (true, false, coordinators.iter().collect()),
            Cut::ToCoordinators => (false, true, coordinators.iter().collect()),
            Cut::Standbys => (true, true, standbys.iter().collect()),
            Cut::FromStandbys => (true, false, standbys.iter().collect()),
            Cut::ToStandbys => (false, true, standbys.iter().collect()),
            Cut::Everybody => (true, true, coordinators.iter().chain(standbys).collect()),
        };
        for other in others {
            if from {
                self.lose(other, primary);
            }
            if to {
                self.lose(primary, other);
            }
        }
    }

    /// Everything gets through again.
    pub(super) fn mend(&self) {
        iptables(&["-F", &self.chain]).unwrap_or_else(|error| panic!("wires stay cut: {error}"));
    }

    /// From now on what one sends to the other is lost: in connections that it began, and in those that the other began.
    fn lose(&self, from: &str, to: &str) {
        let ports = |name: &str| {
            let end = self.end(name).1;
            end.ports.iter().map(u16::to_string).collect::<Vec<_>>().join(",")
        };
        for (began, which, ports) in [(from, "--dports", ports(to)), (to, "--sports", ports(from))] {
            let mark = (self.first_mark + self.end(began).0).to_string();
            let of = ["-A", &self.chain, "-p", "tcp", "-m", "connmark", "--mark", &mark];
            let rule = [&of[..], &["-m", "multiport", which, &ports, "-j", "DROP"]].concat();
            iptables(&rule).unwrap_or_else(|error| panic!("wires cannot be cut: {error}"));
        }
    }

    fn end(&self, name: &str) -> (u32, &End) {
        (1..).zip(&self.ends).find(|(_, end)| end.name == name).expect("wires end at members")
    }

    fn begin(&self) -> Result<(), String> {
        for table in ["mangle", "filter"] {
            iptables(&["-t", table, "-N", &self.chain])?;
            iptables(&["-t", table, "-I", "OUTPUT", "-p", "tcp", "-o", "lo", "-j", &self.chain])?;
        }
        Ok(())
    }

    /// Also of a cluster that had the same ports and could not.
    fn tear_down(&self) {
        for table in ["mangle", "filter"] {
            let _ = iptables(&["-t", table, "-D", "OUTPUT", "-p", "tcp", "-o", "lo", "-j", &self.chain]);
            let _ = iptables(&["-t", table, "-F", &self.chain]);
            let _ = iptables(&["-t", table, "-X", &self.chain]);
        }
        for group in fs::read_dir(&self.groups).into_iter().flatten().flatten() {
            let _ = fs::remove_dir(group.path());
        }
        let _ = fs::remove_dir(&self.groups);
    }
}

impl Drop for Wires {
    fn drop(&mut self) {
        self.tear_down();
    }
}

fn iptables(arguments: &[&str]) -> Result<(), String> {
    let ran =
        Command::new("iptables").arg("-w").args(arguments).output().map_err(|error| format!("iptables: {error}"))?;
    match ran.status.success() {
        true => Ok(()),
        false => Err(format!("iptables {}: {}", arguments.join(" "), String::from_utf8_lossy(&ran.stderr).trim())),
    }
}
