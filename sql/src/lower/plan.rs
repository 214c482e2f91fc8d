//! Plans: how to compute a set of terms for rows whose sources have certain kinds.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion_physical_expr::PhysicalExpr;

use super::build::Builder;
use super::kernel::number_type;
use super::kinds::{Kind, SourceKind};
use super::term::{Term, Why};
use crate::ast::Dialect;
use crate::value::Value;

/// How a source becomes an Arrow column of the plan's input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Numbers at one scale.
    Small {
        scale: u8,
    },
    Wide {
        scale: u8,
    },
    /// Numbers, each with its own scale.
    AnyNumber,
    /// The own scales of numbers.
    Scales,
    Text,
    Boolean,
    /// Which rows have a value.
    Present,
    /// Which rows are JSON null.
    JsonNull,
}

impl Form {
    /// What such a column of a source is called, for people.
    pub(super) fn described(self, source: &str) -> String {
        match self {
            Self::Scales => format!("scale of {source}"),
            Self::Present => format!("{source} is there"),
            Self::JsonNull => format!("{source} is null"),
            _ => source.to_owned(),
        }
    }

    pub(super) fn data_type(self) -> DataType {
        match self {
            Self::Small { scale } => DataType::Decimal64(SMALL_PRECISION, scale as i8),
            Self::Wide { scale } => DataType::Decimal128(WIDE_PRECISION, scale as i8),
            Self::AnyNumber => number_type(),
            Self::Scales => DataType::UInt8,
            Self::Text => DataType::Utf8,
            Self::Boolean | Self::Present | Self::JsonNull => DataType::Boolean,
        }
    }
}

pub(super) const SMALL_PRECISION: u8 = 18;
pub(super) const WIDE_PRECISION: u8 = 38;

pub(super) type Built = Arc<dyn PhysicalExpr>;

/// How a term's column is made.
#[derive(Debug)]
pub(super) enum Output {
    /// The source as it is.
    Source(usize),
    /// The same in every row.
    Constant(Value),
    /// Undefined in every row.
    Never,
    /// A number at this scale; the scale that each row's result has by itself (as `BigDecimal` has it) besides.
    Number { expr: Built, scale: u8, own: OwnScale },
    /// Numbers, texts or booleans, by their Arrow type; and which rows are JSON null.
    Values { expr: Built, null: Option<Built> },
    /// Row by row, by the scalar evaluator.
    RowWise(Why),
}

/// The scales that the numbers of a column at one scale have by themselves.
#[derive(Debug)]
pub(super) enum OwnScale {
    Same(u8),
    Each(Built),
}

/// How to compute terms for rows whose sources have certain kinds.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) inputs: Vec<(usize, Form)>,
    pub(super) schema: SchemaRef,
    pub(super) outputs: Vec<Output>,
}

impl Plan {
    /// `names` are what the sources are called, for people.
    pub(super) fn new(
        terms: &[Result<Term, Why>],
        sources: &[SourceKind],
        names: &[Arc<str>],
        dialect: Dialect,
    ) -> Self {
        let mut inputs = Vec::new();
        let outputs = terms.iter().map(|term| match term {
            Ok(term) => {
                let inputs_before = inputs.len();
                output(term, Builder::new(sources, names, dialect, &mut inputs)).unwrap_or_else(|why| {
                    inputs.truncate(inputs_before);
                    Output::RowWise(why)
                })
            }
            Err(why) => Output::RowWise(why.clone()),
        });
        let outputs = outputs.collect();
        let fields = inputs.iter().enumerate();
        let fields = fields.map(|(number, (_, form))| Field::new(number.to_string(), form.data_type(), true));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        Self { inputs, schema, outputs }
    }
}

fn output(term: &Term, mut builder: Builder<'_>) -> Result<Output, Why> {
    match term {
        Term::Source(number) => return Ok(Output::Source(*number)),
        Term::Literal(value) => return Ok(Output::Constant(value.clone())),
        _ => {}
    }
    let kind = builder.begin(term)?;
    let null = builder.null(term)?;
    Ok(match kind {
        Kind::Never if null.is_none() => Output::Never,
        Kind::Number { scale, .. } => {
            Output::Number { expr: builder.number(term, scale)?, scale, own: builder.own_scale(term)? }
        }
        kind => Output::Values { expr: builder.of_kind(term, kind)?, null },
    })
}
