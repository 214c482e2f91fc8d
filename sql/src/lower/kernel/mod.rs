//! Kernels: operators and functions of the language as DataFusion expressions where DataFusion has none that means the
//! same.
//!
//! A kernel goes over its argument arrays row by row with the scalar evaluator's own code, and without making a value
//! on the heap for each row. An argument that is the same in every row is read once. No kernel fails because of a
//! value: what makes no sense is null. Only a column of texts that would outgrow its offsets is an error; then the batch
//! is evaluated row by row.

mod choose;
mod exact;
mod function;
mod number;
mod number_array;
mod text;

use std::fmt::{self, Debug};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Schema};
use arrow::record_batch::RecordBatch;
use datafusion_common::{Result, ScalarValue};
use datafusion_expr::ColumnarValue;
use datafusion_physical_expr::PhysicalExpr;

pub(super) use choose::{Choose, Distinct, Equal};
pub(super) use exact::{Exact, ExactOp, ExactOrder};
pub(super) use function::Function;
pub(super) use number::{
    Calculate, Cast, Negate, NumberToBoolean, NumberToText, Order, OwnScales, Scales, TextToNumber,
};
pub(super) use number_array::{NumberBuilder, NumberReader, number_scalar, number_type};
pub(super) use text::{BooleanToText, Join, TextTest};

use crate::column::TextBuilder;

/// One operation over arrays.
pub(super) trait Kernel: Debug + Send + Sync {
    /// Its name with whatever distinguishes it.
    fn name(&self) -> String;

    /// How it is written between its arguments, if it is.
    fn sign(&self) -> Option<&'static str> {
        None
    }

    /// The type of its results.
    fn returns(&self) -> DataType;

    /// Its results for so many rows.
    fn run(&self, args: &[ColumnarValue], rows: usize) -> Result<ArrayRef>;
}

/// A kernel applied to expressions.
#[derive(Debug)]
pub(super) struct Map {
    kernel: Arc<dyn Kernel>,
    args: Vec<Arc<dyn PhysicalExpr>>,
}

impl Map {
    pub(super) fn new(kernel: impl Kernel + 'static, args: Vec<Arc<dyn PhysicalExpr>>) -> Self {
        Self { kernel: Arc::new(kernel), args }
    }
}

impl PartialEq for Map {
    fn eq(&self, other: &Self) -> bool {
        self.kernel.name() == other.kernel.name() && self.args.eq(&other.args)
    }
}

impl Eq for Map {}

impl Hash for Map {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.kernel.name().hash(state);
        self.args.hash(state);
    }
}

impl fmt::Display for Map {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let (Some(sign), [left, right]) = (self.kernel.sign(), self.args.as_slice()) {
            let side = |side: &Arc<dyn PhysicalExpr>| match side.to_string() {
                text if text.contains(' ') => format!("({text})"),
                text => text,
            };
            return write!(f, "{} {sign} {}", side(left), side(right));
        }
        write!(f, "{}(", self.kernel.name())?;
        for (number, arg) in self.args.iter().enumerate() {
            if number > 0 {
                f.write_str(", ")?;
            }
            fmt::Display::fmt(arg, f)?;
        }
        f.write_str(")")
    }
}

impl PhysicalExpr for Map {
    fn data_type(&self, _: &Schema) -> Result<DataType> {
        Ok(self.kernel.returns())
    }

    fn nullable(&self, _: &Schema) -> Result<bool> {
        Ok(true)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let args = self.args.iter().map(|arg| arg.evaluate(batch)).collect::<Result<Vec<_>>>()?;
        if args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_))) {
            let one = self.kernel.run(&args, 1)?;
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&one, 0)?));
        }
        self.kernel.run(&args, batch.num_rows()).map(ColumnarValue::Array)
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        self.args.iter().collect()
    }

    fn with_new_children(self: Arc<Self>, args: Vec<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn PhysicalExpr>> {
        Ok(Arc::new(Self { kernel: Arc::clone(&self.kernel), args }))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Whether a column of texts that is being made does not get too long. Where it does, the batch has to be evaluated row
/// by row.
fn has_room(column: &TextBuilder) -> Result<()> {
    if column.is_full() {
        return datafusion_common::exec_err!("a column of texts is longer than {} bytes", column.len());
    }
    Ok(())
}

/// An argument of the wrong type: a mistake in lowering, not of a value.
fn wrong_type<T>(kernel: &dyn Kernel) -> Result<T> {
    datafusion_common::internal_err!("{} does not take an argument of this type", kernel.name())
}
