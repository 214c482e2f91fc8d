//! Calls against a server of our own: what is slow, broken, too much or too large is an answer.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use crossbeam_channel::Receiver;

use super::*;
use crate::config::Environment;

#[derive(Clone, Default)]
struct Seen {
    now: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
    all: Arc<AtomicUsize>,
}

/// Answers with what it was asked, after `wait` milliseconds if that says so.
async fn echo(State(seen): State<Seen>, headers: HeaderMap, body: String) -> (StatusCode, String) {
    seen.all.fetch_add(1, Ordering::SeqCst);
    seen.most.fetch_max(seen.now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
    let asked: serde_json::Value = serde_json::from_str(&body).unwrap();
    if let Some(ms) = asked["wait"].as_u64() {
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }
    seen.now.fetch_sub(1, Ordering::SeqCst);
    let status = asked["status"].as_u64().and_then(|code| StatusCode::from_u16(u16::try_from(code).ok()?).ok());
    let body = match asked["answer"].as_str() {
        Some("text") => "not json".to_owned(),
        Some("large") => format!("\"{}\"", "x".repeat(2 << 20)),
        Some("who") => serde_json::json!(headers.get("authorization").map(|who| who.to_str().unwrap())).to_string(),
        _ => body,
    };
    (status.unwrap_or(StatusCode::OK), body)
}

async fn serve(seen: Seen) -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let router = Router::new().route("/", post(echo)).with_state(seen);
    tokio::spawn(async move { axum::serve(listener, router).await });
    port
}

fn calls(port: u16, more: &str) -> Calls {
    let text = format!(
        "[calls]\ntimeout = \"300ms\"\nconcurrency = 2\nqueue = 6\nrest = \"10s\"\nrest_after = 3\n\
         [outside]\nallow_private = [\"127.0.0.1:{port}\", \"127.0.0.1:9\"]\n\
         [lambdas]\necho = {{ url = \"http://127.0.0.1:{port}/\" }}\n\
         kept = {{ url = \"http://127.0.0.1:{port}/\", cache_age = \"1h\", bearer = \"key\" }}\n\
         dead = {{ url = \"http://127.0.0.1:9/\" }}\n{more}"
    );
    let config = Config::read(Some((std::path::Path::new("test.toml"), &text)), &Environment::new()).unwrap();
    Calls::new(&config, tokio::runtime::Handle::current()).unwrap()
}

fn ask(calls: &Calls, name: &str, body: &str) -> Receiver<(u64, Answer)> {
    let body = json::parse(body.as_bytes(), Dialect::Aws2016).unwrap();
    let request = Request { function: "aws_lambda".into(), args: vec![name.into(), body] };
    let (sender, answers) = crossbeam_channel::bounded(1);
    calls.ask(&"rule".into(), &request, Reply::to(sender));
    answers
}

async fn answer(calls: &Calls, name: &str, body: &str) -> Answer {
    let answers = ask(calls, name, body);
    tokio::task::spawn_blocking(move || answers.recv_timeout(Duration::from_secs(10)).unwrap().1).await.unwrap()
}

async fn reason(calls: &Calls, name: &str, body: &str) -> String {
    answer(calls, name, body).await.unwrap_err()
}

const KEY: &str = "[secrets]\nkey = { file = \"KEYFILE\" }\n";

/// A file with a secret, and the section that names it.
fn key(folder: &tempfile::TempDir) -> String {
    let path = folder.path().join("key");
    std::fs::write(&path, "hunter2").unwrap();
    KEY.replace("KEYFILE", &path.to_string_lossy())
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_comes_is_an_answer() {
    let (seen, folder) = (Seen::default(), tempfile::tempdir().unwrap());
    let calls = calls(serve(seen.clone()).await, &key(&folder));
    let value = answer(&calls, "echo", r#"{"n":9007199254740993,"d":1.50}"#).await.unwrap();
    assert_eq!(json::to_text(&value, MAX_TEXT).unwrap(), r#"{"n":9007199254740993,"d":1.50}"#);
    let arn = "arn:aws:lambda:eu-west-1:123456789012:function:echo:prod";
    assert_eq!(answer(&calls, arn, "[1]").await.unwrap(), Value::array(vec![Value::Int(1)]));
    assert_eq!(reason(&calls, "echo", r#"{"status":500}"#).await, "echo: it answered with HTTP 500");
    assert_eq!(reason(&calls, "echo", r#"{"status":302}"#).await, "echo: it answered with HTTP 302");
    assert!(reason(&calls, "echo", r#"{"answer":"text"}"#).await.starts_with("echo: the answer is not JSON"));
    assert!(reason(&calls, "echo", r#"{"answer":"large"}"#).await.contains("longer than 1048576 bytes"));
    assert_eq!(reason(&calls, "echo", r#"{"wait":5000}"#).await, "no answer of echo within 300ms");
    assert!(reason(&calls, "nowhere", "{}").await.contains("add it to [lambdas]"));
    assert_eq!(answer(&calls, "kept", r#"{"answer":"who"}"#).await.unwrap(), Value::from("Bearer hunter2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_at_once_than_it_takes_and_no_more_in_line_than_fit() {
    let (seen, folder) = (Seen::default(), tempfile::tempdir().unwrap());
    let calls = calls(serve(seen.clone()).await, &key(&folder));
    let bodies: Vec<String> = (0..8).map(|n| format!("{{\"n\":{n},\"wait\":100}}")).collect();
    let under_way: Vec<_> = bodies.iter().map(|body| ask(&calls, "echo", body)).collect();
    let answers: Vec<Answer> = tokio::task::spawn_blocking(move || {
        under_way.into_iter().map(|one| one.recv_timeout(Duration::from_secs(10)).unwrap().1).collect()
    })
    .await
    .unwrap();
    let refused: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().err()).collect();
    assert_eq!(refused.len(), 2, "{refused:?}");
    assert!(refused[0].contains("calls.queue = 6"), "{refused:?}");
    assert_eq!((seen.all.load(Ordering::SeqCst), seen.most.load(Ordering::SeqCst)), (6, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_is_asked_once_while_the_answer_is_good() {
    let (seen, folder) = (Seen::default(), tempfile::tempdir().unwrap());
    let calls = calls(serve(seen.clone()).await, &key(&folder));
    for _ in 0..5 {
        answer(&calls, "kept", r#"{"n":1}"#).await.unwrap();
    }
    answer(&calls, "kept", r#"{"n":2}"#).await.unwrap();
    assert_eq!(seen.all.load(Ordering::SeqCst), 2);
    let mut metrics = Exposition::default();
    calls.collect(&mut metrics);
    let line = r#"hedgerow_calls_total{kind="lambdas",name="kept",outcome="cached"} 4"#;
    assert!(metrics.text().contains(line), "{}", metrics.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_one_gets_a_rest() {
    let folder = tempfile::tempdir().unwrap();
    let calls = calls(serve(Seen::default()).await, &key(&folder));
    for n in 0..3 {
        assert_eq!(reason(&calls, "dead", &n.to_string()).await, "dead cannot be asked: no connection");
    }
    assert!(reason(&calls, "dead", "4").await.contains("has not answered 3 calls in a row"));
    answer(&calls, "echo", "{}").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_for_those_to_whom_it_is_granted() {
    let folder = tempfile::tempdir().unwrap();
    let calls = calls(9, &format!("{}[grants]\nrule = [\"key\"]\n", key(&folder)));
    let get = |rule: &str, args: &[&str]| {
        let args: Vec<Value> = args.iter().map(|arg| Value::from(*arg)).collect();
        calls.secrets.get(rule, &args)
    };
    assert_eq!(get("rule", &["key", "SecretString", "role"]), Ok(Value::from("hunter2")));
    assert_eq!(get("rule", &["key", "SecretBinary", "role"]), Ok(Value::from("aHVudGVyMg==")));
    std::fs::write(folder.path().join("key"), r#"{"user":"farm","pin":7}"#).unwrap();
    assert_eq!(get("rule", &["key", "SecretString", "pin", "role"]), Ok(Value::Int(7)));
    let reasons = [
        get("other", &["key", "SecretString", "role"]),
        get("rule", &["other", "SecretString", "role"]),
        get("rule", &["key", "SecretBinary", "pin", "role"]),
        get("rule", &["key", "Secret", "role"]),
    ];
    for reason in reasons {
        let reason = reason.unwrap_err();
        assert!(!reason.contains("farm"), "{reason}");
    }
}

#[tokio::test]
async fn an_address_of_this_machine_is_closed_unless_it_is_opened() {
    let text = "[lambdas]\nmeta = { url = \"http://169.254.169.254/latest\" }\n";
    let config = Config::read(Some((std::path::Path::new("test.toml"), text)), &Environment::new()).unwrap();
    let refused = Calls::new(&config, tokio::runtime::Handle::current()).err().unwrap().to_string();
    assert!(refused.starts_with("[lambdas] meta: ") && refused.contains("link-local"), "{refused}");
}
