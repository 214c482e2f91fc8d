//! Lake sinks as relations: committed files, sealed files and the buffer, as one snapshot.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use datafusion::catalog::TableProvider;
use datafusion::common::{DataFusionError, exec_datafusion_err};
use hedgerow_storage::lake::Lake;

use super::catalog::Relations;

/// After a start, a query waits this long for the lake's store to tell what is committed.
const REACH: Duration = Duration::from_secs(10);

/// Which lakes there are now.
pub trait LakeCatalog: Send + Sync {
    /// Name and lake.
    fn lakes(&self) -> Vec<(Arc<str>, Arc<Lake>)>;
}

/// The lakes of an instance, for queries.
#[derive(Clone)]
pub struct Lakes(Arc<dyn LakeCatalog>);

impl Lakes {
    /// These lakes.
    pub fn new(catalog: Arc<dyn LakeCatalog>) -> Self {
        Self(catalog)
    }
}

#[async_trait]
impl Relations for Lakes {
    fn names(&self) -> Vec<String> {
        self.0.lakes().iter().map(|(name, _)| name.to_string()).collect()
    }

    async fn open(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
        let Some((_, lake)) = self.0.lakes().into_iter().find(|(known, _)| **known == *name) else {
            return Ok(None);
        };
        // Without the committed rows, the others would be an answer that is wrong and does not look it.
        let asked = Arc::clone(&lake);
        let reached = tokio::task::spawn_blocking(move || asked.wait_reached(REACH));
        if !reached.await.map_err(|error| exec_datafusion_err!("{error}"))? {
            let why = lake.health().message.map(|message| format!(": {message}")).unwrap_or_default();
            let message = format!(
                "the store of the lake {name} has not answered since the start, so its committed rows are unknown{why}"
            );
            return Err(DataFusionError::External(message.into()));
        }
        lake.table_provider().map(Some)
    }
}
