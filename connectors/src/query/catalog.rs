//! What a query can read, frozen at the moment it begins.
//!
//! Each query gets a catalog of its own. The first mention of a relation takes its snapshot (committed and buffered rows of
//! a lake, a view of the key-value store, the end of the log); later mentions in the same query see the same one, so a
//! self-join or a subquery never sees two states of one relation. Different relations are taken one after the other.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, CatalogProviderList, MemTable, SchemaProvider, TableProvider};
use datafusion::common::DataFusionError;
use tokio::sync::Mutex;

use super::system::{self, SystemViews};

/// The one catalog.
pub(super) const CATALOG: &str = "hedgerow";
/// The schema of lakes, tables and `ingest_log`.
pub(super) const PUBLIC: &str = "public";
/// The schema of views of the running server.
pub(super) const SYSTEM: &str = "system";

/// The relations of the schema `public`. Each call of `open` takes a snapshot.
#[async_trait]
pub trait Relations: Send + Sync {
    /// Their exact names.
    fn names(&self) -> Vec<String>;
    /// The relation as it is now.
    async fn open(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>, DataFusionError>;
}

/// All there is to read.
#[derive(Clone)]
pub struct Sources {
    /// Lakes, key-value tables, the ingest log; a name is looked for in the order given.
    pub relations: Vec<Arc<dyn Relations>>,
    /// The running server.
    pub system: Arc<dyn SystemViews>,
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sources")
    }
}

/// The catalog of one query.
#[derive(Debug)]
pub(super) struct Snapshot {
    schemas: BTreeMap<&'static str, Arc<dyn SchemaProvider>>,
}

impl Snapshot {
    pub(super) fn new(sources: &Sources) -> Arc<Self> {
        let public: Arc<dyn SchemaProvider> =
            Arc::new(Public { sources: sources.clone(), opened: Mutex::new(BTreeMap::new()) });
        let system: Arc<dyn SchemaProvider> =
            Arc::new(System { sources: sources.clone(), opened: Mutex::new(BTreeMap::new()) });
        Arc::new(Self { schemas: BTreeMap::from([(PUBLIC, public), (SYSTEM, system)]) })
    }
}

impl CatalogProvider for Snapshot {
    fn schema_names(&self) -> Vec<String> {
        self.schemas.keys().map(|name| (*name).to_owned()).collect()
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        self.schemas.get(name).cloned()
    }
}

/// A list of exactly one catalog.
#[derive(Debug)]
pub(super) struct Only(pub Arc<Snapshot>);

impl CatalogProviderList for Only {
    fn register_catalog(&self, _: String, _: Arc<dyn CatalogProvider>) -> Option<Arc<dyn CatalogProvider>> {
        None
    }

    fn catalog_names(&self) -> Vec<String> {
        vec![CATALOG.to_owned()]
    }

    fn catalog(&self, name: &str) -> Option<Arc<dyn CatalogProvider>> {
        (name == CATALOG).then(|| Arc::clone(&self.0) as _)
    }
}

type Opened = Mutex<BTreeMap<String, Arc<dyn TableProvider>>>;

#[derive(Debug)]
struct Public {
    sources: Sources,
    opened: Opened,
}

#[async_trait]
impl SchemaProvider for Public {
    fn table_names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.sources.relations.iter().flat_map(|relations| relations.names()).collect();
        names.sort();
        names.dedup();
        names
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
        let mut opened = self.opened.lock().await;
        if let Some(table) = opened.get(name) {
            return Ok(Some(Arc::clone(table)));
        }
        for relations in &self.sources.relations {
            if let Some(table) = relations.open(name).await? {
                opened.insert(name.to_owned(), Arc::clone(&table));
                return Ok(Some(table));
            }
        }
        Ok(None)
    }

    fn table_exist(&self, name: &str) -> bool {
        self.sources.relations.iter().any(|relations| relations.names().iter().any(|known| known == name))
    }
}

#[derive(Debug)]
struct System {
    sources: Sources,
    opened: Opened,
}

#[async_trait]
impl SchemaProvider for System {
    fn table_names(&self) -> Vec<String> {
        system::VIEWS.iter().map(|name| (*name).to_owned()).collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
        let mut opened = self.opened.lock().await;
        if let Some(table) = opened.get(name) {
            return Ok(Some(Arc::clone(table)));
        }
        let Some(batch) = system::view(name, self.sources.system.as_ref()) else { return Ok(None) };
        let table: Arc<dyn TableProvider> = Arc::new(MemTable::try_new(batch.schema(), vec![vec![batch]])?);
        opened.insert(name.to_owned(), Arc::clone(&table));
        Ok(Some(table))
    }

    fn table_exist(&self, name: &str) -> bool {
        system::VIEWS.contains(&name)
    }
}
