//! The scanner: bytes of a payload to a tape of spans, or the position of the first mistake.
//!
//! It keeps what a parser into values would lose: how a number was spelt, where each member stands, which texts hold
//! escapes. It validates everything JSON demands (RFC 8259; surrogates must pair, nesting ends at [`MAX_DEPTH`]) and
//! nothing more. It knows neither values nor rules.

mod number;
mod tape;
mod text;
mod words;

pub(crate) use number::{Taken, skip_number, take_number};
pub use tape::{MAX_DEPTH, Node, NodeKind, ScanError, Tape, scan};
pub(crate) use text::plain_text_end;
pub use text::unescape;
pub(crate) use words::{Window, load16, slashes};

#[cfg(test)]
pub(crate) mod tests;
