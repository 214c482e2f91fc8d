//! A rule, message by message, through the scalar evaluator: what the rows must be.

use std::collections::HashSet;
use std::sync::Arc;

use super::calling::Asking;
use super::paths::{exprs, visit_paths};
use super::payloads::Payloads;
use super::rows::{Original, columns_of};
use super::{Body, Face, Reject, Rows, RuleRows, paths};
use crate::ast::{ExprKind, Items};
use crate::eval::{self, Failure, Scope};
use crate::json;
use crate::message::Message;
use crate::rule::{Rule, Target};
use crate::value::{Object, Value};

/// What a row is.
#[derive(Debug)]
enum Row {
    /// The SELECT list; for windowed rules, keys and arguments. And whether it has `*` of a payload that is no object.
    Members(Object, bool),
    /// The payload itself, an object that goes into columns.
    Columns(Object),
    /// Bytes.
    Raw(Vec<u8>),
}

/// A rule and what is known of it.
#[derive(Debug)]
pub struct Reference {
    rule: Arc<Rule>,
    paths: Vec<Vec<Arc<str>>>,
    needs_payload: bool,
    /// `SELECT *` alone, and rows go where columns are wanted.
    star_columns: bool,
    /// `SELECT *, …`.
    star_and_names: bool,
}

impl Reference {
    /// Looks at a rule.
    pub fn new(rule: Arc<Rule>) -> Self {
        let mut found: Vec<Vec<Arc<str>>> = Vec::new();
        let mut known = HashSet::new();
        let all = exprs(&rule);
        for expr in &all {
            visit_paths(expr, &mut |path| {
                if known.insert(path.clone()) {
                    found.push(path);
                }
            });
        }
        let star_columns = rule.windowed.is_none() && is_star(&rule.select.items) && wants_columns(&rule);
        let star = !is_star(&rule.select.items)
            && all.iter().any(|expr| paths::any(expr, &|part| part.kind == ExprKind::Star));
        let needs_payload = !found.is_empty() || star_columns || star;
        let star_and_names = rule.windowed.is_none() && star_and_names(&rule.select.items).is_some();
        Self { rule, paths: found, needs_payload, star_columns, star_and_names }
    }

    /// Whether it looks at payloads.
    pub(super) fn needs_payload(&self) -> bool {
        self.needs_payload
    }

    /// The paths that it reads, as written.
    pub(super) fn paths(&self) -> &[Vec<Arc<str>>] {
        &self.paths
    }

    /// The rule's rows for a batch. `told` are the messages whose payloads have been reported as no JSON; `undefined`
    /// counts, for each path, the messages in which it is Undefined.
    pub(super) fn evaluate(
        &self,
        index: usize,
        messages: &[Message<'_>],
        told: &mut [bool],
        undefined: &mut [u64],
        out: &mut Vec<RuleRows>,
    ) {
        self.evaluate_asking(index, messages, &[], told, undefined, out);
    }

    /// The same, with answers of other systems. Messages for which something has to be asked are passed over.
    pub(super) fn evaluate_asking(
        &self,
        index: usize,
        messages: &[Message<'_>],
        asking: &[Asking<'_>],
        told: &mut [bool],
        undefined: &mut [u64],
        out: &mut Vec<RuleRows>,
    ) {
        let mut kept: Vec<(u32, Row, Vec<Option<String>>)> = Vec::new();
        let mut rejects = Vec::new();
        for (number, (message, told)) in messages.iter().zip(told).enumerate() {
            let externals = asking.get(number);
            let number = number as u32;
            let rejected = rejects.len();
            let mut reject = |reason: String, function| rejects.push(Reject { message: number, reason, function });
            let mut scope = Scope::new(message, self.rule.dialect);
            if let Some(externals) = externals {
                scope = scope.with_externals(externals);
            }
            if self.needs_payload {
                let payload = json::parse(message.payload, self.rule.dialect);
                if let Err(error) = &payload
                    && !message.payload.is_empty()
                    && !std::mem::replace(told, true)
                {
                    reject(format!("payload is not JSON: {error}"), None);
                }
                self.count_undefined(payload.as_ref().ok(), undefined);
                scope = scope.with_payload(payload);
            }
            let row = match self.row(&mut scope, message) {
                Ok(row) => row.map(|row| (number, row, self.templates(&scope, &mut reject))),
                Err(failure) => {
                    reject(failure.to_string(), failure.function());
                    None
                }
            };
            if externals.is_some_and(Asking::is_waiting) {
                // It comes again, from the beginning.
                rejects.truncate(rejected);
                continue;
            }
            kept.extend(row);
        }
        self.collect(index, messages, kept, rejects, out);
    }

    fn count_undefined(&self, payload: Option<&Value>, undefined: &mut [u64]) {
        for (path, count) in self.paths.iter().zip(undefined) {
            let start = payload.cloned().unwrap_or_default();
            let value = path.iter().fold(start, |value, name| value.member(name));
            *count += u64::from(value.is_undefined());
        }
    }

    fn row(&self, scope: &mut Scope<'_>, message: &Message<'_>) -> Result<Option<Row>, Failure> {
        let select = &self.rule.select;
        let Some(windowed) = &self.rule.windowed else {
            let Some(body) = eval::run(select, scope)? else { return Ok(None) };
            return Ok(Some(match body {
                eval::Body::Members(object) => {
                    let kept = self.star_and_names && !message.payload.is_empty();
                    Row::Members(object, kept && !matches!(scope.payload(), Value::Object(_)))
                }
                eval::Body::Payload => match scope_object(scope, self.star_columns) {
                    Some(object) => Row::Columns(object),
                    None => Row::Raw(message.payload.to_vec()),
                },
                value @ eval::Body::Value(_) => Row::Raw(value.to_bytes(message)?),
            }));
        };
        eval::bind(&select.set, scope)?;
        if !eval::matches(select.filter.as_ref(), scope)? {
            return Ok(None);
        }
        let mut members = Object::new();
        for (number, key) in windowed.keys.iter().enumerate() {
            members.insert(format!("k{number}").into(), eval::evaluate(key, scope));
        }
        for (number, aggregate) in windowed.aggregates.iter().enumerate() {
            let argument = aggregate.argument.as_ref();
            let value = argument.map_or(Value::Bool(true), |argument| eval::evaluate(argument, scope));
            members.insert(format!("a{number}").into(), value);
        }
        match scope.take_failure() {
            Some(failure) => Err(failure),
            None => Ok(Some(Row::Members(members, false))),
        }
    }

    fn templates(&self, scope: &Scope<'_>, reject: &mut impl FnMut(String, Option<Arc<str>>)) -> Vec<Option<String>> {
        if self.rule.windowed.is_some() {
            return Vec::new();
        }
        let mut failed = |failure: &Failure| reject(failure.to_string(), failure.function());
        let text = |template| eval::template(template, scope).inspect_err(&mut failed).ok();
        self.rule.templates().into_iter().map(text).collect()
    }

    fn collect(
        &self,
        index: usize,
        messages: &[Message<'_>],
        kept: Vec<(u32, Row, Vec<Option<String>>)>,
        rejects: Vec<Reject>,
        out: &mut Vec<RuleRows>,
    ) {
        let templates = if self.rule.windowed.is_some() { 0 } else { self.rule.templates().len() };
        let mut objects = Part::new(templates);
        let mut raw = Part::new(templates);
        let mut bytes_kept = Vec::new();
        for (message, row, templates) in kept {
            match row {
                Row::Members(object, kept) => {
                    objects.push(message, object, templates);
                    bytes_kept.push(kept);
                }
                Row::Columns(object) => objects.push(message, object, templates),
                Row::Raw(bytes) => raw.push(message, bytes.into(), templates),
            }
        }
        let original = match star_and_names(&self.rule.select.items) {
            _ if self.star_columns => Original::Payload(Payloads::copy(messages, &objects.messages)),
            Some(names) if self.star_and_names => {
                Original::spliced(Payloads::copy(messages, &objects.messages), names, bytes_kept)
            }
            _ => Original::None,
        };
        let mut emit = |rows: Rows, rejects: Vec<Reject>| {
            if !rows.is_empty() || !rejects.is_empty() {
                out.push(RuleRows { rule: index, face: Face::Rows, rows, rejects });
            }
        };
        let mut columns = columns_of(&objects.rows);
        if let Some(windowed) = &self.rule.windowed {
            in_order(&mut columns, windowed.keys.len(), windowed.aggregates.len(), objects.rows.len());
        }
        let dialect = self.rule.dialect;
        let texts = |of: Vec<Vec<Option<String>>>| of.into_iter().map(|texts| texts.into_iter().collect()).collect();
        let body = Body::Members(columns);
        emit(Rows::new(objects.messages, body, dialect, original, texts(objects.templates)), rejects);
        let original = Original::Bytes(raw.rows);
        emit(Rows::new(raw.messages, Body::Raw, dialect, original, texts(raw.templates)), Vec::new());
    }
}

/// Rows of one kind.
struct Part<T> {
    messages: Vec<u32>,
    rows: Vec<T>,
    templates: Vec<Vec<Option<String>>>,
}

impl<T> Part<T> {
    fn new(templates: usize) -> Self {
        Self { messages: Vec::new(), rows: Vec::new(), templates: vec![Vec::new(); templates] }
    }

    fn push(&mut self, message: u32, row: T, templates: Vec<Option<String>>) {
        self.messages.push(message);
        self.rows.push(row);
        for (column, text) in self.templates.iter_mut().zip(templates) {
            column.push(text);
        }
    }
}

/// Keys, then arguments, each a column even if all its rows are Undefined.
fn in_order(columns: &mut Vec<(Arc<str>, crate::column::Column)>, keys: usize, arguments: usize, rows: usize) {
    let names = (0..keys).map(|k| format!("k{k}")).chain((0..arguments).map(|a| format!("a{a}")));
    let ordered = names.map(|name| {
        let known = columns.iter().position(|(column, _)| **column == *name);
        let missing = || (name.as_str().into(), crate::column::Column::dynamic(vec![Value::Undefined; rows]));
        known.map_or_else(missing, |known| columns.swap_remove(known))
    });
    let ordered = ordered.collect();
    *columns = ordered;
}

fn scope_object(scope: &Scope<'_>, wanted: bool) -> Option<Object> {
    match scope.payload() {
        Value::Object(object) if wanted => Some((*object).clone()),
        _ => None,
    }
}

/// `SELECT *` or `SELECT VALUE *`.
pub(super) fn is_star(items: &Items) -> bool {
    match items {
        Items::Value(expr) => expr.kind == ExprKind::Star,
        Items::List(items) => matches!(items.as_slice(), [only] if only.alias.is_none()),
    }
}

/// For a list with a bare `*` besides other items that have simple names: those names. The text of such rows is the
/// payload's with the items added.
pub(super) fn star_and_names(items: &Items) -> Option<Vec<Arc<str>>> {
    let Items::List(items) = items else { return None };
    let [first, rest @ ..] = items.as_slice() else { return None };
    if first.alias.is_some() || rest.is_empty() {
        return None;
    }
    let name = |alias: &Option<Vec<Arc<str>>>| match alias.as_deref() {
        Some([name]) => Some(Arc::clone(name)),
        _ => None,
    };
    rest.iter().map(|item| name(&item.alias)).collect()
}

/// Whether a rule's rows go to a table or sink, by columns.
pub(super) fn wants_columns(rule: &Rule) -> bool {
    rule.actions.iter().any(|action| matches!(action.target, Target::Named(_)))
}
