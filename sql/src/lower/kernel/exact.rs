//! Numbers at one scale, where digits and scales prove beforehand that nothing overflows: calculated and compared as
//! the whole numbers they are.
//!
//! Arrow has kernels for this, too. They prove for each value what is known here, and what they cost per call is more
//! than a commit of a hundred messages costs.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, BooleanArray, Decimal64Array, Decimal128Array, PrimitiveArray, cast::AsArray,
};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::datatypes::{DataType, Decimal64Type, Decimal128Type};
use datafusion_common::{Result, ScalarValue};
use datafusion_expr::ColumnarValue;

use super::{Kernel, wrong_type};
use crate::lower::plan::{SMALL_PRECISION, WIDE_PRECISION};
use crate::lower::term::Comparison;

/// A calculation that is exact at its scale.
#[derive(Debug)]
pub(in crate::lower) struct Exact {
    pub(in crate::lower) op: ExactOp,
    /// The scale of the results.
    pub(in crate::lower) scale: u8,
    /// Whether numbers have 64 bits, or else 128.
    pub(in crate::lower) small: bool,
}

#[derive(Clone, Copy, Debug)]
pub(in crate::lower) enum ExactOp {
    Add,
    Sub,
    Mul,
}

impl Kernel for Exact {
    fn name(&self) -> String {
        format!("exact_{:?}_{}_{}", self.op, self.scale, self.small).to_lowercase()
    }

    fn sign(&self) -> Option<&'static str> {
        Some(match self.op {
            ExactOp::Add => "+",
            ExactOp::Sub => "-",
            ExactOp::Mul => "*",
        })
    }

    fn returns(&self) -> DataType {
        match self.small {
            true => DataType::Decimal64(SMALL_PRECISION, self.scale as i8),
            false => DataType::Decimal128(WIDE_PRECISION, self.scale as i8),
        }
    }

    fn run(&self, args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
        // None of these can overflow: the plan was made for numbers that are small enough.
        if self.small {
            let Some(sides) = Sides::<Decimal64Type>::of(args) else { return wrong_type(self) };
            let (values, nulls) = match self.op {
                ExactOp::Add => sides.values(rows, i64::wrapping_add),
                ExactOp::Sub => sides.values(rows, i64::wrapping_sub),
                ExactOp::Mul => sides.values(rows, i64::wrapping_mul),
            };
            return Ok(Arc::new(Decimal64Array::new(values.into(), nulls).with_data_type(self.returns())));
        }
        let Some(sides) = Sides::<Decimal128Type>::of(args) else { return wrong_type(self) };
        let (values, nulls) = match self.op {
            ExactOp::Add => sides.values(rows, i128::wrapping_add),
            ExactOp::Sub => sides.values(rows, i128::wrapping_sub),
            ExactOp::Mul => sides.values(rows, i128::wrapping_mul),
        };
        Ok(Arc::new(Decimal128Array::new(values.into(), nulls).with_data_type(self.returns())))
    }
}

/// A comparison of numbers at the same scale.
#[derive(Debug)]
pub(in crate::lower) struct ExactOrder {
    pub(in crate::lower) op: Comparison,
    /// Whether numbers have 64 bits, or else 128.
    pub(in crate::lower) small: bool,
}

impl Kernel for ExactOrder {
    fn name(&self) -> String {
        format!("exact_{:?}_{}", self.op, self.small).to_lowercase()
    }

    fn sign(&self) -> Option<&'static str> {
        Some(match self.op {
            Comparison::Eq => "=",
            Comparison::Ne => "!=",
            Comparison::Lt => "<",
            Comparison::Le => "<=",
            Comparison::Gt => ">",
            Comparison::Ge => ">=",
        })
    }

    fn returns(&self) -> DataType {
        DataType::Boolean
    }

    fn run(&self, args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
        if self.small {
            let Some(sides) = Sides::<Decimal64Type>::of(args) else { return wrong_type(self) };
            return Ok(Arc::new(sides.compared(self.op, rows)));
        }
        let Some(sides) = Sides::<Decimal128Type>::of(args) else { return wrong_type(self) };
        Ok(Arc::new(sides.compared(self.op, rows)))
    }
}

/// Both sides of an operator.
struct Sides<'a, T: ArrowPrimitiveType> {
    left: Side<'a, T>,
    right: Side<'a, T>,
}

/// Numbers, or one for all rows.
enum Side<'a, T: ArrowPrimitiveType> {
    Each(&'a PrimitiveArray<T>),
    All(Option<T::Native>),
}

/// Where one number for all rows is in a scalar.
trait One: ArrowPrimitiveType {
    /// `None` for a scalar of another type.
    fn one(scalar: &ScalarValue) -> Option<Option<Self::Native>>;
}

impl One for Decimal64Type {
    fn one(scalar: &ScalarValue) -> Option<Option<i64>> {
        if let ScalarValue::Decimal64(one, ..) = scalar { Some(*one) } else { None }
    }
}

impl One for Decimal128Type {
    fn one(scalar: &ScalarValue) -> Option<Option<i128>> {
        if let ScalarValue::Decimal128(one, ..) = scalar { Some(*one) } else { None }
    }
}

impl<'a, T: One> Side<'a, T> {
    fn of(arg: &'a ColumnarValue) -> Option<Self> {
        match arg {
            ColumnarValue::Array(array) => array.as_primitive_opt().map(Self::Each),
            ColumnarValue::Scalar(scalar) => T::one(scalar).map(Self::All),
        }
    }

    fn nulls(&self, rows: usize) -> Option<NullBuffer> {
        match self {
            Self::Each(array) => array.nulls().cloned(),
            Self::All(Some(_)) => None,
            Self::All(None) => Some(NullBuffer::new_null(rows)),
        }
    }
}

impl<'a, T: One> Sides<'a, T>
where
    T::Native: Ord + Default,
{
    fn of(args: &'a [ColumnarValue]) -> Option<Self> {
        let [left, right] = args else { return None };
        Some(Self { left: Side::of(left)?, right: Side::of(right)? })
    }

    fn nulls(&self, rows: usize) -> Option<NullBuffer> {
        NullBuffer::union(self.left.nulls(rows).as_ref(), self.right.nulls(rows).as_ref())
    }

    fn values(
        &self,
        rows: usize,
        calculate: impl Fn(T::Native, T::Native) -> T::Native,
    ) -> (Vec<T::Native>, Option<NullBuffer>) {
        let values = match (&self.left, &self.right) {
            (Side::Each(left), Side::Each(right)) => {
                left.values().iter().zip(right.values()).map(|(left, right)| calculate(*left, *right)).collect()
            }
            (Side::Each(left), Side::All(right)) => {
                let right = right.unwrap_or_default();
                left.values().iter().map(|left| calculate(*left, right)).collect()
            }
            (Side::All(left), Side::Each(right)) => {
                let left = left.unwrap_or_default();
                right.values().iter().map(|right| calculate(left, *right)).collect()
            }
            (Side::All(left), Side::All(right)) => {
                vec![calculate(left.unwrap_or_default(), right.unwrap_or_default()); rows]
            }
        };
        (values, self.nulls(rows))
    }

    fn compared(&self, op: Comparison, rows: usize) -> BooleanArray {
        let holds = match op {
            Comparison::Eq => self.bits(rows, |left, right| left == right),
            Comparison::Ne => self.bits(rows, |left, right| left != right),
            Comparison::Lt => self.bits(rows, |left, right| left < right),
            Comparison::Le => self.bits(rows, |left, right| left <= right),
            Comparison::Gt => self.bits(rows, |left, right| left > right),
            Comparison::Ge => self.bits(rows, |left, right| left >= right),
        };
        BooleanArray::new(holds, self.nulls(rows))
    }

    fn bits(&self, rows: usize, holds: impl Fn(T::Native, T::Native) -> bool) -> BooleanBuffer {
        fn get<T: ArrowPrimitiveType>(values: &PrimitiveArray<T>) -> impl Fn(usize) -> T::Native
        where
            T::Native: Default,
        {
            let values = values.values();
            |row| values.get(row).copied().unwrap_or_default()
        }
        match (&self.left, &self.right) {
            (Side::Each(left), Side::Each(right)) => {
                let (left, right) = (get(left), get(right));
                BooleanBuffer::collect_bool(rows, |row| holds(left(row), right(row)))
            }
            (Side::Each(left), Side::All(right)) => {
                let (left, right) = (get(left), right.unwrap_or_default());
                BooleanBuffer::collect_bool(rows, |row| holds(left(row), right))
            }
            (Side::All(left), Side::Each(right)) => {
                let (left, right) = (left.unwrap_or_default(), get(right));
                BooleanBuffer::collect_bool(rows, |row| holds(left, right(row)))
            }
            (Side::All(left), Side::All(right)) => {
                let holds = holds(left.unwrap_or_default(), right.unwrap_or_default());
                BooleanBuffer::collect_bool(rows, |_| holds)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decimals(values: Vec<Option<i64>>) -> ColumnarValue {
        ColumnarValue::Array(Arc::new(Decimal64Array::from(values).with_data_type(DataType::Decimal64(18, 1))))
    }

    fn all(value: Option<i64>) -> ColumnarValue {
        ColumnarValue::Scalar(ScalarValue::Decimal64(value, 18, 1))
    }

    #[test]
    fn a_side_without_a_number_gives_none() {
        let each = || decimals(vec![Some(15), None, Some(-20)]);
        let other = || decimals(vec![Some(2), Some(3), None]);
        let product = Exact { op: ExactOp::Mul, scale: 2, small: true };
        let run = |args: [ColumnarValue; 2]| -> Vec<Option<i64>> {
            let found = product.run(&args, 3).unwrap();
            assert_eq!(*found.data_type(), DataType::Decimal64(18, 2));
            found.as_primitive::<Decimal64Type>().iter().collect()
        };
        assert_eq!(run([each(), other()]), [Some(30), None, None]);
        assert_eq!(run([each(), all(Some(4))]), [Some(60), None, Some(-80)]);
        assert_eq!(run([all(Some(4)), each()]), [Some(60), None, Some(-80)]);
        assert_eq!(run([each(), all(None)]), [None, None, None]);
        assert!(product.run(&[each(), ColumnarValue::Scalar(ScalarValue::Utf8(None))], 3).is_err());
    }

    #[test]
    fn sides_keep_their_order() {
        let each = || decimals(vec![Some(15), None, Some(-20)]);
        let difference = Exact { op: ExactOp::Sub, scale: 1, small: true };
        let found = difference.run(&[all(Some(1)), each()], 3).unwrap();
        assert_eq!(found.as_primitive::<Decimal64Type>().iter().collect::<Vec<_>>(), [Some(-14), None, Some(21)]);
        for (op, expected) in [
            (Comparison::Lt, [Some(false), None, Some(true)]),
            (Comparison::Ge, [Some(true), None, Some(false)]),
            (Comparison::Ne, [Some(false), None, Some(true)]),
        ] {
            let order = ExactOrder { op, small: true };
            let found = order.run(&[each(), all(Some(15))], 3).unwrap();
            assert_eq!(found.as_boolean().iter().collect::<Vec<_>>(), expected, "{op:?}");
            assert_eq!(order.run(&[all(None), each()], 3).unwrap().null_count(), 3);
        }
    }
}
