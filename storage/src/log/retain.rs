//! Dropping whole segments that nobody needs and that are beyond what is to be kept.

use super::config::add;
use super::segment;
use super::shared::{Shared, lock};
use super::{Epoch, OpenError, recover};

impl Shared {
    /// Drops the oldest segments while all their commits are at or below `below`, and the log is larger than
    /// `keep_bytes` or their last commit older than `keep_age`. Says how many went.
    pub(super) fn retain(&self, below: Epoch) -> Result<usize, OpenError> {
        let now_us = self.log_time_us();
        let keep_us = u64::try_from(self.config.keep_age.as_micros()).unwrap_or(u64::MAX);
        let mut dropped = Vec::new();
        let _removing = lock(&self.removing);
        // Readers are told first: one that comes later finds the segment gone, not missing.
        let mut view = lock(&self.view);
        let mut stored = view.stored_bytes();
        while let (Some(first), Some(second)) = (view.segments.front(), view.segments.get(1)) {
            let last_epoch = second.before.epoch;
            let too_old = now_us.saturating_sub(last_epoch.0) > keep_us;
            let too_large = stored > self.config.keep_bytes;
            if last_epoch > below || !(too_old || too_large) {
                break;
            }
            stored = stored.saturating_sub(first.stored_bytes(view.visible));
            dropped.extend(view.segments.pop_front());
        }
        drop(view);
        let dir = &self.config.dir;
        for segment in &dropped {
            let path = match segment.packed_bytes {
                Some(_) => segment::packed_path(dir, segment.base),
                None => segment::path(dir, segment.base),
            };
            self.disk.remove(&path).map_err(recover::io_error("remove", &path))?;
            // One at a time and in order, so that no crash leaves a hole between segments.
            self.disk.sync_dir(dir).map_err(recover::io_error("sync", dir))?;
            add(&self.metrics.segments_dropped, 1);
        }
        Ok(dropped.len())
    }
}
