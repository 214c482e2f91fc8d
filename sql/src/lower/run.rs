//! Evaluating a set of terms over chosen rows: sources are gathered, the plan for their kinds is found or made, and its
//! results come back as columns. Where a source is of several kinds among the rows, only the terms that read it are
//! evaluated in parts, each for rows of one kind.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use arrow::array::{Array, BooleanArray, Decimal128Array, Int64Array, StringArray, StructArray, cast::AsArray};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{DataType, Decimal64Type, Decimal128Type, UInt8Type};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion_common::DataFusionError;

use super::cache::{Cache, Kept};
use super::kernel::NumberReader;
use super::kinds::SourceKind;
use super::plan::{Built, Output, OwnScale, Plan};
use super::source::{Gathered, gather};
use super::term::{Source, Term, Why};
use crate::ast::Dialect;
use crate::column::{Column, ColumnData, NUMBER_PRECISION, Place};
use crate::message::Message;
use crate::shred::{Groups, MAX_GROUPS, Paths, Present, Shredder, SlotKind};
use crate::value::{Value, truth_text};

/// Plans kept for one set of terms.
const MAX_PLANS: usize = 64;
/// Scales up to this are remembered, so that a batch of whole numbers does not need a plan of its own.
const STICKY_SCALE: u8 = 6;
/// Numbers of so many bits are treated alike.
const BIT_STEPS: [u32; 5] = [16, 32, 40, 48, 63];
/// Bytes of a text up to which plans work on it. It bounds what a hostile payload can make of a rule.
const MAX_PLAIN_TEXT: usize = 16 << 10;

/// The batch that terms are evaluated over.
#[derive(Clone, Copy)]
pub(crate) struct Batch<'a> {
    pub(crate) shredder: &'a Shredder,
    pub(crate) messages: &'a [Message<'a>],
    pub(crate) dialect: Dialect,
    pub(crate) cache: &'a Cache,
}

/// Terms that are evaluated together.
#[derive(Debug, Default)]
pub(crate) struct TermSet {
    pub(crate) terms: Vec<Result<Term, Why>>,
    pub(crate) sources: Vec<Source>,
    /// The sources that each term reads.
    reads: Vec<Vec<usize>>,
    /// What each source is called, where people are shown plans.
    names: Vec<Arc<str>>,
    plans: HashMap<Vec<SourceKind>, Arc<Plan>, ahash::RandomState>,
    scales: Vec<u8>,
}

/// What terms give for the chosen rows of a batch.
pub(crate) struct Found {
    /// By term; `None` where one is in parts or has to be evaluated row by row.
    pub(crate) columns: Vec<Option<Column>>,
    /// Terms that are in parts, ascending.
    pub(crate) in_parts: Vec<usize>,
    pub(crate) parts: Vec<Part>,
    /// Where the chosen rows are in the parts.
    pub(crate) places: Arc<[Place]>,
}

/// Some of the chosen rows, whose sources are each of one kind.
pub(crate) struct Part {
    pub(crate) rows: Vec<u32>,
    /// By term; `None` where one is not in parts or has to be evaluated row by row.
    pub(crate) columns: Vec<Option<Column>>,
}

impl TermSet {
    /// Terms, or why there is none for an expression, over these sources.
    pub(crate) fn new(terms: Vec<Result<Term, Why>>, sources: Vec<Source>) -> Self {
        let reads = terms.iter().map(|term| term.as_ref().map(Term::sources).unwrap_or_default()).collect();
        Self { terms, scales: vec![0; sources.len()], sources, reads, names: Vec::new(), plans: HashMap::default() }
    }

    /// Adds terms over the same sources, before any is evaluated.
    pub(crate) fn append(&mut self, other: Self) {
        self.terms.extend(other.terms);
        self.reads.extend(other.reads);
    }

    /// How each term is computed for the chosen rows, as text, or why it is evaluated row by row.
    pub(crate) fn explain(&mut self, paths: &Paths, batch: &Batch<'_>, chosen: &[u32]) -> Vec<Result<String, String>> {
        self.names = self.sources.iter().map(|source| source.described(paths).into()).collect();
        let kinds = self.kinds(batch, batch.shredder.groups().present(chosen));
        let kinds = kinds.into_iter().map(|kind| kind.unwrap_or(SlotKind::Dynamic));
        let sources = self.sources.iter().zip(kinds);
        let gathered: Vec<Gathered> = sources.map(|(source, kind)| gather(source, batch, kind, chosen)).collect();
        let plan = self.plan(gathered.iter(), batch.dialect);
        let explain = |output: &Output| match output {
            Output::Source(source) => Ok(self.names.get(*source).map(|name| name.to_string()).unwrap_or_default()),
            Output::Constant(value) => Ok(format!("always {}", value.to_text().unwrap_or("NULL".into()))),
            Output::Never => Ok("Undefined in every row of these kinds".to_owned()),
            Output::Number { expr, .. } | Output::Values { expr, .. } => Ok(expr.to_string()),
            Output::RowWise(why) => Err(why.clone().into_owned()),
        };
        plan.outputs.iter().map(explain).collect()
    }

    /// Terms and sources.
    pub(crate) fn into_parts(self) -> (Vec<Result<Term, Why>>, Vec<Source>) {
        (self.terms, self.sources)
    }

    /// The columns of all terms over the chosen rows.
    pub(crate) fn evaluate(&mut self, batch: &Batch<'_>, chosen: &[u32]) -> Result<Found, DataFusionError> {
        let groups = batch.shredder.groups();
        let present = groups.present(chosen);
        let kinds = self.kinds(batch, present);
        if !kinds.contains(&None) {
            let columns = self.evaluate_some(batch, &kinds, chosen, &[])?;
            return Ok(Found { columns, in_parts: Vec::new(), parts: Vec::new(), places: Arc::default() });
        }
        let is_mixed = |source: &usize| kinds.get(*source) == Some(&None);
        let in_parts = self.reads.iter().enumerate().filter(|(_, reads)| reads.iter().any(is_mixed));
        let in_parts: Vec<usize> = in_parts.map(|(term, _)| term).collect();
        let columns = self.evaluate_some(batch, &kinds, chosen, &in_parts)?;
        let others: Vec<usize> = (0..self.terms.len()).filter(|term| in_parts.binary_search(term).is_err()).collect();
        let (kinds, part_of) = self.split(batch, &in_parts, present);
        let mut rows = vec![Vec::new(); kinds.len()];
        let place = |row: &u32| {
            let part = part_of.get(groups.of(*row)).copied().unwrap_or_default();
            let Some(rows) = rows.get_mut(part) else { return Place::default() };
            rows.push(*row);
            Place { part: part as u32, row: rows.len() as u32 - 1 }
        };
        let places = chosen.iter().map(place).collect();
        let parts = kinds.into_iter().zip(rows).map(|(kinds, rows)| {
            let columns = self.evaluate_some(batch, &kinds, &rows, &others)?;
            Ok(Part { rows, columns })
        });
        let parts = parts.collect::<Result<_, DataFusionError>>()?;
        Ok(Found { columns, in_parts, parts, places })
    }

    /// The kind of each source in some groups; none if it has several.
    fn kinds(&self, batch: &Batch<'_>, present: Present) -> Vec<Option<SlotKind>> {
        let kind = |source: &Source| match source {
            Source::Path(slot) => batch.shredder.groups().kind(usize::from(*slot), present),
            _ => Some(SlotKind::Missing),
        };
        self.sources.iter().map(kind).collect()
    }

    /// Parts of groups that are alike in what these terms read: the kinds of the sources in each, and the part of each
    /// group.
    fn split(
        &self,
        batch: &Batch<'_>,
        terms: &[usize],
        present: Present,
    ) -> (Vec<Vec<Option<SlotKind>>>, [usize; MAX_GROUPS]) {
        let is_read =
            |source: usize| terms.iter().filter_map(|term| self.reads.get(*term)).any(|of| of.contains(&source));
        let is_read: Vec<bool> = (0..self.sources.len()).map(is_read).collect();
        let mut parts: Vec<Vec<Option<SlotKind>>> = Vec::new();
        let mut part_of = [0; MAX_GROUPS];
        for group in Groups::numbers(present) {
            let kinds = self.kinds(batch, 1 << group).into_iter().zip(&is_read);
            let kinds: Vec<_> = kinds.map(|(kind, is_read)| kind.filter(|_| *is_read)).collect();
            let part = parts.iter().position(|known| *known == kinds).unwrap_or(parts.len());
            part_of.get_mut(group).into_iter().for_each(|of| *of = part);
            if part == parts.len() {
                parts.push(kinds);
            }
        }
        (parts, part_of)
    }

    /// The columns of the terms but these, whose sources have kinds.
    fn evaluate_some(
        &mut self,
        batch: &Batch<'_>,
        kinds: &[Option<SlotKind>],
        chosen: &[u32],
        without: &[usize],
    ) -> Result<Vec<Option<Column>>, DataFusionError> {
        let sources = self.sources.iter().zip(kinds);
        let gathered: Vec<Rc<Kept>> =
            sources.map(|(source, kind)| batch.cache.gathered(source, batch, *kind, chosen)).collect();
        let plan = self.plan(gathered.iter().map(|kept| &kept.values), batch.dialect);
        let at = |number: &usize| Some((self.sources.get(*number)?, gathered.get(*number)?));
        let inputs = plan.inputs.iter().map(|(source, form)| match at(source) {
            Some((source, kept)) => kept.input(*form, source, batch, chosen),
            None => arrow::array::new_null_array(&form.data_type(), chosen.len()),
        });
        let options = RecordBatchOptions::new().with_row_count(Some(chosen.len()));
        let rows = RecordBatch::try_new_with_options(Arc::clone(&plan.schema), inputs.collect(), &options)?;
        let mut columns = Vec::with_capacity(plan.outputs.len());
        for (term, output) in plan.outputs.iter().enumerate() {
            columns.push(match output {
                _ if without.binary_search(&term).is_ok() => None,
                Output::RowWise(_) => None,
                Output::Never => Some(never(chosen.len())),
                Output::Constant(value) => Some(constant(value, chosen.len())),
                Output::Number { expr, scale, own } => Some(number(expr, &rows, *scale, own)?),
                Output::Values { expr, null } => Some(values(expr, null.as_ref(), &rows)?),
                Output::Source(number) => at(number).and_then(|(source, kept)| {
                    let kind = kinds.get(*number).copied().flatten().unwrap_or(SlotKind::Dynamic);
                    kept.values.column(source, batch, kind, chosen)
                }),
            });
        }
        Ok(columns)
    }

    fn plan<'g>(&mut self, gathered: impl Iterator<Item = &'g Gathered>, dialect: Dialect) -> Arc<Plan> {
        let kinds = gathered.zip(&mut self.scales);
        let key: Vec<SourceKind> = kinds.map(|(gathered, sticky)| source_kind(gathered, sticky)).collect();
        if let Some(plan) = self.plans.get(&key) {
            return Arc::clone(plan);
        }
        if self.plans.len() >= MAX_PLANS {
            self.plans.clear();
        }
        let plan = Arc::new(Plan::new(&self.terms, &key, &self.names, dialect));
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
            SourceKind::Number { scale, bits, own: numbers.own_scale(), json_null: numbers.has_json_null() }
        }
        Gathered::Text(texts, _) if longest(texts) > MAX_PLAIN_TEXT => SourceKind::LongText,
        Gathered::Text(_, json_null) => SourceKind::Text { json_null: *json_null },
        Gathered::Boolean(_, json_null) => SourceKind::Boolean { json_null: *json_null },
        Gathered::Json { json_null, .. } => SourceKind::Json { json_null: *json_null },
        Gathered::Missing { json_null } => SourceKind::Missing { json_null: *json_null },
        Gathered::Other => SourceKind::Other,
    }
}

fn longest(texts: &StringArray) -> usize {
    if texts.values().len() <= MAX_PLAIN_TEXT {
        return 0;
    }
    let lengths = texts.value_offsets().array_windows::<2>().map(|[start, end]| end - start);
    lengths.max().and_then(|longest| usize::try_from(longest).ok()).unwrap_or(0)
}

fn never(rows: usize) -> Column {
    Column::of(ColumnData::Boolean(BooleanArray::new_null(rows)))
}

/// The same value in every row.
fn constant(value: &Value, rows: usize) -> Column {
    match value {
        Value::String(text) => {
            Column::of(ColumnData::String(StringArray::from_iter_values(std::iter::repeat_n(&**text, rows))))
        }
        Value::Bool(value) => {
            let values = if *value { BooleanBuffer::new_set(rows) } else { BooleanBuffer::new_unset(rows) };
            Column::of(ColumnData::Boolean(BooleanArray::new(values, None)))
        }
        Value::Int(whole) => match i64::try_from(*whole) {
            Ok(whole) => Column::of(ColumnData::Int64(Int64Array::from_value(whole, rows))),
            Err(_) => Column::dynamic(vec![value.clone(); rows]),
        },
        Value::Undefined => never(rows),
        Value::Null => Column { json_null: Some(BooleanBuffer::new_set(rows)), ..never(rows) },
        other => Column::dynamic(vec![other.clone(); rows]),
    }
}

/// The values of an expression, by the type that they turn out to have.
fn values(expr: &Built, null: Option<&Built>, rows: &RecordBatch) -> Result<Column, DataFusionError> {
    let json_null = match null {
        Some(null) => {
            let null = null.evaluate(rows)?.into_array(rows.num_rows())?;
            null.as_boolean_opt().map(|null| null.values().clone()).filter(|null| null.count_set_bits() > 0)
        }
        None => None,
    };
    let values = expr.evaluate(rows)?.into_array(rows.num_rows())?;
    if let Some(numbers) = values.as_struct_opt() {
        return Ok(numbers_column(numbers, json_null));
    }
    let data = match values.data_type() {
        DataType::Boolean => values.as_boolean_opt().map(|values| ColumnData::Boolean(values.clone())),
        DataType::Utf8 => values.as_string_opt().map(|values| ColumnData::String(values.clone())),
        _ => None,
    };
    let data = data.unwrap_or_else(|| ColumnData::Boolean(BooleanArray::new_null(rows.num_rows())));
    Ok(Column { data, json_null })
}

/// Numbers with scales of their own, as decimals where they fit.
fn numbers_column(numbers: &StructArray, json_null: Option<BooleanBuffer>) -> Column {
    let rows = numbers.len();
    let Some(reader) = NumberReader::of(numbers) else { return never(rows) };
    if let Some(data) = decimals(&reader, rows) {
        return Column { data, json_null };
    }
    let is_null = |row: usize| json_null.as_ref().is_some_and(|null| null.value(row));
    let value = |row: usize| if is_null(row) { Value::Null } else { reader.get(row) };
    Column::dynamic((0..rows).map(value).collect())
}

fn decimals(reader: &NumberReader<'_>, rows: usize) -> Option<ColumnData> {
    let mut scale = 0;
    let own: Option<Vec<u8>> = (0..rows)
        .map(|row| {
            let own = match reader.get(row) {
                // Scale 0 stands for Int.
                Value::Decimal(number) => u8::try_from(number.scale()).ok().filter(|own| (1..=37).contains(own))?,
                _ => 0,
            };
            scale = scale.max(own);
            Some(own)
        })
        .collect();
    let own = own?;
    let mut mantissas = Vec::with_capacity(rows);
    for (row, own) in own.iter().enumerate() {
        mantissas.push(match reader.get(row) {
            Value::Int(whole) => Some(at_scale(whole, 0, scale)?),
            Value::Decimal(number) => Some(at_scale(number.mantissa(), *own, scale)?),
            _ => None,
        });
    }
    let data_type = DataType::Decimal128(NUMBER_PRECISION, scale as i8);
    let values = mantissas.into_iter().collect::<Decimal128Array>().with_data_type(data_type);
    let uniform = own.iter().all(|own| *own == scale);
    Some(ColumnData::Number { values, scales: if uniform { None } else { Some(own.into()) } })
}

/// A mantissa at a larger scale, if that has no more digits than columns of numbers hold.
fn at_scale(mantissa: i128, own: u8, scale: u8) -> Option<i128> {
    let limit = 10u128.pow(u32::from(NUMBER_PRECISION));
    let power = 10i128.checked_pow(u32::from(scale - own))?;
    mantissa.checked_mul(power).filter(|mantissa| mantissa.unsigned_abs() < limit)
}

fn number(expr: &Built, rows: &RecordBatch, scale: u8, own: &OwnScale) -> Result<Column, DataFusionError> {
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
    let data_type = DataType::Decimal128(NUMBER_PRECISION, scale as i8);
    let scales: Option<Arc<[u8]>> = match own {
        OwnScale::Same(own) => (*own != scale).then(|| vec![*own; rows.num_rows()].into()),
        OwnScale::Each(own) => {
            let own = own.evaluate(rows)?.into_array(rows.num_rows())?;
            own.as_primitive_opt::<UInt8Type>().and_then(|own| {
                let uniform = own.values().iter().all(|own| *own == scale);
                (!uniform).then(|| own.values().as_ref().into())
            })
        }
    };
    Ok(Column::of(ColumnData::Number { values: wide.with_data_type(data_type), scales }))
}

/// Where a Boolean column is true; texts may spell it. No other kind is ever true.
pub(crate) fn truth(column: &Column) -> Option<BooleanBuffer> {
    match &column.data {
        ColumnData::Boolean(values) => Some(match values.nulls() {
            Some(nulls) => values.values() & nulls.inner(),
            None => values.values().clone(),
        }),
        ColumnData::Dynamic(values) => Some(values.iter().map(|value| value.to_bool() == Some(true)).collect()),
        ColumnData::Mixed(_) => {
            // The text or boolean that a value is does not depend on the dialect.
            let holds = |row| column.value(row, Dialect::Native).to_bool() == Some(true);
            Some((0..column.len()).map(holds).collect())
        }
        ColumnData::String(texts) => Some(texts.iter().map(|text| text.and_then(truth_text) == Some(true)).collect()),
        ColumnData::Number { .. } | ColumnData::Int64(_) | ColumnData::Json(_) => {
            Some(BooleanBuffer::new_unset(column.len()))
        }
    }
}
