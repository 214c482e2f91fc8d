//! Who gets a message: the trie of all subscriptions, and what it said about topics seen before.
//!
//! A client with several matching subscriptions gets a message once, with the highest QoS among them.

use ahash::AHashMap;
use hedgerow_sql::topic::{FilterTrie, TopicFilter};

/// Subscription options as in MQTT 5 §3.8.3.1.
pub(super) mod options {
    pub(in super::super) const QOS: u8 = 3;
    pub(in super::super) const NO_LOCAL: u8 = 4;
    pub(in super::super) const KEEP_RETAIN: u8 = 8;
}

/// One subscriber of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// Where the delivery thread keeps the session.
    pub slot: usize,
    /// Highest QoS granted.
    pub qos: u8,
    /// The same among subscriptions that take the client's own messages too; `None` if there is none.
    pub own_qos: Option<u8>,
    /// The retain flag is passed on.
    pub keep_retain: bool,
}

#[derive(Clone, Copy, Debug)]
struct Subscription {
    slot: usize,
    options: u8,
}

/// All subscriptions.
#[derive(Debug)]
pub(super) struct Subscriptions {
    trie: FilterTrie<Subscription>,
    /// Goes up with every change: what was remembered under an older number is looked up anew.
    generation: u64,
    remembered: AHashMap<Box<str>, (u64, Box<[Target]>)>,
    most_remembered: usize,
    found: Vec<Subscription>,
}

impl Subscriptions {
    /// Remembers at most `most_remembered` topics.
    pub(super) fn new(most_remembered: usize) -> Self {
        Self {
            trie: FilterTrie::new(),
            generation: 0,
            remembered: AHashMap::new(),
            most_remembered: most_remembered.max(1),
            found: Vec::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.trie.len()
    }

    /// Adds a subscription or replaces its options.
    pub(super) fn set(&mut self, filter: &TopicFilter, slot: usize, options: u8) {
        self.generation += 1;
        match self.trie.get_mut(filter).iter_mut().find(|subscription| subscription.slot == slot) {
            Some(subscription) => subscription.options = options,
            None => self.trie.insert(filter, Subscription { slot, options }),
        }
    }

    pub(super) fn remove(&mut self, filter: &TopicFilter, slot: usize) {
        self.generation += 1;
        self.trie.remove(filter, |subscription| subscription.slot == slot);
    }

    /// The subscribers of a topic, each once.
    pub(super) fn targets(&mut self, topic: &str) -> &[Target] {
        if self.trie.is_empty() {
            return &[];
        }
        let fresh = self.remembered.get(topic).is_some_and(|(generation, _)| *generation == self.generation);
        if !fresh {
            if self.remembered.len() >= self.most_remembered {
                self.remembered.clear();
            }
            let targets = self.look_up(topic);
            self.remembered.insert(Box::from(topic), (self.generation, targets));
        }
        self.remembered.get(topic).map_or(&[], |(_, targets)| targets)
    }

    fn look_up(&mut self, topic: &str) -> Box<[Target]> {
        let Self { trie, found, .. } = self;
        found.clear();
        trie.visit(topic, |subscription| found.push(*subscription));
        found.sort_unstable_by_key(|subscription| subscription.slot);
        let merged = found.chunk_by(|a, b| a.slot == b.slot).filter_map(|same| {
            let qos = |own: bool| {
                let counted = same.iter().filter(|s| !own || s.options & options::NO_LOCAL == 0);
                counted.map(|s| s.options & options::QOS).max()
            };
            Some(Target {
                slot: same.first()?.slot,
                qos: qos(false)?,
                own_qos: qos(true),
                keep_retain: same.iter().any(|s| s.options & options::KEEP_RETAIN != 0),
            })
        });
        merged.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(text: &str) -> TopicFilter {
        TopicFilter::new(text).unwrap()
    }

    #[test]
    fn overlapping_subscriptions_give_one_target_with_the_highest_qos() {
        let mut all = Subscriptions::new(8);
        all.set(&filter("a/#"), 1, 0);
        all.set(&filter("a/+"), 1, 1 | options::NO_LOCAL);
        all.set(&filter("#"), 2, options::KEEP_RETAIN);
        let one = Target { slot: 1, qos: 1, own_qos: Some(0), keep_retain: false };
        let two = Target { slot: 2, qos: 0, own_qos: Some(0), keep_retain: true };
        assert_eq!(all.targets("a/b"), [one, two]);
        all.remove(&filter("a/#"), 1);
        assert_eq!(all.targets("a/b"), [Target { own_qos: None, ..one }, two], "a change is seen at once");
        all.set(&filter("a/+"), 1, 0);
        assert_eq!((all.targets("a/b")[0].qos, all.len()), (0, 2), "subscribing again replaces");
        assert_eq!(all.targets("$SYS/x"), []);
    }

    #[test]
    fn a_million_topics_are_not_remembered() {
        let mut all = Subscriptions::new(1000);
        all.set(&filter("t/+"), 0, 0);
        for at in 0..10_000 {
            assert_eq!(all.targets(&format!("t/{at}")).len(), 1);
            assert!(all.remembered.len() <= 1000);
        }
    }
}
