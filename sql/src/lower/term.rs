//! Terms: the part of the language that runs on columns, with names resolved to sources.

use std::borrow::Cow;
use std::sync::Arc;

use super::calls::Call;
use crate::ast::{BinaryOp, CastType};
use crate::eval::Pattern;
use crate::shred::Paths;
use crate::value::Value;

/// Why something runs row by row, for the user.
pub(crate) type Why = Cow<'static, str>;

/// Where the values of a column come from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
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
    Principal,
    Address,
    AccountId,
    Timestamp,
}

impl Source {
    /// As a rule writes it.
    pub(super) fn described(&self, paths: &Paths) -> String {
        let path = |slot: &u16| paths.name(*slot);
        match self {
            Self::Path(slot) => path(slot),
            Self::IsUndefined(slot) => format!("isUndefined({})", path(slot)),
            Self::IsNull(slot) => format!("isNull({})", path(slot)),
            Self::IsMissing(slot) => format!("{} IS NULL", path(slot)),
            Self::Topic => "topic()".to_owned(),
            Self::TopicLevel(level) => format!("topic({level})"),
            Self::ClientId => "clientid()".to_owned(),
            Self::Principal => "principal()".to_owned(),
            Self::Address => "sourceip()".to_owned(),
            Self::AccountId => "accountid()".to_owned(),
            Self::Timestamp => "timestamp()".to_owned(),
        }
    }
}

/// An expression over sources.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Term {
    /// By its number.
    Source(usize),
    Literal(Value),
    /// `+` joins texts, as in the language.
    Arithmetic(Arithmetic, Box<Term>, Box<Term>),
    Negate(Box<Term>),
    /// The texts of values one after the other.
    Join(Vec<Term>),
    Compare(Comparison, Box<Term>, Box<Term>),
    /// `IS DISTINCT FROM`.
    Distinct(Box<Term>, Box<Term>),
    Like(Box<Term>, Arc<Pattern>),
    /// AND and OR as the dialect has them.
    Logic(Logic, Box<Term>, Box<Term>),
    Not(Box<Term>),
    Test(Test, Box<Term>),
    /// The first of the values whose condition is true, or the last one.
    Choose(Vec<(Term, Term)>, Box<Term>),
    Cast(CastType, Box<Term>),
    Call(&'static Call, Vec<Term>),
}

impl Term {
    /// The sources it reads, each once.
    pub(super) fn sources(&self) -> Vec<usize> {
        let mut found = Vec::new();
        self.visit_sources(&mut |source| {
            if !found.contains(&source) {
                found.push(source);
            }
        });
        found
    }

    fn visit_sources(&self, visit: &mut dyn FnMut(usize)) {
        let mut all = |terms: &mut dyn Iterator<Item = &Self>| terms.for_each(|term| term.visit_sources(visit));
        match self {
            Self::Source(number) => visit(*number),
            Self::Literal(_) => {}
            Self::Negate(of) | Self::Not(of) | Self::Like(of, _) | Self::Test(_, of) | Self::Cast(_, of) => {
                of.visit_sources(visit);
            }
            Self::Arithmetic(_, left, right) => all(&mut [&**left, right].into_iter()),
            Self::Compare(_, left, right) => all(&mut [&**left, right].into_iter()),
            Self::Distinct(left, right) | Self::Logic(_, left, right) => all(&mut [&**left, right].into_iter()),
            Self::Join(terms) | Self::Call(_, terms) => all(&mut terms.iter()),
            Self::Choose(branches, otherwise) => {
                all(&mut branches.iter().flat_map(|(when, then)| [when, then]));
                otherwise.visit_sources(visit);
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arithmetic {
    Add,
    Sub,
    Mul,
    Div,
    Rem,
}

impl Arithmetic {
    pub(super) fn operator(self) -> BinaryOp {
        match self {
            Self::Add => BinaryOp::Add,
            Self::Sub => BinaryOp::Sub,
            Self::Mul => BinaryOp::Mul,
            Self::Div => BinaryOp::Div,
            Self::Rem => BinaryOp::Rem,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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

/// What is asked of a value; always true or false.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Test {
    Null,
    Undefined,
    /// One of both.
    Missing,
}
