//! Choices between values, and equality where Null is a value and Undefined is none.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanBuilder};
use arrow::datatypes::DataType;
use datafusion_common::Result;
use datafusion_expr::ColumnarValue;

use super::text::{BooleanReader, TextReader};
use super::{Kernel, NumberBuilder, NumberReader, has_room, number_type, wrong_type};
use crate::column::TextBuilder;

/// Conditions and values by turns, then the value without a condition: the first value whose condition is true.
#[derive(Debug)]
pub(in crate::lower) struct Choose(pub(in crate::lower) DataType);

impl Kernel for Choose {
    fn name(&self) -> String {
        "choose".to_owned()
    }

    fn returns(&self) -> DataType {
        self.0.clone()
    }

    fn run(&self, args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
        let (pairs, otherwise) = args.as_chunks::<2>();
        let conditions = pairs.iter().map(|[condition, _]| BooleanReader::new(condition)).collect::<Option<Vec<_>>>();
        let Some(conditions) = conditions else { return wrong_type(self) };
        let first = |row: usize| {
            let hit = conditions.iter().position(|condition| condition.get(row) == Some(true));
            hit.unwrap_or(conditions.len())
        };
        let values = || pairs.iter().map(|[_, value]| value).chain(otherwise);
        match &self.0 {
            DataType::Utf8 => {
                let Some(values) = values().map(TextReader::new).collect::<Option<Vec<_>>>() else {
                    return wrong_type(self);
                };
                let mut results = TextBuilder::with_capacity(rows, rows * 8);
                for row in 0..rows {
                    results.push_option(values.get(first(row)).and_then(|v| v.get(row)));
                    has_room(&results)?;
                }
                Ok(Arc::new(results.finish()?))
            }
            DataType::Boolean => {
                let Some(values) = values().map(BooleanReader::new).collect::<Option<Vec<_>>>() else {
                    return wrong_type(self);
                };
                let mut results = BooleanBuilder::with_capacity(rows);
                (0..rows).for_each(|row| results.append_option(values.get(first(row)).and_then(|v| v.get(row))));
                Ok(Arc::new(results.finish()))
            }
            other if *other == number_type() => {
                let Some(values) = values().map(NumberReader::new).collect::<Option<Vec<_>>>() else {
                    return wrong_type(self);
                };
                let mut results = NumberBuilder::with_capacity(rows);
                for row in 0..rows {
                    match values.get(first(row)) {
                        Some(value) => results.push(&value.get(row)),
                        None => results.push_null(),
                    }
                }
                Ok(results.finish())
            }
            _ => wrong_type(self),
        }
    }
}

/// `=` of two sides: whether their values are the same, which side has a value, which side is Null.
#[derive(Debug)]
pub(in crate::lower) struct Equal;

impl Kernel for Equal {
    fn name(&self) -> String {
        "equal".to_owned()
    }

    fn returns(&self) -> DataType {
        DataType::Boolean
    }

    fn run(&self, args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
        let Some(args) = args.iter().map(BooleanReader::new).collect::<Option<Vec<_>>>() else {
            return wrong_type(self);
        };
        let [same, left, right, left_null, right_null] = args.as_slice() else { return wrong_type(self) };
        let mut results = BooleanBuilder::with_capacity(rows);
        for row in 0..rows {
            let (left_null, right_null) = (left_null.get(row) == Some(true), right_null.get(row) == Some(true));
            let (left, right) = (left.get(row) == Some(true), right.get(row) == Some(true));
            results.append_option(match (left, right) {
                (true, true) => Some(same.get(row) == Some(true)),
                _ if (left || left_null) && (right || right_null) => Some(left_null && right_null),
                _ => None,
            });
        }
        Ok(Arc::new(results.finish()))
    }
}

/// `IS DISTINCT FROM` of two sides: whether their values are the same, and which side has a value.
#[derive(Debug)]
pub(in crate::lower) struct Distinct;

impl Kernel for Distinct {
    fn name(&self) -> String {
        "distinct".to_owned()
    }

    fn returns(&self) -> DataType {
        DataType::Boolean
    }

    fn run(&self, args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
        let Some(args) = args.iter().map(BooleanReader::new).collect::<Option<Vec<_>>>() else {
            return wrong_type(self);
        };
        let [same, left, right] = args.as_slice() else { return wrong_type(self) };
        let mut results = BooleanBuilder::with_capacity(rows);
        for row in 0..rows {
            let (left, right) = (left.get(row) == Some(true), right.get(row) == Some(true));
            results.append_value(if left && right { same.get(row) != Some(true) } else { left != right });
        }
        Ok(Arc::new(results.finish()))
    }
}
