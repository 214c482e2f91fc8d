//! A row of a rule as a write to a key-value table: its key, its types, its text.

use std::sync::Arc;

use hedgerow_sql::ast::Dialect;
use hedgerow_sql::json;
use hedgerow_sql::rule::{ColumnType, ItemTarget, KeyTemplate, TableDef, Target};
use hedgerow_sql::value::{MAX_TEXT, Object, Value};
use hedgerow_storage::table::{Key, Write};


use crate::rows::{Destination, RowBatch};

/// Why a row does not fit its table.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum RowError {
    /// The result of `SELECT VALUE`, or a payload that is no object.
    #[error("the result is not an object, so it has no columns for table {table:?}")]
    NotAnObject {
        /// The table.
        table: String,
    },
    /// A key column is missing or null.
    #[error("the key column {column:?} of table {table:?} is missing: add it to the SELECT list")]
    NoKey {
        /// The table.
        table: String,
        /// The column.
        column: String,
    },
    /// A value of the wrong type.
    #[error("column {column:?} of table {table:?} is {expected}, the row has {found}")]
    Type {
        /// The table.
        table: String,
        /// The column.
        column: String,
        /// The declared type.
        expected: &'static str,
        /// The value, shortened.
        found: String,
    },
    /// A row beyond the limit of all texts.
    #[error("the row for table {table:?} is longer than {MAX_TEXT} bytes")]
    TooLong {
        /// The table.
        table: String,
    },
    /// An action whose destination is not a table.
    #[error("the action does not write to a table")]
    NoTable,
}

/// A row as its table takes it.
#[derive(Debug)]
pub struct TableRow {
    table: Arc<str>,
    hash: Key,
    range: Option<Key>,
    /// The row as the text of a JSON object; `None` removes it.
    text: Option<String>,
    time_ms: i64,
}

impl TableRow {
    /// The write.
    pub fn write(&self) -> Write<'_> {
        Write {
            table: &self.table,
            hash: self.hash.clone(),
            range: self.range.clone(),
            value: self.text.as_ref().map(String::as_bytes),
            time_ms: self.time_ms,
        }
    }
}

/// The write of one row.
///
/// # Errors
/// When the row does not fit the table.
pub fn table_row(batch: &RowBatch, row: usize) -> Result<TableRow, RowError> {
    let Some(Destination::Table(table)) = batch.destination() else { return Err(RowError::NoTable) };
    let message = batch.rows.messages.get(row).copied().unwrap_or_default();
    let time_ms = batch.origins.time_ms(message);
    match batch.rule.rule.actions.get(batch.action).map(|action| &action.target) {
        Some(Target::Named(_)) => named(table, batch, row, time_ms),
        Some(Target::Item(item)) => keyed(table, item, batch, row, time_ms),
        _ => Err(RowError::NoTable),
    }
}

/// `INTO table`, `dynamoDBv2`: columns by name.
fn named(table: &TableDef, batch: &RowBatch, row: usize, time_ms: i64) -> Result<TableRow, RowError> {
    let Value::Object(object) = batch.rows.value(row) else {
        return Err(RowError::NotAnObject { table: table.name.to_string() });
    };
    for column in &table.columns {
        let value = object.get(&column.name).unwrap_or(&Value::Undefined);
        check(table, &column.name, column.ty, value)?;
    }
    let hash = key_of(table, &table.hash, object.get(&table.hash))?;
    let range = table.range.as_ref().map(|range| key_of(table, range, object.get(range))).transpose()?;
    let text = Some(text(table, &Value::Object(object))?);
    Ok(TableRow { table: Arc::clone(&table.name), hash, range, text, time_ms })
}

/// The `dynamoDB` action: keys from templates, the whole result in one column.
fn keyed(table: &TableDef, item: &ItemTarget, batch: &RowBatch, row: usize, time_ms: i64) -> Result<TableRow, RowError> {
    let mut template = batch.rule.rule.template_of(batch.action);
    let mut next = || {
        let text = batch.rows.template(template, row).unwrap_or_default();
        template += 1;
        text
    };
    let mut object = Object::default();
    let hash = template_key(table, &item.hash, &next(), &mut object)?;
    let range = item.range.as_ref().map(|range| template_key(table, range, &next(), &mut object)).transpose()?;
    let (payload_field, operation) = (next(), next());
    if operation.eq_ignore_ascii_case("delete") {
        return Ok(TableRow { table: Arc::clone(&table.name), hash, range, text: None, time_ms });
    }
    object.insert(payload_field.as_str().into(), batch.rows.value(row));
    let text = Some(text(table, &Value::object(object))?);
    Ok(TableRow { table: Arc::clone(&table.name), hash, range, text, time_ms })
}

fn text(table: &TableDef, value: &Value) -> Result<String, RowError> {
    json::to_text(value, MAX_TEXT).ok_or_else(|| RowError::TooLong { table: table.name.to_string() })
}

fn template_key(table: &TableDef, key: &KeyTemplate, text: &str, object: &mut Object) -> Result<Key, RowError> {
    let value = if key.number {
        Value::number(text, Dialect::Aws2015)
    } else {
        (!text.is_empty()).then(|| Value::String(text.into()))
    };
    let stored = key_of(table, &key.field, value.as_ref())?;
    object.insert(key.field.clone(), value.unwrap_or_default());
    Ok(stored)
}

fn key_of(table: &TableDef, column: &str, value: Option<&Value>) -> Result<Key, RowError> {
    match value {
        Some(Value::String(text)) => Ok(Key::text(&**text)),
        Some(Value::Int(number)) => Ok(Key::number(*number, 0)),
        Some(Value::Decimal(number)) => Ok(Key::number(number.mantissa(), number.scale())),
        Some(Value::Bool(flag)) => Ok(Key::Bool(*flag)),
        _ => Err(RowError::NoKey { table: table.name.to_string(), column: column.to_owned() }),
    }
}

/// A declared column holds its type, Null or nothing.
fn check(table: &TableDef, column: &str, ty: ColumnType, value: &Value) -> Result<(), RowError> {
    let fits = match (ty, value) {
        (_, Value::Undefined | Value::Null) | (ColumnType::Json, _) => true,
        (ColumnType::Varchar, Value::String(_)) | (ColumnType::Boolean, Value::Bool(_)) => true,
        (ColumnType::Double | ColumnType::Decimal { .. }, Value::Int(_) | Value::Decimal(_)) => true,
        (ColumnType::BigInt | ColumnType::Timestamp, Value::Int(number)) => i64::try_from(*number).is_ok(),
        _ => false,
    };
    if fits {
        return Ok(());
    }
    let expected = match ty {
        ColumnType::Varchar => "VARCHAR",
        ColumnType::BigInt => "BIGINT",
        ColumnType::Double => "DOUBLE",
        ColumnType::Boolean => "BOOLEAN",
        ColumnType::Timestamp => "TIMESTAMP (milliseconds since 1970)",
        ColumnType::Json => "JSON",
        ColumnType::Decimal { .. } => "DECIMAL",
    };
    let found: String = json::to_text(value, MAX_TEXT).unwrap_or_default().chars().take(80).collect();
    Err(RowError::Type { table: table.name.to_string(), column: column.to_owned(), expected, found })
}
