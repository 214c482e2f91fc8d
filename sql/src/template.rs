//! Texts with `${expr}` parts: what can be said about them without a message.

use std::sync::Arc;

use crate::ast::{Expr, Span, Template, TemplatePart};

impl Template {
    /// A template without expressions.
    pub fn constant(text: impl Into<Arc<str>>) -> Self {
        let text = text.into();
        Self { parts: if text.is_empty() { Vec::new() } else { vec![TemplatePart::Text(text)] } }
    }

    /// Its text, if it has no expressions: the same for every message.
    pub fn as_constant(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [] => Some(""),
            [TemplatePart::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// Its expressions in order.
    pub fn exprs(&self) -> impl Iterator<Item = &Expr> {
        self.parts.iter().filter_map(|part| match part {
            TemplatePart::Expr(expr) => Some(expr),
            TemplatePart::Text(_) => None,
        })
    }

    /// The same, to change them.
    pub fn exprs_mut(&mut self) -> impl Iterator<Item = &mut Expr> {
        self.parts.iter_mut().filter_map(|part| match part {
            TemplatePart::Expr(expr) => Some(expr),
            TemplatePart::Text(_) => None,
        })
    }

    /// Translates every span: for a template that stands inside a larger text.
    pub fn map_spans(&mut self, map: &dyn Fn(Span) -> Span) {
        self.exprs_mut().for_each(|expr| expr.map_spans(map));
    }
}
