//! Columns: many messages' values of one path or expression, in Arrow.

mod text;

use std::fmt::Write as _;
use std::sync::Arc;

use arrow::array::{Array, BooleanArray, Decimal128Array, Int64Array, StringArray, UInt32Array};
use arrow::buffer::BooleanBuffer;

use crate::ast::Dialect;
use crate::decimal::Decimal;
use crate::json;
use crate::value::Value;

pub(crate) use text::{TextBuilder, append};

/// The longest JSON of one value, in bytes. Values of payloads stay below it (as far as packets go: a number such as 1e33
/// is written longer than it is read); it is there for values that share their parts.
const MAX_JSON: usize = 64 << 20;

/// The precision of all number columns.
pub const NUMBER_PRECISION: u8 = 38;

/// Values of one expression for the rows of a batch. Rows without a value of the column's kind are null in the Arrow
/// array; `json_null` tells Null from Undefined among them (absent: all of them are Undefined).
#[derive(Clone, Debug)]
pub struct Column {
    /// The values.
    pub data: ColumnData,
    /// Rows that are JSON null.
    pub json_null: Option<BooleanBuffer>,
}

/// The kinds of a column.
#[derive(Clone, Debug)]
pub enum ColumnData {
    /// Numbers that fit decimal128 with one scale for the batch.
    Number {
        /// Values, at the column's scale.
        values: Decimal128Array,
        /// Digits after the point that each row's own spelling or calculation has; 0 says Int, more say Decimal (in
        /// 2016 21.0 is Int, and its scale is 0). Absent: the column's scale for all rows. What a row is and how it is
        /// written thus does not depend on the rows beside it.
        scales: Option<Arc<[u8]>>,
    },
    /// Whole numbers known to fit 64 bits (`timestamp()`): Int.
    Int64(Int64Array),
    /// Text.
    String(StringArray),
    /// Booleans.
    Boolean(BooleanArray),
    /// Arrays and objects as their JSON text, as the payload spells it.
    Json(StringArray),
    /// Anything, row by row: numbers beyond decimal128, kinds without a column.
    Dynamic(Arc<Vec<Value>>),
    /// Values of several kinds.
    Mixed(Mixed),
}

/// A column that is put together from columns of different kinds.
#[derive(Clone, Debug)]
pub struct Mixed {
    parts: Arc<[Column]>,
    places: Arc<[Place]>,
}

/// Where a row of several parts is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) part: u32,
    pub(crate) row: u32,
}

impl Place {
    pub(crate) fn indices(&self) -> (usize, usize) {
        (self.part as usize, self.row as usize)
    }
}

impl Mixed {
    /// The rows at these places, none of whose parts is mixed itself.
    pub(crate) fn new(parts: Arc<[Column]>, places: Arc<[Place]>) -> Self {
        Self { parts, places }
    }

    /// The part that a row is in, and which of its rows it is.
    pub(crate) fn get(&self, row: usize) -> Option<(&Column, usize)> {
        let place = self.places.get(row)?;
        Some((self.parts.get(place.part as usize)?, place.row as usize))
    }
}

impl Column {
    /// A column of any values.
    pub fn dynamic(values: Vec<Value>) -> Self {
        Self { data: ColumnData::Dynamic(Arc::new(values)), json_null: None }
    }

    /// A column whose missing rows are all Undefined.
    pub fn of(data: ColumnData) -> Self {
        Self { data, json_null: None }
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        match &self.data {
            ColumnData::Number { values, .. } => values.len(),
            ColumnData::Int64(values) => values.len(),
            ColumnData::String(values) | ColumnData::Json(values) => values.len(),
            ColumnData::Boolean(values) => values.len(),
            ColumnData::Dynamic(values) => values.len(),
            ColumnData::Mixed(mixed) => mixed.places.len(),
        }
    }

    /// No rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value of a row; Undefined beyond the last. `dialect` says which numbers inside arrays and objects are Int.
    pub fn value(&self, row: usize, dialect: Dialect) -> Value {
        let value = match &self.data {
            ColumnData::Number { values, scales } if values.len() > row && values.is_valid(row) => {
                Some(number_at(values, scales.as_deref(), row))
            }
            ColumnData::Int64(values) if values.len() > row && values.is_valid(row) => {
                Some(Value::Int(values.value(row).into()))
            }
            ColumnData::String(values) if values.len() > row && values.is_valid(row) => {
                Some(Value::text(values.value(row)))
            }
            ColumnData::Boolean(values) if values.len() > row && values.is_valid(row) => {
                Some(Value::Bool(values.value(row)))
            }
            ColumnData::Json(values) if values.len() > row && values.is_valid(row) => {
                json::parse(values.value(row).as_bytes(), dialect).ok()
            }
            ColumnData::Dynamic(values) => values.get(row).cloned(),
            ColumnData::Mixed(mixed) => mixed.get(row).map(|(part, row)| part.value(row, dialect)),
            _ => None,
        };
        value.unwrap_or_else(|| if self.is_json_null(row) { Value::Null } else { Value::Undefined })
    }

    /// Some rows of it, by their places.
    pub(crate) fn take(&self, places: &UInt32Array, dialect: Dialect) -> Self {
        let value = |place: &u32| self.value(*place as usize, dialect);
        self.taken(places).unwrap_or_else(|| Self::dynamic(places.values().iter().map(value).collect()))
    }

    /// Rows that follow each other, without a copy of their values.
    pub(crate) fn slice(&self, first: usize, len: usize) -> Self {
        let data = match &self.data {
            ColumnData::Number { values, scales } => ColumnData::Number {
                values: values.slice(first, len),
                scales: scales.as_ref().map(|scales| scales.get(first..first + len).unwrap_or_default().into()),
            },
            ColumnData::Int64(values) => ColumnData::Int64(values.slice(first, len)),
            ColumnData::String(values) => ColumnData::String(values.slice(first, len)),
            ColumnData::Boolean(values) => ColumnData::Boolean(values.slice(first, len)),
            ColumnData::Json(values) => ColumnData::Json(values.slice(first, len)),
            ColumnData::Dynamic(values) => {
                ColumnData::Dynamic(Arc::new(values.get(first..first + len).unwrap_or_default().to_vec()))
            }
            ColumnData::Mixed(Mixed { parts, places }) => {
                let places = places.get(first..first + len).unwrap_or_default().into();
                ColumnData::Mixed(Mixed { parts: Arc::clone(parts), places })
            }
        };
        Self { data, json_null: self.json_null.as_ref().map(|nulls| nulls.slice(first, len)) }
    }

    fn taken(&self, places: &UInt32Array) -> Option<Self> {
        let data = match &self.data {
            ColumnData::Number { values, scales } => ColumnData::Number {
                values: taken(values, places)?,
                scales: scales.as_ref().map(|scales| {
                    let scale = |place: &u32| scales.get(*place as usize).copied().unwrap_or_default();
                    places.values().iter().map(scale).collect()
                }),
            },
            ColumnData::Int64(values) => ColumnData::Int64(taken(values, places)?),
            ColumnData::String(values) => ColumnData::String(taken(values, places)?),
            ColumnData::Boolean(values) => ColumnData::Boolean(taken(values, places)?),
            ColumnData::Json(values) => ColumnData::Json(taken(values, places)?),
            ColumnData::Mixed(mixed) => {
                let place = |row: &u32| mixed.places.get(*row as usize).copied();
                let places = places.values().iter().filter_map(place).collect();
                ColumnData::Mixed(Mixed { parts: Arc::clone(&mixed.parts), places })
            }
            ColumnData::Dynamic(_) => return None,
        };
        let is_null = |place: &u32| self.is_json_null(*place as usize);
        let json_null = self.json_null.is_some().then(|| places.values().iter().map(is_null).collect());
        Some(Self { data, json_null })
    }

    /// Whether a row is JSON null.
    pub fn is_json_null(&self, row: usize) -> bool {
        match &self.data {
            ColumnData::Dynamic(values) => matches!(values.get(row), Some(Value::Null)),
            ColumnData::Mixed(mixed) => mixed.get(row).is_some_and(|(part, row)| part.is_json_null(row)),
            _ => self.json_null.as_ref().is_some_and(|nulls| row < nulls.len() && nulls.value(row)),
        }
    }

    /// Whether a row is Undefined.
    pub fn is_undefined(&self, row: usize) -> bool {
        let missing = |array: &dyn Array| row >= array.len() || array.is_null(row);
        match &self.data {
            ColumnData::Number { values, .. } => missing(values) && !self.is_json_null(row),
            ColumnData::Int64(values) => missing(values) && !self.is_json_null(row),
            ColumnData::String(values) | ColumnData::Json(values) => missing(values) && !self.is_json_null(row),
            ColumnData::Boolean(values) => missing(values) && !self.is_json_null(row),
            ColumnData::Dynamic(values) => values.get(row).is_none_or(Value::is_undefined),
            ColumnData::Mixed(mixed) => mixed.get(row).is_none_or(|(part, row)| part.is_undefined(row)),
        }
    }

    /// Appends a row as JSON and tells whether there was anything to write (Undefined is nothing).
    pub fn write_json(&self, row: usize, out: &mut String) -> bool {
        match &self.data {
            ColumnData::String(texts) if row < texts.len() && texts.is_valid(row) => {
                json::write_string(texts.value(row), out);
            }
            ColumnData::Json(texts) if row < texts.len() && texts.is_valid(row) => {
                out.push_str(texts.value(row));
            }
            ColumnData::Mixed(mixed) => return mixed.get(row).is_some_and(|(part, row)| part.write_json(row, out)),
            _ => return write_value(&self.value(row, Dialect::Aws2016), out),
        }
        true
    }
}

fn taken<A: Array + Clone + 'static>(values: &A, places: &UInt32Array) -> Option<A> {
    arrow::compute::take(values, places, None).ok()?.as_any().downcast_ref::<A>().cloned()
}

fn number_at(values: &Decimal128Array, scales: Option<&[u8]>, row: usize) -> Value {
    let scale = values.scale().unsigned_abs();
    let own = scales.and_then(|scales| scales.get(row)).copied().unwrap_or(scale).min(scale);
    let mantissa = match scale - own {
        0 => values.value(row),
        zeros => values.value(row) / 10i128.pow(u32::from(zeros)),
    };
    match own {
        0 => Value::whole(mantissa),
        own => Value::decimal(Decimal::new(mantissa, i32::from(own))),
    }
}

/// Appends the text of a number; nothing for what is none.
pub(crate) fn push_number(number: &Value, out: &mut String) {
    // Writing to a String cannot fail.
    let _ = match number {
        Value::Int(number) => match i64::try_from(*number) {
            Ok(small) => write!(out, "{small}"),
            Err(_) => write!(out, "{number}"),
        },
        Value::Decimal(number) => write!(out, "{number}"),
        _ => Ok(()),
    };
}

/// Appends a value as compact JSON; false for Undefined and for what is longer than [`MAX_JSON`].
pub(crate) fn write_value(value: &Value, out: &mut String) -> bool {
    let text = match value {
        Value::Undefined => None,
        value => json::to_text(value, MAX_JSON),
    };
    text.inspect(|text| out.push_str(text)).is_some()
}
