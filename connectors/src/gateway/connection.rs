//! The task of one connection once its CONNECT is accepted: one loop over the socket, the log's answers, messages to
//! deliver and the clock.
//!
//! What one read brings becomes one batch with one ticket; tickets come back in the order of the log, and all answers
//! that are due go out in one write. The socket is not read while too much is on its way into the log, while an
//! append has to be repeated, or while the client does not take what it is sent: that is the backpressure.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use hedgerow_storage::log::{AppendError, Class};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Sleep;

use super::Shared;
use super::delivery::Order;
use super::frame::{Split, Version, split};
use super::inbound::{Ending, Inbound, Ticket, Work};
use super::mailbox::Mailbox;
use super::packet;
use super::publish::Outgoing;
use super::reject::Reject;
use super::session::{Session, lock};

/// A connection that sleeps gives its read buffer back after this.
const IDLE: Duration = Duration::from_secs(5);
/// How long an ending connection waits for commits and for the client to take the last bytes.
const FAREWELL: Duration = Duration::from_millis(500);
/// How much a client may still send after it was told to go.
const LINGER_BYTES: usize = 1 << 20;
/// How long a full log queue, and a full disk, are given before the next try.
const RETRY_FULL: Duration = Duration::from_millis(2);
const RETRY_SPACE: Duration = Duration::from_millis(250);
/// A read buffer begins with this.
const FIRST_READ: usize = 4096;

/// What CONNECT agreed on.
#[derive(Clone, Debug)]
pub(super) struct Terms {
    pub version: Version,
    pub keep_alive: Option<Duration>,
    /// QoS 1 messages unacknowledged by the client.
    pub send_window: usize,
    /// The largest packet the client takes.
    pub max_packet_bytes: usize,
    /// It may be told reason strings.
    pub advice: bool,
}

/// A batch that the log has not taken yet.
struct Unsent {
    work: Work,
    retry_at: Option<Instant>,
}

pub(super) struct Connection<R, W> {
    pub shared: Arc<Shared>,
    pub session: Arc<Session>,
    pub mailbox: Arc<Mailbox>,
    pub terms: Terms,
    pub reader: R,
    pub writer: W,
    /// Read and not yet parsed.
    pub input: BytesMut,
    /// To be written.
    pub out: BytesMut,
    inbound: Inbound,
    tickets: VecDeque<Ticket>,
    settled: u64,
    in_flight: usize,
    unsent: Option<Unsent>,
    /// Size of the packet at the front of `input`, if it is larger than a read.
    large: Option<usize>,
    large_permit: Option<OwnedSemaphorePermit>,
    read_size: usize,
    heard: Instant,
    /// Since when the packet at the front of `input` is incomplete.
    partial_since: Option<Instant>,
    throttled: bool,
}

enum Event {
    Mail,
    Read(io::Result<usize>),
    Wrote(io::Result<usize>),
    Permit(Option<OwnedSemaphorePermit>),
    Clock,
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Connection<R, W> {
    #[expect(clippy::too_many_arguments, reason = "called once, with what the handshake has made")]
    pub(super) fn new(
        shared: Arc<Shared>,
        session: Arc<Session>,
        mailbox: Arc<Mailbox>,
        terms: Terms,
        reader: R,
        writer: W,
        input: BytesMut,
        out: BytesMut,
        address: String,
    ) -> Self {
        let inbound = Inbound::new(Arc::clone(&shared), Arc::clone(&session), terms.version, address);
        Self {
            shared,
            session,
            mailbox,
            terms,
            reader,
            writer,
            input,
            out,
            inbound,
            tickets: VecDeque::new(),
            settled: 0,
            in_flight: 0,
            unsent: None,
            large: None,
            large_permit: None,
            read_size: FIRST_READ,
            heard: Instant::now(),
            partial_since: None,
            throttled: false,
        }
    }

    /// Serves until the connection ends, and says farewell.
    pub(super) async fn run(&mut self) -> Ending {
        let ending = match self.parse() {
            Ok(()) => self.serve().await,
            Err(ending) => ending,
        };
        if let Ending::Refused(reason) = ending {
            self.shared.metrics.reject(reason);
        }
        self.say_farewell(ending).await;
        ending
    }

    async fn serve(&mut self) -> Ending {
        let clock = tokio::time::sleep_until(self.next_look().into());
        tokio::pin!(clock);
        loop {
            if let Err(ending) = self.settle() {
                return ending;
            }
            self.send_messages();
            let due = self.next_look();
            if due < clock.deadline().into_std() {
                clock.as_mut().reset(due.into());
            }
            let result = match self.next_event(clock.as_mut()).await {
                Event::Mail => match self.mailbox.order() {
                    Some(reason) => Err(reason.into()),
                    None => Ok(()),
                },
                Event::Read(Ok(0) | Err(_)) | Event::Wrote(Ok(0) | Err(_)) => Err(Ending::Lost),
                Event::Read(Ok(n)) => self.received(n),
                Event::Wrote(Ok(n)) => {
                    self.shared.metrics.bytes_out.add(n as u64);
                    Ok(())
                }
                Event::Permit(permit) => self.permitted(permit),
                Event::Clock => {
                    let result = self.look_at_clock();
                    clock.as_mut().reset(self.next_look().into());
                    result
                }
            };
            if let Err(ending) = result {
                return ending;
            }
        }
    }

    async fn next_event(&mut self, clock: Pin<&mut Sleep>) -> Event {
        let wanted = self.wanted_permits();
        let may_read = self.may_read(wanted.is_some());
        if may_read && self.input.capacity() - self.input.len() < self.read_size / 2 {
            self.input.reserve(self.large.unwrap_or(0).saturating_sub(self.input.len()).max(self.read_size));
        }
        let Self { reader, writer, input, out, mailbox, shared, .. } = self;
        tokio::select! {
            biased;
            () = mailbox.woken() => Event::Mail,
            result = writer.write_buf(out), if !out.is_empty() => Event::Wrote(result),
            permit = async { Arc::clone(&shared.in_flight).acquire_many_owned(wanted.unwrap_or(0)).await },
                if wanted.is_some() => Event::Permit(permit.ok()),
            result = reader.read_buf(input), if may_read => Event::Read(result),
            () = clock => Event::Clock,
        }
    }

    fn may_read(&mut self, waiting: bool) -> bool {
        let config = &self.shared.config;
        let throttled = waiting || self.unsent.is_some() || self.in_flight >= config.connection_in_flight_bytes;
        if throttled && !self.throttled {
            self.shared.metrics.backpressure.add(1);
        }
        self.throttled = throttled;
        !throttled && self.out.len() < config.write_buffer_bytes
    }

    /// Permits to wait for: of a batch, or of a packet too large for an ordinary read.
    fn wanted_permits(&self) -> Option<u32> {
        match (&self.unsent, self.large) {
            (Some(unsent), _) if unsent.work.ticket.permit.is_none() => {
                Some(self.shared.permits(unsent.work.batch.bytes()))
            }
            (None, Some(size)) if self.large_permit.is_none() => Some(self.shared.permits(size)),
            _ => None,
        }
    }

    fn permitted(&mut self, permit: Option<OwnedSemaphorePermit>) -> Result<(), Ending> {
        let Some(permit) = permit else { return Err(Reject::ShuttingDown.into()) };
        match self.unsent.take() {
            Some(mut unsent) => {
                unsent.work.ticket.permit = Some(permit);
                self.append(unsent.work)
            }
            None => {
                self.large_permit = Some(permit);
                Ok(())
            }
        }
    }

    fn received(&mut self, n: usize) -> Result<(), Ending> {
        self.shared.metrics.bytes_in.add(n as u64);
        let config = &self.shared.config;
        // Busy connections get larger reads, up to the limit.
        if n >= self.read_size && self.read_size < config.read_buffer_bytes {
            self.read_size = (self.read_size * 2).min(config.read_buffer_bytes);
        }
        self.parse()
    }

    /// Takes all whole packets off the buffer, as one batch.
    fn parse(&mut self) -> Result<(), Ending> {
        let max = self.shared.config.max_packet_bytes as usize;
        let now_ms = self.shared.log.now_ms();
        let mut work = Work::new(self.input.len());
        let mut taken = 0;
        let result = loop {
            match split(self.input.get(taken..).unwrap_or_default(), max) {
                Ok(Split::Frame(frame)) => {
                    taken += frame.bytes.len();
                    if let Err(ending) = self.inbound.packet(frame, now_ms, &mut work, &mut self.out) {
                        break Err(ending);
                    }
                }
                Ok(Split::Incomplete(size)) => {
                    let large = size > self.shared.config.read_buffer_bytes;
                    self.large = large.then_some(size);
                    break Ok(());
                }
                Err(reason) => break Err(reason.into()),
            }
        };
        self.input.advance(taken);
        for (counter, n) in self.shared.metrics.messages_in.iter().zip(work.received) {
            counter.add(n);
        }
        if taken > 0 || self.input.is_empty() {
            self.heard = work.ticket.started;
            self.partial_since = None;
        }
        if self.large.is_none() {
            self.large_permit = None;
        }
        if !self.input.is_empty() {
            self.partial_since.get_or_insert(work.ticket.started);
        }
        // What came before a bad packet was good, and is logged.
        let submitted = self.submit(work);
        result.and(submitted)
    }

    fn submit(&mut self, mut work: Work) -> Result<(), Ending> {
        if work.batch.is_empty() {
            // Nothing to wait for, except that answers keep their order.
            match (self.unsent.as_mut().map(|unsent| &mut unsent.work.ticket), self.tickets.back_mut()) {
                (Some(last), _) | (None, Some(last)) => last.acks.append(&mut work.ticket.acks),
                (None, None) => self.out.extend_from_slice(&work.ticket.acks),
            }
            return Ok(());
        }
        work.ticket.bytes = work.batch.bytes();
        match Arc::clone(&self.shared.in_flight).try_acquire_many_owned(self.shared.permits(work.ticket.bytes)) {
            Ok(permit) => work.ticket.permit = Some(permit),
            Err(_) => {
                self.unsent = Some(Unsent { work, retry_at: None });
                return Ok(());
            }
        }
        self.append(work)
    }

    fn append(&mut self, work: Work) -> Result<(), Ending> {
        let Work { batch, ticket, received } = work;
        let mailbox = Arc::clone(&self.mailbox);
        match self.shared.appender.append(batch, Class::Client, move |result| mailbox.settle(result.is_ok())) {
            Ok(()) => {
                self.in_flight += ticket.bytes;
                self.shared.metrics.in_flight_bytes.add(ticket.bytes as u64);
                self.tickets.push_back(ticket);
                Ok(())
            }
            Err((batch, error @ (AppendError::Full | AppendError::LowSpace))) => {
                let pause = if error == AppendError::Full { RETRY_FULL } else { RETRY_SPACE };
                let work = Work { batch, ticket, received };
                self.unsent = Some(Unsent { work, retry_at: Some(Instant::now() + pause) });
                Ok(())
            }
            Err((_, error)) => {
                self.inbound.lost(&ticket);
                let too_large = matches!(error, AppendError::TooLarge { .. });
                Err(if too_large { Reject::PacketTooLarge } else { Reject::LogUnavailable }.into())
            }
        }
    }

    /// Moves the answers of committed batches to the output.
    fn settle(&mut self) -> Result<(), Ending> {
        let committed = self.mailbox.committed();
        let metrics = &self.shared.metrics;
        while self.settled < committed {
            self.settled += 1;
            let Some(ticket) = self.tickets.pop_front() else { break };
            self.out.extend_from_slice(&ticket.acks);
            self.in_flight -= ticket.bytes;
            self.inbound.committed(&ticket);
            metrics.in_flight_bytes.sub(ticket.bytes as u64);
            if ticket.messages > 0 {
                metrics.acks_out.add(u64::from(ticket.messages));
                metrics.ack_latency.record(ticket.started.elapsed(), u64::from(ticket.messages));
            }
        }
        if self.mailbox.failed() {
            return Err(Reject::LogUnavailable.into());
        }
        Ok(())
    }

    /// Writes messages that wait for the client, as far as its window and the output buffer go.
    fn send_messages(&mut self) {
        let config = &self.shared.config;
        let metrics = &self.shared.metrics;
        let mut outbox = lock(&self.session.outbox);
        if !outbox.ready {
            return;
        }
        while self.out.len() < config.write_buffer_bytes {
            let Some(next) = outbox.queue.front() else { break };
            if next.qos > 0 && outbox.in_flight.len() >= self.terms.send_window {
                break;
            }
            let Some(mut queued) = outbox.pop() else { break };
            let message = Arc::clone(&queued.message);
            let now_ms = if message.expires() { self.shared.log.now_ms() } else { 0 };
            let Ok(expiry) = message.time_left(now_ms) else {
                metrics.expired.add(1);
                outbox.forget(&queued);
                continue;
            };
            let repeated = queued.packet_id > 0;
            if queued.qos > 0 && !repeated {
                queued.packet_id = outbox.free_packet_id();
            }
            let outgoing = Outgoing {
                dup: repeated,
                qos: queued.qos,
                retain: queued.retain,
                topic: message.topic(),
                packet_id: queued.packet_id,
                properties: message.properties(),
                expiry,
                payload: message.payload(),
            };
            if outgoing.size(self.terms.version) > self.terms.max_packet_bytes {
                // The standard: as if sending it had completed (§3.1.2.11.4).
                metrics.too_large_for_subscriber.add(1);
                outbox.forget(&queued);
                continue;
            }
            outgoing.write(self.terms.version, &mut self.out);
            if let Some(counter) = metrics.messages_out.get(usize::from(queued.qos)) {
                counter.add(1);
            }
            if queued.qos > 0 {
                outbox.in_flight.push_back(queued);
            }
        }
        let low = outbox.queue.len() < config.queue_messages / 4 + 1;
        if outbox.more_on_disk && !outbox.asked && low {
            outbox.asked = true;
            self.shared.order(Order::More(self.session.number));
        }
    }

    /// When to look at the clock next.
    fn next_look(&self) -> Instant {
        let mut due = Instant::now() + Duration::from_secs(60);
        if let Some(keep_alive) = self.terms.keep_alive {
            due = due.min(self.heard + keep_alive);
        }
        if self.gives_buffer_back() {
            due = due.min(self.heard + IDLE);
        }
        if let Some(since) = self.partial_since {
            due = due.min(since + self.shared.config.packet_timeout());
        }
        if let Some(at) = self.unsent.as_ref().and_then(|unsent| unsent.retry_at) {
            due = due.min(at);
        }
        // Never in a loop without a pause.
        due.max(Instant::now() + Duration::from_millis(1))
    }

    fn look_at_clock(&mut self) -> Result<(), Ending> {
        let now = Instant::now();
        if self.unsent.as_ref().and_then(|unsent| unsent.retry_at).is_some_and(|at| at <= now)
            && let Some(unsent) = self.unsent.take()
        {
            self.append(unsent.work)?;
        }
        // While the socket is not read, silence is not the client's fault.
        if self.throttled {
            self.heard = now;
            self.partial_since = self.partial_since.map(|_| now);
            return Ok(());
        }
        if self.terms.keep_alive.is_some_and(|keep_alive| now >= self.heard + keep_alive) {
            return Err(Reject::KeepAlive.into());
        }
        if self.partial_since.is_some_and(|since| now >= since + self.shared.config.packet_timeout()) {
            return Err(Reject::PacketTimeout.into());
        }
        if self.gives_buffer_back() && now >= self.heard + IDLE {
            self.input = BytesMut::new();
            self.read_size = FIRST_READ;
        }
        Ok(())
    }

    fn gives_buffer_back(&self) -> bool {
        self.input.is_empty() && self.input.capacity() > 2 * FIRST_READ
    }

    async fn say_farewell(&mut self, ending: Ending) {
        let deadline = Instant::now() + FAREWELL;
        if let Some(unsent) = self.unsent.take() {
            self.last_try(unsent.work, deadline).await;
        }
        if let Ending::Refused(reason) = ending {
            // A client that is gone to a new connection does not wait for this one's answers.
            let wait = reason != Reject::TakenOver && reason != Reject::LogUnavailable;
            while wait && !self.tickets.is_empty() && self.settle().is_ok() {
                if tokio::time::timeout_at(deadline.into(), self.mailbox.woken()).await.is_err() {
                    break;
                }
            }
            let _ = self.settle();
            packet::put_disconnect(&mut self.out, self.terms.version, reason, self.terms.advice);
            let _ = tokio::time::timeout_at(deadline.into(), async {
                self.writer.write_all_buf(&mut self.out).await?;
                self.writer.shutdown().await
            })
            .await;
        }
        if self.mailbox.failed() {
            self.tickets.iter().for_each(|ticket| self.inbound.lost(ticket));
        }
        let bytes: usize = self.tickets.drain(..).map(|ticket| ticket.bytes).sum();
        self.shared.metrics.in_flight_bytes.sub(bytes as u64);
    }

    /// Reads what the client still sends, for a moment: a socket closed with unread bytes is reset, and the client might
    /// not learn why. To be called when nobody waits for this connection any more.
    pub(super) async fn linger(&mut self) {
        linger(&mut self.reader).await;
    }

    /// A batch was read and is not in the log: it still may get there, but the client does not know.
    async fn last_try(&mut self, mut work: Work, deadline: Instant) {
        loop {
            work.ticket.permit = None;
            if self.append(work).is_err() {
                return;
            }
            let Some(unsent) = self.unsent.take() else { return };
            if Instant::now() >= deadline {
                self.inbound.lost(&unsent.work.ticket);
                return;
            }
            work = unsent.work;
            tokio::time::sleep(RETRY_FULL).await;
        }
    }
}

/// Reads and forgets until the peer closes, within bounds.
pub(super) async fn linger(reader: &mut (impl AsyncRead + Unpin)) {
    let mut scrap = vec![0; FIRST_READ];
    let reading = async {
        let mut left = LINGER_BYTES;
        while left > 0 {
            match reader.read(&mut scrap).await {
                Ok(0) | Err(_) => return,
                Ok(n) => left = left.saturating_sub(n),
            }
        }
    };
    let _ = tokio::time::timeout(FAREWELL, reading).await;
}
