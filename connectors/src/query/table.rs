//! Key-value tables as relations.
//!
//! Columns are the declared ones, in their order, and `_rest`: a JSON object of every other member, and of members whose
//! value is not of the declared type, so that no stored value is invisible. A condition on the hash key becomes a point
//! get; with it, conditions on the range key become a range scan.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{DataFusionError, exec_datafusion_err};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use hedgerow_sql::ast::Dialect;
use hedgerow_sql::rule::{ColumnType, TableDef};
use hedgerow_sql::value::Value;
use hedgerow_storage::table::{Key, KeyBounds, ReadError, TableView, Tables};

use super::catalog::Relations;
use super::keys::{self, Lookup};
use super::scan::{BatchSource, SourceExec, projected};
use super::table_rows::{RowBuilder, schema_of};

/// What is known of tables besides their rows.
pub trait TableCatalog: Send + Sync {
    /// All definitions in force.
    fn definitions(&self) -> Vec<Arc<TableDef>>;
    /// Log time, by which rows expire, in ms since 1970.
    fn now_ms(&self) -> i64;
}

/// All key-value tables, for SQL and for reading single rows.
#[derive(Clone)]
pub struct KeyValueTables {
    tables: Tables,
    catalog: Arc<dyn TableCatalog>,
}

/// Why there is no row.
#[derive(Clone, Debug, thiserror::Error)]
pub enum NoRow {
    /// No such table.
    #[error("no table \"{0}\"")]
    Table(String),
    /// No such row.
    #[error("no row with this key in table \"{0}\"")]
    Row(String),
    /// The key cannot be one of this table.
    #[error("{0}")]
    Key(String),
    /// The store could not be read.
    #[error("{0}")]
    Store(String),
}

impl KeyValueTables {
    /// The tables of an instance.
    pub fn new(tables: Tables, catalog: Arc<dyn TableCatalog>) -> Self {
        Self { tables, catalog }
    }

    /// The row with this key as the text of a JSON object. Keys are text as in a URL; the declared type says what they mean.
    pub fn row(&self, table: &str, hash: &str, range: Option<&str>) -> Result<Vec<u8>, NoRow> {
        let definition = self.definition(table).ok_or_else(|| NoRow::Table(table.to_owned()))?;
        let hash = key_from_text(&definition, &definition.hash, hash)?;
        let range = match (&definition.range, range) {
            (None, None) => None,
            (Some(column), Some(text)) => Some(key_from_text(&definition, column, text)?),
            (Some(column), None) => {
                let message = format!(
                    "table \"{table}\" has a range key, \"{column}\": ask for /tables/{{table}}/{{hash}}/{{range}}"
                );
                return Err(NoRow::Key(message));
            }
            (None, Some(_)) => return Err(NoRow::Key(format!("table \"{table}\" has no range key"))),
        };
        match self.tables.get(table, &hash, range.as_ref(), self.catalog.now_ms()) {
            Ok(Some(row)) => Ok(row.value().to_vec()),
            Ok(None) => Err(NoRow::Row(table.to_owned())),
            // Defined in the catalog, and nothing was written yet.
            Err(ReadError::UnknownTable(_)) => Err(NoRow::Row(table.to_owned())),
            Err(error) => Err(NoRow::Store(error.to_string())),
        }
    }

    fn definition(&self, name: &str) -> Option<Arc<TableDef>> {
        self.catalog.definitions().into_iter().find(|table| &*table.name == name)
    }
}

fn key_from_text(table: &TableDef, column: &str, text: &str) -> Result<Key, NoRow> {
    let ty = table.columns.iter().find(|known| &*known.name == column).map_or(ColumnType::Varchar, |known| known.ty);
    let wrong = |what: &str| {
        NoRow::Key(format!(
            "the key \"{column}\" of table \"{}\" is {what}: \"{}\" is not",
            table.name,
            text.escape_debug()
        ))
    };
    match ty {
        ColumnType::Varchar | ColumnType::Json => Ok(Key::text(text)),
        ColumnType::BigInt => text.parse::<i64>().map(Key::from).map_err(|_| wrong("a BIGINT")),
        ColumnType::Timestamp => {
            text.parse::<i64>().map(Key::from).map_err(|_| wrong("a TIMESTAMP, in milliseconds since 1970"))
        }
        ColumnType::Boolean => text.parse::<bool>().map(Key::from).map_err(|_| wrong("true or false")),
        ColumnType::Double | ColumnType::Decimal { .. } => match Value::number(text, Dialect::Native) {
            Some(Value::Int(number)) => Ok(Key::number(number, 0)),
            Some(Value::Decimal(number)) => Ok(Key::number(number.mantissa(), number.scale())),
            _ => Err(wrong("a number")),
        },
    }
}

#[async_trait]
impl Relations for KeyValueTables {
    fn names(&self) -> Vec<String> {
        self.catalog.definitions().iter().map(|table| table.name.to_string()).collect()
    }

    async fn open(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
        let Some(definition) = self.definition(name) else { return Ok(None) };
        let view = match self.tables.view(name) {
            Ok(view) => Some(view),
            // Defined in the catalog, and not yet created in the store: empty.
            Err(ReadError::UnknownTable(_)) => None,
            Err(error) => return Err(DataFusionError::External(Box::new(error))),
        };
        let schema = schema_of(&definition);
        Ok(Some(Arc::new(KeyValueTable { definition, schema, view, now_ms: self.catalog.now_ms() })))
    }
}

/// One table at one moment.
struct KeyValueTable {
    definition: Arc<TableDef>,
    schema: SchemaRef,
    view: Option<TableView>,
    now_ms: i64,
}

impl std::fmt::Debug for KeyValueTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeyValueTable({})", self.definition.name)
    }
}

#[async_trait]
impl TableProvider for KeyValueTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>, DataFusionError> {
        let support = |filter: &&Expr| match keys::is_usable(&self.definition, filter) {
            true => TableProviderFilterPushDown::Inexact,
            false => TableProviderFilterPushDown::Unsupported,
        };
        Ok(filters.iter().map(support).collect())
    }

    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
        let schema = projected(&self.schema, projection)?;
        let source = TableSource {
            definition: Arc::clone(&self.definition),
            schema: Arc::clone(&schema),
            view: self.view.clone(),
            lookups: keys::lookups(&self.definition, filters),
            now_ms: self.now_ms,
            limit: limit.unwrap_or(usize::MAX),
        };
        Ok(SourceExec::new(schema, Arc::new(source)))
    }
}

struct TableSource {
    definition: Arc<TableDef>,
    schema: SchemaRef,
    view: Option<TableView>,
    lookups: Vec<Lookup>,
    now_ms: i64,
    limit: usize,
}

impl BatchSource for TableSource {
    fn describe(&self) -> String {
        let columns: Vec<&str> = self.schema.fields().iter().map(|field| field.name().as_str()).collect();
        let how = match self.lookups.as_slice() {
            [Lookup { hash: None, bounds: KeyBounds::All }] => "all rows".to_owned(),
            [Lookup { hash: None, .. }] => "a range of hash keys".to_owned(),
            [Lookup { hash: Some(hash), bounds: KeyBounds::All }] => format!("hash key {hash}"),
            [Lookup { hash: Some(hash), .. }] => format!("hash key {hash}, a range of its range keys"),
            several => format!("{} keys", several.len()),
        };
        format!("KeyValueScan: {}, {how}, columns=[{}]", self.definition.name, columns.join(", "))
    }

    fn read(&self, batch_rows: usize, give: &mut dyn FnMut(RecordBatch) -> bool) -> Result<(), DataFusionError> {
        let Some(view) = &self.view else { return Ok(()) };
        let mut builder = RowBuilder::new(&self.definition, Arc::clone(&self.schema));
        let mut left = self.limit;
        for lookup in &self.lookups {
            for row in view.scan(lookup.hash.as_ref(), &lookup.bounds, self.now_ms) {
                if left == 0 {
                    break;
                }
                left -= 1;
                builder.push(row.map_err(|error| exec_datafusion_err!("{error}"))?.value());
                if builder.len() >= batch_rows && !give(builder.finish()?) {
                    return Ok(());
                }
            }
        }
        if builder.len() > 0 {
            give(builder.finish()?);
        }
        Ok(())
    }
}
