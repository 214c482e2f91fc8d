//! The server: storage, engine, gateway and HTTP API, assembled.
//!
//! Order of starting: storage; the engine, which replays the log; the rules folder; then the sockets. Stopping goes the
//! other way round.

mod health;
mod offline;
mod rules;
mod sinks;
mod views;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hedgerow_engine::call::Caller;
use hedgerow_engine::engine::{Engine, Outside, StartError};
use hedgerow_engine::source::StepLimits;
use hedgerow_storage::checkpoint::{CheckpointOpenError, Checkpoints};
use hedgerow_storage::clock::SystemClock;
use hedgerow_storage::disk::SystemDisk;
use hedgerow_storage::log::{Epoch, Log, OpenError};
use hedgerow_storage::outbox::{DeadLimits, Outbox};
use hedgerow_storage::queue::Queues;
use hedgerow_storage::table::{StoreError, TableOpenError, Tables, TablesConfig};

use crate::calls::{Calls, CallsError};
use crate::config::Config;
use crate::gateway::{Gateway, GatewayError};
use crate::http::{Api, HttpServer, HttpStartError};
use crate::outside::Destinations;
use crate::query::{DeadLetterTable, IngestLog, KeyValueTables, Lakes, QueryEngine, QuerySetupError, Sources};
use crate::queues::QueueSinks;

pub use offline::Offline;
pub use rules::{OWNER_API, OWNER_FOLDER, read_folder};
pub use views::Views;

/// How long an applied change may take to come into force before the caller is told that it is pending.
const APPLY_WAIT: Duration = Duration::from_secs(30);
/// How long each part may take to stop.
const STOP_WAIT: Duration = Duration::from_secs(10);

/// Why the server does not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The data folder is not usable.
    #[error("the data folder {path} cannot be used: {source}", path = path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Checkpoints.
    #[error(transparent)]
    Checkpoints(#[from] CheckpointOpenError),
    /// Tables.
    #[error(transparent)]
    Tables(#[from] TableOpenError),
    /// The outbox.
    #[error(transparent)]
    Outbox(#[from] StoreError),
    /// The log.
    #[error(transparent)]
    Log(#[from] OpenError),
    /// The engine.
    #[error(transparent)]
    Engine(#[from] StartError),
    /// The rules folder.
    #[error("{0}")]
    Rules(String),
    /// Calls of other systems.
    #[error(transparent)]
    Calls(#[from] CallsError),
    /// Queries.
    #[error(transparent)]
    Query(#[from] QuerySetupError),
    /// The gateway.
    #[error(transparent)]
    Gateway(#[from] GatewayError),
    /// HTTP.
    #[error(transparent)]
    Http(#[from] HttpStartError),
    /// A task of the start was lost.
    #[error("the start was interrupted: {0}")]
    Interrupted(#[from] tokio::task::JoinError),
}

/// The parts beneath the sockets.
pub(crate) struct Core {
    pub config: Config,
    pub log: Arc<Log>,
    pub tables: Tables,
    pub engine: Arc<Engine>,
    pub query: QueryEngine,
    pub views: Arc<Views>,
    pub destinations: Arc<Destinations>,
    pub queues: Arc<QueueSinks>,
}

impl Core {
    /// Opens storage, replays the log and prepares queries. Blocks for as long as that takes.
    pub fn open(config: Config, runtime: &tokio::runtime::Handle) -> Result<Arc<Self>, ServeError> {
        let folder = config.data.folder.clone();
        std::fs::create_dir_all(&folder).map_err(|source| ServeError::Folder { path: folder.clone(), source })?;
        let disk = Arc::new(SystemDisk);
        let tables = Tables::open(&folder.join("tables"), TablesConfig::default())?;
        let checkpoint_folder = folder.join("checkpoints");
        let newest = Checkpoints::open(&checkpoint_folder, disk.clone())?.newest_epoch().unwrap_or(0);
        let marks = tables.store().mark_names();
        let floor = marks.iter().filter_map(|name| tables.mark(name)).fold(newest, u64::max);
        let (log, recovery) = Log::open(config.log_config(), disk.clone(), Arc::new(SystemClock::new()), Epoch(floor))?;
        tracing::info!(?recovery, "the ingest log is open");
        let log = Arc::new(log);
        let lakes = Arc::new(sinks::OpenLakes::default());
        let calls = Arc::new(Calls::new(&config, runtime.clone())?);
        let limits =
            DeadLimits { max_bytes: config.outside.max_dead_letters.0, max_age: config.outside.dead_letter_age.0 };
        let outbox = Outbox::open(tables.store(), limits)?;
        let clock = Arc::clone(&log);
        let now_ms: Arc<dyn Fn() -> i64 + Send + Sync> = Arc::new(move || clock.now_ms());
        let queues = Arc::new(QueueSinks::new(&config, Queues::open(&outbox)?, Arc::clone(&now_ms)));
        let destinations = Arc::new(Destinations::new(&config, outbox, Arc::clone(&queues), runtime.clone(), now_ms));
        let opener = sinks::Opener::new(
            &config,
            Arc::clone(&lakes),
            Arc::clone(&destinations),
            Arc::clone(&queues),
            runtime.clone(),
        );
        let store = tables.store().clone();
        let gateway_mark = Arc::new(move || store.synced_mark(crate::gateway::MARK).map(Epoch));
        let engine = Arc::new(Engine::start(
            &engine_config(&config),
            Arc::clone(&log),
            tables.clone(),
            Outside { opener: Box::new(opener), caller: Arc::clone(&calls) as Arc<dyn Caller> },
            &checkpoint_folder,
            disk,
            gateway_mark,
        )?);
        // Queries and rule changes see everything that was logged before the start.
        engine.wait_for(log.last_epoch(), Duration::MAX);
        destinations.give_up_orphans();
        queues.give_up_orphans();
        let views = Arc::new(Views::new(
            Arc::clone(&log),
            tables.clone(),
            Arc::clone(&engine),
            Arc::clone(&lakes),
            Arc::clone(&destinations),
            Arc::clone(&queues),
            calls,
        ));
        let sources = Sources {
            relations: vec![
                Arc::new(KeyValueTables::new(tables.clone(), views.clone())),
                Arc::new(Lakes::new(lakes.clone())),
                Arc::new(IngestLog::new(Arc::clone(&log))),
                Arc::new(DeadLetterTable::new(destinations.outbox().dead().clone())),
            ],
            system: views.clone(),
        };
        let query = QueryEngine::new(&config, sources)?;
        Ok(Arc::new(Self { config, log, tables, engine, query, views, destinations, queues }))
    }

    /// Stops the engine after a last checkpoint, closes sinks and the log.
    pub fn close(&self) {
        self.engine.checkpoint(STOP_WAIT / 2);
        self.engine.stop(STOP_WAIT);
        self.log.shutdown();
    }
}

/// A running server.
pub struct Server {
    core: Arc<Core>,
    gateway: Gateway,
    http: HttpServer,
    http_address: SocketAddr,
    stopping: Arc<AtomicBool>,
}

impl Server {
    /// Starts everything and returns once messages are taken.
    ///
    /// # Errors
    /// When what is stored cannot be followed, a port is taken, or a rule file is wrong; never because a destination is
    /// out of reach.
    pub async fn start(config: Config) -> Result<Self, ServeError> {
        let runtime = tokio::runtime::Handle::current();
        let (core, gateway) = tokio::task::spawn_blocking(move || {
            let core = Core::open(config, &runtime)?;
            match open_gateway(&core, &runtime) {
                Ok(gateway) => Ok((core, gateway)),
                Err(error) => {
                    core.close();
                    Err(error)
                }
            }
        })
        .await??;
        core.views.set_gateway(gateway.view());
        let stopping = Arc::new(AtomicBool::new(false));
        let control = rules::Control::new(Arc::clone(&core));
        rules::watch(Arc::clone(&core), Arc::clone(&stopping));
        Arc::clone(&core.queues).keep_young();
        let api = Api {
            query: core.query.clone(),
            tables: Arc::new(KeyValueTables::new(core.tables.clone(), core.views.clone())),
            rules: Arc::new(control),
            letters: Arc::clone(&core.destinations) as _,
            destinations: Arc::clone(&core.destinations) as _,
            queues: Arc::clone(&core.queues) as _,
            health: Arc::new(health::Health::new(Arc::clone(&core), gateway.view())),
            metrics: core.views.clone(),
        };
        let http = match HttpServer::start(&core.config, api).await {
            Ok(http) => http,
            Err(error) => {
                stopping.store(true, Ordering::Release);
                core.queues.stop();
                gateway.shutdown(STOP_WAIT).await;
                let _ = tokio::task::spawn_blocking(move || core.close()).await;
                return Err(error.into());
            }
        };
        let http_address = http.address();
        let public_url = Some(core.config.http.public_url.clone()).filter(|url| !url.is_empty());
        core.destinations.listens_at(&public_url.unwrap_or_else(|| format!("http://{http_address}")));
        Ok(Self { core, gateway, http, http_address, stopping })
    }

    /// Where MQTT is.
    pub fn mqtt_address(&self) -> SocketAddr {
        self.gateway.local_addr()
    }

    /// Where HTTP is.
    pub fn http_address(&self) -> SocketAddr {
        self.http_address
    }

    /// The file with the access token.
    pub fn token_file(&self) -> PathBuf {
        self.core.config.token_file()
    }

    /// Stops: no new work, what was taken becomes durable, files are closed; bounded.
    pub async fn stop(self) {
        self.stopping.store(true, Ordering::Release);
        self.gateway.shutdown(STOP_WAIT).await;
        self.core.queues.stop();
        self.http.shutdown().await;
        let core = self.core;
        if tokio::task::spawn_blocking(move || core.close()).await.is_err() {
            tracing::error!("the engine could not be stopped in order; the next start replays what is missing");
        }
    }
}

/// Applies the rules folder, then takes connections.
fn open_gateway(core: &Core, runtime: &tokio::runtime::Handle) -> Result<Gateway, ServeError> {
    rules::apply_folder_at_start(core)?;
    let store = core.tables.store().clone();
    Ok(Gateway::start(core.config.gateway.clone(), Arc::clone(&core.log), store, runtime)?)
}

fn engine_config(config: &Config) -> hedgerow_engine::engine::EngineConfig {
    let engine = &config.engine;
    let bytes = |size: crate::config::ByteSize| usize::try_from(size.0).unwrap_or(usize::MAX);
    hedgerow_engine::engine::EngineConfig {
        workers: config.workers(),
        limits: StepLimits {
            rows: engine.step_rows,
            bytes: bytes(engine.step_bytes),
            in_flight_bytes: bytes(engine.in_flight),
        },
        checkpoint_interval: engine.checkpoint_interval.0,
        hop_limit: engine.max_hops,
        ..hedgerow_engine::engine::EngineConfig::default()
    }
}
