//! What a lake sink is told: where it lies, how it cuts files, how much it may hold back, and how to reach its store.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::schema::LakeType;

/// A secret, resolved from wherever it is kept. It shows in no log, error or `Debug` output.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a resolved secret.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// How the files of a lake are put together into a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Delta Lake: Parquet files and a transaction log, which also keeps the sink's mark.
    #[default]
    Delta,
    /// Parquet files alone in `_date=…` folders. The name of a file holds the epochs it covers.
    Parquet,
}

/// A column fixed by the column list of `CREATE SINK`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeclaredColumn {
    /// Name as written.
    pub name: String,
    /// Type as written.
    pub data_type: LakeType,
}

/// How to reach an S3-compatible store. Secrets come resolved.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// URL of the service, when it is not AWS (`http://127.0.0.1:9000`).
    pub endpoint: Option<String>,
    /// Region; `us-east-1` when absent.
    pub region: Option<String>,
    /// Allows an endpoint without TLS.
    pub allow_http: bool,
    /// Access key id. Without one, requests are not signed.
    pub access_key_id: Option<Secret>,
    /// Secret access key.
    pub secret_access_key: Option<Secret>,
    /// Session token of temporary credentials.
    pub session_token: Option<Secret>,
    /// Longest time for one request.
    pub request_timeout: Duration,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            endpoint: None,
            region: None,
            allow_http: false,
            access_key_id: None,
            secret_access_key: None,
            session_token: None,
            request_timeout: Duration::from_secs(30),
        }
    }
}

/// Settings of one lake sink. [`LakeConfig::new`] gives the defaults.
#[derive(Clone, Debug)]
pub struct LakeConfig {
    /// Name of the sink. It is the `appId` of its Delta transactions, so it must not change while the table lives.
    pub name: String,
    /// A folder, or `s3://bucket/prefix`.
    pub url: String,
    /// Delta, or plain Parquet.
    pub format: Format,
    /// Columns with a fixed type; others are inferred.
    pub columns: Vec<DeclaredColumn>,
    /// Seals a file at this many rows.
    pub roll_rows: usize,
    /// Seals a file at this many bytes in memory.
    pub roll_bytes: usize,
    /// Seals a file when its oldest row is this old.
    pub roll_age: Duration,
    /// Most columns inferred or declared; members beyond go to `_rescued`.
    pub max_columns: usize,
    /// Most bytes of sealed files that wait for the store; beyond them `append` says full.
    pub max_backlog_bytes: u64,
    /// Most bytes of rows on their way to the lake's thread; beyond them `append` says full.
    pub max_queued_bytes: usize,
    /// Local folder of this sink alone, for sealed files and their manifest.
    pub spool_dir: PathBuf,
    /// How to reach the store.
    pub store: StoreOptions,
    /// Longest time for one attempt to reach the store, upload and commit.
    pub attempt_timeout: Duration,
    /// First pause after a failed attempt; it doubles up to `max_backoff`.
    pub min_backoff: Duration,
    /// Longest pause between attempts.
    pub max_backoff: Duration,
    /// Longest time `close` waits for commits.
    pub close_timeout: Duration,
}

impl LakeConfig {
    /// Defaults for a sink of this name, place and spool folder.
    pub fn new(name: impl Into<String>, url: impl Into<String>, spool_dir: impl Into<PathBuf>) -> Self {
        Self {
            name: name.into(),
            url: url.into(),
            format: Format::Delta,
            columns: Vec::new(),
            roll_rows: 1_000_000,
            roll_bytes: 64 << 20,
            roll_age: Duration::from_secs(60),
            max_columns: 256,
            max_backlog_bytes: 10 << 30,
            max_queued_bytes: 32 << 20,
            spool_dir: spool_dir.into(),
            store: StoreOptions::default(),
            attempt_timeout: Duration::from_secs(120),
            min_backoff: Duration::from_millis(500),
            max_backoff: Duration::from_secs(30),
            close_timeout: Duration::from_secs(10),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_do_not_show() {
        let mut config = LakeConfig::new("farm", "s3://farm/x", "spool");
        config.store.secret_access_key = Some(Secret::new("hunter2"));
        config.store.access_key_id = Some(Secret::new("AKIA"));
        let shown = format!("{config:?}");
        assert!(!shown.contains("hunter2") && !shown.contains("AKIA"), "{shown}");
    }
}
