//! A rule with AFTER as three ordinary ones, its faces, so that all that makes rules fast serves it, too: which messages
//! disarm which key, which arm it and for how long, and the rows. The absence operator of the engine puts them together
//! again, message by message.

use std::sync::Arc;

use ahash::AHashSet;

use super::RuleRows;
use super::calling::asks;
use crate::ast::{Absence, Dialect, Expr, ExprKind, Item, Items, Select, Span};
use crate::parse::parse_expr;
use crate::rule::Rule;
use crate::value::Value;

/// Which part of a rule some rows are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Face {
    /// The rows of SELECT. Of a rule with AFTER: those to be kept until the deadline.
    #[default]
    Rows,
    /// For each message for which UNLESS holds: the key values.
    Disarm,
    /// For each message for which WHERE holds: the key values, then AFTER, if it is an expression.
    Arm,
    /// For each `connected` and `disconnected` of the stream `presence`: the key values, then versionNumber, whether it
    /// is a connect, and timestamp.
    Order,
}

/// Which rule each of a program's rules is a face of.
#[derive(Debug, Default)]
pub(super) struct Faces {
    faces: Vec<(usize, Face)>,
    /// The rules with AFTER.
    watching: Vec<usize>,
}

impl Faces {
    /// Takes rules with AFTER apart.
    pub fn of(rules: &[Arc<Rule>]) -> (Self, Vec<Arc<Rule>>) {
        let (mut faces, mut expanded) = (Self::default(), Vec::with_capacity(rules.len()));
        for (number, rule) in rules.iter().enumerate() {
            match apart(rule) {
                None => {
                    faces.faces.push((number, Face::Rows));
                    expanded.push(Arc::clone(rule));
                }
                Some(parts) => {
                    faces.watching.push(number);
                    faces.faces.extend(parts.iter().map(|(face, _)| (number, *face)));
                    expanded.extend(parts.into_iter().map(|(_, rule)| rule));
                }
            }
        }
        (faces, expanded)
    }

    /// The rule of a face.
    pub fn rule(&self, number: usize) -> usize {
        self.faces.get(number).map_or(number, |(rule, _)| *rule)
    }

    /// Says of rows which rule and face they are, and tells each mistake of a message once, though several faces of its
    /// rule find it.
    pub fn name(&self, all: &mut [RuleRows]) {
        if self.watching.is_empty() {
            return;
        }
        let mut told: AHashSet<(usize, u32, String)> = AHashSet::new();
        for rows in all {
            (rows.rule, rows.face) = self.faces.get(rows.rule).copied().unwrap_or((rows.rule, rows.face));
            if self.watching.contains(&rows.rule) {
                let rule = rows.rule;
                rows.rejects.retain(|reject| told.insert((rule, reject.message, reject.reason.clone())));
            }
        }
    }
}

/// The faces of a rule with AFTER.
fn apart(rule: &Arc<Rule>) -> Option<Vec<(Face, Arc<Rule>)>> {
    let absence = rule.select.absence.as_deref()?;
    if rule.asks() {
        return Some(faces_of_later(rule, absence));
    }
    let rows = Select { absence: None, ..rule.select.clone() };
    let disarm = face(&rule.select, absence, Vec::new(), Some(absence.unless.clone()));
    let mut faces = vec![(Face::Rows, rows), (Face::Disarm, disarm), (Face::Arm, arm(&rule.select, absence))];
    faces.extend(order(&rule.select, absence));
    let faces = faces.into_iter().map(|(face, select)| {
        let actions = if face == Face::Rows { rule.actions.clone() } else { Vec::new() };
        (face, Arc::new(Rule { select, actions, ..Rule::clone(rule) }))
    });
    Some(faces.collect())
}

/// The faces of a rule that looks up tables at the deadline: its rows are not made before, so there is no face of them, and
/// variables that are looked up are nobody's business yet.
fn faces_of_later(rule: &Arc<Rule>, absence: &Absence) -> Vec<(Face, Arc<Rule>)> {
    let mut select = rule.select.clone();
    select.set.retain(|(_, expr)| !asks(expr));
    let without = Rule { select, actions: Vec::new(), ..Rule::clone(rule) };
    let mut faces = vec![
        (Face::Disarm, face(&without.select, absence, Vec::new(), Some(absence.unless.clone()))),
        (Face::Arm, arm(&without.select, absence)),
    ];
    faces.extend(order(&without.select, absence));
    let rule_of = |(face, select)| (face, Arc::new(Rule { select, ..without.clone() }));
    faces.into_iter().map(rule_of).collect()
}

fn arm(select: &Select, absence: &Absence) -> Select {
    face(select, absence, absence.after.expr().cloned().into_iter().collect(), select.filter.clone())
}

/// The face that puts presence events in order, if the rule reads them.
fn order(select: &Select, absence: &Absence) -> Option<(Face, Select)> {
    let order = ["versionNumber", "eventType = 'connected'", "\"timestamp\""].into_iter().map(native).collect();
    let filter = native("eventType IN ('connected', 'disconnected')");
    select.presence.then(|| (Face::Order, face(select, absence, order, Some(filter))))
}

/// Keys and more of the messages that pass a filter.
fn face(select: &Select, absence: &Absence, more: Vec<Expr>, filter: Option<Expr>) -> Select {
    let exprs = absence.keys.iter().cloned().chain(more);
    let items = exprs.enumerate().map(|(number, expr)| Item { expr, alias: Some(vec![format!("k{number}").into()]) });
    Select { items: Items::List(items.collect()), filter, absence: None, ..select.clone() }
}

/// An expression of our own; a text that cannot be read would be a mistake here, and is Undefined.
fn native(text: &str) -> Expr {
    let undefined = Expr { kind: ExprKind::Literal(Value::Undefined), span: Span::default() };
    parse_expr(text, Dialect::Native).unwrap_or(undefined)
}
