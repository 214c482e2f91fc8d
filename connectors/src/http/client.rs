//! The HTTP API from the other side, for the command line.

use std::collections::BTreeMap;

use reqwest::header::ACCEPT;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::dead_letters::{LetterReport, Which};
use super::destinations::DestinationReport;
use super::health::HealthReport;
use super::queues::{Messages, Purged, ReceiptReport, Receipts, ReceiveRequest, SendRequest, Sent};
use super::rules::{ApplyReport, ApplyRequest, CheckReport, CheckRequest, Finding, RuleList};
use super::{ErrorBody, Token};
use crate::query::system::RuleStatus;

/// Talks to a running server.
#[derive(Clone, Debug)]
pub struct Client {
    base: String,
    token: Token,
    http: reqwest::Client,
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answers there.
    #[error("no server answers at {base}: {source}")]
    Unreachable {
        /// Where.
        base: String,
        /// Why.
        source: reqwest::Error,
    },
    /// The server refused or failed.
    #[error("{}{}", body.error, body.hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default())]
    Answer {
        /// HTTP status.
        status: u16,
        /// Its words.
        body: ErrorBody,
    },
    /// What came back is not what a Hedgerow server of this version sends.
    #[error("{base} answers, but not like this version of Hedgerow: {reason}")]
    Strange {
        /// Where.
        base: String,
        /// What is wrong.
        reason: String,
    },
}

impl ClientError {
    /// What is wrong with the rule files, when that is why they were refused.
    pub fn findings(&self) -> Option<&[Finding]> {
        match self {
            Self::Answer { body, .. } if !body.findings.is_empty() => Some(&body.findings),
            _ => None,
        }
    }
}

/// The result of a query.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SqlResult {
    /// Columns in order.
    pub columns: Vec<SqlColumn>,
    /// Rows, each with a value per column.
    pub rows: Vec<Vec<serde_json::Value>>,
    /// There were more than `query.max_rows`.
    #[serde(default)]
    pub truncated: bool,
}

/// One column of a result.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SqlColumn {
    /// Its name.
    pub name: String,
    /// Its SQL type.
    #[serde(rename = "type")]
    pub ty: String,
}

/// A result that broke off: what came, and why there is no more.
#[derive(Deserialize)]
struct SqlAnswer {
    #[serde(flatten)]
    result: SqlResult,
    #[serde(flatten)]
    failure: Option<ErrorBody>,
}

impl Client {
    /// A client of the server at this address, e.g. `127.0.0.1:8080`.
    pub fn new(address: impl std::fmt::Display, token: Token) -> Self {
        Self { base: format!("http://{address}"), token, http: reqwest::Client::new() }
    }

    /// Runs a query.
    pub async fn sql(&self, sql: &str) -> Result<SqlResult, ClientError> {
        let answer: SqlAnswer = self.json(self.request(Method::POST, "/sql").body(sql.to_owned())).await?;
        match answer.failure {
            None => Ok(answer.result),
            Some(body) => Err(ClientError::Answer { status: StatusCode::OK.as_u16(), body }),
        }
    }

    /// Runs a query and returns the body as it is, in the format that `accept` names (`text/csv`, …).
    pub async fn sql_as(&self, sql: &str, accept: &str) -> Result<Vec<u8>, ClientError> {
        let response =
            self.send(self.request(Method::POST, "/sql").header(ACCEPT, accept).body(sql.to_owned())).await?;
        let bytes = response.bytes().await.map_err(|error| self.strange(&error))?;
        Ok(bytes.to_vec())
    }

    /// Applies rule files (name → text) as one change.
    pub async fn rules_apply(
        &self,
        files: BTreeMap<String, String>,
        dry_run: bool,
    ) -> Result<ApplyReport, ClientError> {
        self.json(self.request(Method::POST, "/rules/apply").json(&ApplyRequest { files, dry_run })).await
    }

    /// Checks rule files.
    pub async fn rules_check(&self, files: BTreeMap<String, String>) -> Result<CheckReport, ClientError> {
        self.json(self.request(Method::POST, "/rules/check").json(&CheckRequest { files })).await
    }

    /// All rules.
    pub async fn rules_list(&self) -> Result<Vec<RuleStatus>, ClientError> {
        let list: RuleList = self.json(self.request(Method::GET, "/rules")).await?;
        Ok(list.rules)
    }

    /// Enables or disables a rule.
    pub async fn rules_set_enabled(&self, name: &str, enabled: bool) -> Result<ApplyReport, ClientError> {
        let word = if enabled { "enable" } else { "disable" };
        self.json(self.request(Method::POST, &format!("/rules/{}/{word}", segment(name)))).await
    }

    /// Drops a rule.
    pub async fn rules_drop(&self, name: &str) -> Result<ApplyReport, ClientError> {
        self.json(self.request(Method::DELETE, &format!("/rules/{}", segment(name)))).await
    }

    /// Sends dead letters again.
    pub async fn dead_letters_replay(&self, which: &Which) -> Result<LetterReport, ClientError> {
        self.json(self.request(Method::POST, "/dead-letters/replay").json(which)).await
    }

    /// Removes dead letters.
    pub async fn dead_letters_drop(&self, which: &Which) -> Result<LetterReport, ClientError> {
        self.json(self.request(Method::POST, "/dead-letters/drop").json(which)).await
    }

    /// Changes a destination: `enable`, `disable` or `confirm`.
    pub async fn change_destination(&self, name: &str, change: &str) -> Result<DestinationReport, ClientError> {
        self.json(self.request(Method::POST, &format!("/destinations/{}/{change}", segment(name)))).await
    }

    /// Receives messages of a queue.
    pub async fn queue_receive(&self, queue: &str, request: &ReceiveRequest) -> Result<Messages, ClientError> {
        self.json(self.request(Method::POST, &format!("/queues/{}/receive", segment(queue))).json(request)).await
    }

    /// Deletes messages by their receipts.
    pub async fn queue_delete(&self, queue: &str, receipts: &Receipts) -> Result<ReceiptReport, ClientError> {
        self.json(self.request(Method::POST, &format!("/queues/{}/delete", segment(queue))).json(receipts)).await
    }

    /// Sends messages.
    pub async fn queue_send(&self, queue: &str, request: &SendRequest) -> Result<Sent, ClientError> {
        self.json(self.request(Method::POST, &format!("/queues/{}/send", segment(queue))).json(request)).await
    }

    /// Removes all messages of a queue.
    pub async fn queue_purge(&self, queue: &str) -> Result<Purged, ClientError> {
        self.json(self.request(Method::POST, &format!("/queues/{}/purge", segment(queue)))).await
    }

    /// How the server is.
    pub async fn health(&self) -> Result<HealthReport, ClientError> {
        let response = self.http.get(format!("{}/health", self.base)).send().await.map_err(|e| self.unreachable(e))?;
        response.json().await.map_err(|error| self.strange(&error))
    }

    /// Prometheus text.
    pub async fn metrics(&self) -> Result<String, ClientError> {
        let response = self.send(self.request(Method::GET, "/metrics")).await?;
        response.text().await.map_err(|error| self.strange(&error))
    }

    /// One row of a key-value table as JSON text; `None` if there is none.
    pub async fn row(&self, table: &str, hash: &str, range: Option<&str>) -> Result<Option<String>, ClientError> {
        let mut path = format!("/tables/{}/{}", segment(table), segment(hash));
        if let Some(range) = range {
            path.push('/');
            path.push_str(&segment(range));
        }
        match self.send(self.request(Method::GET, &path)).await {
            Ok(response) => response.text().await.map(Some).map_err(|error| self.strange(&error)),
            Err(ClientError::Answer { status: 404, body }) if body.error.starts_with("no row") => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base)).bearer_auth(self.token.reveal())
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        let response = request.send().await.map_err(|error| self.unreachable(error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = response.json().await.map_err(|error| self.strange(&error))?;
        Err(ClientError::Answer { status: status.as_u16(), body })
    }

    async fn json<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, ClientError> {
        self.send(request).await?.json().await.map_err(|error| self.strange(&error))
    }

    fn unreachable(&self, source: reqwest::Error) -> ClientError {
        ClientError::Unreachable { base: self.base.clone(), source: source.without_url() }
    }

    fn strange(&self, error: &reqwest::Error) -> ClientError {
        let reason = std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string);
        ClientError::Strange { base: self.base.clone(), reason }
    }
}

/// One segment of a path, with everything escaped that is not plain.
fn segment(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            _ => {
                const HEX: &[u8; 16] = b"0123456789ABCDEF";
                let digit = |nibble: u8| HEX.get(usize::from(nibble)).copied().map_or('0', char::from);
                out.extend(['%', digit(byte >> 4), digit(byte & 15)]);
            }
        }
    }
    out
}
