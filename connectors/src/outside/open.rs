//! From CREATE SINK to a destination that is sent to: options, outbox, sender.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use hedgerow_engine::sink::Sink;
use hedgerow_engine::sink::outbox::{OutboxConfig, OutboxSink, Outgoing};
use hedgerow_sql::rule::SinkDef;
use hedgerow_storage::lake::Objects;
use hedgerow_storage::outbox::Outbox;
use tokio::sync::watch;
use url::Url;

use super::backoff::Backoff;
use super::confirmation::{Agreement, Asking};
use super::guard::{AllowPrivate, GuardedClient};
use super::notification::Notification;
use super::objects::ObjectFolder;
use super::plan::{HttpPlan, To, plan};
use super::sender::{Sender, SenderStatus};
use super::transport::Transport;
use super::webhook::Webhook;
use crate::calls::Granted;
use crate::config::Config;
use crate::queues::QueueSinks;

/// How often an outbox is synced.
const SYNC_INTERVAL: Duration = Duration::from_millis(100);

/// All destinations of a server.
pub struct Destinations {
    config: Config,
    outbox: Outbox,
    runtime: tokio::runtime::Handle,
    now_ms: Arc<dyn Fn() -> i64 + Send + Sync>,
    open: Mutex<BTreeMap<Arc<str>, Open>>,
    /// Where this server is for those that it sends to, once it listens.
    public_url: watch::Sender<Option<Arc<str>>>,
    /// Dead letters of queues go back there.
    queues: Arc<QueueSinks>,
    /// For the sinks that open no address of their own.
    client: OnceLock<GuardedClient>,
}

/// A destination that is sent to.
#[derive(Clone)]
pub(super) struct Open {
    pub connector: Arc<str>,
    pub sender: Arc<Sender>,
    pub agreement: Option<Arc<Agreement>>,
}

/// What a destination is sent to with, and whether it has agreed if it has to.
type Sending = (Arc<dyn Transport>, Option<Arc<Agreement>>);

impl Destinations {
    /// None is open yet. `now_ms` is the log's time.
    pub fn new(
        config: &Config,
        outbox: Outbox,
        queues: Arc<QueueSinks>,
        runtime: tokio::runtime::Handle,
        now_ms: Arc<dyn Fn() -> i64 + Send + Sync>,
    ) -> Self {
        let config = config.clone();
        Self {
            config,
            outbox,
            runtime,
            now_ms,
            open: Mutex::default(),
            public_url: watch::Sender::new(None),
            queues,
            client: OnceLock::new(),
        }
    }

    /// The message queues, to which dead letters may go back.
    pub(super) fn queues(&self) -> &QueueSinks {
        &self.queues
    }

    /// The outbox of all of them.
    pub fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// Would this sink open here?
    ///
    /// # Errors
    /// What is wrong and which option or setting mends it.
    pub fn check(config: &Config, definition: &SinkDef) -> Result<(), String> {
        plan(config, definition).map(|_| ())
    }

    /// Opens a sink and begins to send what its outbox holds.
    ///
    /// # Errors
    /// What is wrong and which option or setting mends it. Never because a destination is out of reach.
    pub fn open(&self, definition: &SinkDef) -> Result<Box<dyn Sink>, String> {
        let plan = plan(&self.config, definition)?;
        let in_sink = |reason: String| format!("sink {}: {reason}", definition.name);
        let queue = self.outbox.queue(&definition.name);
        let batches = plan.sender.batch_rows > 1;
        let protocols = plan.to.protocols();
        let (transport, agreement) = match plan.to {
            To::Http(http) => self.http(&definition.name, *http, batches).map_err(in_sink)?,
            To::Objects { path, store } => {
                let objects = Objects::open(&definition.name, &path, store).map_err(|error| error.to_string())?;
                (Arc::new(ObjectFolder { objects }) as Arc<dyn Transport>, None)
            }
        };
        let sender = Sender::start(queue.clone(), transport, plan.sender, self.runtime.clone())
            .map_err(|error| in_sink(error.to_string()))?;
        let (connector, of_map) = (Arc::clone(&definition.connector), Arc::clone(&sender));
        lock(&self.open).insert(Arc::clone(&definition.name), Open { connector, sender: of_map, agreement });
        let config = OutboxConfig {
            intake: Arc::new(Outgoing { queue, limits: plan.limits }),
            parameters: plan.parameters,
            protocols,
            sync_interval: SYNC_INTERVAL,
            now_ms: Arc::clone(&self.now_ms),
        };
        let sink = OutboxSink::open(config, sender).map_err(|error| in_sink(error.to_string()))?;
        Ok(Box::new(sink))
    }

    /// A destination that takes HTTP requests, and whether it has agreed if it has to.
    fn http(&self, name: &Arc<str>, plan: HttpPlan, batches: bool) -> Result<Sending, String> {
        let client = self.client(plan.allow_private)?;
        let agreement = self.agreement(name, plan.confirmation, plan.notification.clone(), &client, plan.timeout)?;
        let webhook = Webhook {
            client,
            url: plan.url,
            method: plan.method,
            headers: plan.headers,
            timeout: plan.timeout,
            signing: plan.signing,
            batches,
            secrets: Granted::new(&self.config),
            notification: plan.notification,
            agreement: agreement.clone(),
        };
        Ok((Arc::new(webhook), agreement))
    }

    /// Asks the destination whether it wants to be sent to, if it is to be asked.
    fn agreement(
        &self,
        name: &Arc<str>,
        url: Option<Url>,
        notification: Option<Notification>,
        client: &GuardedClient,
        timeout: Duration,
    ) -> Result<Option<Arc<Agreement>>, String> {
        let kept = self.outbox.confirmations();
        let Some(url) = url else {
            kept.remove(name).map_err(|error| error.to_string())?;
            return Ok(None);
        };
        let agreement = Agreement::open(name, &url, kept.clone(), Arc::clone(&self.now_ms))?;
        let outside = &self.config.outside;
        let asking = Asking {
            client: client.clone(),
            notification,
            timeout,
            backoff: Backoff { min: Duration::from_secs(1).min(outside.max_backoff.0), max: outside.max_backoff.0 },
            patience: outside.confirm_for.0,
            public_url: self.public_url.subscribe(),
            now_ms: Arc::clone(&self.now_ms),
        };
        agreement.start(asking, &self.runtime);
        Ok(Some(agreement))
    }

    /// This server listens: receivers may be told to answer there.
    pub fn listens_at(&self, public_url: &str) {
        self.public_url.send_replace(Some(public_url.into()));
    }

    pub(super) fn all(&self) -> Vec<(Arc<str>, Open)> {
        lock(&self.open).iter().map(|(name, open)| (Arc::clone(name), open.clone())).collect()
    }

    fn client(&self, own: Option<AllowPrivate>) -> Result<GuardedClient, String> {
        let outside = &self.config.outside;
        let make = |allowed: &[AllowPrivate]| {
            GuardedClient::new(allowed, outside.connect_timeout.0).map_err(|error| error.to_string())
        };
        if let Some(own) = own {
            let allowed: Vec<AllowPrivate> = outside.allow_private.iter().cloned().chain([own]).collect();
            return make(&allowed);
        }
        if let Some(client) = self.client.get() {
            return Ok(client.clone());
        }
        let client = make(&outside.allow_private)?;
        Ok(self.client.get_or_init(|| client).clone())
    }

    /// A sink was closed; it may be opened again.
    pub fn closed(&self, name: &str) {
        if let Some(open) = lock(&self.open).remove(name)
            && let Some(agreement) = open.agreement
        {
            agreement.stop();
        }
    }

    /// A sink is gone for good: what waits for it is given up.
    pub fn dropped(&self, name: &str) {
        if let Err(error) = self.outbox.confirmations().remove(name) {
            tracing::warn!(sink = name, %error, "the confirmation of the dropped sink stays");
        }
        let queue = self.outbox.queue(name);
        match queue.bury_all("the sink was dropped", (self.now_ms)()) {
            Ok(0) => {}
            Ok(rows) => {
                tracing::warn!(sink = name, rows, "the sink was dropped; what waited for it is in dead_letters")
            }
            Err(error) => tracing::error!(sink = name, %error, "rows of the dropped sink stay in the outbox"),
        }
    }

    /// What waits for sinks that there are no more, from a kill while one was dropped.
    pub fn give_up_orphans(&self) {
        let open = lock(&self.open);
        let orphans = self.outbox.names().into_iter().filter(|name| !open.contains_key(name));
        let orphans: Vec<Arc<str>> = orphans.filter(|name| !self.outbox.queue(name).is_empty()).collect();
        drop(open);
        orphans.iter().for_each(|name| self.dropped(name));
    }

    /// Whether there is a sender of this name.
    pub fn is_open(&self, name: &str) -> bool {
        lock(&self.open).contains_key(name)
    }

    /// Tells a sender that its queue has changed from outside.
    pub fn wake(&self, name: &str) {
        use hedgerow_engine::sink::outbox::Drain as _;
        if let Some(open) = lock(&self.open).get(name) {
            open.sender.wake();
        }
    }

    /// One line a destination.
    pub fn status(&self) -> Vec<SenderStatus> {
        let line = |(_, open): (Arc<str>, Open)| SenderStatus {
            connector: open.connector.to_string(),
            confirmation: open.agreement.map(|agreement| agreement.state()),
            ..open.sender.status()
        };
        self.all().into_iter().map(line).collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
