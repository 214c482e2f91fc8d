//! From conditions on key columns to the keys that have to be looked at.
//!
//! What comes out may hold more rows than the conditions let through, never fewer: DataFusion checks the conditions again.
//! A key is stored as text, number or boolean as its value was, and a column shows only values of its declared type, so a
//! literal of that type stands for exactly one key; except DOUBLE, where many stored decimals show as one float.

use std::ops::Bound;

use datafusion::common::ScalarValue;
use datafusion::logical_expr::{Between, BinaryExpr, Expr, Like, Operator};
use hedgerow_sql::rule::{ColumnType, TableDef};
use hedgerow_storage::table::{Key, KeyBounds};

/// More lookups than this become one range.
const MAX_LOOKUPS: usize = 1_000;

/// What the conditions say of one column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    /// One of these, ascending.
    OneOf(Vec<Key>),
    /// Between these.
    Between(Bound<Key>, Bound<Key>),
    /// Text that begins so.
    Prefix(String),
}

/// A hash key with bounds on the range key, or bounds on the hash key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lookup {
    pub(super) hash: Option<Key>,
    pub(super) bounds: KeyBounds,
}

/// All lookups that together find every row that can pass `filters`.
pub(super) fn lookups(table: &TableDef, filters: &[Expr]) -> Vec<Lookup> {
    let hash = on_column(&table.hash, type_of(table, &table.hash), filters);
    let Some(Condition::OneOf(hashes)) = hash else {
        return vec![Lookup { hash: None, bounds: bounds(hash) }];
    };
    let range = table.range.as_ref().and_then(|range| on_column(range, type_of(table, range), filters));
    let exact = match &range {
        Some(Condition::OneOf(ranges)) if hashes.len().saturating_mul(ranges.len()) <= MAX_LOOKUPS => Some(ranges),
        _ => None,
    };
    let each = match exact {
        Some(ranges) => ranges.iter().map(|range| exactly(range.clone())).collect(),
        None => vec![bounds(range)],
    };
    let of = |hash: &Key| {
        let hash = hash.clone();
        each.iter().map(move |bounds| Lookup { hash: Some(hash.clone()), bounds: bounds.clone() }).collect::<Vec<_>>()
    };
    hashes.iter().flat_map(of).collect()
}

/// Whether a filter says something of a key column.
pub(super) fn is_usable(table: &TableDef, filter: &Expr) -> bool {
    let keys = [Some(&table.hash), table.range.as_ref()];
    keys.into_iter().flatten().any(|column| condition(column, type_of(table, column), filter).is_some())
}

/// Everything that `filters` say of this column.
pub(super) fn on_column(column: &str, ty: ColumnType, filters: &[Expr]) -> Option<Condition> {
    filters.iter().filter_map(|filter| condition(column, ty, filter)).reduce(both)
}

fn type_of(table: &TableDef, column: &str) -> ColumnType {
    // An undeclared key column is shown in `_rest` only, where no condition reaches it.
    table.columns.iter().find(|known| &*known.name == column).map_or(ColumnType::Json, |known| known.ty)
}

fn exactly(key: Key) -> KeyBounds {
    KeyBounds::Between(Bound::Included(key.clone()), Bound::Included(key))
}

fn bounds(condition: Option<Condition>) -> KeyBounds {
    match condition {
        None => KeyBounds::All,
        Some(Condition::Prefix(prefix)) => KeyBounds::TextPrefix(prefix),
        Some(Condition::Between(from, to)) => KeyBounds::Between(from, to),
        Some(Condition::OneOf(keys)) => match (keys.first(), keys.last()) {
            (Some(first), Some(last)) => {
                KeyBounds::Between(Bound::Included(first.clone()), Bound::Included(last.clone()))
            }
            // Nothing can pass: a range that holds nothing.
            _ => KeyBounds::Between(Bound::Included(Key::Bool(true)), Bound::Excluded(Key::Bool(false))),
        },
    }
}

/// What one filter says of the column, if it says anything.
fn condition(column: &str, ty: ColumnType, filter: &Expr) -> Option<Condition> {
    match filter {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => {
            match (condition(column, ty, left), condition(column, ty, right)) {
                (Some(left), Some(right)) => Some(both(left, right)),
                (left, right) => left.or(right),
            }
        }
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => {
            match (condition(column, ty, left)?, condition(column, ty, right)?) {
                (Condition::OneOf(mut left), Condition::OneOf(right)) => {
                    left.extend(right);
                    Some(one_of(left))
                }
                _ => None,
            }
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => match (left.as_ref(), right.as_ref()) {
            (Expr::Column(name), Expr::Literal(value, _)) if name.name == column => compared(*op, ty, value),
            (Expr::Literal(value, _), Expr::Column(name)) if name.name == column => compared(op.swap()?, ty, value),
            _ => None,
        },
        Expr::Between(Between { expr, negated: false, low, high }) => {
            match (expr.as_ref(), low.as_ref(), high.as_ref()) {
                (Expr::Column(name), Expr::Literal(low, _), Expr::Literal(high, _)) if name.name == column => {
                    Some(both(compared(Operator::GtEq, ty, low)?, compared(Operator::LtEq, ty, high)?))
                }
                _ => None,
            }
        }
        Expr::InList(list)
            if !list.negated && matches!(list.expr.as_ref(), Expr::Column(name) if name.name == column) =>
        {
            let mut keys = Vec::new();
            for item in &list.list {
                let Expr::Literal(value, _) = item else { return None };
                match compared(Operator::Eq, ty, value)? {
                    Condition::OneOf(key) => keys.extend(key),
                    _ => return None,
                }
            }
            Some(one_of(keys))
        }
        Expr::Like(like) => like_prefix(column, ty, like),
        _ => None,
    }
}

fn one_of(mut keys: Vec<Key>) -> Condition {
    keys.sort();
    keys.dedup();
    Condition::OneOf(keys)
}

fn compared(op: Operator, ty: ColumnType, value: &ScalarValue) -> Option<Condition> {
    if value.is_null() {
        // A comparison with NULL is never true.
        return matches!(op, Operator::Eq | Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq)
            .then(|| Condition::OneOf(Vec::new()));
    }
    let (low, high) = if let (ColumnType::Double, ScalarValue::Float64(Some(value))) = (ty, value) {
        let value = Some(*value).filter(|value| value.is_finite())?;
        (number(value.next_down())?, number(value.next_up())?)
    } else {
        let key = key(ty, value)?;
        if op == Operator::Eq {
            return Some(Condition::OneOf(vec![key]));
        }
        (key.clone(), key)
    };
    let exact = !matches!(ty, ColumnType::Double);
    let strict = |key: Key| if exact { Bound::Excluded(key) } else { Bound::Included(key) };
    Some(match op {
        Operator::Eq => Condition::Between(Bound::Included(low), Bound::Included(high)),
        Operator::Lt => Condition::Between(Bound::Unbounded, strict(high)),
        Operator::LtEq => Condition::Between(Bound::Unbounded, Bound::Included(high)),
        Operator::Gt => Condition::Between(strict(low), Bound::Unbounded),
        Operator::GtEq => Condition::Between(Bound::Included(low), Bound::Unbounded),
        _ => return None,
    })
}

/// The one key that a literal of the column's type stands for.
fn key(ty: ColumnType, value: &ScalarValue) -> Option<Key> {
    Some(match (ty, value) {
        (ColumnType::Varchar, ScalarValue::Utf8(text) | ScalarValue::LargeUtf8(text) | ScalarValue::Utf8View(text)) => {
            Key::text(text.as_ref()?)
        }
        (ColumnType::BigInt, ScalarValue::Int64(number)) => Key::from((*number)?),
        (ColumnType::Timestamp, ScalarValue::TimestampMillisecond(ms, _)) => Key::from((*ms)?),
        (ColumnType::Boolean, ScalarValue::Boolean(flag)) => Key::from((*flag)?),
        (ColumnType::Decimal { .. }, ScalarValue::Decimal128(mantissa, _, scale)) => {
            Key::number((*mantissa)?, i32::from(*scale))
        }
        _ => return None,
    })
}

/// The shortest decimal that reads back as this float.
fn number(value: f64) -> Option<Key> {
    let text = format!("{value:e}");
    let (digits, exponent) = text.split_once('e')?;
    let exponent: i32 = exponent.parse().ok()?;
    let places = digits.split_once('.').map_or(0, |(_, places)| places.len());
    let mantissa: i128 = digits.replace('.', "").parse().ok()?;
    Some(Key::number(mantissa, i32::try_from(places).ok()?.checked_sub(exponent)?))
}

/// `LIKE 'abc%'` looks only at text that begins with abc.
fn like_prefix(column: &str, ty: ColumnType, like: &Like) -> Option<Condition> {
    let Like { negated: false, expr, pattern, escape_char: None, case_insensitive: false } = like else { return None };
    let (Expr::Column(name), Expr::Literal(pattern, _)) = (expr.as_ref(), pattern.as_ref()) else { return None };
    let pattern = pattern.try_as_str()??;
    if name.name != column || ty != ColumnType::Varchar || pattern.contains('\\') {
        return None;
    }
    match pattern.find(['%', '_']) {
        None => Some(Condition::OneOf(vec![Key::text(pattern)])),
        Some(0) => None,
        Some(end) => pattern.get(..end).map(|prefix| Condition::Prefix(prefix.to_owned())),
    }
}

/// Both hold.
fn both(left: Condition, right: Condition) -> Condition {
    use Condition::{Between, OneOf, Prefix};
    match (left, right) {
        (OneOf(keys), other) | (other, OneOf(keys)) => {
            OneOf(keys.into_iter().filter(|key| holds(&other, key)).collect())
        }
        (Between(a, b), Between(c, d)) => Between(higher(a, c), lower(b, d)),
        (Prefix(a), Prefix(b)) if b.len() > a.len() => Prefix(b),
        // A prefix is the narrower of two conditions as a rule, and one of them is enough.
        (Prefix(prefix), _) | (_, Prefix(prefix)) => Prefix(prefix),
    }
}

fn holds(condition: &Condition, key: &Key) -> bool {
    match condition {
        Condition::OneOf(keys) => keys.contains(key),
        Condition::Between(from, to) => {
            (match from {
                Bound::Unbounded => true,
                Bound::Included(from) => key >= from,
                Bound::Excluded(from) => key > from,
            }) && match to {
                Bound::Unbounded => true,
                Bound::Included(to) => key <= to,
                Bound::Excluded(to) => key < to,
            }
        }
        Condition::Prefix(prefix) => matches!(key, Key::Text(text) if text.starts_with(prefix)),
    }
}

fn higher(a: Bound<Key>, b: Bound<Key>) -> Bound<Key> {
    match (&a, &b) {
        (_, Bound::Unbounded) => a,
        (Bound::Unbounded, _) => b,
        (Bound::Included(x) | Bound::Excluded(x), Bound::Included(y) | Bound::Excluded(y)) => {
            if x > y || (x == y && matches!(a, Bound::Excluded(_))) { a } else { b }
        }
    }
}

fn lower(a: Bound<Key>, b: Bound<Key>) -> Bound<Key> {
    match (&a, &b) {
        (_, Bound::Unbounded) => a,
        (Bound::Unbounded, _) => b,
        (Bound::Included(x) | Bound::Excluded(x), Bound::Included(y) | Bound::Excluded(y)) => {
            if x < y || (x == y && matches!(a, Bound::Excluded(_))) { a } else { b }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::logical_expr::{col, lit};
    use std::sync::Arc;

    fn table(hash: ColumnType, range: ColumnType) -> TableDef {
        let column = |name: &str, ty| hedgerow_sql::rule::ColumnDef { name: name.into(), ty };
        TableDef {
            name: "t".into(),
            columns: vec![column("h", hash), column("r", range)],
            hash: "h".into(),
            range: Some("r".into()),
            ttl_ms: None,
            text: Arc::from(""),
        }
    }

    #[test]
    fn equality_on_the_hash_key_narrows_to_it_and_range_conditions_go_with_it() {
        let table = table(ColumnType::Varchar, ColumnType::BigInt);
        let filters =
            [col("h").eq(lit("a")), col("r").gt(lit(5_i64)), col("r").lt_eq(lit(9_i64)), col("x").eq(lit(1_i64))];
        let bounds = KeyBounds::Between(Bound::Excluded(Key::from(5)), Bound::Included(Key::from(9)));
        assert_eq!(lookups(&table, &filters), [Lookup { hash: Some(Key::from("a")), bounds }]);
        let both = col("h").eq(lit("b")).or(lit("a").eq(col("h")));
        let found = lookups(&table, &[both, col("r").in_list(vec![lit(2_i64), lit(1_i64)], false)]);
        let pairs: Vec<_> = found.into_iter().map(|lookup| (lookup.hash.unwrap(), lookup.bounds)).collect();
        let point = |hash: &str, range: i64| (Key::from(hash), exactly(Key::from(range)));
        assert_eq!(pairs, [point("a", 1), point("a", 2), point("b", 1), point("b", 2)]);
    }

    #[test]
    fn without_a_hash_key_its_bounds_are_used_and_the_range_is_not() {
        let table = table(ColumnType::Varchar, ColumnType::BigInt);
        let prefix = lookups(&table, &[col("h").like(lit("dev-%x")), col("r").eq(lit(1_i64))]);
        assert_eq!(prefix, [Lookup { hash: None, bounds: KeyBounds::TextPrefix("dev-".into()) }]);
        assert_eq!(lookups(&table, &[]), [Lookup { hash: None, bounds: KeyBounds::All }]);
        for unusable in [
            col("h").not_eq(lit("a")),
            col("h").eq(lit("a")).or(col("r").eq(lit(1_i64))),
            col("h").eq(col("r")),
            col("h").like(lit("%a")),
            col("h").eq(lit(1_i64)),
        ] {
            assert!(!is_usable(&table, &unusable), "{unusable}");
        }
    }

    #[test]
    fn contradictions_and_null_look_at_nothing() {
        let table = table(ColumnType::Varchar, ColumnType::BigInt);
        assert_eq!(lookups(&table, &[col("h").eq(lit("a")), col("h").eq(lit("b"))]), []);
        assert_eq!(lookups(&table, &[col("h").eq(lit(ScalarValue::Utf8(None)))]), []);
    }

    #[test]
    fn floats_are_looked_for_between_their_neighbours() {
        let table = table(ColumnType::Double, ColumnType::BigInt);
        let found = lookups(&table, &[col("h").eq(lit(0.1))]);
        let [Lookup { hash: None, bounds: KeyBounds::Between(Bound::Included(from), Bound::Included(to)) }] =
            &found[..]
        else {
            panic!("{found:?}")
        };
        // 0.1 itself, and a longer decimal that shows as the same float.
        for (mantissa, scale) in [(1, 1), (1000000000000000005, 19)] {
            let key = Key::number(mantissa, scale);
            assert!(*from < key && key < *to, "{from} {key} {to}");
        }
        assert!(Key::number(10000000000000004, 17) >= *to);
        assert!(!is_usable(&table, &col("h").eq(lit(f64::NAN))));
    }
}
