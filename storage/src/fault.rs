//! Named places where a test kills the process, and named bugs that a test switches on to see itself fail.
//!
//! `HEDGEROW_FAULT=<name>[:n]` aborts the process at the n-th pass (1 if not given) of that point: no destructor runs
//! and nothing is flushed, as with SIGKILL (the exit is by SIGABRT). `HEDGEROW_BUG=<name>` brings one named bug to life.
//! Builds without debug assertions know neither.
//!
//! Points: `log.after_write_before_sync`, `log.after_sync_before_ack`, `lake.after_seal_before_upload`,
//! `lake.after_commit_before_mark`, `checkpoint.middle`, `recovery.middle`, `republish.after_append`, `gateway.after_ends`,
//! `outbox.after_accept`, `outbox.before_confirm`, `queue.after_accept`, `errors.after_append`, `calls.after_failed`, and, with
//! the bug `mark_before_rows` alive, `table.after_mark_before_rows`, with `outbox_without_mark`, `outbox.before_mark`.
//! Bugs: `ack_before_sync`, `mark_before_rows`, `skip_without_mark`, `notice_repeats`, `late_disarm`, `fired_forgotten`,
//! `end_without_note`, `outbox_without_mark`, `queue_without_mark`, `delete_forgotten`, `confirm_before_answer`,
//! `lookup_reads_newest`, `errors_told_as_read`, `failed_call_forgotten`, `windows_shifted`.

use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Dies here if the environment says so.
#[inline]
pub fn point(name: &str) {
    if cfg!(debug_assertions)
        && let Some(fault) = armed()
    {
        fault.pass(name);
    }
}

/// Whether this bug is alive: by the environment for the process, or by [`with_bug`] for this thread.
#[inline]
pub fn bug(name: &str) -> bool {
    cfg!(debug_assertions) && (SCOPED.get() == Some(hash(name)) || from_environment().is_some_and(|bug| bug == name))
}

/// Runs `body` with the bug alive on this thread only.
pub fn with_bug<T>(name: &'static str, body: impl FnOnce() -> T) -> T {
    struct Restore(Option<u64>);
    impl Drop for Restore {
        fn drop(&mut self) {
            SCOPED.set(self.0);
        }
    }
    let _restore = Restore(SCOPED.replace(Some(hash(name))));
    body()
}

thread_local! {
    static SCOPED: Cell<Option<u64>> = const { Cell::new(None) };
}

struct Fault {
    name: String,
    passes_left: AtomicU64,
}

impl Fault {
    fn pass(&self, name: &str) {
        if self.name == name && self.passes_left.fetch_sub(1, Ordering::Relaxed) == 1 {
            std::process::abort();
        }
    }
}

fn armed() -> Option<&'static Fault> {
    static FAULT: OnceLock<Option<Fault>> = OnceLock::new();
    FAULT
        .get_or_init(|| {
            let text = std::env::var("HEDGEROW_FAULT").ok()?;
            let (name, pass) = text.split_once(':').unwrap_or((&text, "1"));
            let pass = pass.parse().ok().filter(|&n: &u64| n > 0)?;
            Some(Fault { name: name.to_owned(), passes_left: AtomicU64::new(pass) })
        })
        .as_ref()
}

fn from_environment() -> Option<&'static str> {
    static BUG: OnceLock<Option<String>> = OnceLock::new();
    BUG.get_or_init(|| std::env::var("HEDGEROW_BUG").ok()).as_deref()
}

/// FNV-1a, so that a thread-local needs no string.
fn hash(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bug_lives_only_in_its_scope() {
        assert!(!bug("ack_before_sync"));
        assert!(with_bug("ack_before_sync", || bug("ack_before_sync") && !bug("mark_before_rows")));
        assert!(!bug("ack_before_sync"));
    }
}
