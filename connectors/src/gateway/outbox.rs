//! What waits for one subscriber in memory, and what it has been sent and not acknowledged. The delivery thread puts
//! in at one end, a commit's worth at a time; the connection takes at the other.

use std::collections::VecDeque;
use std::sync::Arc;

use ahash::AHashSet;

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
    /// QoS 1 and 2, sent under their packet id and not acknowledged by PUBACK or PUBREC, in the order of sending.
    pub in_flight: VecDeque<Queued>,
    /// QoS 2, released by PUBREL and not completed by PUBCOMP.
    pub released: VecDeque<Queued>,
    /// The delivery thread has brought everything over: the connection may take.
    pub ready: bool,
    /// The delivery thread holds more, to be asked for when the queue runs low.
    pub more: bool,
    /// It has been asked for.
    pub asked: bool,
    /// Places of messages on disk that the subscriber is done with, for the delivery thread to delete.
    pub acknowledged: Vec<u64>,
    last_packet_id: u16,
    /// Packet ids of what is in flight, released, or in the queue to be sent again.
    taken_ids: AHashSet<u16>,
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
        if queued.packet_id > 0 {
            self.taken_ids.insert(queued.packet_id);
        }
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

    /// Messages that count against the subscriber's receive maximum.
    pub(super) fn window(&self) -> usize {
        self.in_flight.len() + self.released.len()
    }

    /// A packet id that is not taken; it is then.
    pub(super) fn free_packet_id(&mut self) -> u16 {
        loop {
            self.last_packet_id = self.last_packet_id.checked_add(1).unwrap_or(1);
            // The window is smaller than there are ids.
            if self.taken_ids.insert(self.last_packet_id) {
                return self.last_packet_id;
            }
        }
    }

    /// PUBACK. False if no QoS 1 message was sent under this id.
    pub(super) fn acknowledge(&mut self, packet_id: u16) -> bool {
        match self.take_sent(packet_id, 1) {
            Some(sent) => {
                self.forget(&sent);
                true
            }
            None => false,
        }
    }

    /// PUBREC. `refused` if its reason says that the subscriber does not want the message. False if nothing waits for
    /// it; the answer is a PUBREL unless it refused.
    pub(super) fn received(&mut self, packet_id: u16, refused: bool) -> bool {
        if let Some(mut sent) = self.take_sent(packet_id, 2) {
            if refused {
                self.forget(&sent);
            } else {
                sent.released = true;
                sent.changed = true;
                self.released.push_back(sent);
            }
            return true;
        }
        self.released.iter().any(|sent| sent.packet_id == packet_id)
    }

    /// PUBCOMP. False if nothing waits for it.
    pub(super) fn complete(&mut self, packet_id: u16) -> bool {
        let found = self.released.iter().position(|sent| sent.packet_id == packet_id);
        match found.and_then(|at| self.released.remove(at)) {
            Some(sent) => {
                self.forget(&sent);
                true
            }
            None => false,
        }
    }

    fn take_sent(&mut self, packet_id: u16, qos: u8) -> Option<Queued> {
        // Nearly always the oldest.
        let at = self.in_flight.iter().position(|sent| sent.packet_id == packet_id && sent.qos == qos)?;
        self.in_flight.remove(at)
    }

    /// The subscriber is done with the message: its packet id is free, and its copy on disk can go.
    pub(super) fn forget(&mut self, queued: &Queued) {
        if queued.packet_id > 0 {
            self.taken_ids.remove(&queued.packet_id);
        }
        if queued.stored {
            self.acknowledged.push(queued.place);
        }
    }

    /// Everything in memory, oldest first; what was sent keeps its packet id.
    pub(super) fn drain(&mut self) -> Vec<Queued> {
        self.queued_bytes = 0;
        self.taken_ids.clear();
        let Self { in_flight, released, queue, .. } = self;
        let mut all: Vec<_> = released.drain(..).chain(in_flight.drain(..)).chain(queue.drain(..)).collect();
        all.sort_by_key(|queued| queued.place);
        all
    }

    /// What is in memory and not on disk as it is, oldest first; QoS 1 and 2 only.
    pub(super) fn unstored(&mut self) -> impl Iterator<Item = &mut Queued> {
        let all = self.released.iter_mut().chain(self.in_flight.iter_mut()).chain(self.queue.iter_mut());
        all.filter(|queued| queued.qos > 0 && (!queued.stored || queued.changed))
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

    fn queued(place: u64, qos: u8, packet_id: u16) -> Queued {
        let message = Arc::new(Message::new(place, 0, "t", &[], b"payload"));
        Queued { stored: place.is_multiple_of(2), packet_id, ..Queued::new(message, place, qos, false, None) }
    }

    fn send(outbox: &mut Outbox) {
        let queued = outbox.pop().unwrap();
        outbox.in_flight.push_back(queued);
    }

    #[test]
    fn packet_ids_that_are_taken_are_not_given_twice() {
        let mut outbox = Outbox { last_packet_id: u16::MAX - 1, ..Outbox::default() };
        outbox.push(queued(1, 1, 1));
        outbox.push(queued(2, 1, 2));
        assert_eq!(outbox.free_packet_id(), u16::MAX);
        assert_eq!(outbox.free_packet_id(), 3, "1 and 2 are to be sent again");
        send(&mut outbox);
        send(&mut outbox);
        assert!(outbox.acknowledge(2) && outbox.acknowledge(1) && !outbox.acknowledge(1));
        assert_eq!(outbox.acknowledged, [2]);
        outbox.last_packet_id = 0;
        assert_eq!(outbox.free_packet_id(), 1);
    }

    #[test]
    fn qos_2_goes_from_sent_to_released_to_done() {
        let mut outbox = Outbox::default();
        for (place, id) in [(1, 5), (2, 6), (4, 7)] {
            outbox.push(queued(place, 2, id));
            send(&mut outbox);
        }
        assert!(!outbox.acknowledge(5), "PUBACK is no answer to QoS 2");
        assert!(outbox.received(5, false) && outbox.received(5, false) && !outbox.received(9, false));
        assert!(outbox.received(6, true), "refused, and so done");
        assert_eq!((outbox.window(), outbox.released.len()), (2, 1));
        assert!(!outbox.complete(7) && outbox.complete(5) && !outbox.complete(5));
        assert_eq!((outbox.window(), &outbox.acknowledged[..]), (1, &[2][..]));
        assert!(outbox.received(7, false));
        assert_eq!(outbox.unstored().map(|sent| sent.place).collect::<Vec<_>>(), [4], "stored, but not as released");
    }

    #[test]
    fn bounds_count_messages_and_bytes() {
        let mut outbox = Outbox::default();
        let size = queued(1, 1, 0).message.size();
        let limits = QueueLimits { messages: 3, bytes: 2 * size };
        assert!(outbox.fits(usize::MAX / 2, limits), "an empty queue takes any");
        outbox.push(queued(1, 1, 0));
        assert!(outbox.fits(size, limits));
        outbox.push(queued(2, 1, 0));
        assert!(!outbox.fits(size, limits));
        assert!(!outbox.fits(0, QueueLimits { messages: 2, bytes: usize::MAX }));
        assert_eq!(outbox.pop().map(|queued| queued.place), Some(1));
        assert_eq!(outbox.drain().len(), 1);
        assert_eq!(outbox.queued_bytes(), 0);
    }
}
