//! `atoll doctor`: what is wrong with the cluster, and what to do about each.

use super::client::Client;
use super::error::CommandError;
use super::output::{Output, count};
use atoll_proto::finding::{Finding, FindingList, Severity};

/// Prints what the coordinator finds. An error if something is wrong, so that scripts can ask.
pub(crate) async fn run(client: &Client, output: &Output) -> Result<(), CommandError> {
    let answer = client.get("/v1/admin/findings").await?;
    let FindingList { findings } = answer.parse()?;
    if output.json {
        output.line(answer.text.trim_end())?;
    } else {
        for finding in &findings {
            output.line(shown(finding))?;
        }
    }
    let wrong = findings.iter().filter(|finding| finding.severity != Severity::Info).count();
    if wrong == 0 {
        eprintln!("{}", output.green("nothing is wrong"));
        return Ok(());
    }
    Err(CommandError::Failed(format!("the cluster has {}", count(wrong as u64, "finding"))))
}

fn shown(finding: &Finding) -> String {
    let severity = match finding.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Info => "info",
    };
    format!("- {severity}: {}\n  next: {}", finding.detail, finding.action)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::cli::testing::FakeCoordinator;
    use serde_json::json;

    async fn told(severities: &[&str]) -> Result<(), CommandError> {
        let finding = |severity: &&str| json!({"severity":severity,"code":"shard-skew","subject":"shard 7","detail":"is large","action":"look"});
        let findings: Vec<_> = severities.iter().map(finding).collect();
        let fake = FakeCoordinator::routing(vec![("/v1/admin/findings", json!({"findings": findings}))]).await;
        run(&fake.client(), &Output::detect(true)).await
    }

    #[tokio::test]
    async fn only_what_is_wrong_is_an_error() {
        told(&[]).await.unwrap();
        told(&["info"]).await.unwrap();
        let error = told(&["error", "warning", "info"]).await.unwrap_err();
        assert_eq!(error.to_string(), "the cluster has 2 findings");
    }

    #[test]
    fn each_finding_has_its_next_step() {
        let finding = serde_json::from_value(
            json!({"severity":"warning","code":"worker-down","subject":"worker w1","detail":"it is down","action":"start it"}),
        );
        assert_eq!(shown(&finding.unwrap()), "- warning: it is down\n  next: start it");
    }
}
