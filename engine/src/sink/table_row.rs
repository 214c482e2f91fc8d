//! A row of a rule as a write to a key-value table: its key, its types, its text.

use std::sync::Arc;

use base64::Engine as _;
use hedgerow_sql::ast::Dialect;
use hedgerow_sql::json;
use hedgerow_sql::program::Body;
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
    at: At,
}

/// When a row is written: log time, and its epoch.
#[derive(Clone, Copy, Debug)]
struct At {
    time_ms: i64,
    epoch: u64,
}

impl TableRow {
    /// The write.
    pub fn write(&self) -> Write<'_> {
        Write {
            table: &self.table,
            hash: self.hash.clone(),
            range: self.range.clone(),
            value: self.text.as_ref().map(String::as_bytes),
            time_ms: self.at.time_ms,
            epoch: self.at.epoch,
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
    let at = At { time_ms: batch.origins.time_ms(message), epoch: batch.epoch(row).0 };
    match batch.rule.rule.actions.get(batch.action).map(|action| &action.target) {
        Some(Target::Named(_)) => named(table, batch, row, at),
        Some(Target::Item(item)) => keyed(table, item, batch, row, at),
        _ => Err(RowError::NoTable),
    }
}

/// `INTO table`, `dynamoDBv2`: columns by name.
fn named(table: &TableDef, batch: &RowBatch, row: usize, at: At) -> Result<TableRow, RowError> {
    let raw = match &batch.rows.body {
        Body::Members(_) => None,
        Body::Raw => Some(whole(batch, row)),
    };
    let member = |name: &str| match &raw {
        Some(object) => object.member(name),
        None => batch.rows.value(row, name),
    };
    if raw.as_ref().is_some_and(|value| !matches!(value, Value::Object(_))) {
        return Err(RowError::NotAnObject { table: table.name.to_string() });
    }
    for column in &table.columns {
        check(table, &column.name, column.ty, &member(&column.name))?;
    }
    let hash = key_of(table, &table.hash, &member(&table.hash))?;
    let range = table.range.as_ref().map(|range| key_of(table, range, &member(range))).transpose()?;
    let text = String::from_utf8(batch.rows.json(row).into_owned()).ok();
    Ok(TableRow { table: Arc::clone(&table.name), hash, range, text, at })
}

/// The whole result of a row: an object, or what `SELECT VALUE` gave; bytes that are no JSON as base64.
fn whole(batch: &RowBatch, row: usize) -> Value {
    let bytes = batch.rows.json(row);
    json::parse(&bytes, batch.rows.dialect())
        .unwrap_or_else(|_| Value::text(base64::engine::general_purpose::STANDARD.encode(&bytes)))
}

/// The `dynamoDB` action: keys from templates, the whole result in one column.
fn keyed(table: &TableDef, item: &ItemTarget, batch: &RowBatch, row: usize, at: At) -> Result<TableRow, RowError> {
    let mut templates = batch.templates(row);
    let mut next = || templates.next().flatten().unwrap_or_default();
    let mut object = Object::default();
    let hash = template_key(table, &item.hash, next(), &mut object)?;
    let range = item.range.as_ref().map(|range| template_key(table, range, next(), &mut object)).transpose()?;
    let (payload_field, operation) = (next(), next());
    if operation.eq_ignore_ascii_case("delete") {
        return Ok(TableRow { table: Arc::clone(&table.name), hash, range, text: None, at });
    }
    object.insert(payload_field.into(), whole(batch, row));
    let text = Some(text(table, &Value::object(object))?);
    Ok(TableRow { table: Arc::clone(&table.name), hash, range, text, at })
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
    let value = value.unwrap_or_default();
    let stored = key_of(table, &key.field, &value)?;
    object.insert(key.field.clone(), value);
    Ok(stored)
}

fn key_of(table: &TableDef, column: &str, value: &Value) -> Result<Key, RowError> {
    match value {
        Value::String(text) => Ok(Key::text(&**text)),
        Value::Int(number) => Ok(Key::number(*number, 0)),
        Value::Decimal(number) => Ok(Key::number(number.mantissa(), number.scale())),
        Value::Bool(flag) => Ok(Key::Bool(*flag)),
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
