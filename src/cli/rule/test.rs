//! `hedgerow rule test`.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::Args;
use hedgerow_engine::rehearse::rehearse;
use hedgerow_sql::analyze;
use hedgerow_sql::diagnostic::Style;
use hedgerow_sql::rule::{self, Statement};
use hedgerow_sql::suggest;
use hedgerow_sql::vectors::{self, Event, Outcome, Report, Surroundings, mixed};

use super::{Common, deployed, files, say};

/// Arguments of `test`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Test {
    /// Test files, or folders of them (.test, .jsonl)
    #[arg(required = true, value_name = "FILE")]
    paths: Vec<PathBuf>,
    /// Only cases whose name contains this
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Rule files, or folders of them, whose rules the cases name [default: those beside the test file]
    #[arg(long, value_name = "FILE", conflicts_with = "deployed")]
    rules: Vec<PathBuf>,
    /// The cases name rules of the running server, or of the data folder
    #[arg(long)]
    deployed: bool,
    /// Besides one by one, run the cases shuffled together in batches of so many messages
    #[arg(long, value_name = "MESSAGES", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    batch: Option<u32>,
    /// Decides how --batch shuffles
    #[arg(long, default_value_t = 1, requires = "batch")]
    seed: u64,
}

const EXAMPLES: &str = "\
A test file says what is tested, what comes in, and what goes out:

  rule too_hot

  case a sensor above 50 degrees raises an alarm
  > macdonald/sensors/7 {\"temperature\": 51.2}
  < alerts/7/heat {\"sensor\": \"7\", \"temperature\": 51.2}

  case 50 degrees is not too hot
  > macdonald/sensors/7 {\"temperature\": 50}
  < nothing

docs/rule-tests.md explains all of it, and the JSON form for generated cases.";

impl Test {
    /// Runs the cases and prints what failed.
    pub fn run(&self, common: &Common) -> anyhow::Result<ExitCode> {
        let style = if std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none() {
            Style::Coloured
        } else {
            Style::Plain
        };
        let (mut passed, mut failed, mut unreadable) = (0, 0, 0);
        for path in test_files(&self.paths)? {
            let name = path.display().to_string();
            let text = std::fs::read_to_string(&path).with_context(|| name.clone())?;
            let (cases, problems) = vectors::read(&text);
            for problem in &problems {
                say(&format!("{name}:{}: {}\n", problem.line, problem.reason))?;
            }
            unreadable += problems.len();
            let rules = Rules { test: self, common, file: &path, found: OnceCell::new() };
            let only = self.only.as_deref();
            let report = vectors::run(&cases, &rules, |case| only.is_none_or(|only| case.id.contains(only)));
            print(&report, &name, style)?;
            passed += report.passed;
            failed += report.failed.len();
            if let Some(batch) = self.batch {
                let report = mixed::run(&cases, &rules, batch as usize, self.seed);
                print(&report, &format!("{name} (in a batch)"), style)?;
                let (passed, all) = (report.passed, cases.len());
                say(&format!("{name}: {passed} of {all} cases also in batches of {batch}\n"))?;
                failed += report.failed.len();
            }
        }
        if unreadable > 0 {
            say("What cannot be read as a test counts as failed.\n")?;
        }
        failed += unreadable;
        say(&format!("{passed} passed, {failed} failed\n"))?;
        Ok(match (failed, unreadable) {
            (0, _) => ExitCode::SUCCESS,
            (_, 0) => ExitCode::from(1),
            _ => ExitCode::from(2),
        })
    }
}

fn print(report: &Report, file: &str, style: Style) -> std::io::Result<()> {
    report.failed.iter().try_for_each(|failure| say(&format!("{}\n", failure.render(file, style))))
}

/// The files, and the test files in the folders.
fn test_files(paths: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let mut inside = Vec::new();
        for entry in std::fs::read_dir(path).with_context(|| path.display().to_string())? {
            let entry = entry?.path();
            if entry.is_file() && entry.extension().is_some_and(|ending| ending == "test" || ending == "jsonl") {
                inside.push(entry);
            }
        }
        if inside.is_empty() {
            bail!("{}: there is no test file (.test, .jsonl) in this folder", path.display());
        }
        inside.sort();
        files.extend(inside);
    }
    Ok(files)
}

/// The rules that the cases of a file name, read when the first one is asked for.
struct Rules<'t> {
    test: &'t Test,
    common: &'t Common,
    file: &'t Path,
    found: OnceCell<Result<Found, String>>,
}

/// Rules by name, and where they were looked for.
struct Found {
    rules: BTreeMap<String, Arc<rule::Rule>>,
    place: String,
}

impl Rules<'_> {
    fn read(&self) -> Result<Found, String> {
        if self.test.deployed {
            let texts = deployed(self.common).map_err(|error| error.to_string())?;
            let files = texts.into_iter().map(|(name, is_document, text)| {
                (if is_document { format!("{name}.json") } else { format!("{name}.sql") }, text)
            });
            return rules_of(files.collect(), "the rules of the server".to_owned());
        }
        let beside = self.file.parent().filter(|folder| !folder.as_os_str().is_empty());
        let beside = beside.unwrap_or(Path::new(".")).to_owned();
        let paths = if self.test.rules.is_empty() { vec![beside] } else { self.test.rules.clone() };
        let place = paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ");
        rules_of(files(&paths).map_err(|error| format!("{error:#}"))?, place)
    }
}

fn rules_of(files: BTreeMap<String, String>, place: String) -> Result<Found, String> {
    let mut rules = BTreeMap::new();
    for (name, text) in files {
        let reading = analyze::read(&name, &text);
        if let Some(mistake) = reading.diagnostics.iter().find(|diagnostic| diagnostic.is_error()) {
            return Err(format!("{}; `hedgerow rule check` shows all of it", mistake.one_line(&name, &text)));
        }
        for (statement, _) in reading.statements {
            if let Statement::Rule(rule) = statement {
                rules.insert(rule.name.to_string(), Arc::new(rule));
            }
        }
    }
    Ok(Found { rules, place })
}

impl Surroundings for Rules<'_> {
    fn rule(&self, name: &str) -> Result<Arc<rule::Rule>, String> {
        let found = self.found.get_or_init(|| self.read()).as_ref().map_err(Clone::clone)?;
        if let Some(rule) = found.rules.get(name) {
            return Ok(Arc::clone(rule));
        }
        let near = suggest::did_you_mean(name, found.rules.keys().map(String::as_str));
        let help = near.unwrap_or_else(|| match found.rules.len() {
            0 => "there are no rules; name their files with --rules".to_owned(),
            _ => format!("there are {}", found.rules.keys().cloned().collect::<Vec<_>>().join(", ")),
        });
        Err(format!("no rule {name} in {} ({help})", found.place))
    }

    fn over_time(&self, rule: &Arc<rule::Rule>, events: &[&Event]) -> Result<Vec<Outcome>, String> {
        rehearse(rule, events)
    }
}
