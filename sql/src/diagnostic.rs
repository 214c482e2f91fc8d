//! What is wrong with a text, said to the person who wrote it: a sentence, the place, and what to do.
//!
//! A diagnostic knows spans only; the file's name and text come in when it is shown. Three forms: drawn with the source
//! line and a caret (plain or coloured), one line for a log, and JSON for scripts and the console.

use ariadne::{CharSet, Config, IndexType, Label, Report, ReportKind, Source};
use serde::Serialize;

use crate::ast::Span;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Nothing is applied.
    Error,
    /// Applied, but probably not what was meant.
    Warning,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad.
    pub severity: Severity,
    /// A stable word for it, for scripts and the manual: `unknown-function`.
    pub code: &'static str,
    /// Where.
    pub span: Span,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
    /// Other places that explain it.
    pub labels: Vec<(Span, String)>,
}

impl Diagnostic {
    /// An error.
    pub fn error(code: &'static str, span: Span, message: impl Into<String>) -> Self {
        // What is missing at the end of something begins after blanks and ends before them.
        let span = Span { start: span.start.min(span.end), end: span.end };
        Self { severity: Severity::Error, code, span, message: message.into(), help: None, labels: Vec::new() }
    }

    /// A warning.
    pub fn warning(code: &'static str, span: Span, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, span, message) }
    }

    /// With advice.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// With advice, if there is some.
    #[must_use]
    pub fn maybe_help(mut self, help: Option<String>) -> Self {
        self.help = help.or(self.help);
        self
    }

    /// With another place.
    #[must_use]
    pub fn label(mut self, span: Span, text: impl Into<String>) -> Self {
        self.labels.push((span, text.into()));
        self
    }

    /// Is it an error?
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// The same, with every span translated: for a text that was cut out of another one.
    #[must_use]
    pub fn mapped(mut self, map: impl Fn(Span) -> Span) -> Self {
        self.span = map(self.span);
        for (span, _) in &mut self.labels {
            *span = map(*span);
        }
        self
    }

    /// `file:line:column: error: message (help)`, for a log.
    pub fn one_line(&self, file: &str, text: &str) -> String {
        let at = position(text, self.span.start);
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let help = self.help.as_ref().map(|help| format!(" ({help})")).unwrap_or_default();
        format!("{file}:{}:{}: {severity}: {}{help}", at.line, at.column, self.message)
    }

    /// The form for scripts.
    pub fn to_json(&self, file: &str, text: &str) -> DiagnosticJson {
        let label = |(span, label): &(Span, String)| LabelJson {
            start: position(text, span.start),
            end: position(text, span.end),
            message: label.clone(),
        };
        DiagnosticJson {
            file: file.to_owned(),
            start: position(text, self.span.start),
            end: position(text, self.span.end),
            severity: self.severity,
            code: self.code,
            message: self.message.clone(),
            help: self.help.clone(),
            labels: self.labels.iter().map(label).collect(),
        }
    }
}

/// A diagnostic as JSON. The shape is described in `docs/diagnostics.md`; editors rely on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DiagnosticJson {
    /// The file.
    pub file: String,
    /// Where it starts: `line` and `column`.
    #[serde(flatten)]
    pub start: Position,
    /// One past its end.
    pub end: Position,
    /// `error` or `warning`.
    pub severity: Severity,
    /// The stable word.
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// Other places.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<LabelJson>,
}

/// Another place of a diagnostic as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LabelJson {
    /// Where it starts: `line` and `column`.
    #[serde(flatten)]
    pub start: Position,
    /// One past its end.
    pub end: Position,
    /// What is there.
    pub message: String,
}

/// A place as people count: from 1, columns in characters. Lines end with a line feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Position {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

/// The position of a byte; beyond the end, the end.
pub fn position(text: &str, byte: usize) -> Position {
    let mut byte = byte.min(text.len());
    while !text.is_char_boundary(byte) {
        byte -= 1;
    }
    let before = text.get(..byte).unwrap_or_default();
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    Position {
        line: before.bytes().filter(|&b| b == b'\n').count() + 1,
        column: before.get(line_start..).unwrap_or_default().chars().count() + 1,
    }
}

/// Whether output may hold colour codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Text only.
    Plain,
    /// With terminal colours.
    Coloured,
}

/// Draws the diagnostics over the text, in the order of their places: file, line, column, source line, caret, help.
pub fn render(diagnostics: &[Diagnostic], file: &str, text: &str, style: Style) -> String {
    // The drawing library has its own idea of line ends (U+2028 and friends); with these flattened both count alike.
    // Each replacement has as many bytes as it replaces, so that spans stay true.
    let text: String = text
        .chars()
        .map(|c| match c {
            '\r' | '\u{b}' | '\u{c}' => ' ',
            '\u{85}' => '\u{a0}',
            '\u{2028}' | '\u{2029}' => '\u{2003}',
            other => other,
        })
        .collect();
    let mut sorted: Vec<&Diagnostic> = diagnostics.iter().collect();
    sorted.sort_by_key(|diagnostic| diagnostic.span.start);
    let mut out = Vec::new();
    let mut source = (file, Source::from(text.as_str()));
    for diagnostic in sorted {
        let spans = std::iter::once(diagnostic.span).chain(diagnostic.labels.iter().map(|(span, _)| *span));
        if spans.map(|span| line_length(&text, span.start)).max() > Some(MAX_DRAWN_LINE) {
            out.extend_from_slice(diagnostic.one_line(file, &text).as_bytes());
            out.push(b'\n');
            continue;
        }
        let (kind, colour) = match diagnostic.severity {
            Severity::Error => (ReportKind::Error, ariadne::Color::Red),
            Severity::Warning => (ReportKind::Warning, ariadne::Color::Yellow),
        };
        let range = drawable(&text, diagnostic.span);
        let config = Config::default()
            .with_color(style == Style::Coloured)
            .with_char_set(CharSet::Ascii)
            .with_index_type(IndexType::Byte);
        let mut report = Report::build(kind, (file, range.clone()))
            .with_config(config)
            .with_code(diagnostic.code)
            .with_message(&diagnostic.message)
            .with_label(Label::new((file, range)).with_message("here").with_color(colour));
        for (span, label) in &diagnostic.labels {
            report = report.with_label(Label::new((file, drawable(&text, *span))).with_message(label));
        }
        if let Some(help) = &diagnostic.help {
            report = report.with_help(help);
        }
        // Writing into memory does not fail; if drawing ever does, the one-line form is still true.
        if report.finish().write(&mut source, &mut out).is_err() {
            out.extend_from_slice(diagnostic.one_line(file, &text).as_bytes());
            out.push(b'\n');
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Longer lines, in bytes, are not drawn.
const MAX_DRAWN_LINE: usize = 4_000;

/// The length of the line that holds the byte.
fn line_length(text: &str, at: usize) -> usize {
    let bytes = text.as_bytes();
    let at = at.min(bytes.len());
    let before = bytes.get(..at).unwrap_or_default().iter().rev().take_while(|&&byte| byte != b'\n').count();
    before + bytes.get(at..).unwrap_or_default().iter().take_while(|&&byte| byte != b'\n').count()
}

/// A range that lies in the text, on character boundaries, at least one character long where there is one.
fn drawable(text: &str, span: Span) -> std::ops::Range<usize> {
    let floor = |mut at: usize| {
        at = at.min(text.len());
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        at
    };
    let start = floor(span.start);
    let end = floor(span.end).max(start);
    if end > start {
        return start..end;
    }
    let next = text.get(start..).and_then(|rest| rest.chars().next()).map_or(0, char::len_utf8);
    start..start + next
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters() {
        let text = "SELECT 'é',\n  ä€😀x";
        assert_eq!(position(text, 0), Position { line: 1, column: 1 });
        let x = text.find('x').unwrap();
        assert_eq!(position(text, x), Position { line: 2, column: 6 });
        assert_eq!(position(text, 999), Position { line: 2, column: 7 });
    }

    #[test]
    fn drawing_shows_file_line_column_caret_and_help() {
        let text = "SELECT é\nFROM 'a/b' WHER x";
        let at = text.find("WHER").unwrap();
        let diagnostic =
            Diagnostic::error("syntax", Span { start: at, end: at + 4 }, "unexpected `WHER`").help("write WHERE");
        let plain = render(std::slice::from_ref(&diagnostic), "rules/x.sql", text, Style::Plain);
        assert!(plain.contains("rules/x.sql:2:12"), "{plain}");
        assert!(plain.contains("unexpected `WHER`"), "{plain}");
        assert!(plain.contains("FROM 'a/b' WHER x"), "{plain}");
        assert!(plain.contains("write WHERE"), "{plain}");
        assert!(!plain.contains('\u{1b}'), "{plain:?}");
        let coloured = render(std::slice::from_ref(&diagnostic), "rules/x.sql", text, Style::Coloured);
        assert!(coloured.contains('\u{1b}'));
        assert_eq!(diagnostic.one_line("x.sql", text), "x.sql:2:12: error: unexpected `WHER` (write WHERE)");
        let json = serde_json::to_value(diagnostic.to_json("x.sql", text)).unwrap();
        let expected = serde_json::json!({
            "file": "x.sql", "line": 2, "column": 12, "end": {"line": 2, "column": 16}, "severity": "error",
            "code": "syntax", "message": "unexpected `WHER`", "help": "write WHERE",
        });
        assert_eq!(json, expected);
    }

    #[test]
    fn spans_outside_the_text_do_no_harm() {
        for span in [Span { start: 5, end: 2 }, Span { start: 90, end: 99 }, Span { start: 1, end: 2 }] {
            let drawn = render(&[Diagnostic::error("x", span, "m")], "f", "é\r\n\u{2028}é", Style::Plain);
            assert!(drawn.contains("f:"), "{drawn}");
        }
        assert!(render(&[Diagnostic::error("x", Span::default(), "m")], "f", "", Style::Plain).contains('m'));
    }
}
