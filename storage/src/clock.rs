//! Two clocks, injected: one that only advances, and the wall's, which people and time servers set.
//!
//! Nothing else in this crate reads a clock. What "log time" makes of the two is `log::time`'s business.

/// The clocks of the machine, or of a simulation.
pub trait Clock: Send + Sync + 'static {
    /// Microseconds since some fixed moment; never goes back while the process lives.
    fn monotonic_us(&self) -> u64;
    /// Microseconds since 1970-01-01 UTC, as the machine believes; may step in both directions.
    fn wall_us(&self) -> u64;
}

/// The machine's own clocks.
#[derive(Debug)]
pub struct SystemClock {
    start: std::time::Instant,
}

impl SystemClock {
    /// Clocks whose monotonic side counts from now.
    #[expect(clippy::disallowed_methods, reason = "this is the one place where the machine's clock is read")]
    pub fn new() -> Self {
        Self { start: std::time::Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn monotonic_us(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    #[expect(clippy::disallowed_methods, reason = "this is the one place where the machine's clock is read")]
    fn wall_us(&self) -> u64 {
        let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        since_1970.map_or(0, |d| u64::try_from(d.as_micros()).unwrap_or(u64::MAX))
    }
}
