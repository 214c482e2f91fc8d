//! Drains the queue of one destination.
//!
//! A thread of its own decides and writes; requests are tasks of the runtime, at most `concurrency` at a time. Rows are
//! sent in their order, but nothing waits for a row that failed: it comes back after a pause of its own. When the
//! destination fails again and again it is left alone (see [`super::breaker`]). What is in memory is bounded: keys of
//! rows that come back, and a few rows read ahead; everything else is on disk.
//!
//! A row leaves the queue when the destination has confirmed it, or when it is given up and becomes a dead letter. A
//! kill between an answer and its being written sends the row again, with the same id.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use hedgerow_engine::sink::outbox::Drain;
use hedgerow_storage::fault;
use hedgerow_storage::outbox::{Attempts, ConfirmationState, Entry, EntryKey, Queue, Waiting};
use hedgerow_storage::table::StoreError;
use tokio::task::AbortHandle;

use super::backoff::Backoff;
use super::breaker::{Breaker, State};
use super::transport::{Answer, Transport, Trouble};

/// Rows that wait for their next attempt, at most; then no others are sent until some of them have settled.
const MAX_LATER: usize = 10_000;
/// Rows and bytes read ahead.
const READ_ROWS: usize = 256;
const READ_BYTES: usize = 4 << 20;
/// How long the thread sleeps when nothing happens.
const IDLE: Duration = Duration::from_secs(1);

/// How one destination is sent to.
#[derive(Clone, Debug)]
pub(super) struct SenderConfig {
    /// Requests under way at a time.
    pub concurrency: usize,
    /// Rows of one request.
    pub batch_rows: usize,
    /// Pauses of a row that failed, and of a destination that fails.
    pub backoff: Backoff,
    /// A row is given up after so many attempts; `None` for no such limit.
    pub max_attempts: Option<u32>,
    /// A row is given up so long after its first attempt.
    pub retry_for: Duration,
    /// The destination is left alone after so many failures in a row.
    pub breaker_failures: u32,
}

/// How a destination is doing, for metrics and `system.destinations`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SenderStatus {
    /// Name of the sink.
    pub name: String,
    /// How it is sent to.
    pub connector: String,
    /// Rows and bytes that wait.
    pub waiting: u64,
    /// Bytes that wait.
    pub waiting_bytes: u64,
    /// Requests under way.
    pub in_flight: u64,
    /// Rows confirmed since the start.
    pub delivered: u64,
    /// Failed attempts since the start, row by row.
    pub failed_attempts: u64,
    /// Rows given up after an attempt since the start.
    pub given_up: u64,
    /// Rows that were given up since the start, for whatever reason.
    pub dead: u64,
    /// The epoch of the oldest row that waits.
    pub oldest_epoch: Option<u64>,
    /// The last answer, as a number of the destination's protocol.
    pub last_status: Option<u16>,
    /// It is being left alone because it keeps failing.
    pub open: bool,
    /// The last failure since something was confirmed; or why nothing is sent.
    pub last_error: Option<String>,
    /// Whether it has agreed to be sent to, if it has to.
    pub confirmation: Option<ConfirmationState>,
}

impl SenderStatus {
    /// Whether nothing is sent because it has not agreed, or was stopped.
    pub fn is_held(&self) -> bool {
        self.confirmation.is_some_and(|state| state != ConfirmationState::Enabled)
    }
}

#[derive(Default)]
struct Counts {
    in_flight: AtomicU64,
    delivered: AtomicU64,
    failed_attempts: AtomicU64,
    given_up: AtomicU64,
    /// 0: none yet.
    last_status: AtomicU64,
    open: AtomicBool,
}

enum Event {
    /// There is something new in the queue.
    Wake,
    /// A request has ended.
    Done(u64, Vec<Waiting>, Result<Answer, Trouble>),
    /// End, waiting so long for requests under way.
    Stop(Duration),
}

struct Shared {
    queue: Queue,
    transport: Arc<dyn Transport>,
    config: SenderConfig,
    events: crossbeam_channel::Sender<Event>,
    /// A wake is in the channel already.
    woken: AtomicBool,
    counts: Counts,
    last_error: Mutex<Option<String>>,
}

/// The sender of one destination.
pub(super) struct Sender {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Sender {
    /// Starts the thread; requests run on `runtime`.
    pub fn start(
        queue: Queue,
        transport: Arc<dyn Transport>,
        config: SenderConfig,
        runtime: tokio::runtime::Handle,
    ) -> std::io::Result<Arc<Self>> {
        let (events, inbox) = crossbeam_channel::unbounded();
        let name = format!("hedgerow-send-{}", queue.name());
        let shared = Arc::new(Shared {
            queue,
            transport,
            config,
            events,
            woken: AtomicBool::new(false),
            counts: Counts::default(),
            last_error: Mutex::default(),
        });
        let work = Work::new(Arc::clone(&shared), runtime);
        let thread = std::thread::Builder::new().name(name).spawn(move || work.run(&inbox))?;
        Ok(Arc::new(Self { shared, thread: Mutex::new(Some(thread)) }))
    }

    pub fn status(&self) -> SenderStatus {
        let counts = &self.shared.counts;
        let get = |of: &AtomicU64| of.load(Ordering::Relaxed);
        SenderStatus {
            name: self.shared.queue.name().to_string(),
            connector: String::new(),
            waiting: self.shared.queue.len(),
            waiting_bytes: self.shared.queue.bytes(),
            in_flight: get(&counts.in_flight),
            delivered: get(&counts.delivered),
            failed_attempts: get(&counts.failed_attempts),
            given_up: get(&counts.given_up),
            dead: self.shared.queue.given_up(),
            oldest_epoch: self.shared.queue.oldest_epoch().ok().flatten(),
            last_status: u16::try_from(get(&counts.last_status)).ok().filter(|status| *status > 0),
            open: counts.open.load(Ordering::Relaxed),
            last_error: self.shared.transport.held().or_else(|| self.shared.last_error()),
            confirmation: None,
        }
    }
}

impl Drain for Sender {
    fn wake(&self) {
        if !self.shared.woken.swap(true, Ordering::AcqRel) {
            let _ = self.shared.events.send(Event::Wake);
        }
    }

    /// One row that failed is not the destination's trouble; one failure after the other is.
    fn problem(&self) -> Option<String> {
        if let Some(why) = self.shared.transport.held() {
            return Some(format!("{} rows wait for the destination: {why}", self.shared.queue.len()));
        }
        let open = self.shared.counts.open.load(Ordering::Relaxed);
        let ended = self.thread.lock().is_ok_and(|thread| thread.as_ref().is_some_and(JoinHandle::is_finished));
        let error = self.shared.last_error().filter(|_| open || ended)?;
        Some(format!("{} rows wait for the destination: {error}", self.shared.queue.len()))
    }

    fn stop(&self, wait: Duration) {
        let _ = self.shared.events.send(Event::Stop(wait));
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn last_error(&self) -> Option<String> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_error(&self, error: Option<String>) {
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = error;
    }
}

/// What the thread knows.
struct Work {
    shared: Arc<Shared>,
    runtime: tokio::runtime::Handle,
    breaker: Breaker,
    /// Everything up to here has been read.
    cursor: Option<EntryKey>,
    /// There was nothing behind it.
    at_end: bool,
    ready: VecDeque<Waiting>,
    /// Rows that come back, by the moment and a number that tells them apart.
    later: BTreeMap<(Instant, u64), EntryKey>,
    /// The keys of all rows that are ready, come back, or are under way.
    held: HashSet<EntryKey>,
    requests: BTreeMap<u64, AbortHandle>,
    next_number: u64,
}

impl Work {
    fn new(shared: Arc<Shared>, runtime: tokio::runtime::Handle) -> Self {
        let breaker = Breaker::new(shared.config.breaker_failures, shared.config.backoff);
        Self {
            shared,
            runtime,
            breaker,
            cursor: None,
            at_end: false,
            ready: VecDeque::new(),
            later: BTreeMap::new(),
            held: HashSet::new(),
            requests: BTreeMap::new(),
            next_number: 0,
        }
    }

    fn run(mut self, inbox: &Receiver<Event>) {
        if let Err(error) = self.work(inbox) {
            tracing::error!(sink = %self.shared.queue.name(), %error, "sending stops; restart once the disk is well");
            self.shared.set_error(Some(error.to_string()));
        }
        for request in self.requests.values() {
            request.abort();
        }
    }

    fn work(&mut self, inbox: &Receiver<Event>) -> Result<(), StoreError> {
        let mut stop: Option<Instant> = None;
        loop {
            let now = Instant::now();
            match stop {
                None => self.launch(now)?,
                Some(until) if self.requests.is_empty() || now >= until => return Ok(()),
                Some(_) => {}
            }
            self.publish();
            let due = stop.unwrap_or_else(|| self.next_moment(now));
            match inbox.recv_timeout(due.saturating_duration_since(now)) {
                Ok(Event::Wake) => {
                    self.shared.woken.store(false, Ordering::Release);
                    self.at_end = false;
                    if self.shared.queue.take_rewound() {
                        self.cursor = None;
                    }
                }
                Ok(Event::Done(number, rows, result)) => {
                    self.requests.remove(&number);
                    self.done(rows, result)?;
                }
                Ok(Event::Stop(wait)) => stop = Some(Instant::now() + wait),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
        }
    }

    fn publish(&self) {
        let counts = &self.shared.counts;
        counts.in_flight.store(self.requests.len() as u64, Ordering::Relaxed);
        counts.open.store(matches!(self.breaker.state(), State::Open(_)), Ordering::Relaxed);
    }

    /// When there may be something to do without an event.
    fn next_moment(&self, now: Instant) -> Instant {
        let idle = now + IDLE;
        if self.shared.transport.held().is_some() {
            return idle;
        }
        let more = !self.ready.is_empty() || (!self.at_end && self.later.len() < MAX_LATER);
        let due = if more { now } else { self.later.first_key_value().map_or(idle, |((due, _), _)| *due) };
        let allowed = match self.breaker.state() {
            State::Open(until) => until,
            State::Closed => now,
        };
        // With as many requests as allowed under way, only an answer changes anything.
        let room = self.requests.len() < self.breaker.allows(self.shared.config.concurrency, allowed.max(now));
        if room { due.max(allowed).min(idle) } else { idle }
    }

    /// Starts as many requests as may be under way.
    fn launch(&mut self, now: Instant) -> Result<(), StoreError> {
        if self.shared.transport.held().is_some() {
            return Ok(());
        }
        while self.requests.len() < self.breaker.allows(self.shared.config.concurrency, now) {
            let Some(rows) = self.next_rows(now)? else { break };
            self.start(rows);
        }
        Ok(())
    }

    /// The rows of the next request: one that comes back goes alone, since it may be the one that spoils a batch.
    fn next_rows(&mut self, now: Instant) -> Result<Option<Vec<Waiting>>, StoreError> {
        while let Some(first) = self.later.first_entry()
            && first.key().0 <= now
        {
            let key = first.remove();
            match self.shared.queue.get(&key)? {
                Some(waiting) => return Ok(Some(vec![waiting])),
                None => self.held.remove(&key),
            };
        }
        // After a rewind, what is read may all be held already.
        while self.ready.is_empty() && !self.at_end && self.later.len() < MAX_LATER {
            self.read_ahead()?;
        }
        let Some(first) = self.ready.pop_front() else { return Ok(None) };
        let mut rows = vec![first];
        while rows.len() < self.shared.config.batch_rows
            && let (Some(first), Some(next)) = (rows.first(), self.ready.front())
            && self.shared.transport.together(&first.entry, &next.entry)
        {
            rows.extend(self.ready.pop_front());
        }
        Ok(Some(rows))
    }

    fn read_ahead(&mut self) -> Result<(), StoreError> {
        let found = self.shared.queue.read(self.cursor.as_ref(), READ_ROWS, READ_BYTES)?;
        self.at_end = found.is_empty();
        for waiting in found {
            self.cursor = Some(waiting.key.clone());
            if self.held.insert(waiting.key.clone()) {
                self.ready.push_back(waiting);
            }
        }
        Ok(())
    }

    fn start(&mut self, rows: Vec<Waiting>) {
        let number = self.number();
        let transport = Arc::clone(&self.shared.transport);
        let events = self.shared.events.clone();
        let early = fault::bug("confirm_before_answer");
        if early {
            let _ = events.send(Event::Done(number, rows.clone(), Ok(Answer::default())));
        }
        let mut request = Request { number, rows, events: (!early).then_some(events) };
        let task = self.runtime.spawn(async move {
            let entries: Vec<Entry> = request.rows.iter().map(|row| row.entry.clone()).collect();
            let result = transport.send(&entries).await;
            request.end(result);
        });
        self.requests.insert(number, task.abort_handle());
    }

    fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    fn done(&mut self, rows: Vec<Waiting>, result: Result<Answer, Trouble>) -> Result<(), StoreError> {
        let counts = &self.shared.counts;
        let status = match &result {
            Ok(answer) => answer.status,
            Err(Trouble::Again { status, .. } | Trouble::Never { status, .. }) => *status,
        };
        counts.last_status.store(u64::from(status.unwrap_or_default()), Ordering::Relaxed);
        match result {
            Ok(_) => {
                self.breaker.alive(Instant::now());
                self.shared.set_error(None);
                let keys: Vec<EntryKey> = rows.into_iter().map(|row| row.key).collect();
                self.shared.queue.confirm(&keys)?;
                counts.delivered.fetch_add(keys.len() as u64, Ordering::Relaxed);
                keys.iter().for_each(|key| {
                    self.held.remove(key);
                });
                Ok(())
            }
            Err(Trouble::Again { reason, status, after }) => {
                self.breaker.failed(after, Instant::now());
                self.shared.set_error(Some(reason.clone()));
                rows.into_iter().try_for_each(|row| self.again(row, &reason, status, after))
            }
            Err(Trouble::Never { reason, status }) => {
                self.breaker.alive(Instant::now());
                self.shared.set_error(Some(reason.clone()));
                // Which row of a batch it is that the destination does not want, each alone will show.
                if rows.len() > 1 {
                    for row in rows {
                        self.come_back(row.key, Duration::ZERO);
                    }
                    return Ok(());
                }
                rows.into_iter().try_for_each(|mut row| {
                    row.attempts = failed(&row.attempts, &reason, status);
                    self.give_up(&row)
                })
            }
        }
    }

    /// Notes a failed attempt; the row comes back, or is given up.
    fn again(
        &mut self,
        mut row: Waiting,
        reason: &str,
        status: Option<u16>,
        after: Option<Duration>,
    ) -> Result<(), StoreError> {
        let config = &self.shared.config;
        row.attempts = failed(&row.attempts, reason, status);
        let tried_ms = now_ms().saturating_sub(row.attempts.first_ms);
        let limit_ms = i64::try_from(config.retry_for.as_millis()).unwrap_or(i64::MAX);
        if config.max_attempts.is_some_and(|most| row.attempts.count >= most) || tried_ms >= limit_ms {
            return self.give_up(&row);
        }
        self.shared.counts.failed_attempts.fetch_add(1, Ordering::Relaxed);
        self.shared.queue.failed(&row.key, &row.attempts)?;
        let pause = config.backoff.pause(row.attempts.count).max(after.unwrap_or_default());
        self.come_back(row.key, pause);
        Ok(())
    }

    fn come_back(&mut self, key: EntryKey, pause: Duration) {
        let number = self.number();
        self.later.insert((Instant::now() + pause, number), key);
    }

    fn give_up(&mut self, row: &Waiting) -> Result<(), StoreError> {
        self.shared.counts.failed_attempts.fetch_add(1, Ordering::Relaxed);
        self.shared.counts.given_up.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(sink = %self.shared.queue.name(), row = %row.entry.id, attempts = row.attempts.count,
            reason = %row.attempts.reason, "a row was not delivered");
        self.shared.queue.bury(row, now_ms())?;
        self.held.remove(&row.key);
        Ok(())
    }
}

/// A request under way. However it ends, the sender hears of it, or its rows would never come back.
struct Request {
    number: u64,
    rows: Vec<Waiting>,
    events: Option<crossbeam_channel::Sender<Event>>,
}

impl Request {
    fn end(&mut self, result: Result<Answer, Trouble>) {
        if let Some(events) = self.events.take() {
            let _ = events.send(Event::Done(self.number, std::mem::take(&mut self.rows), result));
        }
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        let reason = "the request was interrupted".to_owned();
        self.end(Err(Trouble::Again { reason, status: None, after: None }));
    }
}

fn failed(before: &Attempts, reason: &str, status: Option<u16>) -> Attempts {
    let first_ms = if before.count == 0 { now_ms() } else { before.first_ms };
    Attempts { count: before.count.saturating_add(1), first_ms, reason: reason.to_owned(), status }
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
#[path = "sender_tests.rs"]
mod tests;
