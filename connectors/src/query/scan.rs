//! Reading a store that knows nothing of DataFusion: a source of batches, run on a blocking thread.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::EquivalenceProperties;
use datafusion::physical_plan::coop::make_cooperative;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, ReplaceChildrenOptions, SchedulingType};
use datafusion::physical_plan::stream::RecordBatchReceiverStreamBuilder;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PhysicalExpr, PlanProperties,
};

/// Gives rows, already projected and at most as many as are wanted.
pub(super) trait BatchSource: Send + Sync + 'static {
    /// For EXPLAIN: what is read and how.
    fn describe(&self) -> String;
    /// Hands batches to `give` until there are no more, or until `give` says that nobody wants them.
    fn read(&self, batch_rows: usize, give: &mut dyn FnMut(RecordBatch) -> bool) -> Result<(), DataFusionError>;
}

/// A plan of one source and nothing else.
pub(super) struct SourceExec {
    source: Arc<dyn BatchSource>,
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
}

impl SourceExec {
    pub(super) fn new(schema: SchemaRef, source: Arc<dyn BatchSource>) -> Arc<Self> {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&schema)),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        )
        .with_scheduling_type(SchedulingType::Cooperative);
        Arc::new(Self { source, schema, properties: Arc::new(properties) })
    }
}

impl fmt::Debug for SourceExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source.describe())
    }
}

impl DisplayAs for SourceExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source.describe())
    }
}

#[async_trait]
impl ExecutionPlan for SourceExec {
    fn name(&self) -> &'static str {
        "SourceExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion, DataFusionError>,
    ) -> Result<TreeNodeRecursion, DataFusionError> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
        if children.is_empty() { Ok(self) } else { internal_err!("a source has no inputs") }
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
        if children.is_empty() { Ok(self) } else { internal_err!("a source has no inputs") }
    }

    fn execute(&self, _: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream, DataFusionError> {
        let batch_rows = context.session_config().batch_size();
        let source = Arc::clone(&self.source);
        let mut stream = RecordBatchReceiverStreamBuilder::new(Arc::clone(&self.schema), 2);
        let sender = stream.tx();
        stream.spawn_blocking(move || source.read(batch_rows, &mut |batch| sender.blocking_send(Ok(batch)).is_ok()));
        Ok(make_cooperative(stream.build()))
    }
}

/// The columns that are wanted of a schema.
pub(super) fn projected(schema: &SchemaRef, projection: Option<&Vec<usize>>) -> Result<SchemaRef, DataFusionError> {
    match projection {
        None => Ok(Arc::clone(schema)),
        Some(columns) => Ok(Arc::new(schema.project(columns)?)),
    }
}
