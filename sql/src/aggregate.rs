//! Aggregates of windowed rules, exact to 34 digits.

use crate::decimal::Decimal;
use crate::rule::AggregateFunction;
use crate::value::Value;

/// The running state of one aggregate call. Undefined, Null and values that are no numbers are skipped (numeric strings
/// convert); `count(x)` counts whatever is neither Undefined nor Null.
#[derive(Clone, Debug)]
pub struct Accumulator {
    function: AggregateFunction,
    count: u64,
    /// Sum, minimum or maximum so far; `None` before the first number, or once a sum left the range of numbers.
    number: Option<Decimal>,
    /// Every number so far was an Int, so the result is one.
    whole: bool,
}

impl Accumulator {
    /// Nothing yet.
    pub fn new(function: AggregateFunction) -> Self {
        Self { function, count: 0, number: None, whole: true }
    }

    /// Takes the argument of one row.
    pub fn add(&mut self, value: &Value) {
        if self.function == AggregateFunction::Count {
            self.count += u64::from(!value.is_missing());
            return;
        }
        let Some(number) = value.to_decimal() else { return };
        self.whole &= matches!(value, Value::Int(_));
        let first = self.count == 0;
        self.count += 1;
        self.number = match (self.function, self.number) {
            (_, None) if first => Some(number),
            (AggregateFunction::Min, Some(least)) => Some(if number.compare(least).is_lt() { number } else { least }),
            (AggregateFunction::Max, Some(most)) => Some(if number.compare(most).is_gt() { number } else { most }),
            (_, Some(sum)) => sum.checked_add(number),
            (_, None) => None,
        };
    }

    /// `count(*)`: counts the row.
    pub fn count_row(&mut self) {
        self.count += 1;
    }

    /// The result: Undefined when there was no number, but a count is a number always.
    pub fn result(&self) -> Value {
        let Some(number) = self.number.filter(|_| self.function != AggregateFunction::Count) else {
            return match self.function {
                AggregateFunction::Count => Value::Int(i128::from(self.count)),
                _ => Value::Undefined,
            };
        };
        if self.function == AggregateFunction::Avg {
            let count = Decimal::new(i128::from(self.count), 0);
            return Value::decimal(count.and_then(|count| number.checked_div(count)));
        }
        match number.to_whole() {
            Some(whole) if self.whole => Value::whole(whole),
            _ => Value::Decimal(number),
        }
    }

    /// The state as text: count, whether all were whole, and mantissa and scale when there is a number.
    pub fn encode(&self) -> String {
        let head = format!("{} {}", self.count, u8::from(self.whole));
        match self.number {
            Some(number) => format!("{head} {} {}", number.mantissa(), number.scale()),
            None => head,
        }
    }

    /// Reads [`Accumulator::encode`]; `None` when the text is not such a state.
    pub fn decode(function: AggregateFunction, text: &str) -> Option<Self> {
        let mut parts = text.split(' ');
        let count = parts.next()?.parse().ok()?;
        let whole = parts.next()? == "1";
        let number = match (parts.next(), parts.next()) {
            (Some(mantissa), Some(scale)) => Some(Decimal::new(mantissa.parse().ok()?, scale.parse().ok()?)?),
            (None, None) => None,
            _ => return None,
        };
        Some(Self { function, count, number, whole })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(function: AggregateFunction, numbers: &[&str]) -> String {
        let mut accumulator = Accumulator::new(function);
        for number in numbers {
            let value = Value::literal_number(number).unwrap_or_else(|| Value::text(*number));
            accumulator.add(&value);
            accumulator = Accumulator::decode(function, &accumulator.encode()).unwrap();
        }
        accumulator.result().to_text().map(|text| text.into_owned()).unwrap_or_default()
    }

    #[test]
    fn base_ten_and_order_free() {
        assert_eq!(run(AggregateFunction::Sum, &["0.1", "0.2"]), "0.3");
        assert_eq!(run(AggregateFunction::Sum, &["1", "2"]), "3");
        assert_eq!(run(AggregateFunction::Avg, &["1", "2"]), "1.5");
        assert_eq!(run(AggregateFunction::Min, &["3", "-2", "x"]), "-2");
        assert_eq!(run(AggregateFunction::Max, &["3", "-2", "3.5"]), "3.5");
        assert_eq!(run(AggregateFunction::Sum, &["x"]), "");
        assert_eq!(run(AggregateFunction::Count, &["x", "1"]), "2");
    }
}
