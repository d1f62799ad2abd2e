//! Ctrl-C: the first ends measuring, with a report and without traces; the second ends at once.

use tokio::sync::watch;

/// Whether to end.
#[derive(Debug, Clone)]
pub(super) struct Stop(watch::Receiver<bool>);

impl Stop {
    /// Listens for Ctrl-C from now on.
    pub(super) fn listen() -> Self {
        let (sender, receiver) = watch::channel(false);
        tokio::spawn(async move {
            if tokio::signal::ctrl_c().await.is_err() {
                // Nobody can stop it then, and nobody waits for that.
                return sender.closed().await;
            }
            eprintln!("stopping: the report follows; Ctrl-C again ends at once");
            sender.send_replace(true);
            if tokio::signal::ctrl_c().await.is_ok() {
                std::process::exit(130);
            }
        });
        Self(receiver)
    }

    /// Whether it came.
    pub(super) fn came(&self) -> bool {
        *self.0.borrow()
    }
}
