//! `dead_letters`: rows that were given up, as a relation, oldest first.
//!
//! | column | |
//! |---|---|
//! | `id` | number of the letter; for `hedgerow dead-letters` |
//! | `time` | when the row was given up |
//! | `sink`, `rule`, `row_id` | where it was to go, who made it, its stable id |
//! | `reason`, `status`, `attempts` | why it did not get there, the last answer, how often it was tried |
//! | `topic`, `client_id`, `received` | the message behind it; NULL where there is none |
//! | `payload`, `payload_text` | the row's bytes, and the same as text if they are UTF-8 |

use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray, Int64Array, StringArray, TimestampMillisecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{DataFusionError, exec_datafusion_err};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
use hedgerow_storage::outbox::{DeadLetter, DeadLetters, LetterId};

use super::catalog::Relations;
use super::scan::{BatchSource, SourceExec, projected};

/// The name of the relation.
pub const DEAD_LETTERS: &str = "dead_letters";

/// Letters read at once.
const AT_ONCE: usize = 512;

/// Dead letters for queries.
#[derive(Clone)]
pub struct DeadLetterTable(DeadLetters);

impl DeadLetterTable {
    /// These.
    pub fn new(letters: DeadLetters) -> Self {
        Self(letters)
    }
}

impl std::fmt::Debug for DeadLetterTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DeadLetterTable")
    }
}

#[async_trait]
impl Relations for DeadLetterTable {
    fn names(&self) -> Vec<String> {
        vec![DEAD_LETTERS.to_owned()]
    }

    async fn open(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
        Ok((name == DEAD_LETTERS).then(|| Arc::new(self.clone()) as Arc<dyn TableProvider>))
    }
}

fn schema() -> SchemaRef {
    let text = |name| Field::new(name, DataType::Utf8, true);
    let number = |name| Field::new(name, DataType::Int64, true);
    let time = |name| Field::new(name, DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())), true);
    Arc::new(Schema::new(vec![
        number("id"),
        time("time"),
        text("sink"),
        text("rule"),
        text("row_id"),
        text("reason"),
        number("status"),
        number("attempts"),
        text("topic"),
        text("client_id"),
        time("received"),
        Field::new("payload", DataType::Binary, true),
        text("payload_text"),
    ]))
}

#[async_trait]
impl TableProvider for DeadLetterTable {
    fn schema(&self) -> SchemaRef {
        schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
        let schema = projected(&schema(), projection)?;
        let source =
            Source { letters: self.0.clone(), schema: Arc::clone(&schema), limit: limit.unwrap_or(usize::MAX) };
        Ok(SourceExec::new(schema, Arc::new(source)))
    }
}

struct Source {
    letters: DeadLetters,
    schema: SchemaRef,
    limit: usize,
}

impl BatchSource for Source {
    fn describe(&self) -> String {
        "DeadLetterScan".to_owned()
    }

    fn read(&self, batch_rows: usize, give: &mut dyn FnMut(RecordBatch) -> bool) -> Result<(), DataFusionError> {
        let mut after = LetterId(0);
        let mut left = self.limit;
        while left > 0 {
            let letters = self.letters.read(after, batch_rows.min(AT_ONCE).min(left));
            let letters = letters.map_err(|error| exec_datafusion_err!("dead letters cannot be read: {error}"))?;
            let Some(last) = letters.last() else { break };
            after = last.number;
            left -= letters.len();
            if !give(batch(&self.schema, &letters)?) {
                break;
            }
        }
        Ok(())
    }
}

fn batch(schema: &SchemaRef, letters: &[DeadLetter]) -> Result<RecordBatch, DataFusionError> {
    let columns = schema.fields().iter().map(|field| column(field.name(), letters)).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(letters.len()));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
}

fn column(name: &str, letters: &[DeadLetter]) -> ArrayRef {
    fn some(text: &str) -> Option<&str> {
        Some(text).filter(|text| !text.is_empty())
    }
    let text = |value: fn(&DeadLetter) -> Option<&str>| -> ArrayRef {
        Arc::new(letters.iter().map(value).collect::<StringArray>())
    };
    let number = |value: fn(&DeadLetter) -> Option<i64>| -> ArrayRef {
        Arc::new(letters.iter().map(value).collect::<Int64Array>())
    };
    let time = |value: fn(&DeadLetter) -> i64| -> ArrayRef {
        let values = letters.iter().map(|letter| Some(value(letter)));
        Arc::new(values.collect::<TimestampMillisecondArray>().with_timezone("UTC"))
    };
    match name {
        "id" => number(|letter| i64::try_from(letter.number.0).ok()),
        "time" => time(|letter| letter.died_ms),
        "received" => time(|letter| letter.entry.time_ms),
        "sink" => text(|letter| some(&letter.sink)),
        "rule" => text(|letter| some(&letter.entry.rule)),
        "row_id" => text(|letter| some(&letter.entry.id)),
        "reason" => text(|letter| some(&letter.reason)),
        "status" => number(|letter| letter.status.map(i64::from)),
        "attempts" => number(|letter| Some(letter.attempts.into())),
        "topic" => text(|letter| some(&letter.entry.topic)),
        "client_id" => text(|letter| some(&letter.entry.client_id)),
        "payload" => Arc::new(letters.iter().map(|letter| Some(letter.entry.body.as_slice())).collect::<BinaryArray>()),
        _ => text(|letter| std::str::from_utf8(&letter.entry.body).ok()),
    }
}
