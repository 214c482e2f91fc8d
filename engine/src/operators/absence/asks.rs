//! Rules that look up tables when their time is up: what is kept until the deadline is the message that armed the key, and
//! its row is made then, by the call operator, with the tables as they are before the deadline's epoch.
//!
//! # What stands in place of the row
//! The epoch of the message and its time of receipt (zigzag) as LEB128 numbers; its principal, address and properties, each
//! a length and the bytes; its payload, to the end.

use std::sync::Arc;

use super::signals::{Kept, push_bytes, push_number, take_bytes, take_number};
use super::store::{unzigzag, zigzag};
use super::timers::Fired;
use crate::operators::call::{Ask, KeptMessage};
use crate::rows::ActiveRule;

/// Appends a message.
pub(super) fn store(message: &KeptMessage, out: &mut Vec<u8>) {
    push_number(out, message.epoch);
    push_number(out, zigzag(message.time_ms));
    push_bytes(out, message.principal.as_bytes());
    push_bytes(out, message.address.as_bytes());
    push_bytes(out, &message.properties);
    out.extend_from_slice(&message.payload);
}

/// What timers of one rule ask for, in their order.
pub(super) fn asks(rule: &Arc<ActiveRule>, fired: &[Fired], out: &mut Vec<Ask>) {
    for timer in fired {
        match message(timer) {
            Some(message) => {
                rule.stats.notices.add(1);
                out.push(Ask { rule: Arc::clone(rule), message, request: None });
            }
            None => super::emit::unreadable(rule, 1),
        }
    }
}

fn message(timer: &Fired) -> Option<KeptMessage> {
    let kept = Kept::read(&timer.record)?;
    let mut rest = kept.row;
    let (epoch, time_ms) = (take_number(&mut rest)?, unzigzag(take_number(&mut rest)?));
    let principal = std::str::from_utf8(take_bytes(&mut rest)?).ok()?.into();
    let address = std::str::from_utf8(take_bytes(&mut rest)?).ok()?.into();
    let properties = take_bytes(&mut rest)?.into();
    Some(KeptMessage {
        epoch,
        offset: timer.due.1,
        time_ms,
        hops: kept.hops,
        topic: kept.topic.into(),
        client_id: kept.client_id.into(),
        principal,
        address,
        properties,
        payload: rest.into(),
        deadline: Some(timer.due.0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_comes_back_with_its_deadline() {
        let message = KeptMessage {
            epoch: 1_700_000_000_000_000,
            offset: 9,
            time_ms: -5,
            hops: 2,
            topic: "a/b".into(),
            client_id: "c".into(),
            principal: "p".into(),
            address: "::1".into(),
            properties: vec![0, 255].into(),
            payload: b"{\"a\": 1}".as_slice().into(),
            deadline: None,
        };
        let mut record = Vec::new();
        push_bytes(&mut record, b"[\"key\"]");
        record.push(message.hops);
        push_bytes(&mut record, b"a/b");
        push_bytes(&mut record, b"c");
        store(&message, &mut record);
        let fired = Fired { due: (77, 9), record: record.into() };
        let back = super::message(&fired).unwrap();
        assert_eq!(back, KeptMessage { deadline: Some(77), ..message });
        let cut = Fired { due: (77, 9), record: fired.record[..12].into() };
        assert!(super::message(&cut).is_none());
    }
}
