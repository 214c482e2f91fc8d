//! The scalar evaluator: one expression, one message, one value. It is the reference that every faster path must agree
//! with, so it is plain on purpose.
//!
//! It knows the tree and the functions. It does not know columns, plans, actions or where rows go, and it cannot fail
//! on a value: what makes no sense is Undefined. A [`Failure`] is for what ends the rule for this message: an external
//! function that cannot be reached, or more work than a message may cause.

mod cast;
mod expression;
mod like;
mod operators;
mod scope;
mod statement;

pub use expression::{Frame, evaluate};
pub use scope::{Externals, Failure, NoExternals, Scope};
pub use statement::{Body, assemble, bind, matches, project, run, template, topic};

pub(crate) use cast::cast;
pub(crate) use like::Pattern;
pub(crate) use operators::{binary, negate};

#[cfg(test)]
mod any_input;
#[cfg(test)]
mod tests;
