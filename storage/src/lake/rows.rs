//! Rows on their way into a lake: the envelope of each record and its members as columns.

use std::sync::Arc;

use arrow::array::{Array, BinaryArray, BooleanArray, Decimal128Array, Int64Array, StringArray};

/// One value of a column whose kinds differ from row to row.
#[derive(Clone, Debug, PartialEq)]
pub enum JsonScalar {
    /// No such member in this row.
    Missing,
    /// JSON `null`.
    Null,
    /// JSON `true` or `false`.
    Bool(bool),
    /// A whole number of the rule's own making (`timestamp()`): BIGINT.
    Int(i64),
    /// A JSON number as written.
    Number(Arc<str>),
    /// Text.
    Text(Arc<str>),
    /// An array or object as its JSON text.
    Json(Arc<str>),
}

/// The values of one member, one per row. Null entries are rows without a value.
#[derive(Clone, Debug)]
pub enum LakeColumn {
    /// JSON numbers at the array's scale.
    Number(Decimal128Array),
    /// Whole numbers whose type is known before any value is: BIGINT.
    BigInt(Int64Array),
    /// Text.
    Text(StringArray),
    /// Booleans.
    Boolean(BooleanArray),
    /// Arrays and objects as their JSON text.
    Json(StringArray),
    /// Kinds differ from row to row, or numbers exceed 38 digits.
    Mixed(Arc<Vec<JsonScalar>>),
}

impl LakeColumn {
    /// Number of rows.
    pub fn len(&self) -> usize {
        match self {
            Self::Number(a) => a.len(),
            Self::BigInt(a) => a.len(),
            Self::Text(a) | Self::Json(a) => a.len(),
            Self::Boolean(a) => a.len(),
            Self::Mixed(v) => v.len(),
        }
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn slice(&self, from: usize, n: usize) -> Self {
        match self {
            Self::Number(a) => Self::Number(a.slice(from, n)),
            Self::BigInt(a) => Self::BigInt(a.slice(from, n)),
            Self::Text(a) => Self::Text(a.slice(from, n)),
            Self::Boolean(a) => Self::Boolean(a.slice(from, n)),
            Self::Json(a) => Self::Json(a.slice(from, n)),
            Self::Mixed(v) => Self::Mixed(Arc::new(v.iter().skip(from).take(n).cloned().collect())),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Number(a) => used_bytes(a),
            Self::BigInt(a) => used_bytes(a),
            Self::Text(a) | Self::Json(a) => used_bytes(a),
            Self::Boolean(a) => used_bytes(a),
            Self::Mixed(v) => v.iter().map(scalar_bytes).sum(),
        }
    }
}

/// The bytes an array uses of its buffers, which it may share with others.
pub(super) fn used_bytes(array: &dyn Array) -> usize {
    array.to_data().get_slice_memory_size().unwrap_or_else(|_| array.get_buffer_memory_size())
}

fn scalar_bytes(value: &JsonScalar) -> usize {
    32 + match value {
        JsonScalar::Number(t) | JsonScalar::Text(t) | JsonScalar::Json(t) => t.len(),
        _ => 0,
    }
}

/// Rows of one step for one lake, in (epoch, offset) order. All parts have the same number of rows.
#[derive(Clone, Debug)]
pub struct LakeRows {
    /// Epoch of the record of each row.
    pub epoch_of: Vec<u64>,
    /// Offset of the record of each row.
    pub offset: Vec<u64>,
    /// Time of receipt, milliseconds since 1970.
    pub time_ms: Vec<i64>,
    /// Topic.
    pub topic: StringArray,
    /// Client id, null where no client sent the record.
    pub client_id: StringArray,
    /// Payload bytes of rows that are not JSON.
    pub raw: Option<BinaryArray>,
    /// The members, by name. A name occurs once.
    pub columns: Vec<(Arc<str>, LakeColumn)>,
}

impl LakeRows {
    /// Number of rows.
    pub fn len(&self) -> usize {
        self.offset.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.offset.is_empty()
    }

    /// The rows of epochs after `epoch`; rows are in order, so they are the last ones.
    pub(super) fn after(&self, epoch: u64) -> Self {
        let from = self.epoch_of.partition_point(|e| *e <= epoch);
        let n = self.len() - from;
        let columns = self.columns.iter().map(|(name, column)| (name.clone(), column.slice(from, n)));
        Self {
            epoch_of: self.epoch_of.iter().skip(from).copied().collect(),
            offset: self.offset.iter().skip(from).copied().collect(),
            time_ms: self.time_ms.iter().skip(from).copied().collect(),
            topic: self.topic.slice(from, n),
            client_id: self.client_id.slice(from, n),
            raw: self.raw.as_ref().map(|raw| raw.slice(from, n)),
            columns: columns.collect(),
        }
    }

    /// Whether all parts have the same number of rows.
    pub(super) fn is_even(&self) -> bool {
        let n = self.len();
        self.epoch_of.len() == n
            && self.time_ms.len() == n
            && self.topic.len() == n
            && self.client_id.len() == n
            && self.raw.as_ref().is_none_or(|raw| raw.len() == n)
            && self.columns.iter().all(|(_, column)| column.len() == n)
    }

    /// Roughly the memory the rows hold.
    pub fn bytes(&self) -> usize {
        let raw = self.raw.as_ref().map_or(0, |raw| used_bytes(raw));
        let members: usize = self.columns.iter().map(|(_, column)| column.bytes()).sum();
        24 * self.len() + used_bytes(&self.topic) + used_bytes(&self.client_id) + raw + members
    }
}
