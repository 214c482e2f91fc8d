//! `hedgerow query`.

use std::io::{Read, Write};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use hedgerow_connectors::http::encode::collect;

use super::remote::Place;
use super::{Common, runtime, table};

/// Arguments.
#[derive(Args)]
pub struct Query {
    /// The statement; `-` reads it from standard input
    #[arg(value_name = "SQL")]
    sql: String,
    /// How to print the result
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// The same as --format json
    #[arg(long)]
    json: bool,
}

/// Forms of a result.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Table,
    /// One object: columns with their types, and rows
    Json,
    /// Comma-separated
    Csv,
}

impl Query {
    /// Asks and prints.
    pub fn run(&self, common: &Common) -> anyhow::Result<ExitCode> {
        let mut sql = self.sql.clone();
        if sql == "-" {
            sql.clear();
            std::io::stdin().read_to_string(&mut sql)?;
        }
        let format = if self.json { Format::Json } else { self.format };
        runtime()?.block_on(async {
            let place = Place::find(common.load()?).await?;
            let accept = if format == Format::Csv { "text/csv" } else { "application/json" };
            let answer = match &place {
                Place::Server(server) => server.sql_as(&sql, accept).await.map_err(anyhow::Error::from),
                Place::Folder(folder) => collect(folder.query(), &sql, accept).await.map_err(|error| {
                    let hint = error.hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default();
                    anyhow::anyhow!("{error}{hint}")
                }),
            };
            place.close().await;
            let answer = answer?;
            if format == Format::Table {
                print_table(&answer)?
            } else {
                std::io::stdout().write_all(&answer)?
            }
            Ok(ExitCode::SUCCESS)
        })
    }
}

fn print_table(answer: &[u8]) -> anyhow::Result<()> {
    let result: hedgerow_connectors::http::client::SqlResult = serde_json::from_slice(answer)?;
    let head: Vec<String> = result.columns.iter().map(|column| column.name.clone()).collect();
    let rows: Vec<Vec<String>> = result.rows.iter().map(|row| row.iter().map(table::cell).collect()).collect();
    print!("{}", table::render(&head, &rows));
    let noun = if rows.len() == 1 { "row" } else { "rows" };
    println!("({} {noun}{})", rows.len(), if result.truncated { ", cut at query.max_rows" } else { "" });
    Ok(())
}
