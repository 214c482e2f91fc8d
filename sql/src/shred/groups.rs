//! Groups of rows whose paths have the same kinds.

use super::cell::{Cell, Tag};

/// Groups with a plan of their own; rows of further signatures share one that is evaluated row by row.
const MAX_GROUPS: usize = 16;

/// The kind of a path in a group. Missing and null values go with any kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum SlotKind {
    /// Nothing but missing and null.
    Missing,
    Number,
    Boolean,
    String,
    Array,
    Object,
    /// Numbers that no column holds, or several kinds.
    Dynamic,
}

impl SlotKind {
    pub(super) fn of(tag: Tag) -> Self {
        match tag {
            Tag::Undefined | Tag::Null => Self::Missing,
            Tag::False | Tag::True => Self::Boolean,
            Tag::Number | Tag::NumberZeroEnd => Self::Number,
            Tag::WideNumber => Self::Dynamic,
            Tag::String | Tag::EscapedString => Self::String,
            Tag::Array => Self::Array,
            Tag::Object => Self::Object,
        }
    }
}

/// A group: the kinds of its paths and its rows in order.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub(crate) kinds: Vec<SlotKind>,
    /// Whether a path is Undefined in one of its rows.
    pub(crate) undefined: Vec<bool>,
    pub(crate) rows: Vec<u32>,
}

#[derive(Debug)]
pub(crate) struct Groups {
    paths: usize,
    groups: Vec<Group>,
    /// Groups of earlier batches, for their memory.
    spare: Vec<Group>,
    /// The group of the last shape, and of the others seen in this batch.
    last: (u64, u16),
    shapes: Vec<(u64, u16)>,
    rows: u32,
}

impl Groups {
    pub(crate) fn new(paths: usize) -> Self {
        Self { paths, groups: Vec::new(), spare: Vec::new(), last: (0, u16::MAX), shapes: Vec::new(), rows: 0 }
    }

    pub(crate) fn clear(&mut self) {
        self.spare.append(&mut self.groups);
        self.shapes.clear();
        self.last = (0, u16::MAX);
        self.rows = 0;
    }

    pub(crate) fn all(&self) -> &[Group] {
        &self.groups
    }

    /// Puts the next row, read by a shape, into its group. All small rows of a shape have the same kinds.
    #[inline]
    pub(crate) fn of_shape(&mut self, structure: u64, row: &[Cell]) {
        if self.last != (structure, self.last.1) || self.last.1 == u16::MAX {
            let known = self.shapes.iter().find(|(known, _)| *known == structure);
            self.last = match known {
                Some(known) => *known,
                None => {
                    let found = (structure, self.find(row));
                    self.shapes.push(found);
                    found
                }
            };
        }
        self.push(self.last.1);
    }

    /// Puts the next row into its group.
    pub(crate) fn of_row(&mut self, row: &[Cell]) {
        let group = self.find(row);
        self.push(group);
    }

    #[inline]
    fn push(&mut self, group: u16) {
        if let Some(group) = self.groups.get_mut(usize::from(group)) {
            group.rows.push(self.rows);
        }
        self.rows += 1;
    }

    /// The first group that the row goes with, which takes on its kinds.
    fn find(&mut self, row: &[Cell]) -> u16 {
        let row = row.get(..self.paths).unwrap_or_default();
        let fits = |group: &Group| {
            group.kinds.iter().zip(row).all(|(known, cell)| {
                let kind = SlotKind::of(cell.tag);
                kind == *known || kind == SlotKind::Missing || *known == SlotKind::Missing
            })
        };
        let found = self.groups.iter().position(fits);
        let found = found.unwrap_or_else(|| if self.groups.len() < MAX_GROUPS { self.open() } else { MAX_GROUPS - 1 });
        if let Some(group) = self.groups.get_mut(found) {
            for (undefined, cell) in group.undefined.iter_mut().zip(row) {
                *undefined |= cell.tag == Tag::Undefined;
            }
            for (known, cell) in group.kinds.iter_mut().zip(row) {
                match SlotKind::of(cell.tag) {
                    SlotKind::Missing => {}
                    kind if *known == SlotKind::Missing => *known = kind,
                    kind if *known != kind => *known = SlotKind::Dynamic,
                    _ => {}
                }
            }
        }
        found as u16
    }

    fn open(&mut self) -> usize {
        let new = || Group { kinds: Vec::new(), undefined: Vec::new(), rows: Vec::new() };
        let mut group = self.spare.pop().unwrap_or_else(new);
        group.rows.clear();
        group.kinds.clear();
        group.kinds.resize(self.paths, SlotKind::Missing);
        group.undefined.clear();
        group.undefined.resize(self.paths, false);
        self.groups.push(group);
        self.groups.len() - 1
    }
}
