//! Which tables there are: one entry each in the keyspace `catalogue`, under the table's name.
//!
//! An entry is a JSON object with the member `format`, 1 here; the others are those of `Entry`. `row_format` says how
//! keys and values of that table are written. The rows of table n are in the keyspace `t<n>`; a table
//! gets a new number when it is created again, so that no row of the dropped one can show up in it.

use serde::{Deserialize, Serialize};

use super::row::ROW_FORMAT;

pub(super) const KEYSPACE: &str = "catalogue";
const FORMAT: u32 = 1;

/// What a table is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableSpec {
    /// Its name, case and all.
    pub name: String,
    /// The hash key column.
    pub hash: String,
    /// The range key column, if there is one.
    pub range: Option<String>,
    /// How long after they were written rows are gone, in ms of log time.
    pub ttl_ms: Option<u64>,
    /// For the owner, kept as it is: the statement that made the table, its columns, whatever it needs.
    pub definition: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    format: u32,
    /// The number of its keyspace.
    pub(super) number: u64,
    /// Where in the log it was created.
    pub(super) created: u64,
    /// Where in the log it was last altered.
    pub(super) changed: u64,
    /// Whether it ever had a time to live: then there may be rows to sweep.
    pub(super) expires: bool,
    row_format: u32,
    pub(super) spec: TableSpec,
}

impl Entry {
    pub(super) fn new(number: u64, created: u64, spec: TableSpec) -> Self {
        let expires = spec.ttl_ms.is_some();
        Self { format: FORMAT, number, created, changed: created, expires, row_format: ROW_FORMAT, spec }
    }

    pub(super) fn keyspace(&self) -> String {
        format!("t{}", self.number)
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// The entry, or what is wrong with it.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Formats {
            format: u32,
            row_format: u32,
        }
        let formats: Formats = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if formats.format != FORMAT {
            return Err(format!("its catalogue entry has format {}", formats.format));
        }
        if formats.row_format != ROW_FORMAT {
            return Err(format!("its rows have format {}", formats.row_format));
        }
        serde_json::from_slice(bytes).map_err(|error| error.to_string())
    }
}
