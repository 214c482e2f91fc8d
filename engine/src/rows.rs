//! Rows on their way from rules to sinks, and the container in which they cross between workers.

use std::sync::Arc;

use bytes::Bytes;
use hedgerow_sql::program::{Calling, Rows};
use hedgerow_sql::rule::{Action, Rule, TableDef};
use hedgerow_storage::log::Epoch;
use timely::Accountable;
use timely::container::{DrainContainer, PushInto, SizableContainer};
use timely::dataflow::channels::ContainerBytes;

use crate::metrics::RuleStats;
pub use crate::names::Names;

/// A rule in force, with what it needs at run time.
#[derive(Debug)]
pub struct ActiveRule {
    /// The checked rule.
    pub rule: Arc<Rule>,
    /// Where each action's rows go, in the order of the rule's actions.
    pub destinations: Vec<Destination>,
    /// Counters.
    pub stats: Arc<RuleStats>,
    /// For a rule that asks other systems: how it is evaluated.
    pub calling: Option<Calling>,
    /// The lane to each destination.
    pub lanes: Vec<Lane>,
    /// It looks up a table to which rows come on the called lane.
    pub waits_for_called: bool,
    /// A rule in force does so: epochs are evaluated one by one, and what is asked has the time of its epoch.
    pub epochs_apart: bool,
}

impl ActiveRule {
    /// A rule whose rows go to `destinations`, each on its lane: straight, or called if the rule asks other systems.
    pub fn new(rule: Arc<Rule>, destinations: Vec<Destination>, stats: Arc<RuleStats>) -> Self {
        let calling = Calling::new(&rule);
        let lane = if calling.is_some() { Lane::Called } else { Lane::Straight };
        let lanes = vec![lane; destinations.len()];
        Self { rule, destinations, stats, calling, lanes, waits_for_called: false, epochs_apart: false }
    }
}

/// Which way rows take to their sinks. Each lane has marks of its own, so that what waits on one holds up nothing on the
/// other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// Rows of rules that ask nobody, delivered when their step is through.
    Straight,
    /// Rows of rules that ask other systems, delivered when nothing older waits for an answer. All rows of a table that
    /// such a rule writes come this way, so that they come in order.
    Called,
}

/// Where rows go, resolved when the rule came into force.
#[derive(Clone, Debug)]
pub enum Destination {
    /// A key-value table.
    Table(Arc<TableDef>),
    /// A named sink.
    Sink(Arc<str>),
    /// The log, as derived records.
    Derived,
}

/// Who a row came from: one entry for each message of an evaluated batch.
#[derive(Debug, Default)]
pub struct Origins {
    /// Epoch of the record, or the deadline for window rows.
    pub epoch: Vec<u64>,
    /// Offset of the record; for window rows a number that tells the rows of one deadline apart.
    pub offset: Vec<u64>,
    /// Time of receipt, milliseconds since 1970.
    pub time_ms: Vec<i64>,
    /// Topic; empty for window rows.
    pub topic: Names,
    /// Client id; empty for window rows and derived records.
    pub client_id: Names,
    /// How often the record was republished.
    pub hops: Vec<u8>,
    /// The payloads, if a rule needs them for its error action; empty otherwise.
    pub payload: Vec<Bytes>,
    /// These rows were emitted by a deadline: they come before the records of an epoch of the same time.
    pub timer: bool,
}

impl Origins {
    /// The position of message `index` in the one order of the system.
    pub fn position(&self, index: u32) -> (u64, u64) {
        let index = index as usize;
        (self.epoch.get(index).copied().unwrap_or_default(), self.offset.get(index).copied().unwrap_or_default())
    }

    /// The time of receipt of message `index`.
    pub fn time_ms(&self, index: u32) -> i64 {
        self.time_ms.get(index as usize).copied().unwrap_or_default()
    }
}

/// Output rows of one rule, for all of its actions.
#[derive(Clone, Debug)]
pub struct RowBatch {
    /// The rule.
    pub rule: Arc<ActiveRule>,
    /// Which of the rule's actions this is for.
    pub action: usize,
    /// The rows; `rows.messages` index `origins`.
    pub rows: Arc<Rows>,
    /// Who they came from.
    pub origins: Arc<Origins>,
}

impl RowBatch {
    /// The rows of a rule, once for each of its actions.
    pub fn of_all_actions(rule: &Arc<ActiveRule>, rows: Rows, origins: &Arc<Origins>) -> impl Iterator<Item = Self> {
        let (rule, rows, origins) = (Arc::clone(rule), Arc::new(rows), Arc::clone(origins));
        (0..rule.destinations.len()).map(move |action| RowBatch {
            rule: Arc::clone(&rule),
            action,
            rows: Arc::clone(&rows),
            origins: Arc::clone(&origins),
        })
    }

    /// The lane.
    pub fn lane(&self) -> Lane {
        self.rule.lanes.get(self.action).copied().unwrap_or(Lane::Straight)
    }

    /// The destination.
    pub fn destination(&self) -> Option<&Destination> {
        self.rule.destinations.get(self.action)
    }

    /// The texts of the action's templates for row `row`, in the order of [`hedgerow_sql::rule::Action::templates`];
    /// `None` for one that failed.
    pub fn templates(&self, row: usize) -> impl Iterator<Item = Option<&str>> {
        let actions = &self.rule.rule.actions;
        let before: usize = actions.iter().take(self.action).map(Action::template_count).sum();
        let own = actions.get(self.action).map_or(0, Action::template_count);
        let columns = self.rows.templates.iter().skip(before).take(own);
        columns.map(move |texts| texts.get(row))
    }

    /// The stable id of row `row`: `epoch-offset-rule-action`.
    pub fn row_id(&self, row: usize) -> String {
        let index = self.rows.messages.get(row).copied().unwrap_or_default();
        let (epoch, offset) = self.origins.position(index);
        format!("{epoch}-{offset}-{}-{}", self.rule.rule.name, self.action)
    }

    /// Where row `row` stands in the one order of the system.
    pub fn place(&self, row: usize) -> Place<'_> {
        let (epoch, offset) = self.origins.position(self.rows.messages.get(row).copied().unwrap_or_default());
        Place { epoch, record: !self.origins.timer, offset, rule: &self.rule.rule.name, action: self.action, row }
    }

    /// The lowest and the highest epoch of its rows.
    pub fn epochs(&self) -> Option<(u64, u64)> {
        let epochs = || self.rows.messages.iter().map(|message| self.origins.position(*message).0);
        epochs().min().zip(epochs().max())
    }

    /// The epoch of row `row`.
    pub fn epoch(&self, row: usize) -> Epoch {
        Epoch(self.origins.position(self.rows.messages.get(row).copied().unwrap_or_default()).0)
    }
}

/// The one order of the system: by epoch; rows of deadlines before records; then by offset, rule, action and row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place<'a> {
    /// Epoch of the record, or the deadline.
    pub epoch: u64,
    /// False for rows of a deadline.
    pub record: bool,
    /// Offset of the record.
    pub offset: u64,
    /// Name of the rule.
    pub rule: &'a str,
    /// Number of the action.
    pub action: usize,
    /// Number of the row in its batch.
    pub row: usize,
}

/// The rows of batches that lie above `skip`, in the one order of the system.
pub fn in_order(batches: &[RowBatch], skip: Epoch) -> Vec<(&RowBatch, usize)> {
    let rows = batches.iter().flat_map(|batch| (0..batch.rows.messages.len()).map(move |row| (batch, row)));
    let mut rows: Vec<(&RowBatch, usize)> = rows.filter(|(batch, row)| batch.epoch(*row) > skip).collect();
    rows.sort_by(|a, b| a.0.place(a.1).cmp(&b.0.place(b.1)));
    rows
}

/// A container that crosses between the workers of one process by moving it.
///
/// timely asks every exchanged container how it would be sent to another process. Hedgerow's workers are threads of one
/// process (`timely::Config::process`), where that is never asked.
#[derive(Clone, Debug)]
pub struct Local<T>(pub Vec<T>);

impl<T> Default for Local<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Accountable for Local<T> {
    fn record_count(&self) -> i64 {
        self.0.len() as i64
    }
}

impl<T> DrainContainer for Local<T> {
    type Item<'a>
        = T
    where
        T: 'a;
    type DrainIter<'a>
        = std::vec::Drain<'a, T>
    where
        T: 'a;
    fn drain(&mut self) -> Self::DrainIter<'_> {
        self.0.drain(..)
    }
}

impl<T> SizableContainer for Local<T> {
    fn at_capacity(&self) -> bool {
        self.0.at_capacity()
    }
    fn ensure_capacity(&mut self, stash: &mut Option<Self>) {
        let mut inner = stash.take().map(|stash| stash.0);
        self.0.ensure_capacity(&mut inner);
    }
}

impl<T> PushInto<T> for Local<T> {
    fn push_into(&mut self, item: T) {
        self.0.push(item);
    }
}

impl<T> ContainerBytes for Local<T> {
    fn from_bytes(_: timely::bytes::arc::Bytes) -> Self {
        unreachable!("workers are threads of one process")
    }
    fn length_in_bytes(&self) -> usize {
        unreachable!("workers are threads of one process")
    }
    fn into_bytes<W: std::io::Write>(&self, _: &mut W) {
        unreachable!("workers are threads of one process")
    }
}
