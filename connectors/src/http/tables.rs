//! `GET /tables/{table}/{hash}[/{range}]`: one row of a key-value table as JSON.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::error::HttpError;
use super::routes::Shared;
use crate::query::{KeyValueTables, NoRow};

/// A key as it stands in a URL; the table's declared type says what it means.
pub type KeyText<'a> = &'a str;

/// Reads rows by key.
pub trait TableReader: Send + Sync {
    /// The row as the text of a JSON object. May read the disk.
    fn row(&self, table: &str, hash: KeyText<'_>, range: Option<KeyText<'_>>) -> Result<Vec<u8>, NoRow>;
}

impl TableReader for KeyValueTables {
    fn row(&self, table: &str, hash: KeyText<'_>, range: Option<KeyText<'_>>) -> Result<Vec<u8>, NoRow> {
        KeyValueTables::row(self, table, hash, range)
    }
}

pub(super) async fn by_hash(
    State(shared): State<Arc<Shared>>,
    Path((table, hash)): Path<(String, String)>,
) -> Result<Response, HttpError> {
    row(shared, table, hash, None).await
}

pub(super) async fn by_range(
    State(shared): State<Arc<Shared>>,
    Path((table, hash, range)): Path<(String, String, String)>,
) -> Result<Response, HttpError> {
    row(shared, table, hash, Some(range)).await
}

async fn row(shared: Arc<Shared>, table: String, hash: String, range: Option<String>) -> Result<Response, HttpError> {
    let reader = Arc::clone(&shared.api.tables);
    let read = tokio::task::spawn_blocking(move || reader.row(&table, &hash, range.as_deref())).await;
    let internal =
        || HttpError::new(StatusCode::INTERNAL_SERVER_ERROR, "reading the table failed; see the server's log");
    match read.map_err(|_| internal())? {
        Ok(json) => Ok(([(header::CONTENT_TYPE, "application/json")], json).into_response()),
        Err(error) => Err(match error {
            NoRow::Table(_) => HttpError::new(StatusCode::NOT_FOUND, error.to_string()).hint("SHOW TABLES lists them"),
            NoRow::Row(_) => HttpError::new(StatusCode::NOT_FOUND, error.to_string()),
            NoRow::Key(_) => HttpError::new(StatusCode::BAD_REQUEST, error.to_string()),
            NoRow::Store(_) => HttpError::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
        }),
    }
}
