//! The demo's server: this very program as a process of its own, which can be killed.
//!
//! The server is told to end with its standard input. The demo holds the other end, so that however the demo ends, be it
//! by SIGKILL, no server stays behind.

use std::fs::OpenOptions;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use hedgerow_connectors::http::Token;
use hedgerow_connectors::http::client::Client;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::folder::Folder;

/// A start, with the replay of what was logged, may take this long.
const START: Duration = Duration::from_secs(60);
/// A stop in order may take this long.
const STOP: Duration = Duration::from_secs(20);
/// So many last lines of the server's log are shown when it fails.
const LAST_WORDS: usize = 15;

/// A running server.
pub struct Server {
    process: Child,
    /// Its standard input: closing it asks the server to stop.
    leash: Option<ChildStdin>,
    /// Its standard output, held open.
    _output: Lines<BufReader<ChildStdout>>,
    log: PathBuf,
    /// Where MQTT is.
    pub mqtt: SocketAddr,
    /// Where HTTP is.
    pub http: SocketAddr,
    /// HTTP, with the token.
    pub client: Client,
}

impl Server {
    /// Starts a server in `folder`, and returns when it takes messages.
    pub async fn start(folder: &Folder) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("where this program is")?;
        let log = OpenOptions::new().create(true).append(true).open(folder.server_log())?;
        let mut command = Command::new(program);
        command.args(["serve", "--until-eof", "--config"]).arg(folder.settings());
        // Its settings are those of its file. Bugs that a debug build is told to have are for the server.
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with("HEDGEROW_") && name != "HEDGEROW_BUG") {
                command.env_remove(name);
            }
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log).kill_on_drop(true);
        // Ctrl-C in the terminal is for the demo, which then stops its server itself.
        #[cfg(unix)]
        command.process_group(0);
        let mut process = command.spawn().context("starting the server")?;
        let leash = process.stdin.take();
        let mut output = BufReader::new(process.stdout.take().context("the server's output")?).lines();
        let said = tokio::time::timeout(START, announcement(&mut output)).await;
        let Ok(Ok(said)) = said else {
            let _ = process.start_kill();
            bail!("the server did not start. Its last words:\n{}", last_words(&folder.server_log()));
        };
        let client = Client::new(said.http, Token::load(&said.token)?);
        Ok(Self { process, leash, _output: output, log: folder.server_log(), mqtt: said.mqtt, http: said.http, client })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.id().unwrap_or_default()
    }

    /// Fails if the server has ended by itself.
    pub fn check(&mut self) -> anyhow::Result<()> {
        match self.process.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("the server ended by itself: {status}. Its last words:\n{}", last_words(&self.log)),
        }
    }

    /// Kills it with SIGKILL: it gets no chance to do anything.
    pub async fn kill(mut self) -> anyhow::Result<()> {
        self.process.start_kill()?;
        self.process.wait().await?;
        Ok(())
    }

    /// Stops it in order; when it takes too long, without.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        self.leash = None;
        if tokio::time::timeout(STOP, self.process.wait()).await.is_err() {
            self.process.start_kill()?;
            self.process.wait().await?;
        }
        Ok(())
    }
}

/// What a server says when it is ready.
struct Announcement {
    mqtt: SocketAddr,
    http: SocketAddr,
    token: PathBuf,
}

async fn announcement(output: &mut Lines<BufReader<ChildStdout>>) -> anyhow::Result<Announcement> {
    let mut line = async |name: &str| -> anyhow::Result<String> {
        let line = output.next_line().await?.context("the server ended")?;
        let value = line.strip_prefix(name).with_context(|| format!("the server said: {line}"))?;
        Ok(value.trim().to_owned())
    };
    let mqtt = line("mqtt ").await?.parse()?;
    let http = line("http http://").await?.parse()?;
    let token = line("token ").await?.into();
    Ok(Announcement { mqtt, http, token })
}

fn last_words(log: &std::path::Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let last = lines.get(lines.len().saturating_sub(LAST_WORDS)..).unwrap_or_default();
    format!("{}\n(all of it: {})", last.join("\n"), log.display())
}
