//! From a key to its slot: open addressing with linear probing, 8 bytes a place.
//!
//! A `HashMap` would keep the key a second time, or a box of it, beside every entry; here the slot has the key, and the
//! index only its number and 32 bits of the hash. It does not know keys: the caller compares them.

/// The index.
#[derive(Debug, Default)]
pub struct Index {
    /// Hash in the upper half, slot + 1 in the lower; 0 is free. The length is a power of two.
    places: Vec<u64>,
    used: usize,
}

/// Where a slot stands in the index.
#[derive(Clone, Copy, Debug)]
pub struct Place(usize);

impl Index {
    /// Finds the slot with that hash for which `is` holds.
    pub fn find(&self, hash: u32, mut is: impl FnMut(u32) -> bool) -> Option<(Place, u32)> {
        let mask = self.places.len().checked_sub(1)?;
        let mut at = hash as usize & mask;
        loop {
            let place = *self.places.get(at)?;
            let slot = (place as u32).checked_sub(1)?;
            if (place >> 32) as u32 == hash && is(slot) {
                return Some((Place(at), slot));
            }
            at = (at + 1) & mask;
        }
    }

    /// Adds a slot that is not in it.
    pub fn insert(&mut self, hash: u32, slot: u32) {
        if (self.used + 1) * 8 > self.places.len() * 7 {
            self.grow();
        }
        self.put(u64::from(hash) << 32 | u64::from(slot + 1));
        self.used += 1;
    }

    fn put(&mut self, entry: u64) {
        let mask = self.places.len().saturating_sub(1);
        let mut at = (entry >> 32) as usize & mask;
        while let Some(place) = self.places.get_mut(at) {
            if *place == 0 {
                *place = entry;
                return;
            }
            at = (at + 1) & mask;
        }
    }

    fn grow(&mut self) {
        let old = std::mem::take(&mut self.places);
        self.places = vec![0; (old.len() * 2).max(16)];
        old.into_iter().filter(|entry| *entry != 0).for_each(|entry| self.put(entry));
    }

    /// Removes what stands there: what follows without a gap moves up, so that no probe meets a hole.
    pub fn remove(&mut self, Place(mut hole): Place) {
        let mask = self.places.len().saturating_sub(1);
        let mut at = hole;
        self.used -= 1;
        loop {
            at = (at + 1) & mask;
            let entry = self.places.get(at).copied().unwrap_or_default();
            if entry == 0 {
                break;
            }
            let wanted = (entry >> 32) as usize & mask;
            // It may move into the hole if its probe passes there: the hole is not before its wanted place.
            if at.wrapping_sub(wanted) & mask >= at.wrapping_sub(hole) & mask {
                self.set(hole, entry);
                hole = at;
            }
        }
        self.set(hole, 0);
    }

    fn set(&mut self, at: usize, entry: u64) {
        if let Some(place) = self.places.get_mut(at) {
            *place = entry;
        }
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        self.places.capacity() * size_of::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_map(steps in proptest::collection::vec((any::<bool>(), 0_u32..40, 0_u32..6), 0..400)) {
            let mut index = Index::default();
            let mut model: HashMap<u32, u32> = HashMap::new();
            for (insert, slot, spread) in steps {
                // Few hashes, so that keys collide and chains wrap around the end.
                let hash = if spread == 0 { u32::MAX } else { slot % 7 + 13 };
                let hash = *model.get(&slot).unwrap_or(&hash);
                let found = index.find(hash, |other| other == slot);
                prop_assert_eq!(found.is_some(), model.contains_key(&slot));
                match (insert, found) {
                    (true, None) => {
                        index.insert(hash, slot);
                        model.insert(slot, hash);
                    }
                    (false, Some((place, _))) => {
                        index.remove(place);
                        model.remove(&slot);
                    }
                    _ => {}
                }
                for (slot, hash) in &model {
                    prop_assert!(index.find(*hash, |other| other == *slot).is_some());
                }
            }
        }
    }
}
