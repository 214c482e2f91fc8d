//! `hedgerow rule …`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use hedgerow_connectors::http::client::ClientError;
use hedgerow_connectors::http::rules::{ApplyReport, ChangeAction, Finding, RuleError};
use hedgerow_connectors::query::system::RuleStatus;
use hedgerow_connectors::serve::read_folder;
use hedgerow_engine::apply::{RuleFile, plan};
use hedgerow_engine::catalog::Catalog;
use hedgerow_sql::vectors::{Case, Scalar, run_file};

use super::remote::Place;
use super::{Common, runtime, table};

/// What to do with rules.
#[derive(Subcommand)]
pub enum Rule {
    /// Check rule files without a server: every mistake with its line, and what to do
    Check(Check),
    /// Make the server follow the files of a folder: one change, all or nothing
    Apply(Apply),
    /// List the rules
    List(List),
    /// Show what the rules are doing: matched, passed, delivered, failed, and how often a path was missing
    Status(List),
    /// Let a rule rest
    Disable(Name),
    /// Let it run again
    Enable(Name),
    /// Run test cases against rules and functions; ends with `N passed, N failed`
    Test(Test),
}

/// Arguments of `check`.
#[derive(Args)]
pub struct Check {
    /// Rule files (.sql, .json) or folders of them
    #[arg(required = true, value_name = "FILE")]
    paths: Vec<PathBuf>,
    /// Print the findings as JSON, for editors
    #[arg(long)]
    json: bool,
}

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

/// Arguments of `list` and `status`.
#[derive(Args)]
pub struct List {
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

/// A rule.
#[derive(Args)]
pub struct Name {
    /// The rule's name
    name: String,
}

/// Arguments of `test`.
#[derive(Args)]
pub struct Test {
    /// Test files: one JSON object a line, see docs/rule-tests.md
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Only cases whose id contains this
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
}

impl Rule {
    /// Runs the command.
    pub fn run(&self, common: &Common) -> anyhow::Result<ExitCode> {
        match self {
            Rule::Check(check) => check.run(),
            Rule::Test(test) => test.run(),
            Rule::Apply(apply) => runtime()?.block_on(apply.run(common)),
            Rule::List(list) => runtime()?.block_on(list.run(common, false)),
            Rule::Status(list) => runtime()?.block_on(list.run(common, true)),
            Rule::Disable(rule) => runtime()?.block_on(rule.set_enabled(common, false)),
            Rule::Enable(rule) => runtime()?.block_on(rule.set_enabled(common, true)),
        }
    }
}

/// The rule files at these paths, by name.
fn read(paths: &[PathBuf]) -> anyhow::Result<BTreeMap<String, String>> {
    let mut files = BTreeMap::new();
    for path in paths {
        if path.is_dir() {
            let in_folder = read_folder(path).with_context(|| path.display().to_string())?;
            files.extend(in_folder.into_iter().map(|(name, text)| (joined(path, &name), text)));
        } else {
            let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
            files.insert(path.display().to_string(), text);
        }
    }
    Ok(files)
}

fn joined(folder: &Path, name: &str) -> String {
    folder.join(name).display().to_string()
}

impl Check {
    fn run(&self) -> anyhow::Result<ExitCode> {
        let files: Vec<RuleFile> = read(&self.paths)?.into_iter().map(|(name, text)| RuleFile { name, text }).collect();
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
                eprint!("{}", render(&report.diagnostics, &report.file.name, &report.file.text, Style::Plain));
            }
        }
        if good && !self.json {
            println!("{} files are good.", files.len());
        }
        Ok(if good { ExitCode::SUCCESS } else { ExitCode::from(1) })
    }
}

impl Apply {
    async fn run(&self, common: &Common) -> anyhow::Result<ExitCode> {
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

/// Why an apply was not done.
enum Refusal {
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

fn print_findings(findings: &[Finding]) {
    for finding in findings {
        if finding.rendered.is_empty() {
            eprintln!("{}:{}:{}: {}", finding.file, finding.line, finding.column, finding.message);
        } else {
            eprint!("{}", finding.rendered);
        }
    }
}

impl List {
    async fn run(&self, common: &Common, figures: bool) -> anyhow::Result<ExitCode> {
        let place = Place::find(common.load()?).await?;
        let rules = match &place {
            Place::Server(server) => server.rules_list().await?,
            Place::Folder(folder) => folder.rules(),
        };
        place.close().await;
        if self.json {
            println!("{}", serde_json::to_string_pretty(&rules)?);
        } else if rules.is_empty() {
            println!("There are no rules. `hedgerow rule apply FOLDER` brings some.");
        } else {
            let head: &[&str] = if figures { &FIGURES } else { &NAMES };
            let head: Vec<String> = head.iter().map(ToString::to_string).collect();
            let row = |rule: &RuleStatus| if figures { figures_of(rule) } else { names_of(rule) };
            print!("{}", table::render(&head, &rules.iter().map(row).collect::<Vec<_>>()));
        }
        Ok(ExitCode::SUCCESS)
    }
}

const NAMES: [&str; 5] = ["rule", "enabled", "owner", "dialect", "topics"];
const FIGURES: [&str; 7] = ["rule", "matched", "passed", "delivered", "failed", "undefined", "last error"];

fn names_of(rule: &RuleStatus) -> Vec<String> {
    vec![
        rule.name.clone(),
        if rule.enabled { "yes" } else { "no" }.to_owned(),
        rule.owner.clone(),
        rule.dialect.clone(),
        rule.topic_filter.clone(),
    ]
}

fn figures_of(rule: &RuleStatus) -> Vec<String> {
    vec![
        rule.name.clone(),
        rule.matched.to_string(),
        rule.passed.to_string(),
        rule.delivered.to_string(),
        rule.failed.to_string(),
        rule.undefined.clone(),
        rule.last_error.clone().unwrap_or_default(),
    ]
}

impl Name {
    async fn set_enabled(&self, common: &Common, enabled: bool) -> anyhow::Result<ExitCode> {
        let place = Place::find(common.load()?).await?;
        let outcome = match &place {
            Place::Server(server) => server.rules_set_enabled(&self.name, enabled).await.map_err(Refusal::from),
            Place::Folder(folder) => folder.set_enabled(&self.name, enabled).await.map_err(Refusal::from),
        };
        place.close().await;
        match outcome {
            Ok(_) => println!("Rule {} is {}.", self.name, if enabled { "enabled" } else { "disabled" }),
            Err(Refusal::Findings(findings)) => print_findings(&findings),
            Err(Refusal::Other(message)) => bail!(message),
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Test {
    fn run(&self) -> anyhow::Result<ExitCode> {
        let (mut passed, mut failed) = (0, 0);
        for file in &self.files {
            let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
            let only = self.only.as_deref();
            let report = run_file(&text, &Scalar, |case: &Case| only.is_none_or(|only| case.id.contains(only)))
                .map_err(|error| anyhow::anyhow!("{}: {error}", file.display()))?;
            for failure in &report.failed {
                println!("{}: {failure}", file.display());
            }
            passed += report.passed;
            failed += report.failed.len();
        }
        println!("{passed} passed, {failed} failed");
        Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::from(1) })
    }
}
