//! Evaluating a set of terms over chosen rows: sources are gathered, the plan for their kinds is found or made, and its
//! results come back as columns.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, Decimal64Array, Decimal128Array, StringArray, cast::AsArray};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{Decimal64Type, Decimal128Type};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion_common::DataFusionError;
use datafusion_physical_expr::PhysicalExpr;

use super::kinds::SourceKind;
use super::plan::{Form, Output, OwnScale, Plan, SMALL_PRECISION, WIDE_PRECISION};
use super::source::{Gathered, gather};
use super::term::{Source, Term};
use crate::ast::Dialect;
use crate::column::{Column, ColumnData, NUMBER_PRECISION};
use crate::message::Message;
use crate::shred::{Shredder, SlotKind};

/// Plans kept for one set of terms.
const MAX_PLANS: usize = 64;
/// Scales up to this are remembered, so that a batch of whole numbers does not need a plan of its own.
const STICKY_SCALE: u8 = 6;
/// Numbers of so many bits are treated alike.
const BIT_STEPS: [u32; 5] = [16, 32, 40, 48, 63];

/// The batch that terms are evaluated over.
#[derive(Clone, Copy)]
pub(crate) struct Batch<'a> {
    pub(crate) shredder: &'a Shredder,
    pub(crate) messages: &'a [Message<'a>],
    pub(crate) dialect: Dialect,
}

/// Terms that are evaluated together.
#[derive(Debug, Default)]
pub(crate) struct TermSet {
    pub(crate) terms: Vec<Option<Term>>,
    pub(crate) sources: Vec<Source>,
    plans: HashMap<Vec<SourceKind>, Arc<Plan>, ahash::RandomState>,
    scales: Vec<u8>,
}

impl TermSet {
    pub(crate) fn new(terms: Vec<Option<Term>>, sources: Vec<Source>) -> Self {
        Self { terms, scales: vec![0; sources.len()], sources, plans: HashMap::default() }
    }

    /// Terms and sources.
    pub(crate) fn into_parts(self) -> (Vec<Option<Term>>, Vec<Source>) {
        (self.terms, self.sources)
    }

    /// A column for each term over the chosen rows of a group; `None` where a term has to be evaluated row by row.
    pub(crate) fn evaluate(
        &mut self,
        batch: &Batch<'_>,
        kinds: &[SlotKind],
        chosen: &[u32],
    ) -> Result<Vec<Option<Column>>, DataFusionError> {
        let gathered: Vec<Gathered> = self.sources.iter().map(|source| gather(source, batch, kinds, chosen)).collect();
        let key: Vec<SourceKind> =
            gathered.iter().zip(&mut self.scales).map(|(gathered, sticky)| source_kind(gathered, sticky)).collect();
        let plan = self.plan(key);
        let inputs: Vec<ArrayRef> =
            plan.inputs.iter().map(|(source, form)| input(gathered.get(*source), *form, chosen.len())).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(chosen.len()));
        let rows = RecordBatch::try_new_with_options(Arc::clone(&plan.schema), inputs, &options)?;
        let mut columns = Vec::with_capacity(plan.outputs.len());
        for output in &plan.outputs {
            columns.push(match output {
                Output::RowWise => None,
                Output::Never => Some(never(chosen.len())),
                Output::Constant(value) => Some(Column::dynamic(vec![value.clone(); chosen.len()])),
                Output::Boolean(expr) => Some(boolean(expr, &rows)?),
                Output::Number { expr, scale, own } => Some(number(expr, &rows, *scale, own, &gathered)?),
                Output::Source(source) => {
                    let values = gathered.get(*source);
                    values.and_then(|values| values.column(self.sources.get(*source), batch, kinds, chosen))
                }
            });
        }
        Ok(columns)
    }

    fn plan(&mut self, key: Vec<SourceKind>) -> Arc<Plan> {
        if let Some(plan) = self.plans.get(&key) {
            return Arc::clone(plan);
        }
        if self.plans.len() >= MAX_PLANS {
            self.plans.clear();
        }
        let plan = Arc::new(Plan::new(&self.terms, &key));
        self.plans.insert(key, Arc::clone(&plan));
        plan
    }
}

fn source_kind(gathered: &Gathered, sticky: &mut u8) -> SourceKind {
    match gathered {
        Gathered::Numbers(numbers) | Gathered::Time(numbers) => {
            let scale = numbers.max_scale.max(*sticky);
            *sticky = scale.min(STICKY_SCALE);
            let bits = numbers.bits(scale);
            let bits = BIT_STEPS.into_iter().find(|step| *step >= bits).unwrap_or(bits);
            SourceKind::Number { scale, bits, json_null: numbers.has_json_null() }
        }
        Gathered::Text(_, json_null) => SourceKind::Text { json_null: *json_null },
        Gathered::Boolean(_, json_null) => SourceKind::Boolean { json_null: *json_null },
        Gathered::Missing(json_null) => SourceKind::Missing { json_null: *json_null },
        Gathered::Other => SourceKind::Other,
    }
}

/// A source as the plan wants it. The plan was made for its kind, so that nothing is lost here.
fn input(gathered: Option<&Gathered>, form: Form, rows: usize) -> ArrayRef {
    match (gathered, form) {
        (Some(Gathered::Numbers(numbers) | Gathered::Time(numbers)), Form::Small { scale }) => {
            let (values, nulls) = numbers.at_scale(scale);
            let values = Decimal64Array::new(values, nulls);
            Arc::new(values.with_data_type(arrow::datatypes::DataType::Decimal64(SMALL_PRECISION, scale as i8)))
        }
        (Some(Gathered::Numbers(numbers) | Gathered::Time(numbers)), Form::Wide { scale }) => {
            let (values, nulls) = numbers.wide_at_scale(scale);
            let values = Decimal128Array::new(values, nulls);
            Arc::new(values.with_data_type(arrow::datatypes::DataType::Decimal128(WIDE_PRECISION, scale as i8)))
        }
        (Some(Gathered::Text(texts, _)), Form::Text) => Arc::new(texts.clone()),
        (Some(Gathered::Boolean(values, _)), Form::Boolean) => Arc::new(values.clone()),
        (_, Form::Text) => Arc::new(StringArray::new_null(rows)),
        (_, _) => Arc::new(BooleanArray::new_null(rows)),
    }
}

fn never(rows: usize) -> Column {
    Column::of(ColumnData::Boolean(BooleanArray::new_null(rows)))
}

fn boolean(expr: &Arc<dyn PhysicalExpr>, rows: &RecordBatch) -> Result<Column, DataFusionError> {
    let values = expr.evaluate(rows)?.into_array(rows.num_rows())?;
    Ok(match values.as_boolean_opt() {
        Some(values) => Column::of(ColumnData::Boolean(values.clone())),
        None => never(rows.num_rows()),
    })
}

fn number(
    expr: &Arc<dyn PhysicalExpr>,
    rows: &RecordBatch,
    scale: u8,
    own: &OwnScale,
    gathered: &[Gathered],
) -> Result<Column, DataFusionError> {
    let values = expr.evaluate(rows)?.into_array(rows.num_rows())?;
    let wide = match values.as_primitive_opt::<Decimal64Type>() {
        Some(small) => {
            Decimal128Array::new(small.values().iter().map(|v| i128::from(*v)).collect(), small.nulls().cloned())
        }
        None => match values.as_primitive_opt::<Decimal128Type>() {
            Some(wide) => wide.clone(),
            None => Decimal128Array::new_null(rows.num_rows()),
        },
    };
    let data_type = arrow::datatypes::DataType::Decimal128(NUMBER_PRECISION, scale as i8);
    let scales = match own_scales(own, gathered) {
        Scales::All(all) if all == scale => None,
        Scales::All(all) => Some(vec![all; rows.num_rows()].into()),
        Scales::Each(each) => Some(each.into()),
    };
    Ok(Column::of(ColumnData::Number { values: wide.with_data_type(data_type), scales }))
}

enum Scales {
    All(u8),
    Each(Vec<u8>),
}

fn own_scales(own: &OwnScale, gathered: &[Gathered]) -> Scales {
    match own {
        OwnScale::Constant(scale) => Scales::All(*scale),
        OwnScale::Source(source) => match gathered.get(*source) {
            Some(Gathered::Numbers(numbers) | Gathered::Time(numbers)) => match numbers.own_scales() {
                Some(each) => Scales::Each(each.to_vec()),
                None => Scales::All(numbers.max_scale),
            },
            _ => Scales::All(0),
        },
        OwnScale::Larger(left, right) => merged(left, right, gathered, u8::max),
        OwnScale::Sum(left, right) => merged(left, right, gathered, u8::wrapping_add),
    }
}

fn merged(left: &OwnScale, right: &OwnScale, gathered: &[Gathered], merge: impl Fn(u8, u8) -> u8) -> Scales {
    match (own_scales(left, gathered), own_scales(right, gathered)) {
        (Scales::All(left), Scales::All(right)) => Scales::All(merge(left, right)),
        (Scales::Each(mut each), Scales::All(all)) | (Scales::All(all), Scales::Each(mut each)) => {
            each.iter_mut().for_each(|scale| *scale = merge(*scale, all));
            Scales::Each(each)
        }
        (Scales::Each(mut each), Scales::Each(other)) => {
            each.iter_mut().zip(other).for_each(|(scale, other)| *scale = merge(*scale, other));
            Scales::Each(each)
        }
    }
}

/// Where a Boolean column is true; `None` if it is not Boolean.
pub(crate) fn truth(column: &Column) -> Option<BooleanBuffer> {
    match &column.data {
        ColumnData::Boolean(values) => Some(match values.nulls() {
            Some(nulls) => values.values() & nulls.inner(),
            None => values.values().clone(),
        }),
        ColumnData::Dynamic(values) => Some(values.iter().map(|value| value.to_bool() == Some(true)).collect()),
        _ => None,
    }
}
