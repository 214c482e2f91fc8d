//! `hedgerow dead-letters`: rows that were not delivered.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use hedgerow_connectors::http::client::Client;
use hedgerow_connectors::http::dead_letters::{LetterReport, Which};

use super::remote::Place;
use super::{Common, query, runtime};

/// Subcommands.
#[derive(Subcommand)]
pub enum DeadLetters {
    /// Show them, oldest first
    List(List),
    /// Send them again: back into the outbox of their destination
    Replay(Choice),
    /// Remove them for good
    Drop(Choice),
}

/// Arguments of `list`.
#[derive(Args)]
pub struct List {
    /// Only those of this sink
    #[arg(long, value_name = "NAME")]
    sink: Option<String>,
    /// At most so many
    #[arg(long, default_value_t = 100)]
    limit: usize,
}

/// Which ones.
#[derive(Args)]
pub struct Choice {
    /// Their ids, as `list` shows them
    #[arg(value_name = "ID")]
    ids: Vec<u64>,
    /// All of this sink
    #[arg(long, value_name = "NAME")]
    sink: Option<String>,
    /// All
    #[arg(long)]
    all: bool,
}

impl DeadLetters {
    /// Does it.
    pub fn run(self, common: &Common) -> anyhow::Result<ExitCode> {
        match self {
            Self::List(list) => list.run(common),
            Self::Replay(choice) => change(common, choice, "sent again", true),
            Self::Drop(choice) => change(common, choice, "dropped", false),
        }
    }
}

impl List {
    fn run(&self, common: &Common) -> anyhow::Result<ExitCode> {
        let only = self.sink.as_ref().map(|sink| format!(" WHERE sink = '{}'", sink.replace('\'', "''")));
        let sql = format!(
            "SELECT id, time, sink, rule, attempts, status, reason, topic, payload_text FROM dead_letters{} ORDER BY id LIMIT {}",
            only.unwrap_or_default(),
            self.limit
        );
        query::Query::of(sql).run(common)
    }
}

fn change(common: &Common, choice: Choice, done: &str, replay: bool) -> anyhow::Result<ExitCode> {
    let which = Which { ids: choice.ids, sink: choice.sink, all: choice.all };
    if let Some(mistake) = which.mistake() {
        anyhow::bail!("{mistake}: give ids, --sink NAME or --all");
    }
    let report: LetterReport = runtime()?.block_on(async {
        let place = Place::find(common.load()?).await?;
        let answer = match &place {
            Place::Server(server) if replay => Client::dead_letters_replay(server, &which).await,
            Place::Server(server) => Client::dead_letters_drop(server, &which).await,
            Place::Folder(_) => {
                place.close().await;
                anyhow::bail!("no server runs: start `hedgerow serve`, which sends what is replayed");
            }
        };
        place.close().await;
        Ok(answer?)
    })?;
    println!("{} {done}", report.done);
    if report.skipped > 0 {
        println!("{} left as they are: {}", report.skipped, report.reason.unwrap_or_default());
    }
    Ok(if report.skipped > 0 { ExitCode::from(1) } else { ExitCode::SUCCESS })
}
