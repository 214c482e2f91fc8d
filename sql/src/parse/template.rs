//! Texts with `${expr}` parts.

use std::sync::Arc;

use crate::ast::{Dialect, Span, Template, TemplatePart};
use crate::diagnostic::Diagnostic;

use super::parser::Parser;

/// Reads a template. The closing `}` is found by reading the expression. Spans are those of the template's text.
/// `variables`: those of the rule's SET; `None` does not check them.
pub(crate) fn parse(
    text: &str,
    dialect: Dialect,
    variables: Option<&[Arc<str>]>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Template {
    let mut parts = Vec::new();
    let mut literal_start = 0;
    let mut from = 0;
    while let Some(found) = text.get(from..).and_then(|rest| rest.find("${")) {
        let open = from + found;
        if literal_start < open {
            parts.push(TemplatePart::Text(Arc::from(text.get(literal_start..open).unwrap_or_default())));
        }
        let mut parser = Parser::starting_at(text, dialect, open + 2);
        parser.variables = variables.map(<[_]>::to_vec);
        let expr = if parser.at_sign("}") {
            let span = Span { start: open, end: open + 3 };
            parser.report(Diagnostic::error("template", span, "`${}` holds no expression"));
            None
        } else {
            parser.expr().ok()
        };
        let closed = parser.at_sign("}");
        if expr.is_some() && !closed {
            parser.unexpected("`}`");
            if let Some(last) = parser.diagnostics.last_mut() {
                last.labels.push((Span { start: open, end: open + 2 }, "opened here".into()));
            }
        }
        if !closed {
            parser.skip_until(|_, token| token.kind == super::lexer::Kind::Sign("}"));
        }
        let end = parser.advance().span.end;
        let room = super::MAX_DIAGNOSTICS.saturating_sub(diagnostics.len());
        diagnostics.extend(parser.diagnostics.into_iter().take(room));
        if let Some(expr) = expr {
            parts.push(TemplatePart::Expr(expr));
        }
        from = end.max(open + 2);
        literal_start = from;
        if room == 0 {
            break;
        }
    }
    if let Some(rest) = text.get(literal_start..).filter(|rest| !rest.is_empty()) {
        parts.push(TemplatePart::Text(Arc::from(rest)));
    }
    Template { parts }
}
