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

use hedgerow_storage::lake::LakeConfig;
use hedgerow_storage::log::{Durability, LogConfig};
use serde::Deserialize;

use crate::calls::config::{CallsConfig, Destinations, Grants};
use crate::gateway::GatewayConfig;
use crate::outside::AllowPrivate;

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
    pub gateway: GatewayConfig,
    pub http: HttpConfig,
    pub engine: EngineConfig,
    pub rules: RulesConfig,
    pub lake: LakeDefaults,
    pub outside: OutsideConfig,
    pub query: QueryConfig,
    pub logging: LoggingConfig,
    pub calls: CallsConfig,
    pub lambdas: Destinations,
    pub predictors: Destinations,
    pub grants: Grants,
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
    pub compress: bool,
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
    pub public_url: String,
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
    pub roll_rows: usize,
    pub roll_bytes: ByteSize,
    pub roll_age: Span,
    pub max_backlog: ByteSize,
    pub max_columns: usize,
    pub attempt_timeout: Span,
    pub max_backoff: Span,
}

/// `[outside]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "each is a key of the default file")]
pub struct OutsideConfig {
    pub allow_private: Vec<AllowPrivate>,
    pub connect_timeout: Span,
    pub timeout: Span,
    pub retry_for: Span,
    pub max_backoff: Span,
    pub max_backlog: ByteSize,
    pub max_dead_letters: ByteSize,
    pub dead_letter_age: Span,
    pub confirm_for: Span,
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
    /// The ingest log's settings; its folder is `log` in the data folder.
    pub fn log_config(&self) -> LogConfig {
        let log = &self.log;
        LogConfig {
            dir: self.data.folder.join("log"),
            durability: match log.durability {
                DurabilityWord::Sync => Durability::Sync,
                DurabilityWord::Write => Durability::Write,
                DurabilityWord::None => Durability::None,
            },
            segment_bytes: log.segment.0,
            commit_window: log.commit_window.0,
            max_queued_bytes: log.max_queued.as_usize(),
            compress: log.compress,
            keep_bytes: log.keep_bytes.0,
            keep_age: log.keep_age.0,
            min_free_bytes: log.min_free.0,
            reserve_bytes: log.reserve.0,
            max_clock_jump: log.max_clock_jump.0,
        }
    }

    /// The file with the access token of the HTTP API.
    pub fn token_file(&self) -> PathBuf {
        or_in(&self.http.token_file, &self.data.folder, "http.token")
    }

    /// Where a lake sink without a path writes.
    pub fn lake_folder(&self) -> PathBuf {
        or_in(&self.lake.folder, &self.data.folder, "lake")
    }

    /// The settings of a lake sink as far as they do not stand in its CREATE SINK. Files that wait for the store are in
    /// `spool/<name>` in the data folder.
    pub fn lake_config(&self, name: &str, url: &str) -> LakeConfig {
        let mut config = LakeConfig::new(name, url, self.data.folder.join("spool").join(file_name(name)));
        config.roll_rows = self.lake.roll_rows;
        config.roll_bytes = self.lake.roll_bytes.as_usize();
        config.roll_age = self.lake.roll_age.0;
        config.max_columns = self.lake.max_columns;
        config.max_backlog_bytes = self.lake.max_backlog.0;
        config.attempt_timeout = self.lake.attempt_timeout.0;
        config.max_backoff = self.lake.max_backoff.0;
        config
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
        let outside = [
            ("outside.connect_timeout", self.outside.connect_timeout),
            ("outside.timeout", self.outside.timeout),
            ("outside.max_backoff", self.outside.max_backoff),
            ("outside.confirm_for", self.outside.confirm_for),
        ];
        for (key, span) in outside {
            require(!span.0.is_zero(), key, "must be more than nothing");
        }
        let public = self.http.public_url.as_str();
        let is_url = url::Url::parse(public).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
        require(public.is_empty() || is_url, "http.public_url", "must be like https://hedgerow.example.com");
        require(!self.query.timeout.0.is_zero(), "query.timeout", "must be more than nothing");
        require(self.query.memory.0 >= 16 << 20, "query.memory", "must be at least 16MiB");
        require(self.query.max_rows > 0, "query.max_rows", "must be at least 1");
        require(self.query.max_queries > 0, "query.max_queries", "must be at least 1");
        require(self.query.batch_rows > 0, "query.batch_rows", "must be at least 1");
        require(self.http.max_body.0 > 0, "http.max_body", "must be more than nothing");
        require(self.engine.workers <= 256, "engine.workers", "must be at most 256");
        require(
            !self.lake.folder.to_string_lossy().contains("://"),
            "lake.folder",
            "is a folder; a sink has its own `url`",
        );
        let level = "is \"error\", \"warn\", \"info\", \"debug\", \"trace\" or \"off\", or a list with module=level";
        require(self.logging.level.split(',').all(is_level), "logging.level", level);
        require(self.http.max_requests > 0, "http.max_requests", "must be at least 1");
        require(self.http.max_connections > 0, "http.max_connections", "must be at least 1");
        let calls = &self.calls;
        require(!calls.timeout.0.is_zero(), "calls.timeout", "must be more than nothing");
        require(calls.concurrency > 0, "calls.concurrency", "must be at least 1");
        require(calls.queue > 0, "calls.queue", "must be at least 1");
        require(calls.max_answer.0 <= 64 << 20, "calls.max_answer", "must be at most 64MiB");
        let gateway = self.gateway.check().err().map(|message| ("", message));
        wrong.extend(gateway);
        wrong
    }
}

/// Whether this is a level of logging, for all or for a module.
fn is_level(directive: &str) -> bool {
    let (module, level) = directive.rsplit_once('=').unwrap_or(("all", directive));
    let levels = ["off", "error", "warn", "info", "debug", "trace"];
    !module.trim().is_empty() && levels.iter().any(|known| level.trim().eq_ignore_ascii_case(known))
}

fn or_in(path: &std::path::Path, folder: &std::path::Path, name: &str) -> PathBuf {
    if path.as_os_str().is_empty() { folder.join(name) } else { path.to_owned() }
}

/// A name as a file name of its own, whatever characters are in it.
fn file_name(name: &str) -> String {
    let escape = |c: char| match c {
        'a'..='z' | '0'..='9' | '_' | '-' => c.to_string(),
        other => format!("%{:x}.", u32::from(other)),
    };
    name.chars().map(escape).collect()
}

fn cores_or(configured: usize) -> usize {
    match configured {
        0 => std::thread::available_parallelism().map_or(1, |cores| cores.get()),
        n => n,
    }
}

/// Environment variables, as `std::env::vars()` gives them.
pub type Environment = BTreeMap<String, String>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_sinks_never_share_a_folder() {
        let names = ["farm", "Farm", "../farm", "fa/rm", "%46.arm", "é"];
        let folders: std::collections::BTreeSet<String> = names.map(file_name).into_iter().collect();
        assert_eq!(folders.len(), names.len());
        assert!(folders.iter().all(|name| !name.contains('/') && !name.contains("..")), "{folders:?}");
        let config = Config::defaults().unwrap();
        assert!(config.lake_config("Farm", "s3://farm").spool_dir.ends_with("spool/%46.arm"));
    }
}
