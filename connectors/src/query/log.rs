//! `ingest_log`: the log as a relation, one row per record.
//!
//! | column | |
//! |---|---|
//! | `epoch` | the commit, µs of log time |
//! | `offset` | number of the record |
//! | `kind` | `message`, `control`, `tick`, `mark`, `session` |
//! | `time` | receipt, ms |
//! | `topic`, `client_id`, `principal`, `address` | as the gateway saw them; NULL where there is none |
//! | `qos`, `retain` | of the PUBLISH |
//! | `hops`, `origin` | derived records: how many derivations lie behind, and the row they came from |
//! | `payload`, `payload_text` | the bytes, and the same as text if they are UTF-8 |
//!
//! Conditions on `epoch` bound what is read; conditions on `offset` stop the reading. The end is the last commit that was
//! durable when the query began.

use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, BinaryBuilder, BooleanBuilder, Int64Builder, StringBuilder, TimestampMillisecondBuilder};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{DataFusionError, exec_datafusion_err};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use hedgerow_sql::rule::ColumnType;
use hedgerow_storage::log::{Epoch, Log, Record, RecordKind};
use hedgerow_storage::table::Key;

use super::catalog::Relations;
use super::keys::{Condition, on_column};
use super::scan::{BatchSource, SourceExec, projected};

/// The name of the relation.
pub const INGEST_LOG: &str = "ingest_log";

/// A batch ends at this many bytes of payload, whatever its rows.
const BATCH_BYTES: usize = 8 << 20;

/// The log for queries.
#[derive(Clone)]
pub struct IngestLog(Arc<Log>);

impl IngestLog {
    /// This log.
    pub fn new(log: Arc<Log>) -> Self {
        Self(log)
    }
}

#[async_trait]
impl Relations for IngestLog {
    fn names(&self) -> Vec<String> {
        vec![INGEST_LOG.to_owned()]
    }

    async fn open(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
        if name != INGEST_LOG {
            return Ok(None);
        }
        let last = self.0.last_epoch();
        Ok(Some(Arc::new(LogTable { log: Arc::clone(&self.0), last, schema: schema() })))
    }
}

fn schema() -> SchemaRef {
    let text = |name| Field::new(name, DataType::Utf8, true);
    Arc::new(Schema::new(vec![
        Field::new("epoch", DataType::Int64, false),
        Field::new("offset", DataType::Int64, false),
        Field::new("kind", DataType::Utf8, false),
        Field::new("time", DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())), false),
        text("topic"),
        text("client_id"),
        text("principal"),
        text("address"),
        Field::new("qos", DataType::Int64, false),
        Field::new("retain", DataType::Boolean, false),
        Field::new("hops", DataType::Int64, false),
        text("origin"),
        Field::new("payload", DataType::Binary, false),
        text("payload_text"),
    ]))
}

/// The log up to one moment.
struct LogTable {
    log: Arc<Log>,
    last: Epoch,
    schema: SchemaRef,
}

impl std::fmt::Debug for LogTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LogTable(up to {})", self.last)
    }
}

#[async_trait]
impl TableProvider for LogTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>, DataFusionError> {
        let says =
            |column, filter: &Expr| on_column(column, ColumnType::BigInt, std::slice::from_ref(filter)).is_some();
        let support = |filter: &&Expr| match says("epoch", filter) || says("offset", filter) {
            true => TableProviderFilterPushDown::Inexact,
            false => TableProviderFilterPushDown::Unsupported,
        };
        Ok(filters.iter().map(support).collect())
    }

    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
        let schema = projected(&self.schema, projection)?;
        let (from, to) = span("epoch", filters);
        let source = LogSource {
            log: Arc::clone(&self.log),
            schema: Arc::clone(&schema),
            epochs: (from, to.min(self.last.0)),
            offsets: span("offset", filters),
            limit: limit.unwrap_or(usize::MAX),
        };
        Ok(SourceExec::new(schema, Arc::new(source)))
    }
}

/// The first and last number that the filters let through.
fn span(column: &str, filters: &[Expr]) -> (u64, u64) {
    let whole = |key: &Key| match key {
        Key::Number(number) if number.scale == 0 => Some(u64::try_from(number.mantissa.max(0)).unwrap_or(u64::MAX)),
        _ => None,
    };
    match on_column(column, ColumnType::BigInt, filters) {
        Some(Condition::OneOf(keys)) => match (keys.first(), keys.last()) {
            (Some(first), Some(last)) => (whole(first).unwrap_or(0), whole(last).unwrap_or(u64::MAX)),
            _ => (u64::MAX, 0),
        },
        Some(Condition::Between(from, to)) => {
            let from = match &from {
                Bound::Included(key) | Bound::Excluded(key) => whole(key).unwrap_or(0),
                Bound::Unbounded => 0,
            };
            let to = match &to {
                Bound::Included(key) | Bound::Excluded(key) => whole(key).unwrap_or(u64::MAX),
                Bound::Unbounded => u64::MAX,
            };
            (from, to)
        }
        _ => (0, u64::MAX),
    }
}

struct LogSource {
    log: Arc<Log>,
    schema: SchemaRef,
    /// First and last, inclusive.
    epochs: (u64, u64),
    /// First and last, inclusive.
    offsets: (u64, u64),
    limit: usize,
}

impl BatchSource for LogSource {
    fn describe(&self) -> String {
        let columns: Vec<&str> = self.schema.fields().iter().map(|field| field.name().as_str()).collect();
        let (from, to) = self.epochs;
        format!("LogScan: epochs {from} to {to}, columns=[{}]", columns.join(", "))
    }

    fn read(&self, batch_rows: usize, give: &mut dyn FnMut(RecordBatch) -> bool) -> Result<(), DataFusionError> {
        let failed = |error: hedgerow_storage::log::ReadError| exec_datafusion_err!("the log cannot be read: {error}");
        let (first, last) = self.epochs;
        let before = Epoch(first.saturating_sub(1)).max(self.log.first_epoch());
        if before.0 >= last {
            return Ok(());
        }
        let mut reader = self.log.reader(before).map_err(failed)?;
        let mut builder = RecordBuilder::new(&self.schema);
        let mut left = self.limit;
        while let Some(commit) = reader.next(Duration::ZERO).map_err(failed)? {
            let beyond = commit.epoch.0 > last || commit.first_offset.0 > self.offsets.1;
            if beyond || left == 0 {
                break;
            }
            for record in commit.records() {
                if (self.offsets.0..=self.offsets.1).contains(&record.offset.0) && left > 0 {
                    left -= 1;
                    builder.push(commit.epoch, &record);
                }
                let full = builder.rows >= batch_rows || builder.bytes >= BATCH_BYTES;
                if full && !give(builder.finish(&self.schema)?) {
                    return Ok(());
                }
            }
        }
        if builder.rows > 0 {
            give(builder.finish(&self.schema)?);
        }
        Ok(())
    }
}

struct RecordBuilder {
    columns: Vec<Builder>,
    rows: usize,
    bytes: usize,
}

enum Builder {
    Number(fn(Epoch, &Record<'_>) -> i64, Int64Builder),
    Text(for<'a> fn(&Record<'a>) -> Option<&'a str>, StringBuilder),
    Flag(fn(&Record<'_>) -> bool, BooleanBuilder),
    Time(TimestampMillisecondBuilder),
    Bytes(BinaryBuilder),
}

fn some(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

impl Builder {
    fn new(column: &str) -> Self {
        let number = |value| Self::Number(value, Int64Builder::new());
        let text = |value| Self::Text(value, StringBuilder::new());
        match column {
            "epoch" => number(|epoch, _| signed(epoch.0)),
            "offset" => number(|_, record| signed(record.offset.0)),
            "qos" => number(|_, record| record.fields.qos.into()),
            "hops" => number(|_, record| record.fields.hops.into()),
            "kind" => text(|record| Some(kind(record.fields.kind))),
            "topic" => text(|record| some(record.fields.topic)),
            "client_id" => text(|record| some(record.fields.client_id)),
            "principal" => text(|record| some(record.fields.principal)),
            "address" => text(|record| some(record.fields.address)),
            "origin" => text(|record| some(record.fields.origin)),
            "retain" => Self::Flag(|record| record.fields.retain, BooleanBuilder::new()),
            "time" => Self::Time(TimestampMillisecondBuilder::new()),
            "payload" => Self::Bytes(BinaryBuilder::new()),
            _ => text(|record| std::str::from_utf8(record.fields.payload).ok()),
        }
    }
}

fn kind(kind: RecordKind) -> &'static str {
    match kind {
        RecordKind::Message => "message",
        RecordKind::Control => "control",
        RecordKind::Tick => "tick",
        RecordKind::Mark => "mark",
        RecordKind::Session => "session",
    }
}

impl RecordBuilder {
    fn new(schema: &SchemaRef) -> Self {
        let columns = schema.fields().iter().map(|field| Builder::new(field.name())).collect();
        Self { columns, rows: 0, bytes: 0 }
    }

    fn push(&mut self, epoch: Epoch, record: &Record<'_>) {
        self.rows += 1;
        self.bytes += record.fields.payload.len();
        for column in &mut self.columns {
            match column {
                Builder::Number(value, column) => column.append_value(value(epoch, record)),
                Builder::Text(value, column) => column.append_option(value(record)),
                Builder::Flag(value, column) => column.append_value(value(record)),
                Builder::Time(column) => column.append_value(record.fields.time_ms),
                Builder::Bytes(column) => column.append_value(record.fields.payload),
            }
        }
    }

    fn finish(&mut self, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
        let columns = self.columns.iter_mut().map(|column| -> ArrayRef {
            match column {
                Builder::Number(_, column) => Arc::new(column.finish()),
                Builder::Text(_, column) => Arc::new(column.finish()),
                Builder::Flag(_, column) => Arc::new(column.finish()),
                Builder::Time(column) => Arc::new(column.finish().with_timezone("UTC")),
                Builder::Bytes(column) => Arc::new(column.finish()),
            }
        });
        let options = RecordBatchOptions::new().with_row_count(Some(std::mem::take(&mut self.rows)));
        self.bytes = 0;
        RecordBatch::try_new_with_options(Arc::clone(schema), columns.collect(), &options)
    }
}
