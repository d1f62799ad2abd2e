//! Writes that a primary has and nobody acknowledged, and what becomes of its log.

use super::range::GroupRange;
use crate::cluster::WorkerPlace;
use crate::{poll, sql};
use std::time::Duration;

const WAITING_PATIENCE: Duration = Duration::from_secs(10);
const REWIND_PATIENCE: Duration = Duration::from_secs(40);

impl GroupRange {
    /// Waits until some transaction of the primary waits for standbys: it has committed there, and nowhere else.
    pub(super) async fn wait_for_a_waiting_write(&self, primary: &WorkerPlace) -> Result<(), String> {
        let waiting =
            "select pid from pg_stat_activity where wait_event = 'SyncRep' and backend_type = 'client backend'";
        poll::within("a write to wait for standbys", WAITING_PATIENCE, async || {
            match sql::try_rows(&primary.owner_dsn(), waiting).await?.is_empty() {
                false => Ok(()),
                true => Err("none waits".to_owned()),
            }
        })
        .await
    }

    /// How often a member's agent has put its log right, by a rewind or a copy.
    pub(super) fn repairs(&self, name: &str) -> usize {
        let log = self.cluster.folder().join("logs").join(format!("{name}.log"));
        let text = std::fs::read_to_string(log).unwrap_or_default();
        let repairs = text.lines().filter(|line| line.contains("the group's record is followed"));
        repairs.filter(|line| line.contains("Rewind") || line.contains("BaseBackup")).count()
    }

    /// Waits until it has done so once more.
    pub(super) async fn wait_for_a_repair(&self, name: &str, before: usize) -> Result<(), String> {
        poll::within("the old primary's log to be put right", REWIND_PATIENCE, async || match self.repairs(name) {
            more if more > before => Ok(()),
            _ => Err(format!("{name} neither rewound nor copied anew")),
        })
        .await
    }
}
