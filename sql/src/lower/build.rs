//! Terms to DataFusion's physical expressions, for one set of source kinds.
//!
//! A term has up to three faces: its values (numbers at one scale where that is exact, numbers with scales of their
//! own, texts or booleans; null where there is no value), the own scales of its numbers, and which rows are JSON null.
//! Each is an expression of its own and only built where something asks for it.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion_common::ScalarValue;
use datafusion_expr::Operator;
use datafusion_physical_expr::expressions::{BinaryExpr, Column, IsNotNullExpr, Literal, NotExpr};

use super::calls::{Body, Call, Param};
use super::kernel::{self, ExactOp, Kernel, Map, number_scalar, number_type};
use super::kinds::{Judge, Kind, SMALL_BITS, SMALL_SCALE, SourceKind, literal_number};
use super::logic::Strict;
use super::plan::{Built, Form, OwnScale, SMALL_PRECISION, WIDE_PRECISION};
use super::term::{Arithmetic, Comparison, Logic, Term, Test, Why};
use crate::ast::{CastType, Dialect};
use crate::value::Value;

/// Expressions that one term may become: its faces can repeat one another.
const MAX_BUILT: usize = 4096;

type Result<T> = std::result::Result<T, Why>;

pub(super) struct Builder<'a> {
    judge: Judge<'a>,
    names: &'a [Arc<str>],
    dialect: Dialect,
    inputs: &'a mut Vec<(usize, Form)>,
    small: bool,
    left: usize,
}

impl<'a> Builder<'a> {
    pub(super) fn new(
        sources: &'a [SourceKind],
        names: &'a [Arc<str>],
        dialect: Dialect,
        inputs: &'a mut Vec<(usize, Form)>,
    ) -> Self {
        Self { judge: Judge::new(sources), names, dialect, inputs, small: false, left: MAX_BUILT }
    }

    /// The kind of the term that is about to be built.
    pub(super) fn begin(&mut self, term: &Term) -> Result<Kind> {
        let kind = self.judge.kind(term)?;
        self.small = self.judge.most.0 <= SMALL_BITS && self.judge.most.1 <= SMALL_SCALE;
        Ok(kind)
    }

    /// The values of a term whose kind is this one or Never.
    pub(super) fn of_kind(&mut self, term: &Term, kind: Kind) -> Result<Built> {
        match kind {
            Kind::Number { .. } | Kind::AnyNumber => self.any_number(term),
            Kind::Text => self.text(term),
            Kind::Boolean => self.boolean(term),
            Kind::Json | Kind::Never => Ok(nothing(&DataType::Boolean)),
        }
    }

    fn map(&mut self, kernel: impl Kernel + 'static, args: Vec<Built>) -> Result<Built> {
        self.left = self.left.checked_sub(1).ok_or("the expression is too large")?;
        Ok(Arc::new(Map::new(kernel, args)))
    }

    /// As a boolean: texts may spell one.
    fn boolean(&mut self, term: &Term) -> Result<Built> {
        match self.judge.kind(term)? {
            Kind::Text => {
                let text = self.text(term)?;
                return self.map(kernel::TextTest::Truth, vec![text]);
            }
            Kind::Boolean => {}
            _ => return Ok(nothing(&DataType::Boolean)),
        }
        match term {
            Term::Source(number) => Ok(self.input(*number, Form::Boolean)),
            Term::Literal(Value::Bool(value)) => Ok(literal(ScalarValue::Boolean(Some(*value)))),
            Term::Compare(op, left, right) => self.compare(*op, left, right),
            Term::Distinct(left, right) => {
                let same = self.same(left, right)?.unwrap_or_else(|| literal(ScalarValue::Boolean(Some(false))));
                let args = vec![same, self.present(left)?, self.present(right)?];
                self.map(kernel::Distinct, args)
            }
            Term::Like(text, pattern) => {
                let text = self.text(text)?;
                self.map(kernel::TextTest::Like(Arc::clone(pattern)), vec![text])
            }
            Term::Logic(logic, left, right) => {
                let (left, right) = (self.boolean(left)?, self.boolean(right)?);
                Ok(match logic {
                    Logic::And => Arc::new(BinaryExpr::new(left, Operator::And, right)),
                    Logic::Or => Arc::new(BinaryExpr::new(left, Operator::Or, right)),
                    logic => Arc::new(Strict { logic: *logic, left, right }),
                })
            }
            Term::Not(operand) => Ok(Arc::new(NotExpr::new(self.boolean(operand)?))),
            Term::Test(test, operand) => self.test(*test, operand),
            Term::Choose(branches, otherwise) => self.choose(branches, otherwise, Kind::Boolean),
            Term::Cast(CastType::Boolean, operand) => match self.judge.kind(operand)? {
                Kind::Number { .. } | Kind::AnyNumber => {
                    let number = self.any_number(operand)?;
                    self.map(kernel::NumberToBoolean, vec![number])
                }
                _ => self.boolean(operand),
            },
            Term::Call(call, args) => self.call(call, args),
            _ => Err("this form".into()),
        }
    }

    fn test(&mut self, test: Test, operand: &Term) -> Result<Built> {
        let null = self.null(operand)?.unwrap_or_else(|| literal(ScalarValue::Boolean(Some(false))));
        if test == Test::Null {
            return Ok(null);
        }
        let present = self.present(operand)?;
        let missing: Built = Arc::new(NotExpr::new(present));
        Ok(match test {
            Test::Undefined => Arc::new(BinaryExpr::new(missing, Operator::And, Arc::new(NotExpr::new(null)))),
            _ => missing,
        })
    }

    fn compare(&mut self, op: Comparison, left: &Term, right: &Term) -> Result<Built> {
        if matches!(op, Comparison::Eq | Comparison::Ne) {
            let equal = self.equal(left, right)?;
            return Ok(if op == Comparison::Ne { Arc::new(NotExpr::new(equal)) } else { equal });
        }
        self.numbers_compared(op, left, right)
    }

    fn numbers_compared(&mut self, op: Comparison, left: &Term, right: &Term) -> Result<Built> {
        let (a, b) = (self.judge.kind(left)?, self.judge.kind(right)?);
        let Some(scale) = self.judge.common_scale(a, b) else {
            let (left, right) = (self.any_number(left)?, self.any_number(right)?);
            return self.map(kernel::Order(op), vec![left, right]);
        };
        let (left, right) = (self.number(left, scale)?, self.number(right, scale)?);
        self.map(kernel::ExactOrder { op, small: self.small }, vec![left, right])
    }

    /// `=`, with Null a value like others.
    fn equal(&mut self, left: &Term, right: &Term) -> Result<Built> {
        let same = self.same(left, right)?;
        let (left_null, right_null) = (self.null(left)?, self.null(right)?);
        let same = match same {
            Some(same) if left_null.is_none() && right_null.is_none() => return Ok(same),
            same => same.unwrap_or_else(|| literal(ScalarValue::Boolean(Some(false)))),
        };
        let never = || literal(ScalarValue::Boolean(Some(false)));
        let (left_null, right_null) = (left_null.unwrap_or_else(never), right_null.unwrap_or_else(never));
        let args = vec![same, self.present(left)?, self.present(right)?, left_null, right_null];
        self.map(kernel::Equal, args)
    }

    /// Whether values are the same, null where there is none on a side; `None` if their kinds differ.
    fn same(&mut self, left: &Term, right: &Term) -> Result<Option<Built>> {
        Ok(match (self.judge.kind(left)?, self.judge.kind(right)?) {
            (Kind::Number { .. } | Kind::AnyNumber, Kind::Number { .. } | Kind::AnyNumber) => {
                Some(self.numbers_compared(Comparison::Eq, left, right)?)
            }
            (a @ (Kind::Text | Kind::Boolean), b) if a == b => {
                let (left, right) = (self.of_kind(left, a)?, self.of_kind(right, b)?);
                Some(Arc::new(BinaryExpr::new(left, Operator::Eq, right)))
            }
            _ => None,
        })
    }

    /// Which rows have a value; never null.
    fn present(&mut self, term: &Term) -> Result<Built> {
        if let Term::Source(number) = term {
            return Ok(self.input(*number, Form::Present));
        }
        Ok(match self.judge.kind(term)? {
            Kind::Never | Kind::Json => literal(ScalarValue::Boolean(Some(false))),
            Kind::Number { scale, .. } => Arc::new(IsNotNullExpr::new(self.number(term, scale)?)),
            kind => Arc::new(IsNotNullExpr::new(self.of_kind(term, kind)?)),
        })
    }

    /// Which rows are JSON null; never null itself. `None` if none can be.
    pub(super) fn null(&mut self, term: &Term) -> Result<Option<Built>> {
        if !self.judge.may_be_null(term) {
            return Ok(None);
        }
        Ok(match term {
            Term::Source(number) => Some(self.input(*number, Form::JsonNull)),
            Term::Literal(_) => Some(literal(ScalarValue::Boolean(Some(true)))),
            Term::Choose(branches, otherwise) => {
                let mut args = Vec::with_capacity(2 * branches.len() + 1);
                let never = || literal(ScalarValue::Boolean(Some(false)));
                for (condition, value) in branches {
                    args.push(self.boolean(condition)?);
                    args.push(self.null(value)?.unwrap_or_else(never));
                }
                args.push(self.null(otherwise)?.unwrap_or_else(never));
                Some(self.map(kernel::Choose(DataType::Boolean), args)?)
            }
            _ => None,
        })
    }

    /// As text.
    fn text(&mut self, term: &Term) -> Result<Built> {
        match self.judge.kind(term)? {
            Kind::Number { .. } | Kind::AnyNumber => {
                let number = self.any_number(term)?;
                return self.map(kernel::NumberToText, vec![number]);
            }
            Kind::Boolean => {
                let value = self.boolean(term)?;
                return self.map(kernel::BooleanToText, vec![value]);
            }
            Kind::Never | Kind::Json => return Ok(nothing(&DataType::Utf8)),
            Kind::Text => {}
        }
        match term {
            Term::Source(number) => Ok(self.input(*number, Form::Text)),
            Term::Literal(Value::String(text)) => Ok(literal(ScalarValue::Utf8(Some(text.to_string())))),
            Term::Arithmetic(_, left, right) => {
                let args = vec![self.text(left)?, self.text(right)?];
                self.map(kernel::Join, args)
            }
            Term::Join(parts) => {
                let args = parts.iter().map(|part| self.text(part)).collect::<Result<Vec<_>>>()?;
                self.map(kernel::Join, args)
            }
            Term::Cast(_, operand) => self.text(operand),
            Term::Choose(branches, otherwise) => self.choose(branches, otherwise, Kind::Text),
            Term::Call(call, args) => self.call(call, args),
            _ => Err("this form".into()),
        }
    }

    fn choose(&mut self, branches: &[(Term, Term)], otherwise: &Term, kind: Kind) -> Result<Built> {
        let data_type = match kind {
            Kind::Text => DataType::Utf8,
            Kind::Boolean => DataType::Boolean,
            _ => number_type(),
        };
        let mut args = Vec::with_capacity(2 * branches.len() + 1);
        for (condition, value) in branches {
            args.push(self.boolean(condition)?);
            args.push(self.or_nothing(value, kind, &data_type)?);
        }
        args.push(self.or_nothing(otherwise, kind, &data_type)?);
        self.map(kernel::Choose(data_type), args)
    }

    fn or_nothing(&mut self, term: &Term, kind: Kind, data_type: &DataType) -> Result<Built> {
        match self.judge.kind(term)? {
            Kind::Never => Ok(nothing(data_type)),
            _ => self.of_kind(term, kind),
        }
    }

    fn call(&mut self, call: &'static Call, args: &[Term]) -> Result<Built> {
        let mut built = Vec::with_capacity(args.len());
        for (number, arg) in args.iter().enumerate() {
            let kind = self.judge.kind(arg)?;
            built.push(match (&call.body, call.params.get(number)) {
                (Body::Values(..), _) => self.of_kind(arg, kind)?,
                (_, Some(Param::Position)) => self.any_number(arg)?,
                _ => self.text(arg)?,
            });
        }
        self.map(kernel::Function(call), built)
    }

    /// As numbers, each with its own scale: texts may spell one.
    fn any_number(&mut self, term: &Term) -> Result<Built> {
        match (self.judge.kind(term)?, term) {
            (Kind::Text, _) => {
                let text = self.text(term)?;
                self.map(kernel::TextToNumber, vec![text])
            }
            (Kind::Boolean | Kind::Json | Kind::Never, _) => Ok(nothing(&number_type())),
            (_, Term::Source(number)) => Ok(self.input(*number, Form::AnyNumber)),
            (_, Term::Literal(value)) => Ok(literal(number_scalar(value))),
            (Kind::Number { scale, .. }, _) => {
                let args = vec![self.number(term, scale)?, scale_of(self.own_scale(term)?)];
                self.map(kernel::OwnScales, args)
            }
            (_, Term::Arithmetic(op, left, right)) => {
                let args = vec![self.any_number(left)?, self.any_number(right)?];
                self.map(kernel::Calculate(op.operator(), self.dialect), args)
            }
            (_, Term::Negate(operand)) => {
                let args = vec![self.any_number(operand)?];
                self.map(kernel::Negate, args)
            }
            (_, Term::Choose(branches, otherwise)) => self.choose(branches, otherwise, Kind::AnyNumber),
            (_, Term::Cast(to, operand)) => {
                let args = vec![match self.judge.kind(operand)? {
                    Kind::Boolean => self.boolean(operand)?,
                    _ => self.any_number(operand)?,
                }];
                self.map(kernel::Cast(*to, self.dialect), args)
            }
            (_, Term::Call(call, args)) => self.call(call, args),
            _ => Err("this form".into()),
        }
    }

    /// A number at a scale that is at least its own. Literals and sources are brought to it before the batch is
    /// evaluated, so that the operators find equal scales.
    pub(super) fn number(&mut self, term: &Term, scale: u8) -> Result<Built> {
        const NOT_EXACT: &str = "numbers that decimals do not hold";
        let Kind::Number { scale: own, .. } = self.judge.kind(term)? else { return Err(NOT_EXACT.into()) };
        let at_own: Built = match term {
            Term::Source(number) => {
                let form = if self.small { Form::Small { scale } } else { Form::Wide { scale } };
                return Ok(self.input(*number, form));
            }
            Term::Literal(value) => {
                let (mantissa, own) = literal_number(value).ok_or(NOT_EXACT)?;
                let power = 10i128.pow(u32::from(scale - own));
                return Ok(self.constant(mantissa.checked_mul(power).ok_or(NOT_EXACT)?, scale));
            }
            Term::Arithmetic(Arithmetic::Mul, left, right) => {
                let args = vec![self.at_own_scale(left)?, self.at_own_scale(right)?];
                self.exact(ExactOp::Mul, own, args)?
            }
            Term::Arithmetic(op, left, right) => {
                let args = vec![self.number(left, own)?, self.number(right, own)?];
                self.exact(if *op == Arithmetic::Add { ExactOp::Add } else { ExactOp::Sub }, own, args)?
            }
            Term::Negate(operand) => {
                let args = vec![self.constant(0, own), self.number(operand, own)?];
                self.exact(ExactOp::Sub, own, args)?
            }
            _ => return Err("this form".into()),
        };
        if scale == own {
            return Ok(at_own);
        }
        // Times one, spelt with zeros.
        let one = self.constant(10i128.pow(u32::from(scale - own)), scale - own);
        self.exact(ExactOp::Mul, scale, vec![at_own, one])
    }

    fn exact(&mut self, op: ExactOp, scale: u8, args: Vec<Built>) -> Result<Built> {
        self.map(kernel::Exact { op, scale, small: self.small }, args)
    }

    fn at_own_scale(&mut self, term: &Term) -> Result<Built> {
        match self.judge.kind(term)? {
            Kind::Number { scale, .. } => self.number(term, scale),
            _ => Err("numbers that decimals do not hold".into()),
        }
    }

    /// The scale that each row of a term of numbers at one scale has by itself.
    pub(super) fn own_scale(&mut self, term: &Term) -> Result<OwnScale> {
        Ok(match term {
            Term::Source(number) => match self.judge.sources.get(*number) {
                Some(SourceKind::Number { own: Some(own), .. }) => OwnScale::Same(*own),
                _ => OwnScale::Each(self.input(*number, Form::Scales)),
            },
            Term::Literal(value) => OwnScale::Same(literal_number(value).ok_or("numbers that decimals do not hold")?.1),
            Term::Negate(operand) => self.own_scale(operand)?,
            Term::Arithmetic(op, left, right) => {
                let sum = *op == Arithmetic::Mul;
                match (self.own_scale(left)?, self.own_scale(right)?) {
                    (OwnScale::Same(left), OwnScale::Same(right)) => {
                        OwnScale::Same(if sum { left.wrapping_add(right) } else { left.max(right) })
                    }
                    (left, right) => {
                        let args = vec![scale_of(left), scale_of(right)];
                        OwnScale::Each(self.map(kernel::Scales { sum }, args)?)
                    }
                }
            }
            _ => return Err("this form".into()),
        })
    }

    fn constant(&self, mantissa: i128, scale: u8) -> Built {
        literal(match i64::try_from(mantissa) {
            Ok(mantissa) if self.small => ScalarValue::Decimal64(Some(mantissa), SMALL_PRECISION, scale as i8),
            _ => ScalarValue::Decimal128(Some(mantissa), WIDE_PRECISION, scale as i8),
        })
    }

    fn input(&mut self, source: usize, form: Form) -> Built {
        let known = self.inputs.iter().position(|known| *known == (source, form));
        let number = known.unwrap_or_else(|| {
            self.inputs.push((source, form));
            self.inputs.len() - 1
        });
        let name = self.names.get(source).map_or("", |name| name);
        Arc::new(Column::new(&form.described(name), number))
    }
}

fn scale_of(own: OwnScale) -> Built {
    match own {
        OwnScale::Same(scale) => literal(ScalarValue::UInt8(Some(scale))),
        OwnScale::Each(expr) => expr,
    }
}

fn literal(value: ScalarValue) -> Built {
    Arc::new(Literal::new(value))
}

/// No value in any row.
fn nothing(data_type: &DataType) -> Built {
    literal(match data_type {
        DataType::Utf8 => ScalarValue::Utf8(None),
        DataType::Boolean => ScalarValue::Boolean(None),
        _ => number_scalar(&Value::Undefined),
    })
}
