//! How many messages of a queue are visible, in flight and delayed, without looking at each of them.
//!
//! Messages that are not visible yet are counted by the second in which they become so, and as visible from its beginning on. There are as many
//! seconds as the longest invisibility has, whatever the number of messages.

use std::collections::BTreeMap;

/// Whether a message was handed out before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Before {
    Never,
    HandedOut,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Both {
    delayed: u64,
    in_flight: u64,
}

/// The counts of one queue.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    pub messages: u64,
    pub bytes: u64,
    later: BTreeMap<u64, Both>,
    sum: Both,
}

impl Both {
    fn of(&mut self, before: Before) -> &mut u64 {
        match before {
            Before::Never => &mut self.delayed,
            Before::HandedOut => &mut self.in_flight,
        }
    }
}

impl Counts {
    /// A message is visible from then on.
    pub fn later(&mut self, visible_ms: u64, before: Before) {
        *self.later.entry(visible_ms / 1_000).or_default().of(before) += 1;
        *self.sum.of(before) += 1;
    }

    /// A message is so no longer.
    pub fn no_longer(&mut self, visible_ms: u64, before: Before) {
        // A second that has passed is not there any more, and neither are its messages in the sum.
        if let Some(second) = self.later.get_mut(&(visible_ms / 1_000))
            && *second.of(before) > 0
        {
            *second.of(before) -= 1;
            *self.sum.of(before) -= 1;
        }
    }

    /// Visible, in flight and delayed messages.
    pub fn now(&mut self, now_ms: u64) -> (u64, u64, u64) {
        while let Some(first) = self.later.first_entry()
            && first.key().saturating_mul(1_000) <= now_ms
        {
            let passed = first.remove();
            self.sum.delayed -= passed.delayed;
            self.sum.in_flight -= passed.in_flight;
        }
        let Both { delayed, in_flight } = self.sum;
        (self.messages.saturating_sub(delayed + in_flight), in_flight, delayed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_become_visible_with_their_second() {
        let mut counts = Counts { messages: 3, ..Counts::default() };
        counts.later(2_001, Before::Never);
        counts.later(2_999, Before::Never);
        counts.later(5_000, Before::HandedOut);
        assert_eq!(counts.now(1_999), (0, 1, 2));
        assert_eq!(counts.now(2_000), (2, 1, 0));
        // What has passed is taken off once, also when another message of the same second is put back meanwhile.
        counts.no_longer(2_001, Before::Never);
        assert_eq!(counts.now(2_000), (2, 1, 0));
        counts.no_longer(5_000, Before::HandedOut);
        counts.later(2_000, Before::HandedOut);
        assert_eq!(counts.now(2_000), (3, 0, 0));
    }
}
