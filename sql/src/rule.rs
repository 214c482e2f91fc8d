//! What a rule file says once it is parsed and checked: rules, tables, sinks.

use std::sync::Arc;

use crate::ast::{Dialect, Expr, Select, Span, Template};
use crate::headers::Headers;
use crate::outside::Parameter;
use crate::topic::TopicFilter;

/// The longest time that AFTER may say: a year, in microseconds.
pub const MAX_AFTER_US: u64 = 366 * 86_400 * 1_000_000;

/// One statement of a rule file, or one AWS rule document.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "there are few, and they are moved seldom")]
pub enum Statement {
    /// CREATE TABLE.
    Table(TableDef),
    /// CREATE SINK.
    Sink(SinkDef),
    /// CREATE RULE, or an AWS document.
    Rule(Rule),
    /// DROP kind name.
    Drop {
        /// What is dropped.
        kind: ObjectKind,
        /// Its name.
        name: Arc<str>,
        /// IF EXISTS.
        if_exists: bool,
    },
}

/// The kinds of named objects of the catalog.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "each is its own name")]
pub enum ObjectKind {
    Table,
    Sink,
    Rule,
}

/// A key-value table.
#[derive(Clone, Debug, PartialEq)]
pub struct TableDef {
    /// Name.
    pub name: Arc<str>,
    /// Declared columns in order, the key columns among them.
    pub columns: Vec<ColumnDef>,
    /// Hash key column.
    pub hash: Arc<str>,
    /// Range key column.
    pub range: Option<Arc<str>>,
    /// Rows are dropped this long after they were written (log time), in milliseconds.
    pub ttl_ms: Option<u64>,
    /// The canonical text, for comparing.
    pub text: Arc<str>,
}

/// A declared column.
#[derive(Clone, Debug, PartialEq)]
pub struct ColumnDef {
    /// Name.
    pub name: Arc<str>,
    /// Type.
    pub ty: ColumnType,
}

/// Column types of tables and lake sinks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is its own name")]
pub enum ColumnType {
    Varchar,
    BigInt,
    Double,
    Boolean,
    /// Milliseconds since 1970, UTC.
    Timestamp,
    Json,
    Decimal {
        precision: u8,
        scale: i8,
    },
}

/// A sink to the outside: connector and options.
#[derive(Clone, Debug, PartialEq)]
pub struct SinkDef {
    /// Name.
    pub name: Arc<str>,
    /// Declared columns, empty when inferred.
    pub columns: Vec<ColumnDef>,
    /// `connector`.
    pub connector: Arc<str>,
    /// All other options in order, unresolved.
    pub options: Vec<(Arc<str>, OptionValue)>,
    /// The canonical text, for comparing.
    pub text: Arc<str>,
}

/// The value of a WITH option.
#[derive(Clone, Debug, PartialEq)]
pub enum OptionValue {
    /// Text.
    String(Arc<str>),
    /// A number as it was spelt.
    Number(Arc<str>),
    /// TRUE or FALSE.
    Bool(bool),
    /// INTERVAL, in microseconds.
    Interval(u64),
    /// SECRET('name'): resolved only when the sink starts.
    Secret(Arc<str>),
}

/// A rule: for each message of a topic filter, which rows go where.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Name.
    pub name: Arc<str>,
    /// Which language rules apply.
    pub dialect: Dialect,
    /// The canonical text, for comparing and for keeping: the CREATE RULE statement, or the AWS document as JSON with
    /// its name. Parsing it gives this rule again.
    pub text: Arc<str>,
    /// False: `ruleDisabled`.
    pub enabled: bool,
    /// The query. For windowed rules its parts are also in `windowed`.
    pub select: Select,
    /// FROM; absent only in rules reached by basic ingest.
    pub filter: Option<TopicFilter>,
    /// GROUP BY with a window.
    pub windowed: Option<Windowed>,
    /// Where rows go, in order; the index is the action's number in row ids.
    pub actions: Vec<Action>,
    /// ON ERROR INTO / errorAction.
    pub error_action: Option<Action>,
}

/// The parts of a windowed rule, taken apart so that aggregation can run between two projections.
#[derive(Clone, Debug, PartialEq)]
pub struct Windowed {
    /// The window.
    pub window: crate::ast::Window,
    /// Group keys, evaluated per message: slots `0..keys.len()`.
    pub keys: Vec<Expr>,
    /// Aggregates: the following slots, in order. After them come `window_start` and `window_end` (Int, epoch ms).
    pub aggregates: Vec<Aggregate>,
    /// SELECT items over slots: dotted output name and expression.
    pub items: Vec<(Vec<Arc<str>>, Expr)>,
    /// HAVING over slots.
    pub having: Option<Expr>,
}

/// One aggregate call.
#[derive(Clone, Debug, PartialEq)]
pub struct Aggregate {
    /// Which.
    pub function: AggregateFunction,
    /// Its argument per message; `count(*)` has none.
    pub argument: Option<Expr>,
}

/// The aggregates. All skip Undefined, Null and values of the wrong kind (numeric strings convert).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is its own name")]
pub enum AggregateFunction {
    Count,
    Sum,
    Avg,
    Min,
    Max,
}

/// Where rows go. Equality ignores the span.
#[derive(Clone, Debug)]
pub struct Action {
    /// Its AWS name (`dynamoDB`, `republish` …), or `into` for native rules; in errors and `failedAction`.
    pub kind: Arc<str>,
    /// The destination.
    pub target: Target,
    /// Where it stands in the file or document.
    pub span: Span,
}

impl PartialEq for Action {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind && self.target == other.target
    }
}

impl Action {
    /// Its templates, in the order of the parameters: hash key, range key, payload field, operation; or the topic, then
    /// those of its headers; or those of what it says to a destination outside.
    pub fn templates(&self) -> Vec<&Template> {
        match &self.target {
            Target::Named(_) => Vec::new(),
            Target::Topic { topic, headers, .. } => std::iter::once(topic).chain(headers.templates()).collect(),
            Target::Outside(outside) => outside.parameters.iter().flat_map(Parameter::values).collect(),
            Target::Item(item) => {
                let range = item.range.as_ref().map(|range| &range.value);
                [Some(&item.hash.value), range, Some(&item.payload_field), Some(&item.operation)]
                    .into_iter()
                    .flatten()
                    .collect()
            }
        }
    }

    /// How many templates it has.
    pub fn template_count(&self) -> usize {
        match &self.target {
            Target::Named(_) => 0,
            Target::Topic { headers, .. } => 1 + headers.single.len() + 2 * headers.user.len(),
            Target::Outside(outside) => outside.parameters.iter().flat_map(Parameter::values).count(),
            Target::Item(item) => 3 + usize::from(item.range.is_some()),
        }
    }

    /// The same, to change them.
    pub fn templates_mut(&mut self) -> Vec<&mut Template> {
        match &mut self.target {
            Target::Named(_) => Vec::new(),
            Target::Topic { topic, headers, .. } => std::iter::once(topic).chain(headers.templates_mut()).collect(),
            Target::Outside(outside) => outside.parameters.iter_mut().flat_map(Parameter::values_mut).collect(),
            Target::Item(item) => {
                let range = item.range.as_mut().map(|range| &mut range.value);
                [Some(&mut item.hash.value), range, Some(&mut item.payload_field), Some(&mut item.operation)]
                    .into_iter()
                    .flatten()
                    .collect()
            }
        }
    }

    /// The table or sink it writes to.
    pub fn destination(&self) -> Option<&Arc<str>> {
        match &self.target {
            Target::Named(name) => Some(name),
            Target::Item(item) => Some(&item.table),
            Target::Outside(outside) => Some(&outside.sink),
            Target::Topic { .. } => None,
        }
    }
}

impl Rule {
    /// The templates of all actions, action by action (see [`Action::templates`]); of a windowed rule, over slots. Those
    /// of the error action are not among them: it runs seldom, and on another message.
    pub fn templates(&self) -> Vec<&Template> {
        self.actions.iter().flat_map(Action::templates).collect()
    }

    /// The place of an action's first template among [`Rule::templates`].
    pub fn template_of(&self, action: usize) -> usize {
        self.actions.iter().take(action).map(Action::template_count).sum()
    }
}

impl Statement {
    /// What it creates or drops, and its name.
    pub fn object(&self) -> (ObjectKind, &Arc<str>) {
        match self {
            Self::Table(table) => (ObjectKind::Table, &table.name),
            Self::Sink(sink) => (ObjectKind::Sink, &sink.name),
            Self::Rule(rule) => (ObjectKind::Rule, &rule.name),
            Self::Drop { kind, name, .. } => (*kind, name),
        }
    }
}

impl ObjectKind {
    /// The word for it in a sentence.
    pub fn word(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::Sink => "sink",
            Self::Rule => "rule",
        }
    }
}

/// A destination.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    /// A table (columns by member name; the row must hold the key) or a sink, by name. `dynamoDBv2`, `firehose`, `INTO name`.
    Named(Arc<str>),
    /// The `dynamoDB` action: keys from templates, the whole result in one column.
    Item(Box<ItemTarget>),
    /// Back on MQTT as a derived record.
    Topic {
        /// The topic; a leading `$$` stands for `$`.
        topic: Template,
        /// 0 or 1.
        qos: u8,
        /// RETAIN.
        retain: bool,
        /// MQTT 5 properties; native rules have none.
        headers: Box<Headers>,
    },
    /// A sink that is told more than the row: actions of AWS documents that send something somewhere.
    Outside(Box<OutsideTarget>),
}

/// A destination outside, and what an action says to it.
#[derive(Clone, Debug, PartialEq)]
pub struct OutsideTarget {
    /// The sink that sends.
    pub sink: Arc<str>,
    /// The connector that the sink must have.
    pub connector: &'static str,
    /// The CREATE SINK statement that makes it when nobody has; none if somebody must.
    pub definition: Option<Arc<str>>,
    /// What is said with every row, on the message as it came.
    pub parameters: Vec<Parameter>,
}

/// Parameters of the `dynamoDB` action.
#[derive(Clone, Debug, PartialEq)]
pub struct ItemTarget {
    /// Table name.
    pub table: Arc<str>,
    /// Hash key column, its type (Varchar or Double for NUMBER) and value.
    pub hash: KeyTemplate,
    /// Range key.
    pub range: Option<KeyTemplate>,
    /// The column of the whole result.
    pub payload_field: Template,
    /// INSERT, UPDATE (both upsert) or DELETE.
    pub operation: Template,
}

/// A key column filled from a template.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyTemplate {
    /// Column name.
    pub field: Arc<str>,
    /// NUMBER keys; STRING is the default.
    pub number: bool,
    /// Its value.
    pub value: Template,
}
