//! A worker that joins a cluster of three: `w4`, alone in group `g4`.

use crate::cluster::Cluster;
use std::path::PathBuf;

/// A configuration file like the first worker's, with a name, a group, ports and a folder of its own.
pub fn configuration(cluster: &Cluster) -> PathBuf {
    let folder = cluster.folder();
    let text =
        std::fs::read_to_string(folder.join("config/w1.toml")).expect("the cluster has its files, and takes more");
    let (agent, server) = (cluster.first_port() + 100, cluster.first_port() + 200);
    let mut changed = text;
    for (from, to) in [
        ("name = \"w1\"".to_owned(), "name = \"w4\"".to_owned()),
        ("group = \"g1\"".to_owned(), "group = \"g4\"".to_owned()),
        (format!("127.0.0.1:{agent}\""), format!("127.0.0.1:{}\"", agent + 3)),
        (format!("port = {server}"), format!("port = {}", server + 3)),
        ("/w1/postgres\"".to_owned(), "/w4/postgres\"".to_owned()),
    ] {
        assert!(changed.contains(&from), "no {from} in {changed}");
        changed = changed.replace(&from, &to);
    }
    std::fs::create_dir(folder.join("w4")).expect("the cluster has its files, and takes more");
    let path = folder.join("config/w4.toml");
    std::fs::write(&path, changed).expect("the cluster has its files, and takes more");
    path
}
