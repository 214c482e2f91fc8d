//! Text to tree. Every mistake of a text is found in one pass, each with its place, a sentence and a hint; no input
//! panics, overflows the stack or takes more than linear time.
//!
//! The parser knows the grammar and the rules that need nothing but the text (SET before use, topic filters, what a
//! version of the language offers). Which functions exist, where `*` and aggregates may stand and which tables there
//! are is the analyzer's business.

mod clause;
mod expr;
mod json;
mod json_reader;
mod lexer;
mod literal;
mod native;
mod parser;
mod primary;
mod print;
mod print_statement;
mod sink;
mod statement;
mod table;
mod template;

use crate::ast::{Dialect, Expr, Select, Template};
use crate::diagnostic::Diagnostic;

pub use crate::analyze::{parse_document, parse_file};

pub(crate) use json::{Json, JsonKind, Member};
pub(crate) use json_reader::read as read_json;
pub(crate) use literal::{Extract, interval as interval_us, interval_text};
pub(crate) use native::statements;
pub(crate) use parser::Parser;
pub use print::{print_expr, print_items, print_select, print_template};
pub use print_statement::print_statement;
pub use sink::{CREDENTIAL_WORDS, is_credential};
pub(crate) use statement::MAX_VARIABLES;

/// The longest text that is read, in bytes.
pub const MAX_TEXT: usize = 1 << 20;

/// How deep expressions may be nested in parentheses, calls, brackets.
pub const MAX_DEPTH: u32 = 128;

/// How tall a tree may grow, a chain of operators included: `a OR b OR c …` of this many terms.
pub const MAX_HEIGHT: u32 = 256;

/// After this many diagnostics the rest of the text is not read.
pub const MAX_DIAGNOSTICS: usize = 100;

/// Parses `[SET …] SELECT … [FROM …] [WHERE …]`, in native files also `GROUP BY` and `HAVING`.
pub fn parse_statement(text: &str, dialect: Dialect) -> Result<Select, Vec<Diagnostic>> {
    let mut parser = Parser::new(text, dialect);
    let select = parser.whole(Parser::select_statement);
    parser.outcome(select)
}

/// Parses one expression. Variables are not checked: nothing is known of a SET.
pub fn parse_expr(text: &str, dialect: Dialect) -> Result<Expr, Vec<Diagnostic>> {
    let mut parser = Parser::new(text, dialect);
    parser.variables = None;
    let expr = parser.whole(Parser::expr);
    parser.outcome(expr)
}

/// Parses a text with `${expr}` parts. The closing `}` is found by reading the expression, so that it may hold objects
/// and texts with braces. Variables are not checked.
pub fn parse_template(text: &str, dialect: Dialect) -> Result<Template, Vec<Diagnostic>> {
    let mut diagnostics = Vec::new();
    let template = template::parse(text, dialect, None, &mut diagnostics);
    if diagnostics.iter().any(Diagnostic::is_error) { Err(diagnostics) } else { Ok(template) }
}

pub(crate) use template::parse as template_parts;

/// A statement of the AWS dialect with its warnings; the tree is there even if mistakes were found.
pub(crate) fn select_with_diagnostics(text: &str, dialect: Dialect) -> (Option<Select>, Vec<Diagnostic>) {
    let mut parser = Parser::new(text, dialect);
    let select = parser.whole(Parser::select_statement);
    (select.ok(), parser.diagnostics)
}
