//! `/queues`: messages are received, deleted by their receipts, kept longer or given back, sent and purged.
//!
//! | call | body | answer |
//! |---|---|---|
//! | `GET /queues` | | all queues with their lengths |
//! | `POST /queues/{queue}/receive` | [`ReceiveRequest`] | [`Messages`] |
//! | `POST /queues/{queue}/delete` | [`Receipts`] | [`ReceiptReport`] |
//! | `POST /queues/{queue}/visibility` | [`VisibilityRequest`] | [`ReceiptReport`] |
//! | `POST /queues/{queue}/send` | [`SendRequest`] | [`Sent`] |
//! | `POST /queues/{queue}/purge` | | [`Purged`] |
//!
//! An empty body stands for `{}`. What was sent, deleted or purged is durable when the answer comes.

use std::sync::Arc;

use async_trait::async_trait;
use axum::Json;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::error::HttpError;
use super::routes::{Shared, read_body};
use crate::query::system::QueueStatus;

/// Messages and receipts of one call, at most.
pub const MOST: usize = 100;
/// The longest wait for a message, in seconds.
pub const MAX_WAIT_S: u32 = 20;
/// The longest invisibility of a message that was received, in seconds.
pub const MAX_VISIBILITY_S: u32 = 12 * 3_600;
/// The longest delay of a message that is sent, in seconds.
pub const MAX_DELAY_S: u32 = 900;

/// What is to be received.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReceiveRequest {
    /// At most so many messages; 1 to [`MOST`], 1 if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<usize>,
    /// Waits so long for the first; up to [`MAX_WAIT_S`] seconds.
    #[serde(default)]
    pub wait_s: u32,
    /// They are invisible to others for so long; the queue's own time if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub visibility_s: Option<u32>,
}

/// A message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// The same whenever it is received; of a rule's row, the row's id.
    pub id: String,
    /// For deleting it.
    pub receipt: String,
    /// What it says, if it is text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// What it says, in base64, if it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base64: Option<String>,
    /// When it came into this queue, milliseconds since 1970.
    pub sent_ms: u64,
    /// How often it was received, this time included.
    pub received: u32,
    /// When it was received first.
    pub first_received_ms: u64,
    /// When it is visible to others again.
    pub visible_ms: u64,
    /// The rule that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Topic of the MQTT message behind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// Client that published that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// The queue that it was received from too often.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_queue: Option<String>,
}

/// What was received.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Messages {
    /// Oldest first; may be none.
    pub messages: Vec<Message>,
}

/// Which messages, by the receipts they came with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipts {
    /// 1 to [`MOST`].
    pub receipts: Vec<String>,
}

/// For how long messages stay invisible from now on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VisibilityRequest {
    /// 1 to [`MOST`].
    pub receipts: Vec<String>,
    /// Seconds; 0 gives them back at once.
    pub visibility_s: u32,
}

/// What became of receipts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptReport {
    /// Deleted or changed.
    pub done: u64,
    /// The others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<RefusedReceipt>,
}

/// A receipt that does nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedReceipt {
    /// Which.
    pub receipt: String,
    /// Why.
    pub reason: String,
}

/// What is to be sent: all of it, or nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SendRequest {
    /// 1 to [`MOST`].
    pub messages: Vec<Outgoing>,
}

/// One message to send.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outgoing {
    /// What it says; or `base64`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// Bytes that are no text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base64: Option<String>,
    /// Invisible for so long; up to [`MAX_DELAY_S`] seconds; the queue's own delay if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_s: Option<u32>,
}

/// What was sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// In the order of the request.
    pub ids: Vec<String>,
}

/// What was purged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Purged {
    /// Messages.
    pub purged: u64,
}

/// All queues.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct QueueList {
    /// By name.
    pub queues: Vec<QueueStatus>,
}

/// Why a call did nothing.
#[derive(Clone, Debug, thiserror::Error)]
pub enum QueueError {
    /// There is no such queue.
    #[error("there is no queue {name}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// One that is called alike.
        nearest: Option<String>,
    },
    /// The request makes no sense.
    #[error("{0}")]
    Wrong(String),
    /// Too many messages are out, or too many callers wait.
    #[error("{0}")]
    TooMany(String),
    /// No room, or the store fails.
    #[error("{0}")]
    Unavailable(String),
}

impl From<QueueError> for HttpError {
    fn from(error: QueueError) -> Self {
        let message = error.to_string();
        match error {
            QueueError::Unknown { nearest, .. } => {
                let hint = match nearest {
                    Some(near) => format!("did you mean {near}?"),
                    None => "a queue is made by CREATE SINK … WITH (connector = 'queue')".to_owned(),
                };
                Self::new(StatusCode::NOT_FOUND, message).hint(hint)
            }
            QueueError::Wrong(_) => Self::new(StatusCode::BAD_REQUEST, message),
            QueueError::TooMany(_) => Self::new(StatusCode::TOO_MANY_REQUESTS, message),
            QueueError::Unavailable(_) => Self::new(StatusCode::SERVICE_UNAVAILABLE, message),
        }
    }
}

/// The queues of the server.
#[async_trait]
pub trait QueueControl: Send + Sync {
    /// All of them.
    async fn list(&self) -> Result<QueueList, QueueError>;
    /// Hands messages out; waits for the first if asked to.
    async fn receive(&self, queue: &str, request: ReceiveRequest) -> Result<Messages, QueueError>;
    /// Deletes messages.
    async fn delete(&self, queue: &str, request: Receipts) -> Result<ReceiptReport, QueueError>;
    /// Keeps messages longer, or gives them back.
    async fn change_visibility(&self, queue: &str, request: VisibilityRequest) -> Result<ReceiptReport, QueueError>;
    /// Puts messages in.
    async fn send(&self, queue: &str, request: SendRequest) -> Result<Sent, QueueError>;
    /// Removes all messages.
    async fn purge(&self, queue: &str) -> Result<Purged, QueueError>;
}

async fn read<T: DeserializeOwned>(shared: &Shared, request: Request) -> Result<T, HttpError> {
    let bytes = read_body(shared, request).await?;
    let text: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
    serde_json::from_slice(text)
        .map_err(|error| HttpError::new(StatusCode::BAD_REQUEST, format!("the body is not as expected: {error}")))
}

pub(super) async fn list(State(shared): State<Arc<Shared>>) -> Result<Json<QueueList>, HttpError> {
    Ok(Json(shared.api.queues.list().await?))
}

pub(super) async fn receive(
    State(shared): State<Arc<Shared>>,
    Path(queue): Path<String>,
    request: Request,
) -> Result<Json<Messages>, HttpError> {
    let request = read(&shared, request).await?;
    Ok(Json(shared.api.queues.receive(&queue, request).await?))
}

pub(super) async fn delete(
    State(shared): State<Arc<Shared>>,
    Path(queue): Path<String>,
    request: Request,
) -> Result<Json<ReceiptReport>, HttpError> {
    let request = read(&shared, request).await?;
    Ok(Json(shared.api.queues.delete(&queue, request).await?))
}

pub(super) async fn visibility(
    State(shared): State<Arc<Shared>>,
    Path(queue): Path<String>,
    request: Request,
) -> Result<Json<ReceiptReport>, HttpError> {
    let request = read(&shared, request).await?;
    Ok(Json(shared.api.queues.change_visibility(&queue, request).await?))
}

pub(super) async fn send(
    State(shared): State<Arc<Shared>>,
    Path(queue): Path<String>,
    request: Request,
) -> Result<Json<Sent>, HttpError> {
    let request = read(&shared, request).await?;
    Ok(Json(shared.api.queues.send(&queue, request).await?))
}

pub(super) async fn purge(
    State(shared): State<Arc<Shared>>,
    Path(queue): Path<String>,
) -> Result<Json<Purged>, HttpError> {
    Ok(Json(shared.api.queues.purge(&queue).await?))
}
