//! Paths and methods, and reading request bodies within their limits.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::Request;
use axum::http::{Method, StatusCode, Uri};
use axum::middleware;
use axum::routing::{delete, get, post};
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;

use super::error::HttpError;
use super::guard::guard;
use super::{Api, Token, dead_letters, destinations, health, metrics, queues, rules, sql, tables};

/// What every call shares.
pub(super) struct Shared {
    pub(super) api: Api,
    pub(super) token: Token,
    pub(super) listen: IpAddr,
    pub(super) allowed_hosts: Vec<String>,
    pub(super) requests: Arc<Semaphore>,
    pub(super) max_body: usize,
    pub(super) read_timeout: Duration,
}

pub(super) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/health", get(health::health))
        .route("/metrics", get(metrics::metrics))
        .route("/sql", post(sql::sql))
        .route("/tables/{table}/{hash}", get(tables::by_hash))
        .route("/tables/{table}/{hash}/{range}", get(tables::by_range))
        .route("/rules", get(rules::list))
        .route("/rules/apply", post(rules::apply))
        .route("/rules/check", post(rules::check))
        .route("/rules/{name}", delete(rules::delete))
        .route("/rules/{name}/enable", post(rules::enable))
        .route("/rules/{name}/disable", post(rules::disable))
        .route("/dead-letters/replay", post(dead_letters::replay))
        .route("/dead-letters/drop", post(dead_letters::drop))
        .route("/destinations/{name}/{change}", post(destinations::change))
        .route("/confirmdestination/{token}", get(destinations::agree).post(destinations::agree))
        .route("/queues", get(queues::list))
        .route("/queues/{queue}/receive", post(queues::receive))
        .route("/queues/{queue}/delete", post(queues::delete))
        .route("/queues/{queue}/visibility", post(queues::visibility))
        .route("/queues/{queue}/send", post(queues::send))
        .route("/queues/{queue}/purge", post(queues::purge))
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .layer(middleware::from_fn_with_state(Arc::clone(&shared), guard))
        .with_state(shared)
}

async fn no_such_path(uri: Uri) -> HttpError {
    HttpError::new(StatusCode::NOT_FOUND, format!("there is no {}", uri.path()))
        .hint("there are /sql, /tables/{table}/{hash}[/{range}], /rules, /dead-letters/replay, /dead-letters/drop, /destinations/{name}/{enable|disable|confirm}, /queues, /metrics, /health")
}

async fn no_such_method(method: Method, uri: Uri) -> HttpError {
    let hint = match uri.path() {
        "/sql" => "send the query as the body of a POST",
        _ => "GET reads, POST changes, DELETE drops",
    };
    HttpError::new(StatusCode::METHOD_NOT_ALLOWED, format!("{method} is not for {}", uri.path())).hint(hint)
}

/// The whole body, if it comes in time and is not too large.
pub(super) async fn read_body(shared: &Shared, request: Request) -> Result<Bytes, HttpError> {
    let body = axum::body::to_bytes(request.into_body(), shared.max_body);
    match tokio::time::timeout(shared.read_timeout, body).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(_)) => {
            let message = format!("the body is larger than {} bytes, or was cut off", shared.max_body);
            Err(HttpError::new(StatusCode::PAYLOAD_TOO_LARGE, message).hint("http.max_body is the limit"))
        }
        Err(_) => Err(HttpError::new(StatusCode::REQUEST_TIMEOUT, "the body did not come in time")),
    }
}

/// The body as JSON, whatever its content type says.
pub(super) async fn read_json<T: DeserializeOwned>(shared: &Shared, request: Request) -> Result<T, HttpError> {
    let bytes = read_body(shared, request).await?;
    serde_json::from_slice(&bytes)
        .map_err(|error| HttpError::new(StatusCode::BAD_REQUEST, format!("the body is not as expected: {error}")))
}
