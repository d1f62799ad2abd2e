//! Whether a managed server is to run: what its supervisor goes by. By itself a server always runs. One of a group is steered by the
//! group's record, and is not started again behind the back of whoever reads that: it could come back as a primary that it no longer is.

use std::sync::Arc;
use tokio::sync::watch;

/// What is wanted of the server, and what came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Run {
    /// It runs, and is started again when it dies.
    Always,
    /// It is started once; when it dies it stays so.
    Once,
    /// It is to be stopped.
    Stop,
    /// It does not run, and nobody starts it. Only the supervisor says so.
    Stopped,
}

/// Held by the supervisor and by whoever steers it. All change it by looking and writing in one step.
#[derive(Debug, Clone)]
pub struct Steering(Arc<watch::Sender<Run>>);

impl Steering {
    /// A server of a group is only adopted, if it runs.
    pub fn new(of_group: bool) -> Self {
        Self(Arc::new(watch::Sender::new(if of_group { Run::Once } else { Run::Always })))
    }

    /// What is wanted now.
    pub fn now(&self) -> Run {
        *self.0.borrow()
    }

    /// From now on a death is not the supervisor's to mend.
    pub fn take(&self) {
        self.turn(Run::Always, Run::Once);
    }

    /// Has it started; whether it comes up is seen by asking it.
    pub fn start(&self) {
        self.0.send_if_modified(|run| {
            let stops = matches!(run, Run::Stop | Run::Stopped);
            if stops {
                *run = Run::Once;
            }
            stops
        });
    }

    /// Has it stopped, and waits until it is. Then nobody touches its data until it is started by [`Self::start`].
    pub async fn stop(&self) {
        self.0.send_if_modified(|run| {
            let runs = matches!(run, Run::Always | Run::Once);
            if runs {
                *run = Run::Stop;
            }
            runs
        });
        // The sender is ours, so there is no error.
        let _ = self.0.subscribe().wait_for(|run| *run == Run::Stopped).await;
    }

    /// The supervisor found it dead.
    pub(super) fn died(&self) {
        self.turn(Run::Once, Run::Stop);
    }

    /// The supervisor has no server: what is wanted next?
    pub(super) fn settle(&self) -> Run {
        self.turn(Run::Stop, Run::Stopped);
        self.now()
    }

    /// Waits until it is not to run. Cancel-safe.
    pub async fn unwanted(&self) {
        let _ = self.0.subscribe().wait_for(|run| matches!(run, Run::Stop | Run::Stopped)).await;
    }

    /// Waits until it is to run. Cancel-safe.
    pub(super) async fn wanted(&self) {
        let _ = self.0.subscribe().wait_for(|run| matches!(run, Run::Always | Run::Once)).await;
    }

    fn turn(&self, from: Run, to: Run) {
        self.0.send_if_modified(|run| {
            let is_from = *run == from;
            if is_from {
                *run = to;
            }
            is_from
        });
    }
}
