//! Queries over a real store, a real log and a real lake.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, Decimal128Array, StringArray};
use arrow::json::ArrayWriter;
use hedgerow_sql::rule::{ColumnDef, ColumnType, TableDef};
use hedgerow_storage::clock::SystemClock;
use hedgerow_storage::disk::SystemDisk;
use hedgerow_storage::lake::{Lake, LakeColumn, LakeConfig, LakeRows};
use hedgerow_storage::log::{Batch, Class, Epoch, Log, LogConfig, RecordFields, RecordKind};
use hedgerow_storage::table::{Key, TableSpec, Tables, TablesConfig, Write};
use serde_json::{Value, json};

use super::system::{
    ConnectionStatus, DestinationStatus, ErrorSample, QueueStatus, RuleStatus, SessionStatus, SinkStatus, SystemViews,
    TableStatus, TimerStatus,
};
use super::{
    IngestLog, KeyValueTables, LakeCatalog, Lakes, NoRow, QueryEngine, QueryError, Relations, Sources, TableCatalog,
};
use crate::config::{Config, Environment};
use crate::metrics::Sample;

struct NoSystem;

impl SystemViews for NoSystem {
    fn rules(&self) -> Vec<RuleStatus> {
        Vec::new()
    }
    fn sinks(&self) -> Vec<SinkStatus> {
        Vec::new()
    }
    fn tables(&self) -> Vec<TableStatus> {
        Vec::new()
    }
    fn connections(&self) -> Vec<ConnectionStatus> {
        Vec::new()
    }
    fn sessions(&self) -> Vec<SessionStatus> {
        Vec::new()
    }
    fn destinations(&self) -> Vec<DestinationStatus> {
        Vec::new()
    }
    fn queues(&self) -> Vec<QueueStatus> {
        Vec::new()
    }
    fn timers(&self) -> Vec<TimerStatus> {
        Vec::new()
    }
    fn errors(&self) -> Vec<ErrorSample> {
        Vec::new()
    }
    fn metrics(&self) -> Vec<Sample> {
        Vec::new()
    }
}

fn engine(relations: Vec<Arc<dyn Relations>>) -> QueryEngine {
    let environment: Environment = BTreeMap::from([("HEDGEROW_QUERY_THREADS".to_owned(), "2".to_owned())]);
    let config = Config::read(None, &environment).unwrap();
    QueryEngine::new(&config, Sources { relations, system: Arc::new(NoSystem) }).unwrap()
}

/// All rows as JSON objects.
async fn rows(engine: &QueryEngine, sql: &str) -> Result<Vec<Value>, QueryError> {
    let mut result = engine.run(sql).await?;
    let mut all = Vec::new();
    while let Some(batch) = result.next().await {
        let mut writer = ArrayWriter::new(Vec::new());
        writer.write(&batch?).unwrap();
        writer.finish().unwrap();
        let parsed: Vec<Value> = serde_json::from_slice(&writer.into_inner()).unwrap();
        all.extend(parsed);
    }
    Ok(all)
}

async fn plan(engine: &QueryEngine, sql: &str) -> String {
    let lines = rows(engine, &format!("EXPLAIN {sql}")).await.unwrap();
    lines.iter().map(|line| line["plan"].as_str().unwrap()).collect::<Vec<_>>().join("\n")
}

struct Farm {
    tables: KeyValueTables,
    store: Tables,
    _folder: tempfile::TempDir,
}

struct Definitions(Vec<Arc<TableDef>>);

impl TableCatalog for Definitions {
    fn definitions(&self) -> Vec<Arc<TableDef>> {
        self.0.clone()
    }
    fn now_ms(&self) -> i64 {
        1_000_000
    }
}

fn definition(name: &str, columns: &[(&str, ColumnType)], range: Option<&str>) -> Arc<TableDef> {
    let columns = columns.iter().map(|(name, ty)| ColumnDef { name: (*name).into(), ty: *ty }).collect::<Vec<_>>();
    let hash = Arc::clone(&columns[0].name);
    Arc::new(TableDef { name: name.into(), columns, hash, range: range.map(Into::into), ttl_ms: None, text: "".into() })
}

/// `readings(deviceId, ts, temp, ok, price, at, more)` with two devices of five readings, and `flags(on)`.
fn farm() -> Farm {
    let folder = tempfile::tempdir().unwrap();
    let store = Tables::open(folder.path(), TablesConfig::default()).unwrap();
    let readings = definition(
        "readings",
        &[
            ("deviceId", ColumnType::Varchar),
            ("ts", ColumnType::BigInt),
            ("temp", ColumnType::Double),
            ("ok", ColumnType::Boolean),
            ("price", ColumnType::Decimal { precision: 6, scale: 2 }),
            ("at", ColumnType::Timestamp),
            ("more", ColumnType::Json),
        ],
        Some("ts"),
    );
    let flags = definition("flags", &[("on", ColumnType::Boolean)], None);
    let later = definition("later", &[("id", ColumnType::Varchar)], None);
    for (name, hash, range) in [("readings", "deviceId", Some("ts")), ("flags", "on", None)] {
        let spec = TableSpec {
            name: name.into(),
            hash: hash.into(),
            range: range.map(Into::into),
            ttl_ms: (name == "flags").then_some(1_000),
            definition: String::new(),
        };
        store.create(&spec, 1).unwrap();
    }
    let catalog = Arc::new(Definitions(vec![readings, flags, later]));
    let farm = Farm { tables: KeyValueTables::new(store.clone(), catalog), store, _folder: folder };
    for device in ["a", "b/ü"] {
        for ts in 0..5_i64 {
            let at = ts * 1000;
            let text = format!(
                r#"{{"deviceId":"{device}","ts":{ts},"temp":{ts}.5,"ok":true,"price":1.{ts},"at":{at},"more":{{"n":[{ts}]}},"extra":"x{ts}"}}"#
            );
            farm.put("readings", device.into(), Some(ts.into()), &text);
        }
    }
    farm
}

impl Farm {
    fn put(&self, table: &str, hash: Key, range: Option<Key>, text: &str) {
        let epoch = self.store.mark("test").unwrap_or(0) + 1;
        let write = Write { table, hash, range, value: Some(text.as_bytes()), time_ms: 500, epoch };
        let applied = self.store.apply("test", epoch, [write]).unwrap();
        assert_eq!(applied.taken, 1);
    }

    fn engine(&self) -> QueryEngine {
        engine(vec![Arc::new(self.tables.clone())])
    }
}

#[tokio::test]
async fn rows_show_in_declared_types_and_the_rest_as_json() {
    let farm = farm();
    let engine = farm.engine();
    let found = rows(&engine, "SELECT * FROM readings WHERE DEVICEID = 'a' AND ts = 3").await.unwrap();
    assert_eq!(
        found,
        [json!({"deviceId": "a", "ts": 3, "temp": 3.5, "ok": true, "price": 1.30, "at": "1970-01-01T00:00:03Z",
            "more": "{\"n\":[3]}", "_rest": "{\"extra\":\"x3\"}"})]
    );
    // What is not of the declared type shows in `_rest`, not as another value and not nowhere.
    farm.put("readings", "z".into(), Some(9.into()), r#"{"deviceId":"z","ts":9,"temp":"hot","price":1.005,"ok":null}"#);
    let found = rows(&engine, "SELECT temp, price, ok, _rest FROM readings WHERE deviceid = 'z'").await.unwrap();
    assert_eq!(found, [json!({"_rest": "{\"temp\":\"hot\",\"price\":1.005}"})]);
    assert_eq!(rows(&engine, "SELECT count(*) AS n FROM readings").await.unwrap(), [json!({"n": 11})]);
    assert_eq!(rows(&engine, "SELECT count(*) AS n FROM later").await.unwrap(), [json!({"n": 0})]);
}

#[tokio::test]
async fn key_conditions_become_gets_and_range_scans() {
    let farm = farm();
    let engine = farm.engine();
    for (condition, how, count) in [
        ("deviceId = 'a'", "hash key a, columns", 5),
        ("deviceId = 'a' AND ts = 3", "hash key a, a range of its range keys", 1),
        ("deviceId = 'b/ü' AND ts > 1 AND ts <= 3", "hash key b/ü, a range of its range keys", 2),
        ("deviceId = 'a' AND ts BETWEEN 2 AND 3", "hash key a, a range of its range keys", 2),
        ("deviceId IN ('a', 'b/ü') AND ts IN (1, 2, 77)", "6 keys", 4),
        ("deviceId LIKE 'b%'", "a range of hash keys", 5),
        ("deviceId >= 'b'", "a range of hash keys", 5),
        ("ts = 1", "all rows", 2),
        ("deviceId = 'a' AND deviceId = 'b'", "", 0),
        ("deviceId = 'a' OR ts = 1", "all rows", 6),
        ("temp > 3", "all rows", 4),
    ] {
        let sql = format!("SELECT count(*) AS n FROM readings WHERE {condition}");
        assert_eq!(rows(&engine, &sql).await.unwrap(), [json!({"n": count})], "{condition}");
        let plan = plan(&engine, &sql).await;
        assert!(plan.contains(how), "{condition}: {plan}");
    }
    let limited = rows(&engine, "SELECT ts FROM readings LIMIT 3").await.unwrap();
    assert_eq!(limited.len(), 3);
}

#[tokio::test]
async fn expired_rows_are_gone_and_one_query_sees_one_state() {
    let farm = farm();
    farm.put("flags", true.into(), None, r#"{"on":true}"#);
    let engine = farm.engine();
    assert!(rows(&engine, "SELECT * FROM flags").await.unwrap().is_empty());

    // A self-join while rows are being added: both sides see the same rows, every time.
    let sql = "SELECT (SELECT count(*) FROM readings) AS a, (SELECT count(*) FROM readings WHERE ts >= 0) AS b";
    let writer = std::thread::spawn({
        let (store, tables) = (farm.store.clone(), farm.tables.clone());
        let farm = Farm { tables, store, _folder: tempfile::tempdir().unwrap() };
        move || {
            for ts in 100..2_000 {
                farm.put("readings", "w".into(), Some(ts.into()), &format!(r#"{{"deviceId":"w","ts":{ts}}}"#));
            }
        }
    });
    for _ in 0..10 {
        let found = rows(&engine, sql).await.unwrap();
        assert_eq!(found[0]["a"], found[0]["b"]);
    }
    writer.join().unwrap();
}

#[test]
fn a_single_row_is_read_by_its_key_as_text() {
    let farm = farm();
    let row: Value = serde_json::from_slice(&farm.tables.row("readings", "b/ü", Some("4")).unwrap()).unwrap();
    assert_eq!(row["extra"], "x4");
    for (table, hash, range, expect) in [
        ("reading", "a", None, "no table \"reading\""),
        ("readings", "a", Some("7"), "no row with this key in table \"readings\""),
        ("readings", "a", None, "table \"readings\" has a range key, \"ts\": ask for /tables/{table}/{hash}/{range}"),
        ("readings", "a", Some("x"), "the key \"ts\" of table \"readings\" is a BIGINT: \"x\" is not"),
        ("flags", "true", Some("1"), "table \"flags\" has no range key"),
        ("flags", "yes", None, "the key \"on\" of table \"flags\" is true or false: \"yes\" is not"),
        ("later", "x", None, "no row with this key in table \"later\""),
    ] {
        let error: NoRow = farm.tables.row(table, hash, range).unwrap_err();
        assert_eq!(error.to_string(), expect);
    }
}

fn open_log(folder: &Path) -> Arc<Log> {
    let mut config = LogConfig::new(folder);
    config.min_free_bytes = 0;
    config.reserve_bytes = 0;
    let clock = Arc::new(SystemClock::new());
    Arc::new(Log::open(config, Arc::new(SystemDisk), clock, Epoch(0)).unwrap().0)
}

/// Appends a commit of its own.
fn append(log: &Log, batch: Batch) -> Epoch {
    log.appender().append_and_wait(batch, Class::System).unwrap().epoch
}

#[tokio::test]
async fn the_log_is_a_relation_bounded_by_epochs() {
    let folder = tempfile::tempdir().unwrap();
    let log = open_log(folder.path());
    let mut epochs = Vec::new();
    for commit in 0..4_u8 {
        let mut batch = Batch::new();
        for n in 0..3_u8 {
            let text = format!("{{\"n\":{n}}}");
            let payload = if commit == 3 { &[0xff, n][..] } else { text.as_bytes() };
            let time_ms = i64::from(commit) * 1000;
            let record =
                RecordFields { topic: "farm/a", client_id: "a", qos: 1, time_ms, payload, ..RecordFields::default() };
            batch.push(&record);
        }
        if commit == 1 {
            batch.push_mark("republish", Epoch(7));
        }
        epochs.push(append(&log, batch).0);
    }
    let engine = engine(vec![Arc::new(IngestLog::new(Arc::clone(&log)))]);
    let found =
        rows(&engine, "SELECT kind, count(*) AS n, min(offset) AS o FROM ingest_log GROUP BY kind ORDER BY kind").await;
    assert_eq!(found.unwrap(), [json!({"kind": "mark", "n": 1, "o": 7}), json!({"kind": "message", "n": 12, "o": 1})]);

    let sql = format!("SELECT count(*) AS n FROM ingest_log WHERE epoch > {} AND epoch <= {}", epochs[0], epochs[2]);
    assert_eq!(rows(&engine, &sql).await.unwrap(), [json!({"n": 7})]);
    let plan = plan(&engine, &sql).await;
    assert!(plan.contains(&format!("epochs {} to {}", epochs[0], epochs[2])), "{plan}");

    let sql = "SELECT topic, client_id, principal, qos, time, payload, payload_text FROM ingest_log WHERE offset IN (5, 12) ORDER BY offset";
    assert_eq!(
        rows(&engine, sql).await.unwrap(),
        [
            json!({"topic": "farm/a", "client_id": "a", "qos": 1, "time": "1970-01-01T00:00:01Z",
                "payload": "7b226e223a317d", "payload_text": "{\"n\":1}"}),
            json!({"topic": "farm/a", "client_id": "a", "qos": 1, "time": "1970-01-01T00:00:03Z", "payload": "ff01"}),
        ]
    );
    assert!(rows(&engine, "SELECT * FROM ingest_log WHERE epoch = 1").await.unwrap().is_empty());
    assert_eq!(rows(&engine, "SELECT offset FROM ingest_log LIMIT 2").await.unwrap().len(), 2);
    let control = RecordFields { kind: RecordKind::Control, ..RecordFields::default() };
    let mut batch = Batch::new();
    batch.push(&control);
    append(&log, batch);
    let found = rows(&engine, "SELECT topic, kind FROM ingest_log ORDER BY offset DESC LIMIT 1").await.unwrap();
    assert_eq!(found, [json!({"kind": "control"})]);
}

struct OneLake(Arc<Lake>);

impl LakeCatalog for OneLake {
    fn lakes(&self) -> Vec<(Arc<str>, Arc<Lake>)> {
        vec![("farmLake".into(), Arc::clone(&self.0))]
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lake_rows_are_there_buffered_and_committed_alike() {
    let folder = tempfile::tempdir().unwrap();
    let url = folder.path().join("lake").display().to_string();
    let config = LakeConfig::new("farmLake", url, folder.path().join("spool"));
    let lake = Arc::new(Lake::open(config, tokio::runtime::Handle::current()).unwrap());
    let engine = engine(vec![Arc::new(Lakes::new(Arc::new(OneLake(Arc::clone(&lake)))))]);
    let step = |epoch: u64| {
        let topic = StringArray::from(vec!["farm/a", "farm/b"]);
        let heat = Decimal128Array::from(vec![215, 220]).with_precision_and_scale(38, 1).unwrap();
        lake.append(Arc::new(LakeRows {
            epoch_of: vec![epoch, epoch],
            offset: vec![epoch * 2, epoch * 2 + 1],
            time_ms: vec![1_700_000_000_000, 1_700_000_000_001],
            client_id: StringArray::new_null(topic.len()),
            topic,
            raw: None,
            columns: vec![("Heat".into(), LakeColumn::Number(heat))],
        }))
        .unwrap();
        lake.step_done(epoch).unwrap();
    };
    step(1);
    lake.flush();
    let sql = "SELECT _topic, sum(heat) AS heat FROM farmlake WHERE HEAT > 21 GROUP BY _topic ORDER BY 1";
    let expect =
        |n: f64| vec![json!({"_topic": "farm/a", "heat": 21.5 * n}), json!({"_topic": "farm/b", "heat": 22.0 * n})];
    assert_eq!(rows(&engine, sql).await.unwrap(), expect(1.0));
    lake.seal().unwrap();
    for _ in 0..200 {
        if lake.health().committed >= 1 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert!(lake.health().committed >= 1, "{:?}", lake.health());
    step(2);
    lake.flush();
    assert_eq!(rows(&engine, sql).await.unwrap(), expect(2.0));
    let closing = Arc::clone(&lake);
    tokio::task::spawn_blocking(move || closing.close()).await.unwrap();
}

/// The most that is planned, of each kind of chain, and one that goes beyond.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deep_queries_run_or_are_refused_and_never_end_the_process() {
    let engine = engine(Vec::new());
    let chains: [&dyn Fn(usize) -> String; 8] = [
        &|n| format!("SELECT {} AS x", vec!["1"; n].join(" + ")),
        &|n| format!("SELECT {} AS x", vec!["true"; n].join(" AND ")),
        &|n| format!("SELECT {} AS x", vec!["1 = 1"; n].join(" OR ")),
        &|n| format!("SELECT {} AS x", vec!["'a'"; n].join(" || ")),
        &|n| format!("SELECT {}true AS x", "NOT ".repeat(n - 1)),
        &|n| format!("SELECT {}1 AS x", "- ".repeat(n - 1)),
        &|n| format!("SELECT 1{} AS x", "::INT".repeat(n - 1)),
        &|n| vec!["SELECT 1 AS x"; n].join(" EXCEPT ALL "),
    ];
    for chain in chains {
        let text = chain(250);
        // The parser has a limit of its own for what stands before a term.
        let outcome = rows(&engine, &text).await.map_err(|error| error.kind);
        assert!(matches!(outcome, Ok(_) | Err(super::QueryErrorKind::Refused)), "{:.60}: {outcome:?}", text);
        let error = rows(&engine, &chain(3_000)).await.unwrap_err();
        assert_eq!(error.kind, super::QueryErrorKind::Refused, "{:.60}: {error}", text);
    }
    assert_eq!(rows(&engine, "SELECT 1 AS x").await.unwrap(), [json!({"x": 1})]);
    let list = (0..5_000).map(|n| format!("-{n}")).collect::<Vec<_>>().join(", ");
    assert_eq!(rows(&engine, &format!("SELECT 7 IN ({list}) AS x")).await.unwrap(), [json!({"x": false})]);
}

#[tokio::test]
async fn what_a_query_multiplies_is_counted_before_it_is_planned() {
    let engine = engine(Vec::new());
    let doubled = |times: usize| {
        let with = (1..=times).map(|n| format!("c{n} AS (SELECT * FROM c{0} UNION ALL SELECT * FROM C{0})", n - 1));
        format!(
            "WITH c0 AS (SELECT 1 AS x), {} SELECT count(*) AS n FROM c{times}",
            with.collect::<Vec<_>>().join(", ")
        )
    };
    assert_eq!(rows(&engine, &doubled(3)).await.unwrap(), [json!({"n": 8})]);
    for (sql, what) in [
        (doubled(20), "relations"),
        (format!("SELECT {}", vec!["1"; 2_000].join(", ")), "columns"),
        (format!("SELECT '{}'", "x".repeat(300_000)), "bytes"),
        (format!("EXPLAIN {}", doubled(20)), "relations"),
    ] {
        let error = rows(&engine, &sql).await.unwrap_err();
        assert!(error.kind == super::QueryErrorKind::Refused && error.message.contains(what), "{error}");
    }
}

#[tokio::test]
async fn functions_do_not_build_without_bounds() {
    let engine = engine(Vec::new());
    let fine = "SELECT repeat('ab', 2) AS a, lpad('x', 3, '-') AS b, array_length(range(1, 5)) AS c, rpad('x', 2) AS d";
    let expected = json!({"a": "abab", "b": "--x", "c": 4, "d": "x "});
    assert_eq!(rows(&engine, fine).await.unwrap(), [expected]);
    for sql in [
        "SELECT length(repeat('x', 2000000000)) AS x",
        "SELECT length(repeat(repeat('x', 1000000), n)) AS x FROM (VALUES (1000), (2)) AS t(n)",
        "SELECT length(lpad('x', 2000000000)) AS x",
        "SELECT length(rpad(v, n)) AS x FROM (VALUES ('a', 2000000000)) AS t(v, n)",
        "SELECT array_length(range(0, 100000000000)) AS x",
        "SELECT array_length(array_repeat(1, 1000000000)) AS x",
    ] {
        let error = rows(&engine, sql).await.unwrap_err();
        assert!(error.message.contains("bytes at once"), "{sql}: {error}");
    }
}
