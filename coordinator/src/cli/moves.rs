//! `atoll shard move` and `atoll move`: begin, watch, list, show and cancel moves of shards. The work goes on in the cluster whether
//! somebody watches or not.

use super::client::Client;
use super::error::CommandError;
use super::output::{Output, bytes, or_dash, table};
use super::time_left::TimeLeft;
use atoll_proto::ShardId;
use atoll_proto::moves::{MoveInfo, MoveList, MovePhase, StartMove, WRITE_PAUSE_MS};
use indicatif::{ProgressBar, ProgressStyle};
use std::time::{Duration, Instant};

/// Between two questions how far a move is.
pub(super) const ASK_EVERY: Duration = Duration::from_millis(500);
/// Questions in a row that may go unanswered while a move is watched: the coordinator may be starting again.
pub(super) const SILENT_TRIES: u32 = 40;

/// What can be done with moves.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum MoveCommand {
    /// List moves, the newest first.
    List,
    /// Show a move.
    Show {
        /// Its id: see `atoll move list`.
        id: u64,
        /// Wait until it is over, and show how far it is meanwhile.
        #[arg(long)]
        wait: bool,
    },
    /// Give a move up and put everything back.
    Cancel {
        /// Its id: see `atoll move list`.
        id: u64,
    },
}

/// A move to begin.
#[derive(Debug, clap::Args)]
pub(crate) struct BeginMove {
    /// The shard: see `atoll shard list`.
    shard: u32,
    /// The group that shall own it: see `atoll group list`.
    #[arg(long, value_name = "GROUP")]
    to: String,
    /// Longest pause of writes to the shard, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = WRITE_PAUSE_MS)]
    max_write_pause_ms: u32,
    /// Do not wait until it is over.
    #[arg(long)]
    no_wait: bool,
}

impl BeginMove {
    /// Begins it, and watches it unless told otherwise.
    pub(crate) async fn run(self, client: &Client, output: &Output) -> Result<(), CommandError> {
        let Self { shard, to, max_write_pause_ms, no_wait } = self;
        let body = StartMove { shard: ShardId(shard), to, max_write_pause_ms };
        let answer = client.post("/v1/admin/moves", &body).await?;
        let begun: MoveInfo = answer.parse()?;
        if no_wait {
            return output.show(&answer, |begun: MoveInfo| shown(&begun));
        }
        watch(begun.id.0, client, output).await
    }
}

impl MoveCommand {
    /// Does it.
    pub(crate) async fn run(self, client: &Client, output: &Output) -> Result<(), CommandError> {
        match self {
            Self::List => {
                let answer = client.get("/v1/admin/moves").await?;
                output.show(&answer, |list: MoveList| moves_table(&list.moves))
            }
            Self::Show { id, wait: true } => watch(id, client, output).await,
            Self::Show { id, wait: false } => {
                let answer = client.get(&format!("/v1/admin/moves/{id}")).await?;
                output.show(&answer, |one: MoveInfo| shown(&one))
            }
            Self::Cancel { id } => {
                let answer = client.post(&format!("/v1/admin/moves/{id}/cancel"), &serde_json::json!({})).await?;
                output.show(&answer, |one: MoveInfo| format!("move {} is {}", one.id, one.phase))
            }
        }
    }
}

/// Shows how far a move is until it is over; an error if the shard has not moved then.
async fn watch(id: u64, client: &Client, output: &Output) -> Result<(), CommandError> {
    let bar = ProgressBar::new(1);
    let style = ProgressStyle::with_template("{bar:30} {msg}").expect("the template is well-formed");
    bar.set_style(style);
    let (mut silent, mut left) = (0, TimeLeft::default());
    loop {
        let answer = match client.get(&format!("/v1/admin/moves/{id}")).await {
            Ok(answer) => answer,
            Err(error) if silent >= SILENT_TRIES => return Err(error),
            Err(_) => {
                silent += 1;
                tokio::time::sleep(ASK_EVERY).await;
                continue;
            }
        };
        silent = 0;
        let now: MoveInfo = answer.parse()?;
        bar.set_length(now.rows_total.max(1));
        bar.set_position(now.rows_done);
        bar.set_message(progress(&now) + &left.of(&now, Instant::now()));
        if now.phase.is_over() {
            bar.finish_and_clear();
            output.show(&answer, |one: MoveInfo| shown(&one))?;
            if now.phase == MovePhase::Done {
                return Ok(());
            }
            let MoveInfo { phase, shard, error, .. } = now;
            let why = error.map(|why| format!(": {why}")).unwrap_or_default();
            return Err(CommandError::Failed(format!("move {id} is {phase}{why}; shard {shard} is where it was")));
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}

/// How far a move is, in a line.
pub(super) fn progress(of: &MoveInfo) -> String {
    let lag = of.lag_bytes.map(|lag| format!(", lag {}", bytes(lag))).unwrap_or_default();
    if let (MovePhase::Indexing, Some(indexes)) = (of.phase, &of.indexes) {
        return format!("{} {} %, {}/{} indexes{lag}", of.phase, indexes.percent, indexes.done, indexes.total);
    }
    let (done, total) = (bytes(of.bytes_done), bytes(of.bytes_total));
    format!("{} {}/{} rows, {done}/{total}{lag}", of.phase, of.rows_done, of.rows_total)
}

fn shown(of: &MoveInfo) -> String {
    let mut text = format!("move {}: shard {} from {} to {}\n", of.id, of.shard, of.from, of.to);
    text.push_str(&format!("  phase        {}\n", of.phase));
    text.push_str(&format!("  rows         {} of {}\n", of.rows_done, of.rows_total));
    text.push_str(&format!("  size         {} of {}\n", bytes(of.bytes_done), bytes(of.bytes_total)));
    let indexes = of.indexes.map(|of| format!("{} of {}, {} %", of.done, of.total, of.percent));
    text.push_str(&format!("  indexes      {}\n", or_dash(indexes)));
    text.push_str(&format!("  lag          {}\n", or_dash(of.lag_bytes.map(bytes))));
    text.push_str(&format!("  write pause  {}\n", or_dash(of.write_pause_ms.map(|ms| format!("{ms} ms")))));
    text.push_str(&format!("  given up     {} tries of the cut-over\n", of.attempts));
    text.push_str(&format!("  error        {}", or_dash(of.error.as_deref())));
    text
}

fn moves_table(moves: &[MoveInfo]) -> String {
    let rows = moves.iter().map(|one| {
        [
            one.id.to_string(),
            one.shard.to_string(),
            one.from.clone(),
            one.to.clone(),
            one.phase.to_string(),
            format!("{}/{}", one.rows_done, one.rows_total),
            or_dash(one.lag_bytes.map(bytes)),
            or_dash(one.write_pause_ms.map(|ms| format!("{ms} ms"))),
            or_dash(one.error.clone()),
        ]
    });
    table(&["MOVE>", "SHARD>", "FROM", "TO", "PHASE", "ROWS>", "LAG>", "PAUSE>", "ERROR"], rows)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use atoll_proto::moves::IndexProgress;

    #[test]
    fn a_move_is_shown_with_its_pause_and_its_error() {
        let one: MoveInfo = serde_json::from_value(serde_json::json!({
            "id":12,"shard":7,"from":"g1","to":"g3","phase":"done","rows_done":10,"rows_total":10,"bytes_done":2048,
            "bytes_total":2048,"indexes":null,"lag_bytes":null,"write_pause_ms":41,"attempts":0,"error":null}))
        .unwrap();
        assert!(shown(&one).contains("write pause  41 ms"), "{}", shown(&one));
        assert!(moves_table(std::slice::from_ref(&one)).contains("12      7  g1    g3  done"), "alignment");
        let indexes = Some(IndexProgress { done: 3, total: 14, percent: 41 });
        let indexing = MoveInfo { phase: MovePhase::Indexing, indexes, ..one };
        assert_eq!(progress(&indexing), "indexing 41 %, 3/14 indexes");
        assert!(shown(&indexing).contains("indexes      3 of 14, 41 %"), "{}", shown(&indexing));
    }
}
