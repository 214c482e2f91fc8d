//! Opens the sinks of CREATE SINK: options, secrets, folders.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hedgerow_engine::sink::Sink;
use hedgerow_engine::sink::lake::LakeSink;
use hedgerow_engine::sink::registry::OpenSink;
use hedgerow_sql::notify;
use hedgerow_sql::rule::{ColumnType, OptionValue, SinkDef};
use hedgerow_storage::lake::{DeclaredColumn, Format, Lake, LakeConfig, LakeType, Secret};
use hedgerow_storage::outbox::Outbox;

use crate::config::{ByteSize, Config};
use crate::outside::{CONNECTORS, Destinations};
use crate::query::LakeCatalog;
use crate::queues::{QUEUE, QueueSinks};

/// The connector of lakes.
const LAKE: &str = "lake";

/// The lakes that are open now, for queries.
#[derive(Default)]
pub struct OpenLakes(Mutex<BTreeMap<Arc<str>, Arc<Lake>>>);

impl LakeCatalog for OpenLakes {
    fn lakes(&self) -> Vec<(Arc<str>, Arc<Lake>)> {
        let open = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        open.iter().map(|(name, lake)| (Arc::clone(name), Arc::clone(lake))).collect()
    }
}

/// Opens sinks with the settings of the server.
pub struct Opener {
    config: Config,
    lakes: Arc<OpenLakes>,
    destinations: Arc<Destinations>,
    queues: Arc<QueueSinks>,
    runtime: tokio::runtime::Handle,
}

impl Opener {
    /// With these settings; lakes do their I/O on `runtime`.
    pub fn new(
        config: &Config,
        lakes: Arc<OpenLakes>,
        destinations: Arc<Destinations>,
        queues: Arc<QueueSinks>,
        runtime: tokio::runtime::Handle,
    ) -> Self {
        Self { config: config.clone(), lakes, destinations, queues, runtime }
    }
}

/// Would this sink open here? Its options, secrets and connector are looked at; its destination is not.
///
/// # Errors
/// What is wrong and which option or setting mends it.
pub fn check(config: &Config, definition: &SinkDef) -> Result<(), String> {
    match &*definition.connector {
        LAKE => lake(config, definition).map(|_| ()),
        connector if CONNECTORS.contains(&connector) => Destinations::check(config, definition),
        QUEUE => QueueSinks::check(config, definition),
        notify::CONNECTOR => topic(definition),
        other => {
            let all: Vec<String> =
                [LAKE, QUEUE, notify::CONNECTOR].iter().chain(&CONNECTORS).map(|name| format!("'{name}'")).collect();
            let (name, all) = (&definition.name, all.join(", "));
            Err(format!("sink {name}: there is no connector {other:?} in this version; there are {all}"))
        }
    }
}

/// A topic has nothing to set: it is what rules publish into and subscribe to.
fn topic(definition: &SinkDef) -> Result<(), String> {
    let name = &definition.name;
    if definition.columns.is_empty() && definition.options.is_empty() {
        return Ok(());
    }
    Err(format!(
        "sink {name}: a topic (connector = 'notify') has neither columns nor options; what is sent where, and how, say the rules that read FROM {name}"
    ))
}

fn lake(config: &Config, definition: &SinkDef) -> Result<LakeConfig, String> {
    let name = &definition.name;
    let default_path = || config.lake_folder().join(&**name).to_string_lossy().into_owned();
    let path = path_of(definition)?.map_or_else(default_path, str::to_owned);
    let mut lake = config.lake_config(name, &path);
    lake.columns = definition.columns.iter().map(declared).collect();
    for (option, value) in &definition.options {
        set(config, &mut lake, option, value).map_err(|reason| format!("sink {name}: option {option}: {reason}"))?;
    }
    Ok(lake)
}

fn set(config: &Config, lake: &mut LakeConfig, option: &str, value: &OptionValue) -> Result<(), String> {
    match option {
        "path" => {}
        "format" => {
            lake.format = match text(value)? {
                "delta" => Format::Delta,
                "parquet" => Format::Parquet,
                other => return Err(format!("{other:?} is neither 'delta' nor 'parquet'")),
            }
        }
        "roll_rows" => lake.roll_rows = number(value)?,
        "roll_bytes" => lake.roll_bytes = bytes(value)?,
        "roll_age" => lake.roll_age = interval(value)?,
        "max_columns" => lake.max_columns = number(value)?,
        "max_backlog" => lake.max_backlog_bytes = bytes(value)? as u64,
        "endpoint" => lake.store.endpoint = Some(text(value)?.to_owned()),
        "region" => lake.store.region = Some(text(value)?.to_owned()),
        "allow_http" => lake.store.allow_http = matches!(value, OptionValue::Bool(true)),
        "access_key_id" => lake.store.access_key_id = Some(secret(config, value)?),
        "secret_access_key" => lake.store.secret_access_key = Some(secret(config, value)?),
        "session_token" => lake.store.session_token = Some(secret(config, value)?),
        _ => {
            let known = LAKE_OPTIONS.join(", ");
            return Err(format!("a lake has no such option; there are {known}"));
        }
    }
    Ok(())
}

fn secret(config: &Config, value: &OptionValue) -> Result<Secret, String> {
    let OptionValue::Secret(name) = value else { return Err("write SECRET('name') here".into()) };
    config.secrets.resolve(name).map(|secret| Secret::new(secret.reveal())).map_err(|error| error.to_string())
}

/// The options of `connector = 'lake'`.
pub const LAKE_OPTIONS: [&str; 13] = [
    "path",
    "format",
    "roll_rows",
    "roll_bytes",
    "roll_age",
    "max_columns",
    "max_backlog",
    "endpoint",
    "region",
    "allow_http",
    "access_key_id",
    "secret_access_key",
    "session_token",
];

impl OpenSink for Opener {
    fn open(&self, definition: &SinkDef) -> Result<Box<dyn Sink>, String> {
        if &*definition.connector != LAKE {
            check(&self.config, definition)?;
            return match &*definition.connector {
                QUEUE => self.queues.open(definition),
                _ => self.destinations.open(definition),
            };
        }
        let lake = lake(&self.config, definition)?;
        let lake = Arc::new(Lake::open(lake, self.runtime.clone()).map_err(|error| error.to_string())?);
        let mut open = self.lakes.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        open.insert(Arc::clone(&definition.name), Arc::clone(&lake));
        Ok(Box::new(LakeSink::new(lake)))
    }

    fn outbox(&self) -> Option<Outbox> {
        Some(self.destinations.outbox().clone())
    }

    fn dropped(&self, name: &str) {
        self.destinations.dropped(name);
        self.queues.dropped(name);
    }

    fn closed(&self, name: &str) {
        self.destinations.closed(name);
        self.queues.closed(name);
        self.lakes.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).remove(name);
    }
}

/// The option `path`.
fn path_of(definition: &SinkDef) -> Result<Option<&str>, String> {
    let path = definition.options.iter().find(|(name, _)| &**name == "path");
    path.map(|(_, value)| text(value)).transpose().map_err(|reason| format!("option path: {reason}"))
}

fn declared(column: &hedgerow_sql::rule::ColumnDef) -> DeclaredColumn {
    let data_type = match column.ty {
        ColumnType::Varchar => LakeType::Varchar,
        ColumnType::BigInt => LakeType::Bigint,
        ColumnType::Double => LakeType::Double,
        ColumnType::Boolean => LakeType::Boolean,
        ColumnType::Timestamp => LakeType::Timestamp,
        ColumnType::Json => LakeType::Json,
        ColumnType::Decimal { precision, scale } => LakeType::Decimal(precision, scale),
    };
    DeclaredColumn { name: column.name.to_string(), data_type }
}

fn text(value: &OptionValue) -> Result<&str, String> {
    match value {
        OptionValue::String(text) => Ok(text),
        _ => Err("this is a text in single quotes".into()),
    }
}

fn number(value: &OptionValue) -> Result<usize, String> {
    match value {
        OptionValue::Number(text) => text.parse().map_err(|_| format!("{text} is not a whole number")),
        _ => Err("this is a whole number".into()),
    }
}

fn bytes(value: &OptionValue) -> Result<usize, String> {
    match value {
        OptionValue::String(text) => {
            let size: ByteSize = text.parse()?;
            usize::try_from(size.0).map_err(|_| format!("{text} is too large"))
        }
        _ => number(value),
    }
}

fn interval(value: &OptionValue) -> Result<Duration, String> {
    match value {
        OptionValue::Interval(us) => Ok(Duration::from_micros(*us)),
        _ => Err("write an INTERVAL, for example INTERVAL '10 seconds'".into()),
    }
}
