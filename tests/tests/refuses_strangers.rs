//! Who is not let in by an encrypted coordinator, whom commands and coordinators do not trust, and what each is told: the fault by name,
//! on the side that can do something about it.

#![allow(clippy::unwrap_used)]

use cluster_tests::certificates::{Authority, Files};
use cluster_tests::command_line::argument;
use cluster_tests::ports::PortRange;
use cluster_tests::processes::{program, signal};
use cluster_tests::{Client, CommandLine, poll};
use http::Method;
use rustix::process::Signal;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(30);
/// Short, so that a story need not wait for it long.
const IDLE_MS: u64 = 2_000;
const HOST: &str = "127.0.0.1";
/// Why the internal listener turned somebody away is told at `debug` each time, at `warn` from time to time.
const LOG: &str = "info,atoll_trust=debug";

/// A folder with authorities, and coordinators by configurations in it. Both go in the end.
struct Story {
    folder: PathBuf,
    ports: PortRange,
    ours: Authority,
    others: Authority,
    running: Vec<Child>,
}

/// What a coordinator is started with.
struct Wanted {
    name: &'static str,
    /// Its ports lie so far above the first.
    place: u16,
    public: Option<Files>,
    peers: Option<(PathBuf, Files)>,
    /// The coordinator to join, by its URL; none for one that begins a cluster.
    join: Option<String>,
}

impl Story {
    fn new(name: &str) -> Self {
        let folder = PathBuf::from(format!("/tmp/{name}-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        for secret in ["cluster.secret", "postgres.password"] {
            std::fs::write(folder.join(secret), "open sesame").unwrap();
        }
        let (ours, others) = (Authority::new("ours"), Authority::new("others"));
        ours.write(&folder.join("ours.pem"));
        others.write(&folder.join("others.pem"));
        Self { folder, ports: PortRange::take(), ours, others, running: Vec::new() }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn ca(&self) -> PathBuf {
        self.file("ours.pem")
    }

    /// One with a certificate of ours for clients, and another for coordinators.
    fn encrypted(&self, name: &'static str, place: u16) -> Wanted {
        let public = self.ours.certify(&[HOST], &self.file(&format!("{name}-public")));
        let peers = self.ours.certify(&[HOST], &self.file(&format!("{name}-peers")));
        Wanted { name, place, public: Some(public), peers: Some((self.ca(), peers)), join: None }
    }

    fn public(&self, wanted: &Wanted) -> String {
        let scheme = if wanted.public.is_some() { "https" } else { "http" };
        format!("{scheme}://{HOST}:{}", self.ports.first() + wanted.place)
    }

    fn internal(&self, wanted: &Wanted) -> String {
        let scheme = if wanted.peers.is_some() { "https" } else { "http" };
        format!("{scheme}://{HOST}:{}", self.ports.first() + wanted.place + 50)
    }

    fn start(&mut self, wanted: &Wanted) {
        let folder = self.folder.display();
        let (listen, internal) = (self.public(wanted), self.internal(wanted));
        let after_scheme = |url: &str| url.split_once("://").unwrap().1.to_owned();
        let mut text = format!(
            "[server]\nlisten = \"{}\"\ninternal_listen = \"{}\"\n[cluster]\ndata_dir = \"{folder}/{}\"\n\
             secret_file = \"{folder}/cluster.secret\"\n{}\n[postgres]\npassword_file = \"{folder}/postgres.password\"\n\
             [limits]\nidle_ms = {IDLE_MS}\n",
            after_scheme(&listen),
            after_scheme(&internal),
            wanted.name,
            match &wanted.join {
                Some(url) => format!("join = [\"{url}\"]"),
                None => "bootstrap = true".to_owned(),
            }
        );
        let pair = |files: &Files| format!("cert_file = {:?}\nkey_file = {:?}\n", files.cert, files.key);
        if let Some(public) = &wanted.public {
            text.push_str(&format!("[server.tls]\n{}", pair(public)));
        }
        if let Some((ca_file, peers)) = &wanted.peers {
            text.push_str(&format!("[tls]\nca_file = {ca_file:?}\n{}", pair(peers)));
        }
        let config = self.file(&format!("{}.toml", wanted.name));
        std::fs::write(&config, text).unwrap();
        let log = append(&self.file(&format!("{}.log", wanted.name)));
        let mut command = Command::new(program("atoll"));
        command.arg("serve").arg("--config").arg(config).env("RUST_LOG", LOG);
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.running.push(command.spawn().unwrap());
    }

    async fn start_and_wait(&mut self, wanted: &Wanted) {
        self.start(wanted);
        self.wait_for_log(wanted.name, &["coordinator serves"]).await;
    }

    fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.file(&format!("{name}.log"))).unwrap_or_default()
    }

    /// Waits for a line that has all of these.
    async fn wait_for_log(&self, name: &str, parts: &[&str]) {
        poll::until(&format!("{name} to log {parts:?}"), PATIENCE, async || {
            let log = self.log(name);
            let found = log.lines().any(|line| parts.iter().all(|part| line.contains(part)));
            if found { Ok(()) } else { Err(log) }
        })
        .await;
    }

    fn finish(mut self) {
        for child in &mut self.running {
            signal(child.id(), Signal::TERM);
            child.wait().unwrap();
        }
        self.running.clear();
        std::fs::remove_dir_all(&self.folder).unwrap();
    }
}

impl Drop for Story {
    fn drop(&mut self) {
        for child in &mut self.running {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn append(path: &Path) -> File {
    OpenOptions::new().create(true).append(true).open(path).unwrap()
}

#[tokio::test]
async fn commands_say_what_is_wrong_with_whom_they_dial() {
    let mut story = Story::new("commands_say_what_is_wrong");
    let good = story.encrypted("good", 0);
    let expired = story.ours.certify_expired(&[HOST], &story.file("expired"));
    let expired = Wanted { public: Some(expired), peers: None, ..story.encrypted("expired", 1) };
    let plain = Wanted { public: None, peers: None, ..story.encrypted("plain", 2) };
    for wanted in [&good, &expired, &plain] {
        story.start_and_wait(wanted).await;
    }
    let (ours, others) = (story.ca(), story.file("others.pem"));
    let url = story.public(&good);
    let trusting = ["status", "--ca-file", argument(&ours)];
    CommandLine::new(&url).run(&trusting).await.expect(0);
    let run = |url: String, arguments: Vec<String>| async move {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        CommandLine::new(&url).run(&arguments).await.expect(1)
    };
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();

    // The wrong authority, and none but the machine's.
    let told = run(url.clone(), words(&["status", "--ca-file", argument(&others)])).await;
    told.complains(&["its certificate is of no authority that is trusted here", "--ca-file FILE, or ATOLL_CA_FILE"]);
    run(url.clone(), words(&["status"])).await.complains(&["of no authority that is trusted here"]);
    // Another name than the certificate's.
    let by_name = url.replace(HOST, "localhost");
    run(by_name, words(&trusting))
        .await
        .complains(&["its certificate is not for localhost, which was dialled, but for"]);
    // A certificate of long ago.
    run(story.public(&expired), words(&trusting)).await.complains(&["its certificate has expired"]);
    // Plain HTTP to TLS, and the other way round.
    let plainly = run(url.replace("https", "http"), words(&["status"])).await;
    plainly.complains(&["TLS required", "write https:// in place of http://"]);
    let encrypted = run(story.public(&plain).replace("http", "https"), words(&trusting)).await;
    encrypted.complains(&["it does not speak TLS there", "write http:// in place of https://"]);
    // A file that is none of authorities.
    let told = run(url, words(&["status", "--ca-file", argument(&story.file("cluster.secret"))])).await;
    told.complains(&["--ca-file", "holds no certificate in PEM"]);
    story.finish();
}

#[tokio::test]
async fn the_internal_listener_lets_in_the_cluster_alone() {
    let mut story = Story::new("internal_listener_lets_in");
    let good = story.encrypted("good", 0);
    story.start_and_wait(&good).await;
    let (url, ca_file) = (story.internal(&good), story.ca());
    let ask = |shown: Option<Files>, secret: &'static str| {
        let client = Client::trusting(&url, &ca_file, shown.as_ref());
        async move {
            let bearer = format!("Bearer {secret}");
            client.request(Method::GET, "/internal/healthz").header("authorization", bearer).try_send().await
        }
    };
    let member = story.ours.certify(&["10.0.0.9"], &story.file("member"));
    ask(Some(member.clone()), "open sesame").await.unwrap().expect(200);
    // The secret is asked for as well.
    ask(Some(member), "a guess").await.unwrap().expect_problem(401, "unauthenticated");

    let none = ask(None, "open sesame").await.unwrap_err();
    assert!(none.contains("it lets in only who shows a certificate"), "{none}");
    story.wait_for_log("good", &["it showed no certificate"]).await;
    let stranger = story.others.certify(&[HOST], &story.file("stranger"));
    let told = ask(Some(stranger), "open sesame").await.unwrap_err();
    assert!(told.contains("it does not trust the authority"), "{told}");
    story.wait_for_log("good", &["of no authority that is trusted here"]).await;
    let expired = story.ours.certify_expired(&[HOST], &story.file("expired"));
    let told = ask(Some(expired), "open sesame").await.unwrap_err();
    assert!(told.contains("has expired"), "{told}");
    story.wait_for_log("good", &["its certificate has expired"]).await;
    let plain = Client::new(&url.replace("https", "http")).get("/internal/healthz").await;
    plain.expect_problem(400, "tls-required");
    story.wait_for_log("good", &["it spoke no TLS"]).await;

    // TLS 1.1: a fatal alert, "handshake failure" or "protocol version".
    for port in [story.ports.first(), story.ports.first() + 50] {
        let answer = answer_to_tls_1_1(port);
        assert!(answer.starts_with(&[0x15, 3, 3, 0, 2, 2]) && [40, 70].contains(&answer[6]), "{answer:?}");
    }
    story.wait_for_log("good", &["it speaks no version of TLS that is safe"]).await;
    let warned = story.log("good").lines().filter(|line| line.contains("WARN") && line.contains("turned away")).count();
    assert!((1..=5).contains(&warned), "{warned} warnings: {}", story.log("good"));
    story.finish();
}

#[tokio::test]
async fn coordinators_dial_nobody_who_cannot_show_who_he_is() {
    let mut story = Story::new("coordinators_dial_nobody");
    let good = story.encrypted("good", 0);
    story.start_and_wait(&good).await;
    let url = story.internal(&good);
    // One that trusts others, and shows what the first does not trust.
    let stranger = story.others.certify(&[HOST], &story.file("stranger-peers"));
    let stranger = Wanted {
        peers: Some((story.file("others.pem"), stranger)),
        join: Some(url.clone()),
        ..story.encrypted("stranger", 1)
    };
    story.start(&stranger);
    story.wait_for_log("stranger", &["its certificate is of no authority that is trusted here: see ca_file"]).await;
    // The name that is dialled counts.
    let by_name = Wanted { join: Some(url.replace(HOST, "localhost")), ..story.encrypted("by-name", 2) };
    story.start(&by_name);
    story.wait_for_log("by-name", &["its certificate is not for localhost, which was dialled"]).await;
    // Plain, where the other is not; and the other way round.
    let plain = Wanted { peers: None, join: Some(url.replace("https", "http")), ..story.encrypted("plain", 3) };
    story.start(&plain);
    story.wait_for_log("plain", &["this port takes TLS only"]).await;
    let alone = Wanted { peers: None, ..story.encrypted("alone", 4) };
    story.start_and_wait(&alone).await;
    let to_plain = story.internal(&alone).replace("http", "https");
    let to_plain = Wanted { join: Some(to_plain), ..story.encrypted("to-plain", 5) };
    story.start(&to_plain);
    story.wait_for_log("to-plain", &["it does not speak TLS there"]).await;
    story.finish();
}

#[tokio::test]
async fn nobody_starts_with_files_that_the_others_would_refuse() {
    let mut story = Story::new("nobody_starts_with_files");
    let (ca_file, others_ca) = (story.ca(), story.file("others.pem"));
    let expired = story.ours.certify_expired(&[HOST], &story.file("expired"));
    let elsewhere = story.ours.certify(&["10.0.0.9"], &story.file("elsewhere"));
    let good = story.ours.certify(&[HOST], &story.file("good"));
    let crossed = Files { cert: good.cert.clone(), key: elsewhere.key.clone() };
    let missing = Files { cert: good.cert.clone(), key: story.file("nowhere.pem") };
    for (place, (ca_file, files, told)) in (0..).zip([
        (&ca_file, expired, "would be refused by the others: its certificate has expired"),
        (&ca_file, elsewhere, "would be refused by the others: its certificate is not for 127.0.0.1"),
        (&others_ca, good, "would be refused by the others: its certificate is of no authority"),
        (&ca_file, crossed, "tls.key_file"),
        (&ca_file, missing, "tls.key_file: the file"),
    ]) {
        let name = ["expired", "elsewhere", "stranger", "crossed", "missing"][usize::from(place)];
        let wanted = Wanted { peers: Some((ca_file.clone(), files)), ..story.encrypted(name, place) };
        story.start(&wanted);
        story.wait_for_log(name, &[told]).await;
        let ended = story.running.pop().unwrap().wait().unwrap();
        assert_eq!(ended.code(), Some(1), "{name}");
    }
    story.finish();
}

/// Connections that say nothing, or only begin a handshake, cost the others nothing and end by themselves.
#[tokio::test]
async fn who_says_nothing_holds_up_nobody() {
    let mut story = Story::new("who_says_nothing");
    let good = story.encrypted("good", 0);
    story.start_and_wait(&good).await;
    let address = format!("{HOST}:{}", story.ports.first());
    let mut silent: Vec<TcpStream> = (0..100).map(|_| TcpStream::connect(&address).unwrap()).collect();
    for half in silent.iter_mut().step_by(2) {
        half.write_all(&hello_of_tls_1_1()[..20]).unwrap();
    }
    let client = Client::trusting(&story.public(&good), &story.ca(), None);
    let began = Instant::now();
    client.get("/version").await.expect(200);
    assert!(began.elapsed() < Duration::from_millis(IDLE_MS) / 2, "{:?}", began.elapsed());
    for mut stream in silent {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // The end, or a reset: it is over.
        assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0);
    }
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
    story.finish();
}

/// The first bytes of a client that speaks TLS 1.1 at most.
fn hello_of_tls_1_1() -> Vec<u8> {
    let mut hello = vec![3, 2];
    hello.extend([7; 32]);
    // No session; four suites of that time; no compression.
    hello.extend([0, 0, 8, 0x00, 0x2f, 0x00, 0x35, 0xc0, 0x13, 0xc0, 0x14, 1, 0]);
    let handshake = [&[1, 0, 0, hello.len() as u8], &hello[..]].concat();
    [&[0x16, 3, 1, 0, handshake.len() as u8], &handshake[..]].concat()
}

fn answer_to_tls_1_1(port: u16) -> Vec<u8> {
    let mut stream = TcpStream::connect((HOST, port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(&hello_of_tls_1_1()).unwrap();
    let mut answer = Vec::new();
    // A reset after the alert takes nothing away from it.
    let _ = stream.read_to_end(&mut answer);
    answer
}
