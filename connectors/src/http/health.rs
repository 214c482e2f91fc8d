//! `GET /health`: the one call without a token. It tells what is wrong, never a secret.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use super::routes::Shared;

/// Tells how the server is. Calls are short and never wait for I/O.
pub trait HealthSource: Send + Sync {
    /// Now.
    fn health(&self) -> HealthReport;
}

/// How the server is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthState {
    /// All well.
    #[default]
    Ready,
    /// Messages are taken and acknowledged, but something else needs attention.
    Degraded,
    /// Messages are not acknowledged: starting, stopping, the log failed, or the disk is full.
    Unready,
}

/// The answer of `GET /health`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthReport {
    /// In one word.
    pub status: HealthState,
    /// Why it is not ready.
    pub problems: Vec<Problem>,
}

/// One thing that needs attention.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// `log`, `gateway`, `rules`, or `sink <name>`.
    pub component: String,
    /// What is wrong and what to do; no secrets.
    pub message: String,
}

/// 200 when messages are acknowledged, else 503, as load balancers expect it.
pub(super) async fn health(State(shared): State<Arc<Shared>>) -> (StatusCode, Json<HealthReport>) {
    let report = shared.api.health.health();
    let status = match report.status {
        HealthState::Ready | HealthState::Degraded => StatusCode::OK,
        HealthState::Unready => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, Json(report))
}
