//! Stored rows (JSON objects) as Arrow columns of declared types.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanBuilder, Decimal128Builder, Float64Builder, Int64Builder, StringBuilder,
    TimestampMillisecondBuilder,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use hedgerow_sql::ast::Dialect;
use hedgerow_sql::decimal::Decimal;
use hedgerow_sql::json;
use hedgerow_sql::rule::{ColumnType, TableDef};
use hedgerow_sql::value::{Object, Value};

/// The column of everything that has no column of its own.
pub(super) const REST: &str = "_rest";

/// The declared columns, and `_rest`.
pub(super) fn schema_of(table: &TableDef) -> SchemaRef {
    let declared = table.columns.iter().filter(|column| &*column.name != REST);
    let mut fields: Vec<Field> =
        declared.map(|column| Field::new(&*column.name, arrow_type(column.ty), true)).collect();
    fields.push(Field::new(REST, DataType::Utf8, true));
    Arc::new(Schema::new(fields))
}

fn arrow_type(ty: ColumnType) -> DataType {
    match ty {
        ColumnType::Varchar | ColumnType::Json => DataType::Utf8,
        ColumnType::BigInt => DataType::Int64,
        ColumnType::Double => DataType::Float64,
        ColumnType::Boolean => DataType::Boolean,
        ColumnType::Timestamp => DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())),
        ColumnType::Decimal { precision, scale } => DataType::Decimal128(precision, scale),
    }
}

/// Collects rows into a batch of the wanted columns.
pub(super) struct RowBuilder {
    schema: SchemaRef,
    declared: Vec<(Arc<str>, ColumnType)>,
    columns: Vec<(Arc<str>, Builder)>,
    rows: usize,
}

enum Builder {
    Varchar(StringBuilder),
    BigInt(Int64Builder),
    Double(Float64Builder),
    Boolean(BooleanBuilder),
    Timestamp(TimestampMillisecondBuilder),
    Json(StringBuilder),
    Decimal(Decimal128Builder, u8, i8),
    Rest(StringBuilder),
}

impl RowBuilder {
    pub(super) fn new(table: &TableDef, schema: SchemaRef) -> Self {
        let declared: Vec<(Arc<str>, ColumnType)> =
            table.columns.iter().map(|column| (Arc::clone(&column.name), column.ty)).collect();
        let columns = schema.fields().iter().map(|field| {
            let ty = declared.iter().find(|(name, _)| **name == **field.name() && **name != *REST).map(|(_, ty)| *ty);
            (Arc::from(field.name().as_str()), ty.map_or(Builder::Rest(StringBuilder::new()), Builder::new))
        });
        Self { columns: columns.collect(), schema, declared, rows: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.rows
    }

    /// Adds a row, given as the text of a JSON object.
    pub(super) fn push(&mut self, text: &[u8]) {
        self.rows += 1;
        if self.columns.is_empty() {
            return;
        }
        let object = match json::parse(text, Dialect::Native) {
            Ok(Value::Object(object)) => object,
            // Only objects are ever stored; were it otherwise, it must still be seen.
            _ => Arc::new(Object::from_iter([(Arc::from(""), Value::text(String::from_utf8_lossy(text)))])),
        };
        for (name, builder) in &mut self.columns {
            match builder {
                Builder::Rest(column) => column.append_option(rest(&object, &self.declared)),
                _ => builder.append(object.get(name)),
            }
        }
    }

    pub(super) fn finish(&mut self) -> Result<RecordBatch, ArrowError> {
        let columns = self.columns.iter_mut().map(|(_, builder)| builder.finish()).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(std::mem::take(&mut self.rows)));
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)
    }
}

/// The members that no declared column shows, or `None` if there are none.
fn rest(object: &Object, declared: &[(Arc<str>, ColumnType)]) -> Option<String> {
    let shown = |name: &str, value: &Value| {
        let ty = declared.iter().find(|(known, _)| **known == *name).map(|(_, ty)| *ty);
        ty.is_some_and(|ty| name != REST && (matches!(value, Value::Null) || fits(ty, value)))
    };
    let rest: Object = object
        .iter()
        .filter(|(name, value)| !shown(name, value))
        .map(|(name, value)| (Arc::clone(name), value.clone()))
        .collect();
    if rest.is_empty() { None } else { text_of(&Value::object(rest)) }
}

fn text_of(value: &Value) -> Option<String> {
    json::to_text(value, usize::MAX)
}

fn fits(ty: ColumnType, value: &Value) -> bool {
    match ty {
        ColumnType::Varchar => matches!(value, Value::String(_)),
        ColumnType::BigInt | ColumnType::Timestamp => whole(value).is_some(),
        ColumnType::Double => double(value).is_some(),
        ColumnType::Boolean => matches!(value, Value::Bool(_)),
        ColumnType::Json => true,
        ColumnType::Decimal { precision, scale } => decimal(value, precision, scale).is_some(),
    }
}

fn whole(value: &Value) -> Option<i64> {
    match value {
        Value::Int(number) => i64::try_from(*number).ok(),
        _ => None,
    }
}

fn double(value: &Value) -> Option<f64> {
    match value {
        Value::Int(number) => Some(*number as f64),
        Value::Decimal(number) => number.to_string().parse().ok(),
        _ => None,
    }
}

/// The number with exactly `scale` places, if it has no more digits than fit.
fn decimal(value: &Value, precision: u8, scale: i8) -> Option<i128> {
    let number = match value {
        Value::Int(number) => Decimal::new(*number, 0)?,
        Value::Decimal(number) => *number,
        _ => return None,
    }
    .strip_zeros();
    let shift = i32::from(scale).checked_sub(number.scale())?;
    let factor = 10_i128.checked_pow(u32::try_from(shift).ok()?)?;
    let mantissa = number.mantissa().checked_mul(factor)?;
    (mantissa.unsigned_abs() < 10_u128.checked_pow(u32::from(precision))?).then_some(mantissa)
}

impl Builder {
    fn new(ty: ColumnType) -> Self {
        match ty {
            ColumnType::Varchar => Self::Varchar(StringBuilder::new()),
            ColumnType::BigInt => Self::BigInt(Int64Builder::new()),
            ColumnType::Double => Self::Double(Float64Builder::new()),
            ColumnType::Boolean => Self::Boolean(BooleanBuilder::new()),
            ColumnType::Timestamp => Self::Timestamp(TimestampMillisecondBuilder::new()),
            ColumnType::Json => Self::Json(StringBuilder::new()),
            ColumnType::Decimal { precision, scale } => Self::Decimal(Decimal128Builder::new(), precision, scale),
        }
    }

    fn append(&mut self, value: Option<&Value>) {
        let value = value.filter(|value| !value.is_missing());
        match self {
            Self::Varchar(column) => column.append_option(match value {
                Some(Value::String(text)) => Some(text),
                _ => None,
            }),
            Self::BigInt(column) => column.append_option(value.and_then(whole)),
            Self::Timestamp(column) => column.append_option(value.and_then(whole)),
            Self::Double(column) => column.append_option(value.and_then(double)),
            Self::Boolean(column) => column.append_option(match value {
                Some(Value::Bool(flag)) => Some(*flag),
                _ => None,
            }),
            Self::Json(column) | Self::Rest(column) => column.append_option(value.and_then(text_of)),
            Self::Decimal(column, precision, scale) => {
                column.append_option(value.and_then(|value| decimal(value, *precision, *scale)));
            }
        }
    }

    fn finish(&mut self) -> ArrayRef {
        match self {
            Self::Varchar(column) | Self::Json(column) | Self::Rest(column) => Arc::new(column.finish()),
            Self::BigInt(column) => Arc::new(column.finish()),
            Self::Double(column) => Arc::new(column.finish()),
            Self::Boolean(column) => Arc::new(column.finish()),
            Self::Timestamp(column) => Arc::new(column.finish().with_timezone("UTC")),
            Self::Decimal(column, precision, scale) => {
                let array = column.finish();
                // Precision and scale were checked when the schema was made; the values were checked against them.
                Arc::new(array.with_data_type(DataType::Decimal128(*precision, *scale)))
            }
        }
    }
}
