//! Which top-level members payloads have, in order: names by number, and each distinct list of them once.

use std::collections::HashMap;
use std::sync::Arc;

use crate::scan::Tape;
use crate::shape::Assignment;

type Map<K> = HashMap<K, u32, ahash::RandomState>;

/// Names and lists kept from batch to batch; one batch may exceed it.
const MAX_NAMES: usize = 8192;
const MAX_LAYOUTS: usize = 1024;
/// Members of one payload that get a cell; more are read only as part of the whole.
pub(super) const MAX_MEMBERS: usize = 16 * 1024;

/// The lists of top-level members seen.
#[derive(Debug)]
pub(crate) struct Layouts {
    names: Vec<Arc<str>>,
    by_name: Map<Arc<str>>,
    lists: Vec<Arc<[u32]>>,
    by_list: Map<Arc<[u32]>>,
    scratch: Vec<u32>,
}

impl Layouts {
    /// The list without members.
    pub(crate) const EMPTY: u32 = 0;

    pub(crate) fn new() -> Self {
        let hasher = || ahash::RandomState::with_seeds(11, 12, 13, 14);
        let empty: Arc<[u32]> = Arc::new([]);
        let mut by_list = HashMap::with_hasher(hasher());
        by_list.insert(Arc::clone(&empty), Self::EMPTY);
        Self {
            names: Vec::new(),
            by_name: HashMap::with_hasher(hasher()),
            lists: vec![empty],
            by_list,
            scratch: Vec::new(),
        }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.names.len() > MAX_NAMES || self.lists.len() > MAX_LAYOUTS
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::new();
    }

    /// The numbers of a list's names, in order.
    pub(crate) fn names(&self, layout: u32) -> &[u32] {
        self.lists.get(layout as usize).map_or(&[], |list| list)
    }

    /// A name by its number.
    pub(crate) fn name(&self, number: u32) -> Option<&Arc<str>> {
        self.names.get(number as usize)
    }

    /// How many names there are.
    pub(crate) fn name_count(&self) -> usize {
        self.names.len()
    }

    /// Gives each top-level member of a scanned object a cell from `first` on. A duplicate keeps the place of the first
    /// and the value of the last.
    pub(crate) fn assign(
        &mut self,
        payload: &[u8],
        tape: &Tape,
        first: usize,
        assignments: &mut Vec<Assignment>,
    ) -> u32 {
        self.scratch.clear();
        let mut places: Map<u32> = HashMap::default();
        let many = tape.node(0).is_some_and(|object| object.after > 64);
        for (name, value) in tape.members(0) {
            let name = tape.text(payload, name);
            let number = match self.by_name.get(&*name) {
                Some(number) => *number,
                None => self.add_name(&name),
            };
            let known = if many {
                places.get(&number).copied()
            } else {
                self.scratch.iter().position(|known| *known == number).map(|place| place as u32)
            };
            let place = known.unwrap_or(self.scratch.len() as u32);
            if place as usize >= MAX_MEMBERS {
                continue;
            }
            if known.is_none() {
                self.scratch.push(number);
                if many {
                    places.insert(number, place);
                }
            }
            if let Ok(cell) = u16::try_from(first + place as usize) {
                assignments.push(Assignment { node: value, cell });
            }
        }
        self.list()
    }

    fn add_name(&mut self, name: &str) -> u32 {
        let name: Arc<str> = name.into();
        let number = self.names.len() as u32;
        self.names.push(Arc::clone(&name));
        self.by_name.insert(name, number);
        number
    }

    fn list(&mut self) -> u32 {
        if let Some(known) = self.by_list.get(self.scratch.as_slice()) {
            return *known;
        }
        let list: Arc<[u32]> = self.scratch.as_slice().into();
        let number = self.lists.len() as u32;
        self.lists.push(Arc::clone(&list));
        self.by_list.insert(list, number);
        number
    }
}
