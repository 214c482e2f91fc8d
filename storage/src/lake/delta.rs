//! The Delta table of a lake: its log, its mark, and commits that count once.
//!
//! A commit carries `txn {appId: sink, version: last epoch}`. Before a commit the table's latest version and the sink's
//! `txn` in it are known, and the commit succeeds only as the very next version, so a commit that another attempt, a
//! lost response or another process made in between is always seen before anything is added.

use std::collections::HashMap;
use std::sync::Arc;

use deltalake_core::kernel::transaction::{CommitBuilder, CommitProperties, TableReference};
use deltalake_core::kernel::{Action, Add, DataType, MetadataExt, PrimitiveType, StructField, StructType, Transaction};
use deltalake_core::logstore::{LogStoreRef, StorageConfig, default_logstore};
use deltalake_core::operations::create::CreateBuilder;
use deltalake_core::protocol::{DeltaOperation, SaveMode};
use deltalake_core::table::state::DeltaTableState;
use deltalake_core::{DeltaResult, DeltaTableError};

use super::schema::{CLIENT_ID, DATE, LakeField, LakeSchema, LakeType, OFFSET, RAW, RESCUED, TIME, TOPIC};
use super::spool::Piece;
use super::store::Place;

/// Field metadata that tells a JSON text column from other text.
const TYPE_KEY: &str = "hedgerow.type";
/// Commits between checkpoints of the Delta log.
const CHECKPOINT_COMMITS: &str = "20";

/// The table at one version, with the sink's mark in that version.
#[derive(Clone)]
pub(super) struct Snapshot {
    pub log_store: LogStoreRef,
    pub state: Arc<DeltaTableState>,
    /// Last epoch of this sink that the version contains.
    pub mark: u64,
}

/// Why a commit did not happen.
#[derive(Debug, thiserror::Error)]
pub(super) enum CommitError {
    /// The table has columns or partitions that these rows cannot go with.
    #[error("{0}")]
    Unfit(String),
    #[error(transparent)]
    Delta(#[from] DeltaTableError),
}

impl Snapshot {
    /// Loads the table's newest version, and makes the table if there is none.
    pub(super) async fn load_or_create(place: &Place, sink: &str, schema: &LakeSchema) -> Result<Self, CommitError> {
        let log_store =
            default_logstore(place.table.clone(), place.root.clone(), &place.url, &StorageConfig::default());
        if !log_store.is_delta_table_location().await? {
            let table = CreateBuilder::new()
                .with_log_store(log_store.clone())
                .with_columns(struct_type(schema)?.fields().cloned())
                .with_partition_columns([DATE])
                .with_save_mode(SaveMode::Ignore)
                .with_configuration([("delta.checkpointInterval", Some(CHECKPOINT_COMMITS))])
                .await;
            // Another process may have made it in the meantime: what counts is what is there now.
            if let Err(error) = table
                && !log_store.is_delta_table_location().await?
            {
                return Err(error.into());
            }
        }
        let state = DeltaTableState::try_new(&log_store, None).await?;
        Self::at(log_store, state, sink).await
    }

    /// The table's newest version now.
    pub(super) async fn reload(&self, sink: &str) -> Result<Self, CommitError> {
        let mut state = self.state.as_ref().clone();
        state.update(&self.log_store, None).await?;
        Self::at(self.log_store.clone(), state, sink).await
    }

    async fn at(log_store: LogStoreRef, state: DeltaTableState, sink: &str) -> Result<Self, CommitError> {
        if state.metadata().partition_columns() != [DATE.to_string()] {
            return Err(CommitError::Unfit(format!(
                "the table there is not partitioned by {DATE}: give the sink a folder of its own"
            )));
        }
        let mark = state.snapshot().transaction_version(log_store.as_ref(), sink).await?;
        let mark = mark.and_then(|version| u64::try_from(version).ok()).unwrap_or(0);
        Ok(Self { log_store, state: Arc::new(state), mark })
    }

    /// The object that holds this version's commit.
    pub(super) fn commit_file(&self) -> String {
        format!("_delta_log/{:020}.json", self.state.version())
    }

    /// The columns of this version that are not fixed ones.
    pub(super) fn columns(&self) -> LakeSchema {
        let schema = self.state.schema();
        let fixed = [TIME, TOPIC, CLIENT_ID, OFFSET, RESCUED, RAW, DATE];
        let fields = schema.fields().filter(|field| !fixed.contains(&field.name().as_str()));
        let columns = fields.map(|field| LakeField { name: field.name().as_str().into(), data_type: lake_type(field) });
        LakeSchema::new(columns, schema.field(RAW).is_some())
    }

    /// Adds the files of `pieces`, the columns they need, and the mark, as the next version.
    pub(super) async fn commit(
        &self,
        sink: &str,
        pieces: &[Piece],
        schema: &LakeSchema,
        now_ms: i64,
    ) -> Result<Self, CommitError> {
        let Some(mark) = pieces.last().map(|piece| piece.to) else { return Ok(self.clone()) };
        let mut actions: Vec<Action> = self.schema_change(schema)?.into_iter().collect();
        for file in pieces.iter().flat_map(|piece| &piece.files) {
            actions.push(Action::Add(Add {
                path: file.info.object.clone(),
                partition_values: HashMap::from([(DATE.to_string(), Some(file.info.date.clone()))]),
                size: i64::try_from(file.info.bytes).unwrap_or(i64::MAX),
                modification_time: now_ms,
                data_change: true,
                stats: Some(file.info.stats.clone()),
                ..Add::default()
            }));
        }
        let version = i64::try_from(mark).unwrap_or(i64::MAX);
        let properties = CommitProperties::default()
            .with_max_retries(0)
            .with_cleanup_expired_logs(Some(false))
            .with_application_transaction(Transaction::new(sink, version));
        let operation = DeltaOperation::Write {
            mode: SaveMode::Append,
            partition_by: Some(vec![DATE.to_string()]),
            predicate: None,
        };
        let table: &dyn TableReference = self.state.as_ref();
        let done = CommitBuilder::from(properties)
            .with_actions(actions)
            .build(Some(table), self.log_store.clone(), operation)
            .await?;
        Ok(Self { log_store: self.log_store.clone(), state: Arc::new(done.snapshot()), mark })
    }

    /// The metadata action that gives the table the columns it lacks.
    fn schema_change(&self, schema: &LakeSchema) -> Result<Option<Action>, CommitError> {
        let current = self.state.schema();
        let mut fields: Vec<StructField> = current.fields().cloned().collect();
        let before = fields.len();
        for wanted in struct_type(schema)?.fields() {
            match fields.iter().find(|field| field.name().eq_ignore_ascii_case(wanted.name())) {
                Some(found) if found.name() == wanted.name() && found.data_type() == wanted.data_type() => {}
                Some(found) => {
                    return Err(CommitError::Unfit(format!(
                        "column {} is {} in the table and {} in the rows that wait: rename the member in the rule, or \
                         give the sink a folder of its own",
                        found.name(),
                        found.data_type(),
                        wanted.data_type()
                    )));
                }
                None => fields.push(wanted.clone()),
            }
        }
        if fields.len() == before {
            return Ok(None);
        }
        let schema = StructType::try_new(fields).map_err(DeltaTableError::from)?;
        let metadata = self.state.metadata().clone().with_schema(&schema).map_err(DeltaTableError::from)?;
        Ok(Some(Action::Metadata(metadata)))
    }
}

/// The lake's columns as Delta has them.
fn struct_type(schema: &LakeSchema) -> DeltaResult<StructType> {
    let mut fields = vec![
        StructField::nullable(TIME, DataType::TIMESTAMP),
        StructField::nullable(TOPIC, DataType::STRING),
        StructField::nullable(CLIENT_ID, DataType::STRING),
        StructField::nullable(OFFSET, DataType::LONG),
        StructField::nullable(RESCUED, DataType::STRING),
        StructField::nullable(DATE, DataType::DATE),
    ];
    for field in schema.fields() {
        let data_type = match field.data_type {
            LakeType::Varchar | LakeType::Json => DataType::STRING,
            LakeType::Bigint => DataType::LONG,
            LakeType::Double => DataType::DOUBLE,
            LakeType::Boolean => DataType::BOOLEAN,
            LakeType::Timestamp => DataType::TIMESTAMP,
            LakeType::Decimal(precision, scale) => {
                DataType::decimal(precision, scale.unsigned_abs()).map_err(DeltaTableError::from)?
            }
            LakeType::Foreign => continue,
        };
        let column = StructField::nullable(field.name.to_string(), data_type);
        fields.push(match field.data_type {
            LakeType::Json => column.with_metadata([(TYPE_KEY, "json")]),
            _ => column,
        });
    }
    if schema.has_raw() {
        fields.push(StructField::nullable(RAW, DataType::BINARY));
    }
    Ok(StructType::try_new(fields)?)
}

fn lake_type(field: &StructField) -> LakeType {
    match field.data_type() {
        DataType::Primitive(PrimitiveType::String) if field.metadata().contains_key(TYPE_KEY) => LakeType::Json,
        DataType::Primitive(PrimitiveType::String) => LakeType::Varchar,
        DataType::Primitive(PrimitiveType::Long) => LakeType::Bigint,
        DataType::Primitive(PrimitiveType::Double) => LakeType::Double,
        DataType::Primitive(PrimitiveType::Boolean) => LakeType::Boolean,
        DataType::Primitive(PrimitiveType::Timestamp) => LakeType::Timestamp,
        DataType::Primitive(PrimitiveType::Decimal(decimal)) => {
            LakeType::Decimal(decimal.precision(), i8::try_from(decimal.scale()).unwrap_or(0))
        }
        _ => LakeType::Foreign,
    }
}
