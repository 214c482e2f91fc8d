//! Fits rows into the columns of the lake: what a column can hold goes into it, anything else into `_rescued`.
//!
//! A new name becomes a column by its first value: number DOUBLE, text VARCHAR, boolean BOOLEAN, array or object JSON
//! text. JSON `null` and a missing member are both SQL NULL. Nothing else changes or disappears: what is not in its
//! column is in `_rescued` under its name.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanBuilder, Decimal128Builder, Float64Builder, Int64Array, Int64Builder, RecordBatch,
    StringBuilder, TimestampMicrosecondArray, TimestampMicrosecondBuilder,
};
use arrow::compute::kernels::cast_utils::string_to_datetime;
use arrow::datatypes::{Field, Schema};
use arrow::error::ArrowError;
use chrono::Utc;

use super::number::{decimal_text, decimal_to_f64, rescale, text_to_decimal, text_to_f64, text_to_i64};
use super::rows::{JsonScalar, LakeColumn, LakeRows};
use super::schema::{self, LakeField, LakeSchema, LakeType, Lookup};

/// The rows as a batch of the columns they have, and how many values went to `_rescued`.
pub(super) struct Fitted {
    pub batch: RecordBatch,
    pub rescued: u64,
}

/// One value, wherever it comes from.
#[derive(Clone, Copy, Debug)]
enum Cell<'a> {
    Nothing,
    Bool(bool),
    Int(i64),
    Decimal(i128, i8),
    Number(&'a str),
    Text(&'a str),
    Json(&'a str),
}

/// Fits `rows`, and adds to `schema` the columns they bring, up to `max_columns`.
pub(super) fn fit(rows: &LakeRows, schema: &mut LakeSchema, max_columns: usize) -> Result<Fitted, ArrowError> {
    let n = rows.len();
    let mut rescue = Rescue::new(n);
    let mut fields: Vec<Field> = Vec::with_capacity(rows.columns.len() + 6);
    let mut arrays: Vec<ArrayRef> = Vec::with_capacity(rows.columns.len() + 6);
    let mut put = |name: &str, array: ArrayRef| {
        fields.push(Field::new(name, array.data_type().clone(), true));
        arrays.push(array);
    };

    let times = TimestampMicrosecondArray::from_iter_values(rows.time_ms.iter().map(|ms| ms.saturating_mul(1000)));
    put(schema::TIME, Arc::new(times.with_timezone("UTC")));
    put(schema::TOPIC, Arc::new(rows.topic.clone()));
    put(schema::CLIENT_ID, Arc::new(rows.client_id.clone()));
    let offsets = rows.offset.iter().map(|offset| i64::try_from(*offset).unwrap_or(i64::MAX));
    put(schema::OFFSET, Arc::new(Int64Array::from_iter_values(offsets)));

    let mut taken = vec![false; schema.fields().len()];
    for (name, column) in &rows.columns {
        let index = match schema.lookup(name) {
            Lookup::Column(index) => Some(index),
            Lookup::Free => infer(column)
                .filter(|_| schema.fields().len() < max_columns)
                .filter(|kind| schema.push(LakeField { name: name.clone(), data_type: *kind }))
                .map(|_| schema.fields().len() - 1),
            Lookup::Refused => None,
        };
        taken.resize(schema.fields().len(), false);
        // A name comes once in a batch; a second column under it has no place of its own.
        let free = index.and_then(|i| taken.get_mut(i)).filter(|taken| !**taken);
        let kind = free.and_then(|taken| {
            *taken = true;
            let kind = index.and_then(|i| schema.fields().get(i)).map(|field| field.data_type);
            kind.filter(|kind| *kind != LakeType::Foreign)
        });
        match kind.map(|kind| as_it_is(column, kind).map_or_else(|| convert(column, kind, name, &mut rescue), Ok)) {
            Some(array) => {
                let array = array?;
                if array.null_count() < n {
                    put(name, array);
                }
            }
            None => (0..n).for_each(|row| rescue.add(row, name, cell(column, row))),
        }
    }

    if let Some(raw) = rows.raw.as_ref().filter(|raw| raw.null_count() < n) {
        schema.need_raw();
        put(schema::RAW, Arc::new(raw.clone()));
    }
    let rescued = rescue.count;
    if let Some(array) = rescue.finish() {
        put(schema::RESCUED, array);
    }
    Ok(Fitted { batch: RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)?, rescued })
}

/// Brings a batch to all columns of `target`, null where it has none.
pub(super) fn widen(batch: &RecordBatch, target: &Arc<Schema>) -> Result<RecordBatch, ArrowError> {
    if batch.schema_ref() == target {
        return Ok(batch.clone());
    }
    let arrays = target.fields().iter().map(|field| match batch.column_by_name(field.name()) {
        Some(array) => array.clone(),
        None => arrow::array::new_null_array(field.data_type(), batch.num_rows()),
    });
    RecordBatch::try_new(target.clone(), arrays.collect())
}

/// The type that the first value of a column gives it.
fn infer(column: &LakeColumn) -> Option<LakeType> {
    let has_value = |array: &dyn Array| array.null_count() < array.len();
    match column {
        LakeColumn::Number(a) => has_value(a).then_some(LakeType::Double),
        LakeColumn::BigInt(a) => has_value(a).then_some(LakeType::Bigint),
        LakeColumn::Text(a) => has_value(a).then_some(LakeType::Varchar),
        LakeColumn::Boolean(a) => has_value(a).then_some(LakeType::Boolean),
        LakeColumn::Json(a) => has_value(a).then_some(LakeType::Json),
        LakeColumn::Mixed(values) => values.iter().find_map(|value| match value {
            JsonScalar::Missing | JsonScalar::Null => None,
            JsonScalar::Bool(_) => Some(LakeType::Boolean),
            JsonScalar::Int(_) => Some(LakeType::Bigint),
            JsonScalar::Number(_) => Some(LakeType::Double),
            JsonScalar::Text(_) => Some(LakeType::Varchar),
            JsonScalar::Json(_) => Some(LakeType::Json),
        }),
    }
}

/// The column's own array where its values need no look: the common case.
fn as_it_is(column: &LakeColumn, kind: LakeType) -> Option<ArrayRef> {
    match (column, kind) {
        (LakeColumn::BigInt(a), LakeType::Bigint) => Some(Arc::new(a.clone())),
        (LakeColumn::Text(a), LakeType::Varchar) | (LakeColumn::Json(a), LakeType::Json) => Some(Arc::new(a.clone())),
        (LakeColumn::Boolean(a), LakeType::Boolean) => Some(Arc::new(a.clone())),
        _ => None,
    }
}

fn cell(column: &LakeColumn, row: usize) -> Cell<'_> {
    match column {
        LakeColumn::Number(a) if a.is_valid(row) => Cell::Decimal(a.value(row), a.scale()),
        LakeColumn::BigInt(a) if a.is_valid(row) => Cell::Int(a.value(row)),
        LakeColumn::Text(a) if a.is_valid(row) => Cell::Text(a.value(row)),
        LakeColumn::Boolean(a) if a.is_valid(row) => Cell::Bool(a.value(row)),
        LakeColumn::Json(a) if a.is_valid(row) => Cell::Json(a.value(row)),
        LakeColumn::Mixed(values) => match values.get(row) {
            Some(JsonScalar::Bool(b)) => Cell::Bool(*b),
            Some(JsonScalar::Int(i)) => Cell::Int(*i),
            Some(JsonScalar::Number(t)) => Cell::Number(t),
            Some(JsonScalar::Text(t)) => Cell::Text(t),
            Some(JsonScalar::Json(t)) => Cell::Json(t),
            _ => Cell::Nothing,
        },
        _ => Cell::Nothing,
    }
}

/// Fills one column value by value; what it refuses goes to `_rescued`.
macro_rules! fill {
    ($builder:expr, $column:expr, $name:expr, $rescue:expr, $take:expr) => {{
        let mut builder = $builder;
        for row in 0..$column.len() {
            match cell($column, row) {
                Cell::Nothing => builder.append_null(),
                value => match $take(value) {
                    Some(taken) => builder.append_value(taken),
                    None => {
                        builder.append_null();
                        $rescue.add(row, $name, value);
                    }
                },
            }
        }
        builder
    }};
}

fn convert(column: &LakeColumn, kind: LakeType, name: &str, rescue: &mut Rescue) -> Result<ArrayRef, ArrowError> {
    let n = column.len();
    Ok(match kind {
        LakeType::Double => Arc::new(fill!(Float64Builder::with_capacity(n), column, name, rescue, to_f64).finish()),
        LakeType::Bigint => Arc::new(fill!(Int64Builder::with_capacity(n), column, name, rescue, to_i64).finish()),
        LakeType::Boolean => Arc::new(fill!(BooleanBuilder::with_capacity(n), column, name, rescue, to_bool).finish()),
        LakeType::Varchar => {
            Arc::new(fill!(StringBuilder::with_capacity(n, 16 * n), column, name, rescue, to_text).finish())
        }
        LakeType::Json => {
            Arc::new(fill!(StringBuilder::with_capacity(n, 16 * n), column, name, rescue, to_json).finish())
        }
        LakeType::Timestamp => {
            let builder = TimestampMicrosecondBuilder::with_capacity(n).with_timezone("UTC");
            Arc::new(fill!(builder, column, name, rescue, to_micros).finish())
        }
        LakeType::Decimal(precision, scale) => {
            let builder = Decimal128Builder::with_capacity(n).with_precision_and_scale(precision, scale)?;
            Arc::new(fill!(builder, column, name, rescue, |v| to_decimal(v, precision, scale)).finish())
        }
        LakeType::Foreign => return Err(ArrowError::NotYetImplemented(format!("column {name} is not ours to write"))),
    })
}

fn to_f64(value: Cell<'_>) -> Option<f64> {
    match value {
        Cell::Decimal(mantissa, scale) => decimal_to_f64(mantissa, scale),
        Cell::Int(i) => decimal_to_f64(i.into(), 0),
        Cell::Number(text) => text_to_f64(text),
        _ => None,
    }
}

fn to_i64(value: Cell<'_>) -> Option<i64> {
    match value {
        Cell::Int(i) => Some(i),
        Cell::Decimal(mantissa, scale) => {
            rescale(mantissa, scale.into(), 0, 20).and_then(|value| i64::try_from(value).ok())
        }
        Cell::Number(text) => text_to_i64(text),
        _ => None,
    }
}

fn to_bool(value: Cell<'_>) -> Option<bool> {
    match value {
        Cell::Bool(b) => Some(b),
        _ => None,
    }
}

fn to_text(value: Cell<'_>) -> Option<&str> {
    match value {
        Cell::Text(text) => Some(text),
        _ => None,
    }
}

/// A JSON column holds every kind as its JSON text: `"abc"` is text, `[1]` an array.
fn to_json(value: Cell<'_>) -> Option<String> {
    Some(json_text(value))
}

fn to_micros(value: Cell<'_>) -> Option<i64> {
    match value {
        Cell::Text(text) => string_to_datetime(&Utc, text).ok().and_then(|t| {
            // Finer than a microsecond does not fit.
            (t.timestamp_subsec_nanos() % 1000 == 0).then(|| t.timestamp_micros())
        }),
        number => match number {
            Cell::Int(ms) => ms.checked_mul(1000),
            Cell::Decimal(m, s) => rescale(m, s.into(), 3, 20).and_then(|us| i64::try_from(us).ok()),
            Cell::Number(text) => {
                let (mantissa, scale) = text_to_decimal(text)?;
                rescale(mantissa, scale, 3, 20).and_then(|us| i64::try_from(us).ok())
            }
            _ => None,
        },
    }
}

fn to_decimal(value: Cell<'_>, precision: u8, scale: i8) -> Option<i128> {
    let (mantissa, from) = match value {
        Cell::Int(i) => (i128::from(i), 0),
        Cell::Decimal(mantissa, from) => (mantissa, i32::from(from)),
        Cell::Number(text) => text_to_decimal(text)?,
        _ => return None,
    };
    rescale(mantissa, from, scale.into(), precision)
}

fn json_text(value: Cell<'_>) -> String {
    match value {
        Cell::Nothing => "null".into(),
        Cell::Bool(b) => b.to_string(),
        Cell::Int(i) => i.to_string(),
        Cell::Decimal(mantissa, scale) => decimal_text(mantissa, scale),
        Cell::Number(text) | Cell::Json(text) => text.to_owned(),
        Cell::Text(text) => serde_json::Value::from(text).to_string(),
    }
}

/// The `_rescued` texts of a batch while it is fitted.
struct Rescue {
    rows: usize,
    texts: Vec<String>,
    count: u64,
}

impl Rescue {
    fn new(rows: usize) -> Self {
        Self { rows, texts: Vec::new(), count: 0 }
    }

    fn add(&mut self, row: usize, name: &str, value: Cell<'_>) {
        if matches!(value, Cell::Nothing) {
            return;
        }
        self.texts.resize(self.rows, String::new());
        if let Some(text) = self.texts.get_mut(row) {
            text.push(if text.is_empty() { '{' } else { ',' });
            text.push_str(&serde_json::Value::from(name).to_string());
            text.push(':');
            text.push_str(&json_text(value));
            self.count += 1;
        }
    }

    fn finish(self) -> Option<ArrayRef> {
        if self.count == 0 {
            return None;
        }
        let mut builder = StringBuilder::with_capacity(self.rows, 32 * self.rows);
        for text in self.texts {
            builder.append_option((!text.is_empty()).then(|| text + "}"));
        }
        Some(Arc::new(builder.finish()))
    }
}

#[cfg(test)]
mod tests;
