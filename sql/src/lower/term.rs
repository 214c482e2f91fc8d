//! Terms: the part of the language that runs on columns, with names resolved to sources.

use std::collections::HashMap;
use std::sync::Arc;

use crate::ast::{BinaryOp, Dialect, Expr, ExprKind, UnaryOp};
use crate::eval;
use crate::program::as_path;
use crate::shred::Paths;
use crate::value::Value;

/// Where the values of a column come from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Source {
    /// A path of the payload.
    Path(u16),
    /// Whether a path is Undefined, is JSON null, or one of both.
    IsUndefined(u16),
    IsNull(u16),
    IsMissing(u16),
    /// The topic, or one of its levels counted from 1.
    Topic,
    TopicLevel(usize),
    ClientId,
    Timestamp,
}

/// An expression over sources.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Term {
    /// By its number.
    Source(usize),
    Literal(Value),
    Arithmetic(Arithmetic, Box<Term>, Box<Term>),
    Compare(Comparison, Box<Term>, Box<Term>),
    /// AND and OR as the dialect has them.
    Logic(Logic, Box<Term>, Box<Term>),
    Not(Box<Term>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arithmetic {
    Add,
    Sub,
    Mul,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Comparison {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Logic {
    /// Undefined if a side is.
    StrictAnd,
    StrictOr,
    /// Three-valued.
    And,
    Or,
}

/// Candidates of an IN list that become comparisons.
const MAX_LIST: usize = 32;
/// Nodes of a term with its SET variables put in.
const MAX_NODES: usize = 512;

/// Resolves expressions of one rule.
pub(crate) struct Resolver<'a> {
    pub(crate) dialect: Dialect,
    pub(crate) variables: HashMap<Arc<str>, &'a Expr>,
    pub(crate) paths: &'a mut Paths,
    nodes: usize,
}

impl<'a> Resolver<'a> {
    pub(crate) fn new(dialect: Dialect, variables: HashMap<Arc<str>, &'a Expr>, paths: &'a mut Paths) -> Self {
        Self { dialect, variables, paths, nodes: 0 }
    }

    /// The term of an expression; `None` if it has to be evaluated row by row.
    pub(crate) fn resolve(&mut self, expr: &Expr, sources: &mut Vec<Source>) -> Option<Term> {
        self.nodes = 0;
        self.term(expr, sources)
    }

    fn term(&mut self, expr: &Expr, sources: &mut Vec<Source>) -> Option<Term> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return None;
        }
        if let Some(path) = as_path(expr) {
            return Some(source(Source::Path(self.paths.add(&path)?), sources));
        }
        match &expr.kind {
            ExprKind::Literal(value) => Some(Term::Literal(value.clone())),
            ExprKind::Variable(name) => {
                let expr = *self.variables.get(name)?;
                self.term(expr, sources)
            }
            ExprKind::Unary { op: UnaryOp::Not, operand } => Some(Term::Not(Box::new(self.term(operand, sources)?))),
            ExprKind::Unary { op: UnaryOp::Neg, operand } => {
                let operand = self.term(operand, sources)?;
                if let Term::Literal(number @ (Value::Int(_) | Value::Decimal(_))) = &operand {
                    let zero = Value::Int(0);
                    return Some(Term::Literal(eval::binary(BinaryOp::Sub, &zero, number, self.dialect)));
                }
                Some(Term::Arithmetic(Arithmetic::Sub, Box::new(Term::Literal(Value::Int(0))), Box::new(operand)))
            }
            ExprKind::Binary { op, left, right } => {
                let (left, right) = (self.term(left, sources)?, self.term(right, sources)?);
                self.binary(*op, left, right)
            }
            ExprKind::Call { function, args } => self.call(function, args, sources),
            _ => self.native(expr, sources),
        }
    }

    /// The forms of native rules.
    fn native(&mut self, expr: &Expr, sources: &mut Vec<Source>) -> Option<Term> {
        let (term, negated) = match &expr.kind {
            ExprKind::IsNull { operand, negated } => {
                let path = self.paths.add(&as_path(operand)?)?;
                (source(Source::IsMissing(path), sources), *negated)
            }
            ExprKind::Between { value, low, high, negated } => {
                let above = (self.term(value, sources)?, self.term(low, sources)?);
                let below = (self.term(value, sources)?, self.term(high, sources)?);
                let above = self.binary(BinaryOp::Ge, above.0, above.1)?;
                let below = self.binary(BinaryOp::Le, below.0, below.1)?;
                (Term::Logic(Logic::And, Box::new(above), Box::new(below)), *negated)
            }
            ExprKind::InList { value, list, negated } if list.len() <= MAX_LIST => {
                let mut any: Option<Term> = None;
                for candidate in list {
                    let (value, candidate) = (self.term(value, sources)?, self.term(candidate, sources)?);
                    let equal = self.binary(BinaryOp::Eq, value, candidate)?;
                    any = Some(match any {
                        Some(any) => Term::Logic(Logic::Or, Box::new(any), Box::new(equal)),
                        None => equal,
                    });
                }
                (any?, *negated)
            }
            _ => return None,
        };
        Some(if negated { Term::Not(Box::new(term)) } else { term })
    }

    fn binary(&self, op: BinaryOp, left: Term, right: Term) -> Option<Term> {
        if let (Term::Literal(left), Term::Literal(right)) = (&left, &right) {
            return Some(Term::Literal(eval::binary(op, left, right, self.dialect)));
        }
        let (left, right) = (Box::new(left), Box::new(right));
        let strict = self.dialect != Dialect::Native;
        Some(match op {
            BinaryOp::Add => Term::Arithmetic(Arithmetic::Add, left, right),
            BinaryOp::Sub => Term::Arithmetic(Arithmetic::Sub, left, right),
            BinaryOp::Mul => Term::Arithmetic(Arithmetic::Mul, left, right),
            BinaryOp::Eq => Term::Compare(Comparison::Eq, left, right),
            BinaryOp::Ne => Term::Compare(Comparison::Ne, left, right),
            BinaryOp::Lt => Term::Compare(Comparison::Lt, left, right),
            BinaryOp::Le => Term::Compare(Comparison::Le, left, right),
            BinaryOp::Gt => Term::Compare(Comparison::Gt, left, right),
            BinaryOp::Ge => Term::Compare(Comparison::Ge, left, right),
            BinaryOp::And => Term::Logic(if strict { Logic::StrictAnd } else { Logic::And }, left, right),
            BinaryOp::Or => Term::Logic(if strict { Logic::StrictOr } else { Logic::Or }, left, right),
            BinaryOp::In | BinaryOp::Div | BinaryOp::Rem | BinaryOp::Concat => return None,
        })
    }

    fn call(&mut self, function: &str, args: &[Expr], sources: &mut Vec<Source>) -> Option<Term> {
        let of = match (function, args) {
            ("topic", []) => Source::Topic,
            ("topic", [Expr { kind: ExprKind::Literal(level @ Value::Int(_)), .. }]) => {
                match level.to_int().and_then(|level| usize::try_from(level).ok()) {
                    Some(level @ 1..) => Source::TopicLevel(level),
                    _ => return Some(Term::Literal(Value::Undefined)),
                }
            }
            ("clientid", []) => Source::ClientId,
            ("timestamp", []) => Source::Timestamp,
            ("isnull", [of]) => Source::IsNull(self.paths.add(&as_path(of)?)?),
            ("isundefined", [of]) => Source::IsUndefined(self.paths.add(&as_path(of)?)?),
            _ => return None,
        };
        Some(source(of, sources))
    }
}

/// The number of a source, new or known.
fn source(source: Source, sources: &mut Vec<Source>) -> Term {
    let known = sources.iter().position(|known| *known == source);
    Term::Source(known.unwrap_or_else(|| {
        sources.push(source);
        sources.len() - 1
    }))
}
