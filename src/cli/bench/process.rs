//! A broker as a process of its own, on a temporary folder and free ports.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use hedgerow_connectors::http::Token;
use hedgerow_connectors::http::client::Client;
use tempfile::TempDir;

/// A running broker; killed when dropped.
pub struct Process {
    child: Child,
    _folder: TempDir,
    /// Where MQTT is.
    pub mqtt: SocketAddr,
    http: Option<(SocketAddr, PathBuf)>,
}

impl Process {
    /// This build, with these rules.
    pub fn hedgerow(rules: &str) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let rules_folder = folder.path().join("rules");
        std::fs::create_dir(&rules_folder)?;
        std::fs::write(rules_folder.join("bench.sql"), rules)?;
        let mut child = Command::new(std::env::current_exe()?)
            .current_dir(folder.path())
            .args(["serve", "--mqtt", "127.0.0.1:0", "--http", "127.0.0.1:0", "--data", "data", "--rules", "rules"])
            .stdout(Stdio::piped())
            .spawn()?;
        let output = child.stdout.take().context("no output of the server")?;
        let (mut mqtt, mut http, mut token) = (None, None, None);
        for line in BufReader::new(output).lines() {
            let line = line?;
            match line.split_once(' ') {
                Some(("mqtt", address)) => mqtt = Some(address.parse()?),
                Some(("http", address)) => http = Some(address.trim_start_matches("http://").parse()?),
                Some(("token", file)) => token = Some(folder.path().join(file)),
                _ => {}
            }
            if token.is_some() {
                break;
            }
        }
        match (mqtt, http.zip(token)) {
            (Some(mqtt), http @ Some(_)) => Ok(Self { child, _folder: folder, mqtt, http }),
            _ => bail!("the server did not start; see above"),
        }
    }

    /// A mosquitto, if one is installed.
    pub fn mosquitto() -> anyhow::Result<Option<Self>> {
        let folder = tempfile::tempdir()?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let file = folder.path().join("mosquitto.conf");
        std::fs::write(&file, format!("listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\n"))?;
        let program = ["mosquitto", "/usr/sbin/mosquitto"].into_iter().find_map(|program| {
            Command::new(program).arg("-c").arg(&file).stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()
        });
        let Some(child) = program else { return Ok(None) };
        let process = Self { child, _folder: folder, mqtt: SocketAddr::from(([127, 0, 0, 1], port)), http: None };
        let end = Instant::now() + Duration::from_secs(5);
        while TcpStream::connect(process.mqtt).is_err() {
            anyhow::ensure!(Instant::now() < end, "mosquitto does not listen");
            std::thread::yield_now();
        }
        Ok(Some(process))
    }

    /// A client of the HTTP API.
    pub fn client(&self) -> anyhow::Result<Client> {
        let (address, token) = self.http.as_ref().context("no HTTP")?;
        Ok(Client::new(address, Token::load(token)?))
    }

    /// User and system time so far, of all threads.
    pub fn cpu_time(&self) -> anyhow::Result<Duration> {
        // proc(5): fields 14 and 15, counted after the command's closing parenthesis, in ticks of 1/100 s.
        let stat = self.proc("stat")?;
        let (_, fields) = stat.rsplit_once(')').context("unreadable stat")?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<u64>().ok()).unwrap_or_default();
        Ok(Duration::from_millis((ticks(11) + ticks(12)) * 10))
    }

    /// Memory in use.
    pub fn resident_bytes(&self) -> anyhow::Result<u64> {
        let status = self.proc("status")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kib << 10)
    }

    fn proc(&self, file: &str) -> anyhow::Result<String> {
        let path = format!("/proc/{}/{file}", self.child.id());
        std::fs::read_to_string(&path).with_context(|| format!("{path}: CPU time is only known on Linux"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
