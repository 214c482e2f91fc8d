//! From the faces of a rule (see [`hedgerow_sql::program::Face`]) to signals: what each message means for which key.
//!
//! # The record of a key
//! One piece of bytes: the length of the key (LEB128), the key; while armed, also the message it was armed by: how often
//! it was republished (one byte), its topic and its client id (each a length and the text), and the row as
//! [`hedgerow_sql::program::Rows::store`] writes it, or, of a rule that looks up tables, the message (see [`super::asks`]). The key is the JSON text of the array of its values, in which equal
//! numbers are spelt equally.

use std::sync::Arc;

use hedgerow_sql::analyze::after_us;
use hedgerow_sql::ast::After;
use hedgerow_sql::column::ColumnData;
use hedgerow_sql::json;
use hedgerow_sql::program::{Face, Rows, RuleRows};
use hedgerow_sql::value::{MAX_TEXT, Value};

use super::asks;
use crate::operators::call::KeptMessage;
use crate::operators::window::canonical;
use crate::rows::{ActiveRule, Origins};
use crate::step::stable_hash;

/// What a message means for its key.
#[derive(Debug)]
pub struct Signal {
    /// Epoch and offset of the message.
    pub position: (u64, u64),
    /// UNLESS holds.
    pub disarms: bool,
    /// WHERE holds; how long AFTER is, in microseconds, 0 when it is no duration.
    pub arms: Option<u64>,
    /// Where the event stands in its client's presence, if the rule reads that.
    pub order: Option<Order>,
    /// Key and, if it arms, row.
    pub record: Box<[u8]>,
}

/// Signals of one rule for one worker, in the order of their positions.
#[derive(Debug)]
pub struct Signals {
    /// The rule.
    pub rule: Arc<ActiveRule>,
    /// The worker that has the keys.
    pub worker: u64,
    /// The signals.
    pub signals: Vec<Signal>,
}

/// The version of a presence event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// `versionNumber`: grows with each session of a client.
    pub version: i64,
    /// A connect, not a disconnect.
    pub connected: bool,
    /// `timestamp`, in milliseconds.
    pub time_ms: i64,
}

/// A version may begin anew after so long without a session.
const RESET_MS: i64 = 3_600_000;

impl Order {
    /// Whether an event is newer than the one known: a later session, or the end of this one. A session's end that comes
    /// after the next session has begun is not.
    pub fn follows(self, known: Self) -> bool {
        match self.version.cmp(&known.version) {
            std::cmp::Ordering::Greater => true,
            std::cmp::Ordering::Equal => known.connected && !self.connected,
            std::cmp::Ordering::Less => self.time_ms.saturating_sub(known.time_ms) > RESET_MS,
        }
    }
}

/// A part, and a row in it.
type At = Option<(u32, u32)>;

/// What the faces of a rule say of one message.
#[derive(Clone, Copy, Default)]
struct Said {
    rows: At,
    disarm: At,
    arm: At,
    order: At,
}

/// The signals of one rule for a batch of messages, for each of `workers`. `keep` copies a message whose row is made at the
/// deadline; `refuse` is told of messages whose key is Undefined.
pub fn signals(
    rule: &Arc<ActiveRule>,
    faces: &[RuleRows],
    origins: &Origins,
    workers: usize,
    keep: &dyn Fn(u32) -> Option<KeptMessage>,
    mut refuse: impl FnMut(u32, &str),
) -> Vec<Signals> {
    let mut said = vec![Said::default(); origins.epoch.len()];
    for (part, face) in faces.iter().enumerate() {
        for (row, message) in face.rows.messages.iter().enumerate() {
            let Some(said) = said.get_mut(*message as usize) else { continue };
            let place = match face.face {
                Face::Rows => &mut said.rows,
                Face::Disarm => &mut said.disarm,
                Face::Arm => &mut said.arm,
                Face::Order => &mut said.order,
            };
            *place = Some((part as u32, row as u32));
        }
    }
    let mut maker = Maker { rule, faces, origins, keep, key: String::new(), record: Vec::new() };
    let mut by_worker: Vec<Signals> = (0..workers.max(1) as u64)
        .map(|worker| Signals { rule: Arc::clone(rule), worker, signals: Vec::new() })
        .collect();
    for (message, said) in said.iter().enumerate() {
        match maker.signal(message as u32, *said) {
            Ok(Some((hash, signal))) => {
                let worker = (hash % workers.max(1) as u64) as usize;
                if let Some(of_worker) = by_worker.get_mut(worker) {
                    of_worker.signals.push(signal);
                }
            }
            Ok(None) => {}
            Err(reason) => refuse(message as u32, reason),
        }
    }
    by_worker.retain(|of_worker| !of_worker.signals.is_empty());
    by_worker
}

struct Maker<'a> {
    rule: &'a Arc<ActiveRule>,
    faces: &'a [RuleRows],
    origins: &'a Origins,
    keep: &'a dyn Fn(u32) -> Option<KeptMessage>,
    key: String,
    record: Vec<u8>,
}

impl Maker<'_> {
    /// The signal of a message, and the hash of its key.
    fn signal(&mut self, message: u32, said: Said) -> Result<Option<(u64, Signal)>, &'static str> {
        let Some(absence) = self.rule.rule.select.absence.as_deref() else { return Ok(None) };
        // A row that failed does not arm; one that looks up tables is made later.
        let asks = self.rule.calling.is_some();
        let arm = said.arm.filter(|_| said.rows.is_some() || asks);
        let Some((part, row)) = said.disarm.or(arm).or(said.order) else { return Ok(None) };
        let Some(keys) = self.faces.get(part as usize) else { return Ok(None) };
        if !self.read_key(&keys.rows, row as usize, absence.keys.len()) {
            return Err("PARTITION BY is Undefined for this message: no timer could be found for it");
        }
        let extra = |place: At, number: usize| {
            let (part, row) = place?;
            let rows = &self.faces.get(part as usize)?.rows;
            let (_, column) = rows.columns().get(absence.keys.len() + number)?;
            Some(column.value(row as usize, rows.dialect()))
        };
        let arms = match (&absence.after, arm) {
            (_, None) => None,
            (After::Interval(us), _) => Some(*us),
            (After::Seconds(_), arm) => Some(extra(arm, 0).and_then(|seconds| after_us(&seconds)).unwrap_or(0)),
        };
        let order = match said.order {
            None => None,
            place => Some(order(extra(place, 0), extra(place, 1), extra(place, 2))?),
        };
        self.record.clear();
        push_bytes(&mut self.record, self.key.as_bytes());
        if arms.is_some() {
            self.store(message, said.rows);
        }
        let signal = Signal {
            position: self.origins.position(message),
            disarms: said.disarm.is_some(),
            arms,
            order,
            record: self.record.as_slice().into(),
        };
        Ok(Some((stable_hash(self.key.as_bytes()), signal)))
    }

    /// The key's text; false if a part of it is Undefined.
    fn read_key(&mut self, rows: &Rows, row: usize, keys: usize) -> bool {
        use arrow::array::Array;
        self.key.clear();
        self.key.push('[');
        for (number, (_, column)) in rows.columns().iter().take(keys).enumerate() {
            if number > 0 {
                self.key.push(',');
            }
            match &column.data {
                ColumnData::String(texts) if row < texts.len() && texts.is_valid(row) => {
                    json::write_string(texts.value(row), &mut self.key);
                }
                _ => match column.value(row, rows.dialect()) {
                    Value::Undefined => return false,
                    value => match json::to_text(&canonical(&value), MAX_TEXT) {
                        Some(text) => self.key.push_str(&text),
                        None => return false,
                    },
                },
            }
        }
        self.key.push(']');
        true
    }

    /// What is kept until the deadline.
    fn store(&mut self, number: u32, row: At) {
        let message = number as usize;
        let origins = self.origins;
        self.record.push(origins.hops.get(message).copied().unwrap_or_default());
        for texts in [&origins.topic, &origins.client_id] {
            push_bytes(&mut self.record, texts.get(message).as_bytes());
        }
        if self.rule.calling.is_some() {
            if let Some(message) = (self.keep)(number) {
                asks::store(&message, &mut self.record);
            }
        } else if let Some((part, row)) = row
            && let Some(face) = self.faces.get(part as usize)
        {
            face.rows.store(row as usize, &mut self.record);
        }
    }
}

fn order(version: Option<Value>, connected: Option<Value>, time: Option<Value>) -> Result<Order, &'static str> {
    let whole = |value: Option<Value>| match value {
        Some(value @ (Value::Int(_) | Value::Decimal(_))) => value.to_decimal()?.to_whole()?.try_into().ok(),
        _ => None,
    };
    let version = whole(version).ok_or("versionNumber is no whole number: the order of this event is not known")?;
    let connected = matches!(connected, Some(Value::Bool(true)));
    Ok(Order { version, connected, time_ms: whole(time).unwrap_or_default() })
}

pub(super) fn push_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

pub(super) fn push_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    push_number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Takes a number off the front.
pub(super) fn take_number(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

/// Takes a length and so many bytes off the front.
pub(super) fn take_bytes<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(take_number(bytes)?).ok()?;
    let (front, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(front)
}

/// The key of a record.
pub fn key_of(mut record: &[u8]) -> &[u8] {
    take_bytes(&mut record).unwrap_or_default()
}

/// Where a record's key ends.
pub fn key_end(record: &[u8]) -> usize {
    let mut rest = record;
    let _ = take_bytes(&mut rest);
    record.len() - rest.len()
}

/// The message that a record was armed by, and its row.
pub struct Kept<'a> {
    /// How often the message was republished.
    pub hops: u8,
    /// Its topic.
    pub topic: &'a str,
    /// Its client.
    pub client_id: &'a str,
    /// The stored row.
    pub row: &'a [u8],
}

impl<'a> Kept<'a> {
    /// Reads an armed record.
    pub fn read(mut record: &'a [u8]) -> Option<Self> {
        take_bytes(&mut record)?;
        let (hops, mut rest) = record.split_first()?;
        let topic = std::str::from_utf8(take_bytes(&mut rest)?).ok()?;
        let client_id = std::str::from_utf8(take_bytes(&mut rest)?).ok()?;
        Some(Self { hops: *hops, topic, client_id, row: rest })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(version: i64, connected: bool, minute: i64) -> Order {
        Order { version, connected, time_ms: minute * 60_000 }
    }

    #[test]
    fn presence_has_an_order() {
        let known = order(5, true, 100);
        assert!(order(6, true, 101).follows(known));
        assert!(order(6, false, 99).follows(known), "the connect before it is on its way");
        assert!(order(5, false, 100).follows(known));
        assert!(!order(5, true, 100).follows(known), "a duplicate");
        assert!(!order(4, false, 101).follows(known), "the end of a session that was taken over");
        assert!(order(0, true, 161).follows(known), "the numbers began anew");
        assert!(!order(0, true, 160).follows(known));
        let gone = order(5, false, 100);
        assert!(!order(5, false, 100).follows(gone));
        assert!(!order(5, true, 100).follows(gone));
        assert!(order(6, true, 100).follows(gone));
    }
}
