//! Expressions to terms: names, variables and calls are resolved once, when a rule is compiled.

use std::collections::HashMap;
use std::sync::Arc;

use super::calls;
use super::term::{Arithmetic, Comparison, Logic, Source, Term, Test, Why};
use crate::ast::{BinaryOp, Dialect, Expr, ExprKind, UnaryOp};
use crate::eval::{self, Pattern};
use crate::functions;
use crate::program::as_path;
use crate::shred::Paths;
use crate::value::Value;

/// Candidates of an IN list that become comparisons.
const MAX_LIST: usize = 32;
/// Nodes of a term with its SET variables put in.
const MAX_NODES: usize = 512;
/// Characters of a LIKE pattern.
const MAX_PATTERN: usize = 512;

/// Resolves expressions of one rule.
pub(crate) struct Resolver<'a> {
    dialect: Dialect,
    variables: HashMap<Arc<str>, &'a Expr>,
    paths: &'a mut Paths,
    sources: Vec<Source>,
    nodes: usize,
}

impl<'a> Resolver<'a> {
    pub(crate) fn new(dialect: Dialect, variables: HashMap<Arc<str>, &'a Expr>, paths: &'a mut Paths) -> Self {
        Self { dialect, variables, paths, sources: Vec::new(), nodes: 0 }
    }

    /// The term of an expression over sources, new or known, or why it has to be evaluated row by row.
    pub(crate) fn resolve(&mut self, expr: &Expr, sources: &mut Vec<Source>) -> Result<Term, Why> {
        self.nodes = 0;
        std::mem::swap(&mut self.sources, sources);
        let term = self.term(expr);
        std::mem::swap(&mut self.sources, sources);
        term
    }

    fn term(&mut self, expr: &Expr) -> Result<Term, Why> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err("the expression is too large".into());
        }
        if let Some(path) = as_path(expr) {
            let slot = self.slot(&path)?;
            return Ok(self.source(Source::Path(slot)));
        }
        match &expr.kind {
            ExprKind::Literal(value) => Ok(Term::Literal(value.clone())),
            ExprKind::Variable(name) => match self.variables.get(name) {
                Some(expr) => self.term(expr),
                None => Ok(Term::Literal(Value::Undefined)),
            },
            ExprKind::Unary { op: UnaryOp::Not, operand } => Ok(Term::Not(self.boxed(operand)?)),
            ExprKind::Unary { op: UnaryOp::Neg, operand } => Ok(match self.term(operand)? {
                Term::Literal(value) => Term::Literal(eval::negate(&value)),
                operand => Term::Negate(Box::new(operand)),
            }),
            ExprKind::Binary { op: BinaryOp::In, left, right } => self.in_array(left, right),
            ExprKind::Binary { op, left, right } => {
                let (left, right) = (self.term(left)?, self.term(right)?);
                self.binary(*op, left, right)
            }
            ExprKind::Call { function, args } => self.call(function, args),
            ExprKind::Cast { operand, to } => Ok(Term::Cast(*to, self.boxed(operand)?)),
            ExprKind::Case { operand, branches, otherwise } => {
                self.case(operand.as_deref(), branches, otherwise.as_deref())
            }
            ExprKind::Star => Err("the payload as a whole".into()),
            ExprKind::Member { .. } => Err("a member of something that is no path".into()),
            ExprKind::Index { .. } => Err("an element of an array".into()),
            ExprKind::Object(_) | ExprKind::Array(_) => Err("an object or array is made".into()),
            ExprKind::Subquery(_) | ExprKind::Exists(_) => Err("a nested query".into()),
            ExprKind::Name(_) | ExprKind::Slot(_) => Err("a name without a path".into()),
            _ => self.native(expr),
        }
    }

    /// The forms of native rules.
    fn native(&mut self, expr: &Expr) -> Result<Term, Why> {
        let (term, negated) = match &expr.kind {
            ExprKind::IsNull { operand, negated } => (self.test(Test::Missing, operand)?, *negated),
            ExprKind::IsDistinct { left, right, negated } => {
                (Term::Distinct(self.boxed(left)?, self.boxed(right)?), *negated)
            }
            ExprKind::Like { value, pattern, negated } => {
                let text = self.term(value)?;
                let Term::Literal(pattern) = self.term(pattern)? else {
                    return Err("LIKE with a pattern that is no literal".into());
                };
                match pattern.to_text() {
                    Some(pattern) if pattern.len() <= MAX_PATTERN => {
                        (Term::Like(Box::new(text), Arc::new(Pattern::new(&pattern))), *negated)
                    }
                    Some(_) => return Err("LIKE with a very long pattern".into()),
                    None => (Term::Literal(Value::Undefined), *negated),
                }
            }
            ExprKind::Between { value, low, high, negated } => {
                let above = (self.term(value)?, self.term(low)?);
                let below = (self.term(value)?, self.term(high)?);
                let above = self.binary(BinaryOp::Ge, above.0, above.1)?;
                let below = self.binary(BinaryOp::Le, below.0, below.1)?;
                (Term::Logic(Logic::And, Box::new(above), Box::new(below)), *negated)
            }
            ExprKind::InList { value, list, negated } => (self.any_of(value, list)?, *negated),
            _ => return Err("this form".into()),
        };
        Ok(if negated { Term::Not(Box::new(term)) } else { term })
    }

    /// `value = a OR value = b …`, three-valued.
    fn any_of(&mut self, value: &Expr, list: &[Expr]) -> Result<Term, Why> {
        if list.len() > MAX_LIST {
            return Err(format!("a list of more than {MAX_LIST} values").into());
        }
        let mut any: Option<Term> = None;
        for candidate in list {
            let (value, candidate) = (self.term(value)?, self.term(candidate)?);
            let equal = self.binary(BinaryOp::Eq, value, candidate)?;
            any = Some(match any {
                Some(any) => Term::Logic(Logic::Or, Box::new(any), Box::new(equal)),
                None => equal,
            });
        }
        Ok(any.unwrap_or(Term::Literal(Value::Bool(false))))
    }

    /// `value IN [literals]`: no candidate is Undefined, so it is Undefined only if the value is.
    fn in_array(&mut self, value: &Expr, array: &Expr) -> Result<Term, Why> {
        let ExprKind::Array(list) = &array.kind else { return Err("IN with an array that is no literal".into()) };
        let is_literal = |item: &Expr| matches!(&item.kind, ExprKind::Literal(value) if !value.is_undefined());
        if list.is_empty() || !list.iter().all(is_literal) {
            return Err("IN with an array that has no literals or others".into());
        }
        self.any_of(value, list)
    }

    fn case(
        &mut self,
        operand: Option<&Expr>,
        branches: &[(Expr, Expr)],
        otherwise: Option<&Expr>,
    ) -> Result<Term, Why> {
        let mut chosen = Vec::with_capacity(branches.len() + 1);
        if let Some(operand) = operand {
            let undefined = self.test(Test::Undefined, operand)?;
            chosen.push((undefined, Term::Literal(Value::Undefined)));
        }
        for (when, then) in branches {
            let condition = match operand {
                Some(operand) => {
                    let (operand, when) = (self.term(operand)?, self.term(when)?);
                    self.binary(BinaryOp::Eq, operand, when)?
                }
                None => self.term(when)?,
            };
            chosen.push((condition, self.term(then)?));
        }
        let otherwise = otherwise.map_or(Ok(Term::Literal(Value::Undefined)), |otherwise| self.term(otherwise))?;
        Ok(Term::Choose(chosen, Box::new(otherwise)))
    }

    fn binary(&self, op: BinaryOp, left: Term, right: Term) -> Result<Term, Why> {
        if let (Term::Literal(left), Term::Literal(right)) = (&left, &right) {
            return Ok(Term::Literal(eval::binary(op, left, right, self.dialect)));
        }
        let (left, right) = (Box::new(left), Box::new(right));
        let strict = self.dialect != Dialect::Native;
        Ok(match op {
            BinaryOp::Add => Term::Arithmetic(Arithmetic::Add, left, right),
            BinaryOp::Sub => Term::Arithmetic(Arithmetic::Sub, left, right),
            BinaryOp::Mul => Term::Arithmetic(Arithmetic::Mul, left, right),
            BinaryOp::Div => Term::Arithmetic(Arithmetic::Div, left, right),
            BinaryOp::Rem => Term::Arithmetic(Arithmetic::Rem, left, right),
            BinaryOp::Concat => match *left {
                Term::Join(mut parts) => {
                    parts.push(*right);
                    Term::Join(parts)
                }
                left => Term::Join(vec![left, *right]),
            },
            BinaryOp::Eq => Term::Compare(Comparison::Eq, left, right),
            BinaryOp::Ne => Term::Compare(Comparison::Ne, left, right),
            BinaryOp::Lt => Term::Compare(Comparison::Lt, left, right),
            BinaryOp::Le => Term::Compare(Comparison::Le, left, right),
            BinaryOp::Gt => Term::Compare(Comparison::Gt, left, right),
            BinaryOp::Ge => Term::Compare(Comparison::Ge, left, right),
            BinaryOp::And => Term::Logic(if strict { Logic::StrictAnd } else { Logic::And }, left, right),
            BinaryOp::Or => Term::Logic(if strict { Logic::StrictOr } else { Logic::Or }, left, right),
            BinaryOp::In => return Err("IN with an array that is no literal".into()),
        })
    }

    fn call(&mut self, function: &str, args: &[Expr]) -> Result<Term, Why> {
        // Whatever else is asked of them, they make the call Undefined.
        if !functions::lookup(function).is_some_and(|known| known.takes(args.len())) {
            return Ok(Term::Literal(Value::Undefined));
        }
        Ok(match (function, args) {
            ("topic", []) => self.source(Source::Topic),
            ("topic", [level]) => match self.term(level)? {
                Term::Literal(level) => {
                    let level = level.to_int().and_then(|level| usize::try_from(level).ok());
                    match level {
                        Some(level @ 1..) => self.source(Source::TopicLevel(level)),
                        _ => Term::Literal(Value::Undefined),
                    }
                }
                _ => return Err("topic() of a level that is no literal".into()),
            },
            ("clientid", []) => self.source(Source::ClientId),
            ("principal", []) => self.source(Source::Principal),
            ("sourceip", []) => self.source(Source::Address),
            ("accountid", []) => self.source(Source::AccountId),
            ("timestamp", []) => self.source(Source::Timestamp),
            ("sql_version", []) => Term::Literal(Value::from(match self.dialect {
                Dialect::Aws2015 => "2015-10-08",
                Dialect::Aws2016 | Dialect::Native => "2016-03-23",
            })),
            ("isnull", [of]) => self.test(Test::Null, of)?,
            ("isundefined", [of]) => self.test(Test::Undefined, of)?,
            ("nanvl" | "get_or_default", [of, default]) => self.first_of(of, Some(default))?,
            ("get_or_default", [of]) => self.first_of(of, None)?,
            ("coalesce", all) => self.coalesce(all)?,
            ("concat", parts) if !parts.is_empty() => {
                Term::Join(parts.iter().map(|part| self.term(part)).collect::<Result<_, Why>>()?)
            }
            (name, args) => match calls::of(name) {
                Some(call) => Term::Call(call, args.iter().map(|arg| self.term(arg)).collect::<Result<_, Why>>()?),
                None => return Err(format!("{name}()").into()),
            },
        })
    }

    /// A value where it is neither Null nor Undefined, otherwise another.
    fn first_of(&mut self, of: &Expr, default: Option<&Expr>) -> Result<Term, Why> {
        let missing = self.test(Test::Missing, of)?;
        let otherwise = self.boxed(of)?;
        let default = default.map_or(Ok(Term::Literal(Value::Undefined)), |default| self.term(default))?;
        Ok(Term::Choose(vec![(missing, default)], otherwise))
    }

    /// The first value that is there; without any, Null if one was.
    fn coalesce(&mut self, all: &[Expr]) -> Result<Term, Why> {
        let mut branches = Vec::with_capacity(2 * all.len());
        for of in all {
            let there = Term::Not(Box::new(self.test(Test::Missing, of)?));
            branches.push((there, self.term(of)?));
        }
        for of in all {
            branches.push((self.test(Test::Null, of)?, Term::Literal(Value::Null)));
        }
        Ok(Term::Choose(branches, Box::new(Term::Literal(Value::Undefined))))
    }

    /// Tests of a path go by its cells, whatever their kinds.
    fn test(&mut self, test: Test, of: &Expr) -> Result<Term, Why> {
        let Some(path) = as_path(of) else { return Ok(Term::Test(test, self.boxed(of)?)) };
        self.nodes += 1;
        let slot = self.slot(&path)?;
        Ok(self.source(match test {
            Test::Null => Source::IsNull(slot),
            Test::Undefined => Source::IsUndefined(slot),
            Test::Missing => Source::IsMissing(slot),
        }))
    }

    fn boxed(&mut self, expr: &Expr) -> Result<Box<Term>, Why> {
        self.term(expr).map(Box::new)
    }

    fn slot(&mut self, path: &[Arc<str>]) -> Result<u16, Why> {
        self.paths.add(path).ok_or_else(|| "too many paths".into())
    }

    /// The number of a source, new or known.
    fn source(&mut self, source: Source) -> Term {
        let known = self.sources.iter().position(|known| *known == source);
        Term::Source(known.unwrap_or_else(|| {
            self.sources.push(source);
            self.sources.len() - 1
        }))
    }
}
