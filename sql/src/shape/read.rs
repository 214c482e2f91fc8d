//! Reading what stands between the literals, and what a shape knows besides its steps.

use super::literal::Literal;
use crate::scan::{Taken, Window, plain_text_end, skip_number, take_number};
use crate::shred::{Cell, Tag};

/// Not wanted.
pub(super) const NOWHERE: u16 = u16::MAX;

/// What follows a literal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leaf {
    Number,
    /// The quotes belong to the literals around it.
    Text,
    Bool,
    /// Nothing: the payload ends.
    End,
}

/// A literal and what follows it.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) literal: Literal,
    pub(super) leaf: Leaf,
    /// The cells it goes to: a path's, and a member's when all are wanted.
    pub(super) cells: [u16; 2],
    /// The first of the steps behind it; of an end, the number of the shape.
    pub(super) next: u32,
    /// Another step that may stand in its place.
    pub(super) other: u32,
    /// How many shapes have it.
    pub(super) users: u32,
    /// Which payload did not fit it last, while it was the first to be tried.
    pub(super) missed: u32,
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

/// A learned shape: what there is to know besides its steps.
#[derive(Debug)]
pub(crate) struct Shape {
    /// Its steps in the tree.
    pub(super) path: Vec<u32>,
    pub(super) wholes: Box<[Whole]>,
    /// Cells that are the same in every payload of the shape: null, or not there.
    pub(super) constants: Box<[(u16, Tag)]>,
    /// Which of the payloads' layouts of top-level members it has.
    pub(crate) layout: u32,
    /// How many cells a row of it has.
    pub(crate) width: usize,
    pub(crate) structure: u64,
    /// How many payloads it has read, of late.
    pub(super) used: u32,
}

impl Shape {
    /// Writes the cells of a row that no leaf goes to, `places` being where the literals start.
    #[inline(always)]
    pub(super) fn finish(&self, row: &mut [Cell], places: &[u32]) {
        for &(cell, tag) in &self.constants {
            if let Some(place) = row.get_mut(usize::from(cell)) {
                *place = Cell { tag, ..Cell::default() };
            }
        }
        if !self.wholes.is_empty() {
            self.mark_wholes(row, places);
        }
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

impl Step {
    /// Reads the literal and the leaf from `at` and gives the position after them; `None` if they do not stand there.
    #[inline(always)]
    pub(super) fn read(&self, payload: &Window<'_>, at: usize, row: &mut [Cell], width: &mut Width) -> Option<usize> {
        if !self.literal.stands_at(payload, at) {
            return None;
        }
        let at = at + self.literal.len();
        if self.leaf == Leaf::End {
            return (at == payload.bytes.len()).then_some(at);
        }
        if self.cells == [NOWHERE; 2] {
            return skip_leaf(self.leaf, payload, at);
        }
        let (cell, end) = read_leaf(self.leaf, payload, at)?;
        if cell.tag == Tag::WideNumber {
            *width = Width::Wide;
        }
        for &wanted in &self.cells {
            if let Some(place) = row.get_mut(usize::from(wanted)) {
                *place = cell;
            }
        }
        Some(end)
    }

    /// Bytes of memory.
    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>() + self.literal.len()
    }

    /// Whether it reads what the other one reads, to the same cells. Ends are alike only if they are of one shape.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        self.leaf == other.leaf
            && self.cells == other.cells
            && self.literal.is(&other.literal)
            && (self.leaf != Leaf::End || self.next == other.next)
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
        Leaf::End => None,
    }
}

/// The position after a leaf that nothing asks for; it has to be right all the same.
#[inline(always)]
fn skip_leaf(leaf: Leaf, payload: &Window<'_>, at: usize) -> Option<usize> {
    match leaf {
        Leaf::Number => skip_number(payload, at),
        Leaf::Text => text_end(payload, at),
        Leaf::Bool => take_bool(payload, at).map(|(_, end)| end),
        Leaf::End => None,
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
