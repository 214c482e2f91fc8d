//! The one form of every error: `{"error": …, "hint": …, "position": {"line": …, "column": …}}`.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use super::rules::{Finding, RuleError};
use crate::query::{Position, QueryError, QueryErrorKind};

/// An error as the client sees it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// What is wrong.
    pub error: String,
    /// What to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Where in the SQL text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<Position>,
    /// Rule files: everything that is wrong in them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,
}

/// An error with its HTTP status.
#[derive(Clone, Debug)]
pub(super) struct HttpError {
    status: StatusCode,
    body: Box<ErrorBody>,
}

impl HttpError {
    pub(super) fn new(status: StatusCode, error: impl Into<String>) -> Self {
        Self { status, body: Box::new(ErrorBody { error: error.into(), ..ErrorBody::default() }) }
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.body.hint = Some(hint.into());
        self
    }
}

impl IntoResponse for HttpError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(*self.body)).into_response();
        let headers = response.headers_mut();
        match self.status {
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"hedgerow\""));
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        response
    }
}

impl From<QueryError> for ErrorBody {
    fn from(error: QueryError) -> Self {
        Self { error: error.message, hint: error.hint, position: error.position, findings: Vec::new() }
    }
}

impl From<QueryError> for HttpError {
    fn from(error: QueryError) -> Self {
        let status = match error.kind {
            QueryErrorKind::Refused => StatusCode::BAD_REQUEST,
            QueryErrorKind::Failed => StatusCode::UNPROCESSABLE_ENTITY,
            QueryErrorKind::TimedOut => StatusCode::REQUEST_TIMEOUT,
            QueryErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self { status, body: Box::new(error.into()) }
    }
}

impl From<RuleError> for HttpError {
    fn from(error: RuleError) -> Self {
        let message = error.to_string();
        match error {
            RuleError::Refused(findings) => {
                let mut refused = Self::new(StatusCode::UNPROCESSABLE_ENTITY, message);
                refused.body.findings = findings;
                refused
            }
            RuleError::Unknown { .. } => Self::new(StatusCode::NOT_FOUND, message),
            RuleError::Conflict(_) => Self::new(StatusCode::CONFLICT, message),
            RuleError::Unavailable(_) => Self::new(StatusCode::SERVICE_UNAVAILABLE, message),
        }
    }
}
