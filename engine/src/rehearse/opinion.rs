//! A second opinion on windows and timers: the rows of a case worked out in the plainest way, from all of its messages,
//! by the scalar evaluator. It shares neither code nor state with the operators, and may be slow: there are few
//! messages.

use hedgerow_sql::analyze::after_us;
use hedgerow_sql::ast::{Absence, After, Dialect, Expr, Select, Window};
use hedgerow_sql::decimal::Decimal;
use hedgerow_sql::eval::{self, Scope};
use hedgerow_sql::json;
use hedgerow_sql::message::Message;
use hedgerow_sql::rule::{Aggregate, AggregateFunction, Rule, Windowed};
use hedgerow_sql::value::{MAX_TEXT, Value};
use hedgerow_sql::vectors::{Given, Row};

use crate::operators::window::canonical;
use crate::step::stable_hash;

/// What is known of a rule's messages so far.
pub(super) struct Opinion<'r> {
    rule: &'r Rule,
    /// Messages in windows that are open.
    open: Vec<InWindow>,
    /// Timers by the values of PARTITION BY.
    timers: Vec<(Vec<Value>, Timer)>,
}

struct InWindow {
    end: u64,
    keys: Vec<Value>,
    arguments: Vec<Value>,
}

enum Timer {
    Idle,
    Armed { deadline: u64, row: Row },
    Fired,
}

impl<'r> Opinion<'r> {
    /// None on rules over the stream `presence`, whose events have an order of their own.
    pub fn new(rule: &'r Rule) -> Option<Self> {
        (!rule.select.presence).then(|| Self { rule, open: Vec::new(), timers: Vec::new() })
    }

    /// Time passes: the rows of windows that are over and of timers that go off.
    pub fn pass(&mut self, now: u64) -> Vec<Row> {
        let mut rows = Vec::new();
        if let Some(windowed) = &self.rule.windowed {
            let (over, open) = std::mem::take(&mut self.open).into_iter().partition(|one: &InWindow| one.end <= now);
            self.open = open;
            let mut groups: Vec<Vec<InWindow>> = Vec::new();
            for one in over {
                let same = |group: &&mut Vec<InWindow>| {
                    group.first().is_some_and(|first| first.end == one.end && are_same(&first.keys, &one.keys))
                };
                match groups.iter_mut().find(same) {
                    Some(group) => group.push(one),
                    None => groups.push(vec![one]),
                }
            }
            rows.extend(groups.iter().filter_map(|group| self.closed(windowed, group)));
        }
        for (_, timer) in &mut self.timers {
            if matches!(timer, Timer::Armed { deadline, .. } if *deadline <= now)
                && let Timer::Armed { row, .. } = std::mem::replace(timer, Timer::Fired)
            {
                rows.push(row);
            }
        }
        rows
    }

    /// A message comes; what was due before it has been asked for.
    pub fn take(&mut self, given: &Given, now: u64) {
        let message = given.message();
        if let Some(windowed) = &self.rule.windowed {
            let Window::Tumble { width_us } = windowed.window;
            let Some(keys) = self.values(&message, &windowed.keys, self.rule.select.filter.as_ref()) else { return };
            let every = Value::Bool(true);
            let scope = self.scope(&message);
            let argument = |aggregate: &Aggregate| {
                aggregate.argument.as_ref().map_or_else(|| every.clone(), |expr| eval::evaluate(expr, &scope))
            };
            let arguments = windowed.aggregates.iter().map(argument).collect();
            self.open.push(InWindow { end: (now / width_us.max(1) + 1) * width_us, keys, arguments });
        }
        if let Some(absence) = self.rule.select.absence.as_deref() {
            self.watch(absence, &message, now);
        }
    }

    fn watch(&mut self, absence: &Absence, message: &Message<'_>, now: u64) {
        let disarms = self.values(message, &absence.keys, Some(&absence.unless));
        let arms = self.values(message, &absence.keys, self.rule.select.filter.as_ref());
        let row = if arms.is_some() { self.row(message) } else { None };
        let Some(keys) = disarms.clone().or(arms.filter(|_| row.is_some())) else { return };
        if keys.iter().any(Value::is_undefined) {
            return;
        }
        let place = self.timers.iter().position(|(known, _)| are_same(known, &keys)).unwrap_or_else(|| {
            self.timers.push((keys, Timer::Idle));
            self.timers.len() - 1
        });
        let after = match &absence.after {
            After::Interval(us) => Some(*us),
            After::Seconds(expr) => after_us(&eval::evaluate(expr, &self.scope(message))),
        };
        let Some((_, timer)) = self.timers.get_mut(place) else { return };
        if disarms.is_some() {
            *timer = Timer::Idle;
        }
        if let (Timer::Idle, Some(row), Some(after)) = (&*timer, row, after) {
            *timer = Timer::Armed { deadline: now + after, row };
        }
    }

    /// What expressions say of a message for which a condition holds.
    fn values(&self, message: &Message<'_>, exprs: &[Expr], condition: Option<&Expr>) -> Option<Vec<Value>> {
        let scope = self.scope(message);
        let holds = eval::matches(condition, &scope).unwrap_or(false);
        let values = exprs.iter().map(|expr| eval::evaluate(expr, &scope)).collect();
        (holds && scope.take_failure().is_none()).then_some(values)
    }

    /// A scope with the rule's variables.
    fn scope<'m>(&self, message: &'m Message<'m>) -> Scope<'m> {
        let mut scope = Scope::new(message, self.rule.dialect);
        // What failed is told with the first thing that is asked for.
        let _ = eval::bind(&self.rule.select.set, &mut scope);
        scope
    }

    /// The row that a timer is armed with.
    fn row(&self, message: &Message<'_>) -> Option<Row> {
        let select = Select { absence: None, ..self.rule.select.clone() };
        let mut scope = Scope::new(message, self.rule.dialect);
        let payload = eval::run(&select, &mut scope).ok()??.to_bytes(message).ok()?;
        Some(Row::new(self.rule, payload, self.texts(&scope)))
    }

    fn texts(&self, scope: &Scope<'_>) -> Vec<String> {
        let templates = self.rule.templates().into_iter();
        templates.map(|template| eval::template(template, scope).unwrap_or_default()).collect()
    }

    /// The row of a group of a window that is over.
    fn closed(&self, windowed: &Windowed, group: &[InWindow]) -> Option<Row> {
        let (first, Window::Tumble { width_us }) = (group.first()?, windowed.window);
        let results = windowed.aggregates.iter().enumerate().map(|(number, aggregate)| {
            let arguments = group.iter().filter_map(|one| one.arguments.get(number));
            aggregated(aggregate, &arguments.collect::<Vec<_>>())
        });
        let bounds = [first.end.saturating_sub(width_us), first.end].map(|us| Value::Int(i128::from(us / 1_000)));
        let slots: Vec<Value> = first.keys.iter().cloned().chain(results).chain(bounds).collect();
        let key = json::to_text(&Value::array(first.keys.iter().map(canonical).collect()), MAX_TEXT);
        // What differs from call to call follows from the position, which windows take from their keys.
        let offset = stable_hash(key.unwrap_or_default().as_bytes()) >> 1;
        let message = Message { epoch: first.end, offset, ..Message::new("", b"{}", (first.end / 1_000) as i64) };
        let scope = Scope::new(&message, self.rule.dialect).with_slots(&slots);
        if !eval::matches(windowed.having.as_ref(), &scope).unwrap_or(false) {
            return None;
        }
        let texts = self.texts(&scope);
        let items = windowed.items.iter().map(|(name, item)| (name.as_slice(), eval::evaluate(item, &scope)));
        let payload = json::to_text(&Value::object(eval::assemble(items)), usize::MAX)?;
        Some(Row::new(self.rule, payload.into_bytes(), texts))
    }
}

/// Whether two keys are one.
fn are_same(a: &[Value], b: &[Value]) -> bool {
    let one = |(a, b): (&Value, &Value)| (a.is_missing() && b.is_missing()) || a.equals(b) == Some(true);
    a.len() == b.len() && a.iter().zip(b).all(one)
}

/// What an aggregate makes of its arguments.
fn aggregated(aggregate: &Aggregate, arguments: &[&Value]) -> Value {
    if aggregate.function == AggregateFunction::Count {
        let counts = |value: &&&Value| aggregate.argument.is_none() || !value.is_missing();
        return Value::Int(arguments.iter().filter(counts).count() as i128);
    }
    let numbers: Vec<Decimal> = arguments.iter().filter_map(|value| value.to_decimal()).collect();
    let whole = arguments.iter().all(|value| matches!(value, Value::Int(_)) || value.to_decimal().is_none());
    let sum = || numbers.iter().skip(1).try_fold(*numbers.first()?, |sum, next| sum.checked_add(*next));
    let result = match aggregate.function {
        AggregateFunction::Min => numbers.iter().copied().min_by(|a, b| a.compare(*b)),
        AggregateFunction::Max => numbers.iter().copied().max_by(|a, b| a.compare(*b)),
        AggregateFunction::Avg => {
            let count = Decimal::new(numbers.len() as i128, 0);
            return Value::decimal(sum().zip(count).and_then(|(sum, count)| sum.checked_div(count)));
        }
        _ => sum(),
    };
    match result {
        None => Value::Undefined,
        Some(number) => match number.to_whole().filter(|_| whole) {
            Some(number) => Value::whole(number),
            None => Value::Decimal(number),
        },
    }
}

/// Whether two rows are one: by value, wherever numbers are spelt differently.
pub(super) fn agree(a: &[Row], b: &[Row]) -> bool {
    let read = |row: &Row| json::parse(&row.payload, Dialect::Native);
    let same = |a: &Row, b: &Row| {
        let by_value = || read(a).ok().zip(read(b).ok()).is_some_and(|(a, b)| a.equals(&b) == Some(true));
        a.texts == b.texts && (a.payload == b.payload || by_value())
    };
    let mut left: Vec<&Row> = b.iter().collect();
    let found = a.iter().all(|row| match left.iter().position(|other| same(row, other)) {
        Some(place) => {
            left.swap_remove(place);
            true
        }
        None => false,
    });
    found && left.is_empty()
}
