//! AND, OR and NOT where Undefined decides alone: DataFusion's are three-valued.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, cast::AsArray};
use arrow::compute;
use arrow::datatypes::{DataType, Schema};
use arrow::record_batch::RecordBatch;
use datafusion_common::{Result, internal_err};
use datafusion_expr::ColumnarValue;
use datafusion_physical_expr::PhysicalExpr;

use super::term::Logic;

/// A strict AND or OR: null if a side is.
#[derive(Debug, Eq)]
pub(super) struct Strict {
    pub(super) logic: Logic,
    pub(super) left: Arc<dyn PhysicalExpr>,
    pub(super) right: Arc<dyn PhysicalExpr>,
}

// Derived, these would move the shared expressions.
impl PartialEq for Strict {
    fn eq(&self, other: &Self) -> bool {
        self.logic == other.logic && self.left.eq(&other.left) && self.right.eq(&other.right)
    }
}

impl Hash for Strict {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.logic.hash(state);
        self.left.hash(state);
        self.right.hash(state);
    }
}

impl Strict {
    fn side(side: &Arc<dyn PhysicalExpr>, batch: &RecordBatch) -> Result<ArrayRef> {
        side.evaluate(batch)?.into_array(batch.num_rows())
    }
}

impl fmt::Display for Strict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.logic == Logic::StrictOr { "or" } else { "and" };
        write!(f, "strict_{word}({}, {})", self.left, self.right)
    }
}

impl PhysicalExpr for Strict {
    fn data_type(&self, _: &Schema) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn nullable(&self, schema: &Schema) -> Result<bool> {
        Ok(self.left.nullable(schema)? || self.right.nullable(schema)?)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let (left, right) = (Self::side(&self.left, batch)?, Self::side(&self.right, batch)?);
        let (left, right): (&BooleanArray, &BooleanArray) = (left.as_boolean(), right.as_boolean());
        let both = if self.logic == Logic::StrictOr { compute::or(left, right)? } else { compute::and(left, right)? };
        Ok(ColumnarValue::Array(Arc::new(both)))
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.left, &self.right]
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn PhysicalExpr>> {
        match <[Arc<dyn PhysicalExpr>; 2]>::try_from(children) {
            Ok([left, right]) => Ok(Arc::new(Self { logic: self.logic, left, right })),
            Err(_) => internal_err!("a strict operator has two sides"),
        }
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
