//! Rows as JSON, CSV or Arrow, batch by batch.
//!
//! JSON: `{"columns": [{"name": …, "type": …}, …], "rows": [[…], …], "truncated": false}`. Rows are arrays, since names may
//! repeat. Numbers keep all their digits; timestamps are text in ISO 8601; binary is hexadecimal; JSON columns are text.
//! After an error the members `error`, `hint` and `position` stand in place of `truncated`.

use std::io::Write;

use arrow::array::RecordBatch;
use arrow::csv::WriterBuilder;
use arrow::datatypes::{DataType, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use arrow::ipc::writer::StreamWriter;
use arrow::json::writer::{EncoderOptions, make_encoder};
use axum::body::Bytes;

use super::ErrorBody;
use crate::query::{QueryEngine, QueryError};

/// Runs a query and returns its whole result, encoded as `accept` (a media type) says; JSON if it is unknown.
///
/// # Errors
/// As the query.
pub async fn collect(engine: &QueryEngine, sql: &str, accept: &str) -> Result<Vec<u8>, QueryError> {
    let mut rows = engine.run(sql).await?;
    let mut encoder = Encoder::new(Format::of(accept).unwrap_or(Format::Json), rows.schema());
    let mut all = Vec::new();
    while let Some(batch) = rows.next().await {
        all.extend_from_slice(&encoder.rows(&batch?)?);
    }
    all.extend_from_slice(&encoder.end(rows.is_cut())?);
    Ok(all)
}

/// How rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Json,
    Csv,
    Arrow,
}

impl Format {
    pub(super) fn of(media: &str) -> Option<Self> {
        match media {
            "application/json" | "application/*" | "*/*" => Some(Self::Json),
            "text/csv" | "text/*" => Some(Self::Csv),
            "application/vnd.apache.arrow.stream" => Some(Self::Arrow),
            _ => None,
        }
    }

    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Csv => "text/csv; charset=utf-8; header=present",
            Self::Arrow => "application/vnd.apache.arrow.stream",
        }
    }
}

/// Writes one result.
pub(super) struct Encoder {
    format: Format,
    schema: SchemaRef,
    /// The head is written: column types, header line or schema message.
    begun: bool,
    /// JSON: a row was written, so the next one needs a comma before it.
    any: bool,
    /// Arrow: keeps track of dictionaries; its sink is emptied after each batch.
    arrow: Option<StreamWriter<Vec<u8>>>,
}

impl Encoder {
    pub(super) fn new(format: Format, schema: SchemaRef) -> Self {
        Self { format, schema, begun: false, any: false, arrow: None }
    }

    /// The head, if it is due, and these rows.
    pub(super) fn rows(&mut self, batch: &RecordBatch) -> Result<Bytes, QueryError> {
        let mut out = self.head().map_err(encoding)?;
        match self.format {
            Format::Json => self.json(batch, &mut out).map_err(encoding)?,
            Format::Csv => {
                let mut writer = WriterBuilder::new().with_header(false).build(&mut out);
                writer.write(batch).map_err(encoding)?;
            }
            Format::Arrow => {
                if let Some(writer) = &mut self.arrow {
                    writer.write(batch).map_err(encoding)?;
                    out.append(writer.get_mut());
                }
            }
        }
        Ok(out.into())
    }

    /// What comes after the last row. A result that was cut never looks whole.
    pub(super) fn end(mut self, cut: bool) -> Result<Bytes, QueryError> {
        let mut out = self.head().map_err(encoding)?;
        match self.format {
            Format::Json => out.extend_from_slice(format!("],\"truncated\":{cut}}}\n").as_bytes()),
            _ if cut => {
                return Err(QueryError::failed("the result has more rows than query.max_rows").hint("add a LIMIT"));
            }
            Format::Csv => {}
            Format::Arrow => {
                if let Some(writer) = &mut self.arrow {
                    writer.finish().map_err(encoding)?;
                    out.append(writer.get_mut());
                }
            }
        }
        Ok(out.into())
    }

    /// The error within the answer where there is room for it, else the error itself, which breaks the transfer off.
    pub(super) fn failed(mut self, error: QueryError) -> Result<Bytes, QueryError> {
        if self.format != Format::Json {
            return Err(error);
        }
        let mut out = self.head().map_err(encoding)?;
        let body = serde_json::to_vec(&ErrorBody::from(error)).unwrap_or_else(|_| b"{\"error\":\"\"}".to_vec());
        out.extend_from_slice(b"],");
        out.extend_from_slice(body.get(1..).unwrap_or_default());
        out.push(b'\n');
        Ok(out.into())
    }

    fn head(&mut self) -> Result<Vec<u8>, ArrowError> {
        let mut out = Vec::new();
        if std::mem::replace(&mut self.begun, true) {
            return Ok(out);
        }
        match self.format {
            Format::Json => {
                out.extend_from_slice(b"{\"columns\":[");
                for (index, field) in self.schema.fields().iter().enumerate() {
                    let comma = if index > 0 { "," } else { "" };
                    let name = serde_json::to_string(field.name()).unwrap_or_default();
                    write!(out, "{comma}{{\"name\":{name},\"type\":\"{}\"}}", sql_type(field.data_type()))?;
                }
                out.extend_from_slice(b"],\"rows\":[");
            }
            Format::Csv => {
                let mut writer = WriterBuilder::new().with_header(true).build(&mut out);
                writer.write(&RecordBatch::new_empty(SchemaRef::clone(&self.schema)))?;
            }
            Format::Arrow => {
                let mut writer = StreamWriter::try_new(Vec::new(), &self.schema)?;
                out.append(writer.get_mut());
                self.arrow = Some(writer);
            }
        }
        Ok(out)
    }

    fn json(&mut self, batch: &RecordBatch, out: &mut Vec<u8>) -> Result<(), ArrowError> {
        let options = EncoderOptions::default().with_explicit_nulls(true);
        let schema = batch.schema();
        let columns = schema.fields().iter().zip(batch.columns());
        let mut encoders = columns
            .map(|(field, array)| make_encoder(field, array.as_ref(), &options))
            .collect::<Result<Vec<_>, _>>()?;
        for row in 0..batch.num_rows() {
            out.extend_from_slice(if std::mem::replace(&mut self.any, true) { b",\n[" } else { b"\n[" });
            for (index, encoder) in encoders.iter_mut().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                if encoder.is_null(row) {
                    out.extend_from_slice(b"null");
                } else {
                    encoder.encode(row, out);
                }
            }
            out.push(b']');
        }
        Ok(())
    }
}

fn encoding(error: ArrowError) -> QueryError {
    QueryError::failed(format!("the result cannot be written in this format: {error}"))
        .hint("cast the column to VARCHAR, or ask for another format")
}

/// The SQL name of a type, as CREATE TABLE and CAST know it.
pub(super) fn sql_type(ty: &DataType) -> String {
    match ty {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "VARCHAR".to_owned(),
        DataType::Int64 => "BIGINT".to_owned(),
        DataType::Int32 => "INTEGER".to_owned(),
        DataType::Int16 => "SMALLINT".to_owned(),
        DataType::Int8 => "TINYINT".to_owned(),
        DataType::UInt64 => "BIGINT UNSIGNED".to_owned(),
        DataType::Float64 => "DOUBLE".to_owned(),
        DataType::Float32 => "REAL".to_owned(),
        DataType::Boolean => "BOOLEAN".to_owned(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => "VARBINARY".to_owned(),
        DataType::Date32 | DataType::Date64 => "DATE".to_owned(),
        DataType::Timestamp(unit, zone) => {
            let digits = match unit {
                TimeUnit::Second => 0,
                TimeUnit::Millisecond => 3,
                TimeUnit::Microsecond => 6,
                TimeUnit::Nanosecond => 9,
            };
            let zone = if zone.is_some() { " WITH TIME ZONE" } else { "" };
            format!("TIMESTAMP({digits}){zone}")
        }
        DataType::Decimal128(precision, scale) | DataType::Decimal256(precision, scale) => {
            format!("DECIMAL({precision},{scale})")
        }
        other => other.to_string().replace('"', ""),
    }
}
