//! The columns of a lake: the fixed ones every row has, then declared and inferred ones, in the order they came.
//!
//! A column never changes its type and never goes away. Names are compared without case, because most engines that read
//! the files do.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use serde::{Deserialize, Serialize};

/// Time of receipt.
pub(super) const TIME: &str = "_time";
/// Topic.
pub(super) const TOPIC: &str = "_topic";
/// Client id.
pub(super) const CLIENT_ID: &str = "_client_id";
/// Offset of the record in the ingest log.
pub(super) const OFFSET: &str = "_offset";
/// What fits no column, as a JSON object.
pub(super) const RESCUED: &str = "_rescued";
/// Payload that is not JSON. The column exists once a row needs it.
pub(super) const RAW: &str = "_raw";
/// Day of `_time`: the partition.
pub(super) const DATE: &str = "_date";

const RESERVED: [&str; 7] = [TIME, TOPIC, CLIENT_ID, OFFSET, RESCUED, RAW, DATE];

/// Type of a lake column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LakeType {
    /// Text.
    Varchar,
    /// 64-bit whole number.
    Bigint,
    /// Double.
    Double,
    /// Boolean.
    Boolean,
    /// Point in time, UTC. Takes milliseconds since 1970 or RFC 3339 text.
    Timestamp,
    /// JSON text of any kind.
    Json,
    /// Decimal of so many digits, so many of them after the point.
    Decimal(u8, i8),
    /// A type that this sink does not write, in a table that others made: values for it go to `_rescued`.
    Foreign,
}

impl LakeType {
    /// The Arrow type of the column; none for `Foreign`.
    pub(super) fn arrow(self) -> Option<DataType> {
        Some(match self {
            Self::Varchar | Self::Json => DataType::Utf8,
            Self::Bigint => DataType::Int64,
            Self::Double => DataType::Float64,
            Self::Boolean => DataType::Boolean,
            Self::Timestamp => timestamp(),
            Self::Decimal(precision, scale) => DataType::Decimal128(precision, scale),
            Self::Foreign => return None,
        })
    }
}

/// Microseconds, UTC: the timestamp of Delta Lake.
pub(super) fn timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// One declared or inferred column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LakeField {
    pub name: Arc<str>,
    #[serde(rename = "type")]
    pub data_type: LakeType,
}

/// The columns of a lake, apart from the fixed ones.
#[derive(Clone, Debug, Default)]
pub(super) struct LakeSchema {
    fields: Vec<LakeField>,
    by_lower_name: HashMap<String, usize>,
    has_raw: bool,
}

/// What a name means to the schema.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Lookup {
    /// This column, of this index.
    Column(usize),
    /// No column yet; one may be made.
    Free,
    /// A reserved name, a name a column file cannot have, or one that differs from a column's only by case.
    Refused,
}

impl LakeSchema {
    pub(super) fn new(fields: impl IntoIterator<Item = LakeField>, has_raw: bool) -> Self {
        let mut schema = Self { has_raw, ..Self::default() };
        for field in fields {
            schema.push(field);
        }
        schema
    }

    /// Adds a column unless its name is taken, and returns whether it did.
    pub(super) fn push(&mut self, field: LakeField) -> bool {
        let lower = field.name.to_lowercase();
        if self.by_lower_name.contains_key(&lower) || !is_usable(&field.name) {
            return false;
        }
        self.by_lower_name.insert(lower, self.fields.len());
        self.fields.push(field);
        true
    }

    pub(super) fn fields(&self) -> &[LakeField] {
        &self.fields
    }

    pub(super) fn has_raw(&self) -> bool {
        self.has_raw
    }

    pub(super) fn need_raw(&mut self) {
        self.has_raw = true;
    }

    pub(super) fn lookup(&self, name: &str) -> Lookup {
        match self.by_lower_name.get(&name.to_lowercase()) {
            Some(&index) if self.fields.get(index).is_some_and(|field| &*field.name == name) => Lookup::Column(index),
            Some(_) => Lookup::Refused,
            None if is_usable(name) => Lookup::Free,
            None => Lookup::Refused,
        }
    }

    /// The columns of a data file, as all of them stand now. The partition column is not in the file.
    pub(super) fn file_schema(&self) -> SchemaRef {
        let mut fields = vec![
            Field::new(TIME, timestamp(), true),
            Field::new(TOPIC, DataType::Utf8, true),
            Field::new(CLIENT_ID, DataType::Utf8, true),
            Field::new(OFFSET, DataType::Int64, true),
        ];
        fields.extend(
            self.fields.iter().filter_map(|f| Some(Field::new(f.name.to_string(), f.data_type.arrow()?, true))),
        );
        if self.has_raw {
            fields.push(Field::new(RAW, DataType::Binary, true));
        }
        fields.push(Field::new(RESCUED, DataType::Utf8, true));
        Arc::new(Schema::new(fields))
    }
}

/// Whether a column may have this name. Parquet readers trip over blanks, commas, braces, `=` and control characters.
fn is_usable(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 128
        && !name.chars().any(|c| c.is_control() || " ,;{}()=".contains(c))
        && !RESERVED.iter().any(|reserved| reserved.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_differ_by_more_than_case() {
        let mut schema = LakeSchema::default();
        assert!(schema.push(LakeField { name: "Temp".into(), data_type: LakeType::Double }));
        assert!(!schema.push(LakeField { name: "temp".into(), data_type: LakeType::Double }));
        assert_eq!(schema.lookup("Temp"), Lookup::Column(0));
        assert_eq!(schema.lookup("TEMP"), Lookup::Refused);
        assert_eq!(schema.lookup("hum"), Lookup::Free);
        for refused in ["_time", "_OFFSET", "a b", "", "x=y"] {
            assert_eq!(schema.lookup(refused), Lookup::Refused, "{refused:?}");
        }
    }
}
