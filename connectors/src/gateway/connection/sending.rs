//! Messages to the client, as far as its window and the output buffer go.

use std::sync::Arc;

use ahash::AHashMap;
use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite};

use super::super::delivery::Order;
use super::super::frame::Version;
use super::super::message::Queued;
use super::super::metrics::GatewayMetrics;
use super::super::outbox::Outbox;
use super::super::packet::{self, kind};
use super::super::publish::Outgoing;
use super::super::session::lock;
use super::{Connection, Terms};

/// Topic aliases set towards the client: for the first topics it gets, as many as it allows.
#[derive(Debug, Default)]
pub(super) struct Aliases {
    set: AHashMap<Box<str>, u16>,
    most: u16,
}

impl Aliases {
    pub(super) fn new(most: u16) -> Self {
        Self { set: AHashMap::new(), most }
    }

    /// The alias that stands for the topic, if there is one, or may; and whether it is new to the client.
    fn of(&self, topic: &str) -> Option<(u16, bool)> {
        if self.most == 0 {
            return None;
        }
        if let Some(alias) = self.set.get(topic) {
            return Some((*alias, false));
        }
        let next = u16::try_from(self.set.len() + 1).ok()?;
        (next <= self.most).then_some((next, true))
    }
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Connection<R, W> {
    /// Writes messages that wait for the client.
    pub(super) fn send_messages(&mut self) {
        let Self { shared, session, terms, aliases, out, .. } = self;
        let config = &shared.config;
        let mut outbox = lock(&session.outbox);
        if !outbox.ready {
            return;
        }
        while out.len() < config.write_buffer_bytes {
            let Some(next) = outbox.queue.front() else { break };
            if next.qos > 0 && !next.released && outbox.window() >= terms.send_window {
                break;
            }
            let now_ms = if next.message.expires() { shared.log.now_ms() } else { 0 };
            let Some(queued) = outbox.pop() else { break };
            send(queued, now_ms, &mut outbox, terms, aliases, &shared.metrics, out);
        }
        let low = outbox.queue.len() < config.queue_messages / 4 + 1;
        if outbox.more && !outbox.asked && low {
            outbox.asked = true;
            shared.order(Order::More(session.number));
        }
    }
}

fn send(
    mut queued: Queued,
    now_ms: i64,
    outbox: &mut Outbox,
    terms: &Terms,
    aliases: &mut Aliases,
    metrics: &GatewayMetrics,
    out: &mut BytesMut,
) {
    if queued.released {
        packet::put_ack(out, kind::PUBREL, queued.packet_id, 0);
        outbox.released.push_back(queued);
        return;
    }
    let message = Arc::clone(&queued.message);
    let repeated = queued.packet_id > 0;
    let expiry = match message.time_left(now_ms) {
        Ok(expiry) => expiry,
        // What was sent in time may be sent again (§3.3.2.3.3).
        Err(expired) if repeated => Some((expired.at, 0)),
        Err(_) => {
            metrics.expired.add(1);
            outbox.forget(&queued);
            return;
        }
    };
    let alias = if terms.version == Version::V5 { aliases.of(message.topic()) } else { None };
    let mut outgoing = Outgoing {
        dup: repeated,
        qos: queued.qos,
        retain: queued.retain,
        topic: if matches!(alias, Some((_, false))) { "" } else { message.topic() },
        packet_id: queued.packet_id,
        alias: alias.map(|(alias, _)| alias),
        identifiers: queued.identifiers(),
        properties: message.properties(),
        expiry,
        payload: message.payload(),
    };
    if outgoing.size(terms.version) > terms.max_packet_bytes {
        // The standard: as if sending it had completed (§3.1.2.11.4).
        metrics.too_large_for_subscriber.add(1);
        outbox.forget(&queued);
        return;
    }
    if queued.qos > 0 && !repeated {
        outgoing.packet_id = outbox.free_packet_id();
    }
    if let Some((alias, true)) = alias {
        aliases.set.insert(Box::from(message.topic()), alias);
    }
    outgoing.write(terms.version, out);
    let packet_id = outgoing.packet_id;
    if let Some(counter) = metrics.messages_out.get(usize::from(queued.qos)) {
        counter.add(1);
    }
    if queued.qos > 0 {
        queued.packet_id = packet_id;
        outbox.in_flight.push_back(queued);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_topics_have_aliases() {
        let mut aliases = Aliases::new(2);
        assert_eq!(aliases.of("a"), Some((1, true)));
        aliases.set.insert("a".into(), 1);
        assert_eq!((aliases.of("a"), aliases.of("b")), (Some((1, false)), Some((2, true))));
        aliases.set.insert("b".into(), 2);
        assert_eq!((aliases.of("b"), aliases.of("c")), (Some((2, false)), None));
        assert_eq!(Aliases::new(0).of("a"), None);
    }
}
