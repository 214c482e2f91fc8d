//! Numbers with scales of their own, as an Arrow array: a struct of mantissa and scale. The scale of an Int is a mark.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Decimal128Array, Int32Array, NullBufferBuilder, StructArray, cast::AsArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Decimal128Type, Field, Fields, Int32Type};
use datafusion_common::ScalarValue;
use datafusion_expr::ColumnarValue;

use crate::decimal::Decimal;
use crate::value::Value;

/// The scale of an Int.
const INT: i32 = i32::MIN;

fn fields() -> Fields {
    let mantissa = Field::new("mantissa", DataType::Decimal128(38, 0), false);
    Fields::from(vec![mantissa, Field::new("scale", DataType::Int32, false)])
}

/// The type of such an array.
pub(in crate::lower) fn number_type() -> DataType {
    DataType::Struct(fields())
}

/// One number, or none for what is no number.
pub(in crate::lower) fn number_scalar(value: &Value) -> ScalarValue {
    let mut numbers = NumberBuilder::with_capacity(1);
    numbers.push(value);
    ScalarValue::Struct(Arc::new(numbers.finish_struct()))
}

/// Builds an array.
pub(in crate::lower) struct NumberBuilder {
    mantissas: Vec<i128>,
    scales: Vec<i32>,
    valid: NullBufferBuilder,
}

impl NumberBuilder {
    pub(in crate::lower) fn with_capacity(rows: usize) -> Self {
        Self {
            mantissas: Vec::with_capacity(rows),
            scales: Vec::with_capacity(rows),
            valid: NullBufferBuilder::new(rows),
        }
    }

    /// Appends a value; null if it is no number.
    #[inline]
    pub(in crate::lower) fn push(&mut self, value: &Value) {
        let (mantissa, scale) = match value {
            Value::Int(whole) => (*whole, INT),
            Value::Decimal(number) => (number.mantissa(), number.scale()),
            _ => return self.push_null(),
        };
        self.mantissas.push(mantissa);
        self.scales.push(scale);
        self.valid.append_non_null();
    }

    pub(in crate::lower) fn push_null(&mut self) {
        self.mantissas.push(0);
        self.scales.push(INT);
        self.valid.append_null();
    }

    pub(in crate::lower) fn finish(self) -> ArrayRef {
        Arc::new(self.finish_struct())
    }

    fn finish_struct(mut self) -> StructArray {
        let mantissas = Decimal128Array::new(self.mantissas.into(), None);
        let mantissas = mantissas.with_data_type(DataType::Decimal128(38, 0));
        let columns: Vec<ArrayRef> = vec![Arc::new(mantissas), Arc::new(Int32Array::new(self.scales.into(), None))];
        StructArray::new(fields(), columns, self.valid.finish())
    }
}

/// Reads an argument that is such an array, or one number for all rows.
pub(in crate::lower) enum NumberReader<'a> {
    Each { mantissas: &'a [i128], scales: &'a [i32], nulls: Option<&'a NullBuffer> },
    All(Value),
}

impl<'a> NumberReader<'a> {
    /// `None` for another type.
    pub(in crate::lower) fn new(arg: &'a ColumnarValue) -> Option<Self> {
        match arg {
            ColumnarValue::Array(array) => Self::of(array.as_struct_opt()?),
            ColumnarValue::Scalar(ScalarValue::Struct(one)) => Some(Self::All(Self::of(one)?.get(0))),
            ColumnarValue::Scalar(_) => None,
        }
    }

    /// The same for an array.
    pub(in crate::lower) fn of(array: &'a StructArray) -> Option<Self> {
        let [mantissas, scales] = array.columns() else { return None };
        let mantissas = mantissas.as_primitive_opt::<Decimal128Type>()?;
        let scales = scales.as_primitive_opt::<Int32Type>()?;
        Some(Self::Each { mantissas: mantissas.values(), scales: scales.values(), nulls: array.nulls() })
    }

    /// The number of a row; Undefined if there is none.
    #[inline]
    pub(in crate::lower) fn get(&self, row: usize) -> Value {
        match self {
            Self::Each { nulls: Some(nulls), .. } if row >= nulls.len() || nulls.is_null(row) => Value::Undefined,
            Self::Each { mantissas, scales, .. } => match (mantissas.get(row), scales.get(row)) {
                (Some(mantissa), Some(&INT)) => Value::Int(*mantissa),
                (Some(mantissa), Some(scale)) => Value::Decimal(Decimal { mantissa: *mantissa, scale: *scale }),
                _ => Value::Undefined,
            },
            Self::All(value) => value.clone(),
        }
    }
}
