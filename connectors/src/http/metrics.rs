//! `GET /metrics`: the Prometheus text format.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderName, header};

use super::routes::Shared;
use crate::metrics::Exposition;

pub(super) async fn metrics(State(shared): State<Arc<Shared>>) -> ([(HeaderName, &'static str); 1], String) {
    let mut exposition = Exposition::default();
    shared.api.metrics.collect(&mut exposition);
    exposition.gauge(
        "hedgerow_query_memory_bytes",
        "Memory that running queries hold",
        &[],
        shared.api.query.memory_used() as f64,
    );
    exposition.gauge("hedgerow_query_running", "Queries running now", &[], shared.api.query.running() as f64);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], exposition.text())
}
