//! `hedgerow rule apply`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use hedgerow_connectors::http::client::ClientError;
use hedgerow_connectors::http::rules::{ApplyReport, ChangeAction, Finding, RuleError};
use hedgerow_connectors::serve::read_folder;

use crate::cli::Common;
use crate::cli::remote::Place;

/// Arguments of `apply`.
#[derive(Args)]
pub struct Apply {
    /// The folder of rule files; rules applied before that are in none of them are dropped
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
    /// Only print what would be created, replaced and dropped
    #[arg(long)]
    dry_run: bool,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

impl Apply {
    /// Applies, and prints what changed.
    pub async fn run(&self, common: &Common) -> anyhow::Result<ExitCode> {
        let files = read_folder(&self.folder).with_context(|| self.folder.display().to_string())?;
        if files.is_empty() {
            // To follow nothing would drop every rule, which nobody means by a wrong folder.
            bail!("{}: there is no rule file (.sql, .json) in this folder", self.folder.display());
        }
        let place = Place::find(common.load()?).await?;
        let outcome = match &place {
            Place::Server(server) => server.rules_apply(files, self.dry_run).await.map_err(Refusal::from),
            Place::Folder(folder) => folder.apply(files, self.dry_run).await.map_err(Refusal::from),
        };
        place.close().await;
        match outcome {
            Ok(report) => {
                self.print(&report)?;
                Ok(ExitCode::SUCCESS)
            }
            Err(Refusal::Findings(findings)) => {
                print_findings(&findings);
                eprintln!("Nothing was changed.");
                Ok(ExitCode::from(1))
            }
            Err(Refusal::Other(message)) => bail!(message),
        }
    }

    fn print(&self, report: &ApplyReport) -> anyhow::Result<()> {
        if self.json {
            println!("{}", serde_json::to_string_pretty(report)?);
            return Ok(());
        }
        print_findings(&report.findings);
        let mut nothing = true;
        for change in report.changes.iter().filter(|change| change.action != ChangeAction::Unchanged) {
            nothing = false;
            let note = change.note.as_ref().map(|note| format!(" ({note})")).unwrap_or_default();
            println!("{} {} {}{note}", format!("{:?}", change.action).to_lowercase(), change.kind, change.name);
        }
        match (nothing, report.dry_run, report.epoch) {
            (true, _, _) => println!("Nothing to do: the server already follows these files."),
            (false, true, _) => println!("Dry run: nothing was changed."),
            (false, false, Some(epoch)) => println!("In force from epoch {epoch}."),
            (false, false, None) => {}
        }
        Ok(())
    }
}

/// Why a change was not made.
pub(super) enum Refusal {
    Findings(Vec<Finding>),
    Other(String),
}

impl From<RuleError> for Refusal {
    fn from(error: RuleError) -> Self {
        match error {
            RuleError::Refused(findings) => Self::Findings(findings),
            other => Self::Other(other.to_string()),
        }
    }
}

impl From<ClientError> for Refusal {
    fn from(error: ClientError) -> Self {
        match error.findings() {
            Some(findings) => Self::Findings(findings.to_vec()),
            None => Self::Other(error.to_string()),
        }
    }
}

pub(super) fn print_findings(findings: &[Finding]) {
    for finding in findings {
        if finding.rendered.is_empty() {
            eprintln!("{}:{}:{}: {}", finding.file, finding.line, finding.column, finding.message);
        } else {
            eprint!("{}", finding.rendered);
        }
    }
}
