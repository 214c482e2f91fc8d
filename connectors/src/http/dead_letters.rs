//! `POST /dead-letters/replay` and `/dead-letters/drop`: what is to become of rows that were given up. They are read as
//! the relation `dead_letters`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use super::error::HttpError;
use super::routes::{Shared, read_json};

/// Which letters: by number, of one sink, or all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Which {
    /// These numbers, the column `id` of `dead_letters`.
    #[serde(default)]
    pub ids: Vec<u64>,
    /// All of this sink.
    #[serde(default)]
    pub sink: Option<String>,
    /// All.
    #[serde(default)]
    pub all: bool,
}

impl Which {
    /// Whether a letter is one of them.
    pub fn has(&self, id: u64, sink: &str) -> bool {
        let named = self.ids.is_empty() || self.ids.contains(&id);
        named && self.sink.as_deref().is_none_or(|wanted| wanted == sink)
    }

    /// What is wrong with the choice, if nothing is chosen or too much.
    pub fn mistake(&self) -> Option<&'static str> {
        match (self.ids.is_empty() && self.sink.is_none(), self.all) {
            (true, false) => Some("say which: ids, a sink, or all"),
            (false, true) => Some("either all, or some: leave out one of the two"),
            _ => None,
        }
    }
}

/// What became of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LetterReport {
    /// Replayed or dropped.
    pub done: u64,
    /// Left as they are.
    pub skipped: u64,
    /// Why, for the first of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Changes dead letters. Calls may write to the disk.
pub trait LetterControl: Send + Sync {
    /// Puts letters back into the outbox of their destination, with no attempts behind them.
    ///
    /// # Errors
    /// When the store fails.
    fn replay(&self, which: &Which) -> Result<LetterReport, String>;
    /// Removes letters for good.
    ///
    /// # Errors
    /// When the store fails.
    fn drop_letters(&self, which: &Which) -> Result<LetterReport, String>;
}

type Change = fn(&dyn LetterControl, &Which) -> Result<LetterReport, String>;

async fn change(shared: Arc<Shared>, request: Request, change: Change) -> Result<Json<LetterReport>, HttpError> {
    let which: Which = read_json(&shared, request).await?;
    if let Some(mistake) = which.mistake() {
        let hint = "send {\"ids\": [1, 2]}, {\"sink\": \"pager\"} or {\"all\": true}";
        return Err(HttpError::new(StatusCode::BAD_REQUEST, mistake).hint(hint));
    }
    let letters = Arc::clone(&shared.api.letters);
    let done = tokio::task::spawn_blocking(move || change(&*letters, &which)).await;
    let failed = |reason: String| HttpError::new(StatusCode::SERVICE_UNAVAILABLE, reason);
    done.map_err(|error| failed(error.to_string()))?.map(Json).map_err(failed)
}

pub(super) async fn replay(
    State(shared): State<Arc<Shared>>,
    request: Request,
) -> Result<Json<LetterReport>, HttpError> {
    change(shared, request, |letters, which| letters.replay(which)).await
}

pub(super) async fn drop(State(shared): State<Arc<Shared>>, request: Request) -> Result<Json<LetterReport>, HttpError> {
    change(shared, request, |letters, which| letters.drop_letters(which)).await
}
