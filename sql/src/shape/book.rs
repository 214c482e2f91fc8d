//! The shapes learned so far, and when to learn another. Bounded in number, in memory and in the work of learning, so
//! that a client that never repeats itself costs little more than the general path.

use std::collections::HashMap;

use super::learn::{Assignment, Learned, structure_hash};
use super::read::{Shape, Width};
use super::tree::Tree;
use crate::scan::Tape;
use crate::shred::Cell;

const MAX_SHAPES: usize = 256;
/// Bytes of the steps of all shapes.
const MAX_BYTES: usize = 1 << 20;
/// Sightings of a structure before it is learned.
const SIGHTINGS: u8 = 3;
const MAX_CANDIDATES: usize = 1024;
/// Shapes that may be learned at once; one more for each [`HITS_PER_CREDIT`] payloads read by a shape.
const MAX_CREDIT: u32 = 64;
const HITS_PER_CREDIT: u32 = 256;

/// The shapes of one program.
#[derive(Debug)]
pub(crate) struct Shapes {
    tree: Tree,
    candidates: HashMap<u64, u8, ahash::RandomState>,
    credit: u32,
    hits: u32,
    max_width: usize,
}

impl Shapes {
    pub(crate) fn new() -> Self {
        Self {
            tree: Tree::new(),
            candidates: HashMap::with_hasher(ahash::RandomState::with_seeds(5, 6, 7, 8)),
            credit: MAX_CREDIT,
            hits: 0,
            max_width: 0,
        }
    }

    /// Forgets everything: what cells mean has changed.
    pub(crate) fn clear(&mut self) {
        *self = Self::new();
    }

    /// The widest row that a shape fills.
    pub(crate) fn max_width(&self) -> usize {
        self.max_width
    }

    /// Reads a payload by one of the shapes into a row of at least [`max_width`](Self::max_width) cells; gives the
    /// shape with its number, which is small.
    #[inline(always)]
    pub(crate) fn read(&mut self, payload: &[u8], row: &mut [Cell]) -> Option<(u32, &Shape, Width)> {
        let (number, width) = self.tree.read(payload, row)?;
        self.hits += 1;
        if self.hits == HITS_PER_CREDIT {
            self.hits = 0;
            self.credit = (self.credit + 1).min(MAX_CREDIT);
        }
        self.tree.shape(number).map(|shape| (number, shape, width))
    }

    /// Tells of a payload without duplicate members that the general path accepted.
    pub(crate) fn sighted(
        &mut self,
        payload: &[u8],
        tape: &Tape,
        assignments: &[Assignment],
        width: usize,
        layout: u32,
    ) {
        if self.credit == 0 {
            return;
        }
        let Some(structure) = structure_hash(payload, tape) else { return };
        if self.candidates.len() >= MAX_CANDIDATES {
            // Sightings of structures that do not repeat; those that do come back.
            self.candidates.clear();
            self.credit -= 1;
        }
        let sightings = self.candidates.entry(structure).or_insert(0);
        *sightings += 1;
        if *sightings < SIGHTINGS {
            return;
        }
        self.candidates.remove(&structure);
        self.credit -= 1;
        if self.tree.shapes().any(|known| known.structure == structure) {
            return;
        }
        let Some(learned) = Learned::of(payload, tape, assignments, width, layout) else { return };
        while self.tree.shapes().count() >= MAX_SHAPES || self.tree.bytes() >= MAX_BYTES {
            self.tree.forget_one();
        }
        if self.tree.insert(learned).is_some() {
            self.max_width = self.max_width.max(width);
        }
    }

    /// How many shapes are known.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.tree.shapes().count()
    }
}
