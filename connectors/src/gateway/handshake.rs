//! From an accepted socket to a connection with a session: CONNECT and CONNACK, in the connection's own task, within
//! a time limit and a limited number at once.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use hedgerow_storage::log::{Batch, Class};
use rumqttc::mqttbytes::v4;
use rumqttc::v5::mqttbytes::v5;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::oneshot;

use super::Shared;
use super::config::WillPolicy;
use super::connection::{self, Connection, Terms};
use super::delivery::Order;
use super::frame::{Split, Version, split};
use super::inbound::Ending;
use super::mailbox::Mailbox;
use super::notes::{About, Note};
use super::packet::{self, BadConnect, Connect};
use super::reject::Reject;
use super::session::{Attach, Claim, Detach, Session, lock};

/// How long a refused client may take to receive the refusal.
const FAREWELL: Duration = Duration::from_millis(500);

/// A connection's hold on its session. Letting go, in whatever way the task ends, detaches the session and says so to
/// the log, the delivery thread, and whoever waits to take over.
pub(super) struct Seat {
    shared: Arc<Shared>,
    session: Arc<Session>,
    mailbox: Arc<Mailbox>,
    /// The expiry that DISCONNECT asked for.
    expiry_s: Option<u32>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let Self { shared, session, mailbox, expiry_s } = self;
        let number = session.number;
        lock(&session.outbox).mailbox = None;
        let now_ms = shared.log.now_ms();
        match shared.registry.detach(session, *expiry_s, now_ms) {
            Detach::Sleeps => {
                shared.order(Order::Detached(number));
                shared.tell_log(session, &Note::Closed { expiry_s: session.expiry_s() }, now_ms);
            }
            Detach::Ended if session.durable() => {
                shared.order(Order::Detached(number));
                shared.tell_log(session, &Note::Ended, now_ms);
            }
            Detach::Ended => shared.order(Order::Ended(number)),
        }
        mailbox.close();
    }
}

/// Why there is no connection.
enum Failed {
    /// Closed by the client, or not worth an answer.
    Silent(Option<Reject>),
    Refused(Version, Reject),
}

impl From<BadConnect> for Failed {
    fn from(bad: BadConnect) -> Self {
        match bad.answer {
            Some(version) => Self::Refused(version, bad.reason),
            None => Self::Silent(Some(bad.reason)),
        }
    }
}

/// Serves one socket from its first byte to its end.
pub(super) async fn serve<R, W>(shared: Arc<Shared>, reader: R, mut writer: W, peer: SocketAddr)
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut reader = reader;
    let mut input = BytesMut::with_capacity(1024);
    let greeting = async {
        let _turn = shared.handshakes.acquire().await.map_err(|_| Failed::Silent(None))?;
        let connect = read_connect(&shared, &mut reader, &mut input).await?;
        welcome(&shared, connect, peer).await
    };
    let greeted = tokio::time::timeout(shared.config.connect_timeout(), greeting).await;
    match greeted.unwrap_or(Err(Failed::Silent(Some(Reject::ConnectTimeout)))) {
        Ok((mut seat, terms, out)) => {
            shared.metrics.connections_open.add(1);
            let (session, mailbox) = (Arc::clone(&seat.session), Arc::clone(&seat.mailbox));
            let address = peer.ip().to_string();
            let mut connection =
                Connection::new(Arc::clone(&shared), session, mailbox, terms, reader, writer, input, out, address);
            let ending = connection.run().await;
            tracing::debug!(client = %seat.session.client_id, ?ending, "connection ended");
            if let Ending::Left(leave) = ending {
                seat.expiry_s = leave.session_expiry.map(|expiry| expiry.min(shared.config.max_session_expiry_s));
            }
            shared.metrics.connections_open.sub(1);
            drop(seat);
            if matches!(ending, Ending::Refused(_)) {
                connection.linger().await;
            }
        }
        Err(Failed::Silent(reason)) => {
            if let Some(reason) = reason {
                shared.metrics.reject(reason);
            }
        }
        Err(Failed::Refused(version, reason)) => {
            shared.metrics.reject(reason);
            tracing::debug!(%peer, reason = reason.label(), "CONNECT refused");
            let mut out = BytesMut::new();
            packet::put_refusal(&mut out, version, reason, true);
            let _ = tokio::time::timeout(FAREWELL, async {
                writer.write_all_buf(&mut out).await?;
                writer.shutdown().await
            })
            .await;
            connection::linger(&mut reader).await;
        }
    }
}

async fn read_connect<R: AsyncRead + Unpin>(
    shared: &Shared,
    reader: &mut R,
    input: &mut BytesMut,
) -> Result<Connect, Failed> {
    let max = shared.config.max_packet_bytes as usize;
    loop {
        match split(input, max) {
            Ok(Split::Frame(frame)) => {
                let length = frame.bytes.len();
                let connect = packet::connect(frame)?;
                input.advance(length);
                return Ok(connect);
            }
            // Something else than MQTT is not read to its supposed end.
            Ok(Split::Incomplete(_)) if input.first().is_some_and(|first| *first != 0x10) => {
                return Err(Failed::Silent(Some(Reject::Protocol)));
            }
            Ok(Split::Incomplete(_)) => {
                if reader.read_buf(input).await.unwrap_or(0) == 0 {
                    return Err(Failed::Silent(None));
                }
            }
            Err(reason) => return Err(Failed::Silent(Some(reason))),
        }
    }
}

/// Decides about a CONNECT, gives it its session, and writes the CONNACK.
async fn welcome(shared: &Arc<Shared>, connect: Connect, peer: SocketAddr) -> Result<(Seat, Terms, BytesMut), Failed> {
    let refuse = |reason| Failed::Refused(connect.version, reason);
    check(shared, &connect).map_err(refuse)?;
    let assigned = connect.client_id.is_empty().then(|| assign_client_id(shared));
    let client_id = assigned.as_deref().unwrap_or(&connect.client_id);
    let expiry_s = match connect.version {
        Version::V4 if connect.clean => 0,
        Version::V4 => shared.config.max_session_expiry_s,
        Version::V5 => connect.session_expiry.unwrap_or(0).min(shared.config.max_session_expiry_s),
    };
    let (seat, present, ended) = take_seat(shared, &connect, client_id, expiry_s, peer).await.map_err(refuse)?;
    if shared.closing.load(Ordering::Acquire) {
        return Err(refuse(Reject::ShuttingDown));
    }
    open(shared, &seat.session, connect.version, ended.as_deref()).await.map_err(refuse)?;

    let mut out = BytesMut::with_capacity(128);
    write_connack(shared, &connect, present, expiry_s, assigned.clone(), &mut out);
    let terms = Terms {
        version: connect.version,
        keep_alive: (connect.keep_alive > 0).then(|| Duration::from_millis(u64::from(connect.keep_alive) * 1500)),
        send_window: usize::from(connect.receive_maximum.unwrap_or(u16::MAX).min(shared.config.send_window)),
        max_packet_bytes: connect.max_packet_bytes.map_or(usize::MAX, |max| max as usize),
        advice: connect.wants_problem_information,
    };
    Ok((seat, terms, out))
}

fn check(shared: &Shared, connect: &Connect) -> Result<(), Reject> {
    let config = &shared.config;
    if connect.auth_method {
        return Err(Reject::AuthMethod);
    }
    match connect.will {
        Some(will) if will.retain && config.last_will == WillPolicy::Ignore => return Err(Reject::Retain),
        Some(_) if config.last_will == WillPolicy::Refuse => return Err(Reject::Will),
        _ => {}
    }
    let nameless = connect.client_id.is_empty() && connect.version == Version::V4 && !connect.clean;
    if nameless || connect.client_id.len() > config.max_client_id_bytes {
        return Err(Reject::ClientId);
    }
    if shared.closing.load(Ordering::Acquire) {
        return Err(Reject::ShuttingDown);
    }
    if shared.log.health().failed.is_some() {
        return Err(Reject::LogUnavailable);
    }
    Ok(())
}

/// A client id for one that brought none; unlike any other, because log time is.
fn assign_client_id(shared: &Shared) -> String {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let now = shared.log.log_time_us();
    let last = LAST.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(now.max(last + 1)));
    let number = now.max(last.unwrap_or_default() + 1);
    format!("hedgerow-{number:x}")
}

type Seated = (Seat, bool, Option<Arc<Session>>);

/// Waits for an older connection of the client to leave, if there is one.
async fn take_seat(
    shared: &Arc<Shared>,
    connect: &Connect,
    client_id: &str,
    expiry_s: u32,
    peer: SocketAddr,
) -> Result<Seated, Reject> {
    let mailbox = Arc::new(Mailbox::new());
    loop {
        let claim = Claim {
            client_id,
            clean: connect.clean,
            expiry_s,
            version: connect.version,
            address: Some(peer.ip()),
            mailbox: &mailbox,
            now_ms: shared.log.now_ms(),
        };
        match shared.registry.attach(&claim, shared.log.log_time_us(), shared.config.max_sessions) {
            Attach::Busy(owner) => owner.closed().await,
            Attach::Full => return Err(Reject::Quota),
            Attach::Attached { session, present, ended } => {
                lock(&session.outbox).mailbox = Some(Arc::clone(&mailbox));
                let seat = Seat { shared: Arc::clone(shared), session, mailbox, expiry_s: None };
                return Ok((seat, present, ended));
            }
        }
    }
}

/// Makes sure that the log knows of a session that may outlive its connection, and of the end of the one before,
/// before the client is told.
async fn open(
    shared: &Shared,
    session: &Arc<Session>,
    version: Version,
    ended: Option<&Session>,
) -> Result<(), Reject> {
    if let Some(ended) = ended {
        if ended.durable() {
            // Its own number, so the order towards the new session does not matter; it frees space, so it may use
            // the reserve.
            let mut batch = Batch::new();
            let about = about(ended, shared.log.now_ms());
            Note::Ended.push(about, &mut batch);
            commit(shared, batch, Class::System).await?;
        } else {
            shared.order(Order::Ended(ended.number));
        }
    }
    if session.durable() {
        let mut batch = Batch::new();
        let note = Note::Opened { expiry_s: session.expiry_s(), level: version.level() };
        note.push(about(session, shared.log.now_ms()), &mut batch);
        commit(shared, batch, Class::Client).await?;
        shared.order(Order::Attached(session.number));
    }
    Ok(())
}

pub(super) fn about(session: &Session, time_ms: i64) -> About<'_> {
    About { session: session.number, client_id: &session.client_id, time_ms, packet_id: 0 }
}

async fn commit(shared: &Shared, batch: Batch, class: Class) -> Result<(), Reject> {
    let (answer, committed) = oneshot::channel();
    let appended = shared.appender.append(batch, class, move |result| {
        let _ = answer.send(result.is_ok());
    });
    match appended {
        Ok(()) if committed.await == Ok(true) => Ok(()),
        _ => Err(Reject::LogUnavailable),
    }
}

fn write_connack(
    shared: &Shared,
    connect: &Connect,
    session_present: bool,
    expiry_s: u32,
    assigned_client_identifier: Option<String>,
    out: &mut BytesMut,
) {
    let config = &shared.config;
    let written = match connect.version {
        Version::V4 => v4::ConnAck::new(v4::ConnectReturnCode::Success, session_present).write(out).is_ok(),
        Version::V5 => {
            let properties = v5::ConnAckProperties {
                session_expiry_interval: (connect.session_expiry.unwrap_or(0) != expiry_s).then_some(expiry_s),
                receive_max: Some(config.receive_maximum),
                // QoS 2 may be published; subscriptions are granted 1 at most, which SUBACK says.
                max_qos: None,
                retain_available: Some(0),
                max_packet_size: Some(config.max_packet_bytes),
                assigned_client_identifier,
                topic_alias_max: Some(config.topic_alias_maximum),
                reason_string: None,
                user_properties: Vec::new(),
                wildcard_subscription_available: Some(1),
                subscription_identifiers_available: Some(0),
                shared_subscription_available: Some(0),
                server_keep_alive: None,
                response_information: None,
                server_reference: None,
                authentication_method: None,
                authentication_data: None,
            };
            let code = v5::ConnectReturnCode::Success;
            v5::ConnAck { session_present, code, properties: Some(properties) }.write(out).is_ok()
        }
    };
    debug_assert!(written, "a CONNACK is short");
}
