//! Functions whose results can be far larger than their arguments, with a bound.
//!
//! What a function builds is not counted by the memory that queries have, and nothing interrupts it. So `repeat` and its
//! like are asked first how much they are about to build for a batch.

use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, FieldRef, Int64Type};
use datafusion::common::{DataFusionError, Result, ScalarValue};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};

/// What one call may build for a batch.
const MOST_BYTES: u128 = 64 << 20;
/// An element of a list of numbers.
const NUMBER_BYTES: u128 = 8;
/// The longest character.
const CHARACTER_BYTES: u128 = 4;

/// Puts bounds around those functions that need one.
pub(super) fn bound(functions: &mut [Arc<ScalarUDF>]) {
    for function in functions {
        if let Some(growth) = Growth::of(function.name()) {
            let bounded = Bounded { function: Arc::clone(function), growth };
            *function = Arc::new(ScalarUDF::new_from_impl(bounded));
        }
    }
}

/// How the size of the result follows from the arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Growth {
    /// The first, as often as the second says.
    Times,
    /// As many characters as the second says.
    Width,
    /// From the first to the second, or from 0 to the only one.
    Range,
}

impl Growth {
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "repeat" | "array_repeat" => Self::Times,
            "lpad" | "rpad" => Self::Width,
            "range" | "generate_series" => Self::Range,
            _ => return None,
        })
    }

    fn bytes(self, args: &[ColumnarValue], rows: usize) -> Result<u128> {
        let number = |index: usize| args.get(index).map_or(Ok(0), |arg| sum(arg, rows));
        Ok(match self {
            Self::Times => number(1)? * args.first().map_or(0, longest).max(NUMBER_BYTES),
            Self::Width => number(1)? * CHARACTER_BYTES,
            Self::Range => number(0)?.saturating_add(number(1)?) * NUMBER_BYTES,
        })
    }
}

/// A function that refuses to build too much.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Bounded {
    function: Arc<ScalarUDF>,
    growth: Growth,
}

impl ScalarUDFImpl for Bounded {
    fn name(&self) -> &str {
        self.function.name()
    }

    fn aliases(&self) -> &[String] {
        self.function.aliases()
    }

    fn signature(&self) -> &Signature {
        self.function.signature()
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.function.return_type(types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        self.function.return_field_from_args(args)
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        self.function.coerce_types(types)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        // Of constants the result is built once.
        let constant = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let bytes = self.growth.bytes(&args.args, if constant { 1 } else { args.number_rows })?;
        if bytes > MOST_BYTES {
            let message = format!("{} would build {bytes} bytes at once; it may build {MOST_BYTES}", self.name());
            return Err(DataFusionError::Execution(message));
        }
        self.function.invoke_with_args(args)
    }
}

/// The sum of whole numbers without their signs; of anything else nothing.
fn sum(value: &ColumnarValue, rows: usize) -> Result<u128> {
    let size = |number: Option<i64>| u128::from(number.unwrap_or(0).unsigned_abs());
    let cast = |array: &dyn Array| arrow::compute::cast(array, &DataType::Int64);
    Ok(match value {
        ColumnarValue::Scalar(scalar) if scalar.data_type().is_integer() => {
            let array = scalar.to_array()?;
            let number = cast(&array)?.as_primitive::<Int64Type>().iter().next().flatten();
            size(number) * rows as u128
        }
        ColumnarValue::Array(array) if array.data_type().is_integer() => {
            cast(array)?.as_primitive::<Int64Type>().iter().map(size).sum()
        }
        _ => 0,
    })
}

/// Bytes of the longest text.
fn longest(value: &ColumnarValue) -> u128 {
    let of = |bytes: Option<usize>| bytes.unwrap_or(0) as u128;
    match value {
        ColumnarValue::Scalar(ScalarValue::Utf8(text) | ScalarValue::LargeUtf8(text) | ScalarValue::Utf8View(text)) => {
            of(text.as_ref().map(String::len))
        }
        ColumnarValue::Scalar(_) => 0,
        ColumnarValue::Array(array) => match array.data_type() {
            DataType::Utf8 => of(array.as_string::<i32>().iter().flatten().map(str::len).max()),
            DataType::LargeUtf8 => of(array.as_string::<i64>().iter().flatten().map(str::len).max()),
            DataType::Utf8View => of(array.as_string_view().iter().flatten().map(str::len).max()),
            _ => 0,
        },
    }
}
