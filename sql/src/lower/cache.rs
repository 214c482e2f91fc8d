//! What has been gathered for all rows of a batch: many rules ask for the same.

use std::cell::RefCell;
use std::rc::Rc;

use ahash::AHashMap;
use arrow::array::ArrayRef;

use super::plan::Form;
use super::run::Batch;
use super::source::{Gathered, gather};
use super::term::Source;
use crate::ast::Dialect;
use crate::shred::SlotKind;

/// The sources gathered for all rows of one batch.
#[derive(Default)]
pub(crate) struct Cache {
    known: RefCell<AHashMap<(Source, Dialect), Rc<Kept>>>,
}

/// A source, and the arrays that plans have been given of it.
pub(super) struct Kept {
    pub(super) values: Gathered,
    inputs: RefCell<Vec<(Form, ArrayRef)>>,
}

impl Cache {
    /// A source for the chosen rows, whose values are of this kind if it is a path; without one it is not wanted.
    pub(super) fn gathered(
        &self,
        source: &Source,
        batch: &Batch<'_>,
        kind: Option<SlotKind>,
        chosen: &[u32],
    ) -> Rc<Kept> {
        let new = |values| Rc::new(Kept { values, inputs: RefCell::default() });
        let Some(kind) = kind else { return new(Gathered::Other) };
        if chosen.len() < batch.shredder.all_rows().len() {
            return new(gather(source, batch, kind, chosen));
        }
        let key = (source.clone(), batch.dialect);
        if let Some(known) = self.known.borrow().get(&key) {
            return Rc::clone(known);
        }
        let kept = new(gather(source, batch, kind, chosen));
        self.known.borrow_mut().insert(key, Rc::clone(&kept));
        kept
    }
}

impl Kept {
    /// The source as a plan wants it.
    pub(super) fn input(&self, form: Form, source: &Source, batch: &Batch<'_>, chosen: &[u32]) -> ArrayRef {
        let mut inputs = self.inputs.borrow_mut();
        if let Some((_, known)) = inputs.iter().find(|(known, _)| *known == form) {
            return known.clone();
        }
        let input = self.values.input(form, source, batch, chosen);
        inputs.push((form, input.clone()));
        input
    }
}
