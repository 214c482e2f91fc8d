//! Expressions, form by form.

use std::sync::Arc;

use super::scope::Scope;
use super::statement::{select_list, truth};
use super::{cast, like, operators};
use crate::ast::{BinaryOp, Dialect, Expr, ExprKind, Items, Subquery, UnaryOp};
use crate::functions;
use crate::value::{Object, Value};

/// The value of an expression for a message. Failures are noted in the scope.
pub fn evaluate(expr: &Expr, scope: &Scope<'_>) -> Value {
    Frame { scope, element: None }.evaluate(expr)
}

/// Where names resolve: in the payload, or in the element of the innermost nested query.
#[derive(Clone, Copy)]
pub struct Frame<'f, 'a> {
    /// The rule's scope.
    pub scope: &'f Scope<'a>,
    element: Option<Element<'f>>,
}

/// The element a nested query looks at, and the query's name for it.
#[derive(Clone, Copy)]
struct Element<'f> {
    value: &'f Value,
    alias: Option<&'f str>,
}

impl<'f, 'a> Frame<'f, 'a> {
    /// The frame outside of nested queries.
    pub(crate) fn top(scope: &'f Scope<'a>) -> Frame<'f, 'a> {
        Frame { scope, element: None }
    }

    /// True outside of nested queries, where `*` is the payload.
    pub(crate) fn is_top(&self) -> bool {
        self.element.is_none()
    }

    /// `*`.
    pub(crate) fn star(&self) -> Value {
        self.element.map_or_else(|| self.scope.payload(), |element| element.value.clone())
    }

    fn name(&self, name: &str) -> Value {
        match self.element {
            None => self.scope.payload_member(name),
            Some(element) if element.alias == Some(name) => element.value.clone(),
            Some(element) => element.value.member(name),
        }
    }

    /// The value of an expression here.
    pub fn evaluate(&self, expr: &Expr) -> Value {
        if !self.scope.charge(1) {
            return Value::Undefined;
        }
        match &expr.kind {
            ExprKind::Literal(value) => value.clone(),
            ExprKind::Star => self.star(),
            ExprKind::Name(name) => self.name(name),
            ExprKind::Variable(name) => self.scope.variable(name),
            ExprKind::Slot(index) => self.scope.slot(*index),
            _ => self.scope.nested(|| self.compound(expr)),
        }
    }

    /// The forms that have parts.
    fn compound(&self, expr: &Expr) -> Value {
        match &expr.kind {
            ExprKind::Member { of, name } => self.evaluate(of).member(name),
            ExprKind::Index { of, index } => {
                let of = self.evaluate(of);
                if self.scope.charge(of.text_weight()) {
                    functions::get(&of, &self.evaluate(index))
                } else {
                    Value::Undefined
                }
            }
            ExprKind::Unary { op: UnaryOp::Neg, operand } => operators::negate(&self.evaluate(operand)),
            ExprKind::Unary { op: UnaryOp::Not, operand } => {
                self.evaluate(operand).to_bool().map(|truth| !truth).into()
            }
            ExprKind::Binary { .. } => self.chain(expr),
            ExprKind::Call { function, args } => self.call(function, args),
            ExprKind::Cast { operand, to } => {
                let operand = self.evaluate(operand);
                if self.scope.charge(operand.weight()) {
                    cast::cast(&operand, *to, self.scope.dialect())
                } else {
                    Value::Undefined
                }
            }
            ExprKind::Case { operand, branches, otherwise } => {
                self.case(operand.as_deref(), branches, otherwise.as_deref())
            }
            ExprKind::Object(members) => self.object(members),
            ExprKind::Array(elements) => Value::array(elements.iter().map(|element| self.evaluate(element)).collect()),
            ExprKind::Subquery(query) => self.subquery(query),
            ExprKind::Exists(query) => Value::Bool(match self.subquery(query) {
                Value::Undefined => false,
                Value::Array(elements) => !elements.is_empty(),
                _ => true,
            }),
            _ => self.predicate(expr),
        }
    }

    /// The forms of native rules that test something.
    fn predicate(&self, expr: &Expr) -> Value {
        match &expr.kind {
            ExprKind::IsNull { operand, negated } => Value::Bool(self.evaluate(operand).is_missing() != *negated),
            ExprKind::IsDistinct { left, right, negated } => {
                let (left, right) = (self.evaluate(left), self.evaluate(right));
                let distinct = match (left.is_missing(), right.is_missing()) {
                    (false, false) => left.equals(&right) != Some(true),
                    (left_missing, right_missing) => left_missing != right_missing,
                };
                Value::Bool(distinct != *negated)
            }
            ExprKind::Like { value, pattern, negated } => {
                let (value, pattern) = (self.evaluate(value), self.evaluate(pattern));
                negate_if(*negated, like::like(&value, &pattern, self.scope))
            }
            ExprKind::InList { value, list, negated } => negate_if(*negated, self.in_list(value, list)),
            ExprKind::Between { value, low, high, negated } => {
                let value = self.evaluate(value);
                let above = operators::binary(BinaryOp::Ge, &value, &self.evaluate(low), Dialect::Native);
                let below = operators::binary(BinaryOp::Le, &value, &self.evaluate(high), Dialect::Native);
                let both = operators::binary(BinaryOp::And, &above, &below, Dialect::Native);
                negate_if(*negated, both.to_bool())
            }
            _ => Value::Undefined,
        }
    }

    /// `x IN (a, b)` as `x = a OR x = b`, three-valued.
    fn in_list(&self, value: &Expr, list: &[Expr]) -> Option<bool> {
        let value = self.evaluate(value);
        let mut unknown = false;
        for candidate in list {
            match value.equals(&self.evaluate(candidate)) {
                Some(true) => return Some(true),
                Some(false) => {}
                None => unknown = true,
            }
        }
        if unknown { None } else { Some(false) }
    }

    /// Infix operators. The left spine is walked in a loop, so that a long `a + b + c …` is no deeper than a short one.
    fn chain(&self, expr: &Expr) -> Value {
        let mut spine = Vec::new();
        let mut first = expr;
        while let ExprKind::Binary { op, left, right } = &first.kind {
            spine.push((*op, &**right));
            first = left;
        }
        let mut result = self.evaluate(first);
        while let Some((op, right)) = spine.pop() {
            let right = self.evaluate(right);
            if !self.scope.charge(1 + operators::cost(op, &result, &right)) {
                return Value::Undefined;
            }
            result = self.scope.made(operators::binary(op, &result, &right, self.scope.dialect()));
        }
        result
    }

    fn call(&self, function: &str, args: &[Expr]) -> Value {
        let Some(function) = functions::lookup(function) else { return Value::Undefined };
        if let Some(lazy) = function.lazy() {
            return if function.takes(args.len()) { self.scope.made(lazy(args, self)) } else { Value::Undefined };
        }
        let args: Vec<Value> = args.iter().map(|arg| self.evaluate(arg)).collect();
        let compiled = function.pattern(&args).is_none_or(|pattern| self.scope.charge_pattern(pattern));
        if !compiled || !self.scope.charge(function.cost(&args)) {
            return Value::Undefined;
        }
        self.scope.made(function.call(&args, self.scope))
    }

    /// The first branch that holds; its value alone is evaluated.
    fn case(&self, operand: Option<&Expr>, branches: &[(Expr, Expr)], otherwise: Option<&Expr>) -> Value {
        let operand = match operand.map(|operand| self.evaluate(operand)) {
            Some(Value::Undefined) => return Value::Undefined,
            operand => operand,
        };
        for (when, then) in branches {
            let hit = match (&operand, &when.kind) {
                // Thousands of branches are mostly compared with literals, which need not be copied for it.
                (Some(operand), ExprKind::Literal(value)) => {
                    self.scope.charge(1) && operand.equals(value) == Some(true)
                }
                (Some(operand), _) => operand.equals(&self.evaluate(when)) == Some(true),
                (None, _) => truth(&self.evaluate(when)),
            };
            if hit {
                return self.evaluate(then);
            }
        }
        otherwise.map_or(Value::Undefined, |otherwise| self.evaluate(otherwise))
    }

    fn object(&self, members: &[(Arc<str>, Expr)]) -> Value {
        let mut object = Object::new();
        for (name, expr) in members {
            object.insert(Arc::clone(name), self.evaluate(expr));
        }
        Value::object(object)
    }

    /// An array gives an array with one result for each element that passes, an object one result; else Undefined.
    fn subquery(&self, query: &Subquery) -> Value {
        match self.evaluate(&query.source) {
            Value::Array(elements) => {
                Value::array(elements.iter().map(|element| self.element(query, element)).collect())
            }
            object @ Value::Object(_) => self.element(query, &object),
            _ => Value::Undefined,
        }
    }

    /// What a nested query selects from one element; Undefined if the element does not pass.
    fn element(&self, query: &Subquery, value: &Value) -> Value {
        if !self.scope.charge(1) {
            return Value::Undefined;
        }
        let inner = Frame { scope: self.scope, element: Some(Element { value, alias: query.alias.as_deref() }) };
        if query.filter.as_ref().is_some_and(|filter| !truth(&inner.evaluate(filter))) {
            return Value::Undefined;
        }
        match &query.items {
            Items::Value(expr) => inner.evaluate(expr),
            Items::List(items) => match items.as_slice() {
                [only] if only.alias.is_none() => value.clone(),
                items => Value::object(select_list(items, &inner)),
            },
        }
    }
}

fn negate_if(negated: bool, truth: Option<bool>) -> Value {
    truth.map(|truth| truth != negated).into()
}
