//! Timers in a checkpoint: the part `timers/<worker>`.
//!
//! # Format
//! A byte 1, the version of this format; a byte with that of stored rows; then for each rule its name (a LEB128 length
//! and the text), the length of what follows of it, and its keys. A key is a byte with its state (0 idle, 1 armed,
//! 2 fired; plus 4 if it has a version); of an armed one the deadline, the offset of the record that armed it and the
//! duration; the version as number, 0 or 1 for a connect, and time (both zigzag); and its record (see
//! [`super::signals`]), with its length. All numbers are LEB128.
//!
//! Keys stand in no order, and may stand under any worker: they are found by their hash.

use hedgerow_sql::program::ROW_FORMAT;

use super::lanes::Due;
use super::signals::{Order, push_bytes, push_number, take_bytes, take_number};
use super::timers::{Slot, State};

/// The version of the part's format.
const FORMAT: u8 = 1;

const IDLE: u8 = 0;
const ARMED: u8 = 1;
const FIRED: u8 = 2;
const VERSIONED: u8 = 4;

/// The part's beginning.
pub fn begin() -> Vec<u8> {
    vec![FORMAT, ROW_FORMAT]
}

/// What stands before the keys of a rule, which [`write_key`] wrote in some pieces.
pub fn rule_head(name: &str, keys: &[Vec<u8>]) -> Vec<u8> {
    let mut head = Vec::new();
    push_bytes(&mut head, name.as_bytes());
    push_number(&mut head, keys.iter().map(|piece| piece.len() as u64).sum());
    head
}

/// Appends a key.
pub fn write_key(out: &mut Vec<u8>, slot: &Slot, after_us: u64, order: Option<Order>) {
    let state = match slot.state {
        State::Free => return,
        State::Idle => IDLE,
        State::Armed => ARMED,
        State::Fired => FIRED,
    };
    out.push(state | if order.is_some() { VERSIONED } else { 0 });
    if state == ARMED {
        push_number(out, slot.due.0);
        push_number(out, slot.due.1);
        push_number(out, after_us);
    }
    if let Some(order) = order {
        push_number(out, zigzag(order.version));
        out.push(u8::from(order.connected));
        push_number(out, zigzag(order.time_ms));
    }
    push_bytes(out, &slot.record);
}

/// A key of a checkpoint.
#[derive(Debug)]
pub struct StoredKey<'a> {
    /// Whether it is idle, armed or fired.
    pub state: State,
    /// When an armed one is due.
    pub due: Due,
    /// How long it was armed for.
    pub after_us: u64,
    /// The version of its last event.
    pub order: Option<Order>,
    /// Key and row.
    pub record: &'a [u8],
}

/// The rules of a part and their keys' bytes.
///
/// # Errors
/// When it is of another version, or cut.
pub fn rules(part: &[u8]) -> Result<Vec<(&str, &[u8])>, String> {
    let mut rest = match part {
        [FORMAT, ROW_FORMAT, rest @ ..] => rest,
        [FORMAT, rows, ..] => {
            return Err(format!(
                "timers of the checkpoint: their rows have format {rows}, and this version reads {ROW_FORMAT}"
            ));
        }
        [other, ..] => {
            return Err(format!("timers of the checkpoint: they have format {other}, and this version reads {FORMAT}"));
        }
        [] => return Err("timers of the checkpoint: the part is empty".into()),
    };
    let mut rules = Vec::new();
    while !rest.is_empty() {
        let rule = (|| {
            let name = std::str::from_utf8(take_bytes(&mut rest)?).ok()?;
            Some((name, take_bytes(&mut rest)?))
        })();
        rules.push(rule.ok_or("timers of the checkpoint: the part is cut")?);
    }
    Ok(rules)
}

/// Takes a key off the front of a rule's keys.
pub fn take_key<'a>(rest: &mut &'a [u8]) -> Option<StoredKey<'a>> {
    let (tag, after) = rest.split_first()?;
    *rest = after;
    let (state, due, after_us) = match tag & !VERSIONED {
        IDLE => (State::Idle, (0, 0), 0),
        ARMED => (State::Armed, (take_number(rest)?, take_number(rest)?), take_number(rest)?),
        FIRED => (State::Fired, (0, 0), 0),
        _ => return None,
    };
    let order = if tag & VERSIONED == 0 {
        None
    } else {
        let version = unzigzag(take_number(rest)?);
        let (connected, after) = rest.split_first()?;
        *rest = after;
        Some(Order { version, connected: *connected == 1, time_ms: unzigzag(take_number(rest)?) })
    };
    Some(StoredKey { state, due, after_us, order, record: take_bytes(rest)? })
}

pub(super) fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)).cast_unsigned()
}

pub(super) fn unzigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_both_signs_come_back() {
        for number in [0, 1, -1, i64::MAX, i64::MIN, 1_700_000_000_000] {
            assert_eq!(unzigzag(zigzag(number)), number);
        }
    }

    #[test]
    fn other_formats_and_cut_parts_are_refused() {
        let mut part = begin();
        let keys = vec![vec![9, 9], vec![9]];
        part.extend(rule_head("r", &keys));
        part.extend(keys.concat());
        assert!(rules(&part).is_ok());
        assert!(rules(&part[..part.len() - 1]).is_err());
        assert!(rules(&[]).is_err());
        assert!(rules(&[FORMAT + 1, ROW_FORMAT]).unwrap_err().contains("format 2"));
        assert!(rules(&[FORMAT, ROW_FORMAT + 1]).is_err());
        assert!(take_key(&mut [9_u8, 9, 9].as_slice()).is_none());
    }
}
