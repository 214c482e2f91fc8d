//! The engine: starts from the newest checkpoint, replays the log from there, and goes on. There is no other recovery.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use hedgerow_storage::checkpoint::{CheckpointFile, CheckpointOpenError, Checkpoints};
use hedgerow_storage::disk::Disk;
use hedgerow_storage::fault;
use hedgerow_storage::log::{AppendError, Batch, Class, Epoch, Log, ReadError, RecordFields, RecordKind};
use hedgerow_storage::table::Tables;
use timely::communication::WorkerGuards;

use crate::SEMANTICS;
use crate::call::Caller;
use crate::catalog::{Catalog, CatalogError, ChangeSet, Kind};
use crate::checkpoint::{Schedule, Writer};
use crate::dataflow::{CallMeans, Deadlines, Operators, Progress, Shared};
use crate::error_action::{ErrorActions, RecoverError};
use crate::errors::Errors;
use crate::failed_calls::FailedCalls;
use crate::lookup::Applied;
use crate::metrics::{EngineMetrics, RuleStats};
use crate::operators::absence::AbsenceState;
use crate::operators::evaluate::Evaluate;
use crate::operators::window::WindowState;
use crate::resolve::{Inner, Resolver, opened};
use crate::rows::Lane;
use crate::sink::Sink;
use crate::sink::derived::{DerivedSink, producer};
use crate::sink::registry::{OpenSink, Registry, SinkKey, SinkStatus};
use crate::sink::table::TableSink;
use crate::source::{InFlight, Source, StepLimits, WorkerLink};
use crate::step::Feed;

/// Settings of the engine.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Worker threads.
    pub workers: usize,
    /// How steps are cut.
    pub limits: StepLimits,
    /// Log time between checkpoints.
    pub checkpoint_interval: Duration,
    /// How often a message may be republished.
    pub hop_limit: u8,
    /// How often tables are synced.
    pub table_sync_interval: Duration,
    /// Samples kept for `system.errors`.
    pub error_samples: usize,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            workers: std::thread::available_parallelism().map_or(1, usize::from),
            limits: StepLimits { rows: 16_384, bytes: 8 << 20, in_flight_bytes: 64 << 20 },
            checkpoint_interval: Duration::from_secs(60),
            hop_limit: 8,
            table_sync_interval: Duration::from_millis(100),
            error_samples: 1_000,
        }
    }
}

/// Why the engine does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No checkpoint can be read.
    #[error("{0}")]
    Checkpoint(#[from] CheckpointOpenError),
    /// A checkpoint of other semantics.
    #[error(
        "the checkpoint was written by a Hedgerow whose rules mean something else (semantics {found}, this one has \
         {SEMANTICS}): start that version, or move the checkpoints folder away to rebuild everything from the log"
    )]
    Semantics {
        /// The checkpoint's number.
        found: u32,
    },
    /// The catalog cannot be followed.
    #[error("{0}")]
    Catalog(#[from] CatalogError),
    /// The state of windows or timers cannot be read.
    #[error("{0}")]
    State(String),
    /// The log no longer has what the checkpoint needs.
    #[error("the log cannot be replayed from the checkpoint at {from}: {source}")]
    Replay {
        /// The checkpoint's epoch.
        from: u64,
        /// Why.
        source: ReadError,
    },
    /// Error actions of the last run.
    #[error("{0}")]
    ErrorActions(#[from] RecoverError),
    /// A sink's settings do not open it any more. To go on without it would lose its rows.
    #[error("{0}")]
    Sink(String),
    /// No threads.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] std::io::Error),
    /// The dataflow does not start.
    #[error("cannot start the workers: {0}")]
    Workers(String),
}

/// Why a change of the catalog was not made.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The log did not take it.
    #[error("the change was not logged: {0}")]
    Append(#[from] AppendError),
    /// It was logged but is not in force yet.
    #[error("the change is logged at epoch {0} and will come into force; the engine has not reached it yet")]
    Pending(u64),
}

/// How the engine reaches what is outside of it.
pub struct Outside {
    /// Opens sinks.
    pub opener: Box<dyn OpenSink>,
    /// Asks other systems for rules.
    pub caller: Arc<dyn Caller>,
}

/// A running engine.
pub struct Engine {
    log: Arc<Log>,
    inner: Arc<Inner>,
    registry: Arc<Registry>,
    progress: Arc<Progress>,
    schedule: Arc<Schedule>,
    stop: Arc<AtomicBool>,
    threads: Mutex<Threads>,
    applying: Mutex<()>,
}

struct Threads {
    reader: Option<JoinHandle<()>>,
    workers: Option<WorkerGuards<()>>,
    checkpoints: Option<JoinHandle<()>>,
    error_actions: Option<JoinHandle<()>>,
}

/// A row of `system.rules`.
#[derive(Clone, Debug)]
pub struct RuleStatus {
    /// Name.
    pub name: String,
    /// Owner.
    pub owner: String,
    /// Whether it runs.
    pub enabled: bool,
    /// The epoch of its text.
    pub since: u64,
    /// Its text.
    pub text: String,
    /// Its counters.
    pub stats: Arc<RuleStats>,
}

impl Engine {
    /// Starts from the newest checkpoint in `folder`, replays the log, and goes on.
    ///
    /// # Errors
    /// When what is stored cannot be followed; never because a destination is out of reach.
    pub fn start(
        config: &EngineConfig,
        log: Arc<Log>,
        tables: Tables,
        outside: Outside,
        folder: &Path,
        disk: Arc<dyn Disk>,
        other_readers: Arc<dyn Fn() -> Option<Epoch> + Send + Sync>,
    ) -> Result<Self, StartError> {
        let Outside { opener, caller } = outside;
        let mut files = Checkpoints::open(folder, disk)?;
        let checkpoint = files.take_newest();
        let start = Epoch(checkpoint.as_ref().map_or(0, |file| file.epoch));
        let catalog = restore_catalog(checkpoint.as_ref())?;
        let replay = |source| StartError::Replay { from: start.0, source };
        let derived_marks = newest_marks(&log, start).map_err(replay)?;
        fault::point("recovery.middle");

        let metrics = Arc::new(EngineMetrics::default());
        let errors = Arc::new(Errors::new(config.error_samples));
        let outbox = opener.outbox();
        if let Some(outbox) = outbox.clone() {
            let clock = Arc::clone(&log);
            errors.keep_in(outbox, move || clock.now_ms());
        }
        let derived = [Lane::Straight, Lane::Called].into_iter().zip(derived_marks).map(|(lane, mark)| {
            let (log, errors, metrics) = (Arc::clone(&log), Arc::clone(&errors), Arc::clone(&metrics));
            Box::new(DerivedSink::new(lane, log, mark, config.hop_limit, errors, metrics)) as Box<dyn Sink>
        });
        let applied = Arc::new(Applied::default());
        let interval = config.table_sync_interval;
        let table_sinks = TableSink::open(tables.clone(), start, interval, Arc::clone(&errors), Arc::clone(&applied))?;
        let table_sinks = table_sinks.into_iter().map(|sink| Box::new(sink) as Box<dyn Sink>);
        let keys = [SinkKey::Tables, SinkKey::CalledTables, SinkKey::Derived, SinkKey::CalledDerived];
        let registry = Arc::new(Registry::new(opener, keys.into_iter().zip(table_sinks.chain(derived))));
        registry.sync(&opened(&catalog), start);
        if let Some(reason) = registry.not_open() {
            return Err(StartError::Sink(reason));
        }
        let inner = Arc::new(Inner {
            tables: tables.clone(),
            registry: Arc::clone(&registry),
            errors,
            metrics: Arc::clone(&metrics),
            stats: Mutex::default(),
            catalog: Mutex::new((start.0, Arc::new(catalog.clone()))),
            failed: Mutex::default(),
        });

        let workers = config.workers.max(1);
        let stop = Arc::new(AtomicBool::new(false));
        let schedule = Arc::new(Schedule::new(config.checkpoint_interval, start));
        let (parts, checkpoints) = Writer {
            files,
            registry: Arc::clone(&registry),
            log: Arc::clone(&log),
            tables: tables.clone(),
            schedule: Arc::clone(&schedule),
            metrics: Arc::clone(&metrics),
            parts: 2 * workers + 1,
            other_readers,
        }
        .spawn()?;
        let failed_calls = match &outbox {
            Some(outbox) => {
                let clock = Arc::clone(&log);
                Some(FailedCalls::spawn(outbox.clone(), move || clock.now_ms())?)
            }
            None => None,
        };
        let in_flight = Arc::new(InFlight::default());
        let progress = Arc::new(Progress::new(workers, start));
        let shared = Arc::new(Shared {
            registry: Arc::clone(&registry),
            parts,
            deadlines: Arc::new(Deadlines::new(workers, Arc::clone(&log))),
            in_flight: Arc::clone(&in_flight),
            progress: Arc::clone(&progress),
            calls: CallMeans {
                caller,
                tables,
                applied,
                errors: Arc::clone(&inner.errors),
                failed_calls,
                metrics: Arc::clone(&metrics),
            },
            start,
            replayed: log.last_epoch(),
        });
        let error_actions = outbox.map(|outbox| ErrorActions {
            outbox,
            log: Arc::clone(&log),
            inner: Arc::clone(&inner),
            progress: Arc::clone(&progress),
            metrics: Arc::clone(&metrics),
            stop: Arc::clone(&stop),
        });
        if let Some(actions) = &error_actions {
            actions.recover()?;
        }
        let (guards, links) = start_workers(workers, &inner, catalog, checkpoint, &shared)?;
        let error_actions = error_actions.map(ErrorActions::spawn).transpose()?;
        let failed = Arc::clone(&inner);
        let reader = Source {
            reader: log.reader(start).map_err(replay)?,
            limits: config.limits,
            workers: links,
            in_flight,
            schedule: Arc::clone(&schedule),
            metrics,
            stop: Arc::clone(&stop),
            failed: Box::new(move |error| failed.fail(format!("the log cannot be read any further: {error}"))),
        }
        .spawn()?;
        let threads = Mutex::new(Threads {
            reader: Some(reader),
            workers: Some(guards),
            checkpoints: Some(checkpoints),
            error_actions,
        });
        Ok(Self { log, inner, registry, progress, schedule, stop, threads, applying: Mutex::new(()) })
    }

    /// The catalog in force.
    pub fn catalog(&self) -> Arc<Catalog> {
        self.inner.catalog.lock().map(|catalog| Arc::clone(&catalog.1)).unwrap_or_default()
    }

    /// Appends a change of the catalog and waits, at most `wait`, until it is in force. Changes are made one after the
    /// other; `plan` sees the catalog it will change.
    ///
    /// # Errors
    /// When `plan` refuses, the log does not take it, or the engine does not get there in time.
    pub fn change<E: From<ApplyError>>(
        &self,
        wait: Duration,
        plan: impl FnOnce(&Catalog) -> Result<Option<ChangeSet>, E>,
    ) -> Result<Option<Epoch>, E> {
        let _one_at_a_time = self.applying.lock();
        let Some(set) = plan(&self.catalog())? else { return Ok(None) };
        let epoch = self.append(&set).map_err(ApplyError::from)?;
        if self.wait_for(epoch, wait) { Ok(Some(epoch)) } else { Err(ApplyError::Pending(epoch.0).into()) }
    }

    fn append(&self, set: &ChangeSet) -> Result<Epoch, AppendError> {
        let payload = set.encode();
        self.append_record(&RecordFields { kind: RecordKind::Control, payload: &payload, ..RecordFields::default() })
    }

    fn append_record(&self, fields: &RecordFields<'_>) -> Result<Epoch, AppendError> {
        let mut batch = Batch::new();
        batch.push(&RecordFields { time_ms: self.log.now_ms(), ..*fields });
        let (done, committed) = crossbeam_channel::bounded(1);
        self.log
            .appender()
            .append(batch, Class::System, move |result| {
                let _ = done.send(result);
            })
            .map_err(|(_, error)| error)?;
        committed.recv().unwrap_or(Err(AppendError::Closed)).map(|committed| committed.epoch)
    }

    /// Waits, at most `wait`, until everything up to `epoch` is through the dataflow and accepted by every sink.
    pub fn wait_for(&self, epoch: Epoch, wait: Duration) -> bool {
        self.wait_until(wait, || self.progress.frontier.get() >= epoch)
    }

    fn wait_until(&self, wait: Duration, done: impl Fn() -> bool) -> bool {
        const POLL: Duration = Duration::from_millis(2);
        let mut left = wait;
        while !done() {
            if left.is_zero() || self.failure().is_some() {
                return false;
            }
            let pause = POLL.min(left);
            std::thread::park_timeout(pause);
            left = left.saturating_sub(pause);
        }
        true
    }

    /// Writes a checkpoint of everything logged so far, so that the next start has nothing to replay. Waits at most
    /// `wait` for it; a sink without room for rows makes it late, and then the next start replays what is missing.
    pub fn checkpoint(&self, wait: Duration) {
        self.schedule.demand();
        // A step has to end for it, also when nothing was logged for long.
        let tick = RecordFields { kind: RecordKind::Tick, ..RecordFields::default() };
        if let Err(error) = self.append_record(&tick) {
            tracing::warn!(%error, "no checkpoint before the end; the next start replays what came since the last one");
            return;
        }
        if !self.wait_until(wait, || !self.schedule.is_under_way()) {
            tracing::warn!("the checkpoint before the end was not ready; the next start replays what is missing");
        }
    }

    /// The epoch up to which everything is through.
    pub fn frontier(&self) -> Epoch {
        self.progress.frontier.get()
    }

    /// All rules of the catalog, with their counters.
    pub fn rules(&self) -> Vec<RuleStatus> {
        let catalog = self.catalog();
        let rules = catalog.iter().filter(|(kind, _, _)| *kind == Kind::Rule);
        rules
            .map(|(_, name, object)| RuleStatus {
                name: name.to_string(),
                owner: object.owner.to_string(),
                enabled: object.enabled,
                since: object.since,
                text: object.text.to_string(),
                stats: self.inner.stats_of(name),
            })
            .collect()
    }

    /// All sinks, the built-in ones included.
    pub fn sinks(&self) -> Vec<SinkStatus> {
        self.registry.status()
    }

    /// Refused payloads and rows.
    pub fn errors(&self) -> &Arc<Errors> {
        &self.inner.errors
    }

    /// Counters.
    pub fn metrics(&self) -> &EngineMetrics {
        self.inner.metrics.frontier_us.set(self.progress.frontier.get().0);
        &self.inner.metrics
    }

    /// Why the engine stopped by itself, if it did.
    pub fn failure(&self) -> Option<String> {
        self.inner.failed.lock().ok().and_then(|failed| failed.clone())
    }

    /// Stops reading, lets the sinks make durable what they have, and ends the threads; waits at most `wait` for each.
    pub fn stop(&self, wait: Duration) {
        self.stop.store(true, Ordering::Release);
        let Ok(mut threads) = self.threads.lock() else { return };
        let (reader, workers, checkpoints) =
            (threads.reader.take(), threads.workers.take(), threads.checkpoints.take());
        let error_actions = threads.error_actions.take();
        let (done, finished) = crossbeam_channel::bounded(1);
        let joiner = std::thread::Builder::new().name("hedgerow-stop".into()).spawn(move || {
            if let Some(reader) = reader {
                let _ = reader.join();
            }
            if let Some(error_actions) = error_actions {
                let _ = error_actions.join();
            }
            if let Some(workers) = workers {
                drop(workers.join());
            }
            let _ = done.send(());
        });
        if joiner.is_ok() && finished.recv_timeout(wait).is_err() {
            tracing::warn!(
                "a sink had no room until the end, or a rule had no answer; the next start replays what is missing"
            );
        }
        self.registry.close(wait);
        drop(checkpoints);
    }
}

fn restore_catalog(checkpoint: Option<&CheckpointFile>) -> Result<Catalog, StartError> {
    let Some(file) = checkpoint else { return Ok(Catalog::default()) };
    if file.semantics != SEMANTICS {
        return Err(StartError::Semantics { found: file.semantics });
    }
    let bytes = file.part("catalog").ok_or_else(|| StartError::State("the checkpoint has no catalog".into()))?;
    Ok(Catalog::decode(bytes)?)
}

/// The newest marks of the derived records in the log, of the straight and of the called lane; at least `start`.
pub(crate) fn newest_marks(log: &Log, start: Epoch) -> Result<[Epoch; 2], ReadError> {
    let mut reader = log.reader(start)?;
    let [mut straight, mut called] = [start; 2];
    let end = log.last_epoch();
    while reader.position() < end {
        let Some(commit) = reader.next(Duration::from_secs(1))? else { continue };
        for (name, up_to) in commit.records().filter_map(|record| record.mark()) {
            if name == producer(Lane::Straight) {
                straight = straight.max(up_to);
            } else if name == producer(Lane::Called) {
                called = called.max(up_to);
            }
        }
    }
    Ok([straight, called])
}

/// Tells health when a worker panics: the others would wait for it for ever.
struct Watch(Arc<Inner>);

impl Drop for Watch {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fail("a worker stopped by a panic; restart, and please report what the log says of it".into());
        }
    }
}

type Started = (WorkerGuards<()>, Vec<WorkerLink>);

/// Starts the workers, each with its share of the checkpoint.
fn start_workers(
    workers: usize,
    inner: &Arc<Inner>,
    catalog: Catalog,
    checkpoint: Option<CheckpointFile>,
    shared: &Arc<Shared>,
) -> Result<Started, StartError> {
    let mut queues = Vec::new();
    let mut slots = Vec::new();
    for index in 0..workers {
        let (sender, receiver) = crossbeam_channel::unbounded::<Feed>();
        queues.push(sender);
        let resolver = Resolver { inner: Arc::clone(inner), publishes: index == 0 };
        let evaluate = Evaluate::new(index, workers, catalog.clone(), resolver, Arc::clone(&inner.errors));
        let mut windows = WindowState::new(Arc::clone(&inner.metrics), Arc::clone(&inner.errors));
        for (name, bytes) in checkpoint.iter().flat_map(|file| &file.parts) {
            if name.starts_with("windows/") {
                let mine = |slot: u64| slot % workers as u64 == index as u64;
                windows.restore(bytes, evaluate.rules(), mine).map_err(StartError::State)?;
            }
        }
        let mut absence = AbsenceState::new(index, evaluate.rules(), Arc::clone(&inner.errors));
        let parts = checkpoint.iter().flat_map(|file| &file.parts).filter(|(name, _)| name.starts_with("timers/"));
        let parts: Vec<&[u8]> = parts.map(|(_, bytes)| &**bytes).collect();
        absence.restore(&parts, |hash| hash % workers as u64 == index as u64).map_err(StartError::State)?;
        slots.push(Mutex::new(Some((Operators { evaluate, windows, absence }, receiver))));
    }
    let (announce, threads) = crossbeam_channel::unbounded();
    let shared = Arc::clone(shared);
    let watched = Arc::clone(inner);
    let guards = timely::execute(timely::Config::process(workers), move |worker| {
        let slot = slots.get(worker.index()).and_then(|slot| slot.lock().ok()?.take());
        if let Some((operators, queue)) = slot {
            let _watch = Watch(Arc::clone(&watched));
            let _ = announce.send((worker.index(), std::thread::current()));
            crate::dataflow::run(worker, operators, &queue, &shared);
        }
    })
    .map_err(StartError::Workers)?;
    let mut links: Vec<Option<WorkerLink>> = queues.iter().map(|_| None).collect();
    for _ in 0..workers {
        let Ok((index, thread)) = threads.recv_timeout(Duration::from_secs(10)) else {
            return Err(StartError::Workers("a worker thread did not start".into()));
        };
        if let (Some(link), Some(queue)) = (links.get_mut(index), queues.get(index)) {
            *link = Some(WorkerLink { queue: queue.clone(), thread });
        }
    }
    Ok((guards, links.into_iter().flatten().collect()))
}
