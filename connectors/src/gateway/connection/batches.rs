//! Packets into batches for the log, and the log's answers out to the client.

use std::sync::Arc;
use std::time::Instant;

use bytes::Buf;
use hedgerow_storage::log::{AppendError, Class};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::OwnedSemaphorePermit;

use super::super::frame::{Split, split};
use super::super::inbound::{Ending, Work};
use super::super::reject::Reject;
use super::{Connection, RETRY_FULL, RETRY_SPACE, Unsent};

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Connection<R, W> {
    /// Permits to wait for: of a batch, or of a packet too large for an ordinary read.
    pub(super) fn wanted_permits(&self) -> Option<u32> {
        match (&self.unsent, self.large) {
            (Some(unsent), _) if unsent.work.ticket.permit.is_none() => {
                Some(self.shared.permits(unsent.work.batch.bytes()))
            }
            (None, Some(size)) if self.large_permit.is_none() => Some(self.shared.permits(size)),
            _ => None,
        }
    }

    pub(super) fn permitted(&mut self, permit: Option<OwnedSemaphorePermit>) -> Result<(), Ending> {
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

    pub(super) fn received(&mut self, n: usize) -> Result<(), Ending> {
        self.shared.metrics.bytes_in.add(n as u64);
        let config = &self.shared.config;
        // Busy connections get larger reads, up to the limit.
        if n >= self.read_size && self.read_size < config.read_buffer_bytes {
            self.read_size = (self.read_size * 2).min(config.read_buffer_bytes);
        }
        self.parse()
    }

    /// Takes all whole packets off the buffer, as one batch.
    pub(super) fn parse(&mut self) -> Result<(), Ending> {
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

    pub(super) fn submit(&mut self, mut work: Work) -> Result<(), Ending> {
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

    pub(super) fn append(&mut self, work: Work) -> Result<(), Ending> {
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
    pub(super) fn settle(&mut self) -> Result<(), Ending> {
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
}
