//! What a client sends, packet by packet: into the batch for the log, with the answers that go out once the batch is
//! committed. Synchronous and without I/O; the connection drives it.

use std::sync::Arc;
use std::time::Instant;

use ahash::{AHashMap, AHashSet};
use bytes::{BufMut, BytesMut};
use hedgerow_storage::log::{Batch, RecordFields, RecordKind};
use tokio::sync::OwnedSemaphorePermit;

use super::Shared;
use super::delivery::Order;
use super::frame::{Frame, Version};
use super::notes::{About, Note};
use super::packet::{self, Disconnect, kind};
use super::presence::Subject;
use super::property::{self, id};
use super::publish::{self, TopicLimits};
use super::reject::Reject;
use super::session::{Session, lock};
use super::subscriptions::{Path, options};

/// Why a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// The client said so.
    Left(Disconnect),
    /// The socket closed or failed.
    Lost,
    /// The client did what it may not, or the gateway wants it to leave.
    Refused(Reject),
}

impl From<Reject> for Ending {
    fn from(reason: Reject) -> Self {
        Self::Refused(reason)
    }
}

/// What goes out when a batch is committed, and what is set free.
#[derive(Debug)]
pub(super) struct Ticket {
    /// Acknowledgements, ready to be written.
    pub acks: Vec<u8>,
    /// Acknowledgements of messages in it.
    pub messages: u32,
    /// QoS 1 messages, counted against the receive maximum.
    pub qos1: u32,
    /// QoS 2 packet ids released by PUBCOMP, counted against the receive maximum.
    pub completed: Vec<u16>,
    /// QoS 2 packet ids first seen in this batch: forgotten if it does not reach the log.
    pub received: Vec<u16>,
    /// Bytes in flight.
    pub bytes: usize,
    pub started: Instant,
    pub permit: Option<OwnedSemaphorePermit>,
}

/// One socket read's worth of work.
#[derive(Debug)]
pub(super) struct Work {
    pub batch: Batch,
    pub ticket: Ticket,
    /// PUBLISH packets by QoS.
    pub received: [u64; 3],
}

impl Work {
    pub(super) fn new(bytes: usize) -> Self {
        let ticket = Ticket {
            acks: Vec::new(),
            messages: 0,
            qos1: 0,
            completed: Vec::new(),
            received: Vec::new(),
            bytes: 0,
            started: Instant::now(),
            permit: None,
        };
        Self { batch: Batch::with_capacity(bytes / 64 + 1, bytes), ticket, received: [0; 3] }
    }
}

/// The receiving side of one connection.
pub(super) struct Inbound {
    shared: Arc<Shared>,
    session: Arc<Session>,
    version: Version,
    principal: Arc<str>,
    address: String,
    connection: u64,
    limits: TopicLimits,
    aliases: AHashMap<u16, Box<str>>,
    /// QoS 1 messages not acknowledged yet.
    unacknowledged: usize,
    /// QoS 2 messages of this connection not completed yet.
    incomplete: AHashSet<u16>,
}

impl Inbound {
    pub(super) fn new(shared: Arc<Shared>, session: Arc<Session>, version: Version, address: String) -> Self {
        let limits = shared.config.topic_limits();
        Self {
            principal: session.principal(),
            connection: session.connection(),
            shared,
            session,
            version,
            address,
            limits,
            aliases: AHashMap::new(),
            unacknowledged: 0,
            incomplete: AHashSet::new(),
        }
    }

    /// Takes one packet. `out` is for answers that need no commit.
    pub(super) fn packet(
        &mut self,
        frame: Frame<'_>,
        now_ms: i64,
        work: &mut Work,
        out: &mut BytesMut,
    ) -> Result<(), Ending> {
        match frame.kind() {
            kind::PUBLISH => self.publish(frame, now_ms, work)?,
            kind::PUBACK | kind::PUBREC | kind::PUBCOMP => self.acknowledged(frame, out)?,
            kind::PUBREL => self.release(frame, now_ms, work)?,
            kind::SUBSCRIBE => self.subscribe(frame, now_ms, work)?,
            kind::UNSUBSCRIBE => self.unsubscribe(frame, now_ms, work)?,
            kind::PINGREQ => {
                packet::ping(frame)?;
                out.put_slice(&[0xD0, 0]);
            }
            kind::DISCONNECT => {
                let leave = packet::disconnect(frame, self.version)?;
                // A session that was to end with its connection cannot be made to outlive it (§3.14.2.2.2).
                if leave.session_expiry.is_some_and(|expiry| expiry > 0) && self.session.expiry_s() == 0 {
                    return Err(Reject::Protocol.into());
                }
                return Err(Ending::Left(leave));
            }
            // A second CONNECT, and AUTH without an authentication method, are protocol errors; the rest only servers
            // send.
            kind::AUTH if self.version == Version::V5 => return Err(Reject::Protocol.into()),
            0 | kind::AUTH => return Err(Reject::Malformed.into()),
            _ => return Err(Reject::Protocol.into()),
        }
        Ok(())
    }

    fn publish(&mut self, frame: Frame<'_>, now_ms: i64, work: &mut Work) -> Result<(), Ending> {
        let publish = publish::parse(frame, self.version, self.limits)?;
        let metrics = &self.shared.metrics;
        if let Some(counter) = work.received.get_mut(usize::from(publish.qos)) {
            *counter += 1;
        }
        if publish.qos > 0 && self.version == Version::V5 {
            let quota = usize::from(self.shared.config.receive_maximum);
            let repeated = publish.qos == 2 && self.incomplete.contains(&publish.packet_id);
            if !repeated && self.unacknowledged + self.incomplete.len() >= quota {
                return Err(Reject::ReceiveMaximum.into());
            }
        }
        let stripped;
        let mut properties = publish.properties;
        if publish.alias.is_some() {
            stripped = property::without(properties, id::TOPIC_ALIAS);
            properties = &stripped;
        }
        let topic = match publish.alias {
            None => publish.topic,
            Some(alias) => aliased(&mut self.aliases, alias, publish.topic, self.shared.config.topic_alias_maximum)?,
        };
        if publish::is_reserved(topic) {
            return self.reserved(publish.qos, publish.packet_id, work);
        }
        match publish.qos {
            0 => {}
            1 => {
                self.unacknowledged += 1;
                work.ticket.qos1 += 1;
                packet::put_ack(&mut work.ticket.acks, kind::PUBACK, publish.packet_id, 0);
            }
            _ => {
                self.incomplete.insert(publish.packet_id);
                packet::put_ack(&mut work.ticket.acks, kind::PUBREC, publish.packet_id, 0);
                if !lock(&self.session.received).insert(publish.packet_id) {
                    metrics.duplicates_suppressed.add(1);
                    work.ticket.messages += 1;
                    // The first one may not be committed yet: the answer waits for this note, which comes after it.
                    self.note(&Note::Repeated, publish.packet_id, now_ms, work);
                    return Ok(());
                }
                work.ticket.received.push(publish.packet_id);
            }
        }
        work.ticket.messages += u32::from(publish.qos > 0);
        work.batch.push(&RecordFields {
            kind: RecordKind::Message,
            time_ms: now_ms,
            topic,
            client_id: &self.session.client_id,
            principal: &self.principal,
            address: &self.address,
            session: self.session.number,
            packet_id: publish.packet_id,
            qos: publish.qos,
            retain: publish.retain,
            dup: publish.dup,
            properties,
            origin: "",
            hops: 0,
            payload: publish.payload,
        });
        Ok(())
    }

    /// A message to a topic that belongs to the service. MQTT 5 has words for it where there is an answer.
    fn reserved(&self, qos: u8, packet_id: u16, work: &mut Work) -> Result<(), Ending> {
        let reason = Reject::TopicReserved;
        if self.version == Version::V4 || qos == 0 {
            return Err(reason.into());
        }
        self.shared.metrics.reject(reason);
        let answer = if qos == 1 { kind::PUBACK } else { kind::PUBREC };
        packet::put_ack(&mut work.ticket.acks, answer, packet_id, reason.code());
        Ok(())
    }

    /// PUBACK, PUBREC and PUBCOMP, for messages sent. None of them needs a commit.
    fn acknowledged(&mut self, frame: Frame<'_>, out: &mut BytesMut) -> Result<(), Ending> {
        let (packet_id, reason) = packet::ack(frame, self.version)?;
        let mut outbox = lock(&self.session.outbox);
        let before = outbox.acknowledged.len();
        let known = match frame.kind() {
            kind::PUBACK => outbox.acknowledge(packet_id),
            kind::PUBCOMP => outbox.complete(packet_id),
            _ => {
                let known = outbox.received(packet_id, reason >= 0x80);
                if reason < 0x80 {
                    // Who has the message is to forget its id, whether it is known here or not.
                    let unknown = if known || self.version == Version::V4 { 0 } else { 0x92 };
                    packet::put_ack(out, kind::PUBREL, packet_id, unknown);
                }
                known
            }
        };
        if known {
            self.shared.metrics.acks_in.add(1);
        }
        if before == 0 && outbox.acknowledged.len() == 1 {
            self.shared.order(Order::Acknowledged(self.session.number));
        }
        Ok(())
    }

    fn release(&mut self, frame: Frame<'_>, now_ms: i64, work: &mut Work) -> Result<(), Ending> {
        let (packet_id, _) = packet::ack(frame, self.version)?;
        let known = lock(&self.session.received).remove(&packet_id);
        let reason = if known || self.version == Version::V4 { 0 } else { 0x92 };
        work.ticket.completed.push(packet_id);
        work.ticket.messages += 1;
        packet::put_ack(&mut work.ticket.acks, kind::PUBCOMP, packet_id, reason);
        // Noted even if unknown: the client has let go of the id, and a restart has to know.
        self.note(&Note::Released, packet_id, now_ms, work);
        Ok(())
    }

    fn subscribe(&mut self, frame: Frame<'_>, now_ms: i64, work: &mut Work) -> Result<(), Ending> {
        let subscribe = packet::subscribe(frame, self.version)?;
        let mut codes = Vec::with_capacity(subscribe.filters.len());
        let mut granted = Vec::with_capacity(subscribe.filters.len());
        for filter in &subscribe.filters {
            match self.grant(filter.path, filter.options) {
                Ok(()) => {
                    codes.push(filter.options & options::QOS);
                    granted.push((filter.path, filter.options));
                }
                // It cannot be refused by a code (§3.8.3.1).
                Err((reason @ Reject::Protocol, _)) => return Err(reason.into()),
                Err((reason, code)) => {
                    self.shared.metrics.reject(reason);
                    codes.push(code);
                }
            }
        }
        if !granted.is_empty() {
            let topics: Vec<&str> = granted.iter().map(|(path, _)| *path).collect();
            let note = Note::Subscribed { identifier: subscribe.identifier, filters: granted };
            self.note(&note, subscribe.packet_id, now_ms, work);
            self.subject().subscribed(&topics, now_ms, &mut work.batch);
        }
        packet::put_suback(&mut work.ticket.acks, self.version, subscribe.packet_id, &codes);
        Ok(())
    }

    /// Grants a subscription, or says why not and the code for SUBACK.
    fn grant(&self, asked: &str, granted: u8) -> Result<(), (Reject, u8)> {
        let refuse = |reason: Reject| Err((reason, reason.code()));
        let Ok(path) = Path::parse(asked) else { return refuse(Reject::TopicFilter) };
        if !publish::within(path.filter.as_str(), self.limits) || asked.len() > 2 * self.limits.bytes {
            return refuse(Reject::TopicFilter);
        }
        if path.shared && granted & options::NO_LOCAL != 0 {
            return refuse(Reject::Protocol);
        }
        // Messages for one rule alone are nobody else's.
        if path.filter.as_str().starts_with("$aws/rules/") {
            return Err((Reject::TopicReserved, 0x87));
        }
        let config = &self.shared.config;
        if config.refused_filters.iter().any(|filter| filter == asked || filter == path.filter.as_str()) {
            return refuse(Reject::FilterRefused);
        }
        let mut filters = lock(&self.session.filters);
        if filters.len() >= config.max_subscriptions && !filters.contains_key(&path.text) {
            return refuse(Reject::Quota);
        }
        filters.insert(path.text, granted);
        Ok(())
    }

    fn unsubscribe(&mut self, frame: Frame<'_>, now_ms: i64, work: &mut Work) -> Result<(), Ending> {
        let (packet_id, filters) = packet::unsubscribe(frame, self.version)?;
        let mut known = Vec::new();
        let codes: Vec<u8> = filters
            .iter()
            .map(|filter| match Path::parse(filter) {
                Err(_) => Reject::TopicFilter.code(),
                Ok(path) if lock(&self.session.filters).remove(&path.text).is_some() => {
                    known.push(*filter);
                    0
                }
                Ok(_) => 0x11,
            })
            .collect();
        if !known.is_empty() {
            self.subject().unsubscribed(&known, now_ms, &mut work.batch);
            self.note(&Note::Unsubscribed(known), packet_id, now_ms, work);
        }
        packet::put_unsuback(&mut work.ticket.acks, self.version, packet_id, &codes);
        Ok(())
    }

    fn subject(&self) -> Subject<'_> {
        Subject {
            client_id: &self.session.client_id,
            principal: &self.principal,
            address: &self.address,
            connection: self.connection,
        }
    }

    fn note(&self, note: &Note<'_>, packet_id: u16, time_ms: i64, work: &mut Work) {
        let about = About { packet_id, ..self.session.about(time_ms) };
        note.push(about, &mut work.batch);
    }

    /// The batch is committed: its messages no longer count against the receive maximum.
    pub(super) fn committed(&mut self, ticket: &Ticket) {
        self.unacknowledged = self.unacknowledged.saturating_sub(ticket.qos1 as usize);
        for packet_id in &ticket.completed {
            self.incomplete.remove(packet_id);
        }
    }

    /// The batch will never be: the client sends its messages again, and they have to be taken then.
    pub(super) fn lost(&self, ticket: &Ticket) {
        let mut received = lock(&self.session.received);
        for packet_id in &ticket.received {
            received.remove(packet_id);
        }
    }
}

/// The topic an alias stands for, setting it if the packet names one.
fn aliased<'a>(
    aliases: &'a mut AHashMap<u16, Box<str>>,
    alias: u16,
    topic: &str,
    maximum: u16,
) -> Result<&'a str, Reject> {
    if alias == 0 || alias > maximum {
        return Err(Reject::TopicAlias);
    }
    if !topic.is_empty() {
        aliases.insert(alias, Box::from(topic));
    }
    // An alias that was never set (§3.3.2.3.4).
    aliases.get(&alias).map(|topic| &**topic).ok_or(Reject::Protocol)
}
