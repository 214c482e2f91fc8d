//! A rule file as a whole: `.sql` or `.json`, with everything that is wrong with it.

use crate::ast::Span;
use crate::diagnostic::{Diagnostic, Severity};
use crate::parse::{self, MAX_DIAGNOSTICS, MAX_TEXT};
use crate::rule::{ObjectKind, Statement};

use super::rule;

/// What was read of a file.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// The statements that could be read, in order, with their places. Complete only if the reading is sound.
    pub statements: Vec<(Statement, Span)>,
    /// Errors and warnings in the order of their places.
    pub diagnostics: Vec<Diagnostic>,
}

impl Reading {
    /// Are there no errors? (There may be warnings.)
    pub fn is_sound(&self) -> bool {
        !self.diagnostics.iter().any(Diagnostic::is_error)
    }

    /// The statements, if there are no errors; otherwise all diagnostics.
    pub fn into_result(self) -> Result<Vec<Statement>, Vec<Diagnostic>> {
        if self.is_sound() {
            Ok(self.statements.into_iter().map(|(statement, _)| statement).collect())
        } else {
            Err(self.diagnostics)
        }
    }

    /// Puts the diagnostics in order, and keeps no more of them than anybody would read: errors before warnings.
    pub(super) fn sort(&mut self) {
        self.diagnostics.sort_by_key(|diagnostic| (diagnostic.span.start, diagnostic.severity != Severity::Error));
        self.diagnostics.dedup();
        let mut errors = self.diagnostics.iter().filter(|found| found.is_error()).count().min(MAX_DIAGNOSTICS);
        let mut warnings = MAX_DIAGNOSTICS - errors;
        self.diagnostics.retain(|found| {
            let room = if found.is_error() { &mut errors } else { &mut warnings };
            let kept = *room > 0;
            *room = room.saturating_sub(1);
            kept
        });
    }
}

/// Reads a rule file: an AWS document if its name ends with `.json`, otherwise a native file. A document without a
/// `ruleName` is called by the file's name.
pub fn read(file_name: &str, text: &str) -> Reading {
    let base = file_name.rsplit(['/', '\\']).next().unwrap_or(file_name);
    match base.rsplit_once('.') {
        Some((stem, extension)) if extension.eq_ignore_ascii_case("json") => super::read_document(stem, text),
        _ => read_file(text),
    }
}

/// The statements of a native rule file, checked; or all that is wrong with it.
pub fn parse_file(text: &str) -> Result<Vec<Statement>, Vec<Diagnostic>> {
    read_file(text).into_result()
}

/// Reads a native rule file.
pub fn read_file(text: &str) -> Reading {
    let (mut statements, mut diagnostics) = parse::statements(text);
    for (statement, span) in &mut statements {
        if let Statement::Rule(rule) = statement {
            let sound = !diagnostics.iter().any(|diagnostic| {
                diagnostic.is_error() && diagnostic.span.start >= span.start && diagnostic.span.start <= span.end
            });
            rule::finish(rule, sound, &mut diagnostics);
        }
    }
    check_names(&statements, &mut diagnostics);
    statements.iter().for_each(|(statement, span)| check_length(statement, *span, &mut diagnostics));
    let mut reading = Reading { statements, diagnostics };
    reading.sort();
    reading
}

/// What is kept of a statement is its canonical text, which may be longer than what was written (`a` is `a AS a`), and
/// which has to be readable after a restart.
pub(super) fn check_length(statement: &Statement, span: Span, out: &mut Vec<Diagnostic>) {
    let text = match statement {
        Statement::Table(table) => &table.text,
        Statement::Sink(sink) => &sink.text,
        Statement::Rule(rule) => &rule.text,
        Statement::Drop { .. } => return,
    };
    if text.len() > MAX_TEXT {
        let message = format!("the statement is longer than {MAX_TEXT} bytes when every name is written out");
        let head = Span { start: span.start, end: span.end.min(span.start + "CREATE".len()) };
        out.push(Diagnostic::error("too-long", head, message).help("split it into several"));
    }
}

/// One name, one thing: tables and sinks share their names, because INTO does not tell them apart.
fn check_names(statements: &[(Statement, Span)], out: &mut Vec<Diagnostic>) {
    let space = |kind: ObjectKind| if kind == ObjectKind::Rule { 1 } else { 0 };
    let mut seen: std::collections::HashMap<(u8, String), (ObjectKind, Span)> = std::collections::HashMap::new();
    for (statement, span) in statements {
        let (kind, name) = statement.object();
        let key = (space(kind), name.to_lowercase());
        if matches!(statement, Statement::Drop { .. }) {
            seen.remove(&key);
            continue;
        }
        let Some((earlier, earlier_span)) = seen.insert(key, (kind, *span)) else { continue };
        let message = match (earlier, kind) {
            (earlier, kind) if earlier == kind => format!("the {} {name} is created twice in this file", kind.word()),
            (earlier, kind) => {
                format!("{name} is a {} and a {}: INTO could not tell them apart", earlier.word(), kind.word())
            }
        };
        let head = |span: Span| Span { start: span.start, end: span.end.min(span.start + "CREATE".len()) };
        let diagnostic = Diagnostic::error("duplicate", head(*span), message);
        out.push(
            diagnostic
                .help("give one of them another name; upper and lower case do not count")
                .label(head(earlier_span), "the first one"),
        );
    }
}
