//! Messages: whom they go to, and which are retained.

use std::sync::Arc;

use hedgerow_storage::log::Record;

use super::super::message::{Message, Queued, place};
use super::super::publish::is_for_one_rule;
use super::super::retained::Kept;
use super::super::slot::{Limits, Slot};
use super::super::subscriptions::{Member, Readiness};
use super::{Delivery, DeliveryError};

impl Delivery {
    pub(super) fn fan_out(&mut self, record: &Record<'_>) {
        if record.qos == 2 && record.packet_id > 0 {
            self.note_received(record);
        }
        if record.topic.starts_with('$') && is_for_one_rule(record.topic) {
            return;
        }
        // One copy, made for the first who needs it.
        let mut message: Option<Arc<Message>> = None;
        let mut copy = || Arc::clone(message.get_or_insert_with(|| Arc::new(Message::of(record))));
        if record.retain {
            self.retain(Kept { message: copy(), qos: record.qos });
        }
        let Self { subscriptions, slots, touched, limits, .. } = self;
        let Some((targets, groups)) = subscriptions.targets(record.topic) else { return };
        let place = place(record.offset.0, 0);
        for target in &targets.each {
            let Some(Some(slot)) = slots.get_mut(target.slot) else { continue };
            let own = record.session != 0 && *record.client_id == *slot.session.client_id;
            let Some(grant) = (if own { target.own.as_ref() } else { Some(&target.grant) }) else { continue };
            let retain = target.keep_retain && record.retain;
            let queued = Queued::new(copy(), place, record.qos.min(grant.qos), retain, grant.route.clone());
            stage(slot, touched, target.slot, queued);
        }
        for group in &targets.groups {
            let Some(member) = groups.choose(*group, |at| readiness(slots, limits, at)) else { continue };
            let retain = member.keep_retain && record.retain;
            let qos = record.qos.min(member.grant.qos);
            let queued = Queued::new(copy(), place, qos, retain, member.grant.route.clone());
            if let Some(Some(slot)) = slots.get_mut(member.slot) {
                stage(slot, touched, member.slot, queued);
            }
        }
    }

    fn note_received(&mut self, record: &Record<'_>) {
        if let Some(&at) = self.by_number.get(&record.session)
            && let Some(Some(slot)) = self.slots.get_mut(at)
            && slot.durable
        {
            slot.received.insert(record.packet_id);
            slot.received_changed = true;
            self.unsettled.insert(at);
        }
    }

    /// Keeps a message for later subscribers; an empty one says that there is nothing to keep any more.
    fn retain(&mut self, kept: Kept) {
        let topic = kept.message.topic();
        let known = self.retained.get(topic).map(|old| old.message.size());
        if kept.message.payload().is_empty() {
            if self.retained.remove(topic) {
                self.rows.delete_retained(&mut self.batch, topic);
            }
            return;
        }
        let config = &self.shared.config;
        let bytes = self.retained.bytes() - known.unwrap_or(0) + kept.message.size();
        let too_many = known.is_none() && self.retained.len() >= config.max_retained_messages;
        if too_many || bytes > config.max_retained_bytes {
            self.shared.metrics.retained_refused.add(1);
            // What was kept is not the last message any more.
            if self.retained.remove(topic) {
                self.rows.delete_retained(&mut self.batch, topic);
            }
            return;
        }
        self.rows.put_retained(&mut self.batch, &kept.message, kept.qos);
        self.retained.put(kept);
    }

    /// Forgets retained messages whose time is over.
    pub(super) fn sweep_retained(&mut self) {
        for topic in self.retained.expired(self.shared.log.now_ms()) {
            self.retained.remove(&topic);
            self.rows.delete_retained(&mut self.batch, &topic);
        }
    }

    /// What a session that ends has of shared subscriptions and has not acknowledged.
    pub(super) fn unfinished_shared(&mut self, at: usize) -> Result<Vec<Queued>, DeliveryError> {
        self.commit()?;
        let Self { slots, rows, .. } = self;
        match slots.get_mut(at) {
            Some(Some(slot)) => Ok(slot.unfinished_shared(rows)?),
            _ => Ok(Vec::new()),
        }
    }

    /// Gives messages of shared subscriptions to the members that are left.
    pub(super) fn reroute(&mut self, unfinished: Vec<Queued>, cause: u64) {
        let Self { subscriptions, slots, touched, limits, shared, .. } = self;
        let groups = subscriptions.groups();
        for (number, queued) in unfinished.into_iter().enumerate() {
            let group = queued.share().and_then(|path| groups.by_path(path));
            let Some(group) = group else { continue };
            let Some(Member { slot: at, grant, .. }) = groups.choose(group, |at| readiness(slots, limits, at)) else {
                continue;
            };
            let qos = queued.qos.min(grant.qos);
            let queued = Queued::new(queued.message, place(cause, number), qos, queued.retain, grant.route.clone());
            if let Some(Some(slot)) = slots.get_mut(*at) {
                shared.metrics.rerouted.add(1);
                stage(slot, touched, *at, queued);
            }
        }
        self.hand_over();
    }
}

fn stage(slot: &mut Slot, touched: &mut Vec<usize>, at: usize, queued: Queued) {
    if slot.staged.is_empty() {
        touched.push(at);
    }
    slot.staged.push(queued);
}

fn readiness(slots: &[Option<Slot>], limits: &Limits, at: usize) -> Readiness {
    slots.get(at).and_then(Option::as_ref).map_or(Readiness::Asleep, |slot| slot.readiness(limits))
}
