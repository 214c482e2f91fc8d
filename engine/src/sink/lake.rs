//! A lake sink: rows as columns to [`Lake`], which does the rest on threads of its own.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, BinaryArray, StringArray, UInt32Array};
use arrow::compute::take;
use hedgerow_sql::ast::Dialect;
use hedgerow_sql::column::{Column, ColumnData};
use hedgerow_sql::json;
use hedgerow_sql::value::{MAX_TEXT, Value};
use hedgerow_storage::lake::{JsonScalar, Lake, LakeColumn, LakeRows, LakeStatus};
use hedgerow_storage::log::Epoch;

use super::{Delivery, Marks, Outcome, Sink, SinkHealth};
use crate::rows::{Names, RowBatch};

/// The sink.
pub struct LakeSink {
    lake: Arc<Lake>,
    /// Rows at or below it are in the lake already.
    skip: Epoch,
    /// How many batches of the delivery under way the lake has already taken.
    next: usize,
    rows: u64,
}

impl LakeSink {
    /// A sink on an open lake; rows at or below the lake's mark are skipped.
    pub fn new(lake: Arc<Lake>) -> Self {
        let skip = Epoch(lake.taken());
        Self { lake, skip, next: 0, rows: 0 }
    }

    /// The rows of a batch that the lake has not taken yet.
    fn columns(&self, batch: &RowBatch) -> Option<LakeRows> {
        let fresh: Vec<usize> = (0..batch.rows.messages.len()).filter(|row| batch.epoch(*row) > self.skip).collect();
        if fresh.is_empty() {
            return None;
        }
        let messages = fresh.iter().filter_map(|row| batch.rows.messages.get(*row)).map(|index| *index as usize);
        let messages: Vec<usize> = messages.collect();
        let origins = &batch.origins;
        let pick = |of: &[u64]| messages.iter().map(|index| of.get(*index).copied().unwrap_or_default()).collect();
        let texts = |of: &Names| {
            let one = |index: &usize| Some(of.get(*index)).filter(|text| !text.is_empty());
            StringArray::from_iter(messages.iter().map(one))
        };
        let all = fresh.len() == batch.rows.messages.len();
        let (raw, columns) = members(batch, &fresh, all);
        Some(LakeRows {
            epoch_of: pick(&origins.epoch),
            offset: pick(&origins.offset),
            time_ms: messages.iter().map(|index| origins.time_ms(*index as u32)).collect(),
            topic: texts(&origins.topic),
            client_id: texts(&origins.client_id),
            raw,
            columns,
        })
    }
}

type Members = Vec<(Arc<str>, LakeColumn)>;

/// The members of the chosen rows, and the bytes of those that are no objects.
fn members(batch: &RowBatch, chosen: &[usize], all: bool) -> (Option<BinaryArray>, Members) {
    let dialect = batch.rule.rule.dialect;
    let raw = batch.rows.has_raw().then(|| chosen.iter().map(|row| batch.rows.raw(*row)).collect());
    let column = |(name, column): &(Arc<str>, Column)| (Arc::clone(name), lake_column(column, chosen, all, dialect));
    (raw, batch.rows.columns().iter().map(column).collect())
}

fn lake_column(column: &Column, chosen: &[usize], all: bool, dialect: Dialect) -> LakeColumn {
    let picked = (!all).then(|| UInt32Array::from_iter_values(chosen.iter().map(|row| *row as u32)));
    match &column.data {
        ColumnData::Number { values, .. } => select(values, picked.as_ref()).map(LakeColumn::Number),
        ColumnData::Int64(values) => select(values, picked.as_ref()).map(LakeColumn::BigInt),
        ColumnData::String(values) => select(values, picked.as_ref()).map(LakeColumn::Text),
        ColumnData::Boolean(values) => select(values, picked.as_ref()).map(LakeColumn::Boolean),
        ColumnData::Json(values) => select(values, picked.as_ref()).map(LakeColumn::Json),
        ColumnData::Dynamic(_) | ColumnData::Mixed(_) => None,
    }
    .unwrap_or_else(|| {
        LakeColumn::Mixed(Arc::new(chosen.iter().map(|row| scalar(&column.value(*row, dialect))).collect()))
    })
}

/// The chosen rows of an array; the array itself when all are chosen.
fn select<A: Array + Clone + 'static>(values: &A, picked: Option<&UInt32Array>) -> Option<A> {
    match picked {
        None => Some(values.clone()),
        Some(picked) => take(values, picked, None).ok()?.as_any().downcast_ref::<A>().cloned(),
    }
}

fn scalar(value: &Value) -> JsonScalar {
    let text = || -> Arc<str> { json::to_text(value, MAX_TEXT).unwrap_or_default().into() };
    match value {
        Value::Undefined => JsonScalar::Missing,
        Value::Null => JsonScalar::Null,
        Value::Bool(flag) => JsonScalar::Bool(*flag),
        Value::Int(_) | Value::Decimal(_) => JsonScalar::Number(text()),
        Value::String(text) => JsonScalar::Text(Arc::clone(text)),
        Value::Array(_) | Value::Object(_) => JsonScalar::Json(text()),
    }
}

impl Sink for LakeSink {
    fn deliver(&mut self, delivery: &Delivery) -> Outcome {
        use hedgerow_storage::lake::AppendError;
        for batch in delivery.batches.iter().skip(self.next) {
            let Some(rows) = self.columns(batch) else {
                self.next += 1;
                continue;
            };
            let count = rows.len() as u64;
            match self.lake.append(Arc::new(rows)) {
                Ok(()) => {
                    batch.rule.stats.delivered.add(count);
                    self.rows += count;
                }
                Err(AppendError::Uneven) => batch.rule.stats.fail(count, "the rows of a batch differ in length"),
                // The mark stays where it is, so that the log keeps these rows for a restart with better settings.
                Err(AppendError::Refused(reason)) => batch.rule.stats.fail(count, &reason),
                Err(AppendError::Full | AppendError::Closed) => return Outcome::Full,
            }
            self.next += 1;
        }
        if delivery.up_to > self.skip && self.lake.step_done(delivery.up_to.0).is_err() {
            return Outcome::Full;
        }
        self.next = 0;
        Outcome::Accepted
    }

    fn seal(&mut self, _: Epoch) {
        // A full queue takes it the next time: whoever waits for the mark asks again.
        let _ = self.lake.seal();
    }

    fn marks(&self) -> Marks {
        let at_least = |mark: u64| Epoch(mark).max(self.skip);
        Marks { taken: at_least(self.lake.taken()), committed: Epoch(self.lake.committed()) }
    }

    fn health(&self) -> SinkHealth {
        let health = self.lake.health();
        let well = matches!(health.status, LakeStatus::Ok | LakeStatus::Starting);
        SinkHealth { rows: self.rows, backlog_bytes: health.backlog_bytes, error: health.message.filter(|_| !well) }
    }

    fn close(&mut self, _: Duration) {
        self.lake.close();
    }
}
