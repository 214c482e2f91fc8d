//! The shapes learned so far, and when to learn another. Bounded in number, in attempts and in the work of learning,
//! so that a client that never repeats itself costs little more than the general path.

use std::collections::HashMap;

use super::learn::{Assignment, structure_hash};
use super::read::{Shape, Width};
use crate::scan::Tape;
use crate::shred::Cell;

const MAX_SHAPES: usize = 32;
/// Sightings of a structure before it is learned.
const SIGHTINGS: u8 = 3;
const MAX_CANDIDATES: usize = 256;
/// Shapes that may be learned at once; one more for each [`HITS_PER_CREDIT`] payloads read by a shape.
const MAX_CREDIT: u32 = 64;
const HITS_PER_CREDIT: u32 = 256;
/// Shapes tried for a payload while most payloads have none.
const FEW_ATTEMPTS: usize = 2;
const MAX_PATIENCE: u32 = 1024;

/// The shapes of one program.
#[derive(Debug)]
pub(crate) struct Shapes {
    /// Those read often move to the front.
    shapes: Vec<Shape>,
    candidates: HashMap<u64, u8, ahash::RandomState>,
    credit: u32,
    hits: u32,
    patience: u32,
    places: Vec<u32>,
    max_width: usize,
}

impl Shapes {
    pub(crate) fn new() -> Self {
        Self {
            shapes: Vec::new(),
            candidates: HashMap::with_hasher(ahash::RandomState::with_seeds(5, 6, 7, 8)),
            credit: MAX_CREDIT,
            hits: 0,
            patience: MAX_PATIENCE,
            places: Vec::new(),
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

    /// Reads a payload by one of the shapes into a row of at least [`max_width`](Self::max_width) cells.
    #[inline]
    pub(crate) fn read(&mut self, payload: &[u8], row: &mut [Cell]) -> Option<(&Shape, Width)> {
        let (found, width) = match self.shapes.first()?.read(payload, row, &mut self.places) {
            Some(width) => (0, width),
            None => self.read_by_another(payload, row)?,
        };
        self.patience = (self.patience + 4).min(MAX_PATIENCE);
        self.hits += 1;
        if self.hits == HITS_PER_CREDIT {
            self.hits = 0;
            self.credit = (self.credit + 1).min(MAX_CREDIT);
        }
        self.shapes.get(found).map(|shape| (shape, width))
    }

    /// The same when it is not the first shape's: the place of the shape and the width.
    #[inline(never)]
    fn read_by_another(&mut self, payload: &[u8], row: &mut [Cell]) -> Option<(usize, Width)> {
        let attempts = if self.patience == 0 { FEW_ATTEMPTS } else { MAX_SHAPES };
        let places = &mut self.places;
        let tried = self.shapes.iter().take(attempts).enumerate().skip(1);
        let found = tried.filter_map(|(index, shape)| Some((index, shape.read(payload, row, places)?))).next();
        let Some((found, width)) = found else {
            self.patience = self.patience.saturating_sub(1);
            return None;
        };
        self.shapes.swap(found, found - 1);
        Some((found - 1, width))
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
        if self.shapes.iter().any(|known| known.structure == structure) {
            return;
        }
        if let Some(shape) = Shape::learn(payload, tape, assignments, width, layout) {
            self.max_width = self.max_width.max(shape.width);
            self.shapes.truncate(MAX_SHAPES - 1);
            self.shapes.push(shape);
        }
    }

    /// How many shapes are known.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.shapes.len()
    }
}
