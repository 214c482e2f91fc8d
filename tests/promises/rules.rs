//! Rule files: declarative, atomic, and in force from one position of the log on, across restarts.

use serde_json::{Value, json};

use crate::publisher::publish;
use crate::server::{Home, Server, until};

const COUNTS: &str = "
CREATE TABLE seen (device VARCHAR, PRIMARY KEY (device));
CREATE RULE see AS SELECT topic(2) AS device, v FROM 'seen/+' INTO seen;
";
const ECHO: &str = "CREATE RULE echo AS SELECT v FROM 'in/+' INTO TOPIC 'out/${topic(2)}';";

fn served() -> (Home, Server) {
    let home = Home::with_settings("[logging]\nlevel = \"warn\"\n");
    let server = home.start();
    (home, server)
}

async fn apply(server: &Server, files: &[(&str, &str)], dry_run: bool) -> Value {
    let files: serde_json::Map<String, Value> =
        files.iter().map(|(name, text)| ((*name).to_owned(), (*text).into())).collect();
    server.post("/rules/apply", &json!({"files": files, "dry_run": dry_run})).await.unwrap()
}

/// `action kind name` of each change.
fn changes(report: &Value) -> Vec<String> {
    let all = report["changes"].as_array().unwrap_or_else(|| panic!("refused: {report}"));
    let mut all: Vec<String> = all
        .iter()
        .map(|one| ["action", "kind", "name"].map(|member| one[member].as_str().unwrap()).join(" "))
        .collect();
    all.sort();
    all
}

/// Name and whether it runs.
async fn rules(server: &Server) -> Vec<(String, bool)> {
    let rows = server.sql("SELECT name, enabled FROM system.rules ORDER BY name").await.unwrap();
    rows.iter().map(|row| (row[0].as_str().unwrap().to_owned(), row[1].as_bool().unwrap())).collect()
}

async fn devices(server: &Server) -> Vec<String> {
    let rows = server.sql("SELECT device FROM seen ORDER BY device").await.unwrap();
    rows.iter().map(|row| row[0].as_str().unwrap().to_owned()).collect()
}

async fn see(home: &Home, device: &str) {
    publish(home.port, "tester", &format!("seen/{device}"), &["{\"v\": 1}".to_owned()]).await;
}

fn on(name: &str) -> (String, bool) {
    (name.to_owned(), true)
}

#[tokio::test(flavor = "multi_thread")]
async fn files_say_what_is_in_force() {
    let (home, server) = served();
    let both = [("counts.sql", COUNTS), ("echo.sql", ECHO)];
    let creates = ["create rule echo", "create rule see", "create table seen"];
    assert_eq!(changes(&apply(&server, &both, true).await), creates);
    assert_eq!(rules(&server).await, [], "a dry run changes nothing");
    assert_eq!(changes(&apply(&server, &both, false).await), creates);
    assert_eq!(rules(&server).await, [on("echo"), on("see")]);
    assert_eq!(changes(&apply(&server, &both, false).await), [""; 0], "the same files are nothing to do");

    // One of two files is broken: neither is applied.
    let broken = [("counts.sql", "CREATE RULE see AS SELECT FROM 'seen/+' INTO seen;"), ("new.sql", ECHO)];
    let refused = apply(&server, &broken, false).await;
    assert_eq!(refused["findings"][0]["file"], "counts.sql", "{refused}");
    assert_eq!(refused["findings"][0]["line"], 1, "{refused}");
    assert_eq!(rules(&server).await, [on("echo"), on("see")]);

    see(&home, "1").await;
    until("the rule runs", async || devices(&server).await == ["1"]).await;

    // A file that is gone takes its rules with it, but neither tables nor rows.
    assert_eq!(changes(&apply(&server, &[("echo.sql", ECHO)], false).await), ["drop rule see"]);
    assert_eq!(rules(&server).await, [on("echo")]);
    assert_eq!(devices(&server).await, ["1"]);
    assert_eq!(changes(&apply(&server, &both, false).await), ["create rule see"]);

    server.post("/rules/see/disable", &json!({})).await.unwrap();
    assert_eq!(rules(&server).await, [on("echo"), ("see".to_owned(), false)]);
    see(&home, "2").await;
    server.kill();
    let server = home.start();
    assert_eq!(rules(&server).await, [on("echo"), ("see".to_owned(), false)], "after a restart");
    server.post("/rules/see/enable", &json!({})).await.unwrap();
    see(&home, "3").await;
    until("the rule runs again", async || devices(&server).await.contains(&"3".to_owned())).await;
    assert_eq!(devices(&server).await, ["1", "3"], "a rule that rests sees nothing");
}

/// As it circulates: the first action is not closed, and a comma is left over.
const DOCUMENT: &str = r#"{
  "sql": "SELECT * FROM 'macdonald/#'",
  "actions": [
    {
      "dynamoDB": {
        "tableName": "farm",
        "hashKeyField": "kind",
        "hashKeyValue": "${topic(2)}",
        "rangeKeyField": "at",
        "rangeKeyValue": "${timestamp()}",
    },
    {
      "firehose": { "deliveryStreamName": "farm_lake" }
    }
  ]
}"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_document_says_where_and_what_to_do() {
    let (_home, server) = served();
    let refused = apply(&server, &[("farm.json", DOCUMENT)], false).await;
    let findings = refused["findings"].as_array().unwrap_or_else(|| panic!("{refused}"));
    let text = |finding: &Value, member: &str| finding[member].as_str().unwrap_or_default().to_owned();
    let all: Vec<String> = findings.iter().map(|one| text(one, "rendered")).collect();
    let close = findings.iter().find(|one| text(one, "rendered").contains("close the `dynamoDB` action with `}`"));
    let close = close.unwrap_or_else(|| panic!("{}", all.join("\n")));
    assert_eq!(close["line"], 12, "{}", all.join("\n"));
    assert!(close["column"].as_u64() > Some(0), "{close}");
    assert_eq!(rules(&server).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payload_that_is_no_json_is_an_error_with_a_name_and_a_place() {
    let (home, server) = served();
    changes(&apply(&server, &[("counts.sql", COUNTS)], false).await);
    let payload = r#"{"v": 1 "w": 2}"#;
    publish(home.port, "clumsy", "seen/7", &[payload.to_owned()]).await;
    let sql = "SELECT topic, client_id, rule, message FROM system.errors";
    until("it is told", async || server.sql(sql).await.is_ok_and(|rows| !rows.is_empty())).await;
    let rows = server.sql(sql).await.unwrap();
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!(rows[0][..3], ["seen/7", "clumsy", "see"], "{rows:?}");
    assert!(rows[0][3].as_str().unwrap().contains("byte 8"), "{rows:?}");
    // As with AWS, its members are Undefined: what the rule takes from elsewhere is there.
    until("the row comes", async || devices(&server).await == ["7"]).await;
    let row = server.sql("SELECT * FROM seen").await.unwrap();
    assert!(!serde_json::json!(row).to_string().contains('1'), "{row:?}");
}
