//! Reading a payload by its shape.

use super::literal::Literal;
use crate::scan::{Taken, Window, plain_text_end, skip_number, take_number};
use crate::shred::{Cell, Tag};

/// Not wanted.
pub(super) const NOWHERE: u16 = u16::MAX;

/// What a leaf is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leaf {
    Number,
    /// The quotes belong to the literals around it.
    Text,
    Bool,
}

/// A literal and the leaf after it.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) literal: Literal,
    pub(super) leaf: Leaf,
    /// The cells it goes to: a path's, and a member's when all are wanted.
    pub(super) cells: [u16; 2],
}

/// An array or object that is wanted as a whole: it starts and ends inside literals.
#[derive(Debug)]
pub(super) struct Whole {
    pub(super) cell: u16,
    pub(super) tag: Tag,
    /// The literal (by its number) and the byte in it.
    pub(super) start: (u32, u32),
    pub(super) end: (u32, u32),
}

/// Whether all numbers of a payload fit their cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Width {
    Small,
    Wide,
}

/// A learned shape.
#[derive(Debug)]
pub(crate) struct Shape {
    pub(super) steps: Box<[Step]>,
    pub(super) tail: Literal,
    pub(super) wholes: Box<[Whole]>,
    /// Cells that are the same in every payload of the shape: null, or not there.
    pub(super) constants: Box<[(u16, Tag)]>,
    /// Which of the payloads' layouts of top-level members it has.
    pub(crate) layout: u32,
    /// How many cells a row of it has.
    pub(crate) width: usize,
    pub(crate) structure: u64,
}

impl Shape {
    /// Reads a payload into the cells of its row, writing every one of them, and tells whether a number was too wide
    /// for a cell. `None`: it does not have this shape, and the cells are of no use. `places` is scratch.
    #[inline]
    pub(crate) fn read(&self, payload: &[u8], row: &mut [Cell], places: &mut Vec<u32>) -> Option<Width> {
        let payload = &Window::new(payload);
        if self.wholes.is_empty() {
            self.read_leaves::<false>(payload, row, places)
        } else {
            self.read_leaves::<true>(payload, row, places)
        }
    }

    /// `WHOLES`: there are wanted arrays or objects.
    #[inline]
    fn read_leaves<const WHOLES: bool>(
        &self,
        payload: &Window<'_>,
        row: &mut [Cell],
        places: &mut Vec<u32>,
    ) -> Option<Width> {
        let mut at = 0;
        let mut width = Width::Small;
        if WHOLES {
            places.clear();
        }
        for step in &self.steps {
            if !step.literal.stands_at(payload, at) {
                return None;
            }
            if WHOLES {
                places.push(at as u32);
            }
            at += step.literal.len();
            if step.cells == [NOWHERE; 2] {
                at = skip_leaf(step.leaf, payload, at)?;
                continue;
            }
            let (cell, end) = read_leaf(step.leaf, payload, at)?;
            at = end;
            if cell.tag == Tag::WideNumber {
                width = Width::Wide;
            }
            for &wanted in &step.cells {
                if let Some(place) = row.get_mut(usize::from(wanted)) {
                    *place = cell;
                }
            }
        }
        if !self.tail.ends_at(payload, at) {
            return None;
        }
        for &(cell, tag) in &self.constants {
            if let Some(place) = row.get_mut(usize::from(cell)) {
                *place = Cell { tag, ..Cell::default() };
            }
        }
        if WHOLES {
            places.push(at as u32);
            self.mark_wholes(row, places);
        }
        Some(width)
    }

    fn mark_wholes(&self, row: &mut [Cell], places: &[u32]) {
        let position = |(literal, byte): (u32, u32)| places.get(literal as usize).map_or(0, |place| place + byte);
        for whole in &self.wholes {
            if let Some(place) = row.get_mut(usize::from(whole.cell)) {
                let (start, end) = (position(whole.start), position(whole.end));
                *place = Cell::span(whole.tag, start, end);
            }
        }
    }
}

/// A leaf's cell and the position after it.
#[inline(always)]
fn read_leaf(leaf: Leaf, payload: &Window<'_>, at: usize) -> Option<(Cell, usize)> {
    match leaf {
        Leaf::Number => {
            let (taken, end) = take_number(payload, at)?;
            let cell = match taken {
                Taken::Small { mantissa, scale, zero_end } => Cell::number(mantissa, scale, zero_end),
                Taken::Wide => Cell::span(Tag::WideNumber, at as u32, end as u32),
            };
            Some((cell, end))
        }
        Leaf::Text => {
            let end = text_end(payload, at)?;
            Some((Cell::span(Tag::String, at as u32, end as u32), end))
        }
        Leaf::Bool => {
            let (value, end) = take_bool(payload, at)?;
            let tag = if value { Tag::True } else { Tag::False };
            Some((Cell { tag, ..Cell::default() }, end))
        }
    }
}

/// The position after a leaf that nothing asks for; it has to be right all the same.
#[inline(always)]
fn skip_leaf(leaf: Leaf, payload: &Window<'_>, at: usize) -> Option<usize> {
    match leaf {
        Leaf::Number => skip_number(payload, at),
        Leaf::Text => text_end(payload, at),
        Leaf::Bool => take_bool(payload, at).map(|(_, end)| end),
    }
}

#[inline(always)]
fn text_end(payload: &Window<'_>, at: usize) -> Option<usize> {
    let (end, ascii) = plain_text_end(payload, at)?;
    if !ascii && simdutf8::basic::from_utf8(payload.bytes.get(at..end)?).is_err() {
        return None;
    }
    Some(end)
}

#[inline(always)]
fn take_bool(payload: &Window<'_>, at: usize) -> Option<(bool, usize)> {
    match payload.bytes.get(at..at + 4)? {
        b"true" => Some((true, at + 4)),
        b"fals" if payload.bytes.get(at + 4) == Some(&b'e') => Some((false, at + 5)),
        _ => None,
    }
}
