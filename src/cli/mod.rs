//! The commands.
//!
//! Exit codes: 0 done; 1 the answer is no (a failed test, a refused rule, lost records); 2 it could not be done.

mod bench;
mod client;
mod config;
mod dead_letters;
mod demo;
mod destinations;
mod log;
mod query;
mod queue;
mod remote;
mod rule;
mod serve;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

/// Hedgerow turns what devices publish over MQTT into rows: rules in SQL, results exactly once in Parquet, in key-value
/// tables and back on MQTT.
#[derive(Parser)]
#[command(name = "hedgerow", version, propagate_version = true, after_help = EXAMPLES)]
pub struct Arguments {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
First steps:
  hedgerow demo                                  see it work, on a simulated farm
  hedgerow serve                                 start the server with its defaults, on this machine only
  hedgerow rule apply rules/                     make the server follow the files of a folder
  hedgerow pub sensors/1 '{\"temperature\": 51.2}'  publish a message
  hedgerow sub 'sensors/#'                       watch messages go by
  hedgerow query 'SELECT * FROM ingest_log'      ask, in SQL
  hedgerow config                                every setting, explained";

/// Options of every command.
#[derive(Args, Clone)]
struct Common {
    /// Settings file [default: hedgerow.toml in the working directory, if there is one]
    #[arg(long, global = true, env = "HEDGEROW_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Data folder, instead of the setting data.folder
    #[arg(long, global = true, value_name = "FOLDER")]
    data: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// Show it all on a simulated farm: publish, store, crash, recover, query
    Demo(demo::Demo),
    /// Start the server
    Serve(serve::Serve),
    /// Publish messages
    Pub(client::Publish),
    /// Subscribe to topics and print what comes
    Sub(client::Subscribe),
    /// Check, apply, list and test rules
    #[command(subcommand)]
    Rule(rule::Rule),
    /// Ask a question in SQL
    Query(query::Query),
    /// Look at rows that were not delivered, send them again, or drop them
    #[command(subcommand)]
    DeadLetters(dead_letters::DeadLetters),
    /// Look at destinations outside; enable, disable or ask those that have to confirm
    #[command(subcommand)]
    Destinations(destinations::Destinations),
    /// Receive, delete and send messages of queues
    #[command(subcommand)]
    Queue(queue::Queue),
    /// Look into the ingest log
    #[command(subcommand)]
    Log(log::Log),
    /// Measure this build on this machine
    Bench(bench::Bench),
    /// Print the settings: all of them with their explanation, or the ones in force
    Config(config::Config),
}

/// Runs a command.
pub fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let common = arguments.common;
    match arguments.command {
        Command::Demo(demo) => demo.run(&common),
        Command::Serve(serve) => serve.run(&common),
        Command::Pub(publish) => publish.run(&common),
        Command::Sub(subscribe) => subscribe.run(&common),
        Command::Rule(rule) => rule.run(&common),
        Command::Query(query) => query.run(&common),
        Command::DeadLetters(letters) => letters.run(&common),
        Command::Destinations(destinations) => destinations.run(&common),
        Command::Queue(queue) => queue.run(&common),
        Command::Log(log) => log.run(&common),
        Command::Bench(bench) => bench.run(&common),
        Command::Config(config) => config.run(&common),
    }
}

impl Common {
    /// The settings in force: file, environment, then `--data`.
    fn load(&self) -> anyhow::Result<hedgerow_connectors::config::Config> {
        let default = PathBuf::from("hedgerow.toml");
        let file = self.config.clone().or_else(|| default.exists().then_some(default));
        let environment = std::env::vars().collect();
        let mut config = hedgerow_connectors::config::Config::load(file.as_deref(), &environment)?;
        if let Some(folder) = &self.data {
            config.data.folder.clone_from(folder);
        }
        Ok(config)
    }
}

/// A tokio runtime for commands that talk over sockets.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("hedgerow-io").build()?)
}
