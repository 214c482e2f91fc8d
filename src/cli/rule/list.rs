//! `hedgerow rule list`, `status`, `enable` and `disable`.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use hedgerow_connectors::query::system::RuleStatus;

use super::apply::{Refusal, print_findings};
use crate::cli::remote::Place;
use crate::cli::{Common, table};

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

impl List {
    /// Prints the rules, or their figures.
    pub async fn run(&self, common: &Common, figures: bool) -> anyhow::Result<ExitCode> {
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
        undefined(&rule.undefined),
        rule.last_error.clone().unwrap_or_default(),
    ]
}

/// Paths that were missing, with their shares in percent.
fn undefined(shares: &str) -> String {
    let shares: BTreeMap<String, f64> = serde_json::from_str(shares).unwrap_or_default();
    let missing = shares.iter().filter(|(_, share)| **share > 0.0);
    missing.map(|(path, share)| format!("{path} {:.0} %", (share * 100.0).ceil())).collect::<Vec<_>>().join(", ")
}

impl Name {
    /// Lets it run or rest.
    pub async fn set_enabled(&self, common: &Common, enabled: bool) -> anyhow::Result<ExitCode> {
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
