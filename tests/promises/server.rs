//! `hedgerow serve` in a folder of its own, and the witnesses: SQL over HTTP, `log inspect`.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// The binary under test: the one that was built with the tests, or `HEDGEROW_TEST_BINARY`.
fn binary() -> OsString {
    std::env::var_os("HEDGEROW_TEST_BINARY").unwrap_or_else(|| env!("CARGO_BIN_EXE_hedgerow").into())
}

/// A start replays the log; a debug build on a busy machine takes its time.
const START: Duration = Duration::from_secs(60);
/// The data folder, which the server is given relative to its own, as users do.
const DATA: &str = "data";
/// How long a condition may take to come true.
pub const SOON: Duration = Duration::from_secs(30);

/// A data folder with its settings and rules, across restarts.
pub struct Home {
    folder: TempDir,
    /// The MQTT port, the same at every start.
    pub port: u16,
    settings: String,
}

/// Settings that make everything happen often.
const BUSY: &str = r#"
[engine]
workers = 2
checkpoint_interval = "500ms"
[lake]
roll_age = "500ms"
[logging]
level = "warn"
"#;

impl Home {
    /// A folder whose server follows these rules.
    pub fn new(rules: &str) -> Self {
        let home = Self::with_settings(BUSY);
        home.follow(rules);
        home
    }

    /// Makes the server follow these rules.
    pub fn follow(&self, rules: &str) {
        std::fs::create_dir_all(self.rules()).unwrap();
        std::fs::write(self.rules().join("rules.sql"), rules).unwrap();
    }

    /// A folder without a rules folder.
    pub fn with_settings(settings: &str) -> Self {
        Self::inside(&std::env::temp_dir(), settings)
    }

    /// The same on the disk of another folder.
    pub fn inside(parent: &Path, settings: &str) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        Self { folder: tempfile::tempdir_in(parent).unwrap(), port, settings: settings.to_owned() }
    }

    /// The rules folder.
    pub fn rules(&self) -> PathBuf {
        self.folder.path().join("rules")
    }

    /// The data folder.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join(DATA)
    }

    /// Gives this folder the log of another one, and nothing else.
    pub fn take_log_of(&self, other: &Home) {
        copy_folder(&other.data().join("log"), &self.data().join("log"));
    }

    fn command(&self) -> Command {
        let settings = self.folder.path().join("hedgerow.toml");
        std::fs::write(&settings, &self.settings).unwrap();
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.log_lines()).unwrap();
        let mut command = Command::new(binary());
        command.current_dir(self.folder.path()).arg("--config").arg(settings).args(["--data", DATA]);
        command.args(["serve", "--http", "127.0.0.1:0", "--mqtt"]).arg(format!("127.0.0.1:{}", self.port));
        if self.rules().exists() {
            command.arg("--rules").arg(self.rules());
        }
        command.stdout(Stdio::piped()).stderr(log);
        command
    }

    fn log_lines(&self) -> PathBuf {
        self.folder.path().join("server.log")
    }

    /// What the server said of itself, the last of it.
    pub fn last_words(&self) -> String {
        let text = std::fs::read_to_string(self.log_lines()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// Starts the server.
    pub fn start(&self) -> Server {
        self.start_with(&[]).unwrap_or_else(|status| panic!("the server ends with {status}:\n{}", self.last_words()))
    }

    /// Starts the server with these environment variables; an error is its end before it was ready.
    pub fn start_with(&self, environment: &[(&str, String)]) -> Result<Server, ExitStatus> {
        let mut child = self.command().envs(environment.iter().cloned()).spawn().unwrap();
        let (sender, lines) = mpsc::channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || stdout.lines().map_while(Result::ok).for_each(|line| drop(sender.send(line))));
        // From here on it is killed when this function panics.
        let (http, token, client) = (String::new(), String::new(), reqwest::Client::new());
        let mut server = Server { child, http, token, client };
        while server.token.is_empty() {
            match lines.recv_timeout(START) {
                Ok(line) => match line.split_once(' ') {
                    Some(("http", address)) => server.http = address.to_owned(),
                    Some(("token", file)) => {
                        let token = std::fs::read_to_string(self.folder.path().join(file)).unwrap();
                        server.token = token.trim().to_owned();
                    }
                    _ => {}
                },
                Err(mpsc::RecvTimeoutError::Disconnected) => return Err(server.child.wait().unwrap()),
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    panic!("the server is not ready after {START:?}:\n{}", self.last_words());
                }
            }
        }
        Ok(server)
    }

    /// Every record of the log, as `log inspect` shows it; also while a server runs.
    pub fn records(&self) -> Vec<Record> {
        let mut command = Command::new(binary());
        let out =
            command.args(["log", "inspect", "--records", "--json"]).arg(self.data().join("log")).output().unwrap();
        assert!(out.status.success(), "log inspect: {}", String::from_utf8_lossy(&out.stderr));
        let text = String::from_utf8(out.stdout).unwrap();
        text.lines().map(|line| Record::read(&serde_json::from_str(line).unwrap())).collect()
    }
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_folder(&path, &target);
        } else {
            std::fs::copy(&path, &target).unwrap();
        }
    }
}

/// A record of the log.
#[derive(Clone, Debug)]
pub struct Record {
    pub epoch: u64,
    pub offset: u64,
    pub kind: String,
    pub topic: String,
    pub origin: String,
    pub payload: String,
}

impl Record {
    fn read(json: &Value) -> Self {
        let text = |name: &str| json[name].as_str().unwrap_or_default().to_owned();
        Self {
            epoch: json["epoch"].as_u64().unwrap(),
            offset: json["offset"].as_u64().unwrap(),
            kind: text("kind"),
            topic: text("topic"),
            origin: text("origin"),
            payload: text("payload"),
        }
    }

    /// The number that the publisher gave it.
    pub fn seq(&self) -> u64 {
        let payload: Value = serde_json::from_str(&self.payload).unwrap();
        payload["seq"].as_u64().unwrap()
    }
}

/// A running server. Dropping it kills it.
pub struct Server {
    child: Child,
    http: String,
    token: String,
    client: reqwest::Client,
}

/// A row of a result.
pub type Row = Vec<Value>;

impl Server {
    /// SIGKILL.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and the end in order that it asks for.
    pub fn stop(mut self) -> ExitStatus {
        let asked = Command::new("kill").arg("-TERM").arg(self.child.id().to_string()).status().unwrap();
        assert!(asked.success());
        self.child.wait().unwrap()
    }

    /// Waits for the server to end by itself, and returns the signal that ended it.
    pub fn wait_for_end(&mut self, wait: Duration) -> Option<i32> {
        let until = Instant::now() + wait;
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.signal();
            }
            std::thread::park_timeout(Duration::from_millis(10));
        }
        None
    }

    /// The rows of a query.
    pub async fn sql(&self, sql: &str) -> Result<Vec<Row>, String> {
        let request = self.client.post(format!("{}/sql", self.http)).body(sql.to_owned());
        let answer = self.send(request).await?;
        if let Some(error) = answer["error"].as_str() {
            return Err(error.to_owned());
        }
        assert_ne!(answer["truncated"], Value::Bool(true), "{sql}: the result is cut");
        serde_json::from_value(answer["rows"].clone()).map_err(|error| format!("{sql}: {error}"))
    }

    /// `POST` with a JSON body; the answer's body, whatever its status.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value, String> {
        self.send(self.client.post(format!("{}{path}", self.http)).json(body)).await
    }

    /// `/health`'s word for how the server is.
    pub async fn health(&self) -> String {
        let answer = self.send(self.client.get(format!("{}/health", self.http))).await;
        answer.map_or_else(|error| error, |report| report["status"].as_str().unwrap_or_default().to_owned())
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<Value, String> {
        let response = request.bearer_auth(&self.token).send().await.map_err(|error| error.to_string())?;
        response.json().await.map_err(|error| error.to_string())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks again and again until nothing is wrong any more; returns what is still wrong at the end.
pub async fn until_right(wait: Duration, mut wrong: impl AsyncFnMut() -> Vec<String>) -> Vec<String> {
    let until = Instant::now() + wait;
    loop {
        let found = wrong().await;
        if found.is_empty() || Instant::now() >= until {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Waits for a condition.
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let wrong = until_right(SOON, async || if holds().await { Vec::new() } else { vec![what.to_owned()] }).await;
    assert!(wrong.is_empty(), "not within {SOON:?}: {what}");
}
