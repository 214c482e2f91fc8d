//! Finding all filters that match a topic, among many.

use ahash::AHashMap;

use super::TopicFilter;

/// Values by topic filter: one node for each distinct prefix of levels, so that the cost of a topic depends on its
/// levels and on what matches, not on how many filters there are.
///
/// A lookup allocates only where both a literal level and `+` go on from the same place (one small stack), and never
/// recurses, so that a filter of 32,000 levels does no harm.
#[derive(Clone, Debug)]
pub struct FilterTrie<T> {
    nodes: Vec<Node<T>>,
    free: Vec<usize>,
    len: usize,
}

#[derive(Clone, Debug)]
struct Node<T> {
    children: AHashMap<Box<str>, usize>,
    plus: Option<usize>,
    /// Values of the filter that ends here.
    exact: Vec<T>,
    /// Values of the filter that goes on with `#`; it matches here as well.
    rest: Vec<T>,
}

impl<T> Node<T> {
    fn new() -> Self {
        Self { children: AHashMap::new(), plus: None, exact: Vec::new(), rest: Vec::new() }
    }

    fn is_empty(&self) -> bool {
        self.children.is_empty() && self.plus.is_none() && self.exact.is_empty() && self.rest.is_empty()
    }
}

const ROOT: usize = 0;

impl<T> Default for FilterTrie<T> {
    fn default() -> Self {
        Self { nodes: vec![Node::new()], free: Vec::new(), len: 0 }
    }
}

impl<T> FilterTrie<T> {
    /// An empty trie.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many values it holds.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Does it hold none?
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds a value. A filter may have many, also equal ones; they are kept in the order of insertion.
    pub fn insert(&mut self, filter: &TopicFilter, value: T) {
        let mut at = ROOT;
        let mut ends_in_rest = false;
        for level in filter.as_str().split('/') {
            if level == "#" {
                ends_in_rest = true;
                break;
            }
            at = match self.child(at, level) {
                Some(next) => next,
                None => self.grow(at, level),
            };
        }
        if let Some(node) = self.nodes.get_mut(at) {
            if ends_in_rest {
                node.rest.push(value)
            } else {
                node.exact.push(value)
            }
            self.len += 1;
        }
    }

    /// The values of exactly this filter.
    pub fn get(&self, filter: &TopicFilter) -> &[T] {
        let mut at = ROOT;
        for level in filter.as_str().split('/') {
            if level == "#" {
                return self.nodes.get(at).map_or(&[], |node| &node.rest);
            }
            match self.child(at, level) {
                Some(next) => at = next,
                None => return &[],
            }
        }
        self.nodes.get(at).map_or(&[], |node| &node.exact)
    }

    /// The values of exactly this filter, to change in place.
    pub fn get_mut(&mut self, filter: &TopicFilter) -> &mut [T] {
        let mut at = ROOT;
        let mut rest = false;
        for level in filter.as_str().split('/') {
            if level == "#" {
                rest = true;
                break;
            }
            match self.child(at, level) {
                Some(next) => at = next,
                None => return &mut [],
            }
        }
        match self.nodes.get_mut(at) {
            Some(node) if rest => &mut node.rest,
            Some(node) => &mut node.exact,
            None => &mut [],
        }
    }

    /// Removes the first value of exactly this filter for which `which` is true, and the nodes that are left empty.
    pub fn remove(&mut self, filter: &TopicFilter, mut which: impl FnMut(&T) -> bool) -> Option<T> {
        let mut path: Vec<(usize, &str)> = Vec::new();
        let mut at = ROOT;
        let mut rest = false;
        for level in filter.as_str().split('/') {
            if level == "#" {
                rest = true;
                break;
            }
            path.push((at, level));
            at = self.child(at, level)?;
        }
        let node = self.nodes.get_mut(at)?;
        let values = if rest { &mut node.rest } else { &mut node.exact };
        let position = values.iter().position(&mut which)?;
        let value = values.remove(position);
        self.len -= 1;
        while let Some((parent, level)) = path.pop() {
            if !self.nodes.get(at).is_some_and(Node::is_empty) {
                break;
            }
            self.free.push(at);
            if let Some(node) = self.nodes.get_mut(parent) {
                if level == "+" {
                    node.plus = None;
                } else {
                    node.children.remove(level);
                }
            }
            at = parent;
        }
        Some(value)
    }

    /// Appends the values of all filters that match the (valid) topic. Same trie and topic, same order.
    pub fn matches<'a>(&'a self, topic: &str, out: &mut Vec<&'a T>) {
        self.visit(topic, |value| out.push(value));
    }

    /// Calls `found` for the values of all filters that match the (valid) topic. Same trie and topic, same order.
    pub fn visit<'a>(&'a self, topic: &str, mut found: impl FnMut(&'a T)) {
        let dollar = topic.starts_with('$');
        // Where the walk has still to go: a node, and the rest of the topic below it (`None`: the topic ends there).
        let mut pending: Vec<(usize, Option<&str>)> = Vec::new();
        let mut here = Some((ROOT, Some(topic)));
        while let Some((at, below)) = here {
            let Some(node) = self.nodes.get(at) else { break };
            let wildcards = at != ROOT || !dollar;
            if wildcards {
                node.rest.iter().for_each(&mut found);
            }
            here = match below {
                None => {
                    node.exact.iter().for_each(&mut found);
                    None
                }
                Some(text) => {
                    let (level, below) = match memchr::memchr(b'/', text.as_bytes()) {
                        Some(slash) => (text.get(..slash).unwrap_or_default(), text.get(slash + 1..)),
                        None => (text, None),
                    };
                    let literal = node.children.get(level).map(|&next| (next, below));
                    let plus = node.plus.filter(|_| wildcards).map(|next| (next, below));
                    if let (Some(_), Some(plus)) = (literal, plus) {
                        pending.push(plus);
                    }
                    literal.or(plus)
                }
            }
            .or_else(|| pending.pop());
        }
    }

    fn child(&self, at: usize, level: &str) -> Option<usize> {
        let node = self.nodes.get(at)?;
        if level == "+" { node.plus } else { node.children.get(level).copied() }
    }

    fn grow(&mut self, at: usize, level: &str) -> usize {
        let new = match self.free.pop() {
            Some(free) => free,
            None => {
                self.nodes.push(Node::new());
                self.nodes.len() - 1
            }
        };
        if let Some(node) = self.nodes.get_mut(at) {
            if level == "+" {
                node.plus = Some(new);
            } else {
                node.children.insert(Box::from(level), new);
            }
        }
        new
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{MAX_BYTES, matches};
    use super::*;

    #[test]
    fn a_filter_of_very_many_levels_does_no_harm() {
        let deep = TopicFilter::new(&"+/".repeat(MAX_BYTES / 2)).unwrap();
        let topic = "a/".repeat(MAX_BYTES / 2);
        let mut trie = FilterTrie::new();
        trie.insert(&deep, 1);
        let mut found = Vec::new();
        trie.matches(&topic, &mut found);
        assert_eq!(found, [&1]);
        assert_eq!(trie.remove(&deep, |_| true), Some(1));
        assert_eq!(trie.free.len() + 1, trie.nodes.len());
    }

    fn level() -> impl Strategy<Value = &'static str> {
        prop::sample::select(vec!["a", "b", "", "$x", "é"])
    }

    fn filter() -> impl Strategy<Value = String> {
        let level = prop_oneof![3 => level(), 2 => Just("+")];
        (prop::collection::vec(level, 0..5), any::<bool>()).prop_filter_map("empty", |(mut levels, rest)| {
            if rest {
                levels.push("#");
            }
            let text = levels.join("/");
            (!text.is_empty()).then_some(text)
        })
    }

    proptest! {
        /// The trie finds what matching filter by filter finds, whatever was inserted and removed before.
        #[test]
        fn the_trie_agrees_with_matching_one_by_one(
            filters in prop::collection::vec((filter(), any::<bool>()), 0..40),
            topics in prop::collection::vec(prop::collection::vec(level(), 1..6), 1..10),
        ) {
            let mut trie = FilterTrie::new();
            for (index, (filter, _)) in filters.iter().enumerate() {
                trie.insert(&TopicFilter::new(filter).unwrap(), index);
            }
            for (index, (filter, removed)) in filters.iter().enumerate() {
                if *removed {
                    let filter = TopicFilter::new(filter).unwrap();
                    prop_assert_eq!(trie.remove(&filter, |&value| value == index), Some(index));
                    prop_assert!(!trie.get(&filter).contains(&index));
                }
            }
            prop_assert_eq!(trie.len(), filters.iter().filter(|(_, removed)| !removed).count());
            for topic in topics {
                let topic = topic.join("/");
                let mut found = Vec::new();
                trie.matches(&topic, &mut found);
                let mut found: Vec<usize> = found.into_iter().copied().collect();
                found.sort_unstable();
                let expected: Vec<usize> = (0..filters.len())
                    .filter(|&index| !filters[index].1 && matches(&filters[index].0, &topic))
                    .collect();
                prop_assert_eq!(found, expected, "{}", topic);
            }
            for (index, (filter, removed)) in filters.iter().enumerate() {
                if !removed {
                    trie.remove(&TopicFilter::new(filter).unwrap(), |&value| value == index);
                }
            }
            prop_assert!(trie.is_empty());
            prop_assert_eq!(trie.free.len() + 1, trie.nodes.len());
        }
    }
}
