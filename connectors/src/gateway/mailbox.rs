//! How other threads reach a connection's task: the log's writer with commits, the delivery thread with messages, a
//! newer connection or the shutdown with the order to leave. Counters and one wake-up; nothing is allocated a message.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

use tokio::sync::{Notify, watch};

use super::reject::Reject;

/// One connection's.
#[derive(Debug)]
pub(super) struct Mailbox {
    wake: Notify,
    /// Batches committed. The log commits the batches of one appender in the order of their appends, so a number says
    /// which.
    committed: AtomicU64,
    /// A batch was appended and then not committed.
    failed: AtomicBool,
    /// A `Reject` + 1, or 0.
    order: AtomicU8,
    closed: watch::Sender<bool>,
}

impl Mailbox {
    pub(super) fn new() -> Self {
        Self {
            wake: Notify::new(),
            committed: AtomicU64::new(0),
            failed: AtomicBool::new(false),
            order: AtomicU8::new(0),
            closed: watch::Sender::new(false),
        }
    }

    /// Something is new. Wakes the task once, however often it is called before the task looks.
    pub(super) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Until something is new.
    pub(super) async fn woken(&self) {
        self.wake.notified().await;
    }

    /// The next batch is in the log, or never will be.
    pub(super) fn settle(&self, committed: bool) {
        if committed {
            self.committed.fetch_add(1, Ordering::Release);
        } else {
            self.failed.store(true, Ordering::Release);
        }
        self.wake();
    }

    pub(super) fn committed(&self) -> u64 {
        self.committed.load(Ordering::Acquire)
    }

    pub(super) fn failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// Tells the connection to end, for this reason. The first reason stays.
    pub(super) fn dismiss(&self, reason: Reject) {
        let _ = self.order.compare_exchange(0, reason as u8 + 1, Ordering::AcqRel, Ordering::Acquire);
        self.wake();
    }

    pub(super) fn order(&self) -> Option<Reject> {
        let order = self.order.load(Ordering::Acquire);
        Reject::ALL.get(usize::from(order.checked_sub(1)?)).copied()
    }

    /// The connection is over and its session detached.
    pub(super) fn close(&self) {
        self.closed.send_replace(true);
    }

    /// Until `close`.
    pub(super) async fn closed(&self) {
        // The sender is in `self`, so waiting cannot fail.
        let _ = self.closed.subscribe().wait_for(|closed| *closed).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_order_stays() {
        let mailbox = Mailbox::new();
        assert_eq!(mailbox.order(), None);
        mailbox.dismiss(Reject::TakenOver);
        mailbox.dismiss(Reject::ShuttingDown);
        assert_eq!(mailbox.order(), Some(Reject::TakenOver));
    }
}
