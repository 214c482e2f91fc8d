//! The end of a connection: what is due goes out, the client is told why, and nobody waits for it for long.

use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::super::inbound::{Ending, Work};
use super::super::packet;
use super::super::reject::Reject;
use super::{Connection, FIRST_READ, RETRY_FULL};

/// How long an ending connection waits for commits and for the client to take the last bytes.
const FAREWELL: Duration = Duration::from_millis(500);
/// How much a client may still send after it was told to go.
const LINGER_BYTES: usize = 1 << 20;

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Connection<R, W> {
    pub(super) async fn say_farewell(&mut self, ending: Ending) {
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
    pub(in super::super) async fn linger(&mut self) {
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
pub(in super::super) async fn linger(reader: &mut (impl AsyncRead + Unpin)) {
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
