//! The rule language of Hedgerow: text to rules to expressions.

pub mod ast;
pub mod column;
pub mod decimal;
pub mod rule;
pub mod topic;
pub mod value;
