//! The API as a client sees it: a real server on a free port.

mod destinations;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::array::{Int64Array, StringArray};
use arrow::ipc::reader::StreamReader;
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use datafusion::catalog::{MemTable, TableProvider};
use datafusion::common::DataFusionError;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::client::{Client, ClientError, SqlResult};
use super::dead_letters::{LetterControl, LetterReport, Which};
use super::health::{HealthReport, HealthSource, HealthState, Problem};
use super::rules::{ApplyReport, ApplyRequest, Change, ChangeAction, Finding, RuleControl, RuleError};
use super::{Api, HttpServer, TableReader, Token};
use crate::config::{Config, Environment};
use crate::metrics::{Exposition, MetricsSource, Sample};
use crate::query::system::{
    ConnectionStatus, DestinationStatus, ErrorSample, QueueStatus, RuleStatus, SessionStatus, SinkStatus, SystemViews,
    TableStatus, TimerStatus,
};
use crate::query::{NoRow, QueryEngine, Relations, Sources};

/// Stands for the running server.
#[derive(Default)]
struct Fake {
    unready: Mutex<bool>,
    applied: Mutex<Vec<ApplyRequest>>,
}

impl SystemViews for Fake {
    fn rules(&self) -> Vec<RuleStatus> {
        vec![RuleStatus { name: "hot".into(), enabled: true, matched: 7, ..RuleStatus::default() }]
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
        let error = ErrorSample { time_ms: 1_700_000_000_000, message: "not JSON".into(), ..ErrorSample::default() };
        vec![ErrorSample { topic: Some("a/b".into()), count: 2, ..error }]
    }
    fn metrics(&self) -> Vec<Sample> {
        let mut exposition = Exposition::default();
        self.collect(&mut exposition);
        exposition.samples()
    }
}

impl MetricsSource for Fake {
    fn collect(&self, into: &mut Exposition) {
        into.counter("hedgerow_records_total", "Records", &[("kind", "message")], 12);
    }
}

impl HealthSource for Fake {
    fn health(&self) -> HealthReport {
        let problem = Problem { component: "log".into(), message: "the disk is full".into() };
        match *self.unready.lock().unwrap() {
            true => HealthReport { status: HealthState::Unready, problems: vec![problem] },
            false => HealthReport::default(),
        }
    }
}

#[async_trait]
impl RuleControl for Fake {
    async fn apply(&self, request: ApplyRequest) -> Result<ApplyReport, RuleError> {
        if request.files.values().any(|text| text.contains("SELCT")) {
            let message = "expected SELECT".to_owned();
            return Err(RuleError::Refused(vec![Finding {
                fatal: true,
                line: 1,
                column: 5,
                message,
                ..Finding::default()
            }]));
        }
        let change = Change { action: ChangeAction::Create, kind: "rule".into(), name: "hot".into(), note: None };
        let report = ApplyReport { dry_run: request.dry_run, changes: vec![change], ..ApplyReport::default() };
        self.applied.lock().unwrap().push(request);
        Ok(report)
    }
    async fn check(&self, _: BTreeMap<String, String>) -> Result<Vec<Finding>, RuleError> {
        Ok(vec![Finding { message: "bare filter".into(), ..Finding::default() }])
    }
    async fn list(&self) -> Vec<RuleStatus> {
        self.rules()
    }
    async fn set_enabled(&self, name: &str, _: bool) -> Result<ApplyReport, RuleError> {
        match name {
            "hot / cold" => Ok(ApplyReport::default()),
            _ => Err(RuleError::Unknown { name: name.to_owned(), nearest: Some("hot / cold".into()) }),
        }
    }
    async fn drop_rule(&self, _: &str) -> Result<ApplyReport, RuleError> {
        Err(RuleError::Conflict("the rule belongs to the rules folder".into()))
    }
}

impl TableReader for Fake {
    fn row(&self, table: &str, hash: &str, range: Option<&str>) -> Result<Vec<u8>, NoRow> {
        match (table, hash, range) {
            ("farm", "a/b c", Some("1")) => Ok(br#"{"id":"a/b c"}"#.to_vec()),
            ("farm", _, _) => Err(NoRow::Row("farm".into())),
            _ => Err(NoRow::Table(table.to_owned())),
        }
    }
}

/// One lake of two columns and 5 rows.
struct Lake;

#[async_trait]
impl Relations for Lake {
    fn names(&self) -> Vec<String> {
        vec!["Farm".to_owned()]
    }
    async fn open(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
        if name != "Farm" {
            return Ok(None);
        }
        let ids: StringArray = (0..5).map(|n| Some(format!("d{n}"))).collect();
        let heat: Int64Array = (0..5).map(|n| (n != 3).then_some(n * 10)).collect();
        let batch = RecordBatch::try_from_iter([("deviceId", Arc::new(ids) as _), ("heat", Arc::new(heat) as _)])?;
        Ok(Some(Arc::new(MemTable::try_new(batch.schema(), vec![vec![batch]])?)))
    }
}

struct Setup {
    server: HttpServer,
    fake: Arc<Fake>,
    token: Token,
    client: Client,
    query: QueryEngine,
    _folder: tempfile::TempDir,
}

impl Setup {
    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.server.address())
    }

    async fn post(&self, accept: &str, body: &str) -> reqwest::Response {
        let request = reqwest::Client::new().post(self.url("/sql")).bearer_auth(self.token.reveal());
        request.header("accept", accept).body(body.to_owned()).send().await.unwrap()
    }

    /// Whether the transfer of an answer ends before the answer does.
    async fn breaks_off(&self, accept: &str, body: &str) -> bool {
        let request = reqwest::Client::new().post(self.url("/sql")).bearer_auth(self.token.reveal());
        match request.header("accept", accept).body(body.to_owned()).send().await {
            Ok(response) => response.status() == 200 && response.bytes().await.is_err(),
            Err(error) => !error.is_connect(),
        }
    }

    /// A query that goes on until it is cancelled, once it is running.
    async fn forever(&self) -> tokio::task::JoinHandle<Result<SqlResult, ClientError>> {
        let client = self.client.clone();
        let query =
            tokio::spawn(async move { client.sql("SELECT count(*) FROM generate_series(1, 1000000000000)").await });
        for _ in 0..1_000 {
            if self.query.running() == 1 {
                return query;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the query does not run");
    }

    /// What comes back for bytes written to a socket.
    async fn raw(&self, request: &str) -> String {
        let mut socket = TcpStream::connect(self.server.address()).await.unwrap();
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(10), socket.read_to_end(&mut answer)).await;
        read.unwrap().unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }
}

impl LetterControl for Fake {
    fn replay(&self, which: &Which) -> Result<LetterReport, String> {
        Ok(LetterReport { done: which.ids.len() as u64, skipped: 0, reason: None })
    }

    fn drop_letters(&self, which: &Which) -> Result<LetterReport, String> {
        Err(format!("the disk is full, {} stays", which.sink.as_deref().unwrap_or("everything")))
    }
}

#[tokio::test]
async fn dead_letters_are_chosen_before_anything_happens_to_them() {
    let setup = start(&[]).await;
    let done = setup.client.dead_letters_replay(&Which { ids: vec![3, 4], ..Which::default() }).await.unwrap();
    assert_eq!(done.done, 2);
    for which in [Which::default(), Which { sink: Some("a".into()), all: true, ..Which::default() }] {
        let (status, message, hint) = answer(setup.client.dead_letters_replay(&which).await.unwrap_err());
        assert_eq!(status, 400, "{message}");
        assert!(hint.unwrap().contains("ids"));
    }
    let which = Which { sink: Some("pager".into()), ..Which::default() };
    let (status, message, _) = answer(setup.client.dead_letters_drop(&which).await.unwrap_err());
    assert_eq!((status, message.as_str()), (503, "the disk is full, pager stays"));
}

async fn start(settings: &[(&str, &str)]) -> Setup {
    let folder = tempfile::tempdir().unwrap();
    let mut environment: Environment =
        settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    environment.insert("HEDGEROW_HTTP_LISTEN".into(), "127.0.0.1:0".into());
    environment.insert("HEDGEROW_DATA_FOLDER".into(), folder.path().display().to_string());
    environment.insert("HEDGEROW_QUERY_THREADS".into(), "2".into());
    let config = Config::read(None, &environment).unwrap();
    let fake = Arc::new(Fake::default());
    let sources = Sources { relations: vec![Arc::new(Lake)], system: Arc::clone(&fake) as _ };
    let query = QueryEngine::new(&config, sources).unwrap();
    let api = Api {
        query: query.clone(),
        tables: Arc::clone(&fake) as _,
        rules: Arc::clone(&fake) as _,
        letters: Arc::clone(&fake) as _,
        destinations: Arc::clone(&fake) as _,
        queues: crate::queues::tests::in_folder(&folder.path().join("store")).0,
        health: Arc::clone(&fake) as _,
        metrics: Arc::clone(&fake) as _,
    };
    let server = HttpServer::start(&config, api).await.unwrap();
    let token = Token::load(&config.token_file()).unwrap();
    let client = Client::new(server.address(), token.clone());
    Setup { server, fake, token, client, query, _folder: folder }
}

fn answer(error: ClientError) -> (u16, String, Option<String>) {
    match error {
        ClientError::Answer { status, body } => (status, body.error, body.hint),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn only_health_answers_without_the_token() {
    let setup = start(&[]).await;
    let http = reqwest::Client::new();
    assert_eq!(http.get(setup.url("/health")).send().await.unwrap().status(), 200);
    for path in ["/metrics", "/rules", "/tables/farm/a", "/sql", "/nothing", "/health/", "//health"] {
        assert_eq!(http.get(setup.url(path)).send().await.unwrap().status(), 401, "{path}");
        let wrong = http.get(setup.url(path)).bearer_auth("x".repeat(43)).send().await.unwrap();
        assert_eq!(wrong.status(), 401, "{path}");
        assert_eq!(wrong.headers()["www-authenticate"], "Bearer realm=\"hedgerow\"");
        assert!(!wrong.text().await.unwrap().contains(setup.token.reveal()));
    }
    assert!(setup.client.metrics().await.unwrap().contains("hedgerow_records_total{kind=\"message\"} 12\n"));
    setup.server.shutdown().await;
}

#[tokio::test]
async fn a_foreign_host_is_refused_and_no_answer_allows_other_origins() {
    let setup = start(&[("HEDGEROW_HTTP_ALLOWED_HOSTS", "farm.example")]).await;
    for (host, status) in
        [("evil.example", "403"), ("localhost", "200"), ("farm.example", "200"), ("127.0.0.1:1", "200")]
    {
        let answer = setup
            .raw(&format!(
                "GET /health HTTP/1.1\r\nHost: {host}\r\nOrigin: http://evil.example\r\nConnection: close\r\n\r\n"
            ))
            .await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{host}: {answer}");
        assert!(!answer.to_lowercase().contains("access-control"), "{answer}");
    }
    let answer = setup.raw("GET /health HTTP/1.0\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.0 400"), "{answer}");
}

#[tokio::test]
async fn health_says_what_is_wrong_with_503() {
    let setup = start(&[]).await;
    assert_eq!(setup.client.health().await.unwrap().status, HealthState::Ready);
    *setup.fake.unready.lock().unwrap() = true;
    let response = reqwest::get(setup.url("/health")).await.unwrap();
    assert_eq!(response.status(), 503);
    let body: Value = response.json().await.unwrap();
    assert_eq!(body, json!({"status": "unready", "problems": [{"component": "log", "message": "the disk is full"}]}));
}

#[tokio::test]
async fn rows_come_as_json_csv_and_arrow() {
    let setup = start(&[]).await;
    let sql = "SELECT DEVICEID, heat * 1.5 AS Warm FROM farm WHERE heat > 10 OR heat IS NULL ORDER BY warm NULLS FIRST";
    let result = setup.client.sql(sql).await.unwrap();
    let names: Vec<(&str, &str)> = result.columns.iter().map(|c| (c.name.as_str(), c.ty.as_str())).collect();
    assert_eq!(names, [("deviceId", "VARCHAR"), ("Warm", "DOUBLE")]);
    assert_eq!(
        result.rows,
        [vec![json!("d3"), json!(null)], vec![json!("d2"), json!(30.0)], vec![json!("d4"), json!(60.0)]]
    );
    assert!(!result.truncated);

    let csv = setup.post("text/csv", &json!({"sql": "SELECT * FROM \"Farm\" LIMIT 2"}).to_string()).await;
    assert_eq!(csv.headers()["content-type"], "text/csv; charset=utf-8; header=present");
    assert_eq!(csv.text().await.unwrap(), "deviceId,heat\nd0,0\nd1,10\n");

    let arrow = setup.post("application/vnd.apache.arrow.stream", "SELECT sum(heat) AS total FROM farm").await;
    let bytes = arrow.bytes().await.unwrap();
    let batches: Vec<RecordBatch> = StreamReader::try_new(&*bytes, None).unwrap().map(Result::unwrap).collect();
    assert_eq!(batches.len(), 1);
    assert_eq!(batches[0].column(0).as_any().downcast_ref::<Int64Array>().unwrap().value(0), 70);

    let empty = setup.post("text/csv", "SELECT heat FROM farm WHERE false").await;
    assert_eq!(empty.text().await.unwrap(), "heat\n");
    assert_eq!(setup.post("image/png", "SELECT 1").await.status(), 406);
}

#[tokio::test]
async fn the_server_itself_can_be_queried() {
    let setup = start(&[]).await;
    let rules = setup.client.sql("SELECT name, matched FROM system.rules").await.unwrap();
    assert_eq!(rules.rows, [vec![json!("hot"), json!(7)]]);
    let errors = setup.client.sql("SELECT time, topic, count FROM system.errors").await.unwrap();
    assert_eq!(errors.rows, [vec![json!("2023-11-14T22:13:20Z"), json!("a/b"), json!(2)]]);
    let metrics = setup.client.sql("SELECT value FROM system.metrics WHERE name LIKE 'hedgerow%'").await.unwrap();
    assert_eq!(metrics.rows, [vec![json!(12.0)]]);
    let tables = setup.client.sql("SHOW TABLES").await.unwrap();
    assert!(tables.rows.iter().any(|row| row.contains(&json!("Farm"))), "{tables:?}");
    let columns = setup.client.sql("DESCRIBE FARM").await.unwrap();
    assert_eq!(columns.rows[0][0], json!("deviceId"));
}

#[tokio::test]
async fn sessions_only_read() {
    let setup = start(&[]).await;
    let secret = setup.server.address().to_string();
    for sql in [
        "CREATE TABLE t AS SELECT 1",
        "CREATE VIEW v AS SELECT 1",
        "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'",
        "DROP TABLE \"Farm\"",
        "INSERT INTO \"Farm\" VALUES ('x', 1)",
        "DELETE FROM \"Farm\"",
        "UPDATE \"Farm\" SET heat = 1",
        "COPY \"Farm\" TO '/tmp/hedgerow-test.csv'",
        "SET datafusion.execution.batch_size = 1",
        "RESET datafusion.execution.batch_size",
        "BEGIN",
        "PREPARE p AS SELECT 1",
        "EXPLAIN COPY \"Farm\" TO '/tmp/hedgerow-test.csv'",
        "EXPLAIN INSERT INTO \"Farm\" VALUES ('x', 1)",
        "SELECT * INTO t FROM \"Farm\"",
        "WITH x AS (DELETE FROM \"Farm\") SELECT 1",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM \"/etc/passwd\"",
        "SELECT * FROM 'file:///etc/hosts.csv'",
        "SELECT 1; SELECT 2",
        "",
        "-- nothing",
    ] {
        let error = setup.client.sql(sql).await.map(|rows| panic!("{sql}: {rows:?}")).map_err(answer).unwrap_err();
        assert_eq!(error.0, 400, "{sql}: {error:?}");
        assert!(!error.1.contains(&secret));
    }
    assert!(!std::path::Path::new("/tmp/hedgerow-test.csv").exists());
    assert_eq!(setup.client.sql("SELECT count(*) FROM farm").await.unwrap().rows, [vec![json!(5)]]);
}

#[tokio::test]
async fn a_mistake_has_its_place_and_a_hint() {
    let setup = start(&[]).await;
    let body: Value = setup.post("*/*", "SELECT heat,\n  devicId FROM farm").await.json().await.unwrap();
    assert_eq!(body["error"], "no column devicId");
    assert_eq!(body["hint"], "did you mean \"deviceId\"?");
    assert_eq!(body["position"], json!({"line": 2, "column": 3}));
    let body: Value = setup.post("*/*", "SELECT heat FROM\nWHERE").await.json().await.unwrap();
    assert_eq!(body["position"]["line"], 2, "{body}");
    let body: Value = setup.post("*/*", "SELECT heat FROM frm").await.json().await.unwrap();
    assert_eq!((&body["error"], &body["hint"]), (&json!("no table frm"), &json!("did you mean Farm?")));
    let body: Value = setup.post("*/*", "{\"query\": \"SELECT 1\"}").await.json().await.unwrap();
    assert!(body["error"].as_str().unwrap().starts_with("the body is not {\"sql\""), "{body}");
}

#[tokio::test]
async fn an_error_after_the_first_rows_is_never_mistaken_for_the_end() {
    let setup = start(&[("HEDGEROW_QUERY_BATCH_ROWS", "10")]).await;
    let sql = "SELECT 1 / (20000 - value) FROM generate_series(1, 100000)";
    let (status, error, _) = answer(setup.client.sql(sql).await.unwrap_err());
    assert_eq!(status, 200);
    assert!(error.to_lowercase().contains("divide"), "{error}");
    assert!(setup.breaks_off("text/csv", sql).await);
    // Before the first row there is still time for a status.
    assert_eq!(setup.post("text/csv", "SELECT 1 / (1 - value) FROM generate_series(1, 2)").await.status(), 422);
}

#[tokio::test]
async fn results_beyond_the_row_limit_say_so() {
    let setup = start(&[("HEDGEROW_QUERY_MAX_ROWS", "3")]).await;
    let result = setup.client.sql("SELECT heat FROM farm").await.unwrap();
    assert_eq!((result.rows.len(), result.truncated), (3, true));
    let result = setup.client.sql("SELECT heat FROM farm LIMIT 3").await.unwrap();
    assert_eq!((result.rows.len(), result.truncated), (3, false));
    assert!(setup.breaks_off("text/csv", "SELECT heat FROM farm").await);
}

#[tokio::test]
async fn a_query_out_of_memory_or_time_fails_alone() {
    let setup = start(&[("HEDGEROW_QUERY_MEMORY", "16MiB")]).await;
    let greedy = "SELECT value * 7 % 1000003 AS k, count(*) FROM generate_series(1, 3000000) GROUP BY k";
    let result = setup.client.sql(greedy).await.map(|result| result.rows.len());
    let (status, error, hint) = answer(result.unwrap_err());
    assert!(status == 422 && error.contains("memory") && hint.unwrap().contains("query.memory"), "{status} {error}");
    let setup = start(&[("HEDGEROW_QUERY_TIMEOUT", "2s")]).await;
    let slow = "SELECT count(*) FROM generate_series(1, 1000000000000)";
    let (status, error, _) = answer(setup.client.sql(slow).await.unwrap_err());
    assert!(status == 408 && error.contains("longer than 2s"), "{status} {error}");
    assert_eq!(setup.client.sql("SELECT 1").await.unwrap().rows, [vec![json!(1)]]);
}

#[tokio::test]
async fn a_query_ends_when_its_client_goes_away() {
    let setup = start(&[("HEDGEROW_QUERY_MAX_QUERIES", "1"), ("HEDGEROW_QUERY_TIMEOUT", "60s")]).await;
    setup.forever().await.abort();
    // The only slot is free again as soon as the server notices; were it not, this would wait for the time limit.
    let next = tokio::time::timeout(Duration::from_secs(20), setup.client.sql("SELECT 2")).await;
    assert_eq!(next.unwrap().unwrap().rows, [vec![json!(2)]]);
}

#[tokio::test]
async fn rules_are_applied_checked_listed_and_switched() {
    let setup = start(&[]).await;
    let files = |text: &str| BTreeMap::from([("farm.sql".to_owned(), text.to_owned())]);
    let report = setup.client.rules_apply(files("CREATE RULE …"), true).await.unwrap();
    assert!(report.dry_run && report.changes[0].action == ChangeAction::Create);
    assert_eq!(setup.fake.applied.lock().unwrap()[0].files["farm.sql"], "CREATE RULE …");
    match setup.client.rules_apply(files("SELCT"), false).await.unwrap_err() {
        ClientError::Answer { status: 422, body } => {
            assert_eq!((body.findings[0].line, body.findings[0].column), (1, 5))
        }
        other => panic!("{other}"),
    }
    assert_eq!(answer(setup.client.rules_apply(BTreeMap::new(), false).await.unwrap_err()).0, 400);
    assert!(setup.client.rules_check(files("x")).await.unwrap().ok);
    assert_eq!(setup.client.rules_list().await.unwrap()[0].name, "hot");
    setup.client.rules_set_enabled("hot / cold", true).await.unwrap();
    let (status, error, _) = answer(setup.client.rules_set_enabled("hot / clod", false).await.unwrap_err());
    assert_eq!((status, error.as_str()), (404, "no rule \"hot / clod\"; did you mean \"hot / cold\"?"));
    assert_eq!(answer(setup.client.rules_drop("hot").await.unwrap_err()).0, 409);
}

#[tokio::test]
async fn a_row_is_read_by_its_key() {
    let setup = start(&[]).await;
    assert_eq!(setup.client.row("farm", "a/b c", Some("1")).await.unwrap().unwrap(), r#"{"id":"a/b c"}"#);
    assert_eq!(setup.client.row("farm", "x", None).await.unwrap(), None);
    let (status, error, _) = answer(setup.client.row("frm", "x", None).await.unwrap_err());
    assert_eq!((status, error.as_str()), (404, "no table \"frm\""));
}

#[tokio::test]
async fn bodies_heads_and_numbers_are_bounded() {
    let setup = start(&[("HEDGEROW_HTTP_MAX_BODY", "1kB"), ("HEDGEROW_HTTP_READ_TIMEOUT", "200ms")]).await;
    assert_eq!(setup.post("*/*", &"x".repeat(2000)).await.status(), 413);
    // A head that never ends, and a body that never comes.
    let answer = setup.raw("GET /health HTTP/1.1\r\nHost: localhost\r\n").await;
    assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
    let head = format!("POST /sql HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n", setup.token.reveal());
    let answer = setup.raw(&format!("{head}Content-Length: 10\r\nConnection: close\r\n\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");

    let setup = start(&[("HEDGEROW_HTTP_MAX_REQUESTS", "1")]).await;
    let forever = setup.forever().await;
    let refused = setup.post("*/*", "SELECT 1").await;
    assert_eq!((refused.status().as_u16(), &refused.headers()["retry-after"]), (503, &"1".parse().unwrap()));
    assert_eq!(reqwest::get(setup.url("/health")).await.unwrap().status(), 200);
    forever.abort();
}

#[tokio::test]
async fn shutdown_is_bounded_and_closes_the_port() {
    let setup = start(&[("HEDGEROW_HTTP_SHUTDOWN_TIMEOUT", "200ms")]).await;
    let address = setup.server.address();
    let forever = setup.forever().await;
    tokio::time::timeout(Duration::from_secs(10), setup.server.shutdown()).await.unwrap();
    assert!(forever.await.unwrap().is_err());
    assert!(TcpStream::connect(address).await.is_err());
}
