//! What a destination is to the sender.

use std::time::Duration;

use async_trait::async_trait;
use hedgerow_storage::outbox::Entry;

/// The destination has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Answer {
    /// What it answered, as a number of its protocol.
    pub status: Option<u16>,
}

/// The destination has it not, as far as is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// It may take it later.
    Again {
        /// Why, for people.
        reason: String,
        /// What it answered.
        status: Option<u16>,
        /// How long it asks to be left alone.
        after: Option<Duration>,
    },
    /// It will never take this.
    Never {
        /// Why, for people.
        reason: String,
        /// What it answered.
        status: Option<u16>,
    },
}

/// Sends rows to one destination.
#[async_trait]
pub(super) trait Transport: Send + Sync + 'static {
    /// Sends these in one go; ends within its own time limit. Reasons hold no secrets.
    async fn send(&self, entries: &[Entry]) -> Result<Answer, Trouble>;

    /// Why nothing may be sent now, although the destination may be well; whoever changes that wakes the sender.
    fn held(&self) -> Option<String> {
        None
    }

    /// Whether these two may go together.
    fn together(&self, first: &Entry, other: &Entry) -> bool {
        first.parameters == other.parameters
    }
}
