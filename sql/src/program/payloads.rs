//! Copies of payloads that outlive a batch, one for all rules whose rows have them.

use std::sync::Arc;

use crate::message::Message;

/// Payloads in one piece of memory.
#[derive(Clone, Debug, Default)]
pub(super) struct Payloads {
    all: Arc<Copies>,
    /// The number of the first message that could be in here.
    first: u32,
}

#[derive(Clone, Debug, Default)]
struct Copies {
    bytes: Vec<u8>,
    /// Start and end, by message.
    spans: Vec<(usize, usize)>,
}

impl Payloads {
    /// Copies the payloads of some messages of a batch, ascending.
    pub(super) fn copy(messages: &[Message<'_>], rows: &[u32]) -> Self {
        let payload = |row: &u32| messages.get(*row as usize).map(|message| message.payload).unwrap_or_default();
        let mut copies = Copies {
            bytes: Vec::with_capacity(rows.iter().map(|row| payload(row).len()).sum()),
            spans: vec![(0, 0); rows.last().map_or(0, |last| *last as usize + 1)],
        };
        for row in rows {
            let start = copies.bytes.len();
            copies.bytes.extend_from_slice(payload(row));
            if let Some(span) = copies.spans.get_mut(*row as usize) {
                *span = (start, copies.bytes.len());
            }
        }
        Self { all: Arc::new(copies), first: 0 }
    }

    /// Bytes that are known by the numbers of messages, ascending.
    pub(super) fn of<'b>(all: impl Iterator<Item = (u32, &'b [u8])>) -> Self {
        let mut copies = Copies::default();
        for (message, bytes) in all {
            let start = copies.bytes.len();
            copies.bytes.extend_from_slice(bytes);
            copies.spans.resize(message as usize, (0, 0));
            copies.spans.push((start, copies.bytes.len()));
        }
        Self { all: Arc::new(copies), first: 0 }
    }

    /// The payload of a message; empty if it was not copied.
    pub(super) fn get(&self, message: u32) -> &[u8] {
        let place = message.checked_sub(self.first).map(|place| place as usize);
        let span = place.and_then(|place| self.all.spans.get(place));
        span.and_then(|(start, end)| self.all.bytes.get(*start..*end)).unwrap_or_default()
    }

    /// The messages got other numbers: these.
    pub(super) fn renumber(&mut self, numbers: &[u32]) {
        let mut spans = vec![(0, 0); numbers.last().map_or(0, |last| *last as usize + 1)];
        for (span, number) in self.all.spans.iter().zip(numbers) {
            spans.get_mut(*number as usize).into_iter().for_each(|place| *place = *span);
        }
        self.all = Arc::new(Copies { bytes: std::mem::take(&mut Arc::make_mut(&mut self.all).bytes), spans });
    }

    /// The messages got other numbers: `by` more.
    pub(super) fn shift(&mut self, by: u32) {
        self.first += by;
    }
}
