//! Running one query: parse, resolve names, plan, check that it only reads, execute under limits.
//!
//! Queries run on threads of their own, so that a heavy one never delays an acknowledgement. A query ends when its rows are
//! read, when its time is up, or as soon as nobody holds its [`Rows`] any more.

use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::catalog::CatalogProviderList;
use datafusion::common::{DataFusionError, TableReference};
use datafusion::dataframe::DataFrame;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{GreedyMemoryPool, TrackConsumersPool};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::{SQLOptions, SessionConfig, SessionContext};
use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::ast::{self, Visit, Visitor};
use futures::StreamExt;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::catalog::{CATALOG, Only, PUBLIC, Snapshot, Sources};
use super::error::QueryError;
use super::{functions, names, size};
use crate::config::{Config, QueryConfig};

/// A query ends itself at its deadline, unless it is where nothing interrupts it: in the planner, or inside a function.
/// Whoever waits for it is told after this much longer.
const GRACE: Duration = Duration::from_secs(1);

/// Runs analyst queries. Cheap to clone.
#[derive(Clone, Debug)]
pub struct QueryEngine(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// None only while being dropped.
    runtime: Option<Runtime>,
    environment: Arc<RuntimeEnv>,
    base: SessionState,
    sources: Sources,
    slots: Arc<Semaphore>,
    limits: QueryConfig,
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Why the engine could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum QuerySetupError {
    /// No threads.
    #[error("cannot start threads for queries: {0}")]
    Threads(#[from] std::io::Error),
    /// DataFusion refused its settings.
    #[error("cannot set up queries: {0}")]
    Settings(#[from] DataFusionError),
}

impl QueryEngine {
    /// An engine over `sources` with the limits of `[query]`.
    pub fn new(config: &Config, sources: Sources) -> Result<Self, QuerySetupError> {
        let limits = config.query.clone();
        let threads = config.query_threads();
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(threads).thread_name("query").thread_stack_size(size::STACK_BYTES);
        let runtime = builder.enable_all().build()?;
        let memory = limits.memory.as_usize();
        let pool = TrackConsumersPool::new(GreedyMemoryPool::new(memory), NonZeroUsize::MIN);
        let no_spilling = DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled);
        let environment = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(pool))
            .with_disk_manager_builder(no_spilling)
            .build_arc()?;
        let mut base = SessionStateBuilder::new()
            .with_config(session_config(&limits, threads))
            .with_runtime_env(Arc::clone(&environment))
            .with_default_features();
        functions::bound(base.scalar_functions().get_or_insert_default());
        let base = base.build();
        let slots = Arc::new(Semaphore::new(limits.max_queries));
        Ok(Self(Arc::new(Inner { runtime: Some(runtime), environment, base, sources, slots, limits })))
    }

    /// Begins a query; returns when it is planned and its columns are known.
    pub async fn run(&self, sql: &str) -> Result<Rows, QueryError> {
        let limits = &self.0.limits;
        let deadline = Instant::now() + limits.timeout.0;
        let slot = tokio::time::timeout_at(deadline, Arc::clone(&self.0.slots).acquire_owned()).await;
        let slot = match slot {
            Ok(Ok(slot)) => slot,
            Ok(Err(_)) => return Err(QueryError::unavailable("the server is shutting down")),
            Err(_) => {
                let message = format!("{} queries are running and none has ended", limits.max_queries);
                return Err(QueryError::unavailable(message).hint("try again, or raise query.max_queries"));
            }
        };
        let Some(runtime) = &self.0.runtime else { return Err(QueryError::unavailable("the server is shutting down")) };
        let (columns, planned) = oneshot::channel();
        let (rows, received) = mpsc::channel(2);
        let cut = Arc::new(AtomicBool::new(false));
        let query = Query { engine: self.clone(), sql: sql.to_owned(), rows, cut: Arc::clone(&cut) };
        let task = runtime.spawn(query.drive(columns, deadline, slot));
        let abort = AbortOnDrop(task.abort_handle());
        let late = deadline + GRACE;
        match tokio::time::timeout_at(late, planned).await {
            Ok(Ok(Ok(schema))) => Ok(Rows { schema, received, cut, late, limit: limits.timeout.0, _abort: abort }),
            Ok(Ok(Err(error))) => Err(error),
            Err(_) => Err(QueryError::timed_out(limits.timeout.0)),
            Ok(Err(_)) => Err(QueryError::failed("the query was stopped by an error in the server; see its log")),
        }
    }

    /// Bytes that running queries hold.
    pub fn memory_used(&self) -> u64 {
        self.0.environment.memory_pool.reserved() as u64
    }

    /// Queries running now.
    pub fn running(&self) -> usize {
        self.0.limits.max_queries.saturating_sub(self.0.slots.available_permits())
    }

    async fn plan(&self, sql: &str) -> Result<DataFrame, QueryError> {
        let snapshot = Snapshot::new(&self.0.sources);
        let catalogs: Arc<dyn CatalogProviderList> = Arc::new(Only(snapshot));
        let state = SessionStateBuilder::new_from_existing(self.0.base.clone()).with_catalog_list(catalogs).build();
        let context = SessionContext::new_with_state(state);
        let mut statement = parse(sql)?;
        resolve(&mut statement, &context).await?;
        let state = context.state();
        let plan: LogicalPlan = state.statement_to_plan(statement).await.map_err(|e| QueryError::planning(&e))?;
        SQLOptions::new()
            .with_allow_ddl(false)
            .with_allow_dml(false)
            .with_allow_statements(false)
            .verify_plan(&plan)
            .map_err(|_| only_queries())?;
        Ok(DataFrame::new(state, plan))
    }
}

fn session_config(limits: &QueryConfig, threads: usize) -> SessionConfig {
    let mut config = SessionConfig::new()
        .with_default_catalog_and_schema(CATALOG, PUBLIC)
        .with_create_default_catalog_and_schema(false)
        .with_information_schema(true)
        .with_target_partitions(threads)
        .with_batch_size(limits.batch_rows);
    let options = config.options_mut();
    // Names are resolved by `names`, which needs them as they were written.
    options.sql_parser.enable_ident_normalization = false;
    options.sql_parser.collect_spans = true;
    options.sql_parser.map_string_types_to_utf8view = false;
    config
}

fn only_queries() -> QueryError {
    QueryError::refused("only queries are allowed here: SELECT, EXPLAIN, SHOW TABLES, DESCRIBE")
        .hint("tables, sinks and rules are changed by rule files: `hedgerow rule apply`")
}

/// Exactly one statement, which reads.
fn parse(sql: &str) -> Result<Statement, QueryError> {
    size::check_text(sql)?;
    let parsed = DFParserBuilder::new(sql).build().and_then(|mut parser| parser.parse_statements());
    let mut statements = parsed.map_err(|error| QueryError::planning(&error))?;
    let statement = statements.pop_front().ok_or_else(|| QueryError::refused("there is no query in the text"))?;
    if !statements.is_empty() {
        return Err(QueryError::refused("one query at a time, please").hint("send the statements one by one"));
    }
    if !reads(&statement) {
        return Err(only_queries());
    }
    sql_of(&statement).map_or(Ok(()), size::check_statement)?;
    Ok(statement)
}

/// The statement itself, also of EXPLAIN.
fn sql_of(statement: &Statement) -> Option<&ast::Statement> {
    match statement {
        Statement::Explain(explain) => sql_of(&explain.statement),
        Statement::Statement(sql) => Some(sql),
        _ => None,
    }
}

fn reads(statement: &Statement) -> bool {
    use ast::Statement as Sql;
    match statement {
        Statement::Explain(explain) => reads(&explain.statement),
        Statement::Statement(sql) => match sql.as_ref() {
            Sql::Explain { statement, .. } => matches!(statement.as_ref(), Sql::Query(_)),
            Sql::Query(query) => !matches!(query.visit(&mut Writes), ControlFlow::Break(())),
            Sql::ExplainTable { .. } | Sql::ShowTables { .. } | Sql::ShowColumns { .. } | Sql::ShowFunctions { .. } => {
                true
            }
            _ => false,
        },
        Statement::CreateExternalTable(_) | Statement::CopyTo(_) | Statement::Reset(_) => false,
    }
}

/// Finds what writes inside a query: `SELECT … INTO`, `WITH … INSERT`.
struct Writes;

impl Visitor for Writes {
    type Break = ();

    fn pre_visit_statement(&mut self, _: &ast::Statement) -> ControlFlow<()> {
        ControlFlow::Break(())
    }

    fn pre_visit_select(&mut self, select: &ast::Select) -> ControlFlow<()> {
        if select.into.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

/// Rewrites the names of a statement to exact ones.
async fn resolve(statement: &mut Statement, context: &SessionContext) -> Result<(), QueryError> {
    let sql = match statement {
        Statement::Statement(sql) => sql.as_mut(),
        Statement::Explain(explain) => return Box::pin(resolve(&mut explain.statement, context)).await,
        _ => return Ok(()),
    };
    let mut known = names::Names::new();
    if let Some(catalog) = context.catalog(CATALOG) {
        for schema in catalog.schema_names() {
            let tables = catalog.schema(&schema).map(|schema| schema.table_names()).unwrap_or_default();
            known.insert(schema, tables);
        }
    }
    let information = ["tables", "views", "columns", "df_settings", "schemata", "routines", "parameters"];
    known.insert("information_schema".to_owned(), information.map(str::to_owned).to_vec());
    let mut with_columns = Vec::new();
    for relation in names::relations(sql, &known, PUBLIC)? {
        let reference = TableReference::full(CATALOG, relation.schema.as_str(), relation.name.as_str());
        let table = context.table_provider(reference).await.map_err(|error| QueryError::planning(&error))?;
        let columns = table.schema().fields().iter().map(|field| field.name().clone()).collect();
        with_columns.push((relation, columns));
    }
    names::columns(sql, PUBLIC, &with_columns)
}

struct Query {
    engine: QueryEngine,
    sql: String,
    rows: mpsc::Sender<Result<RecordBatch, QueryError>>,
    cut: Arc<AtomicBool>,
}

type Planned = oneshot::Sender<Result<SchemaRef, QueryError>>;

impl Query {
    /// Runs to the end, the error, or the deadline; whoever waits is told.
    async fn drive(self, planned: Planned, deadline: Instant, _slot: OwnedSemaphorePermit) {
        let mut planned = Some(planned);
        let outcome = tokio::time::timeout_at(deadline, self.work(&mut planned)).await;
        let limit: Duration = self.engine.0.limits.timeout.0;
        let error = match outcome {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error,
            Err(_) => QueryError::timed_out(limit),
        };
        match planned.take() {
            Some(planned) => drop(planned.send(Err(error))),
            // Not awaited for long: a reader that is gone or stuck must not hold the slot.
            None => drop(self.rows.send_timeout(Err(error), Duration::from_secs(1)).await),
        }
    }

    async fn work(&self, planned: &mut Option<Planned>) -> Result<(), QueryError> {
        let limits = &self.engine.0.limits;
        let running = |error: DataFusionError| QueryError::running(&error, limits.memory.0);
        let frame = self.engine.plan(&self.sql).await?;
        let mut stream = frame.execute_stream().await.map_err(|error| self.starting(&error))?;
        if let Some(planned) = planned.take() {
            // An error means that nobody waits any more; the next send finds that out too.
            let _ = planned.send(Ok(stream.schema()));
        }
        let mut left = limits.max_rows;
        while let Some(batch) = stream.next().await {
            let batch = batch.map_err(running)?;
            let take = batch.num_rows().min(left);
            if take < batch.num_rows() {
                self.cut.store(true, Ordering::Release);
            }
            left -= take;
            if take > 0 && self.rows.send(Ok(batch.slice(0, take))).await.is_err() {
                return Ok(());
            }
            if self.cut.load(Ordering::Acquire) {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Analysis and physical planning happen here too, so the text may still be what is wrong.
    fn starting(&self, error: &DataFusionError) -> QueryError {
        match error.find_root() {
            DataFusionError::ResourcesExhausted(_) | DataFusionError::External(_) | DataFusionError::ObjectStore(_) => {
                QueryError::running(error, self.engine.0.limits.memory.0)
            }
            _ => QueryError::planning(error),
        }
    }
}

#[derive(Debug)]
struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The result of a query as it comes. Dropping it cancels the query.
#[derive(Debug)]
pub struct Rows {
    schema: SchemaRef,
    received: mpsc::Receiver<Result<RecordBatch, QueryError>>,
    cut: Arc<AtomicBool>,
    /// When it ought to have ended.
    late: Instant,
    limit: Duration,
    _abort: AbortOnDrop,
}

impl Rows {
    /// The columns.
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    /// The next rows; `None` at the end. After an error there is nothing more.
    pub async fn next(&mut self) -> Option<Result<RecordBatch, QueryError>> {
        match tokio::time::timeout_at(self.late, self.received.recv()).await {
            Ok(next) => next,
            Err(_) => {
                self.received.close();
                Some(Err(QueryError::timed_out(self.limit)))
            }
        }
    }

    /// After the end: the result had more than `query.max_rows` rows, and the rest was not computed.
    pub fn is_cut(&self) -> bool {
        self.cut.load(Ordering::Acquire)
    }
}
