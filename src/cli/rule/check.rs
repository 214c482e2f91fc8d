//! `hedgerow rule check`.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use hedgerow_engine::apply::{RuleFile, plan};
use hedgerow_engine::catalog::Catalog;

use super::files;

/// Arguments of `check`.
#[derive(Args)]
pub struct Check {
    /// Rule files (.sql, .json) or folders of them
    #[arg(required = true, value_name = "FILE")]
    paths: Vec<PathBuf>,
    /// Print each finding as a JSON object on a line, for editors: see docs/diagnostics.md
    #[arg(long)]
    json: bool,
}

impl Check {
    /// Checks and prints what is wrong.
    pub fn run(&self) -> anyhow::Result<ExitCode> {
        let files: Vec<RuleFile> =
            files(&self.paths)?.into_iter().map(|(name, text)| RuleFile { name, text }).collect();
        if files.is_empty() {
            bail!("there is no rule file (.sql, .json) in this folder");
        }
        let (reports, good) = match plan(&Catalog::default(), "check", &files, false) {
            Ok(plan) => (plan.warnings, true),
            Err(reports) => (reports, false),
        };
        for report in &reports {
            for diagnostic in &report.diagnostics {
                if self.json {
                    println!("{}", serde_json::to_string(&diagnostic.to_json(&report.file.name, &report.file.text))?);
                }
            }
            if !self.json {
                use hedgerow_sql::diagnostic::{Style, render};
                let style = if std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none() {
                    Style::Coloured
                } else {
                    Style::Plain
                };
                eprint!("{}", render(&report.diagnostics, &report.file.name, &report.file.text, style));
            }
        }
        if good && !self.json {
            println!("{} {} good.", files.len(), if files.len() == 1 { "file is" } else { "files are" });
        }
        Ok(if good { ExitCode::SUCCESS } else { ExitCode::from(1) })
    }
}
