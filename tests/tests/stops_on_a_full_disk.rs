//! A coordinator whose disk is full stops and says why, rather than go on without its memory; with room again, it comes back and has
//! what it acknowledged. Needs the right to mount a small disk: elsewhere nothing is tried.

#![allow(clippy::unwrap_used)]

use cluster_tests::{Cluster, ClusterOptions, poll};
use http::Method;
use serde_json::json;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const NAME: &str = "coordinator-1";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stops_on_a_full_disk() {
    let Some(disk) = SmallDisk::mount() else {
        println!("not tried: no right to mount a disk");
        return;
    };
    let options = ClusterOptions { workers: 1, shards: 1, ..ClusterOptions::new("stops_on_a_full_disk") };
    let mut cluster = Cluster::start(options).await;
    let client = cluster.client();
    cluster.kill(cluster.layout().coordinators[0].pid).await;
    let folder = cluster.folder().join(NAME);
    run("cp", &["-a", &format!("{}/.", text(&folder)), text(&disk.folder)]);
    std::fs::remove_dir_all(&folder).unwrap();
    std::os::unix::fs::symlink(&disk.folder, &folder).unwrap();
    cluster.start_member(NAME);
    cluster.wait_ready(1).await;

    let filler = disk.fill();
    let mut acknowledged = Vec::new();
    let unanswered = async {
        for i in 0..1_000 {
            let path = format!("/v1/collections/c{i}");
            let answer = client.request(Method::PUT, &path).json(&json!({"dimensions": 2})).try_send().await;
            match answer {
                Ok(answer) => acknowledged.push((path, answer.expect(201))),
                Err(_) => return true,
            }
        }
        false
    };
    assert!(unanswered.await, "a full disk takes a thousand changes");
    let status = cluster.wait_end(NAME).await;
    assert!(!status.success(), "it ended with {status}");
    let log = std::fs::read_to_string(cluster.folder().join("logs").join(format!("{NAME}.log"))).unwrap();
    assert!(log.lines().any(|line| line.contains("\"ERROR\"") && line.contains("No space left on device")), "{log}");

    std::fs::remove_file(filler).unwrap();
    cluster.start_member(NAME);
    cluster.wait_ready(1).await;
    println!("{} changes were acknowledged before the disk was full", acknowledged.len());
    for (path, _) in acknowledged {
        client.get(&path).await.expect(200);
    }
    poll::until("a collection to be taken", Duration::from_secs(30), async || {
        let answer = client.put("/v1/collections/after", &json!({"dimensions": 2})).await;
        if [200, 201].contains(&answer.status) { Ok(()) } else { Err(answer.text()) }
    })
    .await;
    let expected = ["No space left on device", "the coordinator cannot be reached", "the agent does not answer"];
    cluster.finish(&expected).await;
}

/// A file system of a few megabytes in memory, gone when dropped.
struct SmallDisk {
    folder: PathBuf,
}

impl SmallDisk {
    fn mount() -> Option<Self> {
        let folder = std::env::temp_dir().join(format!("small-disk-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=16m", "none", text(&folder)]).output();
        if mounted.is_ok_and(|mounted| mounted.status.success()) {
            return Some(Self { folder });
        }
        std::fs::remove_dir(&folder).unwrap();
        None
    }

    /// Fills it to the last byte; gives the file that does.
    fn fill(&self) -> PathBuf {
        let path = self.folder.join("filler");
        let mut file = std::fs::File::create(&path).unwrap();
        let block = [7_u8; 4096];
        while file.write_all(&block).is_ok() {}
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a coordinator may still hold its files.
        let _ = Command::new("umount").args(["-l", text(&self.folder)]).status();
        let _ = std::fs::remove_dir(&self.folder);
    }
}

fn run(program: &str, arguments: &[&str]) {
    let status = Command::new(program).args(arguments).status().unwrap();
    assert!(status.success(), "{program} {arguments:?}: {status}");
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
