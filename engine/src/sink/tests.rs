//! One conformance suite for all sinks: what the engine relies on, whatever is behind the trait.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hedgerow_sql::ast::Dialect;
use hedgerow_sql::message::Message;
use hedgerow_sql::outside::{Escape, Parameter};
use hedgerow_sql::parse::parse_template;
use hedgerow_sql::program::Program;
use hedgerow_sql::rule::Statement;
use hedgerow_storage::clock::SystemClock;
use hedgerow_storage::disk::SystemDisk;
use hedgerow_storage::lake::{Lake, LakeConfig};
use hedgerow_storage::log::{Epoch, Log, LogConfig, RecordKind};
use hedgerow_storage::outbox::{DeadLimits, Outbox, Overflow, Queue, QueueLimits, Waiting};
use hedgerow_storage::queue::{Handed, Limit, MessageQueue, QueueSettings, Queues};
use hedgerow_storage::table::{KeyBounds, Store, StoreConfig, TableSpec, Tables, TablesConfig};

use super::derived::DerivedSink;
use super::lake::LakeSink;
use super::outbox::{Drain, Intake, OutboxConfig, OutboxSink, Outgoing};
use super::table::TableSink;
use super::{Delivery, Outcome, Sink};
use crate::errors::Errors;
use crate::metrics::{EngineMetrics, RuleStats};
use crate::rows::{ActiveRule, Destination, Lane, Origins, RowBatch};

const RULES: &str = "
    CREATE TABLE place (id VARCHAR, PRIMARY KEY (id));
    CREATE RULE into_table AS SELECT id, n FROM 'a/+' INTO place;
    CREATE SINK hook WITH (connector = 'webhook', url = 'https://example.com/');
    CREATE RULE into_hook AS SELECT id, n FROM 'a/+' INTO hook;
    CREATE RULE into_topic AS SELECT id, n FROM 'a/+' INTO TOPIC 'b/${id}' QOS 1;";

/// A sink that can be opened again on what it left behind, and counted.
trait Subject {
    fn rule(&self) -> &'static str;
    fn open(&self) -> Box<dyn Sink>;
    /// How often each id is at the destination, ascending by id; the sink is closed.
    fn ids(&self) -> Vec<String>;
}

fn active(name: &str) -> Arc<ActiveRule> {
    let statements = hedgerow_sql::parse::parse_file(RULES).unwrap();
    let mut table = None;
    for statement in statements {
        match statement {
            Statement::Table(definition) => table = Some(Arc::new(definition)),
            Statement::Rule(rule) if &*rule.name == name => {
                let destination = match (name, table) {
                    ("into_table", Some(table)) => Destination::Table(table),
                    ("into_hook", _) => Destination::Sink("hook".into()),
                    _ => Destination::Derived,
                };
                let stats = Arc::new(RuleStats::default());
                return Arc::new(ActiveRule::new(Arc::new(rule), vec![destination], stats));
            }
            _ => {}
        }
    }
    panic!("no rule {name}")
}

/// One message an epoch, `from` to `to`, as one delivery.
fn delivery(rule: &Arc<ActiveRule>, from: u64, to: u64) -> Delivery {
    let payloads: Vec<String> = (from..=to).map(|n| format!("{{\"id\": \"{n:03}\", \"n\": {n}}}")).collect();
    let messages: Vec<Message<'_>> =
        payloads.iter().map(|payload| Message::new("a/x", payload.as_bytes(), 1_000)).collect();
    let mut origins = Origins::default();
    for epoch in from..=to {
        origins.epoch.push(epoch);
        origins.offset.push(epoch);
        origins.time_ms.push(1_000);
        origins.topic.push("a/x");
        origins.client_id.push("device");
        origins.hops.push(0);
    }
    let origins = Arc::new(origins);
    let mut results = Vec::new();
    Program::new(&[Arc::clone(&rule.rule)]).evaluate(&messages, &mut results);
    let batches = results.into_iter().map(|result| RowBatch {
        rule: Arc::clone(rule),
        action: 0,
        rows: Arc::new(result.rows),
        origins: Arc::clone(&origins),
    });
    Delivery { up_to: Epoch(to), batches: batches.collect() }
}

/// Hands a delivery in until it is accepted.
fn accept(sink: &mut dyn Sink, delivery: &Delivery) {
    for _ in 0..2_000 {
        if sink.deliver(delivery) == Outcome::Accepted {
            return;
        }
        std::thread::park_timeout(Duration::from_millis(5));
    }
    panic!("the sink has no room for ever");
}

/// Asks for durability until the taken mark is there.
fn taken(sink: &mut dyn Sink, epoch: u64) {
    for _ in 0..2_000 {
        if sink.marks().taken >= Epoch(epoch) {
            return;
        }
        sink.seal(Epoch(epoch));
        std::thread::park_timeout(Duration::from_millis(5));
    }
    panic!("taken stays at {:?}, not {epoch}: {:?}", sink.marks(), sink.health());
}

fn conforms(subject: &dyn Subject) {
    let rule = active(subject.rule());
    let mut sink = subject.open();
    accept(&mut *sink, &delivery(&rule, 1, 10));
    taken(&mut *sink, 10);
    assert!(sink.marks().taken <= Epoch(10), "a mark is never ahead of the rows");
    // A step without rows moves the mark as well.
    accept(&mut *sink, &Delivery { up_to: Epoch(15), batches: Vec::new() });
    taken(&mut *sink, 15);
    accept(&mut *sink, &delivery(&rule, 16, 20));
    sink.close(Duration::from_secs(10));
    drop(sink);
    let expected: Vec<String> = (1..=10).chain(16..=20).map(|n| format!("{n:03}")).collect();
    assert_eq!(subject.ids(), expected);

    // After a restart the dataflow replays from an older checkpoint, with its steps cut elsewhere.
    let mut sink = subject.open();
    accept(&mut *sink, &delivery(&rule, 5, 10));
    accept(&mut *sink, &delivery(&rule, 16, 25));
    taken(&mut *sink, 25);
    sink.close(Duration::from_secs(10));
    drop(sink);
    let expected: Vec<String> = (1..=10).chain(16..=25).map(|n| format!("{n:03}")).collect();
    assert_eq!(subject.ids(), expected);
}

struct TableSubject(tempfile::TempDir);

impl TableSubject {
    fn tables(&self) -> Tables {
        let tables = Tables::open(self.0.path(), TablesConfig::default()).unwrap();
        let (hash, definition) = ("id".to_owned(), String::new());
        let spec = TableSpec { name: "place".into(), hash, range: None, ttl_ms: None, definition };
        tables.create(&spec, 1).unwrap();
        tables
    }
}

impl Subject for TableSubject {
    fn rule(&self) -> &'static str {
        "into_table"
    }

    fn open(&self) -> Box<dyn Sink> {
        let errors = Arc::new(Errors::new(10));
        let interval = Duration::from_millis(10);
        let [straight, mut called] =
            TableSink::open(self.tables(), Epoch(0), interval, errors, Arc::default()).unwrap();
        called.close(interval);
        Box::new(straight)
    }

    fn ids(&self) -> Vec<String> {
        let scan = self.tables().scan("place", None, &KeyBounds::All, 0).unwrap();
        let text = |row: Vec<u8>| String::from_utf8(row).unwrap();
        let rows = scan.map(|row| text(row.unwrap().value().to_vec()));
        rows.map(|row| row.split('"').nth(3).unwrap_or_default().to_owned()).collect()
    }
}

#[test]
fn tables_conform() {
    conforms(&TableSubject(tempfile::tempdir().unwrap()));
}

struct DerivedSubject(tempfile::TempDir);

impl DerivedSubject {
    fn log(&self) -> Arc<Log> {
        let config = LogConfig { min_free_bytes: 0, ..LogConfig::new(self.0.path()) };
        Arc::new(Log::open(config, Arc::new(SystemDisk), Arc::new(SystemClock::new()), Epoch(0)).unwrap().0)
    }
}

impl Subject for DerivedSubject {
    fn rule(&self) -> &'static str {
        "into_topic"
    }

    fn open(&self) -> Box<dyn Sink> {
        let log = self.log();
        let [mark, _] = crate::engine::newest_marks(&log, Epoch(0)).unwrap();
        let (errors, metrics) = (Arc::new(Errors::new(10)), Arc::new(EngineMetrics::default()));
        Box::new(DerivedSink::new(Lane::Straight, log, mark, 8, errors, metrics))
    }

    fn ids(&self) -> Vec<String> {
        let log = self.log();
        let mut reader = log.reader(Epoch(0)).unwrap();
        let mut ids = Vec::new();
        while reader.position() < log.last_epoch() {
            let Some(commit) = reader.next(Duration::from_secs(5)).unwrap() else { break };
            for record in commit.records().filter(|record| record.kind == RecordKind::Message) {
                assert!(record.origin.ends_with("-into_topic-0"), "{}", record.origin);
                ids.push(record.topic.trim_start_matches("b/").to_owned());
            }
        }
        ids
    }
}

#[test]
fn derived_records_conform() {
    conforms(&DerivedSubject(tempfile::tempdir().unwrap()));
}

#[test]
#[should_panic(expected = "left == right")]
fn derived_records_double_without_their_mark() {
    hedgerow_storage::fault::with_bug("skip_without_mark", || {
        conforms(&DerivedSubject(tempfile::tempdir().unwrap()));
    });
}

struct LakeSubject {
    folder: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
}

impl LakeSubject {
    fn lake(&self) -> Arc<Lake> {
        let at = |name: &str| -> String { Path::new(self.folder.path()).join(name).to_string_lossy().into_owned() };
        let config = LakeConfig::new("place", at("lake"), at("spool"));
        Arc::new(Lake::open(config, self.runtime.handle().clone()).unwrap())
    }
}

impl Subject for LakeSubject {
    fn rule(&self) -> &'static str {
        "into_table"
    }

    fn open(&self) -> Box<dyn Sink> {
        Box::new(LakeSink::new(self.lake()))
    }

    fn ids(&self) -> Vec<String> {
        use datafusion::prelude::SessionContext;
        let lake = self.lake();
        lake.wait_reached(Duration::from_secs(10));
        let ids = self.runtime.block_on(async {
            let context = SessionContext::new();
            context.register_table("place", lake.table_provider().unwrap()).unwrap();
            context.sql("SELECT id FROM place ORDER BY id").await.unwrap().collect().await.unwrap()
        });
        lake.close();
        let text = |batch: &arrow::array::RecordBatch| -> Vec<String> {
            let column = arrow::compute::cast(batch.column(0), &arrow::datatypes::DataType::Utf8).unwrap();
            let column = column.as_any().downcast_ref::<arrow::array::StringArray>().unwrap().clone();
            column.iter().flatten().map(str::to_owned).collect()
        };
        ids.iter().flat_map(text).collect()
    }
}

#[test]
fn the_lake_conforms() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    conforms(&LakeSubject { folder: tempfile::tempdir().unwrap(), runtime });
}

/// The outbox is the destination here: nobody drains it.
struct OutboxSubject(tempfile::TempDir);

struct NoDrain;

impl Drain for NoDrain {
    fn wake(&self) {}
    fn problem(&self) -> Option<String> {
        None
    }
    fn stop(&self, _: Duration) {}
}

impl OutboxSubject {
    fn queue(&self) -> Queue {
        let store = Store::open(self.0.path(), StoreConfig::default()).unwrap();
        Outbox::open(&store, DeadLimits::default()).unwrap().queue("hook")
    }

    fn sink(&self, limits: QueueLimits) -> OutboxSink {
        sink_of(Outgoing { queue: self.queue(), limits })
    }
}

fn sink_of(intake: impl Intake + 'static) -> OutboxSink {
    let parameter = Parameter::new("url", &parse_template("/x/${id}", Dialect::Native).unwrap(), Escape::Url);
    let config = OutboxConfig {
        intake: Arc::new(intake),
        parameters: vec![parameter],
        protocols: &[],
        sync_interval: Duration::from_millis(10),
        now_ms: Arc::new(|| 1_000),
    };
    OutboxSink::open(config, Arc::new(NoDrain)).unwrap()
}

impl Subject for OutboxSubject {
    fn rule(&self) -> &'static str {
        "into_hook"
    }

    fn open(&self) -> Box<dyn Sink> {
        Box::new(self.sink(QueueLimits { max_bytes: 1 << 20, overflow: Overflow::Block }))
    }

    fn ids(&self) -> Vec<String> {
        let waiting = self.queue().read(None, 1_000, 1 << 20).unwrap();
        let id = |waiting: &Waiting| {
            let epoch = waiting.entry.position.epoch;
            assert_eq!(waiting.entry.id, format!("{epoch}-{epoch}-into_hook-0"));
            waiting.entry.parameter("url").unwrap().trim_start_matches("/x/").to_owned()
        };
        waiting.iter().map(id).collect()
    }
}

#[test]
fn the_outbox_conforms() {
    conforms(&OutboxSubject(tempfile::tempdir().unwrap()));
}

/// A message queue, from which nobody takes anything.
struct QueueSubject(tempfile::TempDir);

impl QueueSubject {
    fn queue(&self) -> MessageQueue {
        let store = Store::open(self.0.path(), StoreConfig::default()).unwrap();
        let outbox = Outbox::open(&store, DeadLimits::default()).unwrap();
        let queue = Queues::open(&outbox).unwrap().queue("jobs");
        queue.set(Some(QueueSettings {
            delay_ms: 0,
            visibility_ms: 1_000,
            max_receives: None,
            dead_letter_queue: None,
            retention_ms: 1_000_000,
            max_in_flight: 10_000,
            limits: QueueLimits { max_bytes: 1 << 20, overflow: Overflow::Block },
        }));
        queue
    }
}

impl Subject for QueueSubject {
    fn rule(&self) -> &'static str {
        "into_hook"
    }

    fn open(&self) -> Box<dyn Sink> {
        Box::new(sink_of(self.queue()))
    }

    fn ids(&self) -> Vec<String> {
        let limit = Limit { messages: 1_000, bytes: 1 << 20 };
        let handed = self.queue().receive(limit, Some(0), 900_000, &mut || [0; 16]).unwrap();
        let parameter = |handed: &Handed| handed.entry.parameter("url").unwrap().trim_start_matches("/x/").to_owned();
        let mut ids: Vec<String> = handed.iter().map(parameter).collect();
        // What was handed out before is visible later than the rest.
        ids.sort();
        ids
    }
}

#[test]
fn a_message_queue_conforms() {
    conforms(&QueueSubject(tempfile::tempdir().unwrap()));
}

#[test]
fn an_entry_that_waits_holds_the_committed_mark_and_not_the_taken_one() {
    let subject = OutboxSubject(tempfile::tempdir().unwrap());
    let rule = active("into_hook");
    let (queue, limits) = (subject.queue(), QueueLimits { max_bytes: 1 << 20, overflow: Overflow::Block });
    let mut sink = sink_of(Outgoing { queue: queue.clone(), limits });
    accept(&mut sink, &delivery(&rule, 5, 7));
    taken(&mut sink, 7);
    assert_eq!(sink.marks().committed, Epoch(4));
    let waiting = queue.read(None, 10, 1 << 20).unwrap();
    queue.confirm(&[waiting[0].key.clone(), waiting[2].key.clone()]).unwrap();
    assert_eq!(sink.marks().committed, Epoch(5), "6 still waits");
    queue.confirm(&[waiting[1].key.clone()]).unwrap();
    assert_eq!(sink.marks().committed, Epoch(7));
    sink.close(Duration::from_secs(1));
}

/// What a full queue does not take is not lost by closing: it is above the mark.
#[test]
fn a_full_queue_holds_up_and_closes_without_moving_the_mark() {
    let subject = OutboxSubject(tempfile::tempdir().unwrap());
    let rule = active("into_hook");
    let mut sink = subject.sink(QueueLimits { max_bytes: 1, overflow: Overflow::Block });
    accept(&mut sink, &delivery(&rule, 1, 2));
    taken(&mut sink, 2);
    accept(&mut sink, &delivery(&rule, 3, 4));
    accept(&mut sink, &Delivery { up_to: Epoch(9), batches: Vec::new() });
    assert_eq!(sink.marks().taken, Epoch(2));
    sink.close(Duration::from_secs(1));
    drop(sink);
    let queue = subject.queue();
    assert_eq!((queue.len(), queue.mark()), (2, Some(2)));
}
