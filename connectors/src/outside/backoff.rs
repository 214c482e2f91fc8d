//! Pauses between attempts: doubling, bounded, and each cut short by chance, so that a thousand rows that failed
//! together do not come back together.

use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

/// The shortest and the longest pause.
#[derive(Clone, Copy, Debug)]
pub(super) struct Backoff {
    pub min: Duration,
    pub max: Duration,
}

impl Backoff {
    /// The pause after so many failures in a row: between a half and the whole of `min`, doubled with each.
    pub fn pause(self, failures: u32) -> Duration {
        let doubled = self.min.saturating_mul(1 << failures.saturating_sub(1).min(20)).min(self.max);
        // The keys of a new hasher are random; nothing here needs better chance than that.
        let chance = std::hash::RandomState::new().build_hasher().finish();
        doubled.mul_f64(0.5 + 0.5 * (chance as f64 / u64::MAX as f64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_differ() {
        let backoff = Backoff { min: Duration::from_millis(100), max: Duration::from_secs(1) };
        for (failures, whole_ms) in [(0, 100), (1, 100), (2, 200), (4, 800), (5, 1_000), (40, 1_000)] {
            for _ in 0..20 {
                let pause = backoff.pause(failures);
                let whole = Duration::from_millis(whole_ms);
                assert!(pause >= whole / 2 && pause <= whole, "{failures}: {pause:?}");
            }
        }
        let pauses: std::collections::BTreeSet<Duration> = (0..20).map(|_| backoff.pause(3)).collect();
        assert!(pauses.len() > 10);
    }
}
