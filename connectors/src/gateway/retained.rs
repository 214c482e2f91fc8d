//! Retained messages: the last one of each topic that was published to be kept, for those who subscribe later.
//!
//! A tree of topic levels, so that a filter costs what matches it, not what is kept. The delivery thread owns it and
//! writes the same to disk; what is here is what the log says up to where that thread has read, less what has expired.

use std::collections::BTreeMap;
use std::sync::Arc;

use hedgerow_sql::topic::TopicFilter;

use super::message::Message;

/// A retained message and the QoS it was published with.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub message: Arc<Message>,
    pub qos: u8,
}

/// All of them.
#[derive(Debug)]
pub(super) struct Retained {
    /// The first is the root; links are positions, so that a topic of 32,000 levels recurses nowhere.
    nodes: Vec<Node>,
    free: Vec<usize>,
    len: usize,
    bytes: usize,
}

#[derive(Debug, Default)]
struct Node {
    children: BTreeMap<Box<str>, usize>,
    kept: Option<Kept>,
}

const ROOT: usize = 0;

impl Retained {
    pub(super) fn new() -> Self {
        Self { nodes: vec![Node::default()], free: Vec::new(), len: 0, bytes: 0 }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// What they take, without the tree.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn get(&self, topic: &str) -> Option<&Kept> {
        let at = topic.split('/').try_fold(ROOT, |at, level| self.child(at, level))?;
        self.nodes.get(at)?.kept.as_ref()
    }

    /// Keeps a message in place of its topic's last.
    pub(super) fn put(&mut self, kept: Kept) {
        let message = Arc::clone(&kept.message);
        let mut at = ROOT;
        for level in message.topic().split('/') {
            at = match self.child(at, level) {
                Some(next) => next,
                None => self.grow(at, level),
            };
        }
        if let Some(node) = self.nodes.get_mut(at) {
            self.bytes += message.size();
            match node.kept.replace(kept) {
                Some(old) => self.bytes -= old.message.size(),
                None => self.len += 1,
            }
        }
    }

    /// Forgets the topic's message. False if there was none.
    pub(super) fn remove(&mut self, topic: &str) -> bool {
        let mut path = Vec::new();
        let mut at = ROOT;
        for level in topic.split('/') {
            path.push((at, level));
            let Some(next) = self.child(at, level) else { return false };
            at = next;
        }
        let Some(old) = self.nodes.get_mut(at).and_then(|node| node.kept.take()) else { return false };
        self.len -= 1;
        self.bytes -= old.message.size();
        while let Some((parent, level)) = path.pop() {
            if !self.nodes.get(at).is_some_and(|node| node.kept.is_none() && node.children.is_empty()) {
                break;
            }
            self.free.push(at);
            if let Some(node) = self.nodes.get_mut(parent) {
                node.children.remove(level);
            }
            at = parent;
        }
        true
    }

    /// Shows the messages that a filter matches, in the order of topics.
    pub(super) fn visit(&self, filter: &TopicFilter, mut each: impl FnMut(&Kept)) {
        let levels: Vec<&str> = filter.as_str().split('/').collect();
        // Where in the tree, and how many levels of the filter lie behind; every node is reached at most once. Below a
        // `#` all levels do.
        let mut stack = vec![(ROOT, 0)];
        while let Some((at, depth)) = stack.pop() {
            let Some(node) = self.nodes.get(at) else { continue };
            let level = levels.get(depth).copied();
            // A wildcard that begins a filter passes over topics that begin with `$`.
            let open = |name: &str| at != ROOT || !name.starts_with('$');
            if matches!(level, None | Some("#")) {
                node.kept.iter().for_each(&mut each);
            }
            match level {
                None => {}
                Some(wildcard @ ("+" | "#")) => {
                    let depth = if wildcard == "+" { depth + 1 } else { depth };
                    let below = node.children.iter().rev().filter(|(name, _)| open(name));
                    stack.extend(below.map(|(_, child)| (*child, depth)));
                }
                Some(level) => stack.extend(node.children.get(level).map(|child| (*child, depth + 1))),
            }
        }
    }

    /// Topics whose message has expired.
    pub(super) fn expired(&self, now_ms: i64) -> Vec<String> {
        let over = |kept: &&Kept| kept.message.time_left(now_ms).is_err();
        let kept = self.nodes.iter().filter_map(|node| node.kept.as_ref());
        kept.filter(over).map(|kept| kept.message.topic().to_owned()).collect()
    }

    fn child(&self, at: usize, level: &str) -> Option<usize> {
        self.nodes.get(at)?.children.get(level).copied()
    }

    fn grow(&mut self, at: usize, level: &str) -> usize {
        let new = match self.free.pop() {
            Some(new) => new,
            None => {
                self.nodes.push(Node::default());
                self.nodes.len() - 1
            }
        };
        if let Some(node) = self.nodes.get_mut(at) {
            node.children.insert(Box::from(level), new);
        }
        new
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kept(topic: &str) -> Kept {
        Kept { message: Arc::new(Message::new(1, 0, topic, &[], b"x")), qos: 1 }
    }

    fn found(retained: &Retained, filter: &str) -> Vec<String> {
        let mut found = Vec::new();
        retained.visit(&TopicFilter::new(filter).unwrap(), |kept| found.push(kept.message.topic().to_owned()));
        found
    }

    #[test]
    fn the_last_one_counts_and_nothing_is_left_behind() {
        let mut all = Retained::new();
        let nodes = all.nodes.len();
        for topic in ["a/b", "a", "a/b/c", "$x/y", "/"] {
            all.put(kept(topic));
        }
        let before = all.bytes();
        let newer = Kept { message: Arc::new(Message::new(2, 0, "a/b", &[], b"xx")), qos: 0 };
        all.put(newer);
        assert_eq!((all.len(), all.bytes(), all.get("a/b").unwrap().message.offset), (5, before + 1, 2));
        for topic in ["a/b", "a", "a/b/c", "$x/y", "/"] {
            assert!(all.remove(topic) && !all.remove(topic), "{topic}");
        }
        assert_eq!((all.len(), all.bytes(), all.nodes.len() - all.free.len()), (0, 0, nodes));
        let deep = "x/".repeat(30_000);
        all.put(kept(&deep));
        assert_eq!(found(&all, "#").len(), 1);
        assert!(all.remove(&deep));
    }

    #[test]
    fn expired_ones_are_found() {
        let mut all = Retained::new();
        all.put(Kept { message: Arc::new(Message::new(1, 1000, "a", &[2, 0, 0, 0, 5], b"")), qos: 0 });
        all.put(kept("b"));
        assert_eq!(all.expired(5999), Vec::<String>::new());
        assert_eq!(all.expired(6000), ["a"]);
    }

    proptest! {
        /// The tree finds what the plain comparison of filter and topic finds.
        #[test]
        fn as_plain_matching_says(
            topics in prop::collection::btree_set("[$]?[ab]{0,1}(/[ab]{0,1}){0,3}", 1..20),
            filter in "(\\+|[$]?[ab]{0,1})(/(\\+|[ab]{0,1})){0,3}(/#)?|#",
        ) {
            let topics: Vec<String> = topics.into_iter().filter(|topic| !topic.is_empty()).collect();
            prop_assume!(!filter.is_empty());
            let mut all = Retained::new();
            topics.iter().for_each(|topic| all.put(kept(topic)));
            let filter_checked = TopicFilter::new(&filter).unwrap();
            let mut expected: Vec<_> = topics.iter().filter(|topic| filter_checked.matches(topic)).cloned().collect();
            let mut found = found(&all, &filter);
            expected.sort();
            found.sort();
            prop_assert_eq!(found, expected);
        }
    }
}
