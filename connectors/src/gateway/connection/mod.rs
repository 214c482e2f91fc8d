//! The task of one connection once its CONNECT is accepted: one loop over the socket, the log's answers, messages to
//! deliver and the clock.
//!
//! What one read brings becomes one batch with one ticket; tickets come back in the order of the log, and all answers
//! that are due go out in one write. The socket is not read while too much is on its way into the log, while an
//! append has to be repeated, or while the client does not take what it is sent: that is the backpressure.
//!
//! | file | idea |
//! |---|---|
//! | `batches` | packets into batches for the log, and the log's answers |
//! | `sending` | messages to the client |
//! | `farewell` | the end |

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Sleep;

use super::Shared;
use super::frame::Version;
use super::inbound::{Ending, Inbound, Ticket, Work};
use super::mailbox::Mailbox;
use super::reject::Reject;
use super::session::Session;

mod batches;
mod farewell;
mod sending;

pub(super) use farewell::linger;
use sending::Aliases;

/// A connection that sleeps gives its read buffer back after this.
const IDLE: Duration = Duration::from_secs(5);
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
    /// QoS 1 and 2 messages unacknowledged by the client.
    pub send_window: usize,
    /// The largest packet the client takes.
    pub max_packet_bytes: usize,
    /// Topic aliases that may be set towards it.
    pub aliases: u16,
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
    aliases: Aliases,
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
        let aliases = Aliases::new(terms.aliases);
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
            aliases,
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
}
