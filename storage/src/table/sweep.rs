//! Removing rows whose time has passed. Readers do not see them anyway: this gives back their space.

use std::ops::Bound;
use std::sync::{Arc, Mutex, PoisonError};

use super::error::StoreError;
use super::keyspace::Batch;
use super::row::Head;
use super::tables::Tables;

/// What one call of `Tables::sweep` did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Rows looked at.
    pub visited: usize,
    /// Rows removed.
    pub removed: usize,
    /// The last table's end was reached: the next call begins anew.
    pub complete: bool,
}

/// Where the next call goes on: behind this key of this table.
#[derive(Debug, Default)]
pub(super) struct Cursor(Mutex<Option<(Arc<str>, Vec<u8>)>>);

impl Tables {
    /// Looks at no more than `limit` rows of tables with a time to live, and removes those that are gone at `now_ms`.
    /// Call after call goes round all of them. Keeps writers out for as long as `limit` rows take.
    pub fn sweep(&self, now_ms: i64, limit: usize) -> Result<Swept, StoreError> {
        let mut cursor = self.cursor().0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut swept = Swept::default();
        let mut position = cursor.take();
        // Cloned handles: a table dropped meanwhile is swept once more without harm.
        let tables: Vec<_> = self.expiring();
        let mut writer = self.store().lock();
        let view = self.store().snapshot();
        let mut batch = Batch::new();
        for (name, keyspace, keeps_history) in tables {
            // A replay may still look rows up as of the floor.
            let now_ms = if keeps_history { now_ms.min(self.history().floor_ms()) } else { now_ms };
            let from = match &position {
                Some((at, _)) if *name < **at => continue,
                Some((at, key)) if *at == name => Bound::Excluded(&**key),
                _ => Bound::Unbounded,
            };
            for entry in view.range(&keyspace, from, Bound::Unbounded) {
                if swept.visited == limit {
                    self.store().commit_locked(&mut writer, batch)?;
                    *cursor = position;
                    return Ok(swept);
                }
                let (key, stored) = entry?;
                swept.visited += 1;
                if Head::decode(&stored).is_some_and(|head| head.has_expired(now_ms)) {
                    batch.delete(&keyspace, key.clone());
                    swept.removed += 1;
                }
                position = Some((name.clone(), key.to_vec()));
            }
        }
        self.store().commit_locked(&mut writer, batch)?;
        swept.complete = true;
        Ok(swept)
    }
}
