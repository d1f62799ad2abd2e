//! An agent that is told to stop has another member take over first, if its server is a primary that others follow: so writers wait for
//! a second or two, and not until its silence is noticed. The leader does it, who reads in its reports that it leaves.

use super::member::Member;
use crate::pg::connect::chain;
use atoll_proto::WorkerId;
use atoll_proto::group::{GroupRecord, Phase, Report, Server};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Whom no coordinator has asked for so long, nobody will.
const NOBODY_ASKS_AFTER: Duration = Duration::from_secs(1);
/// The leader reads that the agent leaves at its next question, and begins, or there is nobody who could take over.
const BEGINS_WITHIN: Duration = Duration::from_secs(2);
/// From then on another takes over within some seconds.
const TAKES_OVER_WITHIN: Duration = Duration::from_secs(10);

impl Member {
    /// Waits until another has taken over, or for as long as that may take. `me` is the worker's own id.
    pub async fn leave(&self, me: WorkerId) {
        let is_mine = |record: &GroupRecord| record.phase == Phase::Steady && record.primary.worker == me;
        let is_followed = |report: Report| report.server == Server::Primary && !report.streaming.is_empty();
        let mut record = self.record.subscribe();
        let leads = record.borrow_and_update().as_ref().is_some_and(is_mine);
        let could = leads && self.last_seen().is_ok_and(is_followed);
        if !could || self.silent(None) > NOBODY_ASKS_AFTER {
            // It takes over from nobody any more.
            self.leaving.store(true, Ordering::Relaxed);
            return;
        }
        tracing::info!("the server is its group's primary: another takes over first");
        if let Err(error) = self.replica.checkpoint().await {
            tracing::info!(error = chain(&error), "no checkpoint was written: the server will take longer to stop");
        }
        self.leaving.store(true, Ordering::Relaxed);
        let began = record.wait_for(|now| now.as_ref().is_some_and(|now| !is_mine(now)));
        if tokio::time::timeout(BEGINS_WITHIN, began).await.is_err() {
            tracing::warn!("nobody takes over; the server is stopped all the same");
            return;
        }
        let is_over = |now: &GroupRecord| now.phase == Phase::Steady && now.primary.worker != me;
        let over = record.wait_for(|now| now.as_ref().is_some_and(is_over));
        match tokio::time::timeout(TAKES_OVER_WITHIN, over).await {
            Ok(_) => tracing::info!("another took over"),
            Err(_) => tracing::warn!("nobody took over in time; the server is stopped all the same"),
        }
    }
}
