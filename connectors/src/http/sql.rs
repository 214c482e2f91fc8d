//! `POST /sql`: the query is the body, as text or as `{"sql": "…"}`; `Accept` chooses JSON, CSV or an Arrow stream.

use std::sync::Arc;

use arrow::array::RecordBatch;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::stream;
use serde::Deserialize;

use super::encode::{Encoder, Format};
use super::error::HttpError;
use super::routes::{Shared, read_body};
use crate::query::{QueryError, Rows};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SqlRequest {
    sql: String,
}

pub(super) async fn sql(State(shared): State<Arc<Shared>>, request: Request) -> Result<Response, HttpError> {
    let format = accepted(request.headers())?;
    let body = read_body(&shared, request).await?;
    let text = query_text(&body)?;
    let mut rows = shared.api.query.run(&text).await?;
    // What fails before the first row fails with a status of its own.
    let first = rows.next().await.transpose()?;
    let encoder = Encoder::new(format, rows.schema());
    let answer = Answer { first, rows, encoder };
    let pieces = stream::try_unfold(Some(answer), async |left| match left {
        Some(answer) => answer.next().await,
        None => Ok(None),
    });
    let body = Body::from_stream(pieces);
    Ok(([(header::CONTENT_TYPE, format.content_type())], body).into_response())
}

/// The body is JSON if it looks so: no SQL begins with a brace.
fn query_text(body: &Bytes) -> Result<String, HttpError> {
    let bad = |message: String| HttpError::new(StatusCode::BAD_REQUEST, message);
    let text = std::str::from_utf8(body).map_err(|error| bad(format!("the query is not UTF-8: {error}")))?;
    if !text.trim_start().starts_with('{') {
        return Ok(text.to_owned());
    }
    let request: SqlRequest =
        serde_json::from_str(text).map_err(|error| bad(format!("the body is not {{\"sql\": \"…\"}}: {error}")))?;
    Ok(request.sql)
}

fn accepted(headers: &HeaderMap) -> Result<Format, HttpError> {
    let Some(accept) = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()) else {
        return Ok(Format::Json);
    };
    let wanted = accept.split(',').map(|part| part.split(';').next().unwrap_or("").trim().to_ascii_lowercase());
    wanted.into_iter().find_map(|media| Format::of(&media)).ok_or_else(|| {
        HttpError::new(StatusCode::NOT_ACCEPTABLE, format!("no answer in {}", accept.escape_debug()))
            .hint("Accept: application/json, text/csv or application/vnd.apache.arrow.stream")
    })
}

/// The answer being written.
struct Answer {
    /// Rows not yet written.
    first: Option<RecordBatch>,
    /// Where more come from.
    rows: Rows,
    encoder: Encoder,
}

/// A piece of the answer and what is left of it: nothing after the end or an error.
type Piece = Result<Option<(Bytes, Option<Answer>)>, QueryError>;

impl Answer {
    /// An error in JSON is the last member of the answer; in CSV and Arrow, which have no room for one, it breaks the
    /// transfer off, so that a part never looks like the whole. The same holds for a result that was cut.
    async fn next(mut self) -> Piece {
        loop {
            let next = match self.first.take() {
                Some(batch) => Some(Ok(batch)),
                None => self.rows.next().await,
            };
            let piece = match next {
                Some(Ok(batch)) => self.encoder.rows(&batch),
                Some(Err(error)) => return self.encoder.failed(error).map(|piece| Some((piece, None))),
                None => return self.encoder.end(self.rows.is_cut()).map(|piece| Some((piece, None))),
            };
            match piece {
                Ok(piece) if piece.is_empty() => {}
                Ok(piece) => return Ok(Some((piece, Some(self)))),
                Err(error) => return self.encoder.failed(error).map(|piece| Some((piece, None))),
            }
        }
    }
}
