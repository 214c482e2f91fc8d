//! The MQTT gateway: MQTT 3.1.1 and 5 on one TCP port, in front of the ingest log and fed by it.
//!
//! A PUBLISH becomes a record of the log and is acknowledged when the log has committed it. Subscribers are served by
//! a thread that reads the log with a mark of its own (`delivery`); what the gateway has to remember about sessions is
//! in the log as notes, and in rows on disk that are exactly what the log says up to that mark (`rows`).
//!
//! | file | idea |
//! |---|---|
//! | `listener`, `handshake`, `seat`, `connection` | a socket: accepted, greeted, its hold on a session, served |
//! | `frame`, `property`, `publish`, `packet` | bytes: cut, checked, read and written |
//! | `inbound` | what a client sends, as a batch for the log and the answers to it |
//! | `session`, `outbox`, `mailbox` | who is connected to what, and what waits for whom |
//! | `will`, `presence` | what is said when a client is gone; who comes and goes |
//! | `notes`, `rows` | what survives: in the log, and on disk |
//! | `delivery`, `slot`, `subscriptions`, `retained`, `message` | from the log to subscribers |
//!
//! May know: MQTT, the log, the store. Must not know: rules, what payloads mean, SQL beyond topics.
//!
//! Not available yet: authentication. User names and passwords are accepted and ignored; enhanced authentication is
//! refused (0x8C).

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::Sender;
use hedgerow_storage::log::{Appender, Epoch, Log, ReadError};
use hedgerow_storage::table::{Store, StoreError};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

mod config;
mod connection;
mod delivery;
mod frame;
mod handshake;
mod inbound;
mod listener;
mod mailbox;
mod message;
mod metrics;
mod notes;
mod outbox;
mod packet;
mod presence;
mod property;
mod publish;
mod reject;
mod retained;
mod rows;
mod seat;
mod session;
mod slot;
mod subscriptions;
mod will;

pub use config::GatewayConfig;
pub use metrics::{Counter, GatewayMetrics, Histogram};
pub use reject::Reject;
pub use rows::MARK;
pub use session::SessionInfo;

use delivery::{Delivery, DeliveryError, Order};
use seat::Unlogged;
use session::{Registry, lock};

/// What all parts of the gateway hold.
struct Shared {
    config: GatewayConfig,
    log: Arc<Log>,
    appender: Appender,
    registry: Registry,
    metrics: GatewayMetrics,
    orders: Sender<Order>,
    /// What the log has to take and had no room for; a few batches a session at most.
    unlogged: Mutex<VecDeque<Unlogged>>,
    /// KiB on their way into the log.
    in_flight: Arc<Semaphore>,
    /// All of them.
    in_flight_kib: u32,
    connections: Arc<Semaphore>,
    handshakes: Semaphore,
    closing: AtomicBool,
    /// Why delivery stopped, if it did.
    failure: OnceLock<String>,
}

impl Shared {
    /// Permits for so many bytes on their way into the log. What exceeds all there are has to be alone.
    fn permits(&self, bytes: usize) -> u32 {
        u32::try_from(bytes / 1024 + 1).unwrap_or(u32::MAX).min(self.in_flight_kib)
    }

    fn order(&self, order: Order) {
        // Without the delivery thread there is nobody to obey; its failure is shown by `Gateway::failure`.
        let _ = self.orders.send(order);
    }
}

/// Why the gateway did not start.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// A setting makes no sense.
    #[error("{0}")]
    Config(String),
    /// The port is not to be had.
    #[error("cannot listen for MQTT on {address}: {source}. Is another broker running? Choose another gateway.listen")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// Sessions on disk cannot be read or written.
    #[error("sessions of the gateway: {0}")]
    Store(#[from] StoreError),
    /// The log no longer holds what follows the gateway's mark.
    #[error(
        "the gateway's sessions on disk are older than the log: {0}. Restore both from the same backup, or remove the \
         gateway's store, which forgets sessions and what waited for them"
    )]
    Log(ReadError),
    /// The log holds notes of a newer version.
    #[error("{0}")]
    Format(String),
    /// A thread could not be started.
    #[error("cannot start the delivery thread: {0}")]
    Thread(std::io::Error),
}

impl From<DeliveryError> for GatewayError {
    fn from(error: DeliveryError) -> Self {
        match error {
            DeliveryError::Store(error) => Self::Store(error),
            DeliveryError::Read(error) => Self::Log(error),
            DeliveryError::Note(error) => Self::Format(error.to_string()),
        }
    }
}

/// A running gateway.
pub struct Gateway {
    shared: Arc<Shared>,
    store: Store,
    address: SocketAddr,
    accept: tokio::task::JoinHandle<()>,
    sync: Mutex<Option<tokio::task::JoinHandle<()>>>,
    /// Tells `sync` to end.
    stop_sync: watch::Sender<bool>,
    delivery: Mutex<Option<JoinHandle<()>>>,
}

impl Gateway {
    /// Starts it: binds the port, brings sessions up to the end of the log, then accepts. Blocks for as long as that
    /// takes. Sockets are served on `runtime`; rows live in `store` under names beginning with `gateway.`, with the
    /// mark `gateway`.
    pub fn start(
        config: GatewayConfig,
        log: Arc<Log>,
        store: Store,
        runtime: &tokio::runtime::Handle,
    ) -> Result<Self, GatewayError> {
        config.check().map_err(GatewayError::Config)?;
        let (listener, address) = listen(config.listen, runtime)?;
        let (orders, obeyed) = crossbeam_channel::unbounded();
        let in_flight_kib = u32::try_from(config.in_flight_bytes / 1024 + 1).unwrap_or(u32::MAX);
        let shared = Arc::new(Shared {
            appender: log.appender(),
            log,
            registry: Registry::default(),
            metrics: GatewayMetrics::default(),
            orders,
            unlogged: Mutex::default(),
            in_flight: Arc::new(Semaphore::new(in_flight_kib as usize)),
            in_flight_kib,
            connections: Arc::new(Semaphore::new(config.max_connections)),
            handshakes: Semaphore::new(config.max_handshakes),
            closing: AtomicBool::new(false),
            failure: OnceLock::new(),
            config,
        });
        let rows = rows::Rows::open(store.clone())?;
        let mut delivery = Delivery::new(Arc::clone(&shared), rows, obeyed)?;
        delivery.catch_up()?;
        let thread = std::thread::Builder::new().name("mqtt-delivery".into());
        let watched = Arc::clone(&shared);
        let thread = thread.spawn(move || {
            let ended = catch_unwind(AssertUnwindSafe(|| delivery.run()));
            let reason = match ended {
                Ok(Ok(())) => return,
                Ok(Err(error)) => error.to_string(),
                Err(_) => "a defect in the program; its message is in the log output".to_owned(),
            };
            tracing::error!(reason, "delivery to subscribers stopped");
            let _ = watched.failure.set(reason);
        });
        let thread = thread.map_err(GatewayError::Thread)?;
        let accept = runtime.spawn(listener::accept(Arc::clone(&shared), listener));
        let every = Duration::from_millis(shared.config.delivery_sync_ms.max(1));
        let stop_sync = watch::Sender::new(false);
        let sync = Mutex::new(Some(runtime.spawn(keep_synced(store.clone(), every, stop_sync.subscribe()))));
        tracing::info!(%address, sessions = shared.registry.len(), "MQTT gateway listens");
        Ok(Self { shared, store, address, accept, sync, stop_sync, delivery: Mutex::new(Some(thread)) })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Counters and gauges.
    pub fn metrics(&self) -> &GatewayMetrics {
        &self.shared.metrics
    }

    /// All sessions, by client id.
    pub fn sessions(&self) -> Vec<SessionInfo> {
        self.shared.registry.list()
    }

    /// A handle for listing sessions and metrics elsewhere, which does not keep the gateway running.
    pub fn view(&self) -> GatewayView {
        GatewayView { shared: Arc::clone(&self.shared) }
    }

    /// The log is not needed any more up to here: everything that follows from it is durable.
    pub fn taken(&self) -> Epoch {
        Epoch(self.store.synced_mark(rows::MARK).unwrap_or(0))
    }

    /// Why messages are no longer delivered, if that is so. Publishing goes on.
    pub fn failure(&self) -> Option<&str> {
        self.shared.failure.get().map(String::as_str)
    }

    /// Ends it within about `bound`: no new connections, answers that are due, DISCONNECT 0x8B, sessions written.
    pub async fn shutdown(&self, bound: Duration) {
        let shared = &self.shared;
        shared.closing.store(true, Ordering::Release);
        self.accept.abort();
        shared.registry.dismiss_all(Reject::ShuttingDown);
        let all = u32::try_from(shared.config.max_connections).unwrap_or(u32::MAX);
        if tokio::time::timeout(bound, shared.connections.acquire_many(all)).await.is_err() {
            tracing::warn!("connections did not end in time; their clients find out by themselves");
        }
        shared.order(Order::Stop);
        self.stop_sync.send_replace(true);
        let sync = lock(&self.sync).take();
        if let Some(sync) = sync {
            // A sync under way holds the store: it is free to be opened again only after that.
            let _ = sync.await;
        }
        let thread = lock(&self.delivery).take();
        let store = self.store.clone();
        let ended = tokio::task::spawn_blocking(move || {
            if let Some(thread) = thread {
                let _ = thread.join();
            }
            store.sync()
        });
        match ended.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "sessions could not be synced"),
            Err(error) => tracing::error!(%error, "the delivery thread could not be joined"),
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::Release);
        self.accept.abort();
        self.stop_sync.send_replace(true);
        self.shared.registry.dismiss_all(Reject::ShuttingDown);
        self.shared.order(Order::Stop);
    }
}

/// What others may see of a gateway.
#[derive(Clone)]
pub struct GatewayView {
    shared: Arc<Shared>,
}

impl GatewayView {
    /// Counters and gauges.
    pub fn metrics(&self) -> &GatewayMetrics {
        &self.shared.metrics
    }

    /// All sessions, by client id.
    pub fn sessions(&self) -> Vec<SessionInfo> {
        self.shared.registry.list()
    }

    /// Why messages are no longer delivered, if that is so.
    pub fn failure(&self) -> Option<&str> {
        self.shared.failure.get().map(String::as_str)
    }
}

fn listen(address: SocketAddr, runtime: &tokio::runtime::Handle) -> Result<(TcpListener, SocketAddr), GatewayError> {
    let failed = |source| GatewayError::Listen { address, source };
    let listener = std::net::TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    let _inside = runtime.enter();
    Ok((TcpListener::from_std(listener).map_err(failed)?, bound))
}

async fn keep_synced(store: Store, every: Duration, mut stop: watch::Receiver<bool>) {
    let mut clock = tokio::time::interval(every);
    clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = clock.tick() => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
        let store = store.clone();
        // A failed sync is sticky in the store: the delivery thread meets it at its next commit, and says so.
        let _ = tokio::task::spawn_blocking(move || store.sync()).await;
    }
}

#[cfg(test)]
mod tests;
