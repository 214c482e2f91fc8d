//! The lake as one table for queries: committed files, sealed files and buffered rows, as they stood at one moment.
//!
//! It is a view: a union of three tables over the same columns. Filters and projections reach the files because the
//! planner inlines views.

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{Column, DataFusionError, Result, ScalarValue};
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::datasource::{MemTable, TableType, ViewTable, provider_as_source};
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::{Expr, LogicalPlanBuilder, TableProviderFilterPushDown, lit};
use datafusion::physical_plan::ExecutionPlan;
use deltalake_core::delta_datafusion::{DeltaScanConfig, DeltaScanNext};
use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use object_store::path::Path;

use super::config::LakeConfig;
use super::delta::Snapshot;
use super::fit::widen;
use super::plain::PlainFile;
use super::schema::DATE;
use super::seal::days_of;
use super::spool::SealedFile;
use super::state::{Committed, Shared};
use super::store::Place;

/// The lake as of now.
pub(super) fn snapshot(shared: &Shared, place: &Place, config: &LakeConfig) -> Result<Arc<dyn TableProvider>> {
    let (file_schema, batches, sealed, committed) = {
        let state = shared.lock();
        let sealed: Vec<Arc<SealedFile>> = state.sealed.iter().flat_map(|piece| piece.files.clone()).collect();
        (state.file_schema(), state.buffer.batches(), sealed, state.committed.clone())
    };
    let mut columns = with_date(&file_schema);
    let mut parts: Vec<(&str, Arc<dyn TableProvider>)> = Vec::new();
    match committed {
        Committed::Delta(snapshot) => {
            let table = CommittedTable::new(*snapshot)?;
            // Columns that others gave the table are shown as well.
            let more = table.schema();
            let others = more.fields().iter().filter(|field| columns.column_with_name(field.name()).is_none());
            columns = Arc::new(Schema::new(columns.fields().iter().chain(others).cloned().collect::<Vec<_>>()));
            parts.push(("committed", Arc::new(table)));
        }
        Committed::Files(files) if !files.is_empty() => {
            let url = ObjectStoreUrl::parse(format!("hedgerow-lake://{}", host_part(&config.name)))?;
            let files = files.iter().map(plain_file).collect::<Result<_>>()?;
            parts.push(("committed", Arc::new(FileTable::new(url, place.table.clone(), files, &file_schema))));
        }
        Committed::Files(_) | Committed::Unknown => {}
    }
    if !sealed.is_empty() {
        let url = ObjectStoreUrl::parse("hedgerow-spool://local")?;
        let files = sealed.into_iter().map(sealed_file).collect::<Result<_>>()?;
        parts.push(("sealed", Arc::new(FileTable::new(url, Arc::new(LocalFileSystem::new()), files, &file_schema))));
    }
    if !batches.is_empty() || parts.is_empty() {
        let schema = with_date(&file_schema);
        let rows = batches.iter().map(|batch| dated(batch, &file_schema, &schema)).collect::<Result<Vec<_>>>()?;
        parts.push(("buffered", Arc::new(MemTable::try_new(schema, vec![rows])?)));
    }
    let mut plan: Option<LogicalPlanBuilder> = None;
    for (name, table) in parts {
        let part = select(name, table, &columns)?;
        plan = Some(match plan {
            Some(before) => before.union(part.build()?)?,
            None => part,
        });
    }
    let plan = plan.ok_or_else(|| DataFusionError::Internal("a lake has at least one part".into()))?.build()?;
    Ok(Arc::new(ViewTable::new(plan, None)))
}

/// A table version alone.
#[cfg(test)]
pub(super) fn committed(snapshot: Snapshot) -> Result<Arc<dyn TableProvider>> {
    Ok(Arc::new(CommittedTable::new(snapshot)?))
}

/// All columns of the lake from one part of it; null where the part has no such column.
fn select(name: &str, table: Arc<dyn TableProvider>, columns: &SchemaRef) -> Result<LogicalPlanBuilder> {
    let has = table.schema();
    let expressions = columns.fields().iter().map(|field| match has.column_with_name(field.name()) {
        Some((_, found)) => {
            let column = Expr::Column(Column::new(Some(name), field.name()));
            let typed = if found.data_type() == field.data_type() {
                column
            } else {
                datafusion::logical_expr::cast(column, field.data_type().clone())
            };
            Ok(typed.alias(field.name()))
        }
        None => Ok(lit(ScalarValue::try_from(field.data_type())?).alias(field.name())),
    });
    let expressions = expressions.collect::<Result<Vec<_>>>()?;
    LogicalPlanBuilder::scan(name, provider_as_source(table), None)?.project(expressions)
}

fn with_date(file_schema: &SchemaRef) -> SchemaRef {
    let date: FieldRef = Arc::new(Field::new(DATE, DataType::Date32, true));
    Arc::new(Schema::new(file_schema.fields().iter().cloned().chain([date]).collect::<Vec<_>>()))
}

fn dated(batch: &RecordBatch, file_schema: &SchemaRef, schema: &SchemaRef) -> Result<RecordBatch> {
    let batch = widen(batch, file_schema)?;
    let days = days_of(&batch).ok_or_else(|| DataFusionError::Internal("rows have no _time".into()))?;
    let columns = batch.columns().iter().cloned().chain([Arc::new(days) as _]).collect();
    Ok(RecordBatch::try_new(schema.clone(), columns)?)
}

fn host_part(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect()
}

fn day_value(date: &str) -> Result<ScalarValue> {
    ScalarValue::Utf8(Some(date.to_owned())).cast_to(&DataType::Date32)
}

fn plain_file(file: &PlainFile) -> Result<PartitionedFile> {
    Ok(PartitionedFile::new(file.object.clone(), file.bytes).with_partition_values(vec![day_value(&file.date)?]))
}

/// The plan holds the sealed file, so that it is not deleted under a running query.
fn sealed_file(file: Arc<SealedFile>) -> Result<PartitionedFile> {
    let path = Path::from_absolute_path(&file.path).map_err(|e| DataFusionError::External(e.into()))?;
    let day = day_value(&file.info.date)?;
    Ok(PartitionedFile::new(path.to_string(), file.info.bytes).with_partition_values(vec![day]).with_extension(file))
}

/// Parquet files with `_date` as their partition.
struct FileTable {
    url: ObjectStoreUrl,
    store: Arc<dyn ObjectStore>,
    files: Vec<PartitionedFile>,
    table: TableSchema,
}

impl FileTable {
    fn new(
        url: ObjectStoreUrl,
        store: Arc<dyn ObjectStore>,
        files: Vec<PartitionedFile>,
        file_schema: &SchemaRef,
    ) -> Self {
        let date: FieldRef = Arc::new(Field::new(DATE, DataType::Date32, true));
        Self {
            url,
            store,
            files,
            table: TableSchema::builder(file_schema.clone()).with_table_partition_cols(vec![date]).build(),
        }
    }
}

impl fmt::Debug for FileTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileTable({}, {} files)", self.url, self.files.len())
    }
}

#[async_trait]
impl TableProvider for FileTable {
    fn schema(&self) -> SchemaRef {
        self.table.table_schema().clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        register(session, &self.url, &self.store);
        let source = ParquetSource::new(self.table.clone())
            .with_table_parquet_options(ParquetFormat::default().options().clone());
        let groups = self.files.iter().map(|file| FileGroup::new(vec![file.clone()])).collect();
        let config = FileScanConfigBuilder::new(self.url.clone(), Arc::new(source))
            .with_file_groups(groups)
            .with_projection_indices(projection.cloned())?
            .with_limit(limit)
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }
}

fn register(session: &dyn Session, url: &ObjectStoreUrl, store: &Arc<dyn ObjectStore>) {
    if session.runtime_env().object_store(url).is_err() {
        session.runtime_env().register_object_store(url.as_ref(), store.clone());
    }
}

/// One version of the Delta table.
struct CommittedTable {
    scan: DeltaScanNext,
    url: ObjectStoreUrl,
    store: Arc<dyn ObjectStore>,
}

impl CommittedTable {
    fn new(snapshot: Snapshot) -> Result<Self> {
        let mut config = DeltaScanConfig::new().with_wrap_partition_values(false);
        config.schema_force_view_types = false;
        let root = snapshot.log_store.root_url();
        let url = ObjectStoreUrl::parse(&root[..url::Position::BeforePath])?;
        let store = snapshot.log_store.root_object_store(None);
        let scan = DeltaScanNext::new(snapshot.state.snapshot().clone(), config)?;
        Ok(Self { scan, url, store })
    }
}

impl fmt::Debug for CommittedTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CommittedTable({})", self.url)
    }
}

#[async_trait]
impl TableProvider for CommittedTable {
    fn schema(&self) -> SchemaRef {
        self.scan.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        register(session, &self.url, &self.store);
        self.scan.scan(session, projection, filters, limit).await
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        self.scan.supports_filters_pushdown(filters)
    }
}
