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
    /// This question, answered for people.
    pub fn of(sql: String) -> Self {
        Self { sql, format: Format::Table, json: false }
    }

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
    let head: Vec<String> = result.columns.iter().map(|column| plain(&column.name)).collect();
    let rows: Vec<Vec<String>> = result.rows.iter().map(|row| row.iter().map(table::cell).collect()).collect();
    print!("{}", table::render(&head, &rows));
    let noun = if rows.len() == 1 { "row" } else { "rows" };
    println!("({} {noun}{})", rows.len(), if result.truncated { ", cut at query.max_rows" } else { "" });
    Ok(())
}

/// The name of a column as its query spelt it: DataFusion calls `1 + n` by the types of its literals, `Int64(1) + n`.
fn plain(name: &str) -> String {
    const NUMBERS: [&str; 4] = ["Int64(", "UInt64(", "Float64(", "Boolean("];
    const TEXT: &str = "Utf8(\"";
    let mut out = String::new();
    let mut rest = name;
    while let Some(next) = rest.chars().next() {
        // Inside a longer word these letters are a name.
        let starts = !out.ends_with(|last: char| last.is_alphanumeric() || last == '_');
        let number = NUMBERS.iter().find_map(|prefix| rest.strip_prefix(prefix)?.split_once(')'));
        let text = rest.strip_prefix(TEXT).and_then(|text| text.split_once("\")"));
        if let (true, Some((value, after))) = (starts, number) {
            out.push_str(value);
            rest = after;
        } else if let (true, Some((value, after))) = (starts, text) {
            out.push_str(&format!("'{value}'"));
            rest = after;
        } else {
            out.push(next);
            rest = rest.get(next.len_utf8()..).unwrap_or_default();
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn names_of_columns_are_as_they_were_written() {
        for (name, expected) in [
            ("Int64(1) + Int64(2)", "1 + 2"),
            ("concat(Utf8(\"a)\"),x)", "concat('a)',x)"),
            ("myInt64(1)", "myInt64(1)"),
            ("count(*)", "count(*)"),
            ("é * Float64(1.5)", "é * 1.5"),
        ] {
            assert_eq!(plain(name), expected);
        }
    }
}
