//! The command line of `atoll` as a user has it: arguments in, exit code and two streams of text out.

use crate::processes::program;
use serde_json::Value;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// Longest run of a command.
const PATIENCE: Duration = Duration::from_secs(100);

/// Runs `atoll` against one coordinator.
#[derive(Debug, Clone)]
pub struct CommandLine {
    url: String,
}

/// What a run left.
#[derive(Debug, Clone)]
pub struct Run {
    /// The exit code; -1 if a signal ended it.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
    /// What was run, for messages.
    asked: String,
}

impl CommandLine {
    /// Commands for the coordinator at this base URL.
    pub fn new(url: &str) -> Self {
        Self { url: url.to_owned() }
    }

    /// The coordinator.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Runs a command.
    pub async fn run(&self, arguments: &[&str]) -> Run {
        self.run_with_input(arguments, "").await
    }

    /// Runs a command that reads standard input.
    pub async fn run_with_input(&self, arguments: &[&str], input: impl AsRef<[u8]>) -> Run {
        let mut command = Command::new(program("atoll"));
        command.env("ATOLL_URL", &self.url).env_remove("RUST_LOG").args(arguments).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let asked = format!("atoll {}", arguments.join(" "));
        let mut child = command.spawn().expect("atoll can be started");
        let mut stdin = child.stdin.take().expect("standard input is a pipe");
        let input = input.as_ref().to_vec();
        // Beside the reading: a command may print before it has read everything, or read nothing at all.
        let feeding = tokio::spawn(async move { drop(stdin.write_all(&input).await) });
        let ended = tokio::time::timeout(PATIENCE, child.wait_with_output()).await;
        let ended = ended.unwrap_or_else(|_| panic!("{asked}: it did not end in time"));
        let ended = ended.unwrap_or_else(|error| panic!("{asked}: {error}"));
        feeding.abort();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Run { code: ended.status.code().unwrap_or(-1), out: text(&ended.stdout), err: text(&ended.stderr), asked }
    }

    /// Runs a command with `--json`; gives what it prints.
    pub async fn json(&self, arguments: &[&str]) -> Value {
        let arguments: Vec<&str> = arguments.iter().copied().chain(["--json"]).collect();
        self.run(&arguments).await.expect(0).json()
    }
}

impl Run {
    /// Itself, if the exit code is this one.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}: {}\n{}", self.asked, self.out, self.err);
        self
    }

    /// Itself, if standard output holds all of these.
    #[track_caller]
    pub fn prints(&self, parts: &[&str]) -> &Self {
        for part in parts {
            assert!(self.out.contains(part), "{}: no `{part}` in: {}", self.asked, self.out);
        }
        self
    }

    /// Itself, if standard error holds all of these.
    #[track_caller]
    pub fn complains(&self, parts: &[&str]) -> &Self {
        for part in parts {
            assert!(self.err.contains(part), "{}: no `{part}` in: {}", self.asked, self.err);
        }
        self
    }

    /// Standard output as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out)
            .unwrap_or_else(|error| panic!("{}: no JSON: {error}: {}\n{}", self.asked, self.out, self.err))
    }
}

/// A path as an argument.
pub fn argument(path: &Path) -> &str {
    path.to_str().expect("paths of stories are text")
}
