//! Groups of rows whose paths have the same kinds.

use super::cell::{Cell, Tag};

/// Groups with kinds of their own; rows of further signatures share one whose paths are of several kinds.
pub(crate) const MAX_GROUPS: usize = 16;

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

    /// The kind of values of both kinds; `None` if they are told apart.
    fn with(self, other: Self) -> Option<Self> {
        match (self, other) {
            (Self::Missing, kind) | (kind, Self::Missing) => Some(kind),
            (kind, other) => (kind == other).then_some(kind),
        }
    }
}

/// A group.
#[derive(Clone, Debug)]
struct Group {
    /// The kinds of its paths.
    kinds: Vec<SlotKind>,
    /// Whether a path is Undefined in one of its rows.
    undefined: Vec<bool>,
}

/// The groups that some rows are in, a bit for each.
pub(crate) type Present = u16;

#[derive(Debug)]
pub(crate) struct Groups {
    paths: usize,
    groups: Vec<Group>,
    /// Groups of earlier batches, for their memory.
    spare: Vec<Group>,
    /// The group of each row.
    of_rows: Vec<u8>,
    /// The group of each shape, with the structure and the batch for which this was found.
    shapes: Vec<(u64, u32, u8)>,
    batch: u32,
}

impl Groups {
    pub(crate) fn new(paths: usize) -> Self {
        Self { paths, groups: Vec::new(), spare: Vec::new(), of_rows: Vec::new(), shapes: Vec::new(), batch: 0 }
    }

    pub(crate) fn clear(&mut self) {
        self.spare.append(&mut self.groups);
        self.of_rows.clear();
        self.batch = self.batch.wrapping_add(1);
    }

    /// Puts the next row, read by a shape, into its group. All small rows of a shape have the same kinds.
    #[inline]
    pub(crate) fn of_shape(&mut self, number: u32, structure: u64, row: &[Cell]) {
        let group = match self.shapes.get(number as usize) {
            Some((of, batch, group)) if (*of, *batch) == (structure, self.batch) => *group,
            _ => {
                let group = self.find(row);
                self.shapes.resize(self.shapes.len().max(number as usize + 1), (0, 0, 0));
                let known = self.shapes.get_mut(number as usize);
                known.into_iter().for_each(|known| *known = (structure, self.batch, group));
                group
            }
        };
        self.of_rows.push(group);
    }

    /// Puts the next row into its group.
    pub(crate) fn of_row(&mut self, row: &[Cell]) {
        let group = self.find(row);
        self.of_rows.push(group);
    }

    /// Puts so many rows without any cells into one group.
    pub(crate) fn of_rows_without_cells(&mut self, count: usize) {
        let group = self.find(&[]);
        self.of_rows.resize(count, group);
    }

    /// The first group that the row goes with, which takes on its kinds.
    fn find(&mut self, row: &[Cell]) -> u8 {
        let row = row.get(..self.paths).unwrap_or_default();
        let fits = |group: &Group| {
            group.kinds.iter().zip(row).all(|(known, cell)| known.with(SlotKind::of(cell.tag)).is_some())
        };
        let found = self.groups.iter().position(fits);
        let found = found.unwrap_or_else(|| if self.groups.len() < MAX_GROUPS { self.open() } else { MAX_GROUPS - 1 });
        if let Some(group) = self.groups.get_mut(found) {
            for (undefined, cell) in group.undefined.iter_mut().zip(row) {
                *undefined |= cell.tag == Tag::Undefined;
            }
            for (known, cell) in group.kinds.iter_mut().zip(row) {
                *known = known.with(SlotKind::of(cell.tag)).unwrap_or(SlotKind::Dynamic);
            }
        }
        found as u8
    }

    fn open(&mut self) -> usize {
        let mut group = self.spare.pop().unwrap_or(Group { kinds: Vec::new(), undefined: Vec::new() });
        group.kinds.clear();
        group.kinds.resize(self.paths, SlotKind::Missing);
        group.undefined.clear();
        group.undefined.resize(self.paths, false);
        self.groups.push(group);
        self.groups.len() - 1
    }

    /// The number of a row's group.
    #[inline]
    pub(crate) fn of(&self, row: u32) -> usize {
        self.of_rows.get(row as usize).map_or(0, |group| usize::from(*group))
    }

    /// The groups of some rows of the batch.
    pub(crate) fn present(&self, chosen: &[u32]) -> Present {
        match self.groups.len() {
            0 | 1 => 1,
            groups if chosen.len() == self.of_rows.len() => Present::MAX >> (MAX_GROUPS - groups),
            _ => chosen.iter().fold(0, |present, row| present | (1 << self.of(*row))),
        }
    }

    /// The numbers of some groups.
    pub(crate) fn numbers(present: Present) -> impl Iterator<Item = usize> {
        (0..MAX_GROUPS).filter(move |group| present & (1 << group) != 0)
    }

    /// The kind of a path in some groups; `None` if they have several.
    pub(crate) fn kind(&self, slot: usize, present: Present) -> Option<SlotKind> {
        let groups = self.groups.iter().enumerate().filter(|(number, _)| present & (1 << number) != 0);
        let mut kinds = groups.map(|(_, group)| group.kinds.get(slot).copied().unwrap_or(SlotKind::Missing));
        kinds.try_fold(SlotKind::Missing, SlotKind::with)
    }

    /// Whether a path is Undefined in some row.
    pub(crate) fn has_undefined(&self, slot: usize) -> bool {
        self.groups.iter().any(|group| group.undefined.get(slot).is_some_and(|undefined| *undefined))
    }
}
