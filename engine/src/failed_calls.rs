//! Calls of other systems that failed: kept durably before anything else is done with their messages.
//!
//! When the call that a rule cannot go on without fails, the rule's error action is to run, once; without one, the
//! message becomes a dead letter. Both begin with a note in the store of the outbox. Until it is durable the call
//! operator goes on holding the message's time, so no mark of a sink passes it; and a replay that finds the note does
//! not ask again. So a message has either its rows or its error, whatever the destination says the second time.
//!
//! Writing waits for the disk, and operators must not: a thread of its own does it, for all that has come meanwhile at
//! once.

use crossbeam_channel::{Receiver, Sender};
use hedgerow_storage::fault;
use hedgerow_storage::outbox::{FailedCall, Outbox, Position};

/// Written at once, at most.
const AT_ONCE: usize = 1_000;

/// Where failed calls are kept. Clones share the thread, which ends with the last of them.
#[derive(Clone)]
pub struct FailedCalls {
    outbox: Outbox,
    /// Bounded by what may be in flight: each message counts there until its note is kept.
    notes: Sender<Note>,
}

struct Note {
    call: FailedCall,
    kept: Box<dyn FnOnce() + Send>,
}

impl FailedCalls {
    /// Starts the thread. `now_ms` is the log's time.
    ///
    /// # Errors
    /// When the operating system refuses a thread.
    pub fn spawn(outbox: Outbox, now_ms: impl Fn() -> i64 + Send + 'static) -> std::io::Result<Self> {
        let (notes, arriving) = crossbeam_channel::unbounded();
        let store = outbox.clone();
        std::thread::Builder::new()
            .name("hedgerow-failed-calls".into())
            .spawn(move || keep(&store, &arriving, &now_ms))?;
        Ok(Self { outbox, notes })
    }

    /// Keeps one, and says so from another thread once it is durable. It never does when the store has failed: then the
    /// message is replayed after a restart.
    pub fn keep(&self, call: FailedCall, kept: impl FnOnce() + Send + 'static) {
        let _ = self.notes.send(Note { call, kept: Box::new(kept) });
    }

    /// Whether a call of a rule failed for a message before a crash or restart.
    pub fn has(&self, rule: &str, position: Position) -> bool {
        if fault::bug("failed_call_forgotten") {
            return false;
        }
        self.outbox.failures().has_failed_call(rule, position).unwrap_or_else(|error| {
            tracing::error!(%error, rule, "whether a call failed before cannot be read: it is made again");
            false
        })
    }
}

fn keep(outbox: &Outbox, arriving: &Receiver<Note>, now_ms: &dyn Fn() -> i64) {
    while let Ok(first) = arriving.recv() {
        let more = arriving.try_iter().take(AT_ONCE - 1);
        let (calls, kept): (Vec<_>, Vec<_>) =
            std::iter::once(first).chain(more).map(|note| (note.call, note.kept)).unzip();
        if let Err(error) = outbox.calls_failed(&calls, now_ms()) {
            tracing::error!(%error, calls = calls.len(), "failed calls cannot be kept; restart to replay them");
            continue;
        }
        fault::point("calls.after_failed");
        kept.into_iter().for_each(|kept| kept());
    }
}
