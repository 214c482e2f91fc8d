//! The paths that rules name, as a tree of member names.

use std::collections::HashMap;
use std::sync::Arc;

use crate::scan::Tape;
use crate::shape::Assignment;

/// Paths by number.
#[derive(Clone, Debug)]
pub(crate) struct Paths {
    nodes: Vec<PathNode>,
    all: Vec<Vec<Arc<str>>>,
    numbers: HashMap<Vec<Arc<str>>, u16, ahash::RandomState>,
}

#[derive(Clone, Debug, Default)]
struct PathNode {
    slot: Option<u16>,
    children: Vec<(Arc<str>, usize)>,
    /// The paths through this node.
    through: Vec<u16>,
}

impl Paths {
    pub(crate) fn new() -> Self {
        Self { nodes: vec![PathNode::default()], all: Vec::new(), numbers: HashMap::default() }
    }

    /// The number of a path, new or known. `None` when there are too many.
    pub(crate) fn add(&mut self, path: &[Arc<str>]) -> Option<u16> {
        if let Some(known) = self.numbers.get(path) {
            return Some(*known);
        }
        let slot = u16::try_from(self.all.len()).ok().filter(|&slot| slot < u16::MAX / 2)?;
        self.all.push(path.to_vec());
        self.numbers.insert(path.to_vec(), slot);
        let mut at = 0;
        for name in path {
            at = self.child_or_new(at, name);
            self.nodes.get_mut(at)?.through.push(slot);
        }
        self.nodes.get_mut(at)?.slot = Some(slot);
        Some(slot)
    }

    fn child_or_new(&mut self, at: usize, name: &Arc<str>) -> usize {
        let new = self.nodes.len();
        let Some(node) = self.nodes.get_mut(at) else { return 0 };
        if let Some((_, child)) = node.children.iter().find(|(known, _)| known == name) {
            return *child;
        }
        node.children.push((Arc::clone(name), new));
        self.nodes.push(PathNode::default());
        new
    }

    /// A path as rules write it.
    pub(crate) fn name(&self, slot: u16) -> String {
        self.all.get(usize::from(slot)).map(|path| path.join(".")).unwrap_or_default()
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// Which nodes of a scanned object stand at which path. The last of duplicate members wins.
    pub(crate) fn assign(&self, payload: &[u8], tape: &Tape, assignments: &mut Vec<Assignment>) {
        if let Some(root) = self.nodes.first()
            && !root.children.is_empty()
        {
            self.assign_members(root, 0, payload, tape, assignments);
        }
    }

    fn assign_members(
        &self,
        node: &PathNode,
        object: u32,
        payload: &[u8],
        tape: &Tape,
        assignments: &mut Vec<Assignment>,
    ) {
        for (name, value) in tape.members(object) {
            let name = tape.text(payload, name);
            let child = node.children.iter().find(|(wanted, _)| **wanted == *name);
            let Some(child) = child.and_then(|(_, child)| self.nodes.get(*child)) else { continue };
            if assignments.iter().any(|a| child.through.contains(&a.cell)) {
                assignments.retain(|a| !child.through.contains(&a.cell));
            }
            if let Some(cell) = child.slot {
                assignments.push(Assignment { node: value, cell });
            }
            if !child.children.is_empty() {
                self.assign_members(child, value, payload, tape, assignments);
            }
        }
    }
}
