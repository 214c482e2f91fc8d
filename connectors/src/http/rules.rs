//! Rules over HTTP: the trait that the server implements, and what goes over the wire.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use axum::Json;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use super::error::HttpError;
use super::routes::{Shared, read_json};
use crate::query::system::RuleStatus;

/// Changes the catalog. A call returns when the change is in the log.
#[async_trait]
pub trait RuleControl: Send + Sync {
    /// Applies files as one change, all or nothing; a dry run tells what it would do.
    async fn apply(&self, request: ApplyRequest) -> Result<ApplyReport, RuleError>;
    /// Checks files as they stand, without the catalog being changed. Mistakes are the answer, not an error.
    async fn check(&self, files: BTreeMap<String, String>) -> Result<Vec<Finding>, RuleError>;
    /// All rules.
    async fn list(&self) -> Vec<RuleStatus>;
    /// Enables or disables a rule.
    async fn set_enabled(&self, name: &str, enabled: bool) -> Result<ApplyReport, RuleError>;
    /// Drops a rule.
    async fn drop_rule(&self, name: &str) -> Result<ApplyReport, RuleError>;
}

/// `POST /rules/apply`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApplyRequest {
    /// File name → text. The ending says the language: `.sql` or `.json`.
    pub files: BTreeMap<String, String>,
    /// Only tell what would change.
    #[serde(default)]
    pub dry_run: bool,
}

/// `POST /rules/check`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckRequest {
    /// File name → text.
    pub files: BTreeMap<String, String>,
}

/// What applying did, or would do.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ApplyReport {
    /// It was a dry run.
    pub dry_run: bool,
    /// The position in the log from which the change holds, µs of log time; none if nothing changed.
    pub epoch: Option<u64>,
    /// What became of each object that the files name, or that they no longer name.
    pub changes: Vec<Change>,
    /// Warnings.
    pub findings: Vec<Finding>,
}

/// What becomes of one object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// What happens.
    pub action: ChangeAction,
    /// `rule`, `table`, `sink`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// What is lost or kept by it: windows, timers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// What happens to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "each is its own name")]
pub enum ChangeAction {
    Create,
    Replace,
    Drop,
    Enable,
    Disable,
    Unchanged,
}

/// One mistake or warning in a rule file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// False: only a warning.
    pub fatal: bool,
    /// The file.
    pub file: String,
    /// From 1; 0 if it is about the whole file.
    pub line: u32,
    /// In characters, from 1; 0 if it is about the whole file.
    pub column: u32,
    /// What is wrong.
    pub message: String,
    /// What to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The same for a terminal: the line of the file with a caret below.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub rendered: String,
}

/// Why rules were not changed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RuleError {
    /// The files are wrong; nothing was changed.
    #[error("the rule files were refused; nothing was changed")]
    Refused(Vec<Finding>),
    /// No rule of this name.
    #[error("no rule \"{name}\"{}", nearest.as_ref().map(|near| format!("; did you mean \"{near}\"?")).unwrap_or_default())]
    Unknown {
        /// As it was asked for.
        name: String,
        /// One that there is.
        nearest: Option<String>,
    },
    /// Not in the state that the change needs, for example owned by the rules folder.
    #[error("{0}")]
    Conflict(String),
    /// The log takes no changes now.
    #[error("{0}")]
    Unavailable(String),
}

/// `GET /rules`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RuleList {
    /// All rules.
    pub rules: Vec<RuleStatus>,
}

/// The answer of `POST /rules/check`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CheckReport {
    /// No fatal finding.
    pub ok: bool,
    /// Mistakes and warnings.
    pub findings: Vec<Finding>,
}

type Answer<T> = Result<Json<T>, HttpError>;

pub(super) async fn apply(State(shared): State<Arc<Shared>>, request: Request) -> Answer<ApplyReport> {
    let request: ApplyRequest = read_json(&shared, request).await?;
    some_files(&request.files)?;
    Ok(Json(shared.api.rules.apply(request).await?))
}

pub(super) async fn check(State(shared): State<Arc<Shared>>, request: Request) -> Answer<CheckReport> {
    let request: CheckRequest = read_json(&shared, request).await?;
    some_files(&request.files)?;
    let findings = shared.api.rules.check(request.files).await?;
    Ok(Json(CheckReport { ok: !findings.iter().any(|finding| finding.fatal), findings }))
}

/// An empty apply would drop every rule that was applied over HTTP; nobody means that.
fn some_files(files: &BTreeMap<String, String>) -> Result<(), HttpError> {
    if files.is_empty() {
        return Err(HttpError::new(StatusCode::BAD_REQUEST, "no files given")
            .hint("send {\"files\": {\"name.sql\": \"CREATE RULE …\"}}; to drop a rule: DELETE /rules/{name}"));
    }
    for name in files.keys() {
        if !name.ends_with(".sql") && !name.ends_with(".json") {
            return Err(HttpError::new(StatusCode::BAD_REQUEST, format!("{name} is no rule file"))
                .hint("names end in .sql (native rules) or .json (AWS rule documents)"));
        }
    }
    Ok(())
}

pub(super) async fn list(State(shared): State<Arc<Shared>>) -> Json<RuleList> {
    Json(RuleList { rules: shared.api.rules.list().await })
}

pub(super) async fn enable(State(shared): State<Arc<Shared>>, Path(name): Path<String>) -> Answer<ApplyReport> {
    Ok(Json(shared.api.rules.set_enabled(&name, true).await?))
}

pub(super) async fn disable(State(shared): State<Arc<Shared>>, Path(name): Path<String>) -> Answer<ApplyReport> {
    Ok(Json(shared.api.rules.set_enabled(&name, false).await?))
}

pub(super) async fn delete(State(shared): State<Arc<Shared>>, Path(name): Path<String>) -> Answer<ApplyReport> {
    Ok(Json(shared.api.rules.drop_rule(&name).await?))
}
