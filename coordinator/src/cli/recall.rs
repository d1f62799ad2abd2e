//! `atoll recall`.

use super::client::{Client, Patience};
use super::error::CommandError;
use super::output::{Output, count, or_dash, table};
use super::search::PROFILES;
use super::{InCollection, one_of, path};
use atoll_proto::recall::{RecallAnswer, RecallRequest, RecallScope, RecallTable};
use atoll_proto::search::Profile;
use atoll_proto::{Namespace, limits};
use http::Method;

const AFTER_HELP: &str = "\
Examples:
  atoll recall                                           how much of the truth each profile finds, and how fast
  atoll recall --profile speed --sample 200 -k 100
  atoll recall --namespace team-a:notes --all            entries of one namespace, searched for everywhere
  atoll recall --table                                   what the coordinator has measured by itself

Stored entries are searched for with each profile and exactly. Two searches run at a time; a large sample may need
--timeout-ms 60000.";

/// What `atoll recall` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct RecallArgs {
    #[command(flatten)]
    collection: InCollection,
    /// Entries to search for.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=i64::from(limits::RECALL_SAMPLE)))]
    sample: u32,
    /// Hits wanted of each search.
    #[arg(short, value_name = "K", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=i64::from(limits::K)))]
    k: u32,
    /// Search with this profile; may be given again. All without it.
    #[arg(long, value_parser = one_of::<Profile>(PROFILES))]
    profile: Vec<Profile>,
    /// Take entries of this namespace; may be given again. Of all without it.
    #[arg(long, value_name = "NAMESPACE")]
    namespace: Vec<Namespace>,
    /// Search for each entry in all namespaces, not in its own.
    #[arg(long)]
    all: bool,
    /// Show what the coordinator measured beside its work, and measure nothing.
    #[arg(long, conflicts_with_all = ["sample", "k", "profile", "namespace", "all"])]
    table: bool,
}

impl RecallArgs {
    fn request(self) -> RecallRequest {
        let usual = vec![Profile::Speed, Profile::Balanced, Profile::Accuracy];
        RecallRequest {
            sample: self.sample,
            k: self.k,
            namespaces: (!self.namespace.is_empty()).then_some(self.namespace),
            profiles: if self.profile.is_empty() { usual } else { self.profile },
            scope: if self.all { RecallScope::All } else { RecallScope::Own },
        }
    }
}

/// Measures, or shows what was measured.
pub(crate) async fn run(args: RecallArgs, client: &Client, output: &Output) -> Result<(), CommandError> {
    let to = path::collection(&args.collection.collection, "/recall");
    if args.table {
        let answer = client.get(&to).await?;
        return output.show(&answer, |table: RecallTable| measured_table(&table));
    }
    let answer = client.send(Method::POST, &to, &[], &args.request(), Patience::Long).await?;
    if output.json {
        return output.line(answer.text.trim_end());
    }
    let answer: RecallAnswer = answer.parse()?;
    output.line(profiles_table(&answer))?;
    let sampled = match answer.sampled {
        1 => "1 entry".to_owned(),
        number => format!("{number} entries"),
    };
    eprintln!("{sampled} searched for, k {}, {:.0} ms", answer.k, answer.took_ms);
    Ok(())
}

fn profiles_table(answer: &RecallAnswer) -> String {
    let share = |share: Option<f64>| or_dash(share.map(|share| format!("{share:.4}")));
    let ms = |ms: Option<f64>| or_dash(ms.map(|ms| format!("{ms:.2}")));
    let rows = answer.profiles.iter().map(|one| {
        [
            one.profile.word().to_owned(),
            share(one.recall),
            share(one.worst),
            or_dash(one.ef),
            ms(one.p50_ms),
            ms(one.p95_ms),
            ms(one.exact_p50_ms),
        ]
    });
    table(&["PROFILE", "RECALL>", "WORST>", "EF>", "P50 MS>", "P95 MS>", "EXACT P50 MS>"], rows)
}

/// A line for each ef of each kind of search, then the estimates.
fn measured_table(measured: &RecallTable) -> String {
    let mut rows = Vec::new();
    for tier in &measured.tiers {
        for point in &tier.points {
            let taken_by = tier.ef.map(|ef| {
                let by = [("accuracy", ef.accuracy), ("balanced", ef.balanced), ("speed", ef.speed)];
                let names = by.into_iter().filter(|(_, ef)| *ef == point.ef).map(|(name, _)| name);
                names.collect::<Vec<_>>().join(", ")
            });
            rows.push([
                range(tier.rows_from, tier.rows_until),
                range(tier.walks_from.into(), tier.walks_until.map(u64::from)),
                point.ef.to_string(),
                format!("{:.4}", point.recall),
                format!("{:.4}", point.least),
                format!("{:.2}", point.ms),
                tier.samples.to_string(),
                tier.age_seconds.to_string(),
                or_dash(taken_by.filter(|names| !names.is_empty())),
            ]);
        }
    }
    let mut shown = match (rows.is_empty(), measured.enabled) {
        (false, _) => {
            let header =
                ["GRAPH ROWS", "GRAPHS", "EF>", "RECALL>", "AT LEAST>", "MS>", "SAMPLES>", "AGE S>", "TAKEN BY"];
            table(&header, rows)
        }
        (true, true) => "nothing measured yet: there are no graphs, or they are new".to_owned(),
        (true, false) => "this coordinator does not measure: search.calibration.enabled is false".to_owned(),
    };
    for estimate in &measured.estimates {
        let (profile, searches) = (estimate.profile.word(), count(estimate.samples, "live search"));
        let searches = searches.replace("searchs", "searches");
        let verdict = if estimate.broken { "less than" } else { "of" };
        let filtered = if estimate.filtered { " with a filter" } else { "" };
        shown.push_str(&format!(
            "\n{profile}: recall {:.4} in {searches}{filtered}, {verdict} {:.2} promised",
            estimate.recall, estimate.promise
        ));
    }
    shown
}

fn range(from: u64, until: Option<u64>) -> String {
    match until {
        Some(until) if until == from + 1 => from.to_string(),
        Some(until) => format!("{from}-{}", until - 1),
        None => format!("{from}+"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser;

    fn request(options: &[&str]) -> RecallRequest {
        let line = ["atoll", "recall"].iter().chain(options);
        let Command::Recall(args) = Cli::try_parse_from(line).unwrap().command else {
            panic!("not recall");
        };
        args.request()
    }

    #[test]
    fn without_options_it_asks_what_the_api_asks() {
        assert_eq!(request(&[]), serde_json::from_str("{}").unwrap());
        let asked = request(&["--profile", "speed", "--namespace", "a", "--all", "--sample", "7", "-k", "3"]);
        let wanted = r#"{"profiles":["speed"],"namespaces":["a"],"scope":"all","sample":7,"k":3}"#;
        assert_eq!(asked, serde_json::from_str(wanted).unwrap());
        assert!(Cli::try_parse_from(["atoll", "recall", "--table", "--all"]).is_err());
    }

    #[test]
    fn what_was_measured_is_a_line_for_each_ef() {
        let measured: RecallTable = serde_json::from_str(
            r#"{"enabled":true,"tiers":[{"rows_from":3000,"rows_until":10000,"walks_from":1,"walks_until":2,"samples":120,
                "believed":true,"age_seconds":30,"points":[{"ef":24,"recall":0.97,"least":0.95,"ms":0.5},
                {"ef":40,"recall":1,"least":0.995,"ms":0.61}],"ef":{"accuracy":40,"balanced":40,"speed":24}}],
                "estimates":[{"profile":"speed","filtered":false,"promise":0.95,"recall":0.9,"samples":30,"broken":true},
                {"profile":"speed","filtered":true,"promise":0.95,"recall":0.96,"samples":20,"broken":false}]}"#,
        )
        .unwrap();
        assert_eq!(
            measured_table(&measured),
            "GRAPH ROWS  GRAPHS  EF  RECALL  AT LEAST    MS  SAMPLES  AGE S  TAKEN BY\n\
             3000-9999   1       24  0.9700    0.9500  0.50      120     30  speed\n\
             3000-9999   1       40  1.0000    0.9950  0.61      120     30  accuracy, balanced\n\
             speed: recall 0.9000 in 30 live searches, less than 0.95 promised\n\
             speed: recall 0.9600 in 20 live searches with a filter, of 0.95 promised"
        );
    }
}
