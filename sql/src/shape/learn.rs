//! Learning a shape from a payload that the general path accepted.

use std::borrow::Cow;
use std::collections::HashSet;
use std::hash::{BuildHasher, Hash, Hasher};

use super::literal::Literal;
use super::read::{Leaf, NOWHERE, Shape, Step, Whole};
use super::tree::NONE;
use crate::scan::{Node, NodeKind, Tape, take_number};
use crate::shred::Tag;

/// Leaves that a shape may have, its end being one.
const MAX_LEAVES: usize = 512;
/// Bytes of literals that a shape may have.
const MAX_LITERAL_BYTES: usize = 16 * 1024;

/// Which cell a node goes to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Assignment {
    pub(crate) node: u32,
    pub(crate) cell: u16,
}

/// The leaves between which the literals stand, in order: kind, start and end. Names, null and empty containers are
/// literal. `None`: a value is spelt so that no shape would read it.
fn leaves<'a>(payload: &'a [u8], tape: &'a Tape) -> impl Iterator<Item = Option<(u32, Leaf, &'a Node)>> {
    // A name is a text node too. It stands directly before its value inside an object, so walking by pairs is not
    // needed: a text followed by a colon is a name.
    tape.nodes().iter().enumerate().filter_map(move |(index, node)| {
        let leaf = match node.kind {
            NodeKind::Null | NodeKind::Array | NodeKind::Object => return None,
            NodeKind::Number => {
                let read = take_number(payload, node.start as usize);
                if read.is_none_or(|(_, end)| end != node.end as usize) {
                    return Some(None);
                }
                Leaf::Number
            }
            NodeKind::String if is_name(payload, node) => return None,
            NodeKind::String if node.escaped => return Some(None),
            NodeKind::String => Leaf::Text,
            NodeKind::True | NodeKind::False => Leaf::Bool,
        };
        Some(Some((index as u32, leaf, node)))
    })
}

/// Whether an object names a member twice, in whatever spelling.
fn has_duplicates(payload: &[u8], tape: &Tape) -> bool {
    let mut names: HashSet<Cow<'_, str>, ahash::RandomState> =
        HashSet::with_hasher(ahash::RandomState::with_seeds(1, 2, 3, 4));
    (0..tape.nodes().len() as u32).any(|index| {
        names.clear();
        tape.members(index).any(|(name, _)| !names.insert(tape.text(payload, name)))
    })
}

fn is_name(payload: &[u8], node: &Node) -> bool {
    let after = payload.get(node.end as usize + 1..).unwrap_or_default();
    after.iter().find(|b| !matches!(b, b' ' | b'\n' | b'\r' | b'\t')) == Some(&b':')
}

/// A hash of the literals and kinds of leaves; `None` if no shape would read the payload.
pub(crate) fn structure_hash(payload: &[u8], tape: &Tape) -> Option<u64> {
    let mut hasher = ahash::RandomState::with_seeds(1, 2, 3, 4).build_hasher();
    let mut from = 0;
    for leaf in leaves(payload, tape) {
        let (_, kind, node) = leaf?;
        payload.get(from..node.start as usize)?.hash(&mut hasher);
        (kind as u8).hash(&mut hasher);
        from = node.end as usize;
    }
    payload.get(from..)?.hash(&mut hasher);
    Some(hasher.finish())
}

/// A shape with its steps, the last of which is the end.
pub(super) struct Learned {
    pub(super) steps: Vec<Step>,
    pub(super) shape: Shape,
}

impl Learned {
    /// The shape of a payload; none if an object in it has duplicate members. `width` is the number of cells of a row,
    /// those without assignment are not there.
    pub(super) fn of(
        payload: &[u8],
        tape: &Tape,
        assignments: &[Assignment],
        width: usize,
        layout: u32,
    ) -> Option<Self> {
        let structure = structure_hash(payload, tape)?;
        if width >= usize::from(NOWHERE) || has_duplicates(payload, tape) {
            return None;
        }
        let mut places = Places { steps: Vec::new(), starts: Vec::new(), from: 0, literal_bytes: 0 };
        for leaf in leaves(payload, tape) {
            let (index, kind, node) = leaf?;
            let mut cells = [NOWHERE; 2];
            for (free, wanted) in cells.iter_mut().zip(assignments.iter().filter(|a| a.node == index)) {
                *free = wanted.cell;
            }
            places.step(payload.get(places.from..node.start as usize)?, kind, cells);
            places.from = node.end as usize;
        }
        places.step(payload.get(places.from..)?, Leaf::End, [NOWHERE; 2]);
        if places.steps.len() > MAX_LEAVES || places.literal_bytes > MAX_LITERAL_BYTES {
            return None;
        }
        let mut constants: Vec<(u16, Tag)> = Vec::new();
        let mut wholes = Vec::new();
        for cell in 0..width as u16 {
            let assigned = assignments.iter().rev().find(|a| a.cell == cell).and_then(|a| tape.node(a.node));
            match assigned.map(|node| (node, node.kind)) {
                None => constants.push((cell, Tag::Undefined)),
                Some((_, NodeKind::Null)) => constants.push((cell, Tag::Null)),
                Some((node, NodeKind::Array)) => wholes.push(places.whole(cell, Tag::Array, node)?),
                Some((node, NodeKind::Object)) => wholes.push(places.whole(cell, Tag::Object, node)?),
                Some(_) => {}
            }
        }
        let (wholes, constants, path) = (wholes.into(), constants.into(), Vec::new());
        let shape = Shape { path, wholes, constants, layout, width, structure, used: 0 };
        Some(Self { steps: places.steps, shape })
    }
}

/// The literals found so far.
struct Places {
    steps: Vec<Step>,
    /// Where each literal starts in the payload it is learned from.
    starts: Vec<usize>,
    from: usize,
    literal_bytes: usize,
}

impl Places {
    fn step(&mut self, literal: &[u8], leaf: Leaf, cells: [u16; 2]) {
        self.starts.push(self.from);
        self.literal_bytes += literal.len();
        let literal = Literal::new(literal);
        self.steps.push(Step { literal, leaf, cells, next: NONE, other: NONE, users: 1, missed: 0 });
    }

    fn whole(&self, cell: u16, tag: Tag, node: &Node) -> Option<Whole> {
        Some(Whole { cell, tag, start: self.place(node.start)?, end: self.place(node.end)? })
    }

    /// The literal that a position lies in (or directly behind), and how far into it.
    fn place(&self, position: u32) -> Option<(u32, u32)> {
        let literal = self.starts.partition_point(|&start| start <= position as usize).checked_sub(1)?;
        Some((literal as u32, position - *self.starts.get(literal)? as u32))
    }
}
