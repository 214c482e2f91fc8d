//! Rows of tables as of an epoch: what `get_dynamodb` sees.
//!
//! A lookup at epoch E sees all writes of earlier epochs and none of E or later ones, also in a replay, where the tables
//! are ahead. Two things make it so. It waits until the tables have applied everything below E ([`Lookups::is_ready`]);
//! and tables that a rule looks up keep what their rows were before each write, back to the older checkpoint
//! ([`hedgerow_storage::table::Tables::get_as_of`]).

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use hedgerow_sql::ast::Dialect;
use hedgerow_sql::json;
use hedgerow_sql::program::Answer;
use hedgerow_sql::value::Value;
use hedgerow_storage::table::{Key, Tables};

use crate::rows::Lane;

/// How far the tables have come, lane by lane, and who waits for them to come further.
#[derive(Default)]
pub struct Applied {
    marks: [AtomicU64; 2],
    waiting: Mutex<Vec<Waiting>>,
}

struct Waiting {
    is: Arc<AtomicBool>,
    wake: Arc<dyn Fn() + Send + Sync>,
}

impl Applied {
    /// Everything up to `epoch` that came on this lane is applied.
    pub(crate) fn advance(&self, lane: Lane, epoch: u64) {
        self.of(lane).fetch_max(epoch, Ordering::SeqCst);
        let Ok(waiting) = self.waiting.lock() else { return };
        for one in waiting.iter().filter(|one| one.is.swap(false, Ordering::SeqCst)) {
            (one.wake)();
        }
    }

    /// The epoch up to which everything that came on this lane is applied.
    pub fn get(&self, lane: Lane) -> u64 {
        self.of(lane).load(Ordering::SeqCst)
    }

    fn of(&self, lane: Lane) -> &AtomicU64 {
        let [straight, called] = &self.marks;
        match lane {
            Lane::Straight => straight,
            Lane::Called => called,
        }
    }
}

/// The tables, as one operator of one worker looks rows up in them.
pub struct Lookups {
    tables: Tables,
    applied: Arc<Applied>,
    waits: Arc<AtomicBool>,
}

impl Lookups {
    /// In these tables; `wake` is called once a lookup that was not ready may be.
    pub fn new(tables: Tables, applied: Arc<Applied>, wake: Arc<dyn Fn() + Send + Sync>) -> Self {
        let waits = Arc::new(AtomicBool::new(false));
        if let Ok(mut waiting) = applied.waiting.lock() {
            waiting.push(Waiting { is: Arc::clone(&waits), wake });
        }
        Self { tables, applied, waits }
    }

    /// Whether everything below `epoch` is applied. `called`: also what rules that ask other systems write, which comes
    /// later than the rest. If not, the operator is woken when to ask again.
    pub fn is_ready(&self, epoch: u64, called: bool) -> bool {
        // The wish to be woken is known before the marks are read, so that no step between the two is missed.
        self.waits.store(true, Ordering::SeqCst);
        let reached = |lane| self.applied.get(lane) >= epoch.saturating_sub(1);
        let ready = reached(Lane::Straight) && (!called || reached(Lane::Called));
        if ready {
            self.waits.store(false, Ordering::SeqCst);
        }
        ready
    }

    /// `get_dynamodb(table, hash column, value[, range column, value], role)` as of `epoch`, which must be ready. No row
    /// is Undefined.
    ///
    /// # Errors
    /// When there is no such table, it has another key, or it cannot be read.
    pub fn get(&self, args: &[Value], epoch: u64) -> Answer {
        let (table, hash, range) = match args {
            [table, column, value, _] => (table, (column, value), None),
            [table, column, value, range, of_range, _] => (table, (column, value), Some((range, of_range))),
            _ => return Ok(Value::Undefined),
        };
        let Value::String(table) = table else { return Ok(Value::Undefined) };
        let spec = self.tables.spec(table).ok_or_else(|| format!("there is no table {table}"))?;
        let names = |given: &Value, column: &str| matches!(given, Value::String(name) if **name == *column);
        let is_key = names(hash.0, &spec.hash)
            && match (&range, &spec.range) {
                (Some((given, _)), Some(column)) => names(given, column),
                (given, column) => given.is_none() && column.is_none(),
            };
        if !is_key {
            let range = spec.range.as_ref().map(|range| format!(", {range}")).unwrap_or_default();
            return Err(format!("the key of table {table} is ({}{range})", spec.hash));
        }
        let Some(hash) = key(hash.1) else { return Ok(Value::Undefined) };
        let range = match range {
            Some((_, value)) => match key(value) {
                Some(key) => Some(key),
                None => return Ok(Value::Undefined),
            },
            None => None,
        };
        let row = self.tables.get_as_of(table, &hash, range.as_ref(), epoch).map_err(|error| error.to_string())?;
        let Some(row) = row else { return Ok(Value::Undefined) };
        json::parse(row.value(), Dialect::Aws2016).map_err(|error| format!("a row of table {table}: {error}"))
    }
}

/// A value as a key; what cannot be one is in no row.
fn key(value: &Value) -> Option<Key> {
    match value {
        Value::String(text) => Some(Key::text(&**text)),
        Value::Int(number) => Some(Key::number(*number, 0)),
        Value::Decimal(number) => Some(Key::number(number.mantissa(), number.scale())),
        Value::Bool(flag) => Some(Key::Bool(*flag)),
        _ => None,
    }
}
