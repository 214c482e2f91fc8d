//! Windowed rules taken apart: what is computed for each message (group keys, the arguments of aggregates), and what is
//! computed once for each window and key over their results (slots).
//!
//! Slots: the keys in the order of GROUP BY, then the aggregates in the order they appear, then `window_start` and
//! `window_end`. Equal aggregates share a slot. The templates of the rule's actions are over slots as well: a window
//! has no message of its own.

use std::sync::Arc;

use crate::ast::{Expr, ExprKind, Items, Span, Template};
use crate::diagnostic::Diagnostic;
use crate::functions::{self, Purity};
use crate::rule::{Action, Aggregate, Rule, Windowed};
use crate::value::Value;

use super::calls;

/// Stand in for the slots of the window's bounds until the number of aggregates is known.
const START: usize = usize::MAX - 1;
const END: usize = usize::MAX;

/// Fills in `rule.windowed`, or says what does not fit into a windowed rule.
pub(super) fn take_apart(rule: &mut Rule, out: &mut Vec<Diagnostic>) {
    let Some(window) = rule.select.window else { return };
    let Items::List(list) = &rule.select.items else {
        let span = rule.select.items.exprs().next().map_or_else(Span::default, |expr| expr.span);
        let help = "name the columns: SELECT topic(3) AS sensor, avg(temperature) AS mean";
        out.push(Diagnostic::error("window", span, "the rows of a window have named columns, not VALUE").help(help));
        return;
    };
    let aliases: Vec<(Arc<str>, &Expr)> = list
        .iter()
        .filter_map(|item| match item.alias.as_deref() {
            Some([name]) => Some((name.clone(), &item.expr)),
            _ => None,
        })
        .collect();
    let mut builder = Builder { keys: Vec::new(), aggregates: Vec::new(), aliases, out };
    let mut group_by = Vec::new();
    for key in &rule.select.group_by {
        let key = builder.key(key);
        if group_by.contains(&key) {
            builder.out.push(Diagnostic::warning("group-by", key.span, "this stands twice in GROUP BY"));
        } else {
            group_by.push(key);
        }
    }
    builder.keys = group_by;
    let mut items = Vec::new();
    for item in list {
        if matches!(item.expr.kind, ExprKind::Star) {
            let help = "select keys and aggregates: topic(3) AS sensor, count(*) AS n";
            let message = "a window has many messages, so `*` is no one payload";
            builder.out.push(Diagnostic::error("window", item.expr.span, message).help(help));
            continue;
        }
        let expr = builder.rewrite(&item.expr, false);
        items.push((item.alias.clone().unwrap_or_default(), expr));
    }
    let mut having = rule.select.having.as_ref().map(|having| builder.rewrite(having, true));
    let mut actions = rule.actions.clone();
    let templates = actions.iter_mut().flat_map(Action::templates_mut);
    templates.flat_map(Template::exprs_mut).for_each(|expr| *expr = builder.rewrite(expr, true));
    let Builder { keys, aggregates, .. } = builder;
    let bounds = keys.len() + aggregates.len();
    items.iter_mut().for_each(|(_, expr)| number_bounds(expr, bounds));
    having.iter_mut().for_each(|expr| number_bounds(expr, bounds));
    let templates = actions.iter_mut().flat_map(Action::templates_mut);
    templates.flat_map(Template::exprs_mut).for_each(|expr| number_bounds(expr, bounds));
    rule.actions = actions;
    rule.windowed = Some(Windowed { window, keys, aggregates, items, having });
}

fn number_bounds(expr: &mut Expr, bounds: usize) {
    match expr.kind {
        ExprKind::Slot(START) => expr.kind = ExprKind::Slot(bounds),
        ExprKind::Slot(END) => expr.kind = ExprKind::Slot(bounds + 1),
        _ => expr.for_each_child_mut(|child| number_bounds(child, bounds)),
    }
}

struct Builder<'a, 'b> {
    keys: Vec<Expr>,
    aggregates: Vec<Aggregate>,
    /// SELECT names of one segment, and what they stand for.
    aliases: Vec<(Arc<str>, &'a Expr)>,
    out: &'b mut Vec<Diagnostic>,
}

impl Builder<'_, '_> {
    /// The expression of a GROUP BY entry: a SELECT name stands for its expression.
    fn key(&mut self, key: &Expr) -> Expr {
        match &key.kind {
            ExprKind::Name(name) => {
                let aliased = self.aliases.iter().find(|(alias, _)| alias == name).map(|&(_, expr)| expr);
                match aliased {
                    Some(expr) if contains_aggregate(expr) => {
                        let message = format!("{name} is computed from the group, so it cannot be what to group by");
                        self.out.push(Diagnostic::error("group-by", key.span, message));
                        key.clone()
                    }
                    Some(expr) => expr.clone(),
                    None => key.clone(),
                }
            }
            ExprKind::Literal(Value::Int(_)) => {
                let message = "a number here is not the place of a SELECT item";
                let help = "write the expression, or the name given with AS";
                self.out.push(Diagnostic::error("group-by", key.span, message).help(help));
                key.clone()
            }
            ExprKind::Star => {
                self.out.push(Diagnostic::error("group-by", key.span, "`*` cannot be grouped by"));
                key.clone()
            }
            _ => {
                if per_call(key) {
                    let message = "this gives another value for each message, so every message is its own group";
                    self.out.push(Diagnostic::warning("group-by", key.span, message));
                }
                key.clone()
            }
        }
    }

    /// The expression over slots. `by_alias`: SELECT names may be used (HAVING and templates).
    fn rewrite(&mut self, expr: &Expr, by_alias: bool) -> Expr {
        let slot = |slot| Expr { kind: ExprKind::Slot(slot), span: expr.span };
        if let Some(key) = self.keys.iter().position(|key| key == expr) {
            return slot(key);
        }
        match &expr.kind {
            ExprKind::Name(name) if &**name == "window_start" => return slot(START),
            ExprKind::Name(name) if &**name == "window_end" => return slot(END),
            ExprKind::Name(name) if by_alias => {
                let aliased = self.aliases.iter().find(|(alias, _)| alias == name).map(|&(_, expr)| expr);
                if let Some(aliased) = aliased {
                    return self.rewrite(aliased, false);
                }
            }
            ExprKind::Call { function, args } => {
                if let Some(aggregate) = calls::aggregate(function) {
                    return slot(self.aggregate(expr, aggregate, args));
                }
            }
            _ => {}
        }
        if let Some(message) = self.differs(expr) {
            let help = match &expr.kind {
                ExprKind::Call { function, .. } if &**function == "timestamp" => {
                    "use window_start, window_end or max(timestamp())".to_owned()
                }
                _ => "put it into GROUP BY, or aggregate it: avg(…), min(…), max(…)".to_owned(),
            };
            self.out.push(Diagnostic::error("window", expr.span, message).help(help));
            return expr.clone();
        }
        let mut rewritten = expr.clone();
        rewritten.for_each_child_mut(|child| *child = self.rewrite(child, by_alias));
        rewritten
    }

    /// Why the expression, which is no key, has no one value in a window.
    fn differs(&self, expr: &Expr) -> Option<String> {
        match &expr.kind {
            ExprKind::Name(name) => Some(format!("`{name}` differs from message to message")),
            ExprKind::Member { .. } => {
                let mut root = expr;
                let mut names = Vec::new();
                while let ExprKind::Member { of, name } = &root.kind {
                    names.push(&**name);
                    root = of;
                }
                let ExprKind::Name(first) = &root.kind else { return None };
                if self.keys.iter().any(|key| key == root) || names.is_empty() {
                    return None;
                }
                // A shorter part of the path may be a key: then this is a member of the key.
                let mut part = expr;
                while let ExprKind::Member { of, .. } = &part.kind {
                    if self.keys.iter().any(|key| *key == **of) {
                        return None;
                    }
                    part = of;
                }
                names.push(first);
                names.reverse();
                Some(format!("`{}` differs from message to message", names.join(".")))
            }
            ExprKind::Variable(name) => Some(format!("`@{name}` differs from message to message")),
            ExprKind::Star => Some("`*`, the payload, differs from message to message".into()),
            ExprKind::Subquery(_) | ExprKind::Exists(_) => {
                Some("a nested query reads one message; in a window it stands inside an aggregate only".into())
            }
            ExprKind::Call { function, .. } => {
                let known = functions::lookup(function)?;
                match known.purity {
                    Purity::Pure => None,
                    Purity::Message if matches!(&**function, "accountid" | "sql_version") => None,
                    _ => Some(format!("{function}() differs from message to message")),
                }
            }
            _ => None,
        }
    }

    /// The slot of an aggregate, a new one or that of an equal one.
    fn aggregate(&mut self, expr: &Expr, function: crate::rule::AggregateFunction, args: &[Expr]) -> usize {
        let argument = args.first().filter(|arg| !matches!(arg.kind, ExprKind::Star)).cloned();
        if let Some(argument) = &argument {
            if contains_aggregate(argument) {
                let message = "an aggregate inside an aggregate";
                let help = "write the inner one as a rule of its own, and read its output topic or table";
                self.out.push(Diagnostic::error("aggregate", expr.span, message).help(help));
            } else if matches!(&argument.kind, ExprKind::Name(name) if matches!(&**name, "window_start" | "window_end"))
            {
                self.out.push(Diagnostic::error(
                    "aggregate",
                    expr.span,
                    "the bounds of the window cannot be aggregated",
                ));
            }
        }
        let aggregate = Aggregate { function, argument };
        let known = self.aggregates.iter().position(|known| *known == aggregate);
        let index = known.unwrap_or_else(|| {
            self.aggregates.push(aggregate);
            self.aggregates.len() - 1
        });
        self.keys.len() + index
    }
}

fn contains_aggregate(expr: &Expr) -> bool {
    let mut found = matches!(&expr.kind, ExprKind::Call { function, .. } if calls::aggregate(function).is_some());
    expr.for_each_child(|child| found |= contains_aggregate(child));
    found
}

fn per_call(expr: &Expr) -> bool {
    let mut found = match &expr.kind {
        ExprKind::Call { function, .. } => {
            functions::lookup(function).is_some_and(|function| function.purity == Purity::PerCall)
        }
        _ => false,
    };
    expr.for_each_child(|child| found |= per_call(child));
    found
}
