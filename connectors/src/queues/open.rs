//! From CREATE SINK to a queue: its options, its sink, and who waits for its messages.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hedgerow_engine::sink::Sink;
use hedgerow_engine::sink::outbox::{Drain, OutboxConfig, OutboxSink};
use hedgerow_sql::rule::SinkDef;
use hedgerow_storage::outbox::{DeadLetter, Overflow, QueueLimits};
use hedgerow_storage::queue::{MessageQueue, QueueSettings, Queues};
use hedgerow_storage::table::StoreError;
use tokio::sync::{Notify, Semaphore, watch};

use crate::config::Config;
use crate::http::queues::{MAX_DELAY_S, MAX_VISIBILITY_S};
use crate::outside::options::Options;
use crate::query::system::QueueStatus;

/// The connector of message queues.
pub const QUEUE: &str = "queue";

/// How often the store is synced for the mark. What callers send and delete is synced at once.
const SYNC_INTERVAL: Duration = Duration::from_millis(100);
/// How often messages that are too old are removed.
const EXPIRE_INTERVAL: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(24 * 3_600);
const DEFAULT_VISIBILITY: Duration = Duration::from_secs(30);
const DEFAULT_IN_FLIGHT: u64 = 120_000;

/// All queues of a server.
pub struct QueueSinks {
    config: Config,
    pub(super) queues: Queues,
    pub(super) now_ms: Arc<dyn Fn() -> i64 + Send + Sync>,
    signals: Mutex<BTreeMap<Arc<str>, Arc<Notify>>>,
    /// Callers that may wait for messages at a time.
    pub(super) waiters: Semaphore,
    pub(super) stopping: watch::Sender<bool>,
}

/// Tells callers that there are new messages.
struct Waker {
    queue: MessageQueue,
    queues: Queues,
    signal: Arc<Notify>,
}

impl Drain for Waker {
    fn wake(&self) {
        self.signal.notify_waiters();
    }

    fn problem(&self) -> Option<String> {
        let settings = self.queue.settings()?;
        let wanted = settings.dead_letter_queue.as_ref()?;
        let missing = self.queues.open_queue(wanted).is_none();
        missing.then(|| {
            format!("dead_letter_queue: there is no queue {wanted}; messages for it become dead letters: create it")
        })
    }

    fn stop(&self, _: Duration) {}
}

impl QueueSinks {
    /// None is open yet. `now_ms` is the log's time.
    pub fn new(config: &Config, queues: Queues, now_ms: Arc<dyn Fn() -> i64 + Send + Sync>) -> Self {
        Self {
            config: config.clone(),
            queues,
            now_ms,
            signals: Mutex::default(),
            // The other half answers those who do not wait.
            waiters: Semaphore::new((config.http.max_requests / 2).max(1)),
            stopping: watch::Sender::new(false),
        }
    }

    /// Would this sink open here?
    ///
    /// # Errors
    /// What is wrong and which option mends it.
    pub fn check(config: &Config, definition: &SinkDef) -> Result<(), String> {
        settings(config, definition).map(|_| ())
    }

    /// Opens a queue; what it holds can be received from then on.
    ///
    /// # Errors
    /// What is wrong and which option mends it.
    pub fn open(&self, definition: &SinkDef) -> Result<Box<dyn Sink>, String> {
        let settings = settings(&self.config, definition)?;
        let queue = self.queues.queue(&definition.name);
        queue.set(Some(settings));
        let signal = self.signal(&definition.name);
        let waker = Waker { queue: queue.clone(), queues: self.queues.clone(), signal };
        let config = OutboxConfig {
            intake: Arc::new(queue),
            parameters: Vec::new(),
            protocols: &["sqs"],
            sync_interval: SYNC_INTERVAL,
            now_ms: Arc::clone(&self.now_ms),
        };
        let sink =
            OutboxSink::open(config, Arc::new(waker)).map_err(|error| format!("sink {}: {error}", definition.name))?;
        Ok(Box::new(sink))
    }

    /// Whether there is an open queue of this name.
    pub fn is_open(&self, name: &str) -> bool {
        self.queues.open_queue(name).is_some()
    }

    /// A sink was closed; it may be opened again.
    pub fn closed(&self, name: &str) {
        if self.is_open(name) {
            self.queues.queue(name).set(None);
        }
        if let Some(signal) = lock(&self.signals).remove(name) {
            signal.notify_waiters();
        }
    }

    /// A sink is gone for good: its messages become dead letters.
    pub fn dropped(&self, name: &str) {
        match self.queues.queue(name).bury_all("the queue was dropped", (self.now_ms)()) {
            Ok(0) => {}
            Ok(messages) => {
                tracing::warn!(queue = name, messages, "the queue was dropped; its messages are in dead_letters")
            }
            Err(error) => tracing::error!(queue = name, %error, "messages of the dropped queue stay in the store"),
        }
    }

    /// Messages of queues that there are no more, from a kill while one was dropped.
    pub fn give_up_orphans(&self) {
        for queue in self.queues.all().iter().filter(|queue| queue.settings().is_none()) {
            self.dropped(queue.name());
        }
    }

    /// Puts a dead letter back into its queue.
    ///
    /// # Errors
    /// When the store fails.
    pub fn revive(&self, letter: &DeadLetter) -> Result<bool, StoreError> {
        let revived = self.queues.revive(letter, (self.now_ms)())?;
        self.signal(&letter.sink).notify_waiters();
        Ok(revived)
    }

    /// One line a queue.
    pub fn status(&self) -> Vec<QueueStatus> {
        let now_ms = (self.now_ms)();
        let all = self.queues.all().into_iter().filter_map(|queue| queue.status(now_ms).ok());
        let time = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
        all.map(|queue| QueueStatus {
            name: queue.name,
            visible: queue.visible,
            in_flight: queue.in_flight,
            delayed: queue.delayed,
            bytes: queue.bytes,
            oldest_ms: queue.oldest_ms.map(time),
            sent: queue.sent,
            received: queue.received,
            deleted: queue.deleted,
            dead: queue.dead,
            expired: queue.expired,
            purged: queue.purged,
        })
        .collect()
    }

    /// Removes messages that are too old, until the server stops.
    pub fn keep_young(self: Arc<Self>) {
        let mut stopping = self.stopping.subscribe();
        tokio::spawn(async move {
            let mut every = tokio::time::interval(EXPIRE_INTERVAL);
            every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    _ = every.tick() => {}
                    _ = stopping.wait_for(|stop| *stop) => return,
                }
                let own = Arc::clone(&self);
                let expired = tokio::task::spawn_blocking(move || own.expire()).await;
                if let Ok(Err(error)) = expired {
                    tracing::error!(%error, "messages that are too old cannot be removed");
                }
            }
        });
    }

    fn expire(&self) -> Result<(), StoreError> {
        for queue in self.queues.all() {
            while queue.expire((self.now_ms)())? > 0 {}
        }
        Ok(())
    }

    /// Whoever waits for messages is answered now.
    pub fn stop(&self) {
        self.stopping.send_replace(true);
    }

    pub(super) fn signal(&self, name: &str) -> Arc<Notify> {
        Arc::clone(lock(&self.signals).entry(name.into()).or_default())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn settings(config: &Config, definition: &SinkDef) -> Result<QueueSettings, String> {
    let options = Options::new(definition, &config.secrets);
    let name = &definition.name;
    if !definition.columns.is_empty() {
        return Err(format!("sink {name}: a queue has no columns: its messages are what the rule selects"));
    }
    let dead_letter_queue = options.text("dead_letter_queue")?;
    if dead_letter_queue == Some(&**name) {
        return Err(format!("sink {name}: option dead_letter_queue: a queue cannot be its own"));
    }
    let seconds = |count: u32| Duration::from_secs(count.into());
    let max_receives = options.number("max_receives", 1, 1_000)?;
    if dead_letter_queue.is_some() && max_receives.is_none() {
        return Err(format!("sink {name}: dead_letter_queue needs max_receives, which says when a message goes there"));
    }
    let longest = |option, least, most| options.interval_between(option, least, most).map(|span| span.map(millis));
    let overflow = [("block", Overflow::Block), ("dead_letter", Overflow::DeadLetter)];
    let settings = QueueSettings {
        delay_ms: longest("delay", Duration::ZERO, seconds(MAX_DELAY_S))?.unwrap_or(0),
        visibility_ms: longest("visibility", Duration::ZERO, seconds(MAX_VISIBILITY_S))?
            .unwrap_or_else(|| millis(DEFAULT_VISIBILITY)),
        max_receives: max_receives.and_then(|most| u32::try_from(most).ok()),
        dead_letter_queue: dead_letter_queue.map(Into::into),
        retention_ms: longest("retention", Duration::from_secs(60), 366 * DAY)?.unwrap_or_else(|| millis(4 * DAY)),
        max_in_flight: options.number("max_in_flight", 1, 10_000_000)?.unwrap_or(DEFAULT_IN_FLIGHT),
        limits: QueueLimits {
            max_bytes: options.bytes("max_backlog")?.unwrap_or(config.outside.max_backlog.0),
            overflow: options.word("overflow", &overflow)?.unwrap_or(Overflow::DeadLetter),
        },
    };
    options.finish(false)?;
    Ok(settings)
}

/// Rounded up: nothing is early.
fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_micros().div_ceil(1_000)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use hedgerow_sql::rule::Statement;

    use super::*;

    fn with(options: &str) -> Result<QueueSettings, String> {
        let text = format!("CREATE SINK jobs WITH (connector = 'queue'{options})");
        let statements = hedgerow_sql::parse::parse_file(&text).unwrap_or_else(|found| panic!("{text}: {found:?}"));
        match statements.into_iter().next() {
            Some(Statement::Sink(sink)) => settings(&Config::defaults().unwrap(), &sink),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn all_options_are_known_and_none_is_needed() {
        let usual = with("").unwrap();
        assert_eq!((usual.delay_ms, usual.visibility_ms, usual.retention_ms), (0, 30_000, 345_600_000));
        let own = with(
            ", delay = INTERVAL '15 minutes', visibility = INTERVAL '12 hours', max_receives = 3,
             dead_letter_queue = 'dead', retention = INTERVAL '1 minute', max_in_flight = 10, max_backlog = '1MiB',
             overflow = 'block'",
        )
        .unwrap();
        let limits = QueueLimits { max_bytes: 1 << 20, overflow: Overflow::Block };
        let expected = QueueSettings {
            delay_ms: 900_000,
            visibility_ms: 43_200_000,
            max_receives: Some(3),
            dead_letter_queue: Some("dead".into()),
            retention_ms: 60_000,
            max_in_flight: 10,
            limits,
        };
        assert_eq!(own, expected);
    }

    #[test]
    fn what_is_wrong_is_told_with_the_option() {
        let wrong = [
            ("delay = INTERVAL '901 seconds'", "option delay: at most INTERVAL '900 seconds'"),
            ("visibility = INTERVAL '13 hours'", "option visibility: at most INTERVAL '43200 seconds'"),
            ("retention = INTERVAL '59 seconds'", "option retention: at least INTERVAL '60 seconds'"),
            ("delay = 5", "INTERVAL '10 seconds'"),
            ("max_receives = 0", "from 1 to 1000"),
            ("dead_letter_queue = 'jobs', max_receives = 1", "its own"),
            ("dead_letter_queue = 'dead'", "needs max_receives"),
            ("overflow = 'drop'", "'block', 'dead_letter'"),
            ("visibilty = INTERVAL '1 second'", "did you mean visibility?"),
            ("url = 'https://example.com'", "has no such option"),
        ];
        for (options, expected) in wrong {
            let found = with(&format!(", {options}")).unwrap_err();
            assert!(found.contains(expected), "{options}: {found}");
        }
    }
}
