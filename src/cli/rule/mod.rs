//! `hedgerow rule …`: a file for each of its commands.

mod apply;
mod check;
mod explain;
mod list;
mod test;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Subcommand;
use hedgerow_connectors::serve::read_folder;

use super::remote::Place;
use super::{Common, runtime};

/// What to do with rules.
#[derive(Subcommand)]
pub enum Rule {
    /// Check rule files without a server: every mistake with its line, and what to do
    Check(check::Check),
    /// Make the server follow the files of a folder: one change, all or nothing
    Apply(apply::Apply),
    /// List the rules
    List(list::List),
    /// Show what the rules are doing: matched, passed, delivered, failed, and how often a path was missing
    Status(list::List),
    /// Let a rule rest
    Disable(list::Name),
    /// Let it run again
    Enable(list::Name),
    /// Show how a rule is understood, and how it runs for a sample message: on columns by which plan, or row by row and why
    Explain(explain::Explain),
    /// Run test cases against rules and functions; ends with `N passed, N failed`
    Test(test::Test),
}

impl Rule {
    /// Runs the command.
    pub fn run(&self, common: &Common) -> anyhow::Result<ExitCode> {
        match self {
            Rule::Check(check) => check.run(),
            Rule::Explain(explain) => explain.run(common),
            Rule::Test(test) => test.run(common),
            Rule::Apply(apply) => runtime()?.block_on(apply.run(common)),
            Rule::List(list) => runtime()?.block_on(list.run(common, false)),
            Rule::Status(list) => runtime()?.block_on(list.run(common, true)),
            Rule::Disable(rule) => runtime()?.block_on(rule.set_enabled(common, false)),
            Rule::Enable(rule) => runtime()?.block_on(rule.set_enabled(common, true)),
        }
    }
}

/// The rule files at these paths, by name.
fn files(paths: &[PathBuf]) -> anyhow::Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for path in paths {
        if path.is_dir() {
            let in_folder = read_folder(path).with_context(|| path.display().to_string())?;
            found.extend(in_folder.into_iter().map(|(name, text)| (joined(path, &name), text)));
        } else {
            let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
            found.insert(path.display().to_string(), text);
        }
    }
    Ok(found)
}

fn joined(folder: &Path, name: &str) -> String {
    folder.join(name).display().to_string()
}

/// Prints; a reader that has seen enough (`| head`) is no error.
fn say(text: &str) -> std::io::Result<()> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// The rules of the running server, or of the data folder: name, whether it is an AWS document, text.
fn deployed(common: &Common) -> anyhow::Result<Vec<(String, bool, String)>> {
    runtime()?.block_on(async {
        let place = Place::find(common.load()?).await?;
        let rules = match &place {
            Place::Server(server) => server.rules_list().await.map_err(anyhow::Error::from),
            Place::Folder(folder) => Ok(folder.rules()),
        };
        place.close().await;
        Ok(rules?.into_iter().map(|rule| (rule.name, rule.text.starts_with('{'), rule.text)).collect())
    })
}
