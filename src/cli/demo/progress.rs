//! Progress: one line that is rewritten on a terminal, a line now and then elsewhere.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use super::farm::{Farm, Figures};

/// Between lines on a terminal, and elsewhere.
const TERMINAL: Duration = Duration::from_millis(500);
const PLAIN: Duration = Duration::from_secs(3);

/// Rows of each sink, by name.
pub type Rows = Vec<(&'static str, i64)>;

/// Shows how it goes.
pub struct Progress {
    terminal: bool,
    started: Instant,
    last: Instant,
    acknowledged: u64,
    on_line: bool,
}

impl Progress {
    /// Begins.
    pub fn new() -> Self {
        let now = Instant::now();
        Self { terminal: std::io::stdout().is_terminal(), started: now, last: now, acknowledged: 0, on_line: false }
    }

    /// Since the beginning.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Whether it is time for a line.
    pub fn is_due(&self) -> bool {
        self.last.elapsed() >= if self.terminal { TERMINAL } else { PLAIN }
    }

    /// A line with the numbers now.
    pub fn show(&mut self, farm: &Farm, rows: &Rows) {
        let figures = farm.figures();
        let per_second = (figures.acknowledged - self.acknowledged) as f64 / self.last.elapsed().as_secs_f64();
        self.acknowledged = figures.acknowledged;
        self.last = Instant::now();
        let line = line(self.elapsed(), per_second, &figures, farm.connected(), rows, &mut farm.take_latencies_us());
        let mut out = std::io::stdout().lock();
        // A terminal that is gone is no reason to stop counting.
        // The line is cut at the edge of a narrow terminal, not wrapped.
        let _ = if self.terminal { write!(out, "\r\x1b[K\x1b[?7l{line}\x1b[?7h") } else { writeln!(out, "{line}") };
        let _ = out.flush();
        self.on_line = self.terminal;
    }

    /// A message of its own, below the line.
    pub fn say(&mut self, message: impl std::fmt::Display) {
        let mut out = std::io::stdout().lock();
        if std::mem::take(&mut self.on_line) {
            let _ = writeln!(out);
        }
        let _ = writeln!(out, "{message}");
        let _ = out.flush();
    }
}

fn line(
    elapsed: Duration,
    per_second: f64,
    figures: &Figures,
    connected: i64,
    rows: &Rows,
    latencies_us: &mut [u32],
) -> String {
    let rows: Vec<String> = rows.iter().map(|(name, rows)| format!("{name} {rows}")).collect();
    let latency = match (quantile_ms(latencies_us, 0.5), quantile_ms(latencies_us, 0.99)) {
        (Some(p50), Some(p99)) => format!("{p50:.1}/{p99:.1} ms"),
        _ => "-".to_owned(),
    };
    format!(
        "{:>3.0} s  {connected} online  {per_second:.0} msg/s  acked {}  waiting {}  ack p50/p99 {latency}  rows: {}",
        elapsed.as_secs_f64(),
        figures.acknowledged,
        figures.on_their_way(),
        rows.join(", ")
    )
}

fn quantile_ms(latencies_us: &mut [u32], quantile: f64) -> Option<f64> {
    latencies_us.sort_unstable();
    let index = (latencies_us.len() as f64 * quantile) as usize;
    latencies_us.get(index).map(|latency| f64::from(*latency) / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_sorted_values() {
        let mut latencies: Vec<u32> = (1..=100).rev().map(|ms| ms * 1000).collect();
        assert_eq!(quantile_ms(&mut latencies, 0.5), Some(51.0));
        assert_eq!(quantile_ms(&mut latencies, 0.99), Some(100.0));
        assert_eq!(quantile_ms(&mut [], 0.5), None);
    }
}
