//! Why a query failed, in the analyst's terms: what, where in the text, and what to do.

use std::time::Duration;

use datafusion::common::{DataFusionError, Diagnostic, SchemaError};
use serde::{Deserialize, Serialize};

use crate::config::{ByteSize, Span};
use crate::nearest::nearest;

/// A place in the SQL text, both from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// From 1.
    pub line: u64,
    /// In characters, from 1.
    pub column: u64,
}

impl Position {
    /// None if the place is not known, which the parser writes as line 0.
    pub fn new(line: u64, column: u64) -> Option<Self> {
        (line > 0).then_some(Self { line, column })
    }
}

/// What kind of failure it is: whose turn it is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueryErrorKind {
    /// The text is wrong, or asks for something that is not allowed.
    Refused,
    /// It ran, and a value or a limit made it fail.
    Failed,
    /// It ran longer than `query.timeout`.
    TimedOut,
    /// The server is shutting down, or has too much to do.
    Unavailable,
}

/// Why a query failed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct QueryError {
    /// Whose turn it is.
    pub kind: QueryErrorKind,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
    /// Where in the text.
    pub position: Option<Position>,
}

impl QueryError {
    fn new(kind: QueryErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None, position: None }
    }

    pub(crate) fn refused(message: impl Into<String>) -> Self {
        Self::new(QueryErrorKind::Refused, message)
    }

    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::new(QueryErrorKind::Failed, message)
    }

    pub(crate) fn timed_out(limit: Duration) -> Self {
        Self::new(QueryErrorKind::TimedOut, format!("the query ran longer than {}", Span(limit)))
            .hint("narrow it (a WHERE on the key, on _time or on epoch, a LIMIT), or raise query.timeout in the config")
    }

    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        Self::new(QueryErrorKind::Unavailable, message)
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn at(mut self, position: Option<Position>) -> Self {
        self.position = position;
        self
    }

    /// From planning: the text is wrong.
    pub(crate) fn planning(error: &DataFusionError) -> Self {
        let root = error.find_root();
        let mut refused = Self::refused(first_line(&plain(root)));
        refused.position = error.diagnostic().and_then(span).or_else(|| parser_position(&refused.message));
        match root {
            DataFusionError::SchemaError(schema, _) => refused.schema(schema),
            DataFusionError::ResourcesExhausted(_) => Self { kind: QueryErrorKind::Failed, ..refused },
            // A relation that cannot be read now.
            DataFusionError::External(_) => Self { kind: QueryErrorKind::Unavailable, ..refused },
            _ => refused,
        }
    }

    fn schema(self, error: &SchemaError) -> Self {
        let SchemaError::FieldNotFound { field, valid_fields } = error else { return self };
        let known: Vec<&str> = valid_fields.iter().map(|column| column.name.as_str()).collect();
        let hint = match nearest(&field.name, known.iter().copied()) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => {
                let more = if known.len() > 20 { " …" } else { "" };
                format!("there are: {}{more}", known.iter().take(20).copied().collect::<Vec<_>>().join(", "))
            }
        };
        Self { message: format!("no column {}", field.quoted_flat_name().replace('"', "")), ..self }.hint(hint)
    }

    /// From running: a value or a limit.
    pub(crate) fn running(error: &DataFusionError, memory: u64) -> Self {
        let root = error.find_root();
        match root {
            DataFusionError::ResourcesExhausted(_) => {
                Self::failed(format!("the query needs more memory than there is for queries ({})", ByteSize(memory)))
                    .hint("select fewer columns or rows, group by fewer keys, or raise query.memory in the config")
            }
            _ => Self::failed(first_line(&plain(root))),
        }
    }
}

/// The text without the prefixes that DataFusion puts before it ("Error during planning: …").
fn plain(error: &DataFusionError) -> String {
    let text = error.message().into_owned();
    // The parser's errors come as Rust would write them: ParserError("Expected: …").
    let inner =
        ["ParserError(\"", "TokenizerError(\""].iter().find_map(|head| text.strip_prefix(head)?.strip_suffix("\")"));
    inner.map(|inner| inner.replace("\\\"", "\"").replace("\\\\", "\\")).unwrap_or(text)
}

/// DataFusion appends back traces and lists below the first line when they are switched on.
fn first_line(text: &str) -> String {
    text.split("\n\nbacktrace").next().unwrap_or(text).trim().to_owned()
}

fn span(diagnostic: &Diagnostic) -> Option<Position> {
    let start = diagnostic.span.as_ref()?.start;
    Position::new(start.line, start.column)
}

/// The parser writes its position into the message: `… at Line: 1, Column: 8`.
fn parser_position(message: &str) -> Option<Position> {
    let (_, rest) = message.rsplit_once("Line: ")?;
    let (line, rest) = rest.split_once(", Column: ")?;
    let column: String = rest.chars().take_while(char::is_ascii_digit).collect();
    Position::new(line.parse().ok()?, column.parse().ok()?)
}
