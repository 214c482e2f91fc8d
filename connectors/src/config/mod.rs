//! Settings: one TOML file over embedded defaults, then the environment.
//!
//! The embedded `hedgerow.toml` holds every key with its default and its documentation, so a key exists if and only if it
//! is explained there. Knows files and environment variables; does not know what the settings are used for.

mod load;
mod secrets;
mod units;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;

pub use load::{ConfigError, Mistake, Origin};
pub use secrets::{Secret, SecretError, SecretSource, Secrets};
pub use units::{ByteSize, Span};

/// The embedded default file; also the manual.
pub const DEFAULT_FILE: &str = include_str!("../hedgerow.toml");

/// All settings. Each section is documented in [`DEFAULT_FILE`].
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "each is a section of the default file")]
pub struct Config {
    pub data: DataConfig,
    pub log: LogSection,
    pub http: HttpConfig,
    pub engine: EngineConfig,
    pub rules: RulesConfig,
    pub lake: LakeDefaults,
    pub query: QueryConfig,
    pub logging: LoggingConfig,
    pub secrets: Secrets,
}

/// `[data]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "each is a key of the default file")]
pub struct DataConfig {
    pub folder: PathBuf,
}

/// When a publish is acknowledged.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum DurabilityWord {
    /// After the sync.
    Sync,
    /// After the write.
    Write,
    /// When queued.
    None,
}

/// `[log]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "each is a key of the default file")]
pub struct LogSection {
    pub durability: DurabilityWord,
    pub segment: ByteSize,
    pub commit_window: Span,
    pub max_queued: ByteSize,
    pub keep_bytes: ByteSize,
    pub keep_age: Span,
    pub min_free: ByteSize,
    pub reserve: ByteSize,
    pub max_clock_jump: Span,
}

/// `[http]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "each is a key of the default file")]
pub struct HttpConfig {
    pub listen: SocketAddr,
    pub token_file: PathBuf,
    pub allowed_hosts: Vec<String>,
    pub max_body: ByteSize,
    pub read_timeout: Span,
    pub max_connections: usize,
    pub max_requests: usize,
    pub shutdown_timeout: Span,
}

/// `[engine]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "each is a key of the default file")]
pub struct EngineConfig {
    pub workers: usize,
    pub step_rows: usize,
    pub step_bytes: ByteSize,
    pub in_flight: ByteSize,
    pub checkpoint_interval: Span,
    pub max_hops: u8,
    pub max_keys: usize,
}

/// `[rules]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "each is a key of the default file")]
pub struct RulesConfig {
    pub folder: PathBuf,
    pub watch: bool,
    pub watch_interval: Span,
}

/// `[lake]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "each is a key of the default file")]
pub struct LakeDefaults {
    pub folder: PathBuf,
    pub roll_rows: u64,
    pub roll_bytes: ByteSize,
    pub roll_age: Span,
    pub max_backlog: ByteSize,
    pub max_columns: usize,
    pub store_timeout: Span,
}

/// `[query]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "each is a key of the default file")]
pub struct QueryConfig {
    pub memory: ByteSize,
    pub timeout: Span,
    pub max_rows: usize,
    pub max_queries: usize,
    pub threads: usize,
    pub batch_rows: usize,
}

/// `[logging]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "each is a key of the default file")]
pub struct LoggingConfig {
    pub level: String,
    pub format: LogFormat,
}

/// How Hedgerow's own log lines look.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
}

impl Config {
    /// The folder of the ingest log.
    pub fn log_folder(&self) -> PathBuf {
        self.data.folder.join("log")
    }

    /// The file with the access token of the HTTP API.
    pub fn token_file(&self) -> PathBuf {
        or_in(&self.http.token_file, &self.data.folder, "http.token")
    }

    /// Where a lake sink without a path writes.
    pub fn lake_folder(&self) -> PathBuf {
        or_in(&self.lake.folder, &self.data.folder, "lake")
    }

    /// The rules folder, if one is set.
    pub fn rules_folder(&self) -> Option<PathBuf> {
        (!self.rules.folder.as_os_str().is_empty()).then(|| self.rules.folder.clone())
    }

    /// Worker threads of the dataflow, 0 resolved to the number of cores.
    pub fn workers(&self) -> usize {
        cores_or(self.engine.workers)
    }

    /// Threads of one query, 0 resolved to the number of cores.
    pub fn query_threads(&self) -> usize {
        cores_or(self.query.threads)
    }

    /// What a single key cannot say about itself: limits that must be positive or fit each other.
    fn check(&self) -> Vec<(&'static str, String)> {
        let mut wrong = Vec::new();
        let mut require = |ok: bool, key: &'static str, message: &str| {
            if !ok {
                wrong.push((key, message.to_owned()));
            }
        };
        require(!self.data.folder.as_os_str().is_empty(), "data.folder", "needs a folder");
        require(self.log.segment.0 >= 1 << 20, "log.segment", "must be at least 1MiB");
        require(self.log.max_queued.0 >= 1 << 20, "log.max_queued", "must be at least 1MiB");
        require(self.log.reserve.0 <= self.log.min_free.0, "log.reserve", "must not exceed log.min_free");
        require(self.log.keep_bytes.0 >= self.log.segment.0, "log.keep_bytes", "must be at least log.segment");
        require(self.engine.step_rows > 0, "engine.step_rows", "must be at least 1");
        require(self.engine.step_bytes.0 > 0, "engine.step_bytes", "must be more than nothing");
        require(
            self.engine.in_flight.0 >= self.engine.step_bytes.0,
            "engine.in_flight",
            "must be at least engine.step_bytes",
        );
        require(
            !self.engine.checkpoint_interval.0.is_zero(),
            "engine.checkpoint_interval",
            "must be more than nothing",
        );
        require(!self.rules.watch_interval.0.is_zero(), "rules.watch_interval", "must be more than nothing");
        require(self.lake.roll_rows > 0, "lake.roll_rows", "must be at least 1");
        require(!self.query.timeout.0.is_zero(), "query.timeout", "must be more than nothing");
        require(self.query.memory.0 >= 16 << 20, "query.memory", "must be at least 16MiB");
        require(self.query.max_rows > 0, "query.max_rows", "must be at least 1");
        require(self.query.max_queries > 0, "query.max_queries", "must be at least 1");
        require(self.query.batch_rows > 0, "query.batch_rows", "must be at least 1");
        require(self.http.max_requests > 0, "http.max_requests", "must be at least 1");
        require(self.http.max_connections > 0, "http.max_connections", "must be at least 1");
        wrong
    }
}

fn or_in(path: &std::path::Path, folder: &std::path::Path, name: &str) -> PathBuf {
    if path.as_os_str().is_empty() { folder.join(name) } else { path.to_owned() }
}

fn cores_or(configured: usize) -> usize {
    match configured {
        0 => std::thread::available_parallelism().map_or(1, |cores| cores.get()),
        n => n,
    }
}

/// Environment variables, as `std::env::vars()` gives them.
pub type Environment = BTreeMap<String, String>;
