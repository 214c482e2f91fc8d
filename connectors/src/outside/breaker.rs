//! The circuit breaker: a destination that fails again and again is left alone, then asked with one request at a time.

use std::time::{Duration, Instant};

use super::backoff::Backoff;

/// How a destination is treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// As many requests as allowed.
    Closed,
    /// None before this moment; then one.
    Open(Instant),
}

/// Counts failures in a row.
#[derive(Debug)]
pub(super) struct Breaker {
    /// It opens at so many.
    threshold: u32,
    backoff: Backoff,
    failures: u32,
    state: State,
    /// The destination asked to be left alone until then, whatever others of its answers say.
    asked: Option<Instant>,
}

impl Breaker {
    pub fn new(threshold: u32, backoff: Backoff) -> Self {
        Self { threshold: threshold.max(1), backoff, failures: 0, state: State::Closed, asked: None }
    }

    pub fn state(&self) -> State {
        match (self.state, self.asked) {
            (State::Closed, Some(until)) => State::Open(until),
            (State::Open(own), Some(asked)) => State::Open(own.max(asked)),
            (state, None) => state,
        }
    }

    /// How many requests may be under way now, of `most`.
    pub fn allows(&self, most: usize, now: Instant) -> usize {
        match self.state() {
            State::Closed => most,
            State::Open(until) if now >= until => 1,
            State::Open(_) => 0,
        }
    }

    /// The destination answered: whatever it said, it is alive. A pause that it asked for goes on.
    pub fn alive(&mut self, now: Instant) {
        self.failures = 0;
        self.state = State::Closed;
        self.asked = self.asked.filter(|until| *until > now);
    }

    /// It failed, and may have asked for a pause.
    pub fn failed(&mut self, asked: Option<Duration>, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        let own = self
            .failures
            .checked_sub(self.threshold)
            .map(|beyond| self.backoff.pause(beyond + 1))
            .filter(|_| self.failures >= self.threshold);
        if let Some(pause) = own {
            self.state = State::Open(now + pause);
        }
        self.asked = self.asked.max(asked.map(|pause| now + pause));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_after_failures_in_a_row_asks_once_and_closes_with_an_answer() {
        let backoff = Backoff { min: Duration::from_secs(1), max: Duration::from_secs(4) };
        let mut breaker = Breaker::new(3, backoff);
        let start = Instant::now();
        breaker.failed(None, start);
        breaker.failed(None, start);
        breaker.alive(start);
        breaker.failed(None, start);
        breaker.failed(None, start);
        assert_eq!(breaker.allows(8, start), 8, "two in a row are not three");
        breaker.failed(None, start);
        assert_eq!(breaker.allows(8, start), 0);
        assert_eq!(breaker.allows(8, start + Duration::from_secs(1)), 1);
        breaker.failed(None, start + Duration::from_secs(1));
        assert_eq!(breaker.allows(8, start + Duration::from_secs(1)), 0);
        assert_eq!(breaker.allows(8, start + Duration::from_secs(9)), 1);
        breaker.alive(start);
        assert_eq!(breaker.allows(8, start), 8);
    }

    #[test]
    fn a_pause_that_was_asked_for_is_kept() {
        let mut breaker = Breaker::new(3, Backoff { min: Duration::from_secs(1), max: Duration::from_secs(4) });
        let start = Instant::now();
        breaker.failed(Some(Duration::from_secs(60)), start);
        assert_eq!(breaker.allows(8, start + Duration::from_secs(59)), 0);
        // The answer of a request that was under way with the first one.
        breaker.alive(start + Duration::from_secs(1));
        assert_eq!(breaker.allows(8, start + Duration::from_secs(59)), 0);
        assert_eq!(breaker.allows(8, start + Duration::from_secs(60)), 1);
        breaker.alive(start + Duration::from_secs(60));
        assert_eq!(breaker.allows(8, start + Duration::from_secs(60)), 8);
    }
}
