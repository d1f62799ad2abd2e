//! Why a command failed, told so that the reader knows what to do next.

use super::output::Output;
use atoll_proto::problem::{FieldError, ProblemCode, ShardFailure};
use atoll_trust::{Remedy, TlsFault};
use serde::Deserialize;
use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    /// The command line asks for something that can't be.
    #[error("{0}")]
    Usage(String),
    /// Nobody listens there.
    #[error("cannot connect to {url}")]
    Unreachable {
        /// The coordinator.
        url: String,
        /// What the network said.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The coordinator took the request and said nothing.
    #[error("{url} gave no answer within {seconds} s")]
    NoAnswer {
        /// The coordinator.
        url: String,
        /// How long it was waited for.
        seconds: u64,
    },
    /// The connection broke in the middle.
    #[error("the connection to {url} broke")]
    Broken {
        /// The coordinator.
        url: String,
        /// What the network said.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The coordinator refused.
    #[error("{}: {}", .0.title, .0.detail)]
    Problem(Box<ShownProblem>),
    /// Whoever answered is no coordinator of this version.
    #[error("{url} answered {status}, which is not an answer of this version of Atoll")]
    Foreign {
        /// Who answered.
        url: String,
        /// The HTTP status.
        status: u16,
        /// What is wrong with the answer.
        source: serde_json::Error,
    },
    /// A file can't be read or written.
    #[error("cannot {doing} {}", path.display())]
    File {
        /// `read`, `write`, …
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Something is not as it must be; the text says what to do.
    #[error("{0}")]
    Failed(String),
    /// Standard output is closed or full.
    #[error("cannot write to standard output")]
    Output(#[source] io::Error),
}

/// A problem document as far as people need it. Lenient, so that one from another version can be shown as well.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ShownProblem {
    title: String,
    detail: String,
    code: String,
    retryable: bool,
    request_id: Option<String>,
    errors: Vec<FieldError>,
    failures: Vec<ShardFailure>,
    /// The document as it came.
    #[serde(skip)]
    text: String,
}

impl ShownProblem {
    /// Reads a problem document.
    pub(crate) fn parse(text: &str) -> Result<Self, serde_json::Error> {
        let problem: Self = serde_json::from_str(text)?;
        if problem.code.is_empty() {
            return Err(serde::de::Error::missing_field("code"));
        }
        Ok(Self { text: text.to_owned(), ..problem })
    }

    /// Whether it is of this code.
    pub(crate) fn is(&self, code: ProblemCode) -> bool {
        self.code == code.as_str()
    }

    fn next_step(&self) -> Option<&'static str> {
        match self.code.as_str() {
            "unauthenticated" => Some("give a key: --key-file FILE, or ATOLL_KEY in the environment"),
            "forbidden" => Some("use a key that allows it: atoll key list, with an admin key, shows what each allows"),
            "key-not-found" => Some("see which there are: atoll key list"),
            "group-not-found" => Some("see which there are: atoll group list"),
            "collection-not-found" => Some("see which there are: atoll collection list"),
            "collection-settings-conflict" => Some("see what it has: atoll collection show NAME"),
            "already-exists" | "version-mismatch" => Some("see what is stored: atoll get NAMESPACE KEY"),
            "deadline-exceeded" => Some("allow more time: --timeout-ms 10000"),
            "internal" => Some("look for the request id in the coordinator's log"),
            "no-leader" => Some("a majority of the coordinators must be up: atoll doctor"),
            "shard-unavailable" | "not-enough-replicas" => Some("see what is down: atoll doctor"),
            "write-outcome-unknown" => {
                Some("see what became of it before you do it again; of an entry: atoll get NAMESPACE KEY")
            }
            _ if self.retryable => Some("try again in a moment"),
            _ => None,
        }
    }
}

impl CommandError {
    /// All that is to be said of `error`, with its causes: the user sees it once.
    pub(crate) fn failed(error: &dyn Error) -> Self {
        Self::Failed(format!("{error}{}", causes(error)))
    }

    /// Whether what was asked for may have been done all the same.
    pub(crate) fn is_outcome_unknown(&self) -> bool {
        match self {
            Self::NoAnswer { .. } | Self::Broken { .. } => true,
            Self::Problem(problem) => problem.code == "write-outcome-unknown",
            Self::Usage(_)
            | Self::Unreachable { .. }
            | Self::Foreign { .. }
            | Self::File { .. }
            | Self::Failed(_)
            | Self::Output(_) => false,
        }
    }

    /// Whether the coordinator has decided: asked again it would say the same.
    pub(crate) fn is_final(&self) -> bool {
        matches!(self, Self::Problem(problem) if !problem.retryable)
    }

    /// 2 for bad usage, 1 for the rest.
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Usage(_) => ExitCode::from(2),
            // Whoever reads our output (`head`, a pager) has enough: that is no failure.
            Self::Output(source) if source.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
            Self::Unreachable { .. }
            | Self::NoAnswer { .. }
            | Self::Broken { .. }
            | Self::Problem(_)
            | Self::Foreign { .. }
            | Self::File { .. }
            | Self::Failed(_)
            | Self::Output(_) => ExitCode::FAILURE,
        }
    }

    /// Tells the user on standard error.
    pub(crate) fn report(&self, output: &Output) {
        if let Self::Output(source) = self
            && source.kind() == io::ErrorKind::BrokenPipe
        {
            return;
        }
        if let Self::Problem(problem) = self
            && output.json
        {
            eprintln!("{}", problem.text.trim_end());
            return;
        }
        eprintln!("{} {self}{}", output.red("error:"), causes(self));
        for line in self.particulars() {
            eprintln!("  {line}");
        }
        if let Some(step) = self.next_step() {
            eprintln!("  next: {step}");
        }
    }

    fn particulars(&self) -> Vec<String> {
        let Self::Problem(problem) = self else {
            return Vec::new();
        };
        let mut lines = Vec::new();
        for error in &problem.errors {
            if error.detail != problem.detail || !error.pointer.is_empty() {
                lines.push(format!(
                    "{}: {}",
                    if error.pointer.is_empty() { "/" } else { &error.pointer },
                    error.detail
                ));
            }
        }
        for failure in &problem.failures {
            lines.push(format!("shard {} of group {}: {}", failure.shard, failure.group, failure.reason));
        }
        if let Some(id) = &problem.request_id {
            lines.push(format!("request id: {id}"));
        }
        lines
    }

    fn next_step(&self) -> Option<&'static str> {
        match self {
            Self::Unreachable { source, .. } => match source.downcast_ref::<TlsFault>().map(|fault| fault.remedy) {
                Some(Remedy::DialPlainly) => {
                    Some("write http:// in place of https://, or set TLS up there: [server.tls]")
                }
                Some(Remedy::TrustAnother) => {
                    Some("name the authority's certificate: --ca-file FILE, or ATOLL_CA_FILE")
                }
                Some(Remedy::None) => None,
                None => {
                    Some("is a cluster running? start one with: atoll dev (or name another coordinator with --url)")
                }
            },
            Self::NoAnswer { .. } => Some("allow more time with --timeout-ms, or see the coordinator's log"),
            Self::Broken { .. } => Some("see whether the coordinator is up: atoll status"),
            Self::Foreign { .. } => Some("check --url: it must be a coordinator's address for clients"),
            Self::Problem(problem) => problem.next_step(),
            Self::Usage(_) => Some("--help shows what can be asked for"),
            Self::File { .. } | Self::Failed(_) | Self::Output(_) => None,
        }
    }
}

/// The chain below an error, as `: cause: cause`.
fn causes(error: &dyn Error) -> String {
    let mut text = String::new();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use atoll_proto::problem::{Problem, ProblemCode};

    fn shown(problem: &Problem) -> CommandError {
        CommandError::Problem(Box::new(ShownProblem::parse(&serde_json::to_string(problem).unwrap()).unwrap()))
    }

    #[test]
    fn a_problem_shows_its_fields_its_request_and_a_next_step() {
        let mut problem = Problem::invalid("/vector", "384 numbers expected, 3 given");
        problem.request_id = Some("r-1".to_owned());
        let error = shown(&problem);
        assert_eq!(error.to_string(), "Validation failed: 384 numbers expected, 3 given");
        assert_eq!(error.particulars(), ["/vector: 384 numbers expected, 3 given", "request id: r-1"]);
        let error = shown(&Problem::new(ProblemCode::CollectionNotFound, "no collection x"));
        assert!(error.next_step().unwrap().contains("atoll collection list"));
    }

    #[test]
    fn what_is_no_problem_document_is_told_apart() {
        assert!(ShownProblem::parse("{}").is_err());
        assert!(ShownProblem::parse("<html>").is_err());
        assert!(ShownProblem::parse("{\"code\":\"from-the-future\",\"new\":1}").is_ok());
    }

    #[test]
    fn causes_follow_the_message_once() {
        let source = io::Error::other("disk on fire");
        let error = CommandError::File { doing: "read", path: "x".into(), source };
        assert_eq!(format!("{error}{}", causes(&error)), "cannot read x: disk on fire");
    }
}
