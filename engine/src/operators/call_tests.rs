//! Answers come late, in any order, or never: what waits is held, and nothing else.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use hedgerow_sql::rule::{SinkDef, Statement};
use hedgerow_sql::value::Value;
use hedgerow_storage::log::{Offset, RecordFields};
use hedgerow_storage::outbox::{DeadLimits, Outbox, Place};
use hedgerow_storage::table::{Key, Store, StoreConfig, TableSpec, Tables, TablesConfig, Write};

use super::*;
use crate::lookup::Applied;
use crate::metrics::RuleStats;
use crate::rows::{Destination, Lane};
use crate::sink::Sink;
use crate::sink::registry::OpenSink;

/// Keeps what it is asked until the test answers.
#[derive(Default)]
struct Later(Mutex<Vec<(Request, Reply)>>);

impl Caller for Later {
    fn ask(&self, rule: &Arc<str>, request: &Request, reply: Reply) {
        assert_eq!(&**rule, "r");
        self.0.lock().unwrap().push((request.clone(), reply));
    }
}

impl Later {
    /// Answers the oldest request that asks for `n`.
    fn answer(&self, n: i128, answer: Answer) {
        let mut asked = self.0.lock().unwrap();
        let place = asked.iter().position(|(request, _)| request.args[1] == Value::Int(n)).unwrap();
        asked.remove(place).1.send(answer);
    }
}

struct NoSinks;

impl OpenSink for NoSinks {
    fn open(&self, _: &SinkDef) -> Result<Box<dyn Sink>, String> {
        Err("there are none".into())
    }

    fn closed(&self, _: &str) {}
}

struct Setting {
    calls: Calls,
    caller: Arc<Later>,
    applied: Arc<Applied>,
    woken: Arc<AtomicUsize>,
    in_flight: Arc<InFlight>,
    errors: Arc<Errors>,
    tables: Tables,
    rule: Arc<ActiveRule>,
    _folder: tempfile::TempDir,
}

fn setting(select: &str) -> Setting {
    let text = format!("CREATE RULE r AS SELECT {select} FROM 'a/+' INTO TOPIC 'b' ON ERROR INTO TOPIC 'e'");
    let Some(Statement::Rule(rule)) = hedgerow_sql::parse::parse_file(&text).unwrap().pop() else { panic!("no rule") };
    let rule = ActiveRule::new(Arc::new(rule), vec![Destination::Derived], Arc::new(RuleStats::default()));
    let folder = tempfile::tempdir().unwrap();
    let tables = Tables::open(folder.path(), TablesConfig::default()).unwrap();
    let woken = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&woken);
    let wake: Arc<dyn Fn() + Send + Sync> = Arc::new(move || {
        count.fetch_add(1, Ordering::SeqCst);
    });
    let (caller, applied) = (Arc::new(Later::default()), Arc::new(Applied::default()));
    let (in_flight, errors) = (Arc::new(InFlight::default()), Arc::new(Errors::new(10)));
    let calls = Calls::new(Means {
        caller: Arc::clone(&caller) as Arc<dyn Caller>,
        lookups: Lookups::new(tables.clone(), Arc::clone(&applied), Arc::clone(&wake)),
        errors: Arc::clone(&errors),
        metrics: Arc::new(EngineMetrics::default()),
        in_flight: Arc::clone(&in_flight),
        registry: Arc::new(Registry::new(Box::new(NoSinks), [])),
        failed_calls: None,
        replayed: Epoch(0),
        wake,
    });
    Setting { calls, caller, applied, woken, in_flight, errors, tables, rule: Arc::new(rule), _folder: folder }
}

impl Setting {
    /// A message `{"n": n}` of the step at `time`.
    fn take(&mut self, time: u64, n: u64) {
        let payload = format!("{{\"n\":{n}}}");
        let fields = RecordFields { topic: "a/x", payload: payload.as_bytes(), ..RecordFields::default() };
        let record = Record { offset: Offset(n), fields };
        let message = KeptMessage::new(n, &record);
        let calling = self.rule.calling.as_ref().unwrap();
        let request = calling.evaluate(&[message.message()], &[]).requests.remove(0).1;
        let ask = Ask { rule: Arc::clone(&self.rule), message, request: Some(request) };
        self.calls.take(time, ask, &mut Vec::new());
    }

    /// Time and text of the rows that are there now.
    fn rows(&mut self) -> Vec<(u64, String)> {
        let mut out = Vec::new();
        self.calls.advance(&mut out);
        let texts = out.iter().flat_map(|(time, batch)| {
            assert_eq!(batch.lane(), Lane::Called);
            (0..batch.rows.len()).map(move |row| (*time, String::from_utf8(batch.rows.json(row).into_owned()).unwrap()))
        });
        texts.collect()
    }
}

#[test]
fn what_waits_is_held_and_nothing_else() {
    let mut setting = setting("n, aws_lambda('f', n) AS r");
    for (time, n) in [(10, 11), (10, 12), (20, 21), (20, 22)] {
        setting.take(time, n);
    }
    assert!(setting.rows().is_empty());
    assert_eq!(setting.calls.oldest(), Some(10));
    assert!(setting.in_flight.bytes() > 0, "the source knows what waits");
    setting.caller.answer(12, Ok(Value::Int(1)));
    setting.caller.answer(21, Ok(Value::Int(2)));
    assert_eq!(setting.woken.load(Ordering::SeqCst), 2);
    assert_eq!(setting.rows(), [(10, r#"{"n":12,"r":1}"#.to_owned()), (20, r#"{"n":21,"r":2}"#.to_owned())]);
    assert_eq!(setting.calls.oldest(), Some(10), "the first message of that step still waits");
    setting.caller.answer(11, Err("no answer".into()));
    assert!(setting.rows().is_empty());
    assert_eq!(setting.calls.oldest(), Some(20));
    assert_eq!(setting.errors.samples()[0].reason, "aws_lambda() failed: no answer");
    setting.caller.0.lock().unwrap().clear();
    assert!(setting.rows().is_empty());
    assert_eq!(setting.errors.samples()[1].reason, "aws_lambda() failed: the call was lost");
    assert_eq!((setting.calls.oldest(), setting.in_flight.bytes()), (None, 0));
}

#[test]
fn a_failed_call_holds_its_message_until_it_is_kept_and_is_not_made_again() {
    let mut setting = setting("n, aws_lambda('f', n) AS r");
    let store = Store::open(&setting._folder.path().join("outbox"), StoreConfig::default()).unwrap();
    let outbox = Outbox::open(&store, DeadLimits::default()).unwrap();
    setting.calls.failed_calls = Some(FailedCalls::spawn(outbox.clone(), || 7).unwrap());
    setting.take(10, 11);
    setting.take(20, 21);
    setting.caller.answer(11, Err("no answer".into()));
    assert!(setting.rows().is_empty());
    // Nobody but this thread lets go of it.
    assert_eq!(setting.calls.oldest(), Some(10));
    for _ in 0..6_000 {
        if setting.woken.load(Ordering::SeqCst) == 2 {
            break;
        }
        std::thread::park_timeout(std::time::Duration::from_millis(10));
    }
    assert!(setting.rows().is_empty());
    assert_eq!(setting.calls.oldest(), Some(20));
    let told = outbox.failures().read(&mut Place::default(), 9).unwrap().remove(0);
    let failure = &told.failures[0];
    assert_eq!((failure.function.as_deref(), &*failure.resource), (Some("aws_lambda"), "f"));
    assert_eq!(
        (failure.reason.as_str(), told.original.as_slice()),
        ("aws_lambda() failed: no answer", &br#"{"n":11}"#[..])
    );
    setting.calls.replayed = Epoch(30);
    setting.take(10, 11);
    assert_eq!(setting.caller.0.lock().unwrap().len(), 1, "only the other one is under way");
    setting.take(10, 12);
    assert_eq!(setting.caller.0.lock().unwrap().len(), 2);
}

#[test]
fn a_second_call_follows_the_first_answer() {
    let mut setting = setting("aws_lambda('f', aws_lambda('f', n)) AS r");
    setting.take(10, 11);
    setting.caller.answer(11, Ok(Value::Int(12)));
    assert!(setting.rows().is_empty());
    assert_eq!(setting.calls.oldest(), Some(10));
    setting.caller.answer(12, Ok(Value::Int(13)));
    assert_eq!(setting.rows(), [(10, r#"{"r":13}"#.to_owned())]);
}

#[test]
fn a_lookup_waits_until_the_tables_have_come_to_its_epoch() {
    let mut setting = setting("get_dynamodb('place', 'id', topic(2), 'role').v AS r");
    let spec =
        TableSpec { name: "place".into(), hash: "id".into(), range: None, ttl_ms: None, definition: String::new() };
    setting.tables.create(&spec, 1).unwrap();
    setting.tables.keep_history("place");
    setting.take(10, 15);
    let write = |text: &'static str, epoch| Write {
        table: "place",
        hash: Key::text("x"),
        range: None,
        value: Some(text.as_bytes()),
        time_ms: 0,
        epoch,
    };
    setting.applied.advance(Lane::Straight, 13);
    assert!(setting.rows().is_empty());
    assert_eq!(setting.calls.oldest(), Some(10));
    // The whole step is applied at once; the message sees what came before its own commit.
    setting.tables.apply("s", 20, [write(r#"{"v":1}"#, 14), write(r#"{"v":2}"#, 15)]).unwrap();
    setting.applied.advance(Lane::Straight, 20);
    assert_eq!(setting.woken.load(Ordering::SeqCst), 1);
    assert_eq!(setting.rows(), [(10, r#"{"r":1}"#.to_owned())]);
    assert_eq!(setting.calls.oldest(), None);
}

#[test]
fn a_row_of_a_deadline_stands_there_and_sees_the_tables_as_of_it() {
    let mut setting = setting("n, get_dynamodb('place', 'id', topic(2), 'role').v AS r, timestamp() AS t");
    let spec =
        TableSpec { name: "place".into(), hash: "id".into(), range: None, ttl_ms: None, definition: String::new() };
    setting.tables.create(&spec, 1).unwrap();
    setting.tables.keep_history("place");
    let record = Record {
        offset: Offset(7),
        fields: RecordFields { topic: "a/x", payload: b"{\"n\":1}", time_ms: 5, ..RecordFields::default() },
    };
    let message = KeptMessage { deadline: Some(5_000), ..KeptMessage::new(10, &record) };
    let ask = Ask { rule: Arc::clone(&setting.rule), message, request: None };
    // The operator of timers emits it with the time of the step before.
    let mut out = Vec::new();
    setting.calls.take(20, ask, &mut out);
    assert!(out.is_empty());
    assert_eq!(setting.calls.oldest(), Some(20));
    let write = |text: &'static str, epoch| Write {
        table: "place",
        hash: Key::text("x"),
        range: None,
        value: Some(text.as_bytes()),
        time_ms: 0,
        epoch,
    };
    setting.tables.apply("s", 6_000, [write(r#"{"v":1}"#, 4_999), write(r#"{"v":2}"#, 5_000)]).unwrap();
    setting.applied.advance(Lane::Straight, 4_998);
    setting.calls.advance(&mut out);
    assert!(out.is_empty(), "what comes at 4999 may still change the row");
    setting.applied.advance(Lane::Straight, 6_000);
    setting.calls.advance(&mut out);
    let [(20, batch)] = out.as_slice() else { panic!("{} batches", out.len()) };
    assert_eq!(&*batch.rows.json(0), br#"{"n":1,"r":1,"t":5}"#);
    assert!(batch.origins.timer && batch.origins.position(0) == (5_000, 7) && batch.origins.time_ms(0) == 5);
    assert_eq!(batch.row_id(0), "5000-7-r-0");
    assert_eq!((setting.calls.oldest(), setting.in_flight.bytes()), (None, 0));
}
