//! Aggregates of windowed rules: exact, and the same in whatever order partial results meet.

use crate::decimal::Decimal;
use crate::json;
use crate::rule::AggregateFunction;
use crate::value::Value;

/// The running state of one aggregate call. Undefined, Null and values that are no numbers are skipped (numeric strings
/// convert); `count(x)` counts whatever is neither Undefined nor Null.
#[derive(Clone, Debug, PartialEq)]
pub struct Accumulator {
    function: AggregateFunction,
    count: u64,
    /// Sum, minimum or maximum so far; `Undefined` before the first value.
    value: Value,
}

impl Accumulator {
    /// Nothing yet.
    pub fn new(function: AggregateFunction) -> Self {
        Self { function, count: 0, value: Value::Undefined }
    }

    /// Takes the argument of one row.
    pub fn add(&mut self, value: &Value) {
        if self.function == AggregateFunction::Count {
            self.count += u64::from(!matches!(value, Value::Undefined | Value::Null));
            return;
        }
        let Some(number) = value.to_number() else { return };
        self.count += 1;
        let Some(so_far) = self.value.to_number() else {
            self.value = number.into();
            return;
        };
        self.value = match self.function {
            AggregateFunction::Min => if number < so_far { number } else { so_far }.into(),
            AggregateFunction::Max => if number > so_far { number } else { so_far }.into(),
            _ => so_far.add(number).into(),
        };
    }

    /// `count(*)`: counts the row.
    pub fn count_row(&mut self) {
        self.count += 1;
    }

    /// The result: Undefined when there was no value, but a count is a number always.
    pub fn result(&self) -> Value {
        match self.function {
            AggregateFunction::Count => Value::Int(i128::from(self.count)),
            AggregateFunction::Avg => match self.value.to_number() {
                Some(sum) => sum.to_decimal().div(Decimal::from_int(i128::from(self.count))).map_or(Value::Undefined, Value::Decimal),
                None => Value::Undefined,
            },
            _ => self.value.clone(),
        }
    }

    /// The state as text: the count, a space, and the value as JSON (nothing when there is none yet).
    pub fn encode(&self) -> String {
        match self.value {
            Value::Undefined => format!("{} ", self.count),
            ref value => format!("{} {}", self.count, json::to_text(value)),
        }
    }

    /// Reads [`Accumulator::encode`].
    ///
    /// # Errors
    /// When the text is not such a state.
    pub fn decode(function: AggregateFunction, text: &str) -> Result<Self, String> {
        let unreadable = || format!("unreadable aggregate state {text:?}");
        let (count, value) = text.split_once(' ').ok_or_else(unreadable)?;
        let count = count.parse().map_err(|_| unreadable())?;
        let value = if value.is_empty() { Value::Undefined } else { json::parse_exact(value).map_err(|_| unreadable())? };
        Ok(Self { function, count, value })
    }
}
