//! Shredding: a batch of payloads to cells, one per wanted path and row.
//!
//! Each payload is read once, for the union of the paths that the rules of a program name, and, when a rule takes `*`
//! into columns, for all its top-level members. Rows are put into groups by the kinds of their paths, so that rows for
//! which one plan serves are known without looking at them again. Cells point into the payloads and are turned into Arrow columns only where a rule needs them,
//! after its WHERE. This module knows payloads and paths, not rules.

mod cell;
mod gather;
mod groups;
mod layouts;
mod paths;

use std::sync::Arc;

use crate::decimal::Decimal;
use crate::scan::{NodeKind, ScanError, Tape, scan};
use crate::shape::{Assignment, Shapes, Width};

pub(crate) use cell::{Cell, Tag, cell_of, cell_value, small_value};
pub(crate) use gather::{Payloads, RawNumbers, power_bits};

use gather::Cells;
pub(crate) use groups::{Groups, MAX_GROUPS, Present, SlotKind};
pub(crate) use paths::Paths;

use layouts::{Layouts, MAX_MEMBERS};

/// Cells that a batch may have; what does not fit waits for the next one.
const MAX_CELLS: usize = 1 << 20;
/// Bytes that the payloads of a batch may have, so that no text column outgrows its offsets.
const MAX_BYTES: usize = 256 << 20;

/// What a payload is as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whole {
    Object,
    /// An object with more top-level members than get a cell; its paths have theirs all the same.
    WideObject,
    Array,
    /// A bare text, number, boolean or null.
    Scalar,
    Empty,
    NotJson,
}

/// A payload of the batch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    /// Its first cell.
    pub(crate) cells: u32,
    /// Its top-level members, if they are wanted.
    pub(crate) layout: u32,
    pub(crate) whole: Whole,
}

/// Reads payloads for a set of paths.
#[derive(Debug)]
pub(crate) struct Shredder {
    paths: Paths,
    all_members: bool,
    shapes: Shapes,
    layouts: Layouts,
    tape: Tape,
    assignments: Vec<Assignment>,
    groups: Groups,
    cells: Vec<Cell>,
    rows: Vec<Row>,
    /// The numbers from 0 on, at least as many as there are rows.
    numbers: Vec<u32>,
    mistakes: Vec<(u32, ScanError)>,
}

impl Shredder {
    pub(crate) fn new(paths: Paths, all_members: bool) -> Self {
        Self {
            groups: Groups::new(paths.len()),
            paths,
            all_members,
            shapes: Shapes::new(),
            layouts: Layouts::new(),
            tape: Tape::default(),
            assignments: Vec::new(),
            cells: Vec::new(),
            rows: Vec::new(),
            numbers: Vec::new(),
            mistakes: Vec::new(),
        }
    }

    /// Reads as many of the payloads as fit one batch, at least one if there is one, and gives their number.
    pub(crate) fn shred<'a>(&mut self, payloads: impl Iterator<Item = &'a [u8]>) -> usize {
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("bmi1") && std::arch::is_x86_feature_detected!("bmi2") {
            // SAFETY: the processor has just been asked for these instructions.
            #[expect(
                unsafe_code,
                reason = "there is no other way to let the compiler use what every x86 of ten years has"
            )]
            return unsafe { self.shred_with_bits(payloads) };
        }
        self.shred_anywhere(payloads)
    }

    /// The same code for processors that find, clear and shift bits in one instruction, which is much of what reading a
    /// payload is.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "bmi1,bmi2")]
    fn shred_with_bits<'a>(&mut self, payloads: impl Iterator<Item = &'a [u8]>) -> usize {
        self.shred_anywhere(payloads)
    }

    #[inline(always)]
    fn shred_anywhere<'a>(&mut self, payloads: impl Iterator<Item = &'a [u8]>) -> usize {
        if self.layouts.is_full() {
            self.layouts.clear();
            self.shapes.clear();
        }
        self.rows.clear();
        self.mistakes.clear();
        self.groups.clear();
        let (mut used, mut bytes) = (0, 0);
        let mut most = self.paths.len().max(self.shapes.max_width());
        for payload in payloads {
            self.reserve(used + most);
            let row = self.cells.get_mut(used..used + most).unwrap_or_default();
            let (row, width) = match self.shapes.read(payload, row) {
                Some((number, shape, width)) => {
                    match width {
                        Width::Small => self.groups.of_shape(number, shape.structure, row),
                        Width::Wide => self.groups.of_row(row),
                    }
                    (Row { cells: used as u32, layout: shape.layout, whole: Whole::Object }, shape.width)
                }
                None => {
                    let read = self.read_any(payload, used);
                    // It may have taught another shape.
                    most = self.paths.len().max(self.shapes.max_width());
                    read
                }
            };
            self.rows.push(row);
            used += width;
            bytes += payload.len();
            if used >= MAX_CELLS || bytes >= MAX_BYTES {
                break;
            }
        }
        self.count_rows();
        self.rows.len()
    }

    fn count_rows(&mut self) {
        let known = self.numbers.len() as u32;
        self.numbers.extend(known..(self.rows.len() as u32).max(known));
    }

    /// Takes a batch of messages none of whose payloads is looked at.
    pub(crate) fn pass(&mut self, count: usize) {
        self.rows.clear();
        self.mistakes.clear();
        self.groups.clear();
        self.groups.of_rows_without_cells(count);
        self.rows.resize(count, Row { cells: 0, layout: Layouts::EMPTY, whole: Whole::Object });
        self.count_rows();
    }

    fn reserve(&mut self, cells: usize) {
        if self.cells.len() < cells {
            self.cells.resize(cells.next_power_of_two(), Cell::default());
        }
    }

    /// The general path. Gives the row, whose cells start at `used`, and their number.
    #[inline(never)]
    fn read_any(&mut self, payload: &[u8], used: usize) -> (Row, usize) {
        self.assignments.clear();
        let fixed = self.paths.len();
        let (mut whole, mut width, mut layout) = (self.scan(payload), fixed, Layouts::EMPTY);
        if whole == Whole::Object {
            self.paths.assign(payload, &self.tape, &mut self.assignments);
            if self.all_members {
                layout = self.layouts.assign(payload, &self.tape, fixed, &mut self.assignments);
                let members = self.layouts.names(layout).len();
                width += members;
                if members >= MAX_MEMBERS {
                    whole = Whole::WideObject;
                    self.mistakes.push((self.rows.len() as u32, ScanError::Members { limit: MAX_MEMBERS }));
                }
            }
        }
        self.reserve(used + width);
        let row = self.cells.get_mut(used..used + width).unwrap_or_default();
        row.fill(Cell::default());
        for assignment in &self.assignments {
            if let (Some(place), Some(node)) =
                (row.get_mut(usize::from(assignment.cell)), self.tape.node(assignment.node))
            {
                *place = cell_of(payload, node);
            }
        }
        self.groups.of_row(row);
        if whole == Whole::Object {
            self.shapes.sighted(payload, &self.tape, &self.assignments, width, layout);
        }
        (Row { cells: used as u32, layout, whole }, width)
    }

    fn scan(&mut self, payload: &[u8]) -> Whole {
        if payload.is_empty() {
            return Whole::Empty;
        }
        if let Err(error) = scan(payload, &mut self.tape).and_then(|()| check_range(payload, &self.tape)) {
            self.mistakes.push((self.rows.len() as u32, error));
            return Whole::NotJson;
        }
        match self.tape.node(0).map(|node| node.kind) {
            Some(NodeKind::Object) => Whole::Object,
            Some(NodeKind::Array) => Whole::Array,
            _ => Whole::Scalar,
        }
    }

    /// The rows of the batch.
    pub(crate) fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// The rows that are not JSON, and why.
    pub(crate) fn mistakes(&self) -> &[(u32, ScanError)] {
        &self.mistakes
    }

    /// The numbers of all its rows.
    pub(crate) fn all_rows(&self) -> &[u32] {
        self.numbers.get(..self.rows.len()).unwrap_or_default()
    }

    /// Its groups.
    pub(crate) fn groups(&self) -> &Groups {
        &self.groups
    }

    /// The cells of one path for a choice of rows.
    pub(crate) fn cells<'a>(&'a self, slot: usize, chosen: &'a [u32]) -> Cells<'a> {
        Cells::of_slot(&self.cells, &self.rows, slot, chosen)
    }

    /// The cell of one path in one row.
    pub(crate) fn cell(&self, slot: usize, row: u32) -> Cell {
        let row = self.rows.get(row as usize).filter(|_| slot < self.paths.len());
        row.and_then(|row| self.cells.get(row.cells as usize + slot)).copied().unwrap_or_default()
    }

    /// The cells of every top-level member that one of the chosen rows has, by name.
    pub(crate) fn members<'a>(&'a self, chosen: &'a [u32]) -> Vec<(Arc<str>, Cells<'a>)> {
        let mut order: Vec<u32> = Vec::new();
        let mut places: Vec<Option<Vec<u32>>> = vec![None; self.layouts.name_count()];
        for (index, row) in chosen.iter().enumerate() {
            let Some(row) = self.rows.get(*row as usize) else { continue };
            let first = row.cells as usize + self.paths.len();
            for (place, name) in self.layouts.names(row.layout).iter().enumerate() {
                let Some(cells) = places.get_mut(*name as usize) else { continue };
                let cells = cells.get_or_insert_with(|| {
                    order.push(*name);
                    vec![u32::MAX; chosen.len()]
                });
                if let Some(cell) = cells.get_mut(index) {
                    *cell = (first + place) as u32;
                }
            }
        }
        let named = order.into_iter().filter_map(|name| {
            let cells = places.get_mut(name as usize)?.take()?;
            Some((Arc::clone(self.layouts.name(name)?), Cells::at(&self.cells, cells, chosen)))
        });
        named.collect()
    }

    /// How many shapes are known.
    #[cfg(test)]
    pub(crate) fn shapes(&self) -> usize {
        self.shapes.len()
    }
}

/// Numbers beyond 1E+1000 do not exist in the language, so a payload with one is refused as a whole.
fn check_range(payload: &[u8], tape: &Tape) -> Result<(), ScanError> {
    for node in tape.unusual_numbers() {
        let (start, end) = (node.start as usize, node.end as usize);
        let spelt = payload.get(start..end).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default();
        if Decimal::parse(spelt).is_none() {
            return Err(ScanError::Range { at: start });
        }
    }
    Ok(())
}
