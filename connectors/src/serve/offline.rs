//! The data folder without a server: for `query` and `rule` when none runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Core, ServeError, rules};
use crate::config::Config;
use crate::http::rules::{ApplyReport, RuleError};
use crate::query::QueryEngine;
use crate::query::system::{RuleStatus, SystemViews};

/// An opened data folder. Nobody else can open it meanwhile.
pub struct Offline {
    core: Arc<Core>,
}

impl Offline {
    /// Opens it and replays the log.
    ///
    /// # Errors
    /// When a server has it, or what is stored cannot be followed.
    pub async fn open(config: Config) -> Result<Self, ServeError> {
        let runtime = tokio::runtime::Handle::current();
        let core = tokio::task::spawn_blocking(move || Core::open(config, &runtime)).await??;
        Ok(Self { core })
    }

    /// For queries.
    pub fn query(&self) -> &QueryEngine {
        &self.core.query
    }

    /// All rules.
    pub fn rules(&self) -> Vec<RuleStatus> {
        self.core.views.rules()
    }

    /// Applies files.
    ///
    /// # Errors
    /// As over HTTP.
    pub async fn apply(&self, files: BTreeMap<String, String>, dry_run: bool) -> Result<ApplyReport, RuleError> {
        use crate::http::rules::{ApplyRequest, RuleControl};
        rules::Control::new(Arc::clone(&self.core)).apply(ApplyRequest { files, dry_run }).await
    }

    /// Enables or disables a rule.
    ///
    /// # Errors
    /// As over HTTP.
    pub async fn set_enabled(&self, name: &str, enabled: bool) -> Result<ApplyReport, RuleError> {
        use crate::http::rules::RuleControl;
        rules::Control::new(Arc::clone(&self.core)).set_enabled(name, enabled).await
    }

    /// Closes it in order.
    pub async fn close(self) {
        let core = self.core;
        let _ = tokio::task::spawn_blocking(move || core.close()).await;
    }
}
