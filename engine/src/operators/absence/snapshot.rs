//! The keys of one rule as bytes for a checkpoint, without holding up the worker: they are saved a few at a time, and
//! one that is about to change before its turn is saved first. So what comes out is the state at the beginning.

use super::lanes::Lanes;
use super::store;
use super::timers::{Slots, State};

/// A snapshot under way.
#[derive(Debug)]
pub struct Snapshot {
    /// Slots from here on have not had their turn.
    cursor: u32,
    end: u32,
    /// A bit for each slot that was saved before its turn.
    saved: Vec<u64>,
    /// In pieces, so that nothing large is moved while it grows.
    out: Vec<Vec<u8>>,
}

const PIECE: usize = 1 << 20;

impl Snapshot {
    /// Of the first `end` slots.
    pub fn new(end: u32) -> Self {
        Self { cursor: 0, end, saved: vec![0; end as usize / 64 + 1], out: Vec::new() }
    }

    /// Saves up to `budget` slots in their order.
    pub fn go_on(&mut self, slots: &Slots, lanes: &Lanes, budget: &mut usize) {
        while self.cursor < self.end && *budget > 0 {
            self.save(slots, lanes, self.cursor);
            self.cursor += 1;
            *budget -= 1;
        }
    }

    /// Saves a slot, unless that has been done or it is younger than the snapshot.
    pub fn save(&mut self, slots: &Slots, lanes: &Lanes, number: u32) {
        if !self.mark(number) {
            return;
        }
        if let Some(slot) = slots.get(number).filter(|slot| slot.state != State::Free) {
            if self.out.last().is_none_or(|piece| piece.len() >= PIECE) {
                self.out.push(Vec::new());
            }
            if let Some(piece) = self.out.last_mut() {
                store::write_key(piece, slot, lanes.duration(slot.lane()), slots.order(number));
            }
        }
    }

    /// Passes over a slot that was free.
    pub fn pass(&mut self, number: u32) {
        self.mark(number);
    }

    /// Whether the slot was still to be saved; it is not any more.
    fn mark(&mut self, number: u32) -> bool {
        if number < self.cursor || number >= self.end {
            return false;
        }
        let bit = 1_u64 << (number % 64);
        let Some(word) = self.saved.get_mut(number as usize / 64) else { return false };
        let new = *word & bit == 0;
        *word |= bit;
        new
    }

    /// Whether all slots are saved.
    pub fn is_complete(&self) -> bool {
        self.cursor >= self.end
    }

    /// What was saved.
    pub fn into_pieces(self) -> Vec<Vec<u8>> {
        self.out
    }
}
