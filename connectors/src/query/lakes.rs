//! Lake sinks as relations: committed files, sealed files and the buffer, as one snapshot.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::TableProvider;
use datafusion::common::DataFusionError;
use hedgerow_storage::lake::Lake;

use super::catalog::Relations;

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
        match self.0.lakes().into_iter().find(|(known, _)| **known == *name) {
            Some((_, lake)) => lake.table_provider().map(Some),
            None => Ok(None),
        }
    }
}
