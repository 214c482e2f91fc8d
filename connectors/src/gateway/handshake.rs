//! From an accepted socket to a connection with a session: CONNECT and CONNACK, in the connection's own task, within
//! a time limit and a limited number at once.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use hedgerow_storage::log::{AppendError, Batch, Class};
use rumqttc::mqttbytes::v4;
use rumqttc::v5::mqttbytes::v5;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::oneshot;

use super::Shared;
use super::connection::{self, Connection, Terms};
use super::frame::{Split, Version, split};
use super::inbound::Ending;
use super::mailbox::Mailbox;
use super::notes::{About, Connected, Note};
use super::packet::{self, BadConnect, Connect};
use super::presence::Subject;
use super::publish;
use super::reject::Reject;
use super::seat::Seat;
use super::session::{Attach, Claim, Session, lock};

/// How long a refused client may take to receive the refusal.
const FAREWELL: Duration = Duration::from_millis(500);
/// How long a full queue of the log is given before the next try.
const RETRY_FULL: Duration = Duration::from_millis(2);

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
            seat.ending = ending;
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
async fn welcome(
    shared: &Arc<Shared>,
    mut connect: Connect,
    peer: SocketAddr,
) -> Result<(Seat, Terms, BytesMut), Failed> {
    let version = connect.version;
    let refuse = |reason| Failed::Refused(version, reason);
    if let Err(reason) = check(shared, &connect) {
        if matches!(reason, Reject::TopicReserved | Reject::AuthMethod) {
            tell_of_failure(shared, &connect.client_id, peer);
        }
        return Err(refuse(reason));
    }
    let assigned = connect.client_id.is_empty().then(|| assign_client_id(shared));
    let client_id = assigned.as_deref().unwrap_or(&connect.client_id);
    let expiry_s = match version {
        Version::V4 if connect.clean => 0,
        Version::V4 => shared.config.max_session_expiry_s,
        Version::V5 => connect.session_expiry.unwrap_or(0).min(shared.config.max_session_expiry_s),
    };
    let claim = Claim {
        client_id,
        clean: connect.clean,
        expiry_s,
        version,
        address: Some(peer.ip()),
        principal: "",
        will: connect.will.take().map(Arc::new),
        mailbox: &Arc::new(Mailbox::new()),
        now_ms: 0,
    };
    let Seated { mut seat, present, ended } = take_seat(shared, claim).await.map_err(refuse)?;
    if shared.closing.load(Ordering::Acquire) {
        return Err(refuse(Reject::ShuttingDown));
    }
    announce(&mut seat, peer, ended.as_deref()).await.map_err(refuse)?;

    let keep_alive = keep_alive(shared, &connect);
    let mut out = BytesMut::with_capacity(128);
    write_connack(shared, &connect, present, expiry_s, assigned.clone(), keep_alive, &mut out);
    let terms = Terms {
        version,
        keep_alive: (keep_alive > 0).then(|| Duration::from_millis(u64::from(keep_alive) * 1500)),
        send_window: usize::from(connect.receive_maximum.unwrap_or(u16::MAX).min(shared.config.send_window)),
        max_packet_bytes: connect.max_packet_bytes.map_or(usize::MAX, |max| max as usize),
        aliases: connect.topic_alias_maximum.min(shared.config.send_topic_alias_maximum),
        advice: connect.wants_problem_information,
    };
    Ok((seat, terms, out))
}

fn check(shared: &Shared, connect: &Connect) -> Result<(), Reject> {
    let config = &shared.config;
    if connect.auth_method {
        return Err(Reject::AuthMethod);
    }
    if let Some(will) = &connect.will {
        if !publish::within(&will.topic, shared.config.topic_limits()) {
            return Err(Reject::TopicName);
        }
        if publish::is_reserved(&will.topic) {
            return Err(Reject::TopicReserved);
        }
    }
    let id = &connect.client_id;
    let nameless = id.is_empty() && connect.version == Version::V4 && !connect.clean;
    // Events about a client go to a topic that ends with its id.
    if nameless || id.len() > config.max_client_id_bytes || id.contains(['+', '#']) {
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

/// Appends the event that a client was not let in. Whoever knocks often enough does not fill the log: this may be lost.
fn tell_of_failure(shared: &Shared, client_id: &str, peer: SocketAddr) {
    let mut batch = Batch::new();
    let connection = shared.registry.number(shared.log.log_time_us());
    let address = peer.ip().to_string();
    let subject = Subject { client_id, principal: "", address: &address, connection };
    if !client_id.contains(['+', '#']) && client_id.len() <= shared.config.max_client_id_bytes {
        subject.connect_failed(shared.log.now_ms(), &mut batch);
        let _ = shared.appender.append(batch, Class::Client, |_| {});
    }
}

/// Seconds of silence allowed, before the half as much again of the standard. Only MQTT 5 clients can be told to take
/// less than they asked for.
fn keep_alive(shared: &Shared, connect: &Connect) -> u16 {
    match (connect.version, connect.keep_alive, shared.config.max_keep_alive_s) {
        (Version::V4, asked, _) | (_, asked, 0) => asked,
        (Version::V5, 0, most) => most,
        (Version::V5, asked, most) => asked.min(most),
    }
}

/// A client id for one that brought none; unlike any other, because log time is.
fn assign_client_id(shared: &Shared) -> String {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let now = shared.log.log_time_us();
    let last = LAST.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(now.max(last + 1)));
    let number = now.max(last.unwrap_or_default() + 1);
    format!("hedgerow-{number:x}")
}

struct Seated {
    seat: Seat,
    /// The session was there before.
    present: bool,
    /// The session that this one replaces.
    ended: Option<Arc<Session>>,
}

/// Waits for an older connection of the client to leave, if there is one.
async fn take_seat(shared: &Arc<Shared>, mut claim: Claim<'_>) -> Result<Seated, Reject> {
    loop {
        claim.now_ms = shared.log.now_ms();
        match shared.registry.attach(&claim, shared.log.log_time_us(), shared.config.max_sessions) {
            Attach::Busy(owner) => owner.closed().await,
            Attach::Full => return Err(Reject::Quota),
            Attach::Attached { session, present, ended, voided } => {
                let mailbox = Arc::clone(claim.mailbox);
                lock(&session.outbox).mailbox = Some(Arc::clone(&mailbox));
                let shared = Arc::clone(shared);
                let seat = Seat { shared, session, mailbox, voided, announced: false, ending: Ending::Lost };
                return Ok(Seated { seat, present, ended });
            }
        }
    }
}

/// Makes sure that the log knows of the connection and its will, and of the end of the session before, before the client
/// is told.
async fn announce(seat: &mut Seat, peer: SocketAddr, ended: Option<&Session>) -> Result<(), Reject> {
    let (shared, session) = (Arc::clone(&seat.shared), Arc::clone(&seat.session));
    if let Some(ended) = ended {
        shared.end_session(ended);
    }
    // What the log had no room for comes first.
    if !shared.retry_unlogged() {
        return Err(Reject::LogUnavailable);
    }
    let note = Note::Connected(Connected {
        connection: session.connection(),
        expiry_s: session.expiry_s(),
        level: session.version().level(),
        durable: session.durable(),
        will: session.will(),
    });
    let (principal, address) = (session.principal(), peer.ip().to_string());
    let about = About { principal: &principal, address: &address, ..session.about(shared.log.now_ms()) };
    let mut batch = Batch::new();
    note.push(about, &mut batch);
    let (client_id, connection) = (&session.client_id, session.connection());
    let subject = Subject { client_id, principal: &principal, address: &address, connection };
    subject.connected(about.time_ms, &mut batch);
    loop {
        let (answer, committed) = oneshot::channel();
        let appended = shared.appender.append(batch, Class::Client, move |result| {
            let _ = answer.send(result.is_ok());
        });
        match appended {
            Ok(()) => {
                seat.announced = true;
                return if committed.await == Ok(true) { Ok(()) } else { Err(Reject::LogUnavailable) };
            }
            // Its place in the queue comes within the time that a CONNECT has.
            Err((back, AppendError::Full)) => batch = back,
            Err(_) => return Err(Reject::LogUnavailable),
        }
        tokio::time::sleep(RETRY_FULL).await;
    }
}

fn write_connack(
    shared: &Shared,
    connect: &Connect,
    session_present: bool,
    expiry_s: u32,
    assigned_client_identifier: Option<String>,
    keep_alive: u16,
    out: &mut BytesMut,
) {
    let config = &shared.config;
    let written = match connect.version {
        Version::V4 => v4::ConnAck::new(v4::ConnectReturnCode::Success, session_present).write(out).is_ok(),
        Version::V5 => {
            let properties = v5::ConnAckProperties {
                session_expiry_interval: (connect.session_expiry.unwrap_or(0) != expiry_s).then_some(expiry_s),
                receive_max: Some(config.receive_maximum),
                max_qos: None,
                retain_available: Some(1),
                max_packet_size: Some(config.max_packet_bytes),
                assigned_client_identifier,
                topic_alias_max: Some(config.topic_alias_maximum),
                reason_string: None,
                user_properties: Vec::new(),
                wildcard_subscription_available: Some(1),
                subscription_identifiers_available: Some(1),
                shared_subscription_available: Some(1),
                server_keep_alive: (keep_alive != connect.keep_alive).then_some(keep_alive),
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
