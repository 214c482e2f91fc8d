//! From timers that went off to rows.

use std::sync::Arc;

use hedgerow_sql::program::Rows;

use super::signals::Kept;
use super::timers::Fired;
use crate::rows::{ActiveRule, Origins, RowBatch};

/// Rows handed on at once: a power cut may silence a million devices in one second.
const BATCH_ROWS: usize = 8_192;

/// The rows of timers of one rule, in their order.
///
/// A row's position is its deadline, with the offset of the record that armed it: so its id names both, and no two rows
/// of one rule have the same.
pub fn emit(rule: &Arc<ActiveRule>, fired: &[Fired], out: &mut Vec<RowBatch>) {
    for fired in fired.chunks(BATCH_ROWS) {
        batch(rule, fired, out);
    }
}

fn batch(rule: &Arc<ActiveRule>, fired: &[Fired], out: &mut Vec<RowBatch>) {
    let mut origins = Origins { timer: true, ..Origins::default() };
    let mut stored = Vec::with_capacity(fired.len());
    for timer in fired {
        let Some(kept) = Kept::read(&timer.record) else {
            unreadable(rule, 1);
            continue;
        };
        origins.epoch.push(timer.due.0);
        origins.offset.push(timer.due.1);
        origins.time_ms.push((timer.due.0 / 1_000).cast_signed());
        origins.topic.push(kept.topic);
        origins.client_id.push(kept.client_id);
        origins.hops.push(kept.hops);
        stored.push(kept.row);
    }
    let Ok(parts) = Rows::restore(&stored, rule.rule.dialect) else {
        unreadable(rule, stored.len() as u64);
        return;
    };
    rule.stats.notices.add(stored.len() as u64);
    let origins = Arc::new(origins);
    for rows in parts {
        out.extend(RowBatch::of_all_actions(rule, rows, &origins));
    }
}

/// Rows come from this process or from a checkpoint with a checksum, so this does not happen; if it does, it is said.
pub(super) fn unreadable(rule: &ActiveRule, rows: u64) {
    rule.stats.fail(rows, "a row that waited for its deadline cannot be read any more; please report this");
}
