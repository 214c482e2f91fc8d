//! The calls of `/queues`.

use std::fs::File;
use std::io::Read;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hedgerow_storage::queue::{
    Handed, Limit, MessageQueue, NewMessage, Receipt, ReceiveError, Refusal, SendError, source_queue,
};
use hedgerow_storage::table::StoreError;
use tokio::time::Instant;

use super::QueueSinks;
use crate::http::queues::{
    MAX_DELAY_S, MAX_VISIBILITY_S, MAX_WAIT_S, MOST, Message, Messages, Outgoing, Purged, QueueControl, QueueError,
    QueueList, ReceiptReport, Receipts, ReceiveRequest, RefusedReceipt, SendRequest, Sent, VisibilityRequest,
};
use crate::nearest::nearest;

/// Bytes of all bodies that one call hands out; a single message may have more.
const MAX_BYTES: usize = 8 << 20;
/// A caller that waits does not look more often than this for what becomes visible.
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);
/// Bytes of the secret in a receipt.
const SECRET: usize = 16;

impl QueueSinks {
    fn find(&self, name: &str) -> Result<MessageQueue, QueueError> {
        self.queues.open_queue(name).ok_or_else(|| {
            let open = self.queues.all();
            let names = open.iter().filter(|queue| queue.settings().is_some()).map(|queue| &**queue.name());
            QueueError::Unknown { name: name.to_owned(), nearest: nearest(name, names).map(ToOwned::to_owned) }
        })
    }

    async fn hand_out(&self, queue: &MessageQueue, request: &ReceiveRequest) -> Result<Vec<Handed>, QueueError> {
        let limit = Limit { messages: request.max.unwrap_or(1), bytes: MAX_BYTES };
        let visibility_ms = request.visibility_s.map(|seconds| u64::from(seconds) * 1_000);
        let (queue, now_ms) = (queue.clone(), (self.now_ms)());
        blocking(move || {
            let mut secrets = Secrets::new(limit.messages).map_err(|error| unavailable(&error))?;
            queue.receive(limit, visibility_ms, now_ms, &mut || secrets.next()).map_err(|error| match error {
                ReceiveError::Gone(name) => QueueError::Unknown { name, nearest: None },
                ReceiveError::InFlight(_) => QueueError::TooMany(error.to_string()),
                ReceiveError::Store(error) => unavailable(&error),
            })
        })
        .await
    }

    /// How long nothing can change that nobody tells of.
    async fn pause(&self, queue: &MessageQueue) -> Result<Duration, QueueError> {
        let (queue, now_ms) = (queue.clone(), (self.now_ms)());
        let next = blocking(move || queue.next_due_ms().map_err(|error| unavailable(&error))).await?;
        let wait = |due: u64| Duration::from_millis(due.saturating_sub(u64::try_from(now_ms).unwrap_or_default()));
        Ok(next.map_or(Duration::MAX, wait).max(SHORTEST_PAUSE))
    }
}

#[async_trait]
impl QueueControl for QueueSinks {
    async fn list(&self) -> Result<QueueList, QueueError> {
        Ok(QueueList { queues: self.status() })
    }

    async fn receive(&self, name: &str, request: ReceiveRequest) -> Result<Messages, QueueError> {
        between("max", request.max.unwrap_or(1), 1, MOST)?;
        between("wait_s", request.wait_s, 0, MAX_WAIT_S)?;
        between("visibility_s", request.visibility_s.unwrap_or(0), 0, MAX_VISIBILITY_S)?;
        let until = Instant::now() + Duration::from_secs(request.wait_s.into());
        let mut waits = None;
        let mut stopping = self.stopping.subscribe();
        loop {
            let queue = self.find(name)?;
            let signal = self.signal(name);
            // From here on nothing that comes is overlooked.
            let mut told = std::pin::pin!(signal.notified());
            told.as_mut().enable();
            let handed = self.hand_out(&queue, &request).await?;
            if !handed.is_empty() || Instant::now() >= until || *stopping.borrow() {
                return Ok(Messages { messages: handed.into_iter().map(message).collect() });
            }
            if waits.is_none() {
                let busy =
                    || "too many callers wait for messages: ask with a shorter wait_s, or raise http.max_requests";
                waits = Some(self.waiters.try_acquire().map_err(|_| QueueError::TooMany(busy().to_owned()))?);
            }
            let pause = self.pause(&queue).await?;
            let again = Instant::now().checked_add(pause).map_or(until, |again| again.min(until));
            tokio::select! {
                () = told => {}
                () = tokio::time::sleep_until(again) => {}
                _ = stopping.wait_for(|stop| *stop) => {}
            }
        }
    }

    async fn delete(&self, name: &str, request: Receipts) -> Result<ReceiptReport, QueueError> {
        let (queue, receipts) = (self.find(name)?, receipts(&request.receipts)?);
        let answers = blocking(move || {
            let answers = queue.delete(&receipts).map_err(|error| unavailable(&error))?;
            queue.sync().map_err(|error| unavailable(&error))?;
            Ok(answers)
        })
        .await?;
        Ok(report(request.receipts, answers))
    }

    async fn change_visibility(&self, name: &str, request: VisibilityRequest) -> Result<ReceiptReport, QueueError> {
        between("visibility_s", request.visibility_s, 0, MAX_VISIBILITY_S)?;
        let (queue, receipts) = (self.find(name)?, receipts(&request.receipts)?);
        let (visibility_ms, now_ms) = (u64::from(request.visibility_s) * 1_000, (self.now_ms)());
        let change = move || queue.change_visibility(&receipts, visibility_ms, now_ms);
        let answers = blocking(move || change().map_err(|error| unavailable(&error))).await?;
        self.signal(name).notify_waiters();
        Ok(report(request.receipts, answers))
    }

    async fn send(&self, name: &str, request: SendRequest) -> Result<Sent, QueueError> {
        between("messages", request.messages.len(), 1, MOST)?;
        let (queue, now_ms) = (self.find(name)?, (self.now_ms)());
        let mut secrets = Secrets::new(request.messages.len()).map_err(|error| unavailable(&error))?;
        let messages: Result<Vec<NewMessage>, QueueError> =
            request.messages.into_iter().map(|one| new_message(one, secrets.next())).collect();
        let messages = messages?;
        let ids = messages.iter().map(|message| message.id.clone()).collect();
        blocking(move || {
            queue.send(&messages, now_ms).map_err(|error| match error {
                SendError::Id(_) => QueueError::Wrong(error.to_string()),
                SendError::Full { .. } | SendError::Store(_) => QueueError::Unavailable(error.to_string()),
            })?;
            queue.sync().map_err(|error| unavailable(&error))
        })
        .await?;
        self.signal(name).notify_waiters();
        Ok(Sent { ids })
    }

    async fn purge(&self, name: &str) -> Result<Purged, QueueError> {
        let queue = self.find(name)?;
        let purge = move || {
            let purged = queue.purge()?;
            queue.sync()?;
            Ok::<_, StoreError>(purged)
        };
        let purged = blocking(move || purge().map_err(|error| unavailable(&error))).await?;
        Ok(Purged { purged })
    }
}

/// Random bytes of the operating system, read at once.
struct Secrets(std::vec::IntoIter<[u8; SECRET]>);

impl Secrets {
    fn new(count: usize) -> std::io::Result<Self> {
        let mut bytes = vec![[0; SECRET]; count];
        File::open("/dev/urandom")?.read_exact(bytes.as_flattened_mut())?;
        Ok(Self(bytes.into_iter()))
    }

    /// The next one; nothing that was handed out has the same.
    fn next(&mut self) -> [u8; SECRET] {
        self.0.next().unwrap_or_default()
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, QueueError> + Send + 'static,
) -> Result<T, QueueError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| QueueError::Unavailable(error.to_string()))?
}

fn unavailable(error: &dyn std::fmt::Display) -> QueueError {
    QueueError::Unavailable(error.to_string())
}

fn between<N: PartialOrd + std::fmt::Display>(name: &str, number: N, least: N, most: N) -> Result<(), QueueError> {
    if number >= least && number <= most {
        return Ok(());
    }
    let what = if name == "messages" || name == "receipts" { "has" } else { "is" };
    Err(QueueError::Wrong(format!("{name} {what} {least} to {most}, not {number}")))
}

fn receipts(texts: &[String]) -> Result<Vec<Receipt>, QueueError> {
    between("receipts", texts.len(), 1, MOST)?;
    // What is not even base64 is the receipt of nothing.
    Ok(texts.iter().map(|text| Receipt(URL_SAFE_NO_PAD.decode(text).unwrap_or_default())).collect())
}

fn report(receipts: Vec<String>, answers: Vec<Result<(), Refusal>>) -> ReceiptReport {
    let mut report = ReceiptReport::default();
    for (receipt, answer) in receipts.into_iter().zip(answers) {
        match answer {
            Ok(()) => report.done += 1,
            Err(refusal) => report.refused.push(RefusedReceipt { receipt, reason: refusal.to_string() }),
        }
    }
    report
}

fn new_message(message: Outgoing, id: [u8; SECRET]) -> Result<NewMessage, QueueError> {
    let body = match (message.body, message.base64) {
        (Some(text), None) => text.into_bytes(),
        (None, Some(text)) => STANDARD.decode(text).map_err(|error| QueueError::Wrong(format!("base64: {error}")))?,
        _ => return Err(QueueError::Wrong("a message has either body or base64".into())),
    };
    between("delay_s", message.delay_s.unwrap_or(0), 0, MAX_DELAY_S)?;
    let delay_ms = message.delay_s.map(|seconds| u64::from(seconds) * 1_000);
    Ok(NewMessage { id: URL_SAFE_NO_PAD.encode(id), body, delay_ms })
}

fn message(handed: Handed) -> Message {
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let source_queue = source_queue(&handed.entry).map(ToOwned::to_owned);
    let entry = handed.entry;
    let (body, base64) = match String::from_utf8(entry.body) {
        Ok(text) => (Some(text), None),
        Err(bytes) => (None, Some(STANDARD.encode(bytes.as_bytes()))),
    };
    Message {
        receipt: URL_SAFE_NO_PAD.encode(&handed.receipt.0),
        body,
        base64,
        sent_ms: handed.arrived_ms,
        received: handed.times,
        first_received_ms: handed.first_ms,
        visible_ms: handed.visible_ms,
        rule: some(&entry.rule),
        topic: some(&entry.topic),
        client_id: some(&entry.client_id),
        source_queue,
        id: entry.id,
    }
}
