//! Numbers with scales of their own: what is made of them, and what they are made from.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanBuilder, PrimitiveArray, StringBuilder, UInt8Array, cast::AsArray};
use arrow::datatypes::{ArrowPrimitiveType, DataType, Decimal64Type, Decimal128Type, UInt8Type};
use datafusion_common::{Result, ScalarValue};
use datafusion_expr::ColumnarValue;

use super::text::TextReader;
use super::{Kernel, NumberBuilder, NumberReader, number_type, wrong_type};
use crate::ast::{BinaryOp, CastType, Dialect};
use crate::column::push_number;
use crate::decimal::Decimal;
use crate::eval;
use crate::lower::term::Comparison;
use crate::value::{Value, numeric_text};

/// A calculation by the language's own rules.
#[derive(Debug)]
pub(in crate::lower) struct Calculate(pub(in crate::lower) BinaryOp, pub(in crate::lower) Dialect);

impl Kernel for Calculate {
    fn name(&self) -> String {
        format!("{:?}_{:?}", self.0, self.1).to_lowercase()
    }

    fn returns(&self) -> DataType {
        number_type()
    }

    fn run(&self, args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
        let Some((left, right)) = two_numbers(args) else { return wrong_type(self) };
        let mut results = NumberBuilder::with_capacity(rows);
        for row in 0..rows {
            results.push(&eval::binary(self.0, &left.get(row), &right.get(row), self.1));
        }
        Ok(results.finish())
    }
}

fn two_numbers(args: &[ColumnarValue]) -> Option<(NumberReader<'_>, NumberReader<'_>)> {
    let [left, right] = args else { return None };
    Some((NumberReader::new(left)?, NumberReader::new(right)?))
}

fn one_number(args: &[ColumnarValue]) -> Option<NumberReader<'_>> {
    let [only] = args else { return None };
    NumberReader::new(only)
}

/// Numbers by their order.
#[derive(Debug)]
pub(in crate::lower) struct Order(pub(in crate::lower) Comparison);

impl Kernel for Order {
    fn name(&self) -> String {
        format!("order_{:?}", self.0).to_lowercase()
    }

    fn returns(&self) -> DataType {
        DataType::Boolean
    }

    fn run(&self, args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
        let Some((left, right)) = two_numbers(args) else { return wrong_type(self) };
        let holds: fn(Ordering) -> bool = match self.0 {
            Comparison::Eq => Ordering::is_eq,
            Comparison::Ne => Ordering::is_ne,
            Comparison::Lt => Ordering::is_lt,
            Comparison::Le => Ordering::is_le,
            Comparison::Gt => Ordering::is_gt,
            Comparison::Ge => Ordering::is_ge,
        };
        let mut results = BooleanBuilder::with_capacity(rows);
        for row in 0..rows {
            results.append_option(left.get(row).compare(&right.get(row)).map(holds));
        }
        Ok(Arc::new(results.finish()))
    }
}

/// `-x`.
#[derive(Debug)]
pub(in crate::lower) struct Negate;

impl Kernel for Negate {
    fn name(&self) -> String {
        "negate".to_owned()
    }

    fn returns(&self) -> DataType {
        number_type()
    }

    fn run(&self, args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
        let Some(numbers) = one_number(args) else { return wrong_type(self) };
        let mut results = NumberBuilder::with_capacity(rows);
        (0..rows).for_each(|row| results.push(&eval::negate(&numbers.get(row))));
        Ok(results.finish())
    }
}

/// CAST of numbers and booleans to numbers.
#[derive(Debug)]
pub(in crate::lower) struct Cast(pub(in crate::lower) CastType, pub(in crate::lower) Dialect);

impl Kernel for Cast {
    fn name(&self) -> String {
        format!("cast_{:?}_{:?}", self.0, self.1).to_lowercase()
    }

    fn returns(&self) -> DataType {
        number_type()
    }

    fn run(&self, args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
        let mut results = NumberBuilder::with_capacity(rows);
        let mut push = |value: &Value| results.push(&eval::cast(value, self.0, self.1));
        match args {
            [ColumnarValue::Array(booleans)] if *booleans.data_type() == DataType::Boolean => {
                let booleans = booleans.as_boolean();
                booleans.iter().for_each(|value| push(&value.map_or(Value::Undefined, Value::Bool)));
            }
            [ColumnarValue::Scalar(ScalarValue::Boolean(value))] => {
                (0..rows).for_each(|_| push(&value.map_or(Value::Undefined, Value::Bool)));
            }
            _ => {
                let Some(numbers) = one_number(args) else { return wrong_type(self) };
                (0..rows).for_each(|row| push(&numbers.get(row)));
            }
        }
        Ok(results.finish())
    }
}

/// CAST of numbers to Boolean.
#[derive(Debug)]
pub(in crate::lower) struct NumberToBoolean;

impl Kernel for NumberToBoolean {
    fn name(&self) -> String {
        "number_to_boolean".to_owned()
    }

    fn returns(&self) -> DataType {
        DataType::Boolean
    }

    fn run(&self, args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
        let Some(numbers) = one_number(args) else { return wrong_type(self) };
        let mut results = BooleanBuilder::with_capacity(rows);
        for row in 0..rows {
            // Numbers are treated alike in every dialect.
            results.append_option(eval::cast(&numbers.get(row), CastType::Boolean, Dialect::Native).to_bool());
        }
        Ok(Arc::new(results.finish()))
    }
}

/// The text of numbers.
#[derive(Debug)]
pub(in crate::lower) struct NumberToText;

impl Kernel for NumberToText {
    fn name(&self) -> String {
        "number_to_text".to_owned()
    }

    fn returns(&self) -> DataType {
        DataType::Utf8
    }

    fn run(&self, args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
        let Some(numbers) = one_number(args) else { return wrong_type(self) };
        let mut results = StringBuilder::with_capacity(rows, rows * 8);
        let mut text = String::new();
        for row in 0..rows {
            text.clear();
            match numbers.get(row) {
                Value::Undefined => results.append_null(),
                number => {
                    push_number(&number, &mut text);
                    results.append_value(&text);
                }
            }
        }
        Ok(Arc::new(results.finish()))
    }
}

/// The numbers that texts spell.
#[derive(Debug)]
pub(in crate::lower) struct TextToNumber;

impl Kernel for TextToNumber {
    fn name(&self) -> String {
        "text_to_number".to_owned()
    }

    fn returns(&self) -> DataType {
        number_type()
    }

    fn run(&self, args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
        let [arg] = args else { return wrong_type(self) };
        let Some(texts) = TextReader::new(arg) else { return wrong_type(self) };
        let mut results = NumberBuilder::with_capacity(rows);
        for row in 0..rows {
            results.push(&Value::decimal(texts.get(row).and_then(numeric_text)));
        }
        Ok(results.finish())
    }
}

/// Numbers at one scale, with the scales that they have by themselves.
#[derive(Debug)]
pub(in crate::lower) struct OwnScales;

impl Kernel for OwnScales {
    fn name(&self) -> String {
        "own_scales".to_owned()
    }

    fn returns(&self) -> DataType {
        number_type()
    }

    fn run(&self, args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
        let [values, scales] = args else { return wrong_type(self) };
        let (values, scales) = (values.to_array(rows)?, scales.to_array(rows)?);
        let Some(scales) = scales.as_primitive_opt::<UInt8Type>() else { return wrong_type(self) };
        let numbers = match values.data_type() {
            DataType::Decimal64(_, scale) => with_scales::<Decimal64Type>(values.as_primitive(), *scale, scales),
            DataType::Decimal128(_, scale) => with_scales::<Decimal128Type>(values.as_primitive(), *scale, scales),
            _ => return wrong_type(self),
        };
        Ok(numbers)
    }
}

fn with_scales<T: ArrowPrimitiveType>(values: &PrimitiveArray<T>, scale: i8, scales: &UInt8Array) -> ArrayRef
where
    T::Native: Into<i128>,
{
    let mut numbers = NumberBuilder::with_capacity(values.len());
    let scale = scale.unsigned_abs();
    for (value, own) in values.iter().zip(scales.values()) {
        let Some(value) = value else {
            numbers.push_null();
            continue;
        };
        let (value, own) = (value.into(), (*own).min(scale));
        let mantissa = divided(value, scale - own);
        numbers.push(&match own {
            0 => Value::Int(mantissa),
            own => Value::Decimal(Decimal { mantissa, scale: i32::from(own) }),
        });
    }
    numbers.finish()
}

/// Divided by a power of ten that is known to divide it.
fn divided(value: i128, power: u8) -> i128 {
    if power == 0 {
        return value;
    }
    match (i64::try_from(value), 10i64.checked_pow(u32::from(power))) {
        (Ok(value), Some(power)) => i128::from(value / power),
        _ => value / 10i128.pow(u32::from(power)),
    }
}

/// The own scales of a product, or of a sum.
#[derive(Debug)]
pub(in crate::lower) struct Scales {
    pub(in crate::lower) sum: bool,
}

impl Kernel for Scales {
    fn name(&self) -> String {
        if self.sum { "scales_of_product" } else { "scales_of_sum" }.to_owned()
    }

    fn returns(&self) -> DataType {
        DataType::UInt8
    }

    fn run(&self, args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
        let merge: fn(u8, u8) -> u8 = if self.sum { u8::wrapping_add } else { u8::max };
        let merged = match args {
            [ColumnarValue::Array(each), ColumnarValue::Scalar(ScalarValue::UInt8(Some(all)))]
            | [ColumnarValue::Scalar(ScalarValue::UInt8(Some(all))), ColumnarValue::Array(each)] => {
                let Some(each) = each.as_primitive_opt::<UInt8Type>() else { return wrong_type(self) };
                let all = *all;
                each.unary(|scale| merge(scale, all))
            }
            [left, right] => {
                let (left, right) = (left.to_array(rows)?, right.to_array(rows)?);
                let (left, right) = (left.as_primitive_opt::<UInt8Type>(), right.as_primitive_opt::<UInt8Type>());
                let (Some(left), Some(right)) = (left, right) else { return wrong_type(self) };
                let merged = left.values().iter().zip(right.values()).map(|(left, right)| merge(*left, *right));
                UInt8Array::new(merged.collect(), None)
            }
            _ => return wrong_type(self),
        };
        Ok(Arc::new(merged))
    }
}
