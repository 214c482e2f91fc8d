//! Timers in the order in which they are due.
//!
//! Timers of one duration are due in the order in which they were armed, since every deadline is the position of a
//! record plus that duration. So there is a list for each duration, a *lane*, linked through the slots: arming and
//! disarming cost the same whether ten or ten million timers are armed, and a pending timer costs nothing. Nearly every
//! rule has one lane. A rule whose AFTER differs from message to message has as many as there are durations in use, and
//! a set of their heads says which is due next.

use std::collections::BTreeSet;

use ahash::AHashMap;

/// No slot.
pub const NONE: u32 = u32::MAX;

/// A slot's place in its lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Which lane.
    pub lane: u32,
    /// Who is due before it.
    pub before: u32,
    /// Who is due after it.
    pub after: u32,
}

/// When a slot is due: deadline, and the offset of the record that armed it.
pub type Due = (u64, u64);

/// The slots, as the lanes see them.
pub trait Links {
    /// The place of an armed slot.
    fn link(&mut self, slot: u32) -> Option<&mut Link>;
    /// When an armed slot is due.
    fn due(&self, slot: u32) -> Due;
}

#[derive(Debug)]
struct Lane {
    after_us: u64,
    head: u32,
    tail: u32,
}

/// The lanes.
#[derive(Debug, Default)]
pub struct Lanes {
    lanes: Vec<Lane>,
    by_duration: AHashMap<u64, u32>,
    free: Vec<u32>,
    heads: BTreeSet<(Due, u32)>,
}

impl Lanes {
    /// What is due next.
    pub fn first(&self, up_to: u64) -> Option<u32> {
        let ((deadline, _), lane) = *self.heads.first()?;
        if deadline <= up_to { self.lanes.get(lane as usize).map(|lane| lane.head) } else { None }
    }

    /// The next deadline, and who has it.
    pub fn next(&self) -> Option<(u64, u32)> {
        let ((deadline, _), lane) = *self.heads.first()?;
        self.lanes.get(lane as usize).map(|lane| (deadline, lane.head))
    }

    /// The duration of a lane.
    pub fn duration(&self, lane: u32) -> u64 {
        self.lanes.get(lane as usize).map_or(0, |lane| lane.after_us)
    }

    /// Adds a slot that is due after every other one of its duration, and says its place.
    pub fn push(&mut self, slots: &mut impl Links, slot: u32, due: Due, after_us: u64) -> Link {
        let number = self.lane(after_us);
        let Some(lane) = self.lanes.get_mut(number as usize) else {
            return Link { lane: number, before: NONE, after: NONE };
        };
        let before = std::mem::replace(&mut lane.tail, slot);
        if before == NONE {
            lane.head = slot;
            self.heads.insert((due, number));
        } else if let Some(last) = slots.link(before) {
            last.after = slot;
        }
        Link { lane: number, before, after: NONE }
    }

    /// Takes a slot out.
    pub fn remove(&mut self, slots: &mut impl Links, slot: u32) {
        let Some(link) = slots.link(slot).copied() else { return };
        let due = slots.due(slot);
        let Some(lane) = self.lanes.get_mut(link.lane as usize) else { return };
        match slots.link(link.before) {
            Some(before) => before.after = link.after,
            None => {
                lane.head = link.after;
                self.heads.remove(&(due, link.lane));
                if link.after != NONE {
                    self.heads.insert((slots.due(link.after), link.lane));
                }
            }
        }
        match slots.link(link.after) {
            Some(after) => after.before = link.before,
            None => lane.tail = link.before,
        }
        if lane.head == NONE {
            self.by_duration.remove(&lane.after_us);
            self.free.push(link.lane);
        }
    }

    fn lane(&mut self, after_us: u64) -> u32 {
        if let Some(lane) = self.by_duration.get(&after_us) {
            return *lane;
        }
        let lane = Lane { after_us, head: NONE, tail: NONE };
        let number = match self.free.pop() {
            Some(number) => {
                if let Some(old) = self.lanes.get_mut(number as usize) {
                    *old = lane;
                }
                number
            }
            None => {
                self.lanes.push(lane);
                self.lanes.len() as u32 - 1
            }
        };
        self.by_duration.insert(after_us, number);
        number
    }
}
