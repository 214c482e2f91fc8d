//! Destinations that have to agree: `GET /confirmdestination/{token}`, which their receivers call, and
//! `POST /destinations/{name}/{enable|disable|confirm}`, by hand. They are read as the relation `system.destinations`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use super::error::HttpError;
use super::routes::Shared;

/// The path of confirmations, which needs no token of the API: what follows it is one.
pub(super) const CONFIRM: &str = "/confirmdestination/";

/// What is to become of a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DestinationChange {
    /// It is sent to, whatever it has said.
    Enable,
    /// It is not sent to; its rows wait.
    Disable,
    /// It is asked again, with another token.
    Confirm,
}

/// What became of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DestinationReport {
    /// Its sink.
    pub name: String,
    /// `IN_PROGRESS`, `ENABLED`, `DISABLED` or `ERROR`.
    pub state: String,
}

/// Why a destination was not changed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum DestinationError {
    /// There is none of that name.
    #[error("no destination \"{name}\"{}", nearest.as_ref().map(|near| format!("; did you mean \"{near}\"?")).unwrap_or_default())]
    Unknown {
        /// As it was asked for.
        name: String,
        /// One that there is.
        nearest: Option<String>,
    },
    /// It is sent to without having agreed.
    #[error("{0} need not confirm: it is always sent to. Disable the rules that write to it, or drop it")]
    NeedsNone(String),
    /// It cannot be kept.
    #[error("{0}")]
    Store(String),
}

/// Changes destinations. Calls may write to the disk.
pub trait DestinationControl: Send + Sync {
    /// A receiver shows the token that it was sent; none if it is nobody's.
    ///
    /// # Errors
    /// When the agreement cannot be kept.
    fn agree(&self, token: &str) -> Result<Option<DestinationReport>, String>;
    /// Somebody changes a destination.
    ///
    /// # Errors
    /// When there is no such destination, or it cannot be kept.
    fn change(&self, name: &str, change: DestinationChange) -> Result<DestinationReport, DestinationError>;
}

type Answer = Result<Json<DestinationReport>, HttpError>;

pub(super) async fn agree(State(shared): State<Arc<Shared>>, Path(token): Path<String>) -> Answer {
    let control = Arc::clone(&shared.api.destinations);
    let agreed = tokio::task::spawn_blocking(move || control.agree(&token)).await;
    let failed = |reason: String| HttpError::new(StatusCode::SERVICE_UNAVAILABLE, reason);
    match agreed.map_err(|error| failed(error.to_string()))?.map_err(failed)? {
        Some(report) => Ok(Json(report)),
        None => Err(HttpError::new(StatusCode::NOT_FOUND, "no destination waits for this confirmation")
            .hint("the token of the newest request counts, and only for a while: have the destination asked again")),
    }
}

pub(super) async fn change(State(shared): State<Arc<Shared>>, Path((name, change)): Path<(String, String)>) -> Answer {
    let change = match change.as_str() {
        "enable" => DestinationChange::Enable,
        "disable" => DestinationChange::Disable,
        "confirm" => DestinationChange::Confirm,
        other => {
            let message = format!("a destination cannot be told to {}", other.escape_debug());
            return Err(HttpError::new(StatusCode::NOT_FOUND, message).hint("there are enable, disable and confirm"));
        }
    };
    let control = Arc::clone(&shared.api.destinations);
    let changed = tokio::task::spawn_blocking(move || control.change(&name, change)).await;
    let lost = |error: tokio::task::JoinError| DestinationError::Store(error.to_string());
    match changed.map_err(lost).and_then(|changed| changed) {
        Ok(report) => Ok(Json(report)),
        Err(error) => {
            let status = match &error {
                DestinationError::Unknown { .. } => StatusCode::NOT_FOUND,
                DestinationError::NeedsNone(_) => StatusCode::CONFLICT,
                DestinationError::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
            };
            Err(HttpError::new(status, error.to_string()))
        }
    }
}
