//! The lake's own thread: fits rows into columns, buffers them, and seals them into local files at step boundaries.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};

use super::config::LakeConfig;
use super::fit::{Fitted, fit};
use super::rows::LakeRows;
use super::seal::{Range, SealError, seal};
use super::spool::Spool;
use super::state::{Committed, LakeStatus, Shared};

/// What the engine tells the thread, in order.
pub(super) enum Message {
    Rows(Arc<LakeRows>, usize),
    StepDone(u64),
    Seal,
    /// Answers when everything sent before is buffered.
    Flush(crossbeam_channel::Sender<()>),
    Close,
}

/// The thread's own things. The schema here is ahead of the shared one only while a batch is fitted.
pub(super) struct Writer {
    pub config: Arc<LakeConfig>,
    pub shared: Arc<Shared>,
    pub spool: Arc<Mutex<Spool>>,
    pub queued_bytes: Arc<AtomicUsize>,
    pub messages: Receiver<Message>,
    /// Rows came after the last step boundary.
    pub open_step: bool,
    pub seal_wanted: bool,
}

impl Writer {
    /// Runs until told to close.
    pub(super) fn run(mut self) {
        // A table that can be reached tells its columns and mark before the first row is fitted.
        self.shared.wait(Duration::from_secs(2), |state| state.contacted || state.closing);
        while !self.shared.lock().gone {
            match self.messages.recv_timeout(self.config.roll_age) {
                Ok(Message::Rows(rows, bytes)) => {
                    self.take(&rows);
                    self.queued_bytes.fetch_sub(bytes, Ordering::AcqRel);
                }
                Ok(Message::StepDone(epoch)) => self.step_done(epoch),
                Ok(Message::Seal) => self.want_seal(),
                Ok(Message::Flush(done)) => drop(done.send(())),
                Err(RecvTimeoutError::Timeout) => self.want_seal(),
                Ok(Message::Close) | Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        if !self.shared.lock().gone {
            self.want_seal();
        }
        self.shared.update(|state| state.closing = true);
    }

    fn take(&mut self, rows: &LakeRows) {
        // Whoever replays may offer rows that are safe already.
        let taken = self.shared.lock().taken;
        let new;
        let rows = match rows.epoch_of.first() {
            Some(first) if *first <= taken => {
                new = rows.after(taken);
                &new
            }
            _ => rows,
        };
        let Some(epoch) = rows.epoch_of.first().copied() else { return };
        self.open_step = true;
        let pushed = 'fit: {
            let (mut schema, generation) = {
                let state = self.shared.lock();
                (state.schema.clone(), state.generation)
            };
            let Fitted { batch, rescued } = match fit(rows, &mut schema, self.config.max_columns) {
                Ok(fitted) => fitted,
                Err(error) => break 'fit Err(error),
            };
            // No one waits for more rows, so no one is woken.
            let mut state = self.shared.lock();
            // The committer learned columns or its mark from the table meanwhile: fit again, to them.
            if state.generation != generation {
                drop(state);
                return self.take(rows);
            }
            state.schema = schema;
            state.rescued += rescued;
            if matches!(state.committed, Committed::Unknown) {
                state.buffer.note_ends(rows);
            }
            let file_schema = state.file_schema();
            break 'fit state.buffer.push(batch, epoch, &file_schema);
        };
        if let Err(error) = pushed {
            // Arrays of unequal length are refused by `append`; what is left is a defect of this module.
            self.fail(&format!("rows cannot be put into columns: {error}"));
        }
    }

    fn step_done(&mut self, epoch: u64) {
        self.open_step = false;
        let due = self.shared.update(|state| {
            state.step = state.step.max(epoch);
            let buffer = &state.buffer;
            // Without rows it is the mark that must not grow old: the log is kept from there.
            let since = if buffer.rows > 0 { buffer.oldest } else { state.taken };
            buffer.rows >= self.config.roll_rows
                || buffer.bytes >= self.config.roll_bytes
                || Duration::from_micros(epoch.saturating_sub(since)) >= self.config.roll_age
        });
        if due || self.seal_wanted {
            self.seal_now();
        }
    }

    /// Seals at once, or at the end of the step that is under way.
    fn want_seal(&mut self) {
        self.seal_wanted = true;
        if !self.open_step {
            self.seal_now();
        }
    }

    fn seal_now(&mut self) {
        self.seal_wanted = false;
        if let Err(error) = self.try_seal() {
            self.seal_wanted = true;
            self.fail(&format!("cannot seal rows into {}: {error}", self.config.spool_dir.display()));
        }
    }

    fn try_seal(&self) -> Result<(), SealError> {
        // Held throughout: the committer must not learn the table's mark while rows are on their way into a file.
        let mut spool = self.spool.lock().unwrap_or_else(PoisonError::into_inner);
        let (from, to, batches, schema, ends) = {
            let state = self.shared.lock();
            let buffer = &state.buffer;
            (state.taken, state.step, buffer.batches(), state.schema.clone(), buffer.ends.clone())
        };
        if to <= from {
            return Ok(());
        }
        if batches.is_empty() {
            spool.advance(to)?;
            self.shared.update(|state| state.taken = to);
            return Ok(());
        }
        let range = Range { sink: &self.config.name, from, to, ends };
        let info = seal(&self.config.spool_dir, &range, &batches, &schema.file_schema())?;
        let piece = spool.record(info, &schema)?;
        self.shared.update(|state| {
            state.buffer.clear();
            state.taken = to;
            state.sealed.push_back(piece);
        });
        Ok(())
    }

    fn fail(&self, message: &str) {
        tracing::error!(sink = %self.config.name, "{message}");
        self.shared.update(|state| {
            if state.status != LakeStatus::Refused {
                state.status = LakeStatus::Degraded;
            }
            state.message = Some(format!("sink {}: {message}", self.config.name));
        });
    }
}
