//! What running something costs: CPU time of this thread, and memory of the process at its highest. Both come from
//! `/proc`; elsewhere time is that of the clock, and memory is not looked at.

use std::fs;
use std::time::{Duration, Instant};

/// A measurement under way.
pub struct Meter {
    cpu: Option<Duration>,
    clock: Instant,
    memory: usize,
}

/// What it took.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    pub time: Duration,
    /// Bytes more than before, at the highest.
    pub memory: usize,
}

impl Meter {
    pub fn start() -> Self {
        // Resets the peak to what is in use now (proc(5), clear_refs).
        let _ = fs::write("/proc/self/clear_refs", "5");
        Self { memory: peak(), cpu: cpu(), clock: Instant::now() }
    }

    /// CPU time since the start.
    pub fn cpu_time(&self) -> Duration {
        match (self.cpu, cpu()) {
            (Some(before), Some(after)) => after.saturating_sub(before),
            _ => self.clock.elapsed(),
        }
    }

    pub fn stop(self) -> Cost {
        Cost { time: self.cpu_time(), memory: peak().saturating_sub(self.memory) }
    }
}

/// CPU time of this thread.
fn cpu() -> Option<Duration> {
    let text = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}

/// The most memory that the process had since the peak was reset.
fn peak() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<usize>().ok());
    kib.unwrap_or(0) << 10
}
