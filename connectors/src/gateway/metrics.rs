//! What the gateway counts. Plain atomics; the HTTP layer renders them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::reject::Reject;

/// One counter or gauge.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// The value now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub(super) fn sub(&self, n: u64) {
        self.0.fetch_sub(n, Ordering::Relaxed);
    }

    pub(super) fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }
}

/// Durations in buckets of powers of two: bucket `i` counts those up to `64 µs << i`, the last one all above.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; Self::BUCKETS],
    sum_us: AtomicU64,
}

impl Histogram {
    /// Number of buckets, the unbounded one included.
    pub const BUCKETS: usize = 18;

    /// Upper bound of a bucket in microseconds; `None` for the last.
    pub fn bound_us(bucket: usize) -> Option<u64> {
        (bucket + 1 < Self::BUCKETS).then(|| 64 << bucket)
    }

    /// Counts per bucket (not cumulative).
    pub fn counts(&self) -> [u64; Self::BUCKETS] {
        std::array::from_fn(|at| self.buckets.get(at).map_or(0, |bucket| bucket.load(Ordering::Relaxed)))
    }

    /// Sum of all durations in microseconds.
    pub fn sum_us(&self) -> u64 {
        self.sum_us.load(Ordering::Relaxed)
    }

    pub(super) fn record(&self, took: Duration, times: u64) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let at = (0..Self::BUCKETS - 1).find(|&at| us <= 64 << at).unwrap_or(Self::BUCKETS - 1);
        if let Some(bucket) = self.buckets.get(at) {
            bucket.fetch_add(times, Ordering::Relaxed);
        }
        self.sum_us.fetch_add(us.saturating_mul(times), Ordering::Relaxed);
    }
}

/// Counters and gauges of the gateway, since its start.
#[derive(Debug, Default)]
pub struct GatewayMetrics {
    /// TCP connections accepted.
    pub connections_accepted: Counter,
    /// MQTT connections open now (gauge).
    pub connections_open: Counter,
    /// Sessions, online and sleeping (gauge).
    pub sessions: Counter,
    /// Subscriptions (gauge).
    pub subscriptions: Counter,
    /// PUBLISH packets received, by QoS.
    pub messages_in: [Counter; 3],
    /// Bytes read from sockets.
    pub bytes_in: Counter,
    /// PUBLISH packets sent, by QoS granted.
    pub messages_out: [Counter; 3],
    /// Bytes written to sockets.
    pub bytes_out: Counter,
    /// PUBACK, PUBREC and PUBCOMP sent for messages received.
    pub acks_out: Counter,
    /// PUBACK, PUBREC and PUBCOMP received.
    pub acks_in: Counter,
    /// QoS 2 messages that a client sent again and that were not logged twice.
    pub duplicates_suppressed: Counter,
    /// Last wills published.
    pub wills: Counter,
    /// Retained messages (gauge).
    pub retained: Counter,
    /// Their bytes (gauge).
    pub retained_bytes: Counter,
    /// Messages to be retained that were delivered and not kept: there are too many.
    pub retained_refused: Counter,
    /// Messages of shared subscriptions given to another member because theirs left.
    pub rerouted: Counter,
    /// Messages dropped because a subscriber's queue was full.
    pub queue_drops: Counter,
    /// Messages dropped because they expired before they were sent.
    pub expired: Counter,
    /// Messages not sent because they exceed the subscriber's maximum packet size.
    pub too_large_for_subscriber: Counter,
    /// Messages written to the queues on disk.
    pub queued_on_disk: Counter,
    /// Bytes on their way into the log (gauge).
    pub in_flight_bytes: Counter,
    /// Times that a socket was not read because too much was on its way into the log.
    pub backpressure: Counter,
    /// From the PUBLISH read to its acknowledgement handed to the socket.
    pub ack_latency: Histogram,
    rejects: [Counter; Reject::ALL.len()],
}

impl GatewayMetrics {
    /// How often connections, packets or CONNECTs were refused for this reason.
    pub fn rejected(&self, reason: Reject) -> u64 {
        self.rejects.get(reason as usize).map_or(0, Counter::get)
    }

    pub(super) fn reject(&self, reason: Reject) {
        if let Some(counter) = self.rejects.get(reason as usize) {
            counter.add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_falls_into_the_first_bucket_that_holds_it() {
        let histogram = Histogram::default();
        for us in [0, 64, 65, 128, 10_000_000] {
            histogram.record(Duration::from_micros(us), 2);
        }
        let counts = histogram.counts();
        assert_eq!((counts[0], counts[1], counts[17]), (4, 4, 2));
        assert_eq!(histogram.sum_us(), 2 * 10_000_257);
        assert_eq!(Histogram::bound_us(1), Some(128));
        assert_eq!(Histogram::bound_us(17), None);
    }
}
