//! Shapes: the literal bytes between the values of a payload.
//!
//! A device sends the same members in the same order all its life. Once a [`Shape`] is learned, a payload of that shape
//! is read by comparing the literal bytes and scanning only the values between them, numbers straight to mantissa and
//! scale. A shape is learned only from a payload that the general path accepted, without duplicate members, and it
//! fixes every name and the kind of every leaf, so that whatever it accepts is JSON and gives the same cells. What it
//! cannot tell at once (an escape, a control character, an exponent, more than 34 digits, anything after the last byte)
//! it refuses, and the general path decides. It knows cells, not what they are wanted for.

mod book;
mod learn;
mod literal;
mod read;
mod tree;

pub(crate) use book::Shapes;
pub(crate) use learn::Assignment;
pub(crate) use read::Width;

#[cfg(test)]
mod tests;
