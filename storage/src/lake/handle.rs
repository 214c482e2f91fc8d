//! A lake sink as the engine, queries and health see it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::Sender;
use datafusion::catalog::TableProvider;
use tokio::runtime::Handle;

use super::commit::Committer;
use super::config::LakeConfig;
use super::provider;
use super::rows::LakeRows;
use super::schema::{LakeField, Lookup};
use super::spool::{Found, Spool, SpoolError, io_error};
use super::state::{Buffer, Committed, LakeStatus, Shared, State};
use super::store::{Place, PlaceError};
use super::writer::{Message, Writer};
use crate::fault;

/// Messages that may wait for the lake's thread; bytes are limited besides.
const QUEUED_MESSAGES: usize = 1024;

/// Why a lake sink cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The place it should lie is not usable as written.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// The local folder for sealed files is not usable.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// A declared column cannot be.
    #[error("sink {sink}: column `{column}` cannot be declared: {reason}")]
    Column {
        /// The sink.
        sink: String,
        /// The column.
        column: String,
        /// Why not.
        reason: String,
    },
    /// The threads could not be started.
    #[error("sink {sink}: cannot start: {source}")]
    Start {
        /// The sink.
        sink: String,
        /// Cause.
        source: std::io::Error,
    },
}

/// Why rows were not taken in. They were not looked at and may be offered again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// Too much waits: offer the rows again later.
    #[error("the lake is full at the moment")]
    Full,
    /// The store or table is unfit for this sink.
    #[error("{0}")]
    Refused(String),
    /// The parts of the rows differ in length.
    #[error("the parts of the rows differ in length")]
    Uneven,
    /// The lake is closed.
    #[error("the lake is closed")]
    Closed,
}

/// How a lake sink is doing, in figures.
#[derive(Clone, Debug)]
pub struct LakeHealth {
    /// In one word.
    pub status: LakeStatus,
    /// What is wrong and which setting to look at; none when all is well.
    pub message: Option<String>,
    /// Rows up to this epoch are safe on this machine.
    pub taken: u64,
    /// Rows up to this epoch are in the table.
    pub committed: u64,
    /// Rows in memory.
    pub buffered_rows: usize,
    /// Sealed pieces that wait for their commit.
    pub sealed_pieces: usize,
    /// Their bytes.
    pub backlog_bytes: u64,
    /// The backlog is past half of what it may be.
    pub backlog_warning: bool,
    /// Values that went to `_rescued` since the start.
    pub rescued_values: u64,
    /// Rows committed since the start.
    pub rows_committed: u64,
}

/// An open lake sink. Dropping it without [`Lake::close`] loses only what was not taken.
pub struct Lake {
    config: Arc<LakeConfig>,
    place: Place,
    shared: Arc<Shared>,
    queued_bytes: Arc<AtomicUsize>,
    messages: Sender<Message>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Lake {
    /// Opens the sink where its settings say. The store is not waited for: whether it answers shows in
    /// [`Lake::health`]. I/O runs on `runtime`, a multi-threaded one.
    pub fn open(config: LakeConfig, runtime: Handle) -> Result<Self, OpenError> {
        let place = Place::open(&config)?;
        Self::open_at(config, place, runtime)
    }

    /// Opens the sink at a place given ready-made.
    pub fn open_at(mut config: LakeConfig, place: Place, runtime: Handle) -> Result<Self, OpenError> {
        // Queries read sealed files by their whole path.
        config.spool_dir = std::path::absolute(&config.spool_dir).map_err(|e| io_error(&config.spool_dir, e))?;
        let Found { spool, mut schema, pieces, taken } = Spool::open(&config.spool_dir)?;
        for column in &config.columns {
            let refused = |reason: &str| OpenError::Column {
                sink: config.name.clone(),
                column: column.name.clone(),
                reason: reason.into(),
            };
            match schema.lookup(&column.name) {
                Lookup::Free => {
                    schema.push(LakeField { name: column.name.as_str().into(), data_type: column.data_type });
                }
                Lookup::Column(index) => {
                    if schema.fields().get(index).is_some_and(|field| field.data_type != column.data_type) {
                        return Err(refused("the lake has it with another type already"));
                    }
                }
                Lookup::Refused => return Err(refused("its name is reserved, or taken in another spelling")),
            }
        }
        let state = State {
            schema,
            generation: 0,
            buffer: Buffer::default(),
            step: taken,
            taken,
            sealed: pieces.into(),
            committed: Committed::Unknown,
            committed_mark: 0,
            status: LakeStatus::Starting,
            message: None,
            rescued: 0,
            rows_committed: 0,
            contacted: false,
            closing: false,
            gone: false,
        };
        let config = Arc::new(config);
        let shared = Arc::new(Shared::new(state));
        let spool = Arc::new(Mutex::new(spool));
        let queued_bytes = Arc::new(AtomicUsize::new(0));
        let (messages, received) = crossbeam_channel::bounded(QUEUED_MESSAGES);
        let writer = Writer {
            config: config.clone(),
            shared: shared.clone(),
            spool: spool.clone(),
            queued_bytes: queued_bytes.clone(),
            messages: received,
            open_step: false,
            seal_wanted: false,
        };
        let skip_unseen = fault::bug("skip_without_mark");
        let committer = Committer {
            config: config.clone(),
            shared: shared.clone(),
            spool,
            place: place.clone(),
            runtime,
            skip_unseen,
        };
        let start = |name: &str, run: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new()
                .name(format!("lake-{name}"))
                .spawn(run)
                .map_err(|source| OpenError::Start { sink: config.name.clone(), source })
        };
        let threads =
            vec![start("rows", Box::new(move || writer.run()))?, start("commit", Box::new(move || committer.run()))?];
        Ok(Self { config: config.clone(), place, shared, queued_bytes, messages, threads: Mutex::new(threads) })
    }

    /// Takes rows of epochs after the last [`Lake::step_done`]. Never waits.
    pub fn append(&self, rows: Arc<LakeRows>) -> Result<(), AppendError> {
        if !rows.is_even() {
            return Err(AppendError::Uneven);
        }
        if rows.is_empty() {
            return Ok(());
        }
        {
            let state = self.shared.lock();
            if state.status == LakeStatus::Refused {
                return Err(AppendError::Refused(state.message.clone().unwrap_or_default()));
            }
            if state.spool_bytes() >= self.config.max_backlog_bytes {
                return Err(AppendError::Full);
            }
            // Rows that cannot be sealed (full disk) must not pile up in memory.
            if state.buffer.bytes >= self.config.roll_bytes.saturating_mul(4) {
                return Err(AppendError::Full);
            }
        }
        let bytes = rows.bytes();
        let queued = self.queued_bytes.fetch_add(bytes, Ordering::AcqRel);
        if queued > 0 && queued + bytes > self.config.max_queued_bytes {
            self.queued_bytes.fetch_sub(bytes, Ordering::AcqRel);
            return Err(AppendError::Full);
        }
        self.send(Message::Rows(rows, bytes)).inspect_err(|_| {
            self.queued_bytes.fetch_sub(bytes, Ordering::AcqRel);
        })
    }

    /// Tells that all rows up to `epoch` were appended. Files are cut only here.
    pub fn step_done(&self, epoch: u64) -> Result<(), AppendError> {
        self.send(Message::StepDone(epoch))
    }

    /// Asks for everything up to the last step to be taken soon. Never waits.
    pub fn seal(&self) -> Result<(), AppendError> {
        self.send(Message::Seal)
    }

    fn send(&self, message: Message) -> Result<(), AppendError> {
        self.messages.try_send(message).map_err(|error| match error {
            crossbeam_channel::TrySendError::Full(_) => AppendError::Full,
            crossbeam_channel::TrySendError::Disconnected(_) => AppendError::Closed,
        })
    }

    /// Rows up to this epoch are safe on this machine: replay is not needed for them.
    pub fn taken(&self) -> u64 {
        self.shared.lock().taken
    }

    /// Rows up to this epoch are at their destination.
    pub fn committed(&self) -> u64 {
        self.shared.lock().committed()
    }

    /// How the sink is doing.
    pub fn health(&self) -> LakeHealth {
        health_of(&self.shared.lock(), &self.config)
    }

    /// Waits until rows and steps sent so far are visible to queries.
    pub fn flush(&self) {
        let (done, wait) = crossbeam_channel::bounded(1);
        if self.messages.send(Message::Flush(done)).is_ok() {
            let _ = wait.recv();
        }
    }

    /// Waits until rows up to `epoch` are taken, at most `limit`.
    pub fn wait_taken(&self, epoch: u64, limit: Duration) -> bool {
        self.shared.wait(limit, |state| state.taken >= epoch)
    }

    /// Waits until rows up to `epoch` are committed, at most `limit`.
    pub fn wait_committed(&self, epoch: u64, limit: Duration) -> bool {
        self.shared.wait(limit, |state| state.committed() >= epoch)
    }

    /// Waits until the store and the table answered for the first time, at most `limit`.
    pub fn wait_reached(&self, limit: Duration) -> bool {
        self.shared.wait(limit, |state| !matches!(state.committed, Committed::Unknown))
    }

    /// Waits until health is as asked, at most `limit`.
    pub fn wait_for(&self, limit: Duration, mut asked: impl FnMut(&LakeHealth) -> bool) -> bool {
        self.shared.wait(limit, |state| asked(&health_of(state, &self.config)))
    }

    /// Committed, sealed and buffered rows as one table, as of now.
    pub fn table_provider(&self) -> datafusion::error::Result<Arc<dyn TableProvider>> {
        provider::snapshot(&self.shared, &self.place, &self.config)
    }

    /// Seals what the last step completed, waits a bounded time for commits, and stops. Returns whether all is committed.
    pub fn close(&self) -> bool {
        let limit = self.config.close_timeout;
        let _ = self.messages.send_timeout(Message::Close, limit);
        self.shared.wait(limit, |state| state.gone || (state.closing && state.sealed.is_empty()));
        self.stop();
        let state = self.shared.lock();
        state.sealed.is_empty() && state.buffer.rows == 0
    }

    fn stop(&self) {
        self.shared.update(|state| state.gone = true);
        // A full channel wakes its reader too.
        let _ = self.messages.try_send(Message::Close);
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            let _ = thread.join();
        }
    }
}

impl Drop for Lake {
    fn drop(&mut self) {
        self.stop();
    }
}

fn health_of(state: &State, config: &LakeConfig) -> LakeHealth {
    let backlog_bytes = state.spool_bytes();
    LakeHealth {
        status: state.status,
        message: state.message.clone(),
        taken: state.taken,
        committed: state.committed(),
        buffered_rows: state.buffer.rows,
        sealed_pieces: state.sealed.len(),
        backlog_bytes,
        backlog_warning: backlog_bytes >= config.max_backlog_bytes / 2,
        rescued_values: state.rescued,
        rows_committed: state.rows_committed,
    }
}
