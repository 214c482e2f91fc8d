//! Columns: many messages' values of one path or expression, in Arrow.

use std::sync::Arc;

use arrow::array::{BooleanArray, Decimal128Array, Int64Array, StringArray};
use arrow::buffer::BooleanBuffer;

use crate::value::Value;

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
        /// Rows that are Int; the others are Decimal. Absent: all Int.
        decimal: Option<BooleanBuffer>,
    },
    /// Whole numbers known to fit 64 bits (`timestamp()`): Int.
    Int64(Int64Array),
    /// Text.
    String(StringArray),
    /// Booleans.
    Boolean(BooleanArray),
    /// Arrays and objects as their JSON text.
    Json(StringArray),
    /// Anything, row by row: mixed kinds, numbers beyond decimal128.
    Dynamic(Arc<Vec<Value>>),
}
