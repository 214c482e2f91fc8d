//! Terms to DataFusion's physical expressions over Arrow columns, for one set of source kinds.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion_common::ScalarValue;
use datafusion_expr::Operator;
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::{BinaryExpr, Column, Literal, NotExpr};

use super::kinds::{Judge, Kind, SMALL_BITS, SMALL_SCALE, SourceKind, literal_number};
use super::logic::Strict;
use super::term::{Arithmetic, Comparison, Logic, Term};
use crate::value::Value;

/// How a source becomes an Arrow column of the plan's input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Small { scale: u8 },
    Wide { scale: u8 },
    Text,
    Boolean,
}

impl Form {
    fn data_type(self) -> DataType {
        match self {
            Self::Small { scale } => DataType::Decimal64(SMALL_PRECISION, scale as i8),
            Self::Wide { scale } => DataType::Decimal128(WIDE_PRECISION, scale as i8),
            Self::Text => DataType::Utf8,
            Self::Boolean => DataType::Boolean,
        }
    }
}

pub(super) const SMALL_PRECISION: u8 = 18;
pub(super) const WIDE_PRECISION: u8 = 38;

/// How a term's column is made.
#[derive(Debug)]
pub(super) enum Output {
    /// The source as it is.
    Source(usize),
    /// The same in every row.
    Constant(Value),
    /// Undefined in every row.
    Never,
    /// A number at this scale; each row's own scale besides.
    Number {
        expr: Arc<dyn PhysicalExpr>,
        scale: u8,
        own: OwnScale,
    },
    Boolean(Arc<dyn PhysicalExpr>),
    /// Row by row, by the scalar evaluator.
    RowWise,
}

/// The scale that each row's result has by itself (as `BigDecimal` has it), computed beside the values.
#[derive(Debug)]
pub(super) enum OwnScale {
    Constant(u8),
    Source(usize),
    /// Of a sum.
    Larger(Box<OwnScale>, Box<OwnScale>),
    /// Of a product.
    Sum(Box<OwnScale>, Box<OwnScale>),
}

/// How to compute terms for rows whose sources have certain kinds.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) inputs: Vec<(usize, Form)>,
    pub(super) schema: SchemaRef,
    pub(super) outputs: Vec<Output>,
}

impl Plan {
    pub(super) fn new(terms: &[Option<Term>], sources: &[SourceKind]) -> Self {
        let mut inputs = Vec::new();
        let outputs = terms.iter().map(|term| match term {
            Some(term) => output(term, sources, &mut inputs).unwrap_or(Output::RowWise),
            None => Output::RowWise,
        });
        let outputs = outputs.collect();
        let fields = inputs.iter().enumerate();
        let fields = fields.map(|(number, (_, form))| Field::new(format!("i{number}"), form.data_type(), true));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        Self { inputs, schema, outputs }
    }
}

fn output(term: &Term, sources: &[SourceKind], inputs: &mut Vec<(usize, Form)>) -> Option<Output> {
    match term {
        Term::Source(number) => return Some(Output::Source(*number)),
        Term::Literal(value) => return Some(Output::Constant(value.clone())),
        _ => {}
    }
    let mut judge = Judge::new(sources);
    let kind = judge.kind(term)?;
    let small = judge.most.0 <= SMALL_BITS && judge.most.1 <= SMALL_SCALE;
    let mut builder = Builder { judge, inputs, small };
    Some(match kind {
        Kind::Never => Output::Never,
        Kind::Number { scale, .. } => Output::Number { expr: builder.build(term)?, scale, own: own_scale(term)? },
        Kind::Boolean => Output::Boolean(builder.build(term)?),
        Kind::Text => return None,
    })
}

fn own_scale(term: &Term) -> Option<OwnScale> {
    Some(match term {
        Term::Source(number) => OwnScale::Source(*number),
        Term::Literal(value) => OwnScale::Constant(literal_number(value)?.1),
        Term::Arithmetic(op, left, right) => {
            let (left, right) = (Box::new(own_scale(left)?), Box::new(own_scale(right)?));
            match op {
                Arithmetic::Mul => OwnScale::Sum(left, right),
                Arithmetic::Add | Arithmetic::Sub => OwnScale::Larger(left, right),
            }
        }
        _ => return None,
    })
}

struct Builder<'a> {
    judge: Judge<'a>,
    inputs: &'a mut Vec<(usize, Form)>,
    small: bool,
}

type Built = Arc<dyn PhysicalExpr>;

impl Builder<'_> {
    fn build(&mut self, term: &Term) -> Option<Built> {
        match (term, self.judge.kind(term)?) {
            (_, Kind::Never) => Some(Arc::new(Literal::new(ScalarValue::Boolean(None)))),
            (_, Kind::Number { scale, .. }) => self.number(term, scale),
            (Term::Source(number), kind) => {
                let form = if kind == Kind::Text { Form::Text } else { Form::Boolean };
                Some(self.input(*number, form))
            }
            (Term::Literal(Value::String(text)), _) => {
                Some(Arc::new(Literal::new(ScalarValue::Utf8(Some(text.to_string())))))
            }
            (Term::Literal(Value::Bool(value)), _) => Some(Arc::new(Literal::new(ScalarValue::Boolean(Some(*value))))),
            (Term::Compare(op, left, right), _) => self.compare(*op, left, right),
            (Term::Logic(logic, left, right), _) => {
                let (left, right) = (self.build(left)?, self.build(right)?);
                Some(match logic {
                    Logic::And => Arc::new(BinaryExpr::new(left, Operator::And, right)),
                    Logic::Or => Arc::new(BinaryExpr::new(left, Operator::Or, right)),
                    logic => Arc::new(Strict { logic: *logic, left, right }),
                })
            }
            (Term::Not(operand), _) => Some(Arc::new(NotExpr::new(self.build(operand)?))),
            _ => None,
        }
    }

    fn compare(&mut self, op: Comparison, left: &Term, right: &Term) -> Option<Built> {
        let (left, right) = match (self.judge.kind(left)?, self.judge.kind(right)?) {
            (Kind::Number { scale, .. }, Kind::Number { scale: other, .. }) => {
                let scale = scale.max(other);
                (self.number(left, scale)?, self.number(right, scale)?)
            }
            _ => (self.build(left)?, self.build(right)?),
        };
        let op = match op {
            Comparison::Eq => Operator::Eq,
            Comparison::Ne => Operator::NotEq,
            Comparison::Lt => Operator::Lt,
            Comparison::Le => Operator::LtEq,
            Comparison::Gt => Operator::Gt,
            Comparison::Ge => Operator::GtEq,
        };
        Some(Arc::new(BinaryExpr::new(left, op, right)))
    }

    /// A number at a scale that is at least its own. Literals and sources are brought to it before the batch is
    /// evaluated, so that the operators find equal scales.
    fn number(&mut self, term: &Term, scale: u8) -> Option<Built> {
        let Kind::Number { scale: own, .. } = self.judge.kind(term)? else { return None };
        match term {
            Term::Source(number) => {
                let form = if self.small { Form::Small { scale } } else { Form::Wide { scale } };
                Some(self.input(*number, form))
            }
            Term::Literal(value) => {
                let (mantissa, own) = literal_number(value)?;
                Some(self.constant(mantissa.checked_mul(10i128.pow(u32::from(scale - own)))?, scale))
            }
            Term::Arithmetic(op, left, right) => {
                let at_own = match op {
                    Arithmetic::Mul => {
                        let (left, right) = (self.build(left)?, self.build(right)?);
                        Arc::new(BinaryExpr::new(left, Operator::Multiply, right))
                    }
                    Arithmetic::Add | Arithmetic::Sub => {
                        let (left, right) = (self.number(left, own)?, self.number(right, own)?);
                        let op = if *op == Arithmetic::Add { Operator::Plus } else { Operator::Minus };
                        Arc::new(BinaryExpr::new(left, op, right))
                    }
                };
                if scale == own {
                    return Some(at_own);
                }
                // Times one, spelt with zeros.
                let one = self.constant(10i128.pow(u32::from(scale - own)), scale - own);
                Some(Arc::new(BinaryExpr::new(at_own, Operator::Multiply, one)))
            }
            _ => None,
        }
    }

    fn constant(&self, mantissa: i128, scale: u8) -> Built {
        let value = match i64::try_from(mantissa) {
            Ok(mantissa) if self.small => ScalarValue::Decimal64(Some(mantissa), SMALL_PRECISION, scale as i8),
            _ => ScalarValue::Decimal128(Some(mantissa), WIDE_PRECISION, scale as i8),
        };
        Arc::new(Literal::new(value))
    }

    fn input(&mut self, source: usize, form: Form) -> Built {
        let known = self.inputs.iter().position(|known| *known == (source, form));
        let number = known.unwrap_or_else(|| {
            self.inputs.push((source, form));
            self.inputs.len() - 1
        });
        Arc::new(Column::new(&format!("i{number}"), number))
    }
}
