//! The tree of shapes: payloads of many shapes are read in one pass.
//!
//! Shapes that begin alike share their first steps. Where they part, the steps that may come next stand in a list, the
//! one that came most lately and twice in a row first; JSON is such that at most one of them fits. So a payload in which
//! a member is missing, or is a text instead of a number, costs one failed comparison more than its neighbours, however
//! many shapes there are. Steps are numbered and stay where they are, shapes come and go.

use super::learn::Learned;
use super::read::{Leaf, Shape, Step, Width};
use crate::scan::Window;
use crate::shred::Cell;

/// Steps that may come next at one place.
const MAX_BRANCHES: usize = 16;

/// No step.
pub(super) const NONE: u32 = u32::MAX;

/// Shapes by their number.
#[derive(Debug)]
pub(super) struct Tree {
    steps: Vec<Step>,
    /// Steps that no shape has any more.
    free: Vec<u32>,
    /// The first of the steps at the beginning of a payload.
    first: u32,
    shapes: Vec<Option<Shape>>,
    /// Payloads read so far.
    reads: u32,
    /// Of all steps.
    bytes: usize,
    /// How many of the shapes have wanted arrays or objects.
    with_wholes: usize,
    /// Where the literals of the payload at hand start.
    places: Vec<u32>,
}

impl Tree {
    pub(super) fn new() -> Self {
        Self {
            steps: Vec::new(),
            free: Vec::new(),
            first: NONE,
            shapes: Vec::new(),
            reads: 0,
            bytes: 0,
            with_wholes: 0,
            places: Vec::new(),
        }
    }

    pub(super) fn shape(&self, number: u32) -> Option<&Shape> {
        self.shapes.get(number as usize)?.as_ref()
    }

    pub(super) fn shapes(&self) -> impl Iterator<Item = &Shape> {
        self.shapes.iter().flatten()
    }

    /// Bytes of all steps.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Reads a payload into the cells of its row, writing every one of them, and gives the number of its shape and
    /// whether a number was too wide for a cell. `None`: it has none of the shapes, and the cells are of no use.
    #[inline(always)]
    pub(super) fn read(&mut self, payload: &[u8], row: &mut [Cell]) -> Option<(u32, Width)> {
        self.reads = self.reads.wrapping_add(1);
        let payload = &Window::new(payload);
        let (number, width) =
            if self.with_wholes == 0 { self.walk::<false>(payload, row)? } else { self.walk::<true>(payload, row)? };
        let shape = self.shapes.get_mut(number as usize)?.as_mut()?;
        shape.used = shape.used.saturating_add(1);
        shape.finish(row, &self.places);
        Some((number, width))
    }

    /// `WHOLES`: there are wanted arrays or objects.
    #[inline(always)]
    fn walk<const WHOLES: bool>(&mut self, payload: &Window<'_>, row: &mut [Cell]) -> Option<(u32, Width)> {
        let mut at = 0;
        let mut width = Width::Small;
        let (mut before, mut number) = (NONE, self.first);
        if WHOLES {
            self.places.clear();
        }
        loop {
            let mut step = self.steps.get(number as usize)?;
            let end = match step.read(payload, at, row, &mut width) {
                Some(end) => end,
                None => {
                    let end;
                    (number, end) = self.branch(before, number, payload, at, row, &mut width)?;
                    step = self.steps.get(number as usize)?;
                    end
                }
            };
            if WHOLES {
                self.places.push(at as u32);
            }
            if step.leaf == Leaf::End {
                return Some((step.next, width));
            }
            (before, number, at) = (number, step.next, end);
        }
    }

    /// The step that fits where the first one does not, and where it ends.
    #[inline(never)]
    fn branch(
        &mut self,
        before: u32,
        first: u32,
        payload: &Window<'_>,
        at: usize,
        row: &mut [Cell],
        width: &mut Width,
    ) -> Option<(u32, usize)> {
        let mut last = first;
        loop {
            let number = self.steps.get(last as usize)?.other;
            let step = self.steps.get(number as usize)?;
            if let Some(end) = step.read(payload, at, row, width) {
                let head = self.steps.get_mut(first as usize)?;
                let again = head.missed == self.reads.wrapping_sub(1);
                head.missed = self.reads;
                if again {
                    self.unlink(before, last, number);
                    let first = self.head(before);
                    self.steps.get_mut(number as usize)?.other = first;
                    self.set_head(before, number);
                }
                return Some((number, end));
            }
            last = number;
        }
    }

    /// The first of the steps behind a step, or of all.
    fn head(&self, before: u32) -> u32 {
        if before == NONE { self.first } else { self.steps.get(before as usize).map_or(NONE, |step| step.next) }
    }

    fn set_head(&mut self, before: u32, head: u32) {
        match self.steps.get_mut(before as usize) {
            Some(step) => step.next = head,
            None => self.first = head,
        }
    }

    /// Takes a step out of the list it stands in, `last` being the one in front of it.
    fn unlink(&mut self, before: u32, last: u32, number: u32) {
        let other = self.steps.get(number as usize).map_or(NONE, |step| step.other);
        if self.head(before) == number {
            self.set_head(before, other);
        } else if let Some(last) = self.steps.get_mut(last as usize) {
            last.other = other;
        }
    }

    /// Adds a shape and gives its number; `None` if too many steps may come at one of its places.
    pub(super) fn insert(&mut self, learned: Learned) -> Option<u32> {
        let Learned { steps, mut shape } = learned;
        let number = self.shapes.iter().position(Option::is_none).unwrap_or(self.shapes.len());
        let mut before = NONE;
        for mut step in steps {
            if step.leaf == Leaf::End {
                step.next = number as u32;
            }
            match self.known_or_new(before, step) {
                Some(known) => before = known,
                None => {
                    self.leave(&shape.path);
                    return None;
                }
            }
            shape.path.push(before);
        }
        self.with_wholes += usize::from(!shape.wholes.is_empty());
        match self.shapes.get_mut(number) {
            Some(place) => *place = Some(shape),
            None => self.shapes.push(Some(shape)),
        }
        Some(number as u32)
    }

    /// The place of a step behind another one, for one more shape.
    fn known_or_new(&mut self, before: u32, step: Step) -> Option<u32> {
        let (mut number, mut last, mut branches) = (self.head(before), NONE, 0);
        while let Some(known) = self.steps.get_mut(number as usize) {
            if known.is_like(&step) {
                known.users += 1;
                return Some(number);
            }
            branches += 1;
            (last, number) = (number, known.other);
        }
        if branches == MAX_BRANCHES {
            return None;
        }
        self.bytes += step.bytes();
        let new = self.free.pop().unwrap_or(self.steps.len() as u32);
        match self.steps.get_mut(new as usize) {
            Some(place) => *place = step,
            None => self.steps.push(step),
        }
        match self.steps.get_mut(last as usize) {
            Some(last) => last.other = new,
            None => self.set_head(before, new),
        }
        Some(new)
    }

    /// Forgets the shape that was read least of late.
    pub(super) fn forget_one(&mut self) {
        let used = self.shapes.iter().enumerate().filter_map(|(number, shape)| Some((shape.as_ref()?.used, number)));
        let Some(shape) = used.min().and_then(|(_, number)| self.shapes.get_mut(number)?.take()) else { return };
        self.with_wholes -= usize::from(!shape.wholes.is_empty());
        self.leave(&shape.path);
        self.shapes.iter_mut().flatten().for_each(|shape| shape.used /= 2);
    }

    /// One shape less has these steps.
    fn leave(&mut self, path: &[u32]) {
        for (depth, number) in path.iter().enumerate().rev() {
            let Some(step) = self.steps.get_mut(*number as usize) else { continue };
            step.users -= 1;
            if step.users > 0 {
                continue;
            }
            self.bytes -= step.bytes();
            let before = depth.checked_sub(1).and_then(|depth| path.get(depth)).copied().unwrap_or(NONE);
            let mut last = self.head(before);
            while let Some(other) = self.steps.get(last as usize).map(|step| step.other).filter(|_| last != *number)
                && other != *number
            {
                last = other;
            }
            self.unlink(before, last, *number);
            self.free.push(*number);
        }
    }
}
