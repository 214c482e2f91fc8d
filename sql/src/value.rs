//! The dynamic values of the rule language, and how they turn into one another without being asked.
//!
//! Every implicit conversion is here, so that no function has rules of its own. `None` stands for Undefined.

mod object;

use std::borrow::Cow;
use std::cmp::Ordering;
use std::sync::Arc;

use crate::ast::Dialect;
use crate::decimal::{Decimal, WHOLE_LIMIT};
use crate::json;

pub use object::Object;

/// The longest text, in bytes, that an expression may make; anything longer is Undefined.
pub const MAX_TEXT: usize = 1 << 20;
/// The most elements of an array that an expression may make; a longer one is Undefined.
pub const MAX_ELEMENTS: usize = 1 << 20;
/// How deeply a value may nest to be compared or written. Only SET variables that wrap one another get near.
pub(crate) const MAX_NESTING: u32 = 1024;
/// How many values a comparison looks at before it gives up (Undefined): values can share parts, so a small expression
/// can build one that is astronomically large when spelt out.
const MAX_COMPARED: u32 = 1 << 20;
/// As far as [`Value::weight`] counts: beyond the parts that [`MAX_TEXT`] has room for.
const MAX_WEIGHT: u64 = 1 << 20;

/// A value of the rule language.
///
/// `Undefined` (a missing member, a bad argument) is not `Null` (a JSON `null`). `Int` and `Decimal` are both base ten
/// with at most 34 digits; they are two types only because `/`, text conversion and casts tell them apart.
///
/// `==` compares structure and is meant for tests and for telling whether two trees say the same; the language's `=` is
/// [`Value::equals`].
#[derive(Clone, Debug, PartialEq, Default)]
pub enum Value {
    /// Nothing there.
    #[default]
    Undefined,
    /// JSON `null`.
    Null,
    /// JSON `true` or `false`.
    Bool(bool),
    /// A whole number, |x| < 10^34.
    Int(i128),
    /// A decimal number of 34 significant digits.
    Decimal(Decimal),
    /// Text.
    String(Arc<str>),
    /// A JSON array.
    Array(Arc<Vec<Value>>),
    /// A JSON object; members keep their order, names are unique (the last of duplicates wins).
    Object(Arc<Object>),
}

/// What a value is, as `=` sees it: Int and Decimal are one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "each is its own name")]
pub enum Kind {
    Undefined,
    Null,
    Bool,
    Number,
    String,
    Array,
    Object,
}

impl Value {
    /// Text.
    pub fn text(text: impl Into<Arc<str>>) -> Value {
        Value::String(text.into())
    }

    /// An array without its Undefined elements; Undefined when it is longer than [`MAX_ELEMENTS`].
    pub fn array(mut elements: Vec<Value>) -> Value {
        elements.retain(|element| !matches!(element, Value::Undefined));
        if elements.len() > MAX_ELEMENTS { Value::Undefined } else { Value::Array(Arc::new(elements)) }
    }

    /// An object.
    pub fn object(members: Object) -> Value {
        Value::Object(Arc::new(members))
    }

    /// A whole number; beyond 34 digits it is rounded to a Decimal.
    pub fn whole(number: i128) -> Value {
        if number.unsigned_abs() < WHOLE_LIMIT.unsigned_abs() {
            Value::Int(number)
        } else {
            Value::Decimal(Decimal::from(number))
        }
    }

    /// Int when the number is whole and has at most 34 digits, otherwise Decimal.
    pub fn whole_or_decimal(number: Decimal) -> Value {
        number.to_whole().map_or(Value::Decimal(number), Value::Int)
    }

    /// A Decimal, or Undefined.
    pub fn decimal(number: Option<Decimal>) -> Value {
        number.map_or(Value::Undefined, Value::Decimal)
    }

    /// A number as JSON spells it. Since 2016 whole numbers are Int however they are spelt (`10.0`, `1E3`); before,
    /// a point or an exponent makes a Decimal. `None` beyond 1E+1000 or for text that is no number.
    pub fn number(text: &str, dialect: Dialect) -> Option<Value> {
        let spelt_whole = !text.contains(['.', 'e', 'E']);
        if spelt_whole && text.len() <= 18 {
            // `i64` would also take a leading plus.
            return text.parse::<i64>().ok().filter(|_| !text.starts_with('+')).map(|number| Value::Int(number.into()));
        }
        let number = Decimal::parse(text)?;
        if spelt_whole || dialect != Dialect::Aws2015 {
            return Some(Value::whole_or_decimal(number));
        }
        Some(Value::Decimal(number))
    }

    /// A number literal of the language: a point or an exponent makes a Decimal in every dialect.
    pub fn literal_number(text: &str) -> Option<Value> {
        Value::number(text, Dialect::Aws2015)
    }

    /// The kind.
    pub fn kind(&self) -> Kind {
        match self {
            Value::Undefined => Kind::Undefined,
            Value::Null => Kind::Null,
            Value::Bool(_) => Kind::Bool,
            Value::Int(_) | Value::Decimal(_) => Kind::Number,
            Value::String(_) => Kind::String,
            Value::Array(_) => Kind::Array,
            Value::Object(_) => Kind::Object,
        }
    }

    /// True for Undefined.
    pub fn is_undefined(&self) -> bool {
        matches!(self, Value::Undefined)
    }

    /// True for Undefined and Null.
    pub fn is_missing(&self) -> bool {
        matches!(self, Value::Undefined | Value::Null)
    }

    /// The member of an object; Undefined for anything else.
    pub fn member(&self, name: &str) -> Value {
        match self {
            Value::Object(object) => object.get(name).cloned().unwrap_or_default(),
            _ => Value::Undefined,
        }
    }

    /// About how much work it is to write or compare the value: one for each part and each 64 bytes of text. Counting
    /// ends at [`MAX_WEIGHT`].
    pub(crate) fn weight(&self) -> u64 {
        let mut left = MAX_WEIGHT;
        weigh(self, &mut left, MAX_NESTING);
        MAX_WEIGHT - left
    }

    /// The weight if it is text; other values are looked at in one step.
    pub(crate) fn text_weight(&self) -> u64 {
        if let Value::String(text) = self { text.len() as u64 / 64 } else { 0 }
    }

    /// → String: arrays and objects as compact JSON; none for Null and Undefined, and beyond [`MAX_TEXT`].
    pub fn to_text(&self) -> Option<Cow<'_, str>> {
        match self {
            Value::Undefined | Value::Null => None,
            Value::Bool(true) => Some("true".into()),
            Value::Bool(false) => Some("false".into()),
            Value::Int(number) => Some(number.to_string().into()),
            Value::Decimal(number) => Some(number.to_string().into()),
            Value::String(text) => Some(Cow::Borrowed(text)),
            Value::Array(_) | Value::Object(_) => json::to_text(self, MAX_TEXT).map(Cow::Owned),
        }
    }

    /// → String, shared.
    pub fn to_shared_text(&self) -> Option<Arc<str>> {
        match self {
            Value::String(text) => Some(Arc::clone(text)),
            other => other.to_text().map(Arc::from),
        }
    }

    /// → Decimal: numbers, and text that spells one (see [`numeric_text`]).
    pub fn to_decimal(&self) -> Option<Decimal> {
        match self {
            Value::Int(number) => Some(Decimal { mantissa: *number, scale: 0 }),
            Value::Decimal(number) => Some(*number),
            Value::String(text) => numeric_text(text),
            _ => None,
        }
    }

    /// → Int: as [`Value::to_decimal`], then the floor. None when that has more than 34 digits.
    pub fn to_int(&self) -> Option<i128> {
        match self {
            Value::Int(number) => Some(*number),
            other => other.to_decimal()?.floor().to_whole(),
        }
    }

    /// → Int for positions: as [`Value::to_int`], but what is too large for an `i64` becomes its nearest bound.
    pub fn to_position(&self) -> Option<i64> {
        let floor = self.to_decimal()?.floor();
        let bound = if floor.mantissa < 0 { i64::MIN } else { i64::MAX };
        Some(floor.to_whole().and_then(|whole| i64::try_from(whole).ok()).unwrap_or(bound))
    }

    /// → Boolean: booleans, and the texts `true` and `false` in any case.
    pub fn to_bool(&self) -> Option<bool> {
        match self {
            Value::Bool(value) => Some(*value),
            Value::String(text) => truth_text(text),
            _ => None,
        }
    }

    /// The language's `=`: never converts; values of different kinds are unequal; numbers compare by value; members of
    /// objects in any order. `None` (Undefined) if a side is Undefined.
    pub fn equals(&self, other: &Value) -> Option<bool> {
        let mut left = MAX_COMPARED;
        self.equals_within(other, &mut left)
    }

    /// The same, with what is left of the values that may be looked at.
    fn equals_within(&self, other: &Value, left: &mut u32) -> Option<bool> {
        if self.is_undefined() || other.is_undefined() {
            return None;
        }
        equal(self, other, left, MAX_NESTING)
    }

    /// Whether a value is equal to one of these; `None` if it is Undefined, or if there is too much to look at.
    pub fn is_in(&self, elements: &[Value]) -> Option<bool> {
        let mut left = MAX_COMPARED;
        for element in elements {
            if self.equals_within(element, &mut left)? {
                return Some(true);
            }
        }
        if self.is_undefined() { None } else { Some(false) }
    }

    /// The order of `<` and its relatives: both sides → Decimal.
    pub fn compare(&self, other: &Value) -> Option<Ordering> {
        if let (Value::Int(a), Value::Int(b)) = (self, other) {
            return Some(a.cmp(b));
        }
        Some(self.to_decimal()?.compare(other.to_decimal()?))
    }
}

fn weigh(value: &Value, left: &mut u64, levels: u32) {
    let Some(levels) = levels.checked_sub(1).filter(|_| *left > 0) else { return };
    match value {
        Value::String(text) => *left = left.saturating_sub(text.len() as u64 / 64),
        Value::Array(elements) => {
            *left = left.saturating_sub(1);
            elements.iter().for_each(|element| weigh(element, left, levels));
        }
        Value::Object(object) => {
            *left = left.saturating_sub(1);
            for (name, member) in object.iter() {
                *left = left.saturating_sub(1 + name.len() as u64 / 64);
                weigh(member, left, levels);
            }
        }
        _ => *left = left.saturating_sub(1),
    }
}

/// Equality of two values that are not Undefined; `None` when `left` or the levels run out.
fn equal(a: &Value, b: &Value, left: &mut u32, levels: u32) -> Option<bool> {
    *left = left.checked_sub(1)?;
    let levels = levels.checked_sub(1)?;
    Some(match (a, b) {
        (Value::Null, Value::Null) => true,
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::Int(a), Value::Int(b)) => a == b,
        (Value::Int(_) | Value::Decimal(_), Value::Int(_) | Value::Decimal(_)) => a.compare(b) == Some(Ordering::Equal),
        (Value::String(a), Value::String(b)) => a == b,
        (Value::Array(a), Value::Array(b)) => {
            if Arc::ptr_eq(a, b) {
                return Some(true);
            }
            if a.len() != b.len() {
                return Some(false);
            }
            for (a, b) in a.iter().zip(b.iter()) {
                if !equal(a, b, left, levels)? {
                    return Some(false);
                }
            }
            true
        }
        (Value::Object(a), Value::Object(b)) => {
            if Arc::ptr_eq(a, b) {
                return Some(true);
            }
            if a.len() != b.len() {
                return Some(false);
            }
            for (name, a) in a.iter() {
                let Some(b) = b.get(name) else { return Some(false) };
                if !equal(a, b, left, levels)? {
                    return Some(false);
                }
            }
            true
        }
        _ => false,
    })
}

/// A numeric string: `-?\d+(\.\d+)?([eE]-?\d+)?` and nothing else, so no blanks and no plus anywhere.
pub fn numeric_text(text: &str) -> Option<Decimal> {
    if text.contains('+') { None } else { Decimal::parse(text) }
}

/// The texts `true` and `false` in any case.
pub(crate) fn truth_text(text: &str) -> Option<bool> {
    match text.len() {
        4 if text.eq_ignore_ascii_case("true") => Some(true),
        5 if text.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Value::Bool(value)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Value::text(text)
    }
}

impl From<String> for Value {
    /// Undefined beyond [`MAX_TEXT`].
    fn from(text: String) -> Self {
        if text.len() > MAX_TEXT { Value::Undefined } else { Value::text(text) }
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Value::Int(number.into())
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Value::Undefined, Into::into)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, dialect: Dialect) -> Value {
        json::parse(text.as_bytes(), dialect).unwrap()
    }

    #[test]
    fn whole_numbers_since_2016() {
        assert!(matches!(Value::number("10.0", Dialect::Aws2016), Some(Value::Int(10))));
        assert!(matches!(Value::number("1E3", Dialect::Native), Some(Value::Int(1000))));
        assert!(matches!(Value::number("10.0", Dialect::Aws2015), Some(Value::Decimal(_))));
        assert!(matches!(Value::number("10", Dialect::Aws2015), Some(Value::Int(10))));
        assert!(matches!(Value::number("1E40", Dialect::Aws2016), Some(Value::Decimal(_))));
        assert!(matches!(Value::literal_number("2.0"), Some(Value::Decimal(_))));
        assert_eq!(Value::number("+5", Dialect::Aws2016), None);
        assert_eq!(Value::number("1E1000", Dialect::Aws2016), None);
    }

    #[test]
    fn equality_never_converts() {
        let dialect = Dialect::Aws2016;
        for (a, b, equal) in [
            ("1", "1.0", Some(true)),
            ("[1,2.0]", "[1.0,2]", Some(true)),
            (r#"{"a":1,"b":2}"#, r#"{"b":2,"a":1}"#, Some(true)),
            (r#"{"a":1}"#, r#"{"a":1,"b":2}"#, Some(false)),
            ("1", "\"1\"", Some(false)),
            ("null", "0", Some(false)),
            ("null", "null", Some(true)),
        ] {
            assert_eq!(read(a, dialect).equals(&read(b, Dialect::Aws2015)), equal, "{a} = {b}");
        }
        assert_eq!(Value::Undefined.equals(&Value::Null), None);
    }

    #[test]
    fn a_value_that_shares_its_parts_is_not_spelt_out() {
        fn doubled() -> Value {
            (0..60).fold(Value::Int(1), |value, _| Value::array(vec![value.clone(), value]))
        }
        let (a, b) = (doubled(), doubled());
        assert_eq!(a.equals(&b), None);
        assert_eq!(a.to_text(), None);
    }

    #[test]
    fn conversions() {
        assert_eq!(Value::from("12.7").to_int(), Some(12));
        assert_eq!(Value::from("-1.2").to_int(), Some(-2));
        assert_eq!(Value::from("1e+3").to_decimal(), None);
        assert_eq!(Value::from("-2.411E247").to_position(), Some(i64::MIN));
        assert_eq!(Value::from("TRUE").to_bool(), Some(true));
        assert_eq!(Value::Null.to_text(), None);
    }
}
