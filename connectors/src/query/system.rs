//! `system.*`: what the running server knows of itself, as relations.
//!
//! The server implements [`SystemViews`]; here its answers become Arrow rows. Each query sees one answer per view.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array, StringArray, TimestampMillisecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::record_batch::RecordBatch;
use serde::{Deserialize, Serialize};

use crate::metrics::Sample;

/// What the running server tells of itself. Calls are short and never wait for I/O.
pub trait SystemViews: Send + Sync {
    /// One per rule of the catalog.
    fn rules(&self) -> Vec<RuleStatus>;
    /// One per sink: lakes, tables, republish.
    fn sinks(&self) -> Vec<SinkStatus>;
    /// One per key-value table.
    fn tables(&self) -> Vec<TableStatus>;
    /// One per MQTT session, connected or not.
    fn sessions(&self) -> Vec<SessionStatus>;
    /// One per MQTT connection.
    fn connections(&self) -> Vec<ConnectionStatus>;
    /// One per destination outside.
    fn destinations(&self) -> Vec<DestinationStatus>;
    /// One per message queue.
    fn queues(&self) -> Vec<QueueStatus>;
    /// One per rule with AFTER.
    fn timers(&self) -> Vec<TimerStatus>;
    /// The newest errors kept, oldest first.
    fn errors(&self) -> Vec<ErrorSample>;
    /// Every metric, as `/metrics` shows it.
    fn metrics(&self) -> Vec<Sample>;
}

/// `system.rules`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "each is a column")]
pub struct RuleStatus {
    pub name: String,
    pub enabled: bool,
    /// `folder` or `api`.
    pub owner: String,
    /// `native` or `aws`.
    pub dialect: String,
    pub topic_filter: String,
    /// Messages whose topic matched.
    pub matched: u64,
    /// Rows after WHERE.
    pub passed: u64,
    /// Rows that sinks took, all actions together.
    pub delivered: u64,
    /// Payloads and rows that were refused.
    pub failed: u64,
    pub last_error: Option<String>,
    /// Per path that the rule reads, the share (0 to 1) of messages in which it was Undefined, as JSON text.
    pub undefined: String,
    /// The statement or document.
    pub text: String,
}

/// `system.sinks`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "each is a column")]
pub struct SinkStatus {
    pub name: String,
    /// `lake`, `table`, `republish`.
    pub kind: String,
    pub rows: u64,
    /// Epoch up to which it is durable on this machine, µs of log time.
    pub taken: u64,
    /// Epoch up to which it is at its destination.
    pub committed: u64,
    /// Bytes waiting on local disk.
    pub backlog_bytes: u64,
    pub healthy: bool,
    pub last_error: Option<String>,
}

/// `system.tables`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "each is a column")]
pub struct TableStatus {
    pub name: String,
    pub hash_key: String,
    pub range_key: Option<String>,
    pub ttl_ms: Option<u64>,
    /// An estimate.
    pub rows: u64,
    pub bytes: u64,
}

/// `system.sessions`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "each is a column")]
pub struct SessionStatus {
    pub client_id: String,
    pub connected: bool,
    pub principal: Option<String>,
    pub address: Option<String>,
    /// `3.1.1` or `5`.
    pub protocol: String,
    pub persistent: bool,
    pub subscriptions: u64,
    /// Messages waiting for the client.
    pub queued: u64,
    /// Since then connected or gone, ms since 1970.
    pub since_ms: Option<i64>,
}

/// `system.connections`: who is connected now; the columns named alike are those of the presence events.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "each is a column")]
pub struct ConnectionStatus {
    pub client_id: String,
    pub session_identifier: String,
    /// Of the `connected` event, and of the `disconnected` event to be.
    pub version_number: u64,
    pub principal: Option<String>,
    pub address: Option<String>,
    /// `3.1.1` or `5`.
    pub protocol: String,
    /// Where its last will goes if it is lost.
    pub will_topic: Option<String>,
    /// ms since 1970.
    pub since_ms: Option<i64>,
}

/// `system.destinations`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "each is a column")]
pub struct DestinationStatus {
    /// Its sink.
    pub name: String,
    pub connector: String,
    /// `IN_PROGRESS`, `ENABLED`, `DISABLED`, `ERROR`; none if it need not confirm.
    pub confirmation: Option<String>,
    /// `closed`, or `open` while it is left alone because it keeps failing.
    pub breaker: String,
    /// Rows that wait, those under way among them.
    pub waiting: u64,
    pub waiting_bytes: u64,
    /// Log time of the oldest row that waits, ms since 1970.
    pub oldest_ms: Option<i64>,
    /// Requests under way.
    pub in_flight: u64,
    /// Since the process started: rows confirmed, attempts that failed and were repeated, rows given up.
    pub delivered: u64,
    pub retried: u64,
    pub dead: u64,
    /// The last answer, as a number of its protocol.
    pub last_status: Option<u16>,
    /// Why nothing is sent, or the last failure since something was confirmed.
    pub last_error: Option<String>,
}

/// `system.queues`: lengths are those of now, counts are since the start.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "each is a column")]
pub struct QueueStatus {
    pub name: String,
    /// Messages that can be received.
    pub visible: u64,
    /// Received, and neither deleted nor visible again.
    pub in_flight: u64,
    /// Not visible yet.
    pub delayed: u64,
    pub bytes: u64,
    /// When the oldest came, ms since 1970.
    pub oldest_ms: Option<i64>,
    pub sent: u64,
    pub received: u64,
    pub deleted: u64,
    /// Received too often, and given up.
    pub dead: u64,
    /// Removed for their age.
    pub expired: u64,
    pub purged: u64,
}

/// `system.timers`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "each is a column")]
pub struct TimerStatus {
    pub rule: String,
    /// Keys that wait for their deadline.
    pub armed: u64,
    /// Keys noticed, until UNLESS is true again.
    pub fired: u64,
    /// Log time, ms since 1970.
    pub next_deadline_ms: Option<i64>,
    /// The values of PARTITION BY that are due next, as a JSON array.
    pub next_key: Option<String>,
    /// Timers that went off since the process started.
    pub notices: u64,
    /// Presence events passed over, since a newer one of their client was known.
    pub stale: u64,
}

/// `system.errors`: a sample; the counts are in `system.rules` and the metrics.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "each is a column")]
pub struct ErrorSample {
    /// Log time, ms since 1970.
    pub time_ms: i64,
    pub epoch: u64,
    pub offset: u64,
    pub rule: Option<String>,
    pub sink: Option<String>,
    pub topic: Option<String>,
    pub client_id: Option<String>,
    /// What, with the byte position in the payload where that is known.
    pub message: String,
    /// How many alike this one stands for.
    pub count: u64,
}

/// The views' names.
pub const VIEWS: &[&str] =
    &["connections", "destinations", "errors", "metrics", "queues", "rules", "sessions", "sinks", "tables", "timers"];

/// One view now.
pub(super) fn view(name: &str, system: &dyn SystemViews) -> Option<RecordBatch> {
    let batch = match name {
        "rules" => rules(&system.rules()),
        "sinks" => sinks(&system.sinks()),
        "tables" => tables(&system.tables()),
        "sessions" => sessions(&system.sessions()),
        "connections" => connections(&system.connections()),
        "destinations" => destinations(&system.destinations()),
        "queues" => queues(&system.queues()),
        "timers" => timers(&system.timers()),
        "errors" => errors(&system.errors()),
        "metrics" => metrics(&system.metrics()),
        _ => return None,
    };
    Some(batch)
}

fn rules(rows: &[RuleStatus]) -> RecordBatch {
    batch(vec![
        text("name", rows, |r| Some(&r.name)),
        flag("enabled", rows, |r| r.enabled),
        text("owner", rows, |r| Some(&r.owner)),
        text("dialect", rows, |r| Some(&r.dialect)),
        text("topic_filter", rows, |r| Some(&r.topic_filter)),
        count("matched", rows, |r| Some(r.matched)),
        count("passed", rows, |r| Some(r.passed)),
        count("delivered", rows, |r| Some(r.delivered)),
        count("failed", rows, |r| Some(r.failed)),
        text("last_error", rows, |r| r.last_error.as_deref()),
        text("undefined", rows, |r| Some(&r.undefined)),
        text("text", rows, |r| Some(&r.text)),
    ])
}

fn sinks(rows: &[SinkStatus]) -> RecordBatch {
    batch(vec![
        text("name", rows, |r| Some(&r.name)),
        text("kind", rows, |r| Some(&r.kind)),
        count("rows", rows, |r| Some(r.rows)),
        count("taken", rows, |r| Some(r.taken)),
        count("committed", rows, |r| Some(r.committed)),
        count("backlog_bytes", rows, |r| Some(r.backlog_bytes)),
        flag("healthy", rows, |r| r.healthy),
        text("last_error", rows, |r| r.last_error.as_deref()),
    ])
}

fn tables(rows: &[TableStatus]) -> RecordBatch {
    batch(vec![
        text("name", rows, |r| Some(&r.name)),
        text("hash_key", rows, |r| Some(&r.hash_key)),
        text("range_key", rows, |r| r.range_key.as_deref()),
        count("ttl_ms", rows, |r| r.ttl_ms),
        count("rows", rows, |r| Some(r.rows)),
        count("bytes", rows, |r| Some(r.bytes)),
    ])
}

fn sessions(rows: &[SessionStatus]) -> RecordBatch {
    batch(vec![
        text("client_id", rows, |r| Some(&r.client_id)),
        flag("connected", rows, |r| r.connected),
        text("principal", rows, |r| r.principal.as_deref()),
        text("address", rows, |r| r.address.as_deref()),
        text("protocol", rows, |r| Some(&r.protocol)),
        flag("persistent", rows, |r| r.persistent),
        count("subscriptions", rows, |r| Some(r.subscriptions)),
        count("queued", rows, |r| Some(r.queued)),
        time("since", rows, |r| r.since_ms),
    ])
}

fn connections(rows: &[ConnectionStatus]) -> RecordBatch {
    batch(vec![
        text("client_id", rows, |r| Some(&r.client_id)),
        text("session_identifier", rows, |r| Some(&r.session_identifier)),
        count("version_number", rows, |r| Some(r.version_number)),
        text("principal", rows, |r| r.principal.as_deref()),
        text("address", rows, |r| r.address.as_deref()),
        text("protocol", rows, |r| Some(&r.protocol)),
        text("will_topic", rows, |r| r.will_topic.as_deref()),
        time("since", rows, |r| r.since_ms),
    ])
}

fn destinations(rows: &[DestinationStatus]) -> RecordBatch {
    batch(vec![
        text("name", rows, |r| Some(&r.name)),
        text("connector", rows, |r| Some(&r.connector)),
        text("confirmation", rows, |r| r.confirmation.as_deref()),
        text("breaker", rows, |r| Some(&r.breaker)),
        count("waiting", rows, |r| Some(r.waiting)),
        count("waiting_bytes", rows, |r| Some(r.waiting_bytes)),
        time("oldest", rows, |r| r.oldest_ms),
        count("in_flight", rows, |r| Some(r.in_flight)),
        count("delivered", rows, |r| Some(r.delivered)),
        count("retried", rows, |r| Some(r.retried)),
        count("dead", rows, |r| Some(r.dead)),
        count("last_status", rows, |r| r.last_status.map(u64::from)),
        text("last_error", rows, |r| r.last_error.as_deref()),
    ])
}

fn queues(rows: &[QueueStatus]) -> RecordBatch {
    batch(vec![
        text("name", rows, |r| Some(&r.name)),
        count("visible", rows, |r| Some(r.visible)),
        count("in_flight", rows, |r| Some(r.in_flight)),
        count("delayed", rows, |r| Some(r.delayed)),
        count("bytes", rows, |r| Some(r.bytes)),
        time("oldest", rows, |r| r.oldest_ms),
        count("sent", rows, |r| Some(r.sent)),
        count("received", rows, |r| Some(r.received)),
        count("deleted", rows, |r| Some(r.deleted)),
        count("dead", rows, |r| Some(r.dead)),
        count("expired", rows, |r| Some(r.expired)),
        count("purged", rows, |r| Some(r.purged)),
    ])
}

fn timers(rows: &[TimerStatus]) -> RecordBatch {
    batch(vec![
        text("rule", rows, |r| Some(&r.rule)),
        count("armed", rows, |r| Some(r.armed)),
        count("fired", rows, |r| Some(r.fired)),
        time("next_deadline", rows, |r| r.next_deadline_ms),
        text("next_key", rows, |r| r.next_key.as_deref()),
        count("notices", rows, |r| Some(r.notices)),
        count("stale", rows, |r| Some(r.stale)),
    ])
}

fn errors(rows: &[ErrorSample]) -> RecordBatch {
    batch(vec![
        time("time", rows, |r| Some(r.time_ms)),
        count("epoch", rows, |r| Some(r.epoch)),
        count("offset", rows, |r| Some(r.offset)),
        text("rule", rows, |r| r.rule.as_deref()),
        text("sink", rows, |r| r.sink.as_deref()),
        text("topic", rows, |r| r.topic.as_deref()),
        text("client_id", rows, |r| r.client_id.as_deref()),
        text("message", rows, |r| Some(&r.message)),
        count("count", rows, |r| Some(r.count)),
    ])
}

fn metrics(rows: &[Sample]) -> RecordBatch {
    let values = rows.iter().map(|r| Some(r.value));
    batch(vec![
        text("name", rows, |r| Some(&r.name)),
        text("labels", rows, |r| Some(&r.labels)),
        (Field::new("value", DataType::Float64, false), Arc::new(values.collect::<Float64Array>())),
        text("help", rows, |r| Some(&r.help)),
    ])
}

type NamedColumn = (Field, ArrayRef);

fn batch(columns: Vec<NamedColumn>) -> RecordBatch {
    let (fields, arrays): (Vec<Field>, Vec<ArrayRef>) = columns.into_iter().unzip();
    let schema: SchemaRef = Arc::new(Schema::new(fields));
    // Every column is built from the same rows, so lengths agree; an empty view is the only other answer there is.
    RecordBatch::try_new(Arc::clone(&schema), arrays).unwrap_or_else(|_| RecordBatch::new_empty(schema))
}

fn text<T>(name: &str, rows: &[T], value: impl Fn(&T) -> Option<&str>) -> NamedColumn {
    let array: StringArray = rows.iter().map(value).collect();
    (Field::new(name, DataType::Utf8, true), Arc::new(array))
}

fn flag<T>(name: &str, rows: &[T], value: impl Fn(&T) -> bool) -> NamedColumn {
    let array: BooleanArray = rows.iter().map(|row| Some(value(row))).collect();
    (Field::new(name, DataType::Boolean, true), Arc::new(array))
}

fn count<T>(name: &str, rows: &[T], value: impl Fn(&T) -> Option<u64>) -> NamedColumn {
    let array: Int64Array = rows.iter().map(|row| value(row).map(|n| i64::try_from(n).unwrap_or(i64::MAX))).collect();
    (Field::new(name, DataType::Int64, true), Arc::new(array))
}

fn time<T>(name: &str, rows: &[T], value: impl Fn(&T) -> Option<i64>) -> NamedColumn {
    let array: TimestampMillisecondArray = rows.iter().map(value).collect();
    let ty = DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
    (Field::new(name, ty, true), Arc::new(array.with_timezone("UTC")))
}
