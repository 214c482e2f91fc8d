//! Lower.
