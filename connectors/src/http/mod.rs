//! The HTTP API: SQL, tables, rules, metrics, health. And the client of it that the command line uses.
//!
//! | part | is |
//! |---|---|
//! | `server` | sockets: accepting, limits, shutdown |
//! | `guard` | who may come in: Host, token, how many at once |
//! | `token` | the access token and its file |
//! | `routes` | paths and methods; reading request bodies |
//! | `sql`, `encode` | `POST /sql`, and rows as JSON, CSV or Arrow |
//! | `tables` | one row of a key-value table |
//! | `rules` | rule files and rules: the trait the server implements, and what goes over the wire |
//! | `dead_letters` | rows that were not delivered: again, or away |
//! | `destinations` | destinations outside that have to agree |
//! | `queues` | messages of queues: received, deleted, sent |
//! | `metrics`, `health` | how the server is |
//! | `error` | the one form of every error |
//! | `client` | the same API from the other side |
//!
//! Every call but `GET /health` and the confirmations of destinations needs the token, on loopback too. The Host header is checked, so that a web page cannot
//! reach the API through a name of its own; no CORS headers are ever sent. Must not know: MQTT, operators, files of rules.

pub mod client;
pub mod dead_letters;
pub mod destinations;
pub mod encode;
mod error;
mod guard;
pub mod health;
mod metrics;
pub mod queues;
mod routes;
pub mod rules;
mod server;
mod sql;
mod tables;
#[cfg(test)]
mod tests;
mod token;

pub use error::ErrorBody;
pub use server::{HttpServer, HttpStartError};
pub use tables::{KeyText, TableReader};
pub use token::{Token, TokenError};

use std::sync::Arc;

use crate::metrics::MetricsSource;
use crate::query::QueryEngine;

/// What the API answers from.
#[derive(Clone)]
pub struct Api {
    /// `POST /sql`.
    pub query: QueryEngine,
    /// `GET /tables/…`.
    pub tables: Arc<dyn TableReader>,
    /// `/rules`.
    pub rules: Arc<dyn rules::RuleControl>,
    /// `/dead-letters`.
    pub letters: Arc<dyn dead_letters::LetterControl>,
    /// `/destinations`, `/confirmdestination`.
    pub destinations: Arc<dyn destinations::DestinationControl>,
    /// `/queues`.
    pub queues: Arc<dyn queues::QueueControl>,
    /// `GET /health`.
    pub health: Arc<dyn health::HealthSource>,
    /// `GET /metrics`.
    pub metrics: Arc<dyn MetricsSource>,
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Api")
    }
}
