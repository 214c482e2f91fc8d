//! What is known of a term once the kinds of its sources are: its kind, and for numbers how many digits it can have.

use std::collections::HashMap;

use super::term::{Arithmetic, Comparison, Term};
use crate::shred::power_bits;
use crate::value::Value;

/// What a source holds in the rows at hand: part of the key under which plans are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum SourceKind {
    /// Numbers at this scale, below two to `bits`.
    Number {
        scale: u8,
        bits: u32,
        json_null: bool,
    },
    Text {
        json_null: bool,
    },
    Boolean {
        json_null: bool,
    },
    /// Nothing but missing values.
    Missing {
        json_null: bool,
    },
    /// What no plan computes with.
    Other,
}

impl SourceKind {
    fn has_json_null(self) -> bool {
        match self {
            Self::Number { json_null, .. }
            | Self::Text { json_null }
            | Self::Boolean { json_null }
            | Self::Missing { json_null } => json_null,
            Self::Other => true,
        }
    }
}

/// The kind of a term. Rows without a value of it are Undefined, except where a source or literal is passed on as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Below two to `bits` at the scale.
    Number {
        scale: u8,
        bits: u32,
    },
    Text,
    Boolean,
    /// Undefined in every row.
    Never,
}

/// A number of 34 digits is at least this long: what is shorter is exact, and fits decimal128.
const MAX_BITS: u32 = 112;
/// Scales beyond this are left to the scalar evaluator.
const MAX_SCALE: u8 = 34;
/// What fits decimal64.
pub(super) const SMALL_BITS: u32 = 59;
pub(super) const SMALL_SCALE: u8 = 18;

/// Judges terms by the kinds of their sources.
pub(super) struct Judge<'a> {
    pub(super) sources: &'a [SourceKind],
    /// The most bits and the largest scale of any number met.
    pub(super) most: (u32, u8),
    /// Terms judged so far, by address, so that a tall tree is not judged again at every level.
    known: HashMap<*const Term, Option<Kind>>,
}

impl<'a> Judge<'a> {
    pub(super) fn new(sources: &'a [SourceKind]) -> Self {
        Self { sources, most: (0, 0), known: HashMap::new() }
    }

    /// The kind of a term; `None` if it has to be evaluated row by row for rows of these kinds.
    pub(super) fn kind(&mut self, term: &Term) -> Option<Kind> {
        if let Some(known) = self.known.get(&std::ptr::from_ref(term)) {
            return *known;
        }
        let kind = self.judge(term).and_then(|kind| self.note(kind));
        self.known.insert(term, kind);
        kind
    }

    fn note(&mut self, kind: Kind) -> Option<Kind> {
        if let Kind::Number { scale, bits } = kind {
            if scale > MAX_SCALE || bits > MAX_BITS {
                return None;
            }
            self.most = (self.most.0.max(bits), self.most.1.max(scale));
        }
        Some(kind)
    }

    fn judge(&mut self, term: &Term) -> Option<Kind> {
        match term {
            Term::Source(number) => match self.sources.get(*number)? {
                SourceKind::Number { scale, bits, .. } => Some(Kind::Number { scale: *scale, bits: *bits }),
                SourceKind::Text { .. } => Some(Kind::Text),
                SourceKind::Boolean { .. } => Some(Kind::Boolean),
                SourceKind::Missing { .. } => Some(Kind::Never),
                SourceKind::Other => None,
            },
            Term::Literal(value) => literal(value),
            Term::Arithmetic(op, left, right) => self.arithmetic(*op, left, right),
            Term::Compare(op, left, right) => self.compare(*op, left, right),
            Term::Logic(_, left, right) => match (self.kind(left)?, self.kind(right)?) {
                (Kind::Boolean | Kind::Never, Kind::Boolean | Kind::Never) => Some(Kind::Boolean),
                _ => None,
            },
            Term::Not(operand) => match self.kind(operand)? {
                kind @ (Kind::Boolean | Kind::Never) => Some(kind),
                _ => None,
            },
        }
    }

    fn arithmetic(&mut self, op: Arithmetic, left: &Term, right: &Term) -> Option<Kind> {
        let (a, b) = match (self.kind(left)?, self.kind(right)?) {
            (Kind::Number { scale, bits }, Kind::Number { scale: other, bits: other_bits }) => {
                ((scale, bits), (other, other_bits))
            }
            (Kind::Never, Kind::Never | Kind::Number { .. }) | (Kind::Number { .. }, Kind::Never) => {
                return Some(Kind::Never);
            }
            _ => return None,
        };
        Some(match op {
            Arithmetic::Mul => Kind::Number { scale: a.0.checked_add(b.0)?, bits: a.1 + b.1 },
            Arithmetic::Add | Arithmetic::Sub => {
                let (scale, bits) = aligned(a, b);
                Kind::Number { scale, bits: bits + 1 }
            }
        })
    }

    fn compare(&mut self, op: Comparison, left: &Term, right: &Term) -> Option<Kind> {
        let equality = matches!(op, Comparison::Eq | Comparison::Ne);
        if equality && (self.may_be_null(left) || self.may_be_null(right)) {
            return None;
        }
        match (self.kind(left)?, self.kind(right)?) {
            (Kind::Number { scale, bits }, Kind::Number { scale: other, bits: other_bits }) => {
                let (scale, bits) = aligned((scale, bits), (other, other_bits));
                self.note(Kind::Number { scale, bits })?;
                Some(Kind::Boolean)
            }
            (Kind::Text, Kind::Text) | (Kind::Boolean, Kind::Boolean) if equality => Some(Kind::Boolean),
            // Whatever is beside it, a comparison with Undefined is Undefined; without equality, with Null too.
            (Kind::Never, _) | (_, Kind::Never) => Some(Kind::Never),
            _ => None,
        }
    }

    /// Whether a row of the term can be JSON null: only what is passed on as it is.
    fn may_be_null(&self, term: &Term) -> bool {
        match term {
            Term::Source(number) => self.sources.get(*number).is_none_or(|kind| kind.has_json_null()),
            Term::Literal(value) => *value == Value::Null,
            _ => false,
        }
    }
}

/// Scale and bits of two numbers brought to one scale.
fn aligned(a: (u8, u32), b: (u8, u32)) -> (u8, u32) {
    let scale = a.0.max(b.0);
    (scale, (a.1 + power_bits(scale - a.0)).max(b.1 + power_bits(scale - b.0)))
}

fn literal(value: &Value) -> Option<Kind> {
    match value {
        Value::Undefined => Some(Kind::Never),
        Value::Bool(_) => Some(Kind::Boolean),
        Value::String(_) => Some(Kind::Text),
        number => {
            let (mantissa, scale) = literal_number(number)?;
            Some(Kind::Number { scale, bits: 128 - mantissa.unsigned_abs().leading_zeros() })
        }
    }
}

/// Mantissa and scale of a literal. Scale 0 stands for Int, so a Decimal without digits after the point has none.
pub(super) fn literal_number(value: &Value) -> Option<(i128, u8)> {
    match value {
        Value::Int(whole) => Some((*whole, 0)),
        Value::Decimal(number) => {
            let scale = u8::try_from(number.scale()).ok().filter(|scale| *scale > 0)?;
            Some((number.mantissa(), scale))
        }
        _ => None,
    }
}
