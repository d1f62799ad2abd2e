//! A rolling restart: every member is stopped in an orderly way and started again, when all before it are whole.

use super::members::{agent, coordinator, coordinator_name, restart};
use super::range::{COORDINATORS, GroupRange};
use crate::poll;
use http::Method;
use serde_json::json;
use std::time::Duration;

/// For a switchover that was taken.
const SWITCH_PATIENCE: Duration = Duration::from_secs(20);

impl GroupRange {
    /// Restarts standbys, then the primary, which hands over first, then coordinators.
    pub(super) async fn restart_all(&mut self) -> Result<(), String> {
        let group = self.group().await?;
        let (primary, standbys): (Vec<_>, Vec<_>) =
            self.cluster.layout().workers.into_iter().partition(|worker| group["primary"] == worker.name.as_str());
        for standby in &standbys {
            self.restart(&standby.name, agent(&self.cluster, standby)).await?;
        }
        let primary = primary.into_iter().next().ok_or_else(|| format!("no primary: {group}"))?;
        self.switch_over(&group["group"], &primary.name, &standbys[0].name).await?;
        self.restart(&primary.name, agent(&self.cluster, &primary)).await?;
        for number in 1..=COORDINATORS {
            self.restart(&coordinator_name(number), coordinator(&self.cluster, number)).await?;
        }
        Ok(())
    }

    async fn switch_over(&self, group: &serde_json::Value, from: &str, to: &str) -> Result<(), String> {
        let path = format!("/v1/admin/groups/{}/failover", group.as_str().unwrap_or_default());
        let body = json!({"to": to});
        // One that has just come back may not be known to follow yet.
        poll::within("the switchover to be taken on", SWITCH_PATIENCE, async || {
            let answer = self.send(|client| client.request(Method::POST, &path).json(&body)).await?;
            if (200..300).contains(&answer.status) { Ok(()) } else { Err(answer.text()) }
        })
        .await?;
        poll::within("the switchover", SWITCH_PATIENCE, async || {
            let group = self.group().await?;
            let is_over = group["primary"] != from && group["phase"] == "steady";
            if is_over { Ok(()) } else { Err(group.to_string()) }
        })
        .await
    }

    /// Stops a member, which takes its server with it, starts it again and waits until all is whole.
    async fn restart(&mut self, name: &str, pid: u32) -> Result<(), String> {
        restart(&mut self.cluster, name, pid).await;
        self.wait_whole().await.map_err(|waited| format!("{name} was restarted: {waited}"))
    }
}
