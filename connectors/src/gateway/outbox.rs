//! What waits for one subscriber in memory, and what it has been sent and not acknowledged. The delivery thread puts
//! in at one end, a commit's worth at a time; the connection takes at the other.

use std::collections::VecDeque;
use std::sync::Arc;

use super::mailbox::Mailbox;
use super::message::Queued;

/// Bounds of the queue in memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct QueueLimits {
    pub messages: usize,
    pub bytes: usize,
}

/// One session's.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// Not yet sent.
    pub queue: VecDeque<Queued>,
    queued_bytes: usize,
    /// QoS 1, sent under their packet id, in the order of sending.
    pub in_flight: VecDeque<Queued>,
    /// The delivery thread has brought everything over: the connection may take.
    pub ready: bool,
    /// Newer messages are on disk: to be asked for when the queue runs low.
    pub more_on_disk: bool,
    /// They have been asked for.
    pub asked: bool,
    /// Offsets of acknowledged messages that are on disk, for the delivery thread to delete.
    pub acknowledged: Vec<u64>,
    last_packet_id: u16,
    /// The connection to wake.
    pub mailbox: Option<Arc<Mailbox>>,
}

impl Outbox {
    /// Is there room for one more message of this size? An empty queue takes any.
    pub(super) fn fits(&self, size: usize, limits: QueueLimits) -> bool {
        self.queue.is_empty() || (self.queue.len() < limits.messages && self.queued_bytes + size <= limits.bytes)
    }

    pub(super) fn push(&mut self, queued: Queued) {
        self.queued_bytes += queued.message.size();
        self.queue.push_back(queued);
    }

    pub(super) fn pop(&mut self) -> Option<Queued> {
        let queued = self.queue.pop_front()?;
        self.queued_bytes -= queued.message.size();
        Some(queued)
    }

    pub(super) fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    /// A packet id that is not in flight.
    pub(super) fn free_packet_id(&mut self) -> u16 {
        loop {
            self.last_packet_id = self.last_packet_id.checked_add(1).unwrap_or(1);
            let id = self.last_packet_id;
            if !self.in_flight.iter().any(|sent| sent.packet_id == id) {
                return id;
            }
        }
    }

    /// PUBACK. False if nothing was sent under this id.
    pub(super) fn acknowledge(&mut self, packet_id: u16) -> bool {
        // Nearly always the oldest.
        let found = self.in_flight.iter().position(|sent| sent.packet_id == packet_id);
        match found.and_then(|at| self.in_flight.remove(at)) {
            Some(sent) => {
                self.forget(&sent);
                true
            }
            None => false,
        }
    }

    /// The subscriber is done with the message: its copy on disk can go.
    pub(super) fn forget(&mut self, queued: &Queued) {
        if queued.stored {
            self.acknowledged.push(queued.message.offset);
        }
    }

    /// Everything in memory, oldest first; those in flight keep their packet ids.
    pub(super) fn drain(&mut self) -> Vec<Queued> {
        self.queued_bytes = 0;
        self.in_flight.drain(..).chain(self.queue.drain(..)).collect()
    }

    /// QoS 1 messages in memory that are not on disk, oldest first.
    pub(super) fn unstored(&mut self) -> impl Iterator<Item = &mut Queued> {
        self.in_flight.iter_mut().chain(self.queue.iter_mut()).filter(|queued| queued.qos > 0 && !queued.stored)
    }

    pub(super) fn wake(&self) {
        if let Some(mailbox) = &self.mailbox {
            mailbox.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::Message;
    use super::*;

    fn queued(offset: u64, packet_id: u16) -> Queued {
        let message = Arc::new(Message::new(offset, 0, "t", &[], b"payload"));
        Queued { message, qos: 1, retain: false, stored: offset.is_multiple_of(2), packet_id }
    }

    #[test]
    fn packet_ids_in_flight_are_not_given_twice() {
        let mut outbox = Outbox { last_packet_id: u16::MAX - 1, ..Outbox::default() };
        outbox.in_flight.extend([queued(1, 1), queued(2, 2)]);
        assert_eq!(outbox.free_packet_id(), u16::MAX);
        assert_eq!(outbox.free_packet_id(), 3);
        assert!(outbox.acknowledge(2) && outbox.acknowledge(1) && !outbox.acknowledge(1));
        assert_eq!(outbox.acknowledged, [2]);
    }

    #[test]
    fn bounds_count_messages_and_bytes() {
        let mut outbox = Outbox::default();
        let size = queued(1, 0).message.size();
        let limits = QueueLimits { messages: 3, bytes: 2 * size };
        assert!(outbox.fits(usize::MAX / 2, limits), "an empty queue takes any");
        outbox.push(queued(1, 0));
        assert!(outbox.fits(size, limits));
        outbox.push(queued(2, 0));
        assert!(!outbox.fits(size, limits));
        assert!(!outbox.fits(0, QueueLimits { messages: 2, bytes: usize::MAX }));
        assert_eq!(outbox.pop().map(|queued| queued.message.offset), Some(1));
        assert_eq!(outbox.drain().len(), 1);
        assert_eq!(outbox.queued_bytes(), 0);
    }
}
