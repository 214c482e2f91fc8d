//! What is known of a term once the kinds of its sources are: its kind, and for numbers how many digits it can have.

use std::collections::HashMap;

use super::calls::{Body, Call, Param, Returns};
use super::term::{Arithmetic, Comparison, Term, Why};
use crate::ast::CastType;
use crate::shred::power_bits;
use crate::value::Value;

/// What a source holds in the rows at hand: part of the key under which plans are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum SourceKind {
    /// Numbers at this scale, below two to `bits`.
    Number {
        scale: u8,
        bits: u32,
        /// The scale that all of them are spelt with.
        own: Option<u8>,
        json_null: bool,
    },
    Text {
        json_null: bool,
    },
    /// Texts among which is one too long for the bounds of plans.
    LongText,
    Boolean {
        json_null: bool,
    },
    /// Arrays, or objects.
    Json {
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
    pub(super) fn has_json_null(self) -> bool {
        match self {
            Self::Number { json_null, .. }
            | Self::Text { json_null }
            | Self::Boolean { json_null }
            | Self::Json { json_null }
            | Self::Missing { json_null } => json_null,
            Self::LongText | Self::Other => true,
        }
    }
}

/// The kind of a term. Rows without a value of it are Undefined, or Null where the term can be Null.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Below two to `bits`, all at one scale: exact in Arrow's decimals.
    Number {
        scale: u8,
        bits: u32,
    },
    /// Any numbers, each with a scale of its own.
    AnyNumber,
    Text,
    Boolean,
    /// An array or object.
    Json,
    /// No value in any row.
    Never,
}

impl Kind {
    fn is_number(self) -> bool {
        matches!(self, Self::Number { .. } | Self::AnyNumber)
    }

    /// Whether it converts to a number.
    fn is_numeric(self) -> bool {
        self.is_number() || self == Self::Text
    }
}

/// A number of 34 digits is at least this long: what is shorter is exact, and fits decimal128.
const MAX_BITS: u32 = 112;
/// Scales beyond this are no matter for decimal128.
const MAX_SCALE: u8 = 34;
/// What fits decimal64.
pub(super) const SMALL_BITS: u32 = 59;
pub(super) const SMALL_SCALE: u8 = 18;

/// Judges terms by the kinds of their sources.
pub(super) struct Judge<'a> {
    pub(super) sources: &'a [SourceKind],
    /// The most bits and the largest scale of any number at one scale.
    pub(super) most: (u32, u8),
    /// Terms judged so far, by address, so that a tall tree is not judged again at every level.
    known: HashMap<*const Term, Result<Kind, Why>>,
}

impl<'a> Judge<'a> {
    pub(super) fn new(sources: &'a [SourceKind]) -> Self {
        Self { sources, most: (0, 0), known: HashMap::new() }
    }

    /// The kind of a term, or why it has to be evaluated row by row for rows of these kinds.
    pub(super) fn kind(&mut self, term: &Term) -> Result<Kind, Why> {
        if let Some(known) = self.known.get(&std::ptr::from_ref(term)) {
            return known.clone();
        }
        let kind = self.judge(term);
        self.known.insert(term, kind.clone());
        kind
    }

    /// A number at one scale, if it fits.
    pub(super) fn fitting(&mut self, (scale, bits): (u8, u32)) -> Option<Kind> {
        if scale > MAX_SCALE || bits > MAX_BITS {
            return None;
        }
        self.most = (self.most.0.max(bits), self.most.1.max(scale));
        Some(Kind::Number { scale, bits })
    }

    fn judge(&mut self, term: &Term) -> Result<Kind, Why> {
        match term {
            Term::Source(number) => self.source(*number),
            Term::Literal(value) => self.literal(value),
            Term::Arithmetic(op, left, right) => self.arithmetic(*op, left, right),
            Term::Negate(operand) => Ok(match self.kind(operand)? {
                Kind::Number { scale, bits } => self.fitting((scale, bits + 1)).unwrap_or(Kind::AnyNumber),
                kind if kind.is_numeric() => Kind::AnyNumber,
                _ => Kind::Never,
            }),
            Term::Join(parts) => self.join(parts),
            Term::Compare(op, left, right) => self.compare(*op, left, right),
            Term::Distinct(left, right) => {
                self.comparable(left, right)?;
                Ok(Kind::Boolean)
            }
            Term::Like(text, _) => self.join(std::slice::from_ref(text)).map(|kind| match kind {
                Kind::Text => Kind::Boolean,
                kind => kind,
            }),
            Term::Logic(_, left, right) => {
                self.kind(left)?;
                self.kind(right)?;
                Ok(Kind::Boolean)
            }
            Term::Not(operand) | Term::Test(_, operand) => {
                self.kind(operand)?;
                Ok(Kind::Boolean)
            }
            Term::Choose(branches, otherwise) => self.choose(branches, otherwise),
            Term::Cast(to, operand) => self.cast(*to, operand),
            Term::Call(call, args) => self.call(call, args),
        }
    }

    fn source(&mut self, number: usize) -> Result<Kind, Why> {
        match self.sources.get(number) {
            Some(SourceKind::Number { scale, bits, .. }) => {
                Ok(self.fitting((*scale, *bits)).unwrap_or(Kind::AnyNumber))
            }
            Some(SourceKind::Text { .. }) => Ok(Kind::Text),
            Some(SourceKind::Boolean { .. }) => Ok(Kind::Boolean),
            Some(SourceKind::Json { .. }) => Ok(Kind::Json),
            Some(SourceKind::Missing { .. }) => Ok(Kind::Never),
            Some(SourceKind::LongText) => Err("a very long text".into()),
            Some(SourceKind::Other) | None => {
                Err("a path with values of several kinds, or numbers of more than 18 digits".into())
            }
        }
    }

    fn literal(&mut self, value: &Value) -> Result<Kind, Why> {
        Ok(match value {
            Value::Undefined | Value::Null => Kind::Never,
            Value::Bool(_) => Kind::Boolean,
            Value::String(_) => Kind::Text,
            Value::Int(_) | Value::Decimal(_) => {
                let fitting = literal_number(value)
                    .and_then(|(mantissa, scale)| self.fitting((scale, 128 - mantissa.unsigned_abs().leading_zeros())));
                fitting.unwrap_or(Kind::AnyNumber)
            }
            Value::Array(_) | Value::Object(_) => return Err("an object or array is made".into()),
        })
    }

    fn arithmetic(&mut self, op: Arithmetic, left: &Term, right: &Term) -> Result<Kind, Why> {
        let (a, b) = (self.kind(left)?, self.kind(right)?);
        if op == Arithmetic::Add && (a == Kind::Text || b == Kind::Text) {
            return joined([a, b].into_iter());
        }
        if !a.is_numeric() || !b.is_numeric() {
            return Ok(Kind::Never);
        }
        let (Kind::Number { scale, bits }, Kind::Number { scale: other, bits: other_bits }) = (a, b) else {
            return Ok(Kind::AnyNumber);
        };
        let (a, b) = ((scale, bits), (other, other_bits));
        let fitting = match op {
            Arithmetic::Mul => self.fitting((a.0.saturating_add(b.0), a.1 + b.1)),
            Arithmetic::Add | Arithmetic::Sub => {
                let (scale, bits) = aligned(a, b);
                self.fitting((scale, bits + 1))
            }
            Arithmetic::Div | Arithmetic::Rem => None,
        };
        Ok(fitting.unwrap_or(Kind::AnyNumber))
    }

    fn join(&mut self, parts: &[Term]) -> Result<Kind, Why> {
        let kinds = parts.iter().map(|part| self.kind(part)).collect::<Result<Vec<_>, Why>>()?;
        joined(kinds.into_iter())
    }

    fn compare(&mut self, op: Comparison, left: &Term, right: &Term) -> Result<Kind, Why> {
        if matches!(op, Comparison::Eq | Comparison::Ne) {
            let (a, b) = self.comparable(left, right)?;
            let undefined = |kind: Kind, term: &Term, judge: &Self| kind == Kind::Never && !judge.may_be_null(term);
            let never = undefined(a, left, self) || undefined(b, right, self);
            return Ok(if never { Kind::Never } else { Kind::Boolean });
        }
        let (a, b) = (self.kind(left)?, self.kind(right)?);
        if !a.is_numeric() || !b.is_numeric() {
            return Ok(Kind::Never);
        }
        self.common_scale(a, b);
        Ok(Kind::Boolean)
    }

    /// The kinds of two sides that can be told equal or not.
    fn comparable(&mut self, left: &Term, right: &Term) -> Result<(Kind, Kind), Why> {
        let (a, b) = (self.kind(left)?, self.kind(right)?);
        if (a, b) == (Kind::Json, Kind::Json) {
            return Err("arrays or objects are compared".into());
        }
        self.common_scale(a, b);
        Ok((a, b))
    }

    /// The scale at which two kinds can be compared as decimals, if there is one.
    pub(super) fn common_scale(&mut self, a: Kind, b: Kind) -> Option<u8> {
        let (Kind::Number { scale, bits }, Kind::Number { scale: other, bits: other_bits }) = (a, b) else {
            return None;
        };
        let (scale, bits) = aligned((scale, bits), (other, other_bits));
        self.fitting((scale, bits)).map(|_| scale)
    }

    fn choose(&mut self, branches: &[(Term, Term)], otherwise: &Term) -> Result<Kind, Why> {
        let mut all = Kind::Never;
        for (condition, value) in branches {
            self.kind(condition)?;
            all = either(all, self.kind(value)?)?;
        }
        either(all, self.kind(otherwise)?)
    }

    fn cast(&mut self, to: CastType, operand: &Term) -> Result<Kind, Why> {
        let kind = self.kind(operand)?;
        if to == CastType::String {
            return joined(std::iter::once(kind));
        }
        Ok(match (to, kind) {
            (_, Kind::Never | Kind::Json) => Kind::Never,
            (CastType::Boolean, _) => Kind::Boolean,
            _ => Kind::AnyNumber,
        })
    }

    fn call(&mut self, call: &Call, args: &[Term]) -> Result<Kind, Why> {
        let mut never = false;
        for (number, arg) in args.iter().enumerate() {
            let kind = self.kind(arg)?;
            match (&call.body, call.params.get(number)) {
                (Body::Values(..), _) if kind == Kind::Json => {
                    return Err(format!("{}() of an array or object", call.name).into());
                }
                (Body::Values(..), _) => {}
                (_, Some(Param::Position)) => never |= !kind.is_numeric(),
                _ => never |= joined(std::iter::once(kind))? == Kind::Never,
            }
        }
        Ok(match &call.body {
            _ if never => Kind::Never,
            Body::Part(_) | Body::Text(_) | Body::Values(_, Returns::Text) => Kind::Text,
            Body::Whole(_) | Body::Values(_, Returns::Number) => Kind::AnyNumber,
            Body::Boolean(_) => Kind::Boolean,
        })
    }

    /// Whether a row of the term can be JSON null: only what is passed on as it is.
    pub(super) fn may_be_null(&self, term: &Term) -> bool {
        match term {
            Term::Source(number) => self.sources.get(*number).is_none_or(|kind| kind.has_json_null()),
            Term::Literal(value) => *value == Value::Null,
            Term::Choose(branches, otherwise) => {
                branches.iter().any(|(_, value)| self.may_be_null(value)) || self.may_be_null(otherwise)
            }
            _ => false,
        }
    }
}

/// The kind of texts one after the other.
fn joined(mut kinds: impl Iterator<Item = Kind>) -> Result<Kind, Why> {
    let mut all = Kind::Text;
    kinds.try_for_each(|kind| match kind {
        Kind::Json => Err(Why::from("the text of an array or object")),
        Kind::Never => {
            all = Kind::Never;
            Ok(())
        }
        _ => Ok(()),
    })?;
    Ok(all)
}

/// The kind of what is one or the other.
fn either(a: Kind, b: Kind) -> Result<Kind, Why> {
    match (a, b) {
        (Kind::Json, _) | (_, Kind::Json) => Err("a choice that may be an array or object".into()),
        (Kind::Never, other) | (other, Kind::Never) => Ok(if other.is_number() { Kind::AnyNumber } else { other }),
        (a, b) if a.is_number() && b.is_number() => Ok(Kind::AnyNumber),
        (a, b) if a == b => Ok(a),
        _ => Err("a choice between values of different kinds".into()),
    }
}

/// Scale and bits of two numbers brought to one scale.
fn aligned(a: (u8, u32), b: (u8, u32)) -> (u8, u32) {
    let scale = a.0.max(b.0);
    (scale, (a.1 + power_bits(scale - a.0)).max(b.1 + power_bits(scale - b.0)))
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
