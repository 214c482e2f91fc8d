use std::sync::atomic::AtomicUsize;

use async_trait::async_trait;
use hedgerow_storage::outbox::{DeadLimits, LetterId, Outbox, Overflow, Position, QueueLimits};
use hedgerow_storage::table::{Store, StoreConfig};

use super::*;

type Script = dyn Fn(&[Entry], usize) -> Result<Answer, Trouble> + Send + Sync;

/// Answers by a function of the rows and of how many calls there were before.
struct Scripted {
    script: Box<Script>,
    calls: AtomicUsize,
    /// The offsets of each request, as they came.
    seen: Mutex<Vec<Vec<u64>>>,
    /// How many were under way at once, at most.
    peak: AtomicUsize,
    now: AtomicUsize,
}

impl Scripted {
    fn new(script: impl Fn(&[Entry], usize) -> Result<Answer, Trouble> + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            script: Box::new(script),
            calls: AtomicUsize::new(0),
            seen: Mutex::default(),
            peak: AtomicUsize::new(0),
            now: AtomicUsize::new(0),
        })
    }

    fn seen(&self) -> Vec<Vec<u64>> {
        self.seen.lock().unwrap().clone()
    }
}

#[async_trait]
impl Transport for Scripted {
    async fn send(&self, entries: &[Entry]) -> Result<Answer, Trouble> {
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.peak.fetch_max(now, Ordering::SeqCst);
        tokio::task::yield_now().await;
        self.seen.lock().unwrap().push(entries.iter().map(|entry| entry.position.offset).collect());
        let answer = (self.script)(entries, self.calls.fetch_add(1, Ordering::SeqCst));
        self.now.fetch_sub(1, Ordering::SeqCst);
        answer
    }
}

fn again(after: Option<Duration>) -> Result<Answer, Trouble> {
    Err(Trouble::Again { reason: "busy".into(), status: Some(503), after })
}

fn never() -> Result<Answer, Trouble> {
    Err(Trouble::Never { reason: "not this one".into(), status: Some(400) })
}

fn entry(offset: u64) -> Entry {
    Entry {
        id: format!("1-{offset}-r-0"),
        position: Position { epoch: offset, record: true, offset },
        body: b"{}".to_vec(),
        ..Entry::default()
    }
}

struct Fixture {
    _folder: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
    outbox: Outbox,
    queue: Queue,
    config: SenderConfig,
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), StoreConfig::default()).unwrap();
        let outbox = Outbox::open(&store, DeadLimits::default()).unwrap();
        let queue = outbox.queue("hook");
        let config = SenderConfig {
            concurrency: 3,
            batch_rows: 1,
            backoff: Backoff { min: Duration::from_millis(2), max: Duration::from_millis(20) },
            max_attempts: None,
            retry_for: Duration::from_secs(3_600),
            breaker_failures: 1_000,
        };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        Self { _folder: folder, runtime, outbox, queue, config }
    }

    fn put(&self, up_to: u64, offsets: impl IntoIterator<Item = u64>) {
        let entries: Vec<Entry> = offsets.into_iter().map(entry).collect();
        let limits = QueueLimits { max_bytes: 1 << 30, overflow: Overflow::Block };
        self.queue.accept(up_to, &entries, Vec::new(), limits, 0).unwrap();
    }

    fn start(&self, transport: &Arc<Scripted>) -> Arc<Sender> {
        let transport: Arc<dyn Transport> = transport.clone();
        Sender::start(self.queue.clone(), transport, self.config.clone(), self.runtime.handle().clone()).unwrap()
    }
}

fn wait(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..4_000 {
        if holds() {
            return;
        }
        std::thread::park_timeout(Duration::from_millis(5));
    }
    panic!("{what} does not happen");
}

#[test]
fn what_waits_and_what_comes_is_sent_once_and_within_the_limit() {
    let fixture = Fixture::new();
    fixture.put(50, 1..=50);
    let transport = Scripted::new(|_, _| Ok(Answer { status: Some(204) }));
    let sender = fixture.start(&transport);
    wait("the first rows arrive", || fixture.queue.is_empty());
    fixture.put(1_000, 51..=1_000);
    sender.wake();
    wait("all rows arrive", || fixture.queue.is_empty());
    sender.stop(Duration::from_secs(5));
    let mut seen: Vec<u64> = transport.seen().concat();
    seen.sort_unstable();
    assert_eq!(seen, (1..=1_000).collect::<Vec<_>>());
    assert!(transport.peak.load(Ordering::SeqCst) <= 3);
    let status = sender.status();
    assert_eq!((status.delivered, status.last_status, status.failed_attempts), (1_000, Some(204), 0));
}

#[test]
fn a_row_that_fails_comes_back_and_holds_up_no_other() {
    let fixture = Fixture::new();
    fixture.put(20, 1..=20);
    let poison = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&poison);
    let transport = Scripted::new(move |entries, _| match entries[0].position.offset {
        1 if count.fetch_add(1, Ordering::SeqCst) < 3 => again(None),
        _ => Ok(Answer::default()),
    });
    let sender = fixture.start(&transport);
    wait("all rows arrive", || fixture.queue.is_empty());
    sender.stop(Duration::from_secs(5));
    assert_eq!(poison.load(Ordering::SeqCst), 4);
    assert_eq!((sender.status().delivered, sender.status().failed_attempts), (20, 3));
    assert!(fixture.outbox.dead().is_empty());
}

#[test]
fn a_row_is_given_up_at_once_or_after_its_attempts_with_the_reason() {
    let mut fixture = Fixture::new();
    fixture.config.max_attempts = Some(3);
    fixture.put(4, 1..=4);
    let transport = Scripted::new(|entries, _| match entries[0].position.offset {
        2 => never(),
        3 => again(None),
        _ => Ok(Answer::default()),
    });
    let sender = fixture.start(&transport);
    wait("the queue is empty", || fixture.queue.is_empty());
    sender.stop(Duration::from_secs(5));
    let letters = fixture.outbox.dead().read(LetterId(0), 10).unwrap();
    let mut told: Vec<_> =
        letters.iter().map(|l| (l.entry.position.offset, l.attempts, l.status, l.reason.as_str())).collect();
    told.sort_unstable();
    assert_eq!(told, [(2, 1, Some(400), "not this one"), (3, 3, Some(503), "busy")]);
}

#[test]
fn attempts_are_counted_across_restarts() {
    let mut fixture = Fixture::new();
    fixture.config.max_attempts = Some(4);
    fixture.config.backoff = Backoff { min: Duration::from_secs(60), max: Duration::from_secs(60) };
    fixture.put(1, [1]);
    let transport = Scripted::new(|_, _| again(None));
    for attempt in 1..=4 {
        let sender = fixture.start(&transport);
        wait("an attempt is noted", || {
            let left = fixture.queue.read(None, 1, 100).unwrap();
            left.first().map_or(4, |waiting| waiting.attempts.count) == attempt
        });
        sender.stop(Duration::from_secs(5));
    }
    assert_eq!((fixture.queue.len(), fixture.outbox.dead().len()), (0, 1));
    assert_eq!(transport.seen().len(), 4);
}

#[test]
fn a_destination_that_fails_is_left_alone_and_everything_arrives_when_it_returns() {
    let mut fixture = Fixture::new();
    fixture.config.breaker_failures = 3;
    fixture.config.backoff = Backoff { min: Duration::from_millis(10), max: Duration::from_millis(40) };
    fixture.put(200, 1..=200);
    let down = Arc::new(AtomicBool::new(true));
    let is_down = Arc::clone(&down);
    let transport =
        Scripted::new(move |_, _| if is_down.load(Ordering::SeqCst) { again(None) } else { Ok(Answer::default()) });
    let sender = fixture.start(&transport);
    wait("it is left alone", || sender.status().open && transport.seen().len() >= 8);
    let problem = sender.problem().unwrap();
    assert!(problem.contains("200 rows") && problem.contains("busy"), "{problem}");
    // Left alone: 200 rows, and hardly more requests than pauses.
    assert!(transport.seen().len() < 60, "{}", transport.seen().len());
    down.store(false, Ordering::SeqCst);
    wait("all rows arrive", || fixture.queue.is_empty());
    sender.stop(Duration::from_secs(5));
    assert_eq!((sender.status().delivered, sender.problem()), (200, None));
}

#[test]
fn rows_that_are_ready_wait_for_the_pause_of_the_breaker_and_no_longer() {
    let mut fixture = Fixture::new();
    fixture.config.breaker_failures = 1;
    fixture.config.max_attempts = Some(1);
    fixture.put(200, 1..=200);
    let sender = fixture.start(&Scripted::new(|_, _| again(None)));
    // Each costs a pause of at most 20 ms; looked after once a second, they would take minutes.
    wait("all are given up", || fixture.queue.is_empty());
    sender.stop(Duration::from_secs(5));
    assert_eq!(fixture.outbox.dead().len(), 200);
}

#[test]
fn a_pause_that_was_asked_for_stops_everything_until_it_is_over() {
    let mut fixture = Fixture::new();
    fixture.config.concurrency = 1;
    fixture.put(30, 1..=30);
    let times = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&times);
    let transport = Scripted::new(move |_, call| {
        told.lock().unwrap().push(Instant::now());
        if call == 0 { again(Some(Duration::from_millis(300))) } else { Ok(Answer::default()) }
    });
    let sender = fixture.start(&transport);
    wait("all rows arrive", || fixture.queue.is_empty());
    sender.stop(Duration::from_secs(5));
    let times = times.lock().unwrap();
    assert!(times[1] - times[0] >= Duration::from_millis(300), "{:?}", times[1] - times[0]);
    assert_eq!(sender.status().delivered, 30);
}

#[test]
fn a_request_that_panics_is_a_failed_attempt() {
    let mut fixture = Fixture::new();
    fixture.config.concurrency = 1;
    fixture.put(3, 1..=3);
    let transport = Scripted::new(|_, call| if call == 0 { panic!("on purpose") } else { Ok(Answer::default()) });
    let sender = fixture.start(&transport);
    wait("all rows arrive", || fixture.queue.is_empty());
    sender.stop(Duration::from_secs(5));
    assert_eq!((sender.status().delivered, sender.status().failed_attempts), (3, 1));
}

#[test]
fn a_batch_that_is_refused_is_taken_apart() {
    let mut fixture = Fixture::new();
    fixture.config.batch_rows = 10;
    fixture.config.concurrency = 1;
    fixture.put(20, 1..=20);
    let transport = Scripted::new(|entries, _| match entries.iter().any(|entry| entry.position.offset == 7) {
        true => never(),
        false => Ok(Answer::default()),
    });
    let sender = fixture.start(&transport);
    wait("the queue is empty", || fixture.queue.is_empty());
    sender.stop(Duration::from_secs(5));
    let seen = transport.seen();
    assert_eq!(seen.first().map(Vec::len), Some(10));
    assert_eq!((sender.status().delivered, fixture.outbox.dead().len()), (19, 1));
    assert_eq!(seen.iter().filter(|rows| rows.len() == 1).count(), 10);
}

#[test]
fn a_revived_letter_is_sent_by_a_running_sender() {
    let fixture = Fixture::new();
    fixture.put(9, [3, 9]);
    let refuse = Arc::new(AtomicBool::new(true));
    let refuses = Arc::clone(&refuse);
    let transport = Scripted::new(move |entries, _| {
        if entries[0].position.offset == 3 && refuses.load(Ordering::SeqCst) { never() } else { Ok(Answer::default()) }
    });
    let sender = fixture.start(&transport);
    wait("one is given up", || fixture.queue.is_empty());
    refuse.store(false, Ordering::SeqCst);
    let letter = fixture.outbox.dead().read(LetterId(0), 1).unwrap().remove(0);
    assert!(fixture.outbox.revive(&letter).unwrap());
    sender.wake();
    wait("it arrives", || fixture.queue.is_empty() && sender.status().delivered == 2);
    sender.stop(Duration::from_secs(5));
    assert!(fixture.outbox.dead().is_empty());
}

#[test]
fn stopping_does_not_wait_for_ever_and_loses_nothing() {
    struct Silent;
    #[async_trait]
    impl Transport for Silent {
        async fn send(&self, _: &[Entry]) -> Result<Answer, Trouble> {
            std::future::pending().await
        }
    }
    let fixture = Fixture::new();
    fixture.put(5, 1..=5);
    let sender = Sender::start(
        fixture.queue.clone(),
        Arc::new(Silent),
        fixture.config.clone(),
        fixture.runtime.handle().clone(),
    );
    let sender = sender.unwrap();
    wait("requests are under way", || sender.status().in_flight == 3);
    let before = Instant::now();
    sender.stop(Duration::from_millis(100));
    assert!(before.elapsed() < Duration::from_secs(5));
    assert_eq!(fixture.queue.len(), 5);
}
