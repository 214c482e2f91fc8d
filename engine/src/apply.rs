//! Applying rule files: what has to change in the catalog so that it says what the files say.
//!
//! Declarative and atomic: same text is a no-op, changed text replaces, a rule whose file is gone is dropped, but never a
//! table, a sink or their data. All of it is one change set, one position of the log; a broken file changes nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use hedgerow_sql::ast::Span;
use hedgerow_sql::diagnostic::{Diagnostic, Severity};
use hedgerow_sql::rule::{Action, Rule, SinkDef, Statement, TableDef, Target};

use crate::catalog::{Catalog, Change, ChangeSet, Definition, Form, Kind};
use crate::operators::absence::same_watch;
use crate::operators::window::same_shape;

/// A rule file: its name (the extension decides the language) and its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleFile {
    /// Path as the user knows it; `.json` is an AWS document, anything else native.
    pub name: String,
    /// Content.
    pub text: String,
}

/// What is wrong with a file, and its warnings.
#[derive(Clone, Debug)]
pub struct FileDiagnostics {
    /// The file.
    pub file: RuleFile,
    /// In the order of the text.
    pub diagnostics: Vec<Diagnostic>,
}

/// What applying would do.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// The changes, in order; empty when nothing is to be done.
    pub changes: Vec<Change>,
    /// Rules that lose what they have gathered, and what that is.
    pub discarded: Vec<(Arc<str>, State)>,
    /// Sinks that no file creates, but that actions of documents bring along.
    pub implied: Vec<ImpliedSink>,
    /// Warnings.
    pub warnings: Vec<FileDiagnostics>,
}

/// What a rule gathers over messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Open windows.
    Windows,
    /// Timers, armed and fired.
    Timers,
}

impl State {
    /// What this rule gathers, if anything.
    pub fn of(rule: &Rule) -> Option<Self> {
        if rule.windowed.is_some() {
            Some(Self::Windows)
        } else if rule.select.absence.is_some() {
            Some(Self::Timers)
        } else {
            None
        }
    }

    /// What the rule loses when it gets another text.
    fn lost(old: &Rule, new: &Rule) -> Option<Self> {
        let keeps = match Self::of(old)? {
            Self::Windows => same_shape(&new.windowed, &old.windowed),
            Self::Timers => same_watch(new, old),
        };
        if keeps && new.enabled { None } else { Self::of(old) }
    }
}

/// A sink that an action brings along.
#[derive(Clone, Debug)]
pub struct ImpliedSink {
    /// The file with the action.
    pub file: RuleFile,
    /// Where the action stands in it.
    pub span: Span,
    /// The sink.
    pub sink: SinkDef,
}

impl Plan {
    /// What the change of one rule by hand makes it lose.
    pub fn of_rule(change: Change, rule: Option<&Rule>) -> Self {
        let keeps = matches!(change, Change::Put { .. } | Change::Enable { enabled: true, .. });
        let lost = rule.filter(|_| !keeps).and_then(|rule| Some((Arc::clone(&rule.name), State::of(rule)?)));
        Self { changes: vec![change], discarded: lost.into_iter().collect(), ..Self::default() }
    }

    /// The change set, or `None` when there is nothing to do.
    pub fn change_set(self, owner: &str) -> Option<ChangeSet> {
        (!self.changes.is_empty()).then(|| ChangeSet::new(owner, self.changes))
    }
}

/// A statement and where it comes from.
struct Found {
    file: usize,
    form: Form,
    text: Arc<str>,
    statement: Statement,
    /// Where it stands in its file.
    span: Span,
}

/// Compares files with the catalog.
///
/// With `prune`, rules of `owner` that are in none of the files are dropped.
///
/// # Errors
/// The mistakes of all files, together with their warnings.
pub fn plan(catalog: &Catalog, owner: &str, files: &[RuleFile], prune: bool) -> Result<Plan, Vec<FileDiagnostics>> {
    let mut diagnostics: Vec<Vec<Diagnostic>> = files.iter().map(|_| Vec::new()).collect();
    let mut found = Vec::new();
    for (index, file) in files.iter().enumerate() {
        let reading = hedgerow_sql::analyze::read(&file.name, &file.text);
        let form = if file.name.ends_with(".json") { Form::Document } else { Form::Native };
        found.extend(reading.statements.into_iter().map(|(statement, span)| Found {
            file: index,
            form,
            text: text_of(&statement),
            statement,
            span,
        }));
        report(&mut diagnostics, index, reading.diagnostics);
    }
    let mut plan = Plan::default();
    let implicit = implicit(catalog, &found);
    for item in &implicit {
        if let (Statement::Sink(sink), Some(file)) = (&item.statement, files.get(item.file)) {
            plan.implied.push(ImpliedSink { file: file.clone(), span: item.span, sink: sink.clone() });
        }
    }
    let mut names: BTreeMap<(Kind, Arc<str>), usize> = BTreeMap::new();
    for item in found.iter().chain(&implicit) {
        let mut mistakes = Vec::new();
        step(catalog, owner, item, &mut names, &mut plan, &mut mistakes);
        report(&mut diagnostics, item.file, mistakes);
    }
    for item in &found {
        if let Statement::Rule(rule) = &item.statement {
            let view = View { catalog, found: &found, implicit: &implicit };
            let mistakes = hedgerow_sql::analyze::check(rule, &view);
            report(&mut diagnostics, item.file, mistakes);
        }
    }
    if prune {
        drop_missing(catalog, owner, &names, &mut plan);
    }
    plan.changes.sort_by_key(|change| matches!(change, Change::Drop { .. }));
    let reports: Vec<FileDiagnostics> = files
        .iter()
        .zip(diagnostics)
        .filter(|(_, diagnostics)| !diagnostics.is_empty())
        .map(|(file, diagnostics)| FileDiagnostics { file: file.clone(), diagnostics })
        .collect();
    let refused = reports.iter().flat_map(|report| &report.diagnostics).any(|one| one.severity == Severity::Error);
    if refused {
        return Err(reports);
    }
    plan.warnings = reports;
    Ok(plan)
}

fn report(diagnostics: &mut [Vec<Diagnostic>], file: usize, mistakes: Vec<Diagnostic>) {
    if let Some(of_file) = diagnostics.get_mut(file) {
        of_file.extend(mistakes);
    }
}

fn text_of(statement: &Statement) -> Arc<str> {
    match statement {
        Statement::Table(table) => Arc::clone(&table.text),
        Statement::Sink(sink) => Arc::clone(&sink.text),
        Statement::Rule(rule) => Arc::clone(&rule.text),
        Statement::Drop { .. } => "".into(),
    }
}

/// The change that one statement asks for.
fn step(
    catalog: &Catalog,
    owner: &str,
    item: &Found,
    names: &mut BTreeMap<(Kind, Arc<str>), usize>,
    plan: &mut Plan,
    mistakes: &mut Vec<Diagnostic>,
) {
    let mistake = |message: String| Diagnostic::error("catalog", item.span, message);
    let (kind, name) = match &item.statement {
        Statement::Table(table) => (Kind::Table, &table.name),
        Statement::Sink(sink) => (Kind::Sink, &sink.name),
        Statement::Rule(rule) => (Kind::Rule, &rule.name),
        Statement::Drop { kind, name, if_exists } => {
            let kind = Kind::from(*kind);
            match catalog.get(kind, name) {
                Some(_) => {
                    plan.changes.push(Change::Drop { kind, name: name.to_string() });
                }
                None if *if_exists => {}
                None => mistakes.push(mistake(format!("there is no {kind} {name:?} to drop"))),
            }
            return;
        }
    };
    if names.insert((kind, Arc::clone(name)), item.file).is_some() {
        mistakes.push(mistake(format!("{kind} {name:?} is created twice: give one of them another name")));
        return;
    }
    let clash = match kind {
        Kind::Table => catalog.get(Kind::Sink, name).map(|_| Kind::Sink),
        Kind::Sink => catalog.get(Kind::Table, name).map(|_| Kind::Table),
        Kind::Rule => None,
    };
    if let Some(other) = clash {
        let message = format!("there is a {other} {name:?} already: tables and sinks share their names");
        mistakes.push(mistake(message));
        return;
    }
    let put = || Change::Put { kind, name: name.to_string(), form: item.form, text: item.text.to_string() };
    match catalog.get(kind, name) {
        None => plan.changes.push(put()),
        Some(object) if object.text == item.text && object.form == item.form => {}
        Some(object) if kind == Kind::Rule && *object.owner != *owner => {
            let message = format!(
                "rule {name:?} belongs to {:?}: drop it there first, or give this one another name",
                object.owner
            );
            mistakes.push(mistake(message));
        }
        Some(object) => {
            if let Some(refusal) = incompatible(&object.definition, &item.statement) {
                mistakes.push(mistake(refusal));
                return;
            }
            plan.changes.push(put());
            if let (Definition::Rule(old), Statement::Rule(new)) = (&object.definition, &item.statement)
                && let Some(lost) = State::lost(old, new)
            {
                plan.discarded.push((Arc::clone(name), lost));
            }
        }
    }
}

/// Why a table cannot become another one while it holds rows.
fn incompatible(old: &Definition, new: &Statement) -> Option<String> {
    let (Definition::Table(old), Statement::Table(new)) = (old, new) else { return None };
    let key = |table: &TableDef| (table.hash.to_string(), table.range.as_ref().map(ToString::to_string));
    let name = &new.name;
    if key(old) != key(new) {
        return Some(format!(
            "table {name:?} holds rows under another PRIMARY KEY: create a table of another name, or DROP TABLE {name} first"
        ));
    }
    let changed = old.columns.iter().find(|column| !new.columns.contains(column))?;
    Some(format!(
        "column {:?} of table {name:?} was dropped or has another type, but the table holds rows: keep it, or DROP TABLE {name} first",
        changed.name
    ))
}

/// Rules of `owner` whose file is gone.
fn drop_missing(catalog: &Catalog, owner: &str, names: &BTreeMap<(Kind, Arc<str>), usize>, plan: &mut Plan) {
    for (kind, name, object) in catalog.iter() {
        if kind == Kind::Rule && *object.owner == *owner && !names.contains_key(&(kind, Arc::clone(name))) {
            plan.changes.push(Change::Drop { kind, name: name.to_string() });
            if let Some(lost) = object.rule().and_then(|rule| State::of(rule)) {
                plan.discarded.push((Arc::clone(name), lost));
            }
        }
    }
}

/// What actions of documents name and nobody creates: tables of `dynamoDB` get the key columns that the action gives
/// them, and what sends something somewhere brings the statement of its sink along.
fn implicit(catalog: &Catalog, found: &[Found]) -> Vec<Found> {
    let mut implicit: BTreeMap<(Kind, Arc<str>), Found> = BTreeMap::new();
    for item in found {
        let Statement::Rule(rule) = &item.statement else { continue };
        for action in rule.actions.iter().chain(&rule.error_action) {
            let Some((kind, name, text)) = implied_by(action) else { continue };
            let known = catalog.get(kind, name).is_some() || found.iter().any(|other| creates(other, kind, name));
            let key = (kind, Arc::clone(name));
            if known || implicit.contains_key(&key) {
                continue;
            }
            if let Ok(mut statements) = hedgerow_sql::parse::parse_file(&text)
                && let Some(statement) = statements.pop()
            {
                let text = text_of(&statement);
                let of = Found { file: item.file, form: Form::Native, text, statement, span: action.span };
                implicit.insert(key, of);
            }
        }
    }
    implicit.into_values().collect()
}

/// The table or sink that an action brings along, and its statement.
fn implied_by(action: &Action) -> Option<(Kind, &Arc<str>, String)> {
    match &action.target {
        Target::Item(item) => Some((Kind::Table, &item.table, implicit_text(item))),
        Target::Outside(outside) => Some((Kind::Sink, &outside.sink, outside.definition.as_ref()?.to_string())),
        Target::Named(_) | Target::Topic { .. } => None,
    }
}

fn creates(item: &Found, kind: Kind, name: &str) -> bool {
    match &item.statement {
        Statement::Table(table) => kind == Kind::Table && &*table.name == name,
        Statement::Sink(sink) => kind == Kind::Sink && &*sink.name == name,
        _ => false,
    }
}

fn implicit_text(item: &hedgerow_sql::rule::ItemTarget) -> String {
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let keys: Vec<_> = [Some(&item.hash), item.range.as_ref()].into_iter().flatten().collect();
    let columns: Vec<String> = keys
        .iter()
        .map(|key| format!("{} {}", quoted(&key.field), if key.number { "DOUBLE" } else { "VARCHAR" }))
        .collect();
    let names: Vec<String> = keys.iter().map(|key| quoted(&key.field)).collect();
    format!("CREATE TABLE {} ({}, PRIMARY KEY ({}))", quoted(&item.table), columns.join(", "), names.join(", "))
}

/// The catalog as it will be, for checking rules against it.
struct View<'a> {
    catalog: &'a Catalog,
    found: &'a [Found],
    implicit: &'a [Found],
}

impl hedgerow_sql::analyze::CatalogView for View<'_> {
    fn table(&self, name: &str) -> Option<TableDef> {
        let new = self.found.iter().chain(self.implicit).find_map(|item| match &item.statement {
            Statement::Table(table) if *table.name == *name => Some(table.clone()),
            _ => None,
        });
        new.or_else(|| match &self.catalog.get(Kind::Table, name)?.definition {
            Definition::Table(table) => Some(TableDef::clone(table)),
            _ => None,
        })
    }

    fn connector(&self, name: &str) -> Option<Arc<str>> {
        let new = self.found.iter().chain(self.implicit).find_map(|item| match &item.statement {
            Statement::Sink(sink) if *sink.name == *name => Some(Arc::clone(&sink.connector)),
            _ => None,
        });
        new.or_else(|| match &self.catalog.get(Kind::Sink, name)?.definition {
            Definition::Sink(sink) => Some(Arc::clone(&sink.connector)),
            _ => None,
        })
    }

    fn names(&self) -> Vec<String> {
        let new = self.found.iter().chain(self.implicit).filter_map(|item| match &item.statement {
            Statement::Table(table) => Some(table.name.to_string()),
            Statement::Sink(sink) => Some(sink.name.to_string()),
            _ => None,
        });
        let old = self.catalog.iter().filter(|(kind, _, _)| *kind != Kind::Rule).map(|(_, name, _)| name.to_string());
        new.chain(old).collect()
    }
}
