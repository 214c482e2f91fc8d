//! The dynamic values of the rule language.

use std::sync::Arc;

use crate::decimal::Decimal;

/// A value of the rule language.
///
/// `Undefined` (a missing member, a bad argument) is not `Null` (a JSON `null`). `Int` and `Decimal` are both base ten
/// with at most 34 digits; they are two types only because `/`, text conversion and casts tell them apart.
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

/// The members of a JSON object in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Object {
    members: Vec<(Arc<str>, Value)>,
}
