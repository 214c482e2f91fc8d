//! Who gets a message: the trie of all subscriptions, and what it said about topics seen before.
//!
//! A client with several matching subscriptions gets a message once, with the highest QoS among them and all their
//! identifiers. Of the members of a shared subscription (`$share/<name>/<filter>`), one gets it.

use std::sync::Arc;

use ahash::AHashMap;
use hedgerow_sql::topic::{FilterTrie, TopicError, TopicFilter};

use super::message::Route;

/// Subscription options as in MQTT 5 §3.8.3.1.
pub(super) mod options {
    pub(in super::super) const QOS: u8 = 3;
    pub(in super::super) const NO_LOCAL: u8 = 4;
    pub(in super::super) const KEEP_RETAIN: u8 = 8;
    /// Retained messages: 0 always, 1 if the subscription is new, 2 never.
    pub(in super::super) const RETAIN_HANDLING: u8 = 0x30;
}

/// What a client writes in a SUBSCRIBE, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Path {
    /// As written.
    pub text: Arc<str>,
    /// Without `$share/<name>/`.
    pub filter: TopicFilter,
    pub shared: bool,
}

impl Path {
    pub(super) fn parse(text: &str) -> Result<Self, TopicError> {
        let whole = TopicFilter::new(text)?;
        if text != "$share" && !text.starts_with("$share/") {
            return Ok(Self { text: Arc::clone(whole.text()), filter: whole, shared: false });
        }
        // A name has a character at least and no wildcard (§4.8.2), and something follows it.
        let (name, filter) =
            text.strip_prefix("$share/").and_then(|rest| rest.split_once('/')).ok_or(TopicError::Empty)?;
        if name.is_empty() {
            return Err(TopicError::Empty);
        }
        if let Some(at) = name.find(['+', '#']) {
            return Err(TopicError::Wildcard { at });
        }
        Ok(Self { text: Arc::clone(whole.text()), filter: TopicFilter::new(filter)?, shared: true })
    }
}

/// How one subscriber gets a message of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Grant {
    /// Highest QoS granted.
    pub qos: u8,
    pub route: Option<Arc<Route>>,
}

/// One subscriber of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// Where the delivery thread keeps the session.
    pub slot: usize,
    pub grant: Grant,
    /// The same among subscriptions that take the client's own messages too; `None` if there is none.
    pub own: Option<Grant>,
    /// The retain flag is passed on.
    pub keep_retain: bool,
}

/// Everyone a topic goes to.
#[derive(Debug, Default)]
pub(super) struct Targets {
    pub each: Box<[Target]>,
    /// One member of each of these.
    pub groups: Box<[usize]>,
}

#[derive(Clone, Copy, Debug)]
enum Subscription {
    One { slot: usize, options: u8, identifier: u32 },
    Group(usize),
}

/// A shared subscription.
#[derive(Debug)]
struct Group {
    path: Path,
    members: Vec<Member>,
    /// Whose turn it is.
    next: usize,
}

#[derive(Clone, Debug)]
pub(super) struct Member {
    pub slot: usize,
    pub grant: Grant,
    pub keep_retain: bool,
}

/// How well a member of a group can take a message; the lower, the better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Readiness {
    Ready,
    /// Connected, and behind.
    Busy,
    /// Not connected, but it will get what is kept for it.
    Asleep,
}

/// The groups of shared subscriptions.
#[derive(Debug, Default)]
pub(super) struct Groups {
    all: Vec<Option<Group>>,
    free: Vec<usize>,
    by_path: AHashMap<Arc<str>, usize>,
}

impl Groups {
    /// The member whose turn it is among those that are best off.
    pub(super) fn choose(&mut self, group: usize, readiness: impl Fn(usize) -> Readiness) -> Option<&Member> {
        let group = self.all.get_mut(group)?.as_mut()?;
        let count = group.members.len();
        let mut best: Option<(Readiness, usize)> = None;
        for at in (0..count).map(|step| (group.next + step) % count) {
            let found = readiness(group.members.get(at)?.slot);
            if best.is_none_or(|(readiness, _)| found < readiness) {
                best = Some((found, at));
            }
            if found == Readiness::Ready {
                break;
            }
        }
        let (_, at) = best?;
        group.next = (at + 1) % count;
        group.members.get(at)
    }

    pub(super) fn by_path(&self, path: &str) -> Option<usize> {
        self.by_path.get(path).copied()
    }

    fn join(&mut self, path: &Path, member: Member) -> Option<usize> {
        let known = self.by_path(&path.text);
        let at = known.unwrap_or_else(|| {
            let group = Some(Group { path: path.clone(), members: Vec::new(), next: 0 });
            let at = self.free.pop().unwrap_or(self.all.len());
            match self.all.get_mut(at) {
                Some(place) => *place = group,
                None => self.all.push(group),
            }
            self.by_path.insert(Arc::clone(&path.text), at);
            at
        });
        let group = self.all.get_mut(at)?.as_mut()?;
        match group.members.iter_mut().find(|old| old.slot == member.slot) {
            Some(old) => *old = member,
            None => group.members.push(member),
        }
        known.is_none().then_some(at)
    }

    /// The group's number if nobody is left in it.
    fn leave(&mut self, path: &str, slot: usize) -> Option<(usize, Path)> {
        let at = self.by_path(path)?;
        let group = self.all.get_mut(at)?.as_mut()?;
        group.members.retain(|member| member.slot != slot);
        if !group.members.is_empty() {
            group.next %= group.members.len();
            return None;
        }
        self.by_path.remove(path);
        self.free.push(at);
        let group = self.all.get_mut(at)?.take()?;
        Some((at, group.path))
    }

    fn members(&self) -> usize {
        self.all.iter().flatten().map(|group| group.members.len()).sum()
    }
}

/// All subscriptions.
#[derive(Debug)]
pub(super) struct Subscriptions {
    trie: FilterTrie<Subscription>,
    groups: Groups,
    /// Goes up with every change: what was remembered under an older number is looked up anew.
    generation: u64,
    remembered: AHashMap<Box<str>, (u64, Targets)>,
    most_remembered: usize,
    found: Vec<(usize, u8, u32)>,
}

impl Subscriptions {
    /// Remembers at most `most_remembered` topics.
    pub(super) fn new(most_remembered: usize) -> Self {
        Self {
            trie: FilterTrie::new(),
            groups: Groups::default(),
            generation: 0,
            remembered: AHashMap::new(),
            most_remembered: most_remembered.max(1),
            found: Vec::new(),
        }
    }

    /// How many there are; each member of a group has its own.
    pub(super) fn len(&self) -> usize {
        self.trie.len() - self.groups.by_path.len() + self.groups.members()
    }

    /// Adds a subscription or replaces its options.
    pub(super) fn set(&mut self, path: &Path, slot: usize, options: u8, identifier: u32) {
        self.generation += 1;
        if path.shared {
            let identifiers: Box<[u32]> = if identifier > 0 { [identifier].into() } else { Box::default() };
            let route = Some(Arc::new(Route { identifiers, share: Some(Arc::clone(&path.text)) }));
            let grant = Grant { qos: options & options::QOS, route };
            let member = Member { slot, grant, keep_retain: options & options::KEEP_RETAIN != 0 };
            if let Some(new) = self.groups.join(path, member) {
                self.trie.insert(&path.filter, Subscription::Group(new));
            }
            return;
        }
        let new = Subscription::One { slot, options, identifier };
        let of_slot = |old: &&mut Subscription| matches!(old, Subscription::One { slot: at, .. } if *at == slot);
        match self.trie.get_mut(&path.filter).iter_mut().find(of_slot) {
            Some(old) => *old = new,
            None => self.trie.insert(&path.filter, new),
        }
    }

    pub(super) fn remove(&mut self, path: &Path, slot: usize) {
        self.generation += 1;
        if path.shared {
            if let Some((empty, path)) = self.groups.leave(&path.text, slot) {
                self.trie.remove(&path.filter, |old| matches!(old, Subscription::Group(at) if *at == empty));
            }
            return;
        }
        self.trie.remove(&path.filter, |old| matches!(old, Subscription::One { slot: at, .. } if *at == slot));
    }

    /// The subscribers of a topic, each once, and the groups to choose members from.
    pub(super) fn targets(&mut self, topic: &str) -> Option<(&Targets, &mut Groups)> {
        if self.trie.is_empty() {
            return None;
        }
        let fresh = self.remembered.get(topic).is_some_and(|(generation, _)| *generation == self.generation);
        if !fresh {
            if self.remembered.len() >= self.most_remembered {
                self.remembered.clear();
            }
            let targets = self.look_up(topic);
            self.remembered.insert(Box::from(topic), (self.generation, targets));
        }
        let Self { remembered, groups, .. } = self;
        remembered.get(topic).map(|(_, targets)| (targets, groups))
    }

    pub(super) fn groups(&mut self) -> &mut Groups {
        &mut self.groups
    }

    fn look_up(&mut self, topic: &str) -> Targets {
        let Self { trie, found, .. } = self;
        found.clear();
        let mut groups = Vec::new();
        trie.visit(topic, |subscription| match *subscription {
            Subscription::One { slot, options, identifier } => found.push((slot, options, identifier)),
            Subscription::Group(at) => groups.push(at),
        });
        found.sort_unstable();
        let each = found.chunk_by(|a, b| a.0 == b.0).filter_map(|same| {
            Some(Target {
                slot: same.first()?.0,
                grant: merged(same.iter())?,
                own: merged(same.iter().filter(|(_, options, _)| options & options::NO_LOCAL == 0)),
                keep_retain: same.iter().any(|(_, options, _)| options & options::KEEP_RETAIN != 0),
            })
        });
        Targets { each: each.collect(), groups: groups.into() }
    }
}

/// Several subscriptions of one session as one.
fn merged<'a>(same: impl Iterator<Item = &'a (usize, u8, u32)> + Clone) -> Option<Grant> {
    let qos = same.clone().map(|(_, options, _)| options & options::QOS).max()?;
    let identifiers: Box<[u32]> = same.map(|(.., identifier)| *identifier).filter(|id| *id > 0).collect();
    let route = (!identifiers.is_empty()).then(|| Arc::new(Route { identifiers, share: None }));
    Some(Grant { qos, route })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Path {
        Path::parse(text).unwrap()
    }

    fn each(all: &mut Subscriptions, topic: &str) -> Vec<Target> {
        all.targets(topic).map(|(targets, _)| targets.each.to_vec()).unwrap_or_default()
    }

    fn grant(qos: u8, identifiers: &[u32]) -> Grant {
        let route = Route { identifiers: identifiers.into(), share: None };
        Grant { qos, route: (!identifiers.is_empty()).then(|| Arc::new(route)) }
    }

    #[test]
    fn overlapping_subscriptions_give_one_target_with_the_highest_qos_and_all_identifiers() {
        let mut all = Subscriptions::new(8);
        all.set(&path("a/#"), 1, 0, 0);
        all.set(&path("a/+"), 1, 2 | options::NO_LOCAL, 7);
        all.set(&path("#"), 2, options::KEEP_RETAIN, 300);
        let one = Target { slot: 1, grant: grant(2, &[7]), own: Some(grant(0, &[])), keep_retain: false };
        let two = Target { slot: 2, grant: grant(0, &[300]), own: Some(grant(0, &[300])), keep_retain: true };
        assert_eq!(each(&mut all, "a/b"), [one.clone(), two.clone()]);
        all.remove(&path("a/#"), 1);
        assert_eq!(each(&mut all, "a/b"), [Target { own: None, ..one }, two], "a change is seen at once");
        all.set(&path("a/+"), 1, 0, 0);
        assert_eq!((each(&mut all, "a/b")[0].grant.qos, all.len()), (0, 2), "subscribing again replaces");
        assert_eq!(each(&mut all, "$SYS/x"), []);
    }

    #[test]
    fn a_million_topics_are_not_remembered() {
        let mut all = Subscriptions::new(1000);
        all.set(&path("t/+"), 0, 0, 0);
        for at in 0..10_000 {
            assert_eq!(each(&mut all, &format!("t/{at}")).len(), 1);
            assert!(all.remembered.len() <= 1000);
        }
    }

    #[test]
    fn shared_paths_are_taken_apart() {
        let shared = path("$share/g/a/+");
        assert_eq!((shared.shared, shared.filter.as_str(), &*shared.text), (true, "a/+", "$share/g/a/+"));
        assert!(!path("$shared/g/a").shared);
        for bad in ["$share", "$share/", "$share/g", "$share//a", "$share/+/a", "$share/#", "$share/g/", "$share/g/a#"]
        {
            assert!(Path::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn members_take_turns_and_the_sleeping_come_last() {
        let mut all = Subscriptions::new(8);
        for slot in 0..3 {
            all.set(&path("$share/g/a/+"), slot, 1, 0);
        }
        all.set(&path("$share/h/a/+"), 3, 1, 9);
        all.set(&path("a/b"), 4, 0, 0);
        assert_eq!(all.len(), 5);
        let chosen = |all: &mut Subscriptions, readiness: &dyn Fn(usize) -> Readiness| -> Vec<usize> {
            let (targets, groups) = all.targets("a/b").unwrap();
            assert_eq!(targets.each.len(), 1);
            let chosen = targets.groups.iter().filter_map(|group| groups.choose(*group, readiness).map(|m| m.slot));
            let mut chosen: Vec<_> = chosen.collect();
            chosen.sort_unstable();
            chosen
        };
        let mut turns: Vec<_> = (0..6).map(|_| chosen(&mut all, &|_| Readiness::Ready)[0]).collect();
        turns.sort_unstable();
        assert_eq!(turns, [0, 0, 1, 1, 2, 2], "fair");
        let busy = |slot| if slot == 1 { Readiness::Busy } else { Readiness::Asleep };
        assert_eq!([chosen(&mut all, &busy), chosen(&mut all, &busy)], [[1, 3], [1, 3]]);
        assert!(all.groups().by_path("$share/g/a/+").is_some());
        (0..4).for_each(|slot| all.remove(&path("$share/g/a/+"), slot));
        assert_eq!(chosen(&mut all, &|_| Readiness::Ready), [3]);
        all.remove(&path("$share/h/a/+"), 3);
        all.remove(&path("a/b"), 4);
        assert_eq!((all.len(), all.targets("a/b").is_none()), (0, true));
    }
}
