//! One coordinator as a whole, asked over plain sockets: what a slow, silent or odd client meets, and how it stops.

#![allow(clippy::unwrap_used)]

mod support;

use atoll::config::Config;
use atoll::internal_client::InternalClient;
use atoll::serve::ServeError;
use atoll_proto::agent::{REGISTER_PATH, Registered};
use serde_json::Value;
use std::net::SocketAddr;
use support::agent::FakeAgent;
use support::{PATIENCE, deadline, eventually, secret, worker};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

struct Served {
    public: SocketAddr,
    internal: SocketAddr,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<Result<(), ServeError>>,
    _dir: TempDir,
}

impl Served {
    async fn start(cluster: &str, limits: &str) -> Self {
        Self::start_as("", cluster, limits).await
    }

    async fn start_as(server: &str, cluster: &str, limits: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (public, internal) = (free().await, free().await);
        let path = dir.path();
        std::fs::write(path.join("secret"), "test secret").unwrap();
        let text = format!(
            "server = {{ listen = \"{public}\", internal_listen = \"{internal}\"{server} }}\n\
             cluster = {{ data_dir = {path:?}, secret_file = \"{}/secret\", {cluster} }}\n\
             postgres = {{ password_file = \"{}/secret\" }}\n\
             limits = {{ {limits} }}\n",
            path.display(),
            path.display()
        );
        let file = path.join("c.toml");
        std::fs::write(&file, text).unwrap();
        let config = Config::load(&file).unwrap();
        let (stop, stopped) = oneshot::channel();
        let ended = tokio::spawn(atoll::serve::serve(config, async { drop(stopped.await) }));
        let served = Self { public, internal, stop, ended, _dir: dir };
        eventually("it listens", async || match TcpStream::connect(public).await {
            Ok(_) => Ok(()),
            Err(error) => Err(error.to_string()),
        })
        .await;
        served
    }

    async fn bootstrap(limits: &str) -> Self {
        let served = Self::start("bootstrap = true", limits).await;
        eventually("it knows that no key is asked for", async || {
            let answer = served.ask("GET", "/v1/collections", "", "").await;
            if answer.text.contains("no-leader") { Err(answer.text) } else { Ok(()) }
        })
        .await;
        served
    }

    /// With a worker that has no server, but an agent that says what it is told to say.
    async fn with_worker(limits: &str) -> (Self, FakeAgent) {
        let served = Self::bootstrap(limits).await;
        let agent = FakeAgent::start().await;
        let client = InternalClient::new(&secret(), None);
        let internal = format!("http://{}", served.internal);
        let asked = worker("w1", &agent.url);
        eventually("the worker is registered", async || {
            let registered: Result<Registered, _> = client.post(&internal, REGISTER_PATH, &asked, deadline()).await;
            registered.map_err(|error| error.to_string())
        })
        .await;
        eventually("the first collection is active", async || {
            let shown = served.ask("GET", "/v1/collections/memory_entries", "", "").await;
            if shown.json()["state"] == "active" { Ok(()) } else { Err(shown.text) }
        })
        .await;
        eventually("it is ready", async || {
            let ready = served.ask("GET", "/readyz", "", "").await;
            if ready.json()["ready"] == true { Ok(()) } else { Err(ready.text) }
        })
        .await;
        (served, agent)
    }

    async fn send(&self, text: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.public).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        stream
    }

    async fn ask(&self, method: &str, path: &str, headers: &str, body: &str) -> Answer {
        let length = body.len();
        let text = format!(
            "{method} {path} HTTP/1.1\r\nhost: h\r\nconnection: close\r\ncontent-type: application/json\r\n\
             content-length: {length}\r\n{headers}\r\n{body}"
        );
        read(self.send(&text).await).await
    }

    async fn stop(self) {
        self.stop.send(()).unwrap();
        timeout(PATIENCE, self.ended).await.expect("it ends in time").unwrap().unwrap();
    }
}

async fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

/// Everything until the coordinator closes the connection.
async fn read(mut stream: TcpStream) -> Answer {
    let mut bytes = Vec::new();
    let ended = timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("the connection ends in time");
    // One that is reset has said nothing, which is no answer to whoever looks for one.
    if let Err(error) = ended {
        bytes.extend(error.to_string().into_bytes());
    }
    Answer { text: String::from_utf8(bytes).unwrap().to_ascii_lowercase() }
}

struct Answer {
    text: String,
}

impl Answer {
    #[track_caller]
    fn expect(self, status: u16, part: &str) -> Self {
        let begins = format!("http/1.1 {status} ");
        assert!(self.text.starts_with(&begins) && self.text.contains(part), "{}", self.text);
        self
    }

    fn json(&self) -> Value {
        let body = self.text.split_once("\r\n\r\n").unwrap_or_default().1;
        serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }
}

#[test]
fn a_list_can_be_given_by_the_environment() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("c.toml");
    let text = "server = { listen = \"127.0.0.1:1\", internal_listen = \"127.0.0.1:2\" }\n\
                cluster = { data_dir = \"d\", secret_file = \"s\" }\npostgres = { password_file = \"p\" }\n";
    std::fs::write(&file, text).unwrap();
    let config = |join: &str| {
        let mut atoll = std::process::Command::new(env!("CARGO_BIN_EXE_atoll"));
        let shown = atoll.arg("config").arg("--config").arg(&file).env("ATOLL__CLUSTER__JOIN", join).output().unwrap();
        let text = String::from_utf8(shown.stdout).unwrap() + &String::from_utf8(shown.stderr).unwrap();
        text.lines().filter(|line| line.contains("join")).collect::<String>()
    };
    assert_eq!(config("http://h:1"), "join = [\"http://h:1\"]");
    assert_eq!(config("http://h:1,http://h:2"), "join = [\"http://h:1\", \"http://h:2\"]");
    assert!(config("h:1").contains("cluster.join"), "{}", config("h:1"));
}

const ENTRIES: &str = "POST /v1/collections/c/entries HTTP/1.1\r\nhost: h\r\ncontent-type: application/json\r\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_serves_on_until_a_load_balancer_has_noticed_that_it_leaves() {
    let served = Served::start_as(", leave_ms = 2000", "bootstrap = true", "").await;
    // Told before it serves it goes at once: nobody has been sent to it.
    served.ask("GET", "/version", "", "").await.expect(200, "atoll");
    let mut kept = served.send("GET /version HTTP/1.1\r\nhost: h\r\n\r\n").await;
    served.stop.send(()).unwrap();
    let told = eventually("it says that it leaves", async || {
        let mut stream = TcpStream::connect(served.public).await.map_err(|error| error.to_string())?;
        stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n").await.unwrap();
        let answer = read(stream).await;
        if answer.text.contains("told to stop") { Ok(answer) } else { Err(answer.text) }
    });
    told.await.expect(503, "it was told to stop");
    // A connection that was there before is served still.
    kept.write_all(b"GET /version HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n").await.unwrap();
    let answers = read(kept).await.text;
    assert_eq!(answers.matches("\"name\":\"atoll\"").count(), 2, "{answers}");
    timeout(PATIENCE, served.ended).await.expect("it ends in time").unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_stops_while_it_waits_to_join() {
    let nobody = free().await;
    let served = Served::start(&format!("join = [\"http://{nobody}\"]"), "").await;
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_comes_slowly_holds_its_place_until_the_deadline_only() {
    let served = Served::bootstrap("concurrency = 1").await;
    // Whichever is read first takes the only place, so it may take a few tries until that is the slow one.
    let answer = eventually("the slow one to hold the place", async || {
        let head = format!("{ENTRIES}x-timeout-ms: 500\r\ncontent-length: 100\r\n\r\n{{\"entries\"");
        let slow = served.send(&head).await;
        let other = served.ask("GET", "/v1/collections", "", "").await;
        let slow = read(slow).await;
        let held = other.text.contains("overloaded") && slow.text.contains("deadline-exceeded");
        if held { Ok(slow) } else { Err(format!("{} {}", slow.text, other.text)) }
    })
    .await
    .expect(504, "deadline-exceeded");
    assert!(answer.text.contains("connection: close"), "{}", answer.text);
    served.ask("GET", "/v1/collections", "", "").await.expect(200, "memory_entries");
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_take_so_much_memory_together_and_no_more() {
    let served = Served::bootstrap("body_bytes = 100000, bodies_bytes = 150000").await;
    let part = format!("{{\"entries\":[],\"x\":\"{}", "x".repeat(90_000));
    let large = format!("{{\"entries\":[],\"x\":\"{}\"}}", "x".repeat(80_000));
    let entries = "/v1/collections/memory_entries/entries";
    // Whichever is read first is let in, so it may take a few tries until that is the slow one.
    let (slow, answer) = eventually("what came of the slow one to count", async || {
        let slow = served.send(&format!("{ENTRIES}x-timeout-ms: 3000\r\ncontent-length: 95000\r\n\r\n{part}")).await;
        let answer = served.ask("POST", entries, "", &large).await;
        if answer.text.contains("overloaded") { Ok((slow, answer)) } else { Err(answer.text) }
    })
    .await;
    answer.expect(429, "retry-after");
    let small = served.ask("POST", entries, "", "{\"entries\":[]}").await;
    assert!(!small.text.contains("overloaded"), "there is room for a small one: {}", small.text);
    read(slow).await.expect(504, "deadline-exceeded");
    let answer = served.ask("POST", entries, "", &large).await;
    assert!(!answer.text.contains("overloaded"), "what was held is given back: {}", answer.text);
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_that_do_not_end_are_not_waited_for() {
    let served = Served::bootstrap("idle_ms = 300").await;
    let answer = read(served.send("GET /healthz HTTP/1.1\r\nhost: ").await).await;
    assert!(!answer.text.contains(" 200 "), "{}", answer.text);
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_early_refusal_reaches_a_client_that_still_sends() {
    let served = Served::bootstrap("body_bytes = 100000").await;
    let large = "x".repeat(16 * 1024 * 1024);
    for (path, media_type, status, code) in [
        ("/nothing", "application/json", 404, "route-not-found"),
        ("/v1/collections/c/entries", "text/plain", 415, "unsupported-media-type"),
        ("/v1/collections/c/entries", "application/json", 413, "body-too-large"),
    ] {
        let head = format!("POST {path} HTTP/1.1\r\nhost: h\r\ncontent-type: {media_type}\r\n");
        let answer = served.send(&format!("{head}content-length: {}\r\n\r\n{large}", large.len())).await;
        let answer = read(answer).await.expect(status, code);
        assert!(answer.text.contains("connection: close"), "{}", answer.text);
    }
    // A small one is no reason to end the connection.
    let one = "POST /nothing HTTP/1.1\r\nhost: h\r\ncontent-length: 2\r\n";
    let answer = read(served.send(&format!("{one}\r\n{{}}{one}connection: close\r\n\r\n{{}}")).await).await;
    assert_eq!(answer.text.matches("http/1.1 404 ").count(), 2, "{}", answer.text);
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_clients_make_up_is_no_label() {
    let served = Served::bootstrap("").await;
    served.ask("BREW", "/healthz", "", "").await.expect(405, "method-not-allowed");
    let metrics = served.ask("GET", "/metrics", "", "").await.expect(200, r#"method="other""#);
    assert!(!metrics.text.contains("brew"), "{}", metrics.text);
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_mean_what_they_say_or_are_refused() {
    let served = Served::bootstrap("").await;
    let collection = r#"{"dimensions":2}"#;
    for (method, path) in [
        ("PUT", "/v1/collections/c"),
        ("DELETE", "/v1/collections/c"),
        ("POST", "/v1/collections/c/entries"),
        ("DELETE", "/v1/collections/c/namespaces/n"),
    ] {
        for header in ["if-match: \"1\"\r\n", "if-none-match: *\r\n"] {
            served.ask(method, path, header, collection).await.expect(422, "go with one entry");
        }
    }
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let refused = served.ask("GET", "/v1/collections/none", &format!("traceparent: {trace}\r\n"), "").await;
    assert_eq!(refused.expect(404, "collection-not-found").json()["traceparent"], trace);
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_that_falls_silent_ends_and_says_so() {
    let (served, _agent) = Served::with_worker("idle_ms = 300, streams = 1").await;
    let head = "POST /v1/collections/memory_entries/import HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\
                content-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n";
    let answer = read(served.send(head).await).await.expect(200, "\"done\":true");
    assert!(answer.text.contains("deadline-exceeded"), "{}", answer.text);
    // Its place is free again.
    let answer = read(served.send(&format!("{head}0\r\n\r\n")).await).await.expect(200, "\"done\":true");
    assert!(!answer.text.contains("deadline-exceeded"), "{}", answer.text);
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collection_that_is_being_made_does_not_make_it_unready() {
    let (served, agent) = Served::with_worker("").await;
    agent.state.lock().unwrap().failing = true;
    let collection = r#"{"dimensions":2}"#;
    let put = served.ask("PUT", "/v1/collections/c", "x-timeout-ms: 300\r\n", collection).await;
    put.expect(503, "will be carried out when these groups answer: w1");
    served.ask("GET", "/readyz", "", "").await.expect(200, "\"ready\":true");
    agent.state.lock().unwrap().failing = false;

    served.ask("PUT", "/v1/collections/c", "", collection).await.expect(200, "active");
    served.ask("PUT", "/v1/collections/d", "", collection).await.expect(201, "active");
    served.ask("PUT", "/v1/collections/d", "", collection).await.expect(200, "active");
    served.ask("DELETE", "/v1/collections/d", "", "").await.expect(200, "\"dropped\":true");
    served.ask("DELETE", "/v1/collections/d", "", "").await.expect(404, "collection-not-found");
    served.ask("DELETE", "/v1/admin/coordinators/4711", "", "").await.expect(404, "operation-not-found");
    served.stop().await;
}
