//! Rule files: applied at the start, when the folder changes, and over HTTP.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use hedgerow_engine::apply::{FileDiagnostics, Plan, RuleFile, State, plan};
use hedgerow_engine::catalog::{self, Catalog, ChangeSet, Kind};
use hedgerow_engine::engine::ApplyError;
use hedgerow_sql::diagnostic::{Diagnostic, Style, position, render};
use hedgerow_sql::rule::Statement;

use super::sinks::check;
use super::{APPLY_WAIT, Core, ServeError};
use crate::http::rules::{ApplyReport, ApplyRequest, Change, ChangeAction, Finding, RuleControl, RuleError};
use crate::nearest::nearest;
use crate::query::system::{RuleStatus, SystemViews};

/// The owner of what the rules folder says.
pub const OWNER_FOLDER: &str = "folder";
/// The owner of what was applied over HTTP or on the command line.
pub const OWNER_API: &str = "api";

/// The rule files of a folder, by name; other files are passed over.
///
/// # Errors
/// When the folder or a file cannot be read.
pub fn read_folder(folder: &Path) -> std::io::Result<BTreeMap<String, String>> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let is_rule = path.extension().is_some_and(|ending| ending == "sql" || ending == "json");
        if is_rule && path.is_file() {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            files.insert(name, std::fs::read_to_string(&path)?);
        }
    }
    Ok(files)
}

/// Applies the configured folder, if there is one. At the start a broken folder is an error that everybody sees.
pub(super) fn apply_folder_at_start(core: &Core) -> Result<(), ServeError> {
    let Some(folder) = core.config.rules_folder() else { return Ok(()) };
    let files = read_folder(&folder)
        .map_err(|error| ServeError::Rules(format!("the rules folder {}: {error}", folder.display())))?;
    match apply(core, OWNER_FOLDER, &files, true) {
        Ok(report) => {
            log_report(&report);
            Ok(())
        }
        Err(RuleError::Refused(findings)) => {
            let text: Vec<String> = findings.iter().map(|finding| finding.rendered.clone()).collect();
            Err(ServeError::Rules(format!("the rules folder {} is refused:\n{}", folder.display(), text.join("\n"))))
        }
        Err(error) => Err(ServeError::Rules(error.to_string())),
    }
}

/// Looks at the folder from time to time and applies it when a file has changed.
pub(super) fn watch(core: Arc<Core>, stopping: Arc<AtomicBool>) {
    let Some(folder) = core.config.rules_folder().filter(|_| core.config.rules.watch) else { return };
    tokio::spawn(async move {
        let mut last = read_folder(&folder).ok();
        let mut every = tokio::time::interval(core.config.rules.watch_interval.0);
        while !stopping.load(Ordering::Acquire) {
            every.tick().await;
            let now = read_folder(&folder).ok();
            if now == last {
                continue;
            }
            last = now;
            let Some(files) = last.clone() else { continue };
            let applying = Arc::clone(&core);
            let applied = tokio::task::spawn_blocking(move || apply(&applying, OWNER_FOLDER, &files, true)).await;
            match applied {
                Ok(Ok(report)) => {
                    core.views.set_folder_problem(None);
                    log_report(&report);
                }
                Ok(Err(error)) => core.views.set_folder_problem(Some(describe(&error))),
                Err(error) => core.views.set_folder_problem(Some(error.to_string())),
            }
        }
    });
}

fn describe(error: &RuleError) -> String {
    let text = match error {
        RuleError::Refused(findings) => findings
            .iter()
            .filter(|finding| finding.fatal)
            .map(|finding| format!("{}:{}:{}: {}", finding.file, finding.line, finding.column, finding.message))
            .collect::<Vec<_>>()
            .join("; "),
        other => other.to_string(),
    };
    tracing::error!(problem = %text, "the rules folder was changed, but is refused: the rules stay as they were");
    text
}

fn log_report(report: &ApplyReport) {
    for change in report.changes.iter().filter(|change| change.action != ChangeAction::Unchanged) {
        tracing::info!(action = ?change.action, kind = %change.kind, name = %change.name, note = change.note, "rules");
    }
    for finding in &report.findings {
        tracing::warn!(file = %finding.file, line = finding.line, "{}", finding.message);
    }
}

impl From<ApplyError> for RuleError {
    fn from(error: ApplyError) -> Self {
        RuleError::Unavailable(error.to_string())
    }
}

fn rule_files(files: &BTreeMap<String, String>) -> Vec<RuleFile> {
    files.iter().map(|(name, text)| RuleFile { name: name.clone(), text: text.clone() }).collect()
}

/// Applies files as one change.
pub(crate) fn apply(
    core: &Core,
    owner: &str,
    files: &BTreeMap<String, String>,
    prune: bool,
) -> Result<ApplyReport, RuleError> {
    let files = rule_files(files);
    let mut report = ApplyReport::default();
    report.epoch = core
        .engine
        .change(APPLY_WAIT, |catalog| {
            let plan = planned(core, catalog, owner, &files, prune)?;
            fill(&mut report, core, &plan, catalog);
            Ok::<_, RuleError>(plan.change_set(owner))
        })?
        .map(|epoch| epoch.0);
    Ok(report)
}

fn planned(core: &Core, catalog: &Catalog, owner: &str, files: &[RuleFile], prune: bool) -> Result<Plan, RuleError> {
    let plan = plan(catalog, owner, files, prune).map_err(|reports| RuleError::Refused(findings(&reports)))?;
    let in_files = files.iter().filter_map(|file| what_cannot_be_here(core, file));
    let closed: Vec<FileDiagnostics> = in_files.chain(what_cannot_be_implied(core, &plan)).collect();
    if closed.is_empty() { Ok(plan) } else { Err(RuleError::Refused(findings(&closed))) }
}

/// A sink in force that does not open would lose its rows, so it does not come into force; nor does a rule whose calls
/// the settings do not allow.
fn what_cannot_be_here(core: &Core, file: &RuleFile) -> Option<FileDiagnostics> {
    let statements = hedgerow_sql::analyze::read(&file.name, &file.text).statements.into_iter();
    let diagnostics: Vec<Diagnostic> = statements
        .flat_map(|(statement, span)| match statement {
            Statement::Sink(sink) => check(&core.config, &sink)
                .err()
                .map(|wrong| Diagnostic::error("sink", span, wrong))
                .into_iter()
                .collect(),
            Statement::Rule(rule) => crate::calls::check(&core.config, &rule),
            _ => Vec::new(),
        })
        .collect();
    (!diagnostics.is_empty()).then(|| FileDiagnostics { file: file.clone(), diagnostics })
}

/// Sinks that actions bring along and that do not open here.
fn what_cannot_be_implied(core: &Core, plan: &Plan) -> Vec<FileDiagnostics> {
    let refused = plan.implied.iter().filter_map(|implied| {
        let wrong = check(&core.config, &implied.sink).err()?;
        let help = format!("or create the sink {} yourself, with the options that it needs", implied.sink.name);
        let diagnostics = vec![Diagnostic::error("sink", implied.span, wrong).help(help)];
        Some(FileDiagnostics { file: implied.file.clone(), diagnostics })
    });
    refused.collect()
}

/// What a plan would do, without doing it.
fn dry_run(core: &Core, owner: &str, files: &BTreeMap<String, String>, prune: bool) -> Result<ApplyReport, RuleError> {
    let catalog = core.engine.catalog();
    let plan = planned(core, &catalog, owner, &rule_files(files), prune)?;
    let mut report = ApplyReport { dry_run: true, ..ApplyReport::default() };
    fill(&mut report, core, &plan, &catalog);
    Ok(report)
}

fn fill(report: &mut ApplyReport, core: &Core, plan: &Plan, catalog: &Catalog) {
    report.findings = findings(&plan.warnings);
    report.changes = plan.changes.iter().map(|change| described(change, core, plan, catalog)).collect();
}

fn described(change: &catalog::Change, core: &Core, plan: &Plan, catalog: &Catalog) -> Change {
    let (action, kind, name) = match change {
        catalog::Change::Put { kind, name, .. } => {
            let there = catalog.get(*kind, name).is_some();
            (if there { ChangeAction::Replace } else { ChangeAction::Create }, *kind, name)
        }
        catalog::Change::Drop { kind, name } => (ChangeAction::Drop, *kind, name),
        catalog::Change::Enable { name, enabled } => {
            (if *enabled { ChangeAction::Enable } else { ChangeAction::Disable }, Kind::Rule, name)
        }
    };
    let lost = plan.discarded.iter().find(|(rule, _)| kind == Kind::Rule && **rule == **name).map(|(_, lost)| *lost);
    let armed =
        || core.engine.rules().into_iter().find(|rule| rule.name == *name).map_or(0, |r| r.stats.timers().armed);
    let watches = || catalog.get(kind, name).and_then(|old| State::of(old.rule()?)) == Some(State::Timers);
    let note = match lost {
        Some(State::Windows) => Some("its open windows are discarded".to_owned()),
        Some(State::Timers) => Some(match armed() {
            0 => "it has no armed timers; keys that were noticed may be noticed again".to_owned(),
            armed => format!("its timers are discarded: {armed} armed, whose notices will not come"),
        }),
        None if action == ChangeAction::Replace && watches() => {
            Some(format!("its timers go on: {} armed, which keep their rows", armed()))
        }
        None => None,
    };
    Change { action, kind: kind.to_string(), name: name.clone(), note }
}

fn findings(reports: &[FileDiagnostics]) -> Vec<Finding> {
    reports.iter().flat_map(|report| report.diagnostics.iter().map(|one| finding(report, one))).collect()
}

fn finding(report: &FileDiagnostics, diagnostic: &Diagnostic) -> Finding {
    let at = position(&report.file.text, diagnostic.span.start);
    Finding {
        fatal: diagnostic.is_error(),
        file: report.file.name.clone(),
        line: u32::try_from(at.line).unwrap_or_default(),
        column: u32::try_from(at.column).unwrap_or_default(),
        message: diagnostic.message.to_string(),
        hint: diagnostic.help.clone(),
        rendered: render(std::slice::from_ref(diagnostic), &report.file.name, &report.file.text, Style::Plain),
    }
}

/// Rule changes over HTTP.
pub struct Control {
    core: Arc<Core>,
}

impl Control {
    /// On this server.
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self { core }
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Core) -> Result<T, RuleError> + Send + 'static,
    ) -> Result<T, RuleError> {
        let core = Arc::clone(&self.core);
        tokio::task::spawn_blocking(move || work(&core))
            .await
            .unwrap_or_else(|error| Err(RuleError::Unavailable(error.to_string())))
    }
}

/// One change of one rule.
pub(crate) fn change_rule(
    core: &Core,
    name: &str,
    change: impl FnOnce(String) -> catalog::Change,
) -> Result<ApplyReport, RuleError> {
    let mut report = ApplyReport::default();
    report.epoch = core
        .engine
        .change(APPLY_WAIT, |catalog| {
            let Some(object) = catalog.get(Kind::Rule, name) else {
                let names = catalog.iter().filter(|(kind, _, _)| *kind == Kind::Rule).map(|(_, name, _)| &**name);
                let nearest = nearest(name, names).map(str::to_owned);
                return Err(RuleError::Unknown { name: name.to_owned(), nearest });
            };
            let plan = Plan::of_rule(change(name.to_owned()), object.rule().map(|rule| &**rule));
            if matches!(plan.changes.first(), Some(catalog::Change::Drop { .. })) && &*object.owner == OWNER_FOLDER {
                let message = format!("rule {name:?} comes from the rules folder: remove it from its file there");
                return Err(RuleError::Conflict(message));
            }
            fill(&mut report, core, &plan, catalog);
            Ok::<_, RuleError>(Some(ChangeSet::new(OWNER_API, plan.changes)))
        })?
        .map(|epoch| epoch.0);
    Ok(report)
}

#[async_trait]
impl RuleControl for Control {
    async fn apply(&self, request: ApplyRequest) -> Result<ApplyReport, RuleError> {
        self.blocking(move |core| {
            if request.dry_run {
                dry_run(core, OWNER_API, &request.files, true)
            } else {
                apply(core, OWNER_API, &request.files, true)
            }
        })
        .await
    }

    async fn check(&self, files: BTreeMap<String, String>) -> Result<Vec<Finding>, RuleError> {
        self.blocking(move |core| match dry_run(core, OWNER_API, &files, false) {
            Ok(report) => Ok(report.findings),
            Err(RuleError::Refused(findings)) => Ok(findings),
            Err(error) => Err(error),
        })
        .await
    }

    async fn list(&self) -> Vec<RuleStatus> {
        self.core.views.rules()
    }

    async fn set_enabled(&self, name: &str, enabled: bool) -> Result<ApplyReport, RuleError> {
        let name = name.to_owned();
        self.blocking(move |core| change_rule(core, &name, |name| catalog::Change::Enable { name, enabled })).await
    }

    async fn drop_rule(&self, name: &str) -> Result<ApplyReport, RuleError> {
        let name = name.to_owned();
        self.blocking(move |core| change_rule(core, &name, |name| catalog::Change::Drop { kind: Kind::Rule, name }))
            .await
    }
}
