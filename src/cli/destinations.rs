//! `hedgerow destinations`: where rows go outside, and whether they are let go.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use hedgerow_connectors::http::client::Client;

use super::remote::Place;
use super::{Common, query, runtime};

/// Subcommands.
#[derive(Subcommand)]
pub enum Destinations {
    /// Show them: what waits, what was delivered, and why nothing goes
    List,
    /// Send to a destination that has not confirmed, or was disabled
    Enable(Name),
    /// Stop sending to a destination that had to confirm: its rows wait
    Disable(Name),
    /// Ask a destination again to confirm, with another token
    Confirm(Name),
}

/// Which one.
#[derive(Args)]
pub struct Name {
    /// Its name, as `list` shows it
    #[arg(value_name = "NAME")]
    name: String,
}

impl Destinations {
    /// Does it.
    pub fn run(self, common: &Common) -> anyhow::Result<ExitCode> {
        match self {
            Self::List => {
                let columns =
                    "name, connector, confirmation, breaker, waiting, oldest, delivered, retried, dead, last_error";
                query::Query::of(format!("SELECT {columns} FROM system.destinations ORDER BY name")).run(common)
            }
            Self::Enable(name) => change(common, &name.name, "enable"),
            Self::Disable(name) => change(common, &name.name, "disable"),
            Self::Confirm(name) => change(common, &name.name, "confirm"),
        }
    }
}

fn change(common: &Common, name: &str, change: &str) -> anyhow::Result<ExitCode> {
    let report = runtime()?.block_on(async {
        let place = Place::find(common.load()?).await?;
        let answer = match &place {
            Place::Server(server) => Client::change_destination(server, name, change).await,
            Place::Folder(_) => {
                place.close().await;
                anyhow::bail!("no server runs: start `hedgerow serve`, which sends");
            }
        };
        place.close().await;
        Ok(answer?)
    })?;
    println!("{} is {}", report.name, report.state);
    Ok(ExitCode::SUCCESS)
}
