//! The stored form of a row, and the rows handed out.
//!
//! The value of a row, format 1: one byte of flags (bit 0: the row expires); the log time it was written at and, if it
//! expires, the log time from which it is gone, each in ms as i64 with the least significant byte first; then the JSON
//! text. The deadline is stored because a later change of the table's time to live must not bring back rows.

use fjall::Slice;

use super::key::{Key, MAX_KEY_BYTES};

/// The format of keys and values that this version writes.
pub(super) const ROW_FORMAT: u32 = 1;

const EXPIRES: u8 = 1;

/// A row of a table.
#[derive(Clone, Debug)]
pub struct Row {
    /// Hash key.
    pub hash: Key,
    /// Range key, if the table has one.
    pub range: Option<Key>,
    /// Log time of the write, in ms.
    pub written_ms: i64,
    stored: Slice,
    text_at: usize,
}

impl Row {
    /// The JSON text as it was written.
    pub fn value(&self) -> &[u8] {
        self.stored.get(self.text_at..).unwrap_or_default()
    }

    pub(super) fn new(hash: Key, range: Option<Key>, head: Head, stored: Slice) -> Self {
        Self { hash, range, written_ms: head.written_ms, stored, text_at: head.text_at }
    }
}

/// Why a row was not written. The other rows of its batch were.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    /// No such table.
    #[error("there is no table '{0}'")]
    UnknownTable(String),
    /// The row lacks a part of the key.
    #[error("the row has no value for '{column}', the range key of table '{table}'")]
    RangeMissing {
        /// The table.
        table: String,
        /// Its range key column.
        column: String,
    },
    /// The row has a range key, the table has not.
    #[error("table '{table}' has no range key")]
    RangeUnexpected {
        /// The table.
        table: String,
    },
    /// Hash and range key are too long.
    #[error("the key takes {bytes} bytes, and {MAX_KEY_BYTES} is the most: shorten the key columns")]
    KeyTooLong {
        /// Their stored length.
        bytes: usize,
    },
    /// The row is too large.
    #[error("the row takes {bytes} bytes, and {most} is the most: select fewer members, or raise `max_row_bytes`")]
    RowTooLarge {
        /// Its length.
        bytes: usize,
        /// The limit.
        most: usize,
    },
}

/// What stands before the text of a stored value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) written_ms: i64,
    pub(super) expires_ms: Option<i64>,
    pub(super) text_at: usize,
}

impl Head {
    pub(super) fn decode(stored: &[u8]) -> Option<Self> {
        let (&flags, rest) = stored.split_first()?;
        let (written, rest) = rest.split_first_chunk()?;
        let written_ms = i64::from_le_bytes(*written);
        match flags {
            0 => Some(Self { written_ms, expires_ms: None, text_at: 9 }),
            EXPIRES => {
                let (expires, _) = rest.split_first_chunk()?;
                Some(Self { written_ms, expires_ms: Some(i64::from_le_bytes(*expires)), text_at: 17 })
            }
            _ => None,
        }
    }

    pub(super) fn has_expired(&self, now_ms: i64) -> bool {
        self.expires_ms.is_some_and(|expires| expires <= now_ms)
    }
}

pub(super) fn encode(written_ms: i64, ttl_ms: Option<u64>, text: &[u8]) -> Vec<u8> {
    let mut stored = Vec::with_capacity(17 + text.len());
    stored.push(if ttl_ms.is_some() { EXPIRES } else { 0 });
    stored.extend(written_ms.to_le_bytes());
    if let Some(ttl) = ttl_ms {
        stored.extend(written_ms.saturating_add_unsigned(ttl).to_le_bytes());
    }
    stored.extend(text);
    stored
}
