//! Derived records: rows that go back into the log, exactly once.
//!
//! The records of a delivery and the producer's mark are frames of one batch, and a batch is visible whole or not at
//! all. After a crash the newest mark in the log says which rows are in it already.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hedgerow_sql::notify;
use hedgerow_sql::rule::Target;
use hedgerow_storage::fault;
use hedgerow_storage::log::{AppendError, Appender, Batch, Class, Epoch, Log, RecordFields, RecordKind};

use super::{Delivery, Marks, Outcome, Sink, SinkHealth};
use crate::errors::{ErrorSample, Errors, excerpt};
use crate::metrics::EngineMetrics;
use crate::rows::{Lane, RowBatch, in_order};

/// The name of the engine's marks in the log, for the rows of a lane.
pub const fn producer(lane: Lane) -> &'static str {
    match lane {
        Lane::Straight => "republish",
        Lane::Called => "republish/called",
    }
}

/// Batches handed to the log and not yet committed, at most.
const IN_FLIGHT: usize = 16;

/// The sink.
pub struct DerivedSink {
    producer: &'static str,
    log: Arc<Log>,
    appender: Appender,
    hop_limit: u8,
    errors: Arc<Errors>,
    metrics: Arc<EngineMetrics>,
    /// Rows at or below it are in the log already.
    skip: Epoch,
    /// Everything up to here was accepted.
    accepted: Epoch,
    state: Arc<State>,
    rows: u64,
}

#[derive(Default)]
struct State {
    in_flight: AtomicUsize,
    /// The newest committed mark.
    committed: AtomicU64,
    failed: Mutex<Option<String>>,
}

impl DerivedSink {
    /// A sink of a lane whose newest mark in the log is `mark`.
    pub fn new(
        lane: Lane,
        log: Arc<Log>,
        mark: Epoch,
        hop_limit: u8,
        errors: Arc<Errors>,
        metrics: Arc<EngineMetrics>,
    ) -> Self {
        let producer = producer(lane);
        let state = Arc::new(State::default());
        state.committed.store(mark.0, Ordering::Release);
        let appender = log.appender();
        Self { producer, log, appender, hop_limit, errors, metrics, skip: mark, accepted: mark, state, rows: 0 }
    }

    /// The frames of a delivery in the one order of the system.
    fn frames(&self, delivery: &Delivery) -> Batch {
        let mut frames = Batch::new();
        for (batch, row) in in_order(&delivery.batches, self.skip) {
            self.frame(batch, row, &mut frames);
        }
        frames
    }

    fn frame(&self, batch: &RowBatch, row: usize, frames: &mut Batch) {
        let Some(action) = batch.rule.rule.actions.get(batch.action) else { return };
        let Target::Topic { qos, retain, headers, .. } = &action.target else { return };
        let message = batch.rows.messages.get(row).copied().unwrap_or_default();
        let hops = batch.origins.hops.get(message as usize).copied().unwrap_or_default().saturating_add(1);
        let payload = batch.rows.json(row);
        let from = batch.origins.topic.get(message as usize);
        let payload = notify::text(from, &payload, &["mqtt"]);
        let mut texts = batch.templates(row);
        let topic = texts.next().flatten().unwrap_or_default();
        let topic = topic.strip_prefix('$').filter(|rest| rest.starts_with('$')).unwrap_or(topic);
        let checked = self.check(topic, hops).and_then(|()| headers.section(texts));
        let properties = match checked {
            Ok(properties) => properties,
            Err(reason) => {
                self.refuse(batch, row, message, topic, &payload, &reason);
                return;
            }
        };
        frames.push(&RecordFields {
            kind: RecordKind::Message,
            time_ms: self.log.now_ms(),
            topic,
            qos: *qos,
            retain: *retain,
            origin: &batch.row_id(row),
            hops,
            properties: &properties,
            payload: &payload,
            ..RecordFields::default()
        });
        batch.rule.stats.delivered.add(1);
    }

    fn check(&self, topic: &str, hops: u8) -> Result<(), String> {
        if hops > self.hop_limit {
            self.metrics.hop_limited.add(1);
            return Err(format!(
                "republished {} times: rules feed each other in a circle (the limit is engine.max_hops = {})",
                hops - 1,
                self.hop_limit
            ));
        }
        hedgerow_sql::topic::validate_topic(topic)
            .map_err(|error| format!("the topic {topic:?} cannot be published to: {error}"))
    }

    fn refuse(&self, batch: &RowBatch, row: usize, message: u32, topic: &str, payload: &[u8], reason: &str) {
        batch.rule.stats.fail(1, reason);
        self.errors.refused(batch, row, if topic.is_empty() { "republish" } else { topic }, reason);
        self.errors.push(ErrorSample {
            epoch: batch.epoch(row).0,
            offset: batch.origins.position(message).1,
            time_ms: batch.origins.time_ms(message),
            rule: batch.rule.rule.name.to_string(),
            target: "republish".into(),
            topic: topic.to_owned(),
            client_id: String::new(),
            reason: reason.to_owned(),
            sample: excerpt(payload),
        });
    }
}

impl Sink for DerivedSink {
    fn deliver(&mut self, delivery: &Delivery) -> Outcome {
        // After a failure nothing more: a later mark in the log would stand for the rows that are not in it.
        if self.state.has_failed() || self.state.in_flight.load(Ordering::Acquire) >= IN_FLIGHT {
            return Outcome::Full;
        }
        let mut frames = self.frames(delivery);
        let rows = frames.len() as u64;
        if rows > 0 && !fault::bug("skip_without_mark") {
            frames.push_mark(self.producer, delivery.up_to);
        }
        if rows > 0 {
            let state = Arc::clone(&self.state);
            let up_to = delivery.up_to.0;
            self.state.in_flight.fetch_add(1, Ordering::AcqRel);
            let appended = self.appender.append(frames, Class::System, move |result| {
                match result {
                    Ok(_) => {
                        fault::point("republish.after_append");
                        if !state.has_failed() {
                            state.committed.fetch_max(up_to, Ordering::AcqRel);
                        }
                    }
                    Err(error) => state.fail(&error),
                }
                state.in_flight.fetch_sub(1, Ordering::AcqRel);
            });
            if let Err((_, error)) = appended {
                self.state.in_flight.fetch_sub(1, Ordering::AcqRel);
                if !matches!(error, AppendError::Full | AppendError::LowSpace) {
                    self.state.fail(&error);
                }
                return Outcome::Full;
            }
            self.rows += rows;
            self.metrics.derived.add(rows);
        }
        self.accepted = delivery.up_to;
        Outcome::Accepted
    }

    fn seal(&mut self, _: Epoch) {}

    fn marks(&self) -> Marks {
        let idle = self.state.in_flight.load(Ordering::Acquire) == 0 && !self.state.has_failed();
        let mark = if idle { self.accepted } else { Epoch(self.state.committed.load(Ordering::Acquire)) };
        Marks { taken: mark, committed: mark }
    }

    fn health(&self) -> SinkHealth {
        let error = self.state.failed.lock().ok().and_then(|failed| failed.clone());
        SinkHealth { rows: self.rows, backlog_bytes: 0, error }
    }

    fn close(&mut self, wait: Duration) {
        const POLL: Duration = Duration::from_millis(5);
        for _ in 0..wait.as_millis() / POLL.as_millis() {
            if self.state.in_flight.load(Ordering::Acquire) == 0 {
                break;
            }
            std::thread::park_timeout(POLL);
        }
    }
}

impl State {
    /// Stays: rows were accepted and are not in the log. The mark stays below them, and the next start replays them.
    fn fail(&self, error: &AppendError) {
        if let Ok(mut failed) = self.failed.lock() {
            *failed = Some(format!("derived records cannot be appended ({error}): restart once the log is well again"));
        }
    }

    fn has_failed(&self) -> bool {
        self.failed.lock().is_ok_and(|failed| failed.is_some())
    }
}
