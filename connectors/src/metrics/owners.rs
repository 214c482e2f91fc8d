//! The metrics of those who keep theirs as plain counters: gateway, log, lakes.

use std::sync::atomic::{AtomicU64, Ordering};

use hedgerow_storage::lake::LakeHealth;
use hedgerow_storage::log::Log;

use super::{Exposition, MetricsSource};
use crate::gateway::{GatewayMetrics, Histogram, Reject};
use crate::outside::Destinations;
use crate::query::system::QueueStatus;

impl MetricsSource for GatewayMetrics {
    fn collect(&self, into: &mut Exposition) {
        let gauges = [
            ("hedgerow_gateway_connections", "MQTT connections open now", &self.connections_open),
            ("hedgerow_gateway_sessions", "MQTT sessions, online and sleeping", &self.sessions),
            ("hedgerow_gateway_subscriptions", "Subscriptions", &self.subscriptions),
            ("hedgerow_gateway_retained_messages", "Retained messages", &self.retained),
            ("hedgerow_gateway_retained_bytes", "Bytes of retained messages", &self.retained_bytes),
            ("hedgerow_gateway_in_flight_bytes", "Bytes on their way into the log", &self.in_flight_bytes),
        ];
        for (name, help, value) in gauges {
            into.gauge(name, help, &[], value.get() as f64);
        }
        let counters = [
            ("hedgerow_gateway_connections_accepted_total", "TCP connections accepted", &self.connections_accepted),
            ("hedgerow_gateway_received_bytes_total", "Bytes read from sockets", &self.bytes_in),
            ("hedgerow_gateway_sent_bytes_total", "Bytes written to sockets", &self.bytes_out),
            ("hedgerow_gateway_acks_sent_total", "PUBACK, PUBREC and PUBCOMP sent", &self.acks_out),
            ("hedgerow_gateway_acks_received_total", "PUBACK, PUBREC and PUBCOMP received", &self.acks_in),
            (
                "hedgerow_gateway_duplicates_suppressed_total",
                "QoS 2 messages sent again and not logged twice",
                &self.duplicates_suppressed,
            ),
            ("hedgerow_gateway_wills_total", "Last wills published", &self.wills),
            (
                "hedgerow_gateway_retained_refused_total",
                "Messages delivered and not retained: there are too many",
                &self.retained_refused,
            ),
            (
                "hedgerow_gateway_rerouted_total",
                "Messages of shared subscriptions given to another member",
                &self.rerouted,
            ),
            (
                "hedgerow_gateway_queue_drops_total",
                "Messages dropped: a subscriber's queue was full",
                &self.queue_drops,
            ),
            ("hedgerow_gateway_expired_total", "Messages dropped: expired before they were sent", &self.expired),
            (
                "hedgerow_gateway_too_large_total",
                "Messages not sent: larger than the subscriber takes",
                &self.too_large_for_subscriber,
            ),
            ("hedgerow_gateway_queued_on_disk_total", "Messages written to queues on disk", &self.queued_on_disk),
            ("hedgerow_gateway_backpressure_total", "Times that a socket was not read for a while", &self.backpressure),
        ];
        for (name, help, value) in counters {
            into.counter(name, help, &[], value.get());
        }
        for (qos, value) in ["0", "1", "2"].into_iter().zip(&self.messages_in) {
            into.counter("hedgerow_gateway_received_total", "PUBLISH packets received", &[("qos", qos)], value.get());
        }
        for (qos, value) in ["0", "1", "2"].into_iter().zip(&self.messages_out) {
            into.counter("hedgerow_gateway_sent_total", "PUBLISH packets sent", &[("qos", qos)], value.get());
        }
        for reason in Reject::ALL {
            let labels = [("reason", reason.label())];
            into.counter(
                "hedgerow_gateway_rejected_total",
                "What was refused, and why",
                &labels,
                self.rejected(reason),
            );
        }
        durations(
            into,
            "hedgerow_gateway_ack_seconds",
            "From the PUBLISH read to its acknowledgement",
            &self.ack_latency,
        );
    }
}

fn durations(into: &mut Exposition, name: &'static str, help: &'static str, histogram: &Histogram) {
    let mut below = 0;
    let mut buckets = Vec::new();
    for (bucket, count) in histogram.counts().into_iter().enumerate() {
        below += count;
        if let Some(bound_us) = Histogram::bound_us(bucket) {
            buckets.push((bound_us as f64 / 1e6, below));
        }
    }
    into.histogram(name, help, &[], &buckets, (histogram.sum_us() as f64 / 1e6, below));
}

impl MetricsSource for Log {
    fn collect(&self, into: &mut Exposition) {
        let metrics = self.metrics();
        let now = |value: &AtomicU64| value.load(Ordering::Relaxed);
        let counters = [
            ("hedgerow_log_commits_total", "Commits written", &metrics.commits),
            ("hedgerow_log_ticks_total", "Commits that only tell the time", &metrics.ticks),
            ("hedgerow_log_records_total", "Records written", &metrics.records),
            ("hedgerow_log_bytes_total", "Bytes written", &metrics.bytes),
            ("hedgerow_log_syncs_total", "Syncs to disk", &metrics.syncs),
            ("hedgerow_log_sync_microseconds_total", "Time spent in syncs", &metrics.sync_us),
            ("hedgerow_log_refused_full_total", "Appends refused: too much was waiting", &metrics.refused_full),
            ("hedgerow_log_refused_space_total", "Appends refused: too little disk", &metrics.refused_low_space),
            ("hedgerow_log_segments_created_total", "Files begun", &metrics.segments_created),
            ("hedgerow_log_segments_packed_total", "Files compressed", &metrics.segments_packed),
            ("hedgerow_log_segments_dropped_total", "Files dropped by retention", &metrics.segments_dropped),
            (
                "hedgerow_log_clock_jumps_total",
                "Leaps of the wall clock beyond log.max_clock_jump",
                &metrics.clock_jumps,
            ),
        ];
        for (name, help, value) in counters {
            into.counter(name, help, &[], now(value));
        }
        let health = self.health();
        let queued = now(&metrics.queued_bytes) as f64;
        into.gauge("hedgerow_log_queued_bytes", "Bytes waiting to be written", &[], queued);
        into.gauge("hedgerow_log_size_bytes", "Bytes on disk", &[], self.size_bytes() as f64);
        into.gauge(
            "hedgerow_log_first_epoch",
            "The log holds every commit after this one",
            &[],
            self.first_epoch().0 as f64,
        );
        into.gauge("hedgerow_log_last_epoch", "The last commit", &[], self.last_epoch().0 as f64);
        into.gauge("hedgerow_log_free_bytes", "Free disk at the last look", &[], health.free_bytes as f64);
        into.gauge(
            "hedgerow_log_failed",
            "1 when the log takes no more records until a restart",
            &[],
            flag(health.failed.is_some()),
        );
        into.gauge(
            "hedgerow_log_low_space",
            "1 when publishes are refused for lack of disk",
            &[],
            flag(health.low_space),
        );
    }
}

/// The metrics of one lake sink.
pub fn collect_lake(sink: &str, health: &LakeHealth, into: &mut Exposition) {
    let labels = [("sink", sink)];
    into.gauge("hedgerow_lake_taken_epoch", "Rows up to here are safe on this machine", &labels, health.taken as f64);
    into.gauge("hedgerow_lake_committed_epoch", "Rows up to here are in the table", &labels, health.committed as f64);
    into.gauge("hedgerow_lake_buffered_rows", "Rows in memory", &labels, health.buffered_rows as f64);
    into.gauge("hedgerow_lake_sealed_files", "Files that wait for their commit", &labels, health.sealed_pieces as f64);
    into.gauge("hedgerow_lake_backlog_bytes", "Bytes of these files", &labels, health.backlog_bytes as f64);
    into.counter("hedgerow_lake_rows_total", "Rows committed", &labels, health.rows_committed);
    into.counter("hedgerow_lake_rescued_total", "Values that went to _rescued", &labels, health.rescued_values);
}

/// The metrics of message queues.
pub fn collect_queues(queues: &[QueueStatus], into: &mut Exposition) {
    for queue in queues {
        let labels = [("queue", queue.name.as_str())];
        let gauges = [
            ("hedgerow_queue_visible", "Messages that can be received", queue.visible),
            ("hedgerow_queue_in_flight", "Messages received, neither deleted nor visible again", queue.in_flight),
            ("hedgerow_queue_delayed", "Messages not visible yet", queue.delayed),
            ("hedgerow_queue_bytes", "Bytes of all messages", queue.bytes),
        ];
        for (name, help, value) in gauges {
            into.gauge(name, help, &labels, value as f64);
        }
        let counters = [
            ("hedgerow_queue_sent_total", "Messages that came", queue.sent),
            ("hedgerow_queue_received_total", "Messages handed out", queue.received),
            ("hedgerow_queue_deleted_total", "Messages deleted by their receipt", queue.deleted),
            ("hedgerow_queue_dead_total", "Messages given up: received max_receives times", queue.dead),
            ("hedgerow_queue_expired_total", "Messages removed for their age (retention)", queue.expired),
            ("hedgerow_queue_purged_total", "Messages purged", queue.purged),
        ];
        for (name, help, value) in counters {
            into.counter(name, help, &labels, value);
        }
    }
}

fn flag(set: bool) -> f64 {
    if set { 1.0 } else { 0.0 }
}

/// The metrics of destinations outside, and of dead letters.
pub fn collect_destinations(destinations: &Destinations, into: &mut Exposition) {
    for one in destinations.status() {
        let labels = [("sink", one.name.as_str())];
        let gauges = [
            ("hedgerow_outbox_rows", "Rows that wait for the destination", one.waiting),
            ("hedgerow_outbox_in_flight", "Requests under way", one.in_flight),
            ("hedgerow_outbox_open", "1 while the destination is left alone because it keeps failing", one.open.into()),
            (
                "hedgerow_outbox_held",
                "1 while nothing is sent since it has not confirmed, or is disabled",
                one.is_held().into(),
            ),
            ("hedgerow_outbox_last_status", "The last answer; 0 for none", one.last_status.unwrap_or(0).into()),
        ];
        for (name, help, value) in gauges {
            into.gauge(name, help, &labels, value as f64);
        }
        into.gauge("hedgerow_outbox_bytes", "Bytes that wait on local disk", &labels, one.waiting_bytes as f64);
        let counters = [
            ("hedgerow_outbox_delivered_total", "Rows that the destination confirmed", one.delivered),
            ("hedgerow_outbox_failed_attempts_total", "Attempts that failed, row by row", one.failed_attempts),
            ("hedgerow_outbox_given_up_total", "Rows that became dead letters after an attempt", one.given_up),
        ];
        for (name, help, value) in counters {
            into.counter(name, help, &labels, value);
        }
    }
    let dead = destinations.outbox().dead();
    into.gauge("hedgerow_dead_letters", "Dead letters kept", &[], dead.len() as f64);
    into.gauge("hedgerow_dead_letters_bytes", "Bytes of dead letters kept", &[], dead.bytes() as f64);
    into.counter("hedgerow_dead_letters_total", "Rows that became dead letters", &[], dead.total());
    let help = "Dead letters dropped: outside.max_dead_letters, outside.dead_letter_age";
    into.counter("hedgerow_dead_letters_dropped_total", help, &[], dead.dropped());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_counters_of_the_gateway_are_shown() {
        let mut exposition = Exposition::default();
        GatewayMetrics::default().collect(&mut exposition);
        let text = exposition.text();
        assert!(text.contains("hedgerow_gateway_received_total{qos=\"2\"} 0\n"), "{text}");
        assert!(text.contains("hedgerow_gateway_ack_seconds_bucket{le=\"0.000064\"} 0\n"), "{text}");
        assert_eq!(text.matches("hedgerow_gateway_rejected_total{").count(), Reject::ALL.len());
    }
}
