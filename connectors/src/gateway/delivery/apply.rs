//! Notes: what connections and sessions did, applied where it stands among the messages.

use std::sync::Arc;

use hedgerow_storage::log::Record;

use super::super::message::{Queued, Route, place};
use super::super::notes::{Connected, Disconnected, Note};
use super::super::rows::{ConnectionRow, SessionRow};
use super::super::slot::Slot;
use super::super::subscriptions::{Path, options};
use super::{Delivery, DeliveryError};

impl Delivery {
    pub(super) fn apply(&mut self, record: &Record<'_>) -> Result<(), DeliveryError> {
        // Messages before the note are judged by what was in force then.
        self.hand_over();
        match Note::read(record)? {
            Note::Connected(note) => self.connected(record, note),
            Note::Disconnected(note) => self.disconnected(record, note)?,
            Note::WillPublished { connection } => {
                self.waiting_wills.remove(&record.session);
                if let Some(seen) = &mut self.starting {
                    seen.will_published(record.session);
                }
                self.rows.delete_will(&mut self.batch, connection, true);
            }
            Note::Ended => self.end(record.session, Some(record.offset.0))?,
            Note::Subscribed { identifier, filters } => self.subscribed(record, identifier, &filters),
            Note::Unsubscribed(filters) => {
                if let Some(at) = self.slot_of(record.session) {
                    let paths = filters.iter().filter_map(|filter| Path::parse(filter).ok());
                    paths.for_each(|path| self.unsubscribe(at, &path));
                }
            }
            Note::Released => {
                if let Some(&at) = self.by_number.get(&record.session)
                    && let Some(Some(slot)) = self.slots.get_mut(at)
                {
                    slot.received.remove(&record.packet_id);
                    slot.received_changed = true;
                    self.unsettled.insert(at);
                }
            }
            Note::Repeated => {}
        }
        Ok(())
    }

    /// A connection took up a session.
    fn connected(&mut self, record: &Record<'_>, note: Connected) {
        let number = record.session;
        self.rows.put_connection(&mut self.batch, &row(record, note.connection), note.will.as_deref());
        if let Some(before) = self.waiting_wills.remove(&number) {
            // The session goes on, so the will that waited for it is void.
            self.rows.delete_will(&mut self.batch, before, true);
        }
        if self.starting.is_some() {
            self.restore(record, row(record, note.connection), &note);
        }
        if !note.durable {
            return;
        }
        // A session that ended since then has no slot and needs no row.
        let Some(at) = self.slot_of(number) else { return };
        self.put_session(at, note.expiry_s, record.time_ms);
        if self.starting.is_none() {
            self.with(at, |slot, _| slot.attach());
            self.pages.push(at);
        }
    }

    /// A connection left its session.
    fn disconnected(&mut self, record: &Record<'_>, note: Disconnected) -> Result<(), DeliveryError> {
        self.rows.delete_connection(&mut self.batch, note.connection);
        match note.will_due_ms {
            Some(due_ms) => {
                self.rows.put_waiting(&mut self.batch, &row(record, note.connection), due_ms);
                self.waiting_wills.insert(record.session, note.connection);
            }
            None if note.had_will => self.rows.delete_will(&mut self.batch, note.connection, false),
            None => {}
        }
        if let Some(seen) = &mut self.starting {
            seen.disconnected(&note);
        }
        if note.ended {
            return self.end(record.session, Some(record.offset.0));
        }
        let Some(&at) = self.by_number.get(&record.session) else { return Ok(()) };
        if let Some(seen) = &self.starting {
            seen.asleep(&self.shared.registry, record, note.expiry_s);
        } else {
            self.with(at, Slot::detach);
        }
        self.put_session(at, note.expiry_s, record.time_ms);
        Ok(())
    }

    fn put_session(&mut self, at: usize, expiry_s: u32, since_ms: i64) {
        self.with(at, |slot, desk| {
            let row = SessionRow { expiry_s, since_ms, ..slot.row() };
            desk.rows.put_session(desk.batch, &row);
        });
    }

    fn subscribed(&mut self, record: &Record<'_>, identifier: u32, filters: &[(&str, u8)]) {
        let Some(at) = self.slot_of(record.session) else { return };
        let mut found = 0;
        for (filter, granted) in filters {
            let Ok(path) = Path::parse(filter) else { continue };
            let known = self.slots.get(at).and_then(Option::as_ref).is_some_and(|slot| slot.filters.contains(*filter));
            self.subscribe(at, &path, *granted, identifier);
            self.with(at, |slot, desk| {
                if slot.durable {
                    desk.rows.put_filter(desk.batch, slot.session.number, filter, *granted, identifier);
                }
            });
            let wanted = match granted & options::RETAIN_HANDLING {
                0 => true,
                0x10 => !known,
                _ => false,
            };
            if wanted && !path.shared {
                self.offer_retained(record, at, &path, *granted, identifier, &mut found);
            }
        }
        if found > 0 {
            self.touched.push(at);
            self.hand_over();
            self.act(at, Slot::feed);
        }
    }

    /// Gives a new subscription the retained messages that it matches.
    fn offer_retained(
        &mut self,
        record: &Record<'_>,
        at: usize,
        path: &Path,
        granted: u8,
        identifier: u32,
        found: &mut usize,
    ) {
        let route = Route::of(identifier);
        let now_ms = self.shared.log.now_ms();
        let Self { retained, slots, .. } = self;
        let Some(Some(slot)) = slots.get_mut(at) else { return };
        retained.visit(&path.filter, |kept| {
            if kept.message.time_left(now_ms).is_err() {
                return;
            }
            *found += 1;
            let qos = kept.qos.min(granted & options::QOS);
            let place = place(record.offset.0, *found);
            slot.offer(Queued::new(Arc::clone(&kept.message), place, qos, true, route.clone()));
        });
    }
}

fn row(record: &Record<'_>, connection: u64) -> ConnectionRow {
    ConnectionRow {
        connection,
        session: record.session,
        since_ms: record.time_ms,
        client_id: record.client_id.to_owned(),
        principal: record.principal.to_owned(),
        address: record.address.to_owned(),
    }
}
