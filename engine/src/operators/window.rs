//! Windows over log time: aggregates by key, emitted when the log's time reaches the window's end.
//!
//! Rows come in by key from all workers. They are kept until the frontier has passed their step, and are then taken in
//! (epoch, offset) order, with the windows due at d closed before rows of epochs ≥ d; so a result depends neither on
//! the number of workers nor on how epochs were cut into steps. The operator holds one capability, at its input
//! frontier: an open window holds up no mark.
//!
//! A window of a rule has at most [`MAX_GROUPS`] groups. So that this, too, does not depend on the number of workers, keys
//! fall into [`SLOTS`] by their hash, a slot belongs to one worker, and each slot has its share: a key that is new to a
//! slot whose share is used up is refused and told of, and the groups there are go on.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use hedgerow_sql::aggregate::Accumulator;
use hedgerow_sql::ast::{Dialect, Window};
use hedgerow_sql::eval::{Scope, evaluate};
use hedgerow_sql::json;
use hedgerow_sql::message::Message;
use hedgerow_sql::program::Rows;
use hedgerow_sql::rule::Windowed;
use hedgerow_sql::value::{MAX_TEXT, Value};
use hedgerow_storage::fault;

use crate::errors::{ErrorSample, Errors, excerpt};
use crate::metrics::EngineMetrics;
use crate::rows::{ActiveRule, Origins, RowBatch};
use crate::step::stable_hash;

/// Groups of one window of one rule, at most. It decides results, so it is no setting: the same log gives the same rows.
pub const MAX_GROUPS: usize = 1 << 20;
/// Parts of the keys that are counted by themselves. With more workers than this, some have no windows.
const SLOTS: u64 = 256;

/// The slot of a key.
fn slot_of(hash: u64) -> u64 {
    hash % SLOTS
}

/// What the operator is sent.
pub enum Keyed {
    /// A row for its group.
    Row(KeyedRow),
    /// The rules in force from this position on: state of rules that are gone or changed is discarded.
    Rules {
        /// The worker this copy is for.
        worker: u64,
        /// Epoch and offset.
        position: (u64, u64),
        /// The rules.
        rules: Arc<Vec<Arc<ActiveRule>>>,
    },
}

impl Keyed {
    /// The number whose remainder is the worker.
    pub fn route(&self) -> u64 {
        match self {
            Keyed::Row(row) => slot_of(row.hash),
            Keyed::Rules { worker, .. } => *worker,
        }
    }

    /// Epoch and offset.
    pub(crate) fn position(&self) -> (u64, u64) {
        match self {
            Keyed::Row(row) => row.position,
            Keyed::Rules { position, .. } => *position,
        }
    }
}

/// A row of a windowed rule.
pub struct KeyedRow {
    rule: Arc<ActiveRule>,
    position: (u64, u64),
    hash: u64,
    key: GroupKey,
    arguments: Vec<Value>,
}

/// A group's key: its values and their canonical text, which orders and compares it.
#[derive(Clone, Debug)]
struct GroupKey {
    text: Arc<str>,
    values: Arc<Vec<Value>>,
}

impl GroupKey {
    fn new(values: Vec<Value>) -> Self {
        let text = json::to_text(&Value::array(values.iter().map(canonical).collect()), MAX_TEXT);
        Self { text: text.unwrap_or_default().into(), values: Arc::new(values) }
    }
}

/// Equal numbers are one group however they are spelt. Undefined has no JSON text inside an array: it groups with Null.
pub(crate) fn canonical(value: &Value) -> Value {
    match value {
        Value::Undefined => Value::Null,
        Value::Decimal(number) => Value::Decimal(number.strip_zeros()),
        Value::Int(_) => value.to_decimal().map_or(Value::Null, |number| Value::Decimal(number.strip_zeros())),
        _ => value.clone(),
    }
}

impl KeyedRow {
    /// A row with its key values and aggregate arguments.
    pub fn new(rule: Arc<ActiveRule>, position: (u64, u64), key: Vec<Value>, arguments: Vec<Value>) -> Self {
        let key = GroupKey::new(key);
        Self { hash: stable_hash(key.text.as_bytes()), rule, position, key, arguments }
    }
}

/// One window of one group.
struct Group {
    key: GroupKey,
    accumulators: Vec<Accumulator>,
}

/// The groups of one window, by key text.
type Groups = BTreeMap<Arc<str>, Group>;

/// One window of a rule.
#[derive(Default)]
struct Open {
    groups: Groups,
    /// How many groups each slot has, where it has some.
    slots: BTreeMap<u64, usize>,
}

/// The open windows of one rule, by their ends (µs).
struct RuleState {
    rule: Arc<ActiveRule>,
    windows: BTreeMap<u64, Open>,
}

/// The operator's state on one worker.
pub struct WindowState {
    rules: BTreeMap<Arc<str>, RuleState>,
    /// Groups in one slot of a window, at most.
    slot_groups: usize,
    metrics: Arc<EngineMetrics>,
    errors: Arc<Errors>,
}

impl WindowState {
    /// No open windows.
    pub fn new(metrics: Arc<EngineMetrics>, errors: Arc<Errors>) -> Self {
        Self::with_limit(MAX_GROUPS, metrics, errors)
    }

    /// With another limit than [`MAX_GROUPS`].
    pub(crate) fn with_limit(groups: usize, metrics: Arc<EngineMetrics>, errors: Arc<Errors>) -> Self {
        Self { rules: BTreeMap::new(), slot_groups: groups.div_ceil(SLOTS as usize), metrics, errors }
    }

    /// The next deadline, in microseconds of log time.
    pub fn next_deadline(&self) -> Option<u64> {
        self.rules.values().filter_map(|state| state.windows.keys().next().copied()).min()
    }

    /// Takes rows in order, closing windows in between; then closes everything due up to `up_to`.
    pub fn advance(&mut self, mut input: Vec<Keyed>, up_to: u64, out: &mut Vec<RowBatch>) {
        input.sort_by_key(Keyed::position);
        for item in input {
            let (epoch, _) = item.position();
            self.fire(epoch, out);
            match item {
                Keyed::Row(row) => self.add(row),
                Keyed::Rules { rules, .. } => self.change(&rules),
            }
        }
        self.fire(up_to, out);
    }

    fn add(&mut self, row: KeyedRow) {
        let Some(windowed) = &row.rule.rule.windowed else { return };
        let state = self
            .rules
            .entry(Arc::clone(&row.rule.rule.name))
            .or_insert_with(|| RuleState { rule: Arc::clone(&row.rule), windows: BTreeMap::new() });
        let Window::Tumble { width_us } = windowed.window;
        let shift = if fault::bug("windows_shifted") { width_us.saturating_sub(1) } else { 0 };
        let end = ((row.position.0 + shift) / width_us.max(1) + 1) * width_us.max(1);
        let window = state.windows.entry(end).or_default();
        let slot = slot_of(row.hash);
        let group = match window.groups.entry(Arc::clone(&row.key.text)) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(_) if window.slots.get(&slot).is_some_and(|groups| *groups >= self.slot_groups) => {
                refuse(&row, end, &self.errors);
                return;
            }
            Entry::Vacant(new) => {
                self.metrics.windows_open.add(1);
                *window.slots.entry(slot).or_default() += 1;
                new.insert(Group { key: row.key.clone(), accumulators: accumulators(windowed) })
            }
        };
        let mut arguments = row.arguments.iter();
        for (accumulator, aggregate) in group.accumulators.iter_mut().zip(&windowed.aggregates) {
            let argument = arguments.next().unwrap_or(&Value::Undefined);
            match &aggregate.argument {
                Some(_) => accumulator.add(argument),
                None => accumulator.count_row(),
            }
        }
    }

    /// Keeps the state of rules whose windows, keys and aggregates are as they were; discards the rest.
    fn change(&mut self, rules: &[Arc<ActiveRule>]) {
        self.rules.retain(|name, state| {
            let successor = rules.iter().find(|active| &active.rule.name == name);
            let keep = successor.is_some_and(|active| same_shape(&active.rule.windowed, &state.rule.rule.windowed));
            match successor {
                Some(active) if keep => state.rule = Arc::clone(active),
                _ => self.metrics.windows_open.set(self.metrics.windows_open.get().saturating_sub(state.groups())),
            }
            keep
        });
    }

    /// Emits all windows that end at or before `epoch`.
    fn fire(&mut self, epoch: u64, out: &mut Vec<RowBatch>) {
        let mut due: Vec<(u64, Arc<ActiveRule>, Groups)> = Vec::new();
        for state in self.rules.values_mut() {
            while let Some(entry) = state.windows.first_entry()
                && *entry.key() <= epoch
            {
                due.push((*entry.key(), Arc::clone(&state.rule), entry.remove().groups));
            }
        }
        due.sort_by(|a, b| (a.0, &a.1.rule.name).cmp(&(b.0, &b.1.rule.name)));
        for (end, rule, groups) in due {
            self.metrics.windows_open.set(self.metrics.windows_open.get().saturating_sub(groups.len() as u64));
            emit(&rule, end, groups, &self.metrics, out);
        }
    }

    /// The state as bytes for a checkpoint: a JSON array with one entry a group; every value and accumulator in its
    /// own exact text form.
    pub fn encode(&self) -> Vec<u8> {
        let groups: Vec<StoredGroup> = self
            .rules
            .iter()
            .flat_map(|(name, state)| {
                state.windows.iter().flat_map(move |(end, window)| {
                    window.groups.values().map(move |group| StoredGroup {
                        rule: name.to_string(),
                        end: *end,
                        key: group.key.values.iter().map(StoredValue::from).collect(),
                        accumulators: group.accumulators.iter().map(Accumulator::encode).collect(),
                    })
                })
            })
            .collect();
        serde_json::to_vec(&groups).unwrap_or_default()
    }

    /// Takes over the groups in `bytes` that belong to this worker: those of its slots.
    ///
    /// # Errors
    /// When the bytes are not such a state.
    pub fn restore(
        &mut self,
        bytes: &[u8],
        rules: &[Arc<ActiveRule>],
        mine: impl Fn(u64) -> bool,
    ) -> Result<(), String> {
        let groups: Vec<StoredGroup> =
            serde_json::from_slice(bytes).map_err(|error| format!("window state of the checkpoint: {error}"))?;
        for stored in groups {
            let key = GroupKey::new(stored.key.into_iter().map(StoredValue::into_value).collect::<Result<_, _>>()?);
            let slot = slot_of(stable_hash(key.text.as_bytes()));
            if !mine(slot) {
                continue;
            }
            let Some(rule) = rules.iter().find(|active| *active.rule.name == stored.rule) else { continue };
            let Some(windowed) = &rule.rule.windowed else { continue };
            let accumulators = windowed
                .aggregates
                .iter()
                .zip(&stored.accumulators)
                .map(|(aggregate, text)| Accumulator::decode(aggregate.function, text))
                .collect::<Option<Vec<_>>>()
                .ok_or_else(|| format!("window state of the checkpoint: rule {}: unreadable aggregate", stored.rule))?;
            let state = self
                .rules
                .entry(Arc::clone(&rule.rule.name))
                .or_insert_with(|| RuleState { rule: Arc::clone(rule), windows: BTreeMap::new() });
            self.metrics.windows_open.add(1);
            let window = state.windows.entry(stored.end).or_default();
            *window.slots.entry(slot).or_default() += 1;
            window.groups.insert(Arc::clone(&key.text), Group { key, accumulators });
        }
        Ok(())
    }
}

impl RuleState {
    fn groups(&self) -> u64 {
        self.windows.values().map(|window| window.groups.len() as u64).sum()
    }
}

#[derive(serde::Serialize, serde::Deserialize)]
struct StoredGroup {
    rule: String,
    end: u64,
    key: Vec<StoredValue>,
    accumulators: Vec<String>,
}

/// A key value: JSON text (decimals keep a point or an exponent), with Undefined told from Null.
#[derive(serde::Serialize, serde::Deserialize)]
struct StoredValue(Option<String>);

impl From<&Value> for StoredValue {
    fn from(value: &Value) -> Self {
        Self((!value.is_undefined()).then(|| json::to_text(value, MAX_TEXT).unwrap_or_default()))
    }
}

impl StoredValue {
    fn into_value(self) -> Result<Value, String> {
        let Some(text) = self.0 else { return Ok(Value::Undefined) };
        json::parse(text.as_bytes(), Dialect::Aws2015)
            .map_err(|error| format!("window state of the checkpoint: {error}"))
    }
}

fn accumulators(windowed: &Windowed) -> Vec<Accumulator> {
    windowed.aggregates.iter().map(|aggregate| Accumulator::new(aggregate.function)).collect()
}

/// A row that would have made one group too many.
fn refuse(row: &KeyedRow, end: u64, errors: &Errors) {
    let rule = &row.rule.rule.name;
    let reason = format!(
        "the window that ends at {} ms has no room for another group (of {MAX_GROUPS}): group by something that has \
         fewer values, or by shorter windows",
        end / 1_000
    );
    row.rule.stats.fail(1, &reason);
    errors.push(ErrorSample {
        epoch: row.position.0,
        offset: row.position.1,
        time_ms: (row.position.0 / 1_000) as i64,
        rule: rule.to_string(),
        target: String::new(),
        topic: String::new(),
        client_id: String::new(),
        reason,
        sample: excerpt(row.key.text.as_bytes()),
    });
}

/// Whether state gathered under one definition may go on under another.
pub fn same_shape(new: &Option<Windowed>, old: &Option<Windowed>) -> bool {
    match (new, old) {
        (Some(new), Some(old)) => new.window == old.window && new.keys == old.keys && new.aggregates == old.aggregates,
        _ => false,
    }
}

/// The rows of one rule's windows that end at `end`, in the order of their keys.
fn emit(rule: &Arc<ActiveRule>, end: u64, groups: Groups, metrics: &EngineMetrics, out: &mut Vec<RowBatch>) {
    let Some(windowed) = &rule.rule.windowed else { return };
    let Window::Tumble { width_us } = windowed.window;
    let bounds = [end.saturating_sub(width_us), end].map(|us| Value::Int(i128::from(us / 1_000)));
    let mut rows = Vec::new();
    let mut templates: Vec<Vec<Option<String>>> = rule.rule.templates().iter().map(|_| Vec::new()).collect();
    let mut origins = Origins { timer: true, ..Origins::default() };
    for group in groups.into_values() {
        let offset = stable_hash(group.key.text.as_bytes()) >> 1;
        let slots: Vec<Value> = group
            .key
            .values
            .iter()
            .cloned()
            .chain(group.accumulators.iter().map(Accumulator::result))
            .chain(bounds.iter().cloned())
            .collect();
        let message = Message { epoch: end, offset, ..Message::new("", b"{}", (end / 1_000) as i64) };
        let scope = Scope::new(&message, rule.rule.dialect).with_slots(&slots);
        let holds = windowed.having.as_ref().is_none_or(|having| evaluate(having, &scope).to_bool() == Some(true));
        if !holds {
            continue;
        }
        for (column, template) in templates.iter_mut().zip(rule.rule.templates()) {
            column.push(hedgerow_sql::eval::template(template, &scope).ok());
        }
        rows.push(windowed.items.iter().map(|(name, item)| (name.clone(), evaluate(item, &scope))).collect());
        origins.epoch.push(end);
        origins.offset.push(offset);
        origins.time_ms.push((end / 1_000) as i64);
        origins.topic.push("");
        origins.client_id.push("");
        origins.hops.push(0);
    }
    if rows.is_empty() {
        return;
    }
    metrics.window_rows.add(rows.len() as u64);
    rule.stats.passed.add(rows.len() as u64);
    let rows = Rows::from_members(rows, templates, rule.rule.dialect);
    out.extend(RowBatch::of_all_actions(rule, rows, &Arc::new(origins)));
}
