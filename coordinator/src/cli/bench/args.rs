//! What `atoll bench` takes.

use super::import::PrepareArgs;
use super::quality::QualityArgs;
use super::scenario::Scenario;
use crate::cli::InCollection;
use crate::cli::one_of;
use crate::cli::search::{CONSISTENCIES, parse_filter};
use atoll_proto::filter::Filter;
use atoll_proto::limits;
use atoll_proto::search::Consistency;
use std::path::PathBuf;

const AFTER_HELP: &str = "\
Examples:
  atoll bench prepare                                  entries to search: the sample, with fields to filter by
  atoll bench                                          own five all filtered get upsert, with 1, 8, 32 and 100 clients
  atoll bench own all --clients 1,8 --seconds 5        two scenarios, less load
  atoll bench own --cluster DIR/cluster.json           beside it the same SQL sent straight to the workers of `atoll dev`
  atoll bench own five all --sweep --html bench.html   recall against latency, as a page with plots
  atoll bench --queries q.jsonl --vectors q.f16bin --collection notes --filter '{\"must\":[{\"field\":\"tags\",\"any\":[\"todo\"]}]}'

Queries are entries as `atoll import` takes them: each is searched for in its own namespace (own), in that and four others (five)
or everywhere (all). Without --queries they are those of the sample. Recall is the share of the true nearest that answers hold: some
queries are also asked once with \"exact\":true. Searches bypass the cache.

`filtered` keeps entries with \"metadata.mod20\": 7, about 5 %, unless --filter says otherwise. `atoll bench prepare` imports entries
with the fields mod10, mod20 and mod1000: a hash of the key, modulo that.

SQL is the floor, with --cluster: the coordinator's own statements, prepared, in the same flight, sent straight to the workers. Of
several shards (five, all) the statements go side by side, nothing is merged, and the winners' vectors and values are not fetched,
which the coordinator does in a second round. With one client requests and statements take turns one by one, with more in slices of a
second. RATIO is the median over HTTP by that of the SQL.

`upsert`, `bulk` and the mixed scenarios write to namespaces that begin with `bench:` and delete them in the end. Ctrl-C ends early,
with the report of what was measured.";

/// What `atoll bench` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP, args_conflicts_with_subcommands = true)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    pub(super) command: Option<BenchCommand>,
    #[command(flatten)]
    pub(super) measure: MeasureArgs,
}

/// What can be done beside measuring.
#[derive(Debug, clap::Subcommand)]
pub(super) enum BenchCommand {
    /// Import entries with fields to filter by.
    Prepare(PrepareArgs),
}

/// What to measure, and how.
#[derive(Debug, clap::Args)]
pub(super) struct MeasureArgs {
    /// What to measure. [default: own five all filtered get upsert]
    #[arg(value_name = "SCENARIO", value_enum)]
    pub(super) scenarios: Vec<Scenario>,
    #[command(flatten)]
    pub(super) collection: InCollection,
    /// `cluster.json` of a cluster of `atoll dev`: measure the floor as well.
    #[arg(long, value_name = "FILE")]
    pub(super) cluster: Option<PathBuf>,
    /// Queries: NDJSON, plain or gzipped. [default: the sample's entries]
    #[arg(long, value_name = "FILE", requires = "vectors")]
    pub(super) queries: Option<PathBuf>,
    /// Vectors of the queries (f16bin).
    #[arg(long, value_name = "FILE", requires = "queries")]
    pub(super) vectors: Option<PathBuf>,
    /// Use at most N of the queries, drawn the same way each time.
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) query_limit: u32,
    /// Clients at once; several numbers are measured one after the other. [default: 1,8,32,100; with --sweep 1]
    #[arg(long, value_name = "N,…", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(super) clients: Vec<u32>,
    /// How long each measurement takes.
    #[arg(long, value_name = "S", default_value_t = 10.0, value_parser = seconds)]
    pub(super) seconds: f64,
    /// End each measurement after N requests instead.
    #[arg(long, value_name = "N", conflicts_with = "seconds", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) requests: Option<u64>,
    /// Seconds of load before each measurement.
    #[arg(long, value_name = "S", default_value_t = 2.0, value_parser = seconds)]
    pub(super) warm_up: f64,
    /// Hits wanted.
    #[arg(short, value_name = "K", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=i64::from(limits::K)))]
    pub(super) k: u32,
    #[command(flatten)]
    pub(super) quality: QualityArgs,
    /// Filter of `filtered`, as the API's.
    #[arg(long, value_name = "JSON", value_parser = parse_filter)]
    pub(super) filter: Option<Filter>,
    /// Whom searches ask in groups with standbys: the primary, or any member.
    #[arg(long, value_parser = one_of::<Consistency>(CONSISTENCIES), default_value = "primary")]
    pub(super) consistency: Consistency,
    /// Queries that are also asked exactly, to tell recall; 0 for none.
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub(super) recall_queries: u32,
    /// Send vectors as base64 in place of JSON numbers.
    #[arg(long)]
    pub(super) base64: bool,
    /// Entries of `bulk`. [default: the sample's]
    #[arg(long, value_name = "FILE")]
    pub(super) entries: Option<PathBuf>,
    /// Vectors of the entries of `bulk` (f16bin).
    #[arg(long, value_name = "FILE", requires = "entries")]
    pub(super) entry_vectors: Option<PathBuf>,
    /// Entries that `bulk` imports, at most.
    #[arg(long, value_name = "N", default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) bulk_rows: u64,
    /// Write the report as a page with plots.
    #[arg(long, value_name = "FILE")]
    pub(super) html: Option<PathBuf>,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.0..=86_400.0).contains(&seconds) => Ok(seconds),
        _ => Err("expected seconds, 0 to 86400".to_owned()),
    }
}

impl MeasureArgs {
    /// What is measured, in the order it was named.
    pub(super) fn scenarios(&self) -> Vec<Scenario> {
        match (self.scenarios.is_empty(), self.quality.sweep) {
            (false, _) => self.scenarios.clone(),
            (true, false) => Scenario::USUAL.to_vec(),
            (true, true) => Scenario::SWEPT.to_vec(),
        }
    }

    /// With how many clients.
    pub(super) fn clients(&self) -> Vec<u32> {
        match (self.clients.is_empty(), self.quality.sweep) {
            (false, _) => self.clients.clone(),
            (true, false) => vec![1, 8, 32, 100],
            (true, true) => vec![1],
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser;

    fn parsed(options: &[&str]) -> Result<BenchArgs, clap::Error> {
        let cli = Cli::try_parse_from(["atoll", "bench"].iter().chain(options))?;
        let Command::Bench(args) = cli.command else { panic!("not a benchmark") };
        Ok(*args)
    }

    #[test]
    fn without_a_word_the_usual_is_measured() {
        let args = parsed(&[]).unwrap().measure;
        assert_eq!((args.scenarios(), args.clients()), (Scenario::USUAL.to_vec(), vec![1, 8, 32, 100]));
        let swept = parsed(&["--sweep"]).unwrap().measure;
        assert_eq!((swept.scenarios(), swept.clients()), (Scenario::SWEPT.to_vec(), vec![1]));
    }

    #[test]
    fn scenarios_and_preparing_are_told_apart() {
        let args = parsed(&["own", "mixed-read-write", "--clients", "1,4"]).unwrap();
        assert_eq!(args.measure.scenarios(), [Scenario::Own, Scenario::MixedReadWrite]);
        assert_eq!((args.measure.clients(), args.command.is_none()), (vec![1, 4], true));
        assert!(matches!(parsed(&["prepare", "--limit", "5"]).unwrap().command, Some(BenchCommand::Prepare(_))));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for line in [
            &["nonsense"][..],
            &["--queries", "q.jsonl"],
            &["--requests", "5", "--seconds", "1"],
            &["--ef", "40", "--exact"],
            &["--sweep", "--profile", "speed"],
            &["--clients", "0"],
            &["--seconds", "-1"],
            &["--filter", "{\"nonsense\":1}"],
        ] {
            assert!(parsed(line).is_err(), "{line:?}");
        }
    }
}
