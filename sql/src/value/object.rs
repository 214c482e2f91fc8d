//! The members of a JSON object.

use std::collections::HashMap;
use std::sync::Arc;

use super::Value;

/// Objects with more members than this are looked up by hash; smaller ones by looking at each name.
const INDEXED: usize = 16;

/// The members of a JSON object in order. Names are unique, values are never Undefined.
#[derive(Clone, Debug, Default)]
pub struct Object {
    members: Vec<(Arc<str>, Value)>,
    /// Position by name, once there are more than a few.
    index: Option<HashMap<Arc<str>, usize, ahash::RandomState>>,
}

impl Object {
    /// Without members.
    pub fn new() -> Object {
        Object::default()
    }

    /// How many members.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// True without members.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The member of that name.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.position(name).and_then(|at| self.members.get(at)).map(|(_, value)| value)
    }

    /// Sets a member. A new one goes to the end, one that exists keeps its place; Undefined removes it.
    pub fn insert(&mut self, name: Arc<str>, value: Value) {
        match (self.position(&name), value) {
            (Some(at), Value::Undefined) => {
                self.members.remove(at);
                self.index = None;
                self.reindex();
            }
            (None, Value::Undefined) => {}
            (Some(at), value) => {
                if let Some(member) = self.members.get_mut(at) {
                    member.1 = value;
                }
            }
            (None, value) => {
                if let Some(index) = &mut self.index {
                    index.insert(Arc::clone(&name), self.members.len());
                }
                self.members.push((name, value));
                self.reindex();
            }
        }
    }

    /// The members in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&Arc<str>, &Value)> {
        self.members.iter().map(|(name, value)| (name, value))
    }

    /// The member of that name, to change it. The caller leaves no Undefined behind.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut Value> {
        let at = self.position(name)?;
        self.members.get_mut(at).map(|(_, value)| value)
    }

    fn position(&self, name: &str) -> Option<usize> {
        match &self.index {
            Some(index) => index.get(name).copied(),
            None => self.members.iter().position(|(member, _)| **member == *name),
        }
    }

    fn reindex(&mut self) {
        if self.index.is_none() && self.members.len() > INDEXED {
            let names = self.members.iter().enumerate().map(|(at, (name, _))| (Arc::clone(name), at));
            self.index = Some(names.collect());
        }
    }
}

impl PartialEq for Object {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().all(|(name, value)| other.get(name) == Some(value))
    }
}

impl FromIterator<(Arc<str>, Value)> for Object {
    /// The last of duplicates wins, at the place of the first.
    fn from_iter<T: IntoIterator<Item = (Arc<str>, Value)>>(members: T) -> Self {
        let mut object = Object::new();
        for (name, value) in members {
            object.insert(name, value);
        }
        object
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_objects_behave_like_small_ones() {
        for count in [3, 40] {
            let mut object: Object = (0..count).map(|at| (format!("m{at}").into(), Value::from(at))).collect();
            object.insert("m1".into(), Value::from(-1));
            object.insert("m0".into(), Value::Undefined);
            object.insert("last".into(), Value::Null);
            assert_eq!(object.get("m1"), Some(&Value::Int(-1)));
            assert_eq!(object.get("m0"), None);
            assert_eq!(object.iter().next().map(|(name, _)| &**name), Some("m1"));
            assert_eq!(object.iter().last().map(|(name, _)| &**name), Some("last"));
            assert_eq!(object.len() as i64, count);
        }
    }
}
