//! `atoll search`.

use super::client::Client;
use super::error::CommandError;
use super::explain;
use super::output::{Output, count, one_line, table};
use super::vector_input::VectorInput;
use super::{InCollection, like, one_of, path};
use atoll_proto::entry::{EntryId, Include};
use atoll_proto::explain::{ExplainAnswer, ExplainRequest};
use atoll_proto::filter::Filter;
use atoll_proto::search::{CachePolicy, Consistency, Partial, Profile, SearchAnswer, SearchRequest, ShortReason};
use atoll_proto::{EntryKey, Namespace, limits};

/// What `--profile` takes.
pub(super) const PROFILES: &[&str] = &["accuracy", "balanced", "speed", "auto"];
/// What `--consistency` takes: `session` needs a token, which programs keep.
pub(super) const CONSISTENCIES: &[&str] = &["primary", "eventual"];
/// What `--include` takes.
pub(super) const INCLUDES: &[&str] = &["value", "metadata", "tags", "vector"];

const AFTER_HELP: &str = "\
Examples:
  atoll search --like noun.animal:n-01901828 -k 5
  atoll search --vector-file query.json --namespace team-a:notes --namespace team-b:notes
  atoll search --vector '[0.1, 0.2, 0.3]' --collection points --prefix team-a: --exclude team-a:old
  atoll search --like noun.animal:n-01901828 --filter '{\"must\":[{\"field\":\"tags\",\"any\":[\"v\"]}]}' --explain
  atoll search --like noun.animal:n-01901828 --explain --plan-only --pg-plan

Without --namespace and --prefix every namespace is searched. Atoll stores vectors and makes none: to search by a text,
embed it with the model that made the stored vectors, and give the vector.";

/// What `atoll search` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
#[command(group = clap::ArgGroup::new("query").required(true).args(["vector", "vector_file", "like", "like_key"]))]
pub(crate) struct SearchArgs {
    #[command(flatten)]
    collection: InCollection,
    #[command(flatten)]
    vector: VectorInput,
    /// Which row of an f16bin file, counted from 0.
    #[arg(long, value_name = "N", default_value_t = 0, requires = "vector_file")]
    vector_row: u32,
    /// A stored entry to search by; split at the first colon.
    #[arg(long, value_name = "NAMESPACE:KEY", value_parser = like::parse)]
    like: Option<EntryId>,
    /// The namespace of the entry to search by, where it has a colon.
    #[arg(long, value_name = "NAMESPACE", requires = "like_key", conflicts_with_all = ["vector", "vector_file", "like"])]
    like_namespace: Option<Namespace>,
    /// The key of the entry to search by.
    #[arg(long, value_name = "KEY", requires = "like_namespace")]
    like_key: Option<EntryKey>,
    /// Hits wanted.
    #[arg(short, value_name = "K", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=i64::from(limits::K)))]
    k: u32,
    /// Search this namespace; may be given again.
    #[arg(long, value_name = "NAMESPACE", conflicts_with_all = ["prefix", "all"])]
    namespace: Vec<Namespace>,
    /// Search the namespaces that begin with this.
    #[arg(long, value_name = "TEXT", conflicts_with = "all")]
    prefix: Option<String>,
    /// Search every namespace: so it is without --namespace and --prefix.
    #[arg(long)]
    all: bool,
    /// Leave this namespace out; may be given again.
    #[arg(long, value_name = "NAMESPACE", conflicts_with = "namespace")]
    exclude: Vec<Namespace>,
    /// Recall against speed.
    #[arg(long, value_parser = one_of::<Profile>(PROFILES), default_value = "auto")]
    profile: Profile,
    /// Look at every entry: the true answer, slowly.
    #[arg(long)]
    exact: bool,
    /// Who is asked in a group with standbys: its primary, or any member, which may be a moment behind.
    #[arg(long, value_parser = one_of::<Consistency>(CONSISTENCIES), default_value = "primary")]
    consistency: Consistency,
    /// Least score of a hit.
    #[arg(long, value_name = "SCORE", allow_negative_numbers = true)]
    min_score: Option<f64>,
    /// Which entries may be hits, as the API's filter.
    #[arg(long, value_name = "JSON", value_parser = parse_filter)]
    filter: Option<Filter>,
    /// What to give of each hit, separated by commas.
    #[arg(long, value_delimiter = ',', value_parser = one_of::<Include>(INCLUDES), default_value = "value,metadata,tags")]
    include: Vec<Include>,
    /// Tell how each shard was searched and why, where the time went, and what looks wrong.
    #[arg(long)]
    explain: bool,
    /// Do not search: only tell how it would be done.
    #[arg(long, requires = "explain")]
    plan_only: bool,
    /// Show PostgreSQL's plan of each shard's statement too; unless --plan-only, it runs once more for that.
    #[arg(long, requires = "explain")]
    pg_plan: bool,
}

pub(super) fn parse_filter(text: &str) -> Result<Filter, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

impl SearchArgs {
    fn request(self) -> Result<SearchRequest, CommandError> {
        let like = match (self.like_namespace, self.like_key) {
            (Some(namespace), Some(key)) => Some(EntryId { namespace, key }),
            _ => self.like,
        };
        let everywhere = self.namespace.is_empty() && self.prefix.is_none();
        Ok(SearchRequest {
            vector: self.vector.read(self.vector_row)?,
            like,
            k: self.k,
            namespaces: (!self.namespace.is_empty()).then_some(self.namespace),
            prefix: self.prefix,
            all: everywhere.then_some(true),
            exclude: (!self.exclude.is_empty()).then_some(self.exclude),
            min_score: self.min_score,
            filter: self.filter,
            profile: self.profile,
            target_recall: None,
            ef: None,
            exact: self.exact,
            overfetch: 2.0,
            include: self.include,
            group_by_namespace: None,
            consistency: self.consistency,
            partial: Partial::default(),
            cache: CachePolicy::default(),
            explain: self.explain,
        })
    }
}

/// Searches and prints what was found, or how it is found.
pub(crate) async fn run(args: SearchArgs, client: &Client, output: &Output) -> Result<(), CommandError> {
    if args.plan_only || args.pg_plan {
        return run_explained(args, client, output).await;
    }
    let to = path::collection(&args.collection.collection, "/search");
    let answer = client.post(&to, &args.request()?).await?;
    if output.json {
        return output.line(answer.text.trim_end());
    }
    let answer: SearchAnswer = answer.parse()?;
    let tree = answer.explain.as_ref().map(|explanation| explain::tree(explanation, output.width));
    show(Some(&answer), tree, output)
}

async fn run_explained(args: SearchArgs, client: &Client, output: &Output) -> Result<(), CommandError> {
    let to = path::collection(&args.collection.collection, "/search/explain");
    let (analyze, pg_plan) = (!args.plan_only, args.pg_plan);
    let answer = client.post(&to, &ExplainRequest { search: args.request()?, analyze, pg_plan }).await?;
    if output.json {
        return output.line(answer.text.trim_end());
    }
    let answer: ExplainAnswer = answer.parse()?;
    show(answer.answer.as_ref(), Some(explain::tree(&answer.explanation, output.width)), output)
}

fn show(answer: Option<&SearchAnswer>, tree: Option<String>, output: &Output) -> Result<(), CommandError> {
    let hits = answer.filter(|answer| !answer.hits.is_empty());
    let parts: Vec<String> = hits.map(|answer| hits_table(answer, output.width)).into_iter().chain(tree).collect();
    if !parts.is_empty() {
        output.line(parts.join("\n\n"))?;
    }
    let Some(answer) = answer else { return Ok(()) };
    for failure in &answer.coverage.failures {
        eprintln!("shard {} of group {} gave no answer: {}", failure.shard, failure.group, failure.reason);
    }
    eprintln!("{}", summary(answer));
    Ok(())
}

/// Rank, score, namespace, key and as much of the value as the terminal has room for.
pub(crate) fn hits_table(answer: &SearchAnswer, width: Option<usize>) -> String {
    let longest = |lengths: &mut dyn Iterator<Item = usize>, title: usize| lengths.max().unwrap_or(0).max(title);
    let namespace = longest(&mut answer.hits.iter().map(|hit| hit.namespace.chars().count()), "NAMESPACE".len());
    let key = longest(&mut answer.hits.iter().map(|hit| one_line(&hit.key, None).chars().count()), "KEY".len());
    // Rank, score and the gaps between five columns take up to 18.
    let value_width = width.map(|width| width.saturating_sub(18 + namespace + key).max(20));
    let rows = answer.hits.iter().enumerate().map(|(place, hit)| {
        [
            (place + 1).to_string(),
            format!("{:.4}", hit.score),
            hit.namespace.clone(),
            one_line(&hit.key, None),
            one_line(hit.value.as_deref().unwrap_or("-"), value_width),
        ]
    });
    table(&["#>", "SCORE>", "NAMESPACE", "KEY", "VALUE"], rows)
}

/// One line on who answered, how and how fast.
pub(crate) fn summary(answer: &SearchAnswer) -> String {
    let shards = &answer.coverage.shards;
    let strategies = &answer.plan.strategies;
    let mut parts = vec![count(answer.hits.len() as u64, "hit")];
    match answer.short_reason {
        Some(ShortReason::FewerMatches) => parts.push("no more match".to_owned()),
        Some(ShortReason::MinScore) => parts.push("the rest is below the least score".to_owned()),
        Some(ShortReason::Deadline) => parts.push("there may be more: the deadline passed".to_owned()),
        None => {}
    }
    parts.push(format!("{} of {} answered", shards.ok, count(shards.total, "shard")));
    for (name, number) in
        [("exact", strategies.exact), ("hnsw", strategies.hnsw), ("exact_fallback", strategies.exact_fallback)]
    {
        if number > 0 {
            parts.push(format!("{name} on {number}"));
        }
    }
    if answer.cache == "hit" {
        parts.push("from the cache".to_owned());
    }
    parts.push(format!("{:.1} ms", answer.timings.total_ms));
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser;

    fn request(options: &[&str]) -> SearchRequest {
        let line = ["atoll", "search"].iter().chain(options);
        let Command::Search(args) = Cli::try_parse_from(line).unwrap().command else {
            panic!("not a search");
        };
        args.request().unwrap()
    }

    #[test]
    fn every_namespace_is_searched_unless_told() {
        assert_eq!(request(&["--vector", "[-1, 0]"]).all, Some(true));
        let one = request(&["--like", "a:b", "--namespace", "x", "--namespace", "y"]);
        assert_eq!((one.all, one.namespaces.unwrap().len()), (None, 2));
        let prefix = request(&["--like", "a:b", "--prefix", "team:", "--exclude", "team:old"]);
        assert_eq!((prefix.all, prefix.prefix.as_deref()), (None, Some("team:")));
    }

    #[test]
    fn a_namespace_with_a_colon_has_its_own_options() {
        let like = request(&["--like-namespace", "team:a", "--like-key", "k:1"]).like.unwrap();
        assert_eq!((like.namespace.as_str(), like.key.as_str()), ("team:a", "k:1"));
    }

    #[test]
    fn options_reach_the_request() {
        let asked = request(&[
            "--vector",
            "[1]",
            "-k",
            "3",
            "--exact",
            "--profile",
            "speed",
            "--min-score",
            "-0.5",
            "--include",
            "value,vector",
            "--filter",
            "{\"must\":[{\"field\":\"tags\",\"any\":[\"a\"]}]}",
        ]);
        assert_eq!((asked.k, asked.exact, asked.profile), (3, true, Profile::Speed));
        assert_eq!((asked.min_score, asked.include), (Some(-0.5), vec![Include::Value, Include::Vector]));
        assert_eq!(asked.filter.unwrap().must.len(), 1);
    }

    #[test]
    fn hits_fit_the_terminal() {
        let answer: SearchAnswer = serde_json::from_value(serde_json::json!({
            "hits": [
                {"namespace":"noun.animal","key":"n-02106030","score":0.521,"distance":0.479,"version":1,
                 "value":"collie: a silky-coated sheepdog\nwith a long ruff and long narrow head","metadata":null,"tags":null,"vector":null},
                {"namespace":"a","key":"b","score":-1.0,"distance":2.0,"version":1,"value":null,"metadata":null,"tags":null,"vector":null}],
            "complete":true,"short_reason":"fewer_matches",
            "coverage":{"shards":{"total":12,"ok":12,"failed":0},"failures":[]},
            "plan":{"profile":"balanced","ef":80,"overfetch":2.0,"candidates":80,"strategies":{"exact":11,"hnsw":1,"exact_fallback":0}},
            "catalog_version":42,"cache":"miss","session":null,
            "timings":{"total_ms":11.84,"fanout_ms":9.9,"slowest_shard_ms":9.1,"merge_ms":0.1},"explain":null
        }))
        .unwrap();
        let shown = hits_table(&answer, Some(70));
        assert_eq!(
            shown,
            "#    SCORE  NAMESPACE    KEY         VALUE\n\
             1   0.5210  noun.animal  n-02106030  collie: a silky-coated sheepdo…\n\
             2  -1.0000  a            b           -"
        );
        assert!(shown.lines().all(|line| line.chars().count() <= 70));
        assert_eq!(
            summary(&answer),
            "2 hits, no more match, 12 of 12 shards answered, exact on 11, hnsw on 1, 11.8 ms"
        );
        let cached = SearchAnswer { cache: "hit".to_owned(), ..answer };
        assert!(summary(&cached).ends_with(", from the cache, 11.8 ms"));
    }
}
