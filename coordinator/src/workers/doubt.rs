//! Commits that a server no longer waits for.
//!
//! PostgreSQL commits on its own disk first and then waits for its synchronous standbys. A wait that is cut short (the statement
//! cancelled, the backend or the server told to stop) does not fail: the commit succeeds, with a warning. Nobody may take that for
//! an acknowledgement, and the client library tells warnings to none but the task that drives the connection. So that task listens
//! here. A warning comes ahead of the answer to its commit, and is noted before the answer is passed on.

use deadpool_postgres::ClientWrapper;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio_postgres::error::{DbError, Severity};
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{AsyncMessage, Config, Error, Socket};

/// The function of the server that waits for standbys, which its warnings name. Their text may be in any language.
const WAITING: &str = "SyncRepWaitForLSN";

/// Whether a commit of a connection is in doubt.
#[derive(Debug, Clone, Default)]
pub(super) struct Doubt(Arc<AtomicBool>);

impl Doubt {
    /// Whether the server ever gave up waiting, on this connection, for standbys to have a commit.
    pub(super) fn is_there(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    fn hear(&self, notice: &DbError) {
        if is_doubtful(notice.parsed_severity(), notice.routine(), notice.message()) {
            self.0.store(true, Ordering::Release);
        }
    }
}

fn is_doubtful(severity: Option<Severity>, routine: Option<&str>, message: &str) -> bool {
    severity == Some(Severity::Warning)
        && (routine == Some(WAITING) || message.contains("wait for synchronous replication"))
}

/// Connects; what the server warns of is heard from then on.
pub(super) async fn connect<T>(config: &Config, tls: T) -> Result<(ClientWrapper, Doubt), Error>
where
    T: MakeTlsConnect<Socket>,
    T::Stream: Send + 'static,
{
    // Large, and rarely needed: every write and read would carry it.
    let (client, mut connection) = Box::pin(config.connect(tls)).await?;
    let doubt = Doubt::default();
    let heard = doubt.clone();
    // What breaks the connection also fails the statement that waits for it.
    let task = tokio::spawn(async move {
        while let Some(message) = poll_fn(|context| connection.poll_message(context)).await {
            match message {
                Ok(AsyncMessage::Notice(notice)) => heard.hear(&notice),
                Ok(_) => {}
                Err(error) => {
                    tracing::debug!(error = &error as &dyn std::error::Error, "a connection to a worker broke");
                    return;
                }
            }
        }
    });
    Ok((ClientWrapper::new(client, task), doubt))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_that_was_cut_short_is_heard_in_any_language() {
        let english = "canceling wait for synchronous replication due to user request";
        let german = "Warten auf synchrone Replikation wird storniert";
        let warning = Some(Severity::Warning);
        assert!(is_doubtful(warning, Some(WAITING), german));
        assert!(is_doubtful(warning, None, english), "from something that leaves out what it does not know");
        assert!(!is_doubtful(warning, Some("CheckMyDatabase"), "database has a collation version mismatch"));
        assert!(!is_doubtful(Some(Severity::Notice), Some(WAITING), english));
    }
}
