//! `/health`: what keeps messages from being acknowledged, and what else needs attention.

use std::sync::Arc;

use super::Core;
use crate::gateway::GatewayView;
use crate::http::health::{HealthReport, HealthSource, HealthState, Problem};

/// Looks at all parts.
pub struct Health {
    core: Arc<Core>,
    gateway: GatewayView,
}

impl Health {
    /// Of this server.
    pub(crate) fn new(core: Arc<Core>, gateway: GatewayView) -> Self {
        Self { core, gateway }
    }
}

impl HealthSource for Health {
    fn health(&self) -> HealthReport {
        let mut problems = Vec::new();
        let mut report = |component: &str, message: String| {
            problems.push(Problem { component: component.to_owned(), message });
        };
        let log = self.core.log.health();
        let mut status = HealthState::Ready;
        if let Some(reason) = &log.failed {
            status = HealthState::Unready;
            report("log", format!("a write or sync failed ({reason}): repair the disk, then restart"));
        }
        if log.low_space {
            status = HealthState::Unready;
            let free = log.free_bytes >> 20;
            report("log", format!("{free} MiB are free on the log's disk, less than log.min_free: free some space"));
        }
        if log.clock_jumps > 0 {
            let jump = log.last_clock_jump_us / 1_000_000;
            report("clock", format!("the wall clock leapt forward {} times, last by {jump} s", log.clock_jumps));
        }
        if let Some(reason) = self.core.engine.failure() {
            report("engine", reason);
        }
        if let Some(reason) = self.gateway.failure() {
            report("gateway", format!("messages are not delivered to subscribers: {reason}"));
        }
        if let Some(problem) = self.core.views.folder_problem() {
            report("rules", problem);
        }
        for sink in self.core.engine.sinks() {
            if let Some(error) = sink.health.error {
                report(&format!("sink {}", sink.name), error);
            }
        }
        if status == HealthState::Ready && !problems.is_empty() {
            status = HealthState::Degraded;
        }
        HealthReport { status, problems }
    }
}
